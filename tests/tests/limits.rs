//! What a viewer costs, what a flood costs, what a hop costs.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession, whep};
use futures_util::StreamExt as _;
use futures_util::stream;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Client, StatusCode};
use tests::exclusive::Exclusive;
use tests::heap::Heap;
use tests::hop;
use tests::offers;
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Seens, Shape, Source, percentile};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Result = anyhow::Result<()>;

/// Lifts the limit on requests of one address: here all clients have the same one.
const ANY_RATE: [&str; 4] = ["--request-rate", "100000", "--request-burst", "100000"];

async fn on_air(program: &Program, shape: Shape) -> anyhow::Result<Source> {
    let source = Source::publish(&program.url("/whip/show"), shape).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    Ok(source)
}

async fn has_viewers(program: &Program, count: usize) -> Result {
    until("as many sessions as expected", || async {
        let sessions = program.metric("media_tree_whep_sessions{").await?;
        let connected = program.metric("media_tree_viewers{").await?;
        Ok(sessions == count as f64 && connected == count as f64)
    })
    .await
}

/// A crowd whose packets nobody reads.
async fn crowd(program: &Program, count: usize) -> anyhow::Result<Vec<WhepSession>> {
    let url = program.url("/whep/show");
    let joins = (0..count).map(|_| {
        let options = whep::Options { queue_packets_max: 0, ..whep::Options::default() };
        Whep::connect_with(&url, None, options)
    });
    let joined: Vec<_> = stream::iter(joins).buffer_unordered(8).collect().await;
    let joined = joined.into_iter().collect::<std::result::Result<_, _>>()?;
    has_viewers(program, count).await?;
    Ok(joined)
}

async fn leave(program: &Program, crowd: Vec<WhepSession>) -> Result {
    let goodbyes = stream::iter(crowd.into_iter().map(WhepSession::close)).buffer_unordered(8);
    for closed in goodbyes.collect::<Vec<_>>().await {
        closed?;
    }
    has_viewers(program, 0).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_costs_little_memory_and_gives_it_back() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const VIEWERS: usize = 400;
    let heap = Heap::new()?;
    let program = program::node("up").with(&ANY_RATE).environment(&heap.environment()).start().await?;
    let _source = on_air(&program, Shape::TINY).await?;
    // What is allocated once, whoever comes.
    leave(&program, crowd(&program, 10).await?).await?;
    let (mut most, mut since) = (0, Instant::now());
    until("the latest media has filled its rings", || {
        let blocks = heap.held().map_or(0, |held| held.blocks);
        if blocks > most + 10 {
            (most, since) = (blocks, Instant::now());
        }
        std::future::ready(Ok(since.elapsed() > Duration::from_secs(2)))
    })
    .await?;
    let empty = program.resident_bytes();
    let (mut full, mut held) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let mut joined = Vec::new();
    for _ in 0..5 {
        let viewers = crowd(&program, VIEWERS).await?;
        full.push(program.resident_bytes());
        joined.extend(viewers.iter().map(|viewer| viewer.joining().connected));
        leave(&program, viewers).await?;
        held.push(heap.held()?);
    }
    let per_viewer = (full[0].saturating_sub(empty)) / VIEWERS as u64;
    println!(
        "memory: {empty} bytes without viewers; {VIEWERS} viewers: {per_viewer} bytes each; resident with them each \
         time {full:?}; held without them each time {held:?}; POST to connected p50 {:?}, p95 {:?}; {:?} for all",
        percentile(&mut joined, 50),
        percentile(&mut joined, 95),
        began.elapsed(),
    );
    assert!(per_viewer > 0 && per_viewer <= 40_000, "{per_viewer} bytes for each viewer");
    // What the allocator keeps for later needs a few rounds to find its shape; what is held tells of each block.
    assert!(full[4].saturating_sub(full[0]) / (VIEWERS as u64) < per_viewer / 2, "nothing grows: {full:?}");
    let left = held[4].blocks.saturating_sub(held[1].blocks);
    assert!(left < 3 * VIEWERS as u64 / 10, "nothing is held for more than a tenth of them: {held:?}");
    Ok(())
}

