//! The harness itself: both browsers start, run scripts, and play media from peer to peer.

use std::time::Duration;

use tests::baseline;
use tests::browser::Browser;
use tests::tools;

const CHROMIUM: &str = "/usr/bin/chromium";
const FIREFOX: &str = "/usr/bin/firefox-esr";

#[tokio::test]
async fn chromium_plays_h264_and_vp8_from_peer_to_peer() {
    if !tools::has("chromium_plays_h264_and_vp8_from_peer_to_peer", CHROMIUM) {
        return;
    }
    let browser = Browser::chromium().await.expect("chromium");
    for codec in ["h264", "vp8"] {
        let seen = baseline::loopback(&browser, codec, Duration::from_secs(5)).await.expect("peers connect");
        assert!(seen.frames_decoded >= 30, "{codec}: {seen:?}");
        assert!(seen.audio_energy > 0.0, "{codec}: {seen:?}");
        println!("{codec}: {seen:?}");
    }
}

#[tokio::test]
async fn firefox_plays_vp8_from_peer_to_peer() {
    if !tools::has("firefox_plays_vp8_from_peer_to_peer", FIREFOX) {
        return;
    }
    let browser = Browser::firefox().await.expect("firefox");
    let seen = baseline::loopback(&browser, "vp8", Duration::from_secs(5)).await.expect("peers connect");
    assert!(seen.frames_decoded >= 30, "{seen:?}");
    assert!(seen.audio_energy > 0.0, "{seen:?}");
    println!("vp8: {seen:?}");
}

#[tokio::test]
async fn scripts_wait_for_promises_and_failures_are_told() {
    if !tools::has("scripts_wait_for_promises_and_failures_are_told", CHROMIUM)
        || !tools::has("scripts_wait_for_promises_and_failures_are_told", FIREFOX)
    {
        return;
    }
    for browser in [Browser::chromium().await.expect("chromium"), Browser::firefox().await.expect("firefox")]
    {
        let page = browser.open("about:blank").await.expect("page");
        let value = page.evaluate("new Promise((done) => setTimeout(() => done({ a: [1, 'b'] }), 10))").await;
        assert_eq!(value.expect("a value"), serde_json::json!({ "a": [1, "b"] }));
        assert_eq!(page.evaluate("undefined").await.expect("a value"), serde_json::Value::Null);
        let thrown =
            page.evaluate("(() => { throw new Error('on purpose'); })()").await.expect_err("it throws");
        assert!(thrown.to_string().contains("on purpose"), "{thrown}");
        page.wait_until("performance.now() > 0", Duration::from_secs(5)).await.expect("true at once");
        page.wait_until("false", Duration::from_millis(200)).await.expect_err("never true");
        page.resize(500, 400).await.expect("resize");
        page.wait_until("innerWidth === 500", Duration::from_secs(5)).await.expect("resized");
        let folder = tempfile::tempdir().expect("folder");
        let picture = folder.path().join("page.png");
        page.screenshot(&picture).await.expect("screenshot");
        assert!(std::fs::read(&picture).expect("picture").starts_with(b"\x89PNG"));
        page.close().await.expect("close");
    }
}
