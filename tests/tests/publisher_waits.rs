//! OBS takes no answer but 201: a publisher that meets a node that is full for the moment is held until there is a place.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{ConnectError, Whip, WhipSession, whip};
use model::Codec;
use reqwest::{Client, StatusCode};
use tests::offers::{OBS_PUBLISHER, crlf};
use tests::program::{self, Program, until};

type Result = anyhow::Result<()>;

/// When OBS gives up.
const OBS_PATIENCE: Duration = Duration::from_secs(8);
const WAITING: &str = "media_tree_publishers_waiting{";

async fn publish(url: String) -> std::result::Result<WhipSession, ConnectError> {
    Whip::connect(&url, None, &[Codec::Opus, Codec::H264], whip::Options::default()).await
}

async fn until_waiting(node: &Program, count: f64) -> Result {
    until("they wait", async || Ok(node.metric(WAITING).await? == count)).await
}

async fn ended(node: &Program, result: &str) -> anyhow::Result<f64> {
    node.metric_with("media_tree_publisher_waits_total{", &format!("result=\"{result}\"")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_held_until_another_one_leaves_and_refused_before_obs_gives_up() -> Result {
    let node = program::node("up").with(&["--publishers-max", "1"]).start().await?;
    let first = publish(node.url("/whip/first")).await?;

    let second = tokio::spawn(publish(node.url("/whip/second")));
    until_waiting(&node, 1.0).await?;
    first.close().await?;
    let second = second.await?.context("there was a place in time")?;
    ensure!(ended(&node, "served").await? == 1.0);

    let begun = Instant::now();
    let post = || {
        let post = Client::new().post(node.url("/whip/third")).header("Content-Type", "application/sdp");
        post.body(crlf(OBS_PUBLISHER)).send()
    };
    let refused = post().await?;
    let took = begun.elapsed();
    ensure!(refused.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", refused.status());
    ensure!(refused.headers().contains_key("Retry-After"), "{refused:?}");
    ensure!(took < OBS_PATIENCE && ended(&node, "in_vain").await? == 1.0, "after {took:?}");

    let hangs_up = tokio::spawn(post());
    until_waiting(&node, 1.0).await?;
    hangs_up.abort();
    until_waiting(&node, 0.0).await.context("who hangs up does not wait")?;
    ensure!(ended(&node, "gone").await? == 1.0);
    second.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_without_nodes_holds_a_publisher_and_refuses_it_before_obs_gives_up() -> Result {
    let controller = program::node("controller").start().await?;
    let begun = Instant::now();
    let post = Client::new().post(controller.url("/whip/show")).header("Content-Type", "application/sdp");
    let refused = post.body(crlf(OBS_PUBLISHER)).send().await?;
    let took = begun.elapsed();
    ensure!(refused.status() == StatusCode::SERVICE_UNAVAILABLE, "{}", refused.status());
    ensure!(took < OBS_PATIENCE && ended(&controller, "in_vain").await? == 1.0, "after {took:?}");
    Ok(())
}
