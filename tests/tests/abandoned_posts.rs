//! Offers by the thousand whose senders never connect: W46 at the size that operators fear.
//!
//! The allocator keeps what such a flood took and hands it out again; so memory is judged by what a second flood adds.

use anyhow::{Context as _, ensure};
use client::Whep;
use futures_util::stream::{self, StreamExt as _};
use tests::joining::Door;
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Seens, Shape, Source};
use tokio::sync::watch;
use tokio::task::JoinSet;

type Result = anyhow::Result<()>;

const POSTS: usize = 10_000;
const INSIDE: usize = 5;
const ROUNDS: usize = 2;

/// Watches until told to stop; what it saw.
async fn watch(url: String, stop: watch::Receiver<bool>) -> anyhow::Result<Seens> {
    let mut viewer = Whep::connect(&url, None).await?;
    let mut seens = Seens::default();
    while !*stop.borrow() {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no packet")?;
        seens.add(&packet.context("the session ended")?);
    }
    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    Ok(seens)
}

async fn sessions(program: &Program) -> anyhow::Result<usize> {
    Ok(program.metric("media_tree_whep_sessions{").await? as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_offers_without_a_peer_leave_nothing_behind() -> Result {
    let bounds = ["--pending-sessions-max", "10000", "--viewers-max", "20000"];
    let program = program::node("up").with(&bounds).start().await?;
    let shape = Shape { keyframe_packets: 20, frame_packets: 4, frames_a_group: 60, ..Shape::OBS };
    let _source = Source::publish(&program.url("/whip/show"), shape).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    let (stop, stopped) = watch::channel(false);
    let mut inside = JoinSet::new();
    for _ in 0..INSIDE {
        inside.spawn(watch(program.url("/whep/show"), stopped.clone()));
    }
    until("viewers are inside", || async {
        Ok(program.metric("media_tree_viewers{").await? == INSIDE as f64)
    })
    .await?;

    let door = Door::new(&program, "show")?;
    let mut resident = vec![program.resident_bytes()];
    let mut most = 0;
    for _ in 0..ROUNDS {
        let posts = stream::iter((0..POSTS).map(|_| door.post())).buffer_unordered(4);
        let statuses: Vec<u16> = posts.map(|posted| posted.map_or(0, |(status, _)| status)).collect().await;
        ensure!(
            statuses.iter().all(|status| *status == 201),
            "refused: {:?}",
            statuses.iter().find(|s| **s != 201)
        );
        most = most.max(sessions(&program).await?);
        resident.push(program.resident_bytes());
        until("they have expired", || async { Ok(sessions(&program).await? == INSIDE) }).await?;
        resident.push(program.resident_bytes());
    }
    stop.send(true)?;
    let inside: Vec<Seens> = inside.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    let missing: u64 = inside.iter().map(Seens::missing).sum();
    let pause = inside.iter().map(Seens::longest_pause).max().unwrap_or_default();
    println!(
        "{POSTS} offers without a peer, {ROUNDS} times, at most {most} sessions at once: resident before, then at the \
         peak and after expiry: {resident:?} bytes; {INSIDE} viewers inside: {missing} packets missing, longest \
         pause {pause:?}"
    );
    ensure!(most > POSTS / 2, "only {most} sessions at once");
    let [before, peak, after, later_peak, later] = resident[..] else { unreachable!("two rounds") };
    assert!(peak < before + POSTS as u64 * 40_000, "{resident:?}");
    assert!(later_peak < peak + POSTS as u64 * 1000, "the second time costs no more: {resident:?}");
    assert!(later < after + POSTS as u64 * 500, "nothing grows: {resident:?}");
    assert_eq!(missing, 0, "those inside lose nothing");
    Ok(())
}
