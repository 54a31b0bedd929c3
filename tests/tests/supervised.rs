//! The supervisor: a node that dies is back by itself, and its program can be replaced, under publishers and viewers.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tests::crowd::{ANY_RATE, CROWD, Crowd, Watching};
use tests::program::{self, Program, until};
use tests::supervised::{
    has_libdatachannel, is_there, kill, media_flows, on_air, program_of, until_gone, upgrade, worker,
};

type Result = anyhow::Result<()>;

/// A picture later than this is more than the short freeze that is promised, however loaded the machine.
const FREEZE_MAX: Duration = Duration::from_secs(3);

async fn start() -> anyhow::Result<Program> {
    program::node("up").supervised().with(&ANY_RATE).with(&["--broadcasts", "show"]).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_is_back_by_itself() -> Result {
    let name = "a_node_that_is_killed_is_back_by_itself";
    if !has_libdatachannel(name) {
        return Ok(());
    }
    let program = start().await?;
    let obs = on_air(&program).await?;
    let viewer = Watching::begin(&program).await?;
    let crowd = Crowd::gather(&program, "14s").await?;
    media_flows(&program, 20_000.0).await?;
    for crashes in 1..=2 {
        let after = kill(&program).await?;
        println!("{name}: back after {} ms", after.as_millis());
        until("every session goes on", || async {
            Ok(program.metric("media_tree_sessions_resumed_total").await? == CROWD as f64 + 2.0)
        })
        .await?;
        ensure!(program.metric("media_tree_joins_total{").await? == 0.0, "{}", program.log());
        ensure!(program.metric("media_tree_pipeline_crashes_total{").await? == f64::from(crashes));
        media_flows(&program, 20_000.0).await?;
    }
    crowd.judge(name).await?;
    viewer.judge(name, FREEZE_MAX).await?;
    ensure!(obs.close().await? == "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_upgrades_under_a_publisher_and_a_crowd_end_no_session() -> Result {
    let name = "two_upgrades_under_a_publisher_and_a_crowd_end_no_session";
    if !has_libdatachannel(name) {
        return Ok(());
    }
    let program = start().await?;
    let obs = on_air(&program).await?;
    let viewer = Watching::begin(&program).await?;
    let crowd = Crowd::gather(&program, "14s").await?;
    media_flows(&program, 20_000.0).await?;

    let folder = tempfile::tempdir()?;
    let next = folder.path().join("media-tree-of-tomorrow");
    std::fs::copy(program::path()?, &next)?;
    let before = worker(&program).await?;
    let output = upgrade(&program, &next).await?;
    ensure!(output.status.success(), "{}: {}", String::from_utf8_lossy(&output.stderr), program.log());
    println!("{name}: {}", String::from_utf8_lossy(&output.stdout).trim());
    let after = worker(&program).await?;
    ensure!(after != before && !is_there(before));
    ensure!(program_of(after)? == next);
    ensure!(program.metric("media_tree_pipeline_crashes_total{").await? == 0.0, "an upgrade is no crash");
    ensure!(program.metric("media_tree_sessions_resumed_total").await? == CROWD as f64 + 2.0);
    ensure!(program.metric("media_tree_joins_total{").await? == 0.0);
    media_flows(&program, 20_000.0).await?;

    let taken = program::node("up").supervised().with(&["--take-over"]).in_place_of(&program).spawn()?;
    let mut taken = taken;
    ensure!(taken.exit_code().await? == Some(0), "{}", taken.log());
    let last = worker(&program).await?;
    ensure!(last != after && program_of(last)? == program::path()?.canonicalize()?, "{}", program.log());
    media_flows(&program, 20_000.0).await?;

    let missed = crowd.judge(name).await?;
    ensure!(missed.before_repair == 0 && missed.after_repair == 0, "an upgrade costs no packet: {missed:?}");
    viewer.judge(name, FREEZE_MAX).await?;
    ensure!(obs.close().await? == "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_of_every_role_cost_no_packet() -> Result {
    let name = "upgrades_of_every_role_cost_no_packet";
    if !has_libdatachannel(name) {
        return Ok(());
    }
    let node = |role| program::node(role).supervised().with(&ANY_RATE);
    let below = |parent: &Program| ["--parents".to_owned(), format!("127.0.0.1:{}", parent.link_port)];
    let injection = node("injection").start().await?;
    let relay = node("relay").with(&below(&injection).each_ref().map(String::as_str)).start().await?;
    let egress = node("egress").with(&below(&relay).each_ref().map(String::as_str)).start().await?;
    let obs = on_air(&injection).await?;
    until("the broadcast is known", || async { Ok(egress.metric("pipeline_up{").await? == 1.0) }).await?;
    let viewer = Watching::begin(&egress).await?;
    let crowd = Crowd::gather(&egress, "20s").await?;
    media_flows(&egress, 20_000.0).await?;
    for (role, program) in [("injection", &injection), ("relay", &relay), ("egress", &egress)] {
        let before = worker(program).await?;
        let output = upgrade(program, &program::path()?).await?;
        ensure!(output.status.success(), "{}: {}", String::from_utf8_lossy(&output.stderr), program.log());
        println!("{name}: {role}: {}", String::from_utf8_lossy(&output.stdout).trim());
        ensure!(worker(program).await? != before);
        media_flows(&egress, 20_000.0).await?;
    }
    let missed = crowd.judge(name).await?;
    viewer.judge(name, FREEZE_MAX).await?;
    ensure!(missed.after_repair == 0, "an upgrade costs no packet: {missed:?}");
    ensure!(obs.close().await? == "200");
    Ok(())
}

#[tokio::test]
async fn a_program_that_cannot_take_over_is_not_taken() -> Result {
    let program = start().await?;
    let before = worker(&program).await?;
    for no_node in ["/bin/false", "/bin/cat", "/does/not/exist"] {
        let output = upgrade(&program, Path::new(no_node)).await?;
        ensure!(!output.status.success(), "{no_node} was taken");
    }
    ensure!(worker(&program).await? == before, "the node serves on: {}", program.log());
    let nobody = program::node("up").spawn()?;
    let output = upgrade(&nobody, Path::new("/bin/true")).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("no supervised node"), "{said}");
    Ok(())
}

#[tokio::test]
async fn node_and_supervisor_end_together() -> Result {
    for signal in ["TERM", "INT", "KILL"] {
        let mut program = start().await?;
        let working = worker(&program).await?;
        program.signal(signal)?;
        let code = program.exit_code().await?;
        ensure!(code == (signal != "KILL").then_some(0), "{signal}: {code:?} {}", program.log());
        until_gone(working).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_start_is_not_started_again() -> Result {
    let running = start().await?;
    let mut second = program::node("up").supervised().in_place_of(&running).spawn()?;
    ensure!(second.exit_code().await? == Some(1));
    ensure!(second.log().contains("cannot listen on"), "{}", second.log());
    let mut keyless =
        program::node("up").supervised().with(&["--state-key-file", "/does/not/exist"]).spawn()?;
    ensure!(keyless.exit_code().await? == Some(1));
    ensure!(keyless.log().matches("cannot read the sealing key").count() == 1, "{}", keyless.log());
    Ok(())
}
