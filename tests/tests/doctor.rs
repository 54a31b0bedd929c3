//! Broadcasters are told what they could do better, each in the place where they look.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode, header};
use serde_json::Value;
use tests::installation::until_live;
use tests::offers::{CHROMIUM_PUBLISHER, crlf};
use tests::operator::{Operator, SECRET};
use tests::program::{self, Program, until};
use tests::tools;
use tokio::process::{Child, Command};

type Result = anyhow::Result<()>;

const FFMPEG: &str = "/usr/bin/ffmpeg";
const TOKEN: &str = "the-secret-of-the-publisher";

/// ffmpeg over RTMP, with so many pictures between keyframes, 30 in a second.
fn encoder(program: &Program, name: &str, keyframe_interval: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(FFMPEG);
    command.args(["-hide_banner", "-loglevel", "warning", "-re"]);
    command.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
    command.args(["-f", "lavfi", "-i", "sine=frequency=440"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]);
    command.args(["-sc_threshold", "0", "-g", keyframe_interval, "-b:v", "400k"]);
    command.args(["-c:a", "aac", "-ac", "2", "-f", "flv"]);
    command.arg(format!("rtmp://{}/live/{name}?key={TOKEN}", program.rtmp));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().context("start ffmpeg")
}

/// The codes that an operator is told of a broadcast.
async fn advised(program: &Program, broadcast: &str) -> anyhow::Result<Vec<String>> {
    let url = program.url(&format!("/api/v1/broadcasts/{broadcast}"));
    Ok(codes(&reqwest::get(url).await?.error_for_status()?.json().await?))
}

fn codes(document: &Value) -> Vec<String> {
    let advice = document["advice"].as_array().into_iter().flatten();
    advice.filter_map(|one| one["code"].as_str()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_ten_seconds_apart_are_told_everywhere_and_a_good_encoder_hears_nothing() -> Result {
    const NAME: &str = "keyframes_ten_seconds_apart_are_told_everywhere_and_a_good_encoder_hears_nothing";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let operator = Operator::start()?;
    let url = operator.url("/events");
    let webhook = ["--webhooks-events", &url, "--webhooks-secret", SECRET];
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).with(&webhook).start().await?;
    let _good = encoder(&program, "good", "60")?;
    until_live(&program, "good").await?;
    let _bad = encoder(&program, "bad", "300")?;
    let heard = RefCell::new(BTreeSet::new());
    until("the operator is told", async || {
        Ok(advised(&program, "bad").await.unwrap_or_default().contains(&"keyframe-interval".to_owned()))
    })
    .await?;
    // The good one has been there for longer, and for longer than any of this takes to be told.
    until("the second keyframe, ten seconds after the first", async || {
        let more = advised(&program, "good").await?;
        heard.borrow_mut().extend(more);
        let document: Value = reqwest::get(program.url("/api/v1/broadcasts/bad")).await?.json().await?;
        Ok(document["advice"][0]["what"].as_str().is_some_and(|what| what.contains("10.0 s apart")))
    })
    .await?;
    ensure!(advised(&program, "bad").await? == ["keyframe-interval"], "and nothing else");
    ensure!(heard.borrow().is_empty(), "the good encoder is told {heard:?}");

    let metric = "media_tree_publisher_advice{";
    let series = async |label: &str| program.metric_with(metric, label).await;
    ensure!(
        series(r#"code="keyframe-interval""#).await? == 1.0 && series(r#"broadcast="good""#).await? == 0.0
    );
    let public: Value = reqwest::get(program.url("/api/v1/broadcasts")).await?.json().await?;
    ensure!(!public.to_string().contains("advice"), "it is not for everybody: {public:#}");
    let shown = Command::new(program::path()?)
        .args(["broadcast", "show", "bad", "--api", &program.url("")])
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    println!("{shown}");
    ensure!(shown.contains("Keyframes are 10.0 s apart.") && shown.contains("Settings, Output"), "{shown}");
    until("the operator's server is told", async || {
        let events = operator.events();
        let of_bad = events.iter().filter(|it| it.kind() == "advice" && it.body["broadcast"] == "bad");
        Ok(of_bad.map(|it| codes(&it.body)).collect::<Vec<_>>() == [["keyframe-interval"]])
    })
    .await?;
    ensure!(operator.events().iter().all(|it| it.kind() != "advice" || it.body["broadcast"] == "bad"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_udp_is_blocked_is_told_under_its_session_and_nobody_else_is() -> Result {
    let operator = Operator::start()?;
    let url = operator.url("/events");
    let webhook = ["--webhooks-events", &url, "--webhooks-secret", SECRET];
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).with(&webhook).start().await?;
    let client = Client::new();
    let post = client.post(program.url("/whip/show")).bearer_auth(TOKEN);
    let answer =
        post.header(header::CONTENT_TYPE, "application/sdp").body(crlf(CHROMIUM_PUBLISHER)).send().await?;
    ensure!(answer.status() == StatusCode::CREATED, "{}", answer.status());
    let location = answer.headers()[header::LOCATION].to_str()?.to_owned();
    let resource = reqwest::Url::parse(&program.url("/"))?.join(&location)?.to_string() + "/advice";

    ensure!(client.get(&resource).send().await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(client.get(&resource).bearer_auth("another").send().await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(
        client.delete(&resource).bearer_auth(TOKEN).send().await?.status() == StatusCode::METHOD_NOT_ALLOWED
    );
    until("its publisher is told that nothing comes over UDP", async || {
        let answer = client.get(&resource).bearer_auth(TOKEN).send().await?;
        // Who asks as often as this is told to wait.
        Ok(answer.status() == StatusCode::OK && codes(&answer.json().await?) == ["udp-blocked"])
    })
    .await?;
    until("the operator's server is told, too", async || {
        let events = operator.events();
        Ok(events.iter().any(|it| it.kind() == "advice" && codes(&it.body) == ["udp-blocked"]))
    })
    .await?;
    until("the session is over", async || {
        Ok(client.get(&resource).bearer_auth(TOKEN).send().await?.status() == StatusCode::NOT_FOUND)
    })
    .await?;
    let metric = program.metric_with("media_tree_publisher_advice{", r#"code="udp-blocked""#).await?;
    ensure!(metric == 1.0, "it is remembered for whoever looks a moment later");
    Ok(())
}
