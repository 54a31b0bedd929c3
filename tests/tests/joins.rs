//! What joining costs, and that it costs only those who join.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tests::exclusive::Exclusive;
use tests::heap::Heap;
use tests::joining::{Door, Joined, Step};
use tests::program::{self, Program, until};
use tests::punctuality::Punctuality;
use tests::source::{Shape, Source, percentile};

type Result = anyhow::Result<()>;

/// Joins `count` viewers, `together` at a time.
async fn crowd(door: &Door, count: usize, together: usize, last: Step) -> anyhow::Result<Vec<Joined>> {
    let joins = stream::iter((0..count).map(|_| door.join(last))).buffer_unordered(together);
    joins.collect::<Vec<_>>().await.into_iter().collect()
}

/// Joins at `rate` per second, however long each takes.
async fn paced(door: &Door, count: u32, rate: u32) -> Vec<anyhow::Result<Joined>> {
    let began = tokio::time::Instant::now();
    let joins = (0..count).map(|index| async move {
        tokio::time::sleep_until(began + Duration::from_secs(1) * index / rate).await;
        door.join(Step::Connected).await
    });
    stream::iter(joins).buffer_unordered(count as usize).collect().await
}

async fn has_sessions(program: &Program, count: usize) -> Result {
    until("as many sessions as expected", || async {
        Ok(program.metric("media_tree_whep_sessions{").await? == count as f64)
    })
    .await
}

#[tokio::test]
async fn a_join_costs_little_and_is_quick() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const JOINS: usize = 1000;
    let program = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let door = Door::new(&program, "show")?;
    drop(crowd(&door, 20, 8, Step::Connected).await?);
    let (before, began) = (program.cpu_time(), Instant::now());
    let joined = crowd(&door, JOINS, 16, Step::Connected).await?;
    let (took, used) = (began.elapsed(), program.cpu_time() - before);
    let before = program.cpu_time();
    for viewer in joined {
        viewer.leave().await?;
    }
    has_sessions(&program, 20).await?;
    let left = program.cpu_time() - before;
    let joined = paced(&door, 100, 25).await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let mut connected: Vec<_> = joined.iter().map(|viewer| viewer.arrived).collect();
    let mut answered: Vec<_> = joined.iter().map(|viewer| viewer.answered).collect();
    println!(
        "{JOINS} joins in {took:?}: {:?} CPU of the node each, {:?} to leave; at 25/s POST to DTLS done p50 {:?}, \
         p95 {:?}; to the answer p50 {:?}, p95 {:?}",
        used / JOINS as u32,
        left / JOINS as u32,
        percentile(&mut connected, 50),
        percentile(&mut connected, 95),
        percentile(&mut answered, 50),
        percentile(&mut answered, 95),
    );
    assert_eq!(joined.len(), 100);
    Ok(())
}

/// Asks the kernel to run this thread before or after others; without the right to, nothing changes.
fn prefer_this_thread(nice: i32) {
    let Ok(thread) = std::fs::read_link("/proc/thread-self") else { return };
    let id = thread.file_name().unwrap_or_default();
    let _ = std::process::Command::new("renice").args(["-n", &nice.to_string(), "-p"]).arg(id).output();
}

/// A storm of viewers that leave as soon as they have keys, on a thread of its own.
fn storm(door: Door, count: u32, rate: u32) -> Vec<anyhow::Result<Duration>> {
    prefer_this_thread(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let began = tokio::time::Instant::now();
        let joins = (0..count).map(|index| {
            let door = &door;
            async move {
                tokio::time::sleep_until(began + Duration::from_secs(1) * index / rate).await;
                let joined = door.join(Step::Connected).await?;
                let took = joined.arrived;
                joined.leave().await?;
                Ok(took)
            }
        });
        stream::iter(joins).buffer_unordered(count as usize).collect().await
    })
}

#[tokio::test]
async fn those_inside_notice_nothing_of_a_storm() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const INSIDE: usize = 100;
    let rate = std::env::var("JOINS_A_SECOND").map_or(Ok(200), |text| text.parse())?;
    let count = rate * 5;
    let program = program::node("up").start().await?;
    prefer_this_thread(-10);
    let shape = Shape { frame_packets: 2, keyframe_packets: 10, frames_a_group: 60, ..Shape::OBS };
    let _source = Source::publish(&program.url("/whip/show"), shape).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    let door = Door::new(&program, "show")?;
    let punctuality = Punctuality::default();
    for viewer in crowd(&door, INSIDE, 8, Step::Connected).await? {
        tokio::spawn(punctuality.clone().watch(viewer.socket));
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let measure = async |seconds| {
        punctuality.begin();
        let used = program.cpu_time();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        (punctuality.figures(), program.cpu_time() - used)
    };
    let (quiet, quiet_cpu) = measure(5).await;
    let storm = tokio::task::spawn_blocking(move || storm(door, count, rate));
    let (stormy, stormy_cpu) = measure(5).await;
    let outcomes = storm.await?;
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    let mut took: Vec<_> = outcomes.into_iter().flatten().collect();
    println!(
        "{INSIDE} viewers inside; quiet: {quiet}, CPU {quiet_cpu:?}; {count} joins at {rate}/s ({refused} failed, p50 \
         {:?}, p95 {:?}): {stormy}, CPU {stormy_cpu:?}",
        percentile(&mut took, 50),
        percentile(&mut took, 95),
    );
    assert_eq!((quiet.missing, stormy.missing), (0, 0), "nobody inside misses a packet");
    assert_eq!(refused, 0, "everybody came in");
    Ok(())
}

