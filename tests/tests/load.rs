//! The load generator against the program: what one loses, the other repairs, and both count alike.

use anyhow::ensure;
use tests::load_run::{Results, load, load_into};
use tests::program::{self, Program};

type Result = anyhow::Result<()>;

/// All clients have the same address here.
const ANY_RATE: [&str; 4] = ["--request-rate", "100000", "--request-burst", "100000"];

async fn sessions(program: &Program) -> anyhow::Result<f64> {
    program.metric("media_tree_whep_sessions{").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_loses_packets_and_changes_misses_nothing_after_repair() -> Result {
    let program = program::node("up").with(&ANY_RATE).start().await?;
    let (whip, whep) = (program.url("/whip/show"), program.url("/whep/show"));
    // Video alone: browsers, and so the crowd, ask for no repair of sound.
    let arguments = [
        &whep,
        "--publish",
        &whip,
        "--no-audio",
        "--bitrate",
        "500kbps",
        "--viewers",
        "20",
        "--loss",
        "0.02",
        "--churn",
        "3s",
        "--duration",
        "4s",
        "--threads",
        "1",
    ];
    let results = load(&arguments).await?;
    let count = |path: &str| results.count(path);

    let failed = &results.all()["viewers"]["failed"];
    ensure!(failed.as_object().is_some_and(|by_reason| by_reason.is_empty()), "{results}");
    let (joined, churned) = (count("/viewers/joined")?, count("/viewers/churned")?);
    ensure!(churned > 0 && joined == 20 + churned, "{joined} joined, {churned} replaced");
    ensure!(count("/viewers/left_early")? == 0 && count("/viewers/delete_failed")? == 0, "{results}");

    let expected = count("/packets/expected")?;
    ensure!(expected > 20 * 50 * 4, "20 viewers of 50 packets a second and more: {expected}");
    ensure!(count("/packets/lost_before_repair")? > 0, "2 % were dropped");
    ensure!(count("/packets/lost_after_repair")? == 0, "all were repaired: {results}");
    ensure!(count("/packets/delivered")? == expected);
    ensure!(count("/packets/verified")? > 0 && count("/packets/unverified")? == 0);
    ensure!(count("/packets/failed_verification")? == 0, "{results}");

    let (begin, end) = (count("/window/start_unix_ms")?, count("/window/end_unix_ms")?);
    ensure!(end - begin >= 4000, "{begin} to {end}");
    for figures in ["join_ms", "first_frame_ms", "latency_ms", "latency_frame_ms", "transit_ms"] {
        ensure!(results.number(&format!("/{figures}/p50"))? > 0.0, "{figures} in {results}");
    }
    ensure!(sessions(&program).await? == 0.0, "every session was deleted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_that_are_refused_are_told_by_reason() -> Result {
    let program =
        program::node("up").with(&ANY_RATE).with(&["--view-tokens", "sesame-sesame"]).start().await?;
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("results.json");
    let whep = program.url("/whep/show");
    let refused = load_into(&json, &[&whep, "--viewers", "3", "--token", "wrong"]).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("no viewer could join")));
    let results = Results::read(&json)?;
    ensure!(results.count("/viewers/failed/HTTP 401")? == 3, "{results}");
    Ok(())
}
