//! Browsers publish and browsers watch, through one process and through three.

use std::time::Duration;

use tests::baseline;
use tests::browser::Browser;
use tests::program::{self, Program};
use tests::tools;
use tests::watching::{self, Viewing};

const CHROMIUM: &str = "/usr/bin/chromium";
const FIREFOX: &str = "/usr/bin/firefox-esr";

/// How long each picture is watched; the acceptance run takes a minute and more.
const LENGTH: Duration = Duration::from_secs(12);

async fn publish_and_watch(
    name: &str,
    codec: &str,
    injection: &Program,
    egress: &Program,
) -> anyhow::Result<()> {
    let (seen, direct) = watching::publish_and_watch(injection, egress, codec, LENGTH).await?;
    println!("{name}: {seen}; direct: {} freezes ({} ms)", direct.freeze_count, direct.freezes.as_millis());
    check(&seen, &direct);
    Ok(())
}

fn check(seen: &Viewing, direct: &baseline::Baseline) {
    assert!(seen.frames_decoded > 30, "{seen}");
    assert!(seen.audio_energy > 0.0, "there is sound: {seen}");
    assert_eq!(seen.packets_lost, 0, "{seen}");
    // A direct connection shows what this machine can do at all; one more is the start of the tone.
    assert!(seen.freeze_count <= direct.freeze_count + 1, "{seen}, direct {direct:?}");
    assert!(!seen.latencies.is_empty(), "the time code can be read: {seen}");
}

#[tokio::test]
async fn chromium_watches_chromium_through_one_process() -> anyhow::Result<()> {
    if !tools::has("chromium_watches_chromium_through_one_process", CHROMIUM) {
        return Ok(());
    }
    for codec in ["h264", "vp8"] {
        let node = program::node("up").start().await?;
        publish_and_watch(&format!("one process, {codec}"), codec, &node, &node).await?;
    }
    Ok(())
}

#[tokio::test]
async fn chromium_watches_chromium_through_three_processes() -> anyhow::Result<()> {
    if !tools::has("chromium_watches_chromium_through_three_processes", CHROMIUM) {
        return Ok(());
    }
    let injection = program::node("injection").start().await?;
    let relay = program::node("relay")
        .with(&["--parents", &format!("127.0.0.1:{}", injection.link_port)])
        .start()
        .await?;
    let egress = program::node("egress")
        .with(&["--parents", &format!("127.0.0.1:{}", relay.link_port)])
        .start()
        .await?;
    publish_and_watch("three processes, h264", "h264", &injection, &egress).await
}

#[tokio::test]
async fn firefox_watches_what_chromium_publishes() -> anyhow::Result<()> {
    let name = "firefox_watches_what_chromium_publishes";
    if !tools::has(name, CHROMIUM) || !tools::has(name, FIREFOX) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let (publisher, viewer) = (Browser::chromium().await?, Browser::firefox().await?);
    let publishing = watching::publish_test_picture(&publisher, &node.url("/publish/show"), "vp8").await?;
    let player = watching::open_player(&viewer, &node.url("/watch/show")).await?;
    let seen = watching::watch(&player, LENGTH).await?;
    println!("firefox: {seen}");
    assert!(seen.frames_decoded > 30, "{seen}");
    publishing.close().await
}
