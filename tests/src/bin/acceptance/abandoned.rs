//! Offers by the thousand whose senders never connect: W46 at the size that operators fear.
//!
//! The allocator keeps what such a flood took and hands it out again; so memory is judged by what a second flood adds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::Whep;
use futures_util::stream::{self, StreamExt as _};
use tests::joining::Door;
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Seens, Shape, Source};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::report::Section;

const POSTS: usize = 10_000;
const INSIDE: usize = 5;
const ROUNDS: usize = 5;
/// A viewer of 30 pictures a second notices a longer pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Watches until told to stop; what it saw.
async fn watch(url: String, stop: watch::Receiver<bool>) -> anyhow::Result<Seens> {
    let mut viewer = Whep::connect(&url, None).await?;
    let mut seens = Seens::default();
    while !*stop.borrow() {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no packet")?;
        seens.add(&packet.context("the session ended")?);
    }
    ensure!(viewer.stats().unread == 0, "the viewers were not read fast enough");
    Ok(seens)
}

async fn sessions(program: &Program) -> anyhow::Result<usize> {
    Ok(program.metric("media_tree_whep_sessions{").await? as usize)
}

/// One flood: how many answers of each status, and resident bytes at its peak and after all have expired.
async fn flood(program: &Program, door: &Door) -> anyhow::Result<(BTreeMap<u16, usize>, usize, [u64; 2])> {
    let posts = stream::iter((0..POSTS).map(|_| door.post())).buffer_unordered(4);
    let statuses: Vec<u16> = posts.map(|posted| posted.map_or(0, |(status, _)| status)).collect().await;
    let mut by_status = BTreeMap::new();
    for status in statuses {
        *by_status.entry(status).or_default() += 1;
    }
    let most = sessions(program).await?;
    let peak = program.resident_bytes();
    until("they have expired", || async { Ok(sessions(program).await? == INSIDE) }).await?;
    Ok((by_status, most, [peak, program.resident_bytes()]))
}

pub async fn run() -> anyhow::Result<Section> {
    let bounds =
        ["--pending-sessions-max", "10000", "--viewers-max", "20000", "--shard-load-max-percent", "101"];
    let program = program::node("up").with(&bounds).start().await?;
    let shape = Shape { keyframe_packets: 20, frame_packets: 4, frames_a_group: 60, ..Shape::OBS };
    let _source = Source::publish(&program.url("/whip/show"), shape).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    let (stop, stopped) = watch::channel(false);
    let mut inside = JoinSet::new();
    for _ in 0..INSIDE {
        inside.spawn(watch(program.url("/whep/show"), stopped.clone()));
    }
    let connected = async || anyhow::Ok(program.metric("media_tree_viewers{").await? == INSIDE as f64);
    until("viewers are inside", connected).await?;

    let door = Door::new(&program, "show")?;
    let mut resident = vec![program.resident_bytes()];
    let (mut most, mut refused) = (0, 0);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        let (by_status, at_once, bytes) = flood(&program, &door).await?;
        refused += POSTS - by_status.get(&201).copied().unwrap_or(0);
        most = most.max(at_once);
        resident.extend(bytes);
    }
    let took = began.elapsed();
    stop.send(true)?;
    let inside: Vec<Seens> = inside.join_all().await.into_iter().collect::<anyhow::Result<_>>()?;
    let missing: u64 = inside.iter().map(Seens::missing).sum();
    let packets: usize = inside.iter().map(|seens| seens.all().len()).sum();
    let pause = inside.iter().map(Seens::longest_pause).max().unwrap_or_default();
    let dropped = program.drops().await?;
    let megabytes: Vec<String> = resident.iter().map(|bytes| format!("{:.1}", *bytes as f64 / 1e6)).collect();
    let text = format!(
        "\n## Ten thousand offers whose senders never connect\n\n{POSTS} POSTs, {ROUNDS} times, {took:.0?} in all; {refused} \
         refused, at most {most} sessions at once. Resident memory before, then at the peak and after expiry of each \
         round: {} MB. {INSIDE} viewers inside got {packets} packets of picture, {missing} were missing; longest pause \
         {} ms. Dropped and counted by the node: {}.\n",
        megabytes.join(", "),
        pause.as_millis(),
        if dropped.is_empty() { "nothing" } else { &dropped }
    );
    let (before, rounds) = (resident[0], &resident[1..]);
    let [peaks, rests] = [0, 1].map(|at| rounds.iter().skip(at).step_by(2).copied().collect::<Vec<u64>>());
    // The allocator finds its shape in the first rounds; what stays of an offer would show in every later one.
    let (settled, last) = (rests[ROUNDS / 2], rests[ROUNDS - 1]);
    let mut failures = Vec::new();
    let posts = POSTS as u64;
    let demands = [
        ("half of them at once", most > POSTS / 2 && refused == 0),
        ("at most 40 KB each", peaks[0] < before + posts * 40_000),
        ("later rounds cost no more", peaks[ROUNDS - 1] < peaks[ROUNDS / 2] + posts * 100),
        ("nothing grows", last < settled + posts * 50 * (ROUNDS - 1 - ROUNDS / 2) as u64),
        ("those inside miss nothing", missing == 0 && pause < PAUSE_MAX),
    ];
    failures.extend(
        demands.iter().filter(|(_, holds)| !holds).map(|(what, _)| format!("abandoned: not so: {what}")),
    );
    Ok(Section { text, failures })
}
