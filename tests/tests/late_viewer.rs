//! Viewers that come late to a publisher that answers no keyframe request and makes one every eight seconds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use futures_util::future::try_join_all;
use tests::exclusive::Exclusive;
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Seen, Seens, Shape, Source, Stamp, percentile};
use tokio::task::JoinSet;

type Result = anyhow::Result<()>;

/// A packet that is not older than this is live.
const LIVE_AGE_MAX: Duration = Duration::from_millis(60);
/// From then on nothing of catching up is left.
const SETTLED: Duration = Duration::from_millis(300);
/// How long a viewer stays after it went live.
const STAY: Duration = Duration::from_secs(1);

async fn on_air(program: &Program, shape: Shape) -> anyhow::Result<Source> {
    let source = Source::publish(&program.url("/whip/show"), shape).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    Ok(source)
}

async fn receive(viewer: &mut WhepSession, seens: &mut Seens) -> anyhow::Result<Option<Seen>> {
    let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no packet")?;
    let packet = packet.context("the session ended")?;
    let seen = Seen {
        seq_no: packet.seq_no.get(),
        timestamp: packet.timestamp,
        arrival: packet.arrival,
        stamp: Stamp::of(&packet),
    };
    seens.add(&packet);
    Ok(seen.stamp.is_some().then_some(seen))
}

/// What one late viewer went through.
struct Joined {
    /// From POST to ICE and DTLS done.
    connected: Duration,
    /// From POST to the whole first keyframe.
    first: Duration,
    /// How old that keyframe was.
    backlog: Duration,
    /// From the keyframe to live.
    caught_up: Duration,
    /// When it was live.
    live_at: Instant,
    /// How far timestamps and time of arrival came apart on the way.
    drift: Duration,
    /// Age of packets once live.
    ages: Vec<Duration>,
}