/// Watches until told to stop, and demands that nothing is missing.
async fn watch_all(url: String, stop: watch::Receiver<bool>) -> anyhow::Result<Seens> {
    let mut viewer = Whep::connect(&url, None).await?;
    let mut seens = Seens::default();
    while !*stop.borrow() {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no packet")?;
        seens.add(&packet.context("the session ended")?);
    }
    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    Ok(seens)
}

/// Datagrams in the manner of every protocol that media ports speak, none of them authentic.
struct Garbage {
    dice: StdRng,
    buffer: [u8; 1200],
}

impl Garbage {
    fn next(&mut self) -> &[u8] {
        let kind = self.dice.next_u32() % 6;
        let length = 20 + (self.dice.next_u32() % 290) as usize * 4;
        let datagram = &mut self.buffer[..length];
        self.dice.fill_bytes(datagram);
        let words = ((length - 20) as u16).to_be_bytes();
        match kind {
            // STUN Binding request.
            0 => datagram[..8].copy_from_slice(&[0, 1, words[0], words[1], 0x21, 0x12, 0xa4, 0x42]),
            // DTLS handshake record.
            1 => datagram[..3].copy_from_slice(&[22, 0xfe, 0xfd]),
            // RTP, RTCP receiver report.
            2 => datagram[..2].copy_from_slice(&[0x80, 96]),
            3 => datagram[..2].copy_from_slice(&[0x81, 201]),
            // DTLS application data.
            4 => datagram[..3].copy_from_slice(&[23, 0xfe, 0xfd]),
            _ => {}
        }
        datagram
    }
}

/// What came back for garbage.
#[derive(Debug, Clone, Copy, Default)]
struct Thrown {
    sent_bytes: usize,
    /// From ports of publishers and viewers.
    media_bytes: usize,
    /// From the port of links: QUIC answers what it does not know, now and then, with a shorter stateless reset
    /// (RFC 9000, section 10.3).
    link_bytes: usize,
}

