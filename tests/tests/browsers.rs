//! Browsers publish and browsers watch, through one process and through three.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use model::Codec;
use tests::baseline;
use tests::browser::Browser;
use tests::clip::{Clip, FFMPEG, GROUP};
use tests::program::{self, Program};
use tests::tools;
use tests::watching::{self, Viewing};

const CHROMIUM: &str = "/usr/bin/chromium";
const FIREFOX: &str = "/usr/bin/firefox-esr";

/// How long each picture is watched; the acceptance run takes a minute and more.
const LENGTH: Duration = Duration::from_secs(12);

async fn through_one_process(name: &str, codecs: &[&str]) -> anyhow::Result<()> {
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    for codec in codecs {
        let node = program::node("up").start().await?;
        publish_and_watch(&format!("one process, {codec}"), codec, &node, &node).await?;
    }
    Ok(())
}

async fn publish_and_watch(
    name: &str,
    codec: &str,
    injection: &Program,
    egress: &Program,
) -> anyhow::Result<()> {
    let (seen, direct) = watching::publish_and_watch(injection, egress, codec, LENGTH).await?;
    println!("{name}: {seen}; direct: {} freezes ({} ms)", direct.freeze_count, direct.freezes.as_millis());
    assert!(seen.codec.eq_ignore_ascii_case(codec), "{codec} is what is published: {seen}");
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
    through_one_process("chromium_watches_chromium_through_one_process", &["h264", "vp8"]).await
}

#[tokio::test]
async fn chromium_watches_vp9_and_av1_from_chromium() -> anyhow::Result<()> {
    through_one_process("chromium_watches_vp9_and_av1_from_chromium", &["vp9", "av1"]).await
}

#[tokio::test]
async fn the_publish_page_offers_the_codecs_that_its_browser_encodes() -> anyhow::Result<()> {
    let name = "the_publish_page_offers_the_codecs_that_its_browser_encodes";
    if !tools::has(name, CHROMIUM) || !tools::has(name, FIREFOX) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let url = node.url("/publish/show");
    // Without hardware Chromium has no encoder for H265, and Debian's Firefox none for H264 either.
    let chromium = Browser::chromium().await?;
    assert_eq!(codecs_offered(&chromium, &url).await?, ["auto", "h264", "vp8", "vp9", "av1"]);
    let listed = codecs_offered(&Browser::firefox().await?, &url).await?;
    assert_eq!(listed.first().map(String::as_str), Some("auto"), "{listed:?}");
    assert!(["vp8", "vp9"].iter().all(|codec| listed.contains(&(*codec).to_owned())), "{listed:?}");
    println!("firefox offers {listed:?}");
    let page = watching::publish_test_picture(&chromium, &url, "auto").await?;
    assert_eq!(page.evaluate("mediaTree.stats().then((stats) => stats.videoCodec)").await?, "H264");
    page.close().await
}

async fn codecs_offered(browser: &Browser, url: &str) -> anyhow::Result<Vec<String>> {
    let page = browser.open(url).await?;
    page.wait_until("window.mediaTree !== undefined", program::PATIENCE).await?;
    let listed =
        page.evaluate("[...document.getElementById('codec').options].map((option) => option.value)").await?;
    page.close().await?;
    Ok(serde_json::from_value(listed)?)
}

/// The publisher answers no keyframe request: whoever has a picture before the next keyframe was given the last one.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_viewer_of_vp9_and_av1_has_a_picture_before_the_next_keyframe() -> anyhow::Result<()> {
    let name = "a_late_viewer_of_vp9_and_av1_has_a_picture_before_the_next_keyframe";
    if !tools::has(name, FFMPEG) || !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    for codec in [Codec::Vp9, Codec::Av1] {
        let path = codec.to_string().to_lowercase();
        let on_air = Clip::encode(codec)?.publish(&node.url(&format!("/whip/{path}"))).await?;
        tokio::time::sleep(on_air.until(Duration::from_secs(2))).await;
        let keyframe_in = on_air.until(Duration::ZERO);
        let joined = Instant::now();
        let player = watching::open_player(&chromium, &node.url(&format!("/watch/{path}"))).await?;
        let seen = player.evaluate("mediaTree.timecode()").await?;
        let took = joined.elapsed();
        let stats = player.evaluate("mediaTree.stats()").await?;
        let code = seen["code"].as_f64().context("the time code can be read")?;
        let now = code + seen["behind"].as_f64().context("the time code can be read")?;
        println!(
            "{codec}: first picture {:.0} ms after the POST, {took:?} after navigation {:.0} ms old; {} keyframe requests unanswered",
            stats["firstFrameMs"].as_f64().unwrap_or(f64::NAN),
            on_air.age_ms(code, now),
            on_air.keyframe_requests()
        );
        assert!(
            took < keyframe_in,
            "no picture within {took:?}, the next keyframe came after {keyframe_in:?}"
        );
        let seen = watching::watch(&player, GROUP).await?;
        println!(
            "{codec}: then {} frames, {} freezes ({:?})",
            seen.frames_decoded, seen.freeze_count, seen.freezes
        );
        assert_eq!(seen.codec, codec.to_string());
        assert_eq!(seen.packets_lost, 0, "{seen}");
        assert!(seen.frames_decoded > 60, "pictures go on: {seen}");
        player.close().await?;
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