/// Joins `after` the first keyframe, catches up, and checks what it got.
async fn join_late(url: &str, source: &Source, after: Duration) -> anyhow::Result<Joined> {
    tokio::time::sleep_until((source.began + after).into()).await;
    let mut viewer = Whep::connect(url, None).await?;
    let posted = viewer.joining().started;
    let mut seens = Seens::default();
    let live_at = loop {
        let Some(seen) = receive(&mut viewer, &mut seens).await? else { continue };
        if seen.stamp.is_some_and(|stamp| source.age(&stamp, seen.arrival) < LIVE_AGE_MAX) {
            break seen.arrival;
        }
    };
    while receive(&mut viewer, &mut seens).await?.is_none_or(|seen| seen.arrival < live_at + STAY) {}

    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    assert_eq!(seens.missing(), 0, "sequence numbers are continuous");
    let pictures = seens.pictures();
    let (first, last) = (pictures[0], pictures[pictures.len() - 1]);
    let stamp = |seen: &Seen| seen.stamp.expect("pictures are stamped");
    assert_eq!(stamp(&first).frame % source.shape.frames_a_group, 0, "the first picture is a keyframe");
    assert!(pictures.windows(2).all(|pair| stamp(&pair[0]).frame < stamp(&pair[1]).frame));
    let live: Vec<&Seen> = pictures.iter().filter(|seen| seen.arrival > live_at + SETTLED).collect();
    for pair in live.windows(2) {
        let frames = stamp(pair[1]).frame - stamp(pair[0]).frame;
        let ticks = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert_eq!(ticks, frames * 90_000 / source.shape.frame_rate, "live timestamps run as captured");
    }
    let media_time =
        Duration::from_secs_f64(f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90_000.0);
    Ok(Joined {
        connected: viewer.joining().connected,
        live_at,
        first: first.arrival.duration_since(posted),
        backlog: source.age(&stamp(&first), first.arrival),
        caught_up: live_at.duration_since(first.arrival),
        drift: media_time.abs_diff(last.arrival.duration_since(first.arrival)),
        ages: live.iter().map(|seen| source.age(&stamp(seen), seen.arrival)).collect(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_viewers_see_the_cached_keyframe_at_once_and_end_up_live() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const JOINS: u32 = 20;
    let program = program::node("up").start().await?;
    let source = on_air(&program, Shape::OBS).await?;
    let url = program.url("/whep/show");
    let step = source.shape.group() / JOINS;
    let offset = Duration::from_millis(150);
    let joins = (0..JOINS).map(|join| join_late(&url, &source, offset + step * join));
    let joined = try_join_all(joins).await?;

    let mut first: Vec<Duration> = joined.iter().map(|joined| joined.first).collect();
    let mut ages: Vec<Duration> = joined.iter().flat_map(|joined| joined.ages.iter().copied()).collect();
    let mut drifts: Vec<Duration> = joined.iter().map(|joined| joined.drift).collect();
    let slowest = joined.iter().max_by_key(|joined| joined.caught_up).context("somebody joined")?;
    let backlog = joined.iter().map(|joined| joined.backlog).max().unwrap_or_default();
    println!(
        "late viewers: POST to whole keyframe p50 {:?}, p95 {:?}, max {:?}; behind by up to {backlog:?}; slowest caught up {:?} in {:?}; \
         age once live p50 {:?}, p95 {:?}; timestamps off by at most {:?}",
        percentile(&mut first, 50),
        percentile(&mut first, 95),
        percentile(&mut first, 100),
        slowest.backlog,
        slowest.caught_up,
        percentile(&mut ages, 50),
        percentile(&mut ages, 95),
        percentile(&mut drifts, 100),
    );
    assert!(backlog > Duration::from_secs(6), "joins are spread over the group: {backlog:?}");
    assert!(percentile(&mut first, 95) < Duration::from_millis(500), "nobody waits for the next keyframe");
    assert!(percentile(&mut ages, 95) < Duration::from_millis(500), "catching up ends at live");
    assert!(
        percentile(&mut drifts, 100) < Duration::from_millis(500),
        "a player shows live, not a group later"
    );
    for Joined { backlog, caught_up, .. } in &joined {
        assert!(*caught_up < *backlog / 2 + Duration::from_secs(1), "{backlog:?} caught up in {caught_up:?}");
    }
    Ok(())
}

/// Watches until told to stop.
async fn watch(url: String, stop: tokio::sync::watch::Receiver<bool>) -> anyhow::Result<Seens> {
    let mut viewer = Whep::connect(&url, None).await?;
    let mut seens = Seens::default();
    while !*stop.borrow() {
        receive(&mut viewer, &mut seens).await?;
    }
    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    Ok(seens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rush_of_joins_takes_nothing_from_those_inside() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const INSIDE: usize = 20;
    const JOINS: u32 = 100;
    /// Of each of the two shards.
    const BUDGET_MBPS: u32 = 40;
    let shape = Shape { keyframe_packets: 24, frame_packets: 4, has_sound: false, ..Shape::OBS };
    let budget = BUDGET_MBPS.to_string();
    let program = program::node("up").with(&["--replay-rate-mbps", &budget]).start().await?;
    let source = on_air(&program, shape).await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut inside = JoinSet::new();
    for _ in 0..INSIDE {
        inside.spawn(watch(program.url("/whep/show"), stopped.clone()));
    }
    let live = "media_tree_viewers{";
    until("those inside are live", || async {
        let is_done = program.metric(live).await? == INSIDE as f64;
        Ok(is_done && program.metric("media_tree_viewers_replaying{").await? == 0.0)
    })
    .await?;
    // In the middle of a group, so that everybody has something to catch up on.
    tokio::time::sleep_until((source.began + Duration::from_secs(3)).into()).await;

    let replayed = async || program.metric("media_tree_viewer_replay_bytes_total{").await;
    let (bytes_before, began) = (replayed().await?, Instant::now());
    let url = program.url("/whep/show");
    let start = source.began.elapsed();
    let joins =
        (0..JOINS).map(|join| join_late(&url, &source, start + Duration::from_secs(1) / JOINS * join));
    let joined = try_join_all(joins).await?;
    let bytes = replayed().await? - bytes_before;
    stop.send(true)?;
    let inside: Vec<Seens> = inside.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;

    let mut connected: Vec<Duration> = joined.iter().map(|joined| joined.connected).collect();
    let mut first: Vec<Duration> = joined.iter().map(|joined| joined.first).collect();
    let took = joined.iter().map(|joined| joined.live_at).max().context("somebody joined")? - began;
    let shards = 2.0;
    let allowed = shards * f64::from(BUDGET_MBPS) * 125_000.0 * (took.as_secs_f64() + 0.2);
    let pictures = inside.iter().map(|seens| seens.pictures().len()).min().unwrap_or(0);
    let pause = inside.iter().map(Seens::longest_pause).max().unwrap_or_default();
    let missing: u64 = inside.iter().map(Seens::missing).sum();
    println!(
        "rush of {JOINS} joins: POST to connected p50 {:?}, p95 {:?}, to whole keyframe p50 {:?}, p95 {:?}; all live \
         after {took:?}; replayed {:.1} MB of {:.1} MB allowed; {INSIDE} viewers inside: {missing} packets missing, longest pause {pause:?}",
        percentile(&mut connected, 50),
        percentile(&mut connected, 95),
        percentile(&mut first, 50),
        percentile(&mut first, 95),
        bytes / 1e6,
        allowed / 1e6,
    );
    assert_eq!(missing, 0, "those inside lose nothing");
    assert!(pictures > 60, "{pictures}");
    assert!(pause < Duration::from_secs(1), "{pause:?}");
    assert!(bytes > 0.0 && bytes <= allowed, "{bytes} of {allowed} bytes");
    Ok(())
}