/// Comes as far as each step before the last, and is never heard of again.
async fn abandon(door: &Door, count: usize) -> Result {
    for step in [Step::Posted, Step::Checked, Step::Greeted] {
        drop(crowd(door, count, 16, step).await?);
    }
    Ok(())
}

#[tokio::test]
async fn abandoned_handshakes_leave_nothing_behind() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    const OF_EACH_STEP: usize = 600;
    const ROUND: u64 = 3 * OF_EACH_STEP as u64;
    let heap = Heap::new()?;
    let node = program::node("up").with(&["--broadcasts", "show"]).environment(&heap.environment());
    let program = node.start().await?;
    let door = Door::new(&program, "show")?;
    let (mut held, mut resident) = (vec![heap.held()?], vec![program.resident_bytes()]);
    // The first three rounds fill what remembers the latest sessions, the fourth shows whether more remains of each.
    for _ in 0..4 {
        abandon(&door, OF_EACH_STEP).await?;
        assert!(program.metric("media_tree_handshakes_held{").await? >= OF_EACH_STEP as f64);
        until("all are forgotten", || async {
            let sessions = program.metric("media_tree_whep_sessions{").await?;
            Ok(sessions == 0.0 && program.metric("media_tree_handshakes_held{").await? == 0.0)
        })
        .await?;
        held.push(heap.held()?);
        resident.push(program.resident_bytes());
    }
    println!("before, and after {ROUND} abandoned handshakes each: {held:?}; resident {resident:?}");
    let failures = program.metric("media_tree_handshake_failures_total{").await?;
    assert_eq!(failures, 4.0 * ROUND as f64, "each is counted");
    // What requests are about at the moment comes and goes.
    let grown = |before: u64, after: u64| after.saturating_sub(before) / (ROUND / 100);
    assert!(grown(held[3].blocks, held[4].blocks) < 5, "nothing is held for more than 5 % of them: {held:?}");
    // A session takes 4 KB and more; a table that doubles takes some 100 KB once.
    assert!(grown(held[3].bytes, held[4].bytes) < 20_000, "200 bytes each: {held:?}");
    drop(crowd(&door, 20, 8, Step::Connected).await?);
    Ok(())
}

#[tokio::test]
async fn viewers_of_one_broadcast_are_spread_over_the_shards() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    let program = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let joined = crowd(&Door::new(&program, "show")?, 60, 4, Step::Connected).await?;
    let ports = joined.iter().map(|viewer| viewer.socket.peer_addr().map(|address| address.port()));
    let ports: Vec<u16> = ports.collect::<std::io::Result<_>>()?;
    let of_first = ports.iter().filter(|port| **port == program.media_port).count();
    let of_second = ports.iter().filter(|port| **port == program.media_port + 1).count();
    assert_eq!(of_first + of_second, 60);
    assert!((15..=45).contains(&of_first), "{of_first} and {of_second}");
    Ok(())
}

#[tokio::test]
async fn too_busy_shards_take_nobody_until_they_have_time_again() -> Result {
    let _alone = Exclusive::Machine.take().await?;
    let program = program::node("up").with(&["--shard-load-max-percent", "1"]).start().await?;
    let source = Source::publish(&program.url("/whip/show"), Shape::OBS).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    let door = Door::new(&program, "show")?;
    let inside = std::cell::RefCell::new(Vec::new());
    // Each viewer that is let in makes the shards busier.
    until("a viewer is refused", || async {
        let (status, response) = door.post().await?;
        if status == 503 {
            assert!(response.contains("shards-busy"), "{response}");
            assert!(response.to_ascii_lowercase().contains("\r\nretry-after: "), "{response}");
            return Ok(true);
        }
        let joined = door.join(Step::Connected).await;
        inside.borrow_mut().extend(joined.ok());
        Ok(false)
    })
    .await?;
    let joins = |result| program.metric_with("media_tree_joins_total{", result);
    assert!(joins("result=\"overloaded\"").await? >= 1.0);
    assert_eq!(joins("result=\"full\"").await?, 0.0);
    assert!(program.metric("media_tree_egress_shard_load{").await? > 0.0);
    assert_eq!(
        program.metric("media_tree_viewers{").await?,
        inside.borrow().len() as f64,
        "nobody is put out"
    );
    drop(source);
    until("there is room again", || async { Ok(door.post().await?.0 == 201) }).await
}