/// Throws garbage at these ports in turn, of which the last is that of links.
fn throw_garbage(ports: [u16; 4], count: usize) -> anyhow::Result<Thrown> {
    let mut garbage = Garbage { dice: StdRng::seed_from_u64(7), buffer: [0; 1200] };
    let socket = UdpSocket::bind(("127.0.0.1", 0))?;
    let mut thrown = Thrown::default();
    let mut buffer = [0; 2048];
    socket.set_nonblocking(true)?;
    for index in 0..count {
        let to = SocketAddr::from(([127, 0, 0, 1], ports[index % ports.len()]));
        match socket.send_to(garbage.next(), to) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.into()),
            Ok(length) => thrown.sent_bytes += length,
            Err(_full) => {}
        }
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let bytes =
                if from.port() == ports[3] { &mut thrown.link_bytes } else { &mut thrown.media_bytes };
            *bytes += length;
        }
    }
    Ok(thrown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_takes_nothing_from_those_inside() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const INSIDE: usize = 5;
    const POSTS: usize = 2000;
    const DATAGRAMS: usize = 120_000;
    const PENDING_MAX: usize = 1000;
    const PENDING_LENGTH: Duration = Duration::from_secs(15);
    let pending_max = PENDING_MAX.to_string();
    // Here all offers come from one address.
    let limits = ["--pending-sessions-max", &pending_max, "--client-pending-sessions-max", &pending_max];
    let program = program::node("up").with(&ANY_RATE).with(&limits).start().await?;
    let shape = Shape { keyframe_packets: 20, frame_packets: 4, frames_a_group: 60, ..Shape::OBS };
    let _source = on_air(&program, shape).await?;
    let (stop, stopped) = watch::channel(false);
    let mut inside = JoinSet::new();
    for _ in 0..INSIDE {
        inside.spawn(watch_all(program.url("/whep/show"), stopped.clone()));
    }
    has_viewers(&program, INSIDE).await?;
    let quiet = program.resident_bytes();

    let client = Client::new();
    let began = Instant::now();
    let post = || {
        let request = client.post(program.url("/whep/show")).header("Content-Type", "application/sdp");
        let request = request.body(offers::crlf(offers::CHROMIUM_VIEWER));
        async move { anyhow::Ok(request.send().await?.status()) }
    };
    let ports = [program.media_port, program.media_port + 1, program.ingest_port, program.link_port];
    let thrown = tokio::task::spawn_blocking(move || throw_garbage(ports, DATAGRAMS));
    let statuses: Vec<_> = stream::iter((0..POSTS).map(|_| post())).buffer_unordered(8).collect().await;
    let statuses = statuses.into_iter().collect::<anyhow::Result<Vec<StatusCode>>>()?;
    let answered = thrown.await??;
    let took = began.elapsed();
    let flooded = program.resident_bytes();
    let accepted = statuses.iter().filter(|status| **status == StatusCode::CREATED).count();
    let refused = statuses.iter().filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE).count();
    let counted = async |series: &str| program.metric(&format!("media_tree_{series}")).await;
    // Links count theirs inside QUIC; the kernel may drop some where a socket is not read fast enough.
    let least = DATAGRAMS as f64 / 2.0;
    until("the drops are counted", || async { Ok(counted("node_drops_total{").await? > least) }).await?;
    let strangers = counted("node_drops_total{").await?;

    // Who never connects is forgotten, and then there is room again.
    has_viewers(&program, INSIDE).await?;
    assert_eq!(post().await?, StatusCode::CREATED);
    stop.send(true)?;
    let inside: Vec<Seens> = inside.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    let missing: u64 = inside.iter().map(Seens::missing).sum();
    let pictures = inside.iter().map(|seens| seens.pictures().len()).min().unwrap_or(0);
    let pause = inside.iter().map(Seens::longest_pause).max().unwrap_or_default();
    println!(
        "flood of {POSTS} POSTs and {DATAGRAMS} datagrams in {took:?}: {accepted} taken, {refused} refused; \
         {strangers} datagrams dropped, {answered:?}; memory {quiet} to \
         {flooded} bytes; {INSIDE} viewers inside: {missing} packets missing, longest pause {pause:?}"
    );
    // A slow machine takes so long for it that the first are forgotten meanwhile.
    let forgotten = took.as_secs() / PENDING_LENGTH.as_secs();
    assert!((PENDING_MAX..=PENDING_MAX * (1 + forgotten as usize)).contains(&accepted), "{accepted} taken");
    assert_eq!(accepted + refused, POSTS);
    assert_eq!(answered.media_bytes, 0, "nothing unauthenticated is answered");
    assert!(answered.link_bytes < answered.sent_bytes / 100, "{answered:?}");
    assert!(flooded < quiet + (PENDING_MAX as u64) * 40_000 + (16 << 20), "{quiet} to {flooded} bytes");
    assert_eq!(missing, 0, "those inside lose nothing");
    assert!(pictures > 60 && pause < Duration::from_secs(1), "{pictures} pictures, {pause:?}");
    Ok(())
}

#[tokio::test]
async fn one_address_that_asks_too_often_is_told_to_wait() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    let limits = ["--broadcasts", "show", "--request-rate", "1", "--request-burst", "20"];
    let program = program::node("up").with(&limits).start().await?;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let request = Client::new().post(program.url("/whep/show")).header("Content-Type", "application/sdp");
        let response = request.body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            let wait = response.headers().get("Retry-After").context("Retry-After")?.to_str()?;
            assert!((1..=2).contains(&wait.parse::<u64>()?), "{wait}");
        }
        statuses.push(response.status());
    }
    assert!(statuses[..20].iter().all(|status| *status == StatusCode::CREATED), "{statuses:?}");
    let refused = statuses.iter().filter(|status| **status == StatusCode::TOO_MANY_REQUESTS).count();
    println!("rate limit: {refused} of 40 requests refused at 20 at once and 1 per second");
    assert!(refused >= 10, "{statuses:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hop_adds_little_latency() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const FRAMES: usize = 180;
    let mut delays = hop::measure(FRAMES).await?;
    println!("{FRAMES} pictures at 2.5 Mbit/s: {delays}");
    assert!(delays.added.len() > FRAMES / 2, "both saw the same pictures: {}", delays.added.len());
    assert_eq!(delays.missing, 0);
    assert!(percentile(&mut delays.far, 50) < Duration::from_millis(50), "{delays:?}");
    Ok(())
}
