//! Redis is gone for minutes while viewers come and go.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tests::crowd::ANY_RATE;
use tests::installation::{Installation, until_live, until_parents, view};
use tests::load_run::load;
use tests::program::{Program, until};
use tests::redis::{PARTS, Redis};

use crate::report::Section;

const LENGTH: Duration = Duration::from_secs(200);
/// When Redis is killed, and for how long it is gone.
const BEFORE: Duration = Duration::from_secs(15);
const AWAY: Duration = Duration::from_secs(150);

pub async fn run() -> anyhow::Result<Section> {
    ensure!(PARTS.iter().all(|part| std::path::Path::new(part).exists()), "no Redis");
    let mut redis = Redis::server().await?;
    let installation = Installation::new(&redis.url());
    let node = |role, name| installation.node(role, name).with(&ANY_RATE).start();
    let controllers = [node("controller", "controller-1").await?, node("controller", "controller-2").await?];
    let injection = node("injection", "in").await?;
    let _relays = [node("relay", "relay-1").await?, node("relay", "relay-2").await?];
    let egress = [node("egress", "out-1").await?, node("egress", "out-2").await?];
    for name in ["out-1", "out-2"] {
        until_parents(&controllers[0], name, &["in"]).await?;
    }
    let (whip, seconds) = (injection.url("/whip/show"), |length: Duration| format!("{}s", length.as_secs()));
    let publishing_length = seconds(LENGTH + Duration::from_secs(60));
    let publishing = tokio::spawn(async move {
        load(&[
            "--publish",
            &whip,
            "--viewers",
            "0",
            "--bitrate",
            "1000kbps",
            "--duration",
            &publishing_length,
        ])
        .await
    });
    for node in &egress {
        until_live(node, "show").await?;
    }
    let doors = [&controllers[0], &controllers[1], &egress[0]].map(|door| door.url("/whep/show"));
    let length = seconds(LENGTH);
    let mut arguments: Vec<&str> = doors.iter().map(String::as_str).collect();
    arguments.extend(["--viewers", "60", "--churn", "10s", "--duration", &length]);
    let before = decisions(&controllers[0]).await?;
    let watching = load(&arguments);
    tokio::pin!(watching);
    let begun = tokio::time::Instant::now();
    tokio::select! {
        over = &mut watching => anyhow::bail!("the crowd left early: {over:?}"),
        () = tokio::time::sleep_until(begun + BEFORE) => redis.kill()?,
    }
    tokio::select! {
        over = &mut watching => anyhow::bail!("the crowd left early: {over:?}"),
        () = tokio::time::sleep_until(begun + BEFORE + AWAY) => {}
    }
    redis.start_again().await?;
    let back = Instant::now();
    until("a controller leads again and sees every node", async || {
        let view = view(&controllers[0]).await?;
        let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
        let ready = nodes.iter().filter(|node| node["health"] == "ready").count();
        Ok(view["is_settled"] == true && view["leader"].is_string() && ready >= 5)
    })
    .await?;
    let settled = back.elapsed();
    let results = watching.await?;
    publishing.abort();
    let count = |path: &str| results.count(path).context("results of the crowd");
    let joined = count("/viewers/joined")?;
    let failed = (count("/viewers/wanted")? + count("/viewers/churned")?).saturating_sub(joined);
    let (expected, lost) = (count("/packets/expected")?, count("/packets/lost_after_repair")?);
    let decided = decisions(&controllers[0]).await?.saturating_sub(before);
    let text = format!(
        "\n## Redis gone for minutes\n\nTwo controllers, injection, two relays, two egress nodes; 60 viewers, each replaced \
         about every 10 s, come by both controllers and one egress node. Redis is killed and starts again {} s later with \
         nothing in it. {joined} joined, {failed} could not; {lost} of {expected} packets were lost after repair. \
         A controller led again and saw every node {:.1} s after Redis was back; {decided} decisions were recorded.\n",
        AWAY.as_secs(),
        settled.as_secs_f64()
    );
    let mut failures = Vec::new();
    if failed > 0 || lost > 0 || joined < 300 {
        failures
            .push(format!("store_away: {joined} joined, {failed} failed, {lost} of {expected} packets lost"));
    }
    Ok(Section { text, failures })
}

async fn decisions(controller: &Program) -> anyhow::Result<usize> {
    Ok(view(controller).await?["decisions"].as_array().map_or(0, Vec::len))
}
