//! ICE restarts of real browsers (RFC 9725, section 4.3.3): new credentials, the same session, keys and media.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::program::{self, PATIENCE, Program};
use tests::udp_way::UdpWay;
use tests::{detour, tools};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// A peer connection that the test holds itself.
const PEER: &str = include_str!("../src/peer.js");
/// What another process needs to go on with its sessions.
const KEY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

async fn peer(browser: &Browser, node: &Program, path: &str) -> anyhow::Result<Page> {
    let page = browser.open(&node.url("/")).await?;
    page.evaluate(&format!("eval({})", serde_json::to_string(PEER)?)).await.ok();
    page.wait_until("window.peer !== undefined", PATIENCE).await?;
    let publishes = path.starts_with("/whip/");
    page.evaluate(&format!("peer.begin('{}', null, {publishes})", node.url(path))).await?;
    until_more_pictures(&page).await?;
    Ok(page)
}

async fn look(page: &Page) -> anyhow::Result<Value> {
    page.evaluate("peer.look()").await
}

async fn until_more_pictures(page: &Page) -> Result {
    let frames = look(page).await?["frames"].as_u64().context("frames")?;
    let more = format!("peer.look().then(({{ frames }}) => frames > {frames} + 15)");
    page.wait_until(&more, PATIENCE).await.context("pictures go on")
}

/// Restarts, and waits until the new pair is in use and pictures go on.
async fn restart(page: &Page, if_match: &str) -> anyhow::Result<Value> {
    let before = page.evaluate("peer.tag").await?;
    let answer = page.evaluate(&format!("peer.restart({if_match})")).await?;
    ensure!(answer["status"] == 200, "{answer}");
    ensure!(answer["tag"].is_string() && answer["tag"] != before, "a tag of its own: {answer}");
    let body = answer["body"].as_str().context("a body")?;
    for part in
        ["a=ice-lite\r\n", "a=ice-options:trickle ice2\r\n", "a=candidate:", "a=end-of-candidates\r\n"]
    {
        ensure!(body.contains(part), "{part:?} in {body}");
    }
    page.wait_until("peer.look().then(({ isRestarted }) => isRestarted)", PATIENCE).await?;
    until_more_pictures(page).await?;
    let now = look(page).await?;
    ensure!(now["state"] == "connected" && now["dtls"] == "connected", "{now}");
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn w23_w24_publisher_and_viewer_restart_ice_and_media_goes_on() -> Result {
    let name = "w23_w24_publisher_and_viewer_restart_ice_and_media_goes_on";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let chromium = Browser::chromium().await?;
    let publisher = peer(&chromium, &node, "/whip/show").await?;
    let viewer = peer(&chromium, &node, "/whep/show").await?;
    for page in [&publisher, &viewer] {
        restart(page, "'*'").await?;
        restart(page, "'\"*\"'").await?;
        let first = page.evaluate("peer.tag").await?;
        restart(page, "peer.tag").await?;

        // What is refused leaves the session as it is: it goes on with the credentials that it has.
        for (if_match, text, status) in [
            (first.to_string(), "a=ice-ufrag:wxyz\\r\\na=ice-pwd:9876543210987654321098", 412),
            ("null".into(), "a=ice-ufrag:wxyz\\r\\na=ice-pwd:9876543210987654321098", 428),
            ("'*'".into(), "a=ice-ufrag:wxyz", 400),
            ("'*'".into(), "a=ice-ufrag:wxyz\\r\\na=ice-pwd:short", 400),
        ] {
            let refused = page.evaluate(&format!("peer.patch({if_match}, '{text}')")).await?;
            ensure!(refused["status"] == status, "{refused}");
        }
        let trickled = page.evaluate("peer.patch(peer.tag, 'a=end-of-candidates')").await?;
        ensure!(trickled["status"] == 204 && trickled["tag"].is_null(), "{trickled}");
        until_more_pictures(page).await?;
    }
    for metric in ["media_tree_joins_total{", "media_tree_publishes_total{"] {
        ensure!(node.metric(metric).await? == 1.0, "{metric}: nobody came anew");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_have_restarted_ice_outlive_their_process() -> Result {
    let name = "sessions_that_have_restarted_ice_outlive_their_process";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let state = tempfile::tempdir()?;
    let key = state.path().join("key");
    std::fs::write(&key, KEY)?;
    let (directory, key) = (state.path().join("state"), key);
    let (directory, key) = (directory.to_str().context("text")?, key.to_str().context("text")?);
    let builder = || program::node("up").with(&["--state-dir", directory, "--state-key-file", key]);
    let mut node = builder().start().await?;
    let chromium = Browser::chromium().await?;
    let publisher = peer(&chromium, &node, "/whip/show").await?;
    let viewer = peer(&chromium, &node, "/whep/show").await?;
    for page in [&publisher, &viewer] {
        restart(page, "peer.tag").await?;
    }
    node.signal("KILL")?;
    node.exit_code().await?;
    node = builder().in_place_of(&node).start().await?;
    for page in [&publisher, &viewer] {
        until_more_pictures(page).await?;
        // And again, of a session that an earlier process began.
        restart(page, "peer.tag").await?;
    }
    ensure!(node.metric("media_tree_joins_total{").await? == 0.0, "nobody came anew");
    ensure!(node.metric("media_tree_record_refusals_total{").await? == 0.0);
    Ok(())
}

/// The publish page, which has not begun yet, and the way that its media will take.
async fn publish_page(chromium: &Browser, node: &Program) -> anyhow::Result<(Page, UdpWay)> {
    let way = UdpWay::to(node.ingest_port).await?;
    let publisher = chromium.open(&node.url("/publish/show?source=clock&codec=vp8")).await?;
    publisher.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    publisher.evaluate(&detour::of_page(way.port)).await?;
    Ok((publisher, way))
}

/// The state in between may be over before anybody looks, so it is waited for what comes of it.
async fn until_live_again(publisher: &Page, asked: &str) -> Result {
    publisher.wait_until(&format!("{asked} && mediaTree.state === 'live'"), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_finds_a_new_way_within_its_session() -> Result {
    let name = "the_publish_page_finds_a_new_way_within_its_session";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let (publisher, way) = publish_page(&chromium, &node).await?;
    publisher.evaluate("document.getElementById('form').requestSubmit()").await?;
    publisher.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let viewer = peer(&chromium, &node, "/whep/show").await?;

    for restarts in 1..=2 {
        way.cut();
        let cut = Instant::now();
        until_live_again(&publisher, &format!("restarts >= {restarts}")).await?;
        println!("{name}: a new way {:?} after the cut", cut.elapsed());
        ensure!(publisher.evaluate("restarts").await? == restarts, "one restart for each cut");
        until_more_pictures(&viewer).await?;
    }
    ensure!(node.metric("media_tree_publishes_total{").await? == 1.0, "nobody came anew");
    ensure!(publisher.errors().is_empty(), "{:?}", publisher.errors());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_begins_anew_where_the_server_takes_no_restart() -> Result {
    let name = "the_publish_page_begins_anew_where_the_server_takes_no_restart";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let (publisher, way) = publish_page(&chromium, &node).await?;
    // As a server without PATCH answers, or one that has forgotten the session.
    let refuse = r#"(() => {
      const led = window.fetch;
      window.refused = 0;
      window.fetch = async (url, options) => {
        if (options?.method !== "PATCH") return led(url, options);
        window.refused += 1;
        return new Response("", { status: 405 });
      };
    })()"#;
    publisher.evaluate(refuse).await?;
    publisher.evaluate("document.getElementById('form').requestSubmit()").await?;
    publisher.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let viewer = peer(&chromium, &node, "/whep/show").await?;
    way.cut();
    until_live_again(&publisher, "refused >= 1").await?;
    ensure!(publisher.evaluate("refused").await? == 1, "asked once, and never again");
    program::until("a session of its own", async || {
        Ok(node.metric("media_tree_publishes_total{").await? == 2.0)
    })
    .await?;
    until_more_pictures(&viewer).await?;
    Ok(())
}

/// The publish page on the air, with a script before its requests, a viewer of it, and the way of its media.
async fn on_air(chromium: &Browser, node: &Program, script: &str) -> anyhow::Result<(Page, Page, UdpWay)> {
    let (publisher, way) = publish_page(chromium, node).await?;
    publisher.evaluate(script).await?;
    publisher.evaluate("document.getElementById('form').requestSubmit()").await?;
    publisher.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let viewer = peer(chromium, node, "/whep/show").await?;
    Ok((publisher, viewer, way))
}

async fn connected(node: &Program) -> anyhow::Result<f64> {
    node.metric_with("media_tree_publishes_total{", r#"result="connected""#).await
}

/// While `away` is true, nobody answers any request of the page. Notes what was asked then.
const AWAY: &str = r#"(() => {
  const led = window.fetch;
  Object.assign(window, { away: false, asked: [] });
  window.fetch = (url, options) => {
    if (!window.away) return led(url, options);
    asked.push(options?.method ?? "GET");
    const signal = options?.signal;
    return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
  };
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_asks_for_a_new_way_only_once_its_server_answers() -> Result {
    let name = "the_publish_page_asks_for_a_new_way_only_once_its_server_answers";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let (publisher, viewer, way) = on_air(&chromium, &node, AWAY).await?;
    publisher.evaluate("void (window.away = true)").await?;
    way.cut();
    // By the fourth question ICE has noticed, too.
    publisher.wait_until("mediaTree.state === 'reconnecting' && asked.length >= 4", PATIENCE).await?;
    let asked = publisher.evaluate("asked.filter((method) => method !== 'GET')").await?;
    ensure!(asked == json!([]), "no other session, nor a restart that nobody hears: {asked}");
    publisher.evaluate("void (window.away = false)").await?;
    publisher.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    ensure!(publisher.evaluate("restarts").await? == 1, "one restart");
    ensure!(connected(&node).await? == 1.0, "nobody came anew");
    until_more_pictures(&viewer).await
}

/// Loses the answer to the first PATCH. Notes how all of them were answered.
const LOSE_ONE: &str = r#"(() => {
  const led = window.fetch;
  window.answers = [];
  window.fetch = async (url, options) => {
    const response = await led(url, options);
    if (options?.method !== "PATCH") return response;
    answers.push(response.status);
    if (answers.length === 1) throw new TypeError("Failed to fetch");
    return response;
  };
})()"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_whose_answer_was_lost_is_followed_by_another() -> Result {
    let name = "a_restart_whose_answer_was_lost_is_followed_by_another";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let (publisher, viewer, way) = on_air(&chromium, &node, LOSE_ONE).await?;
    way.cut();
    until_live_again(&publisher, "answers.length >= 3").await?;
    let answers = publisher.evaluate("answers").await?;
    ensure!(answers == json!([200, 412, 200]), "by its tag, then whatever it is: {answers}");
    ensure!(connected(&node).await? == 1.0, "nobody came anew");
    until_more_pictures(&viewer).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_begins_anew_where_its_session_is_gone() -> Result {
    let name = "the_publish_page_begins_anew_where_its_session_is_gone";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let (publisher, viewer, way) = on_air(&chromium, &node, LOSE_ONE).await?;
    let session = publisher.evaluate("sessions[0].url").await?;
    // The goodbye of the server does not get through.
    way.cut();
    let deleted = reqwest::Client::new().delete(session.as_str().context("a URL")?).send().await?;
    ensure!(deleted.status() == 200, "{}", deleted.status());
    publisher.wait_until("sessions.length === 2 && mediaTree.state === 'live'", PATIENCE).await?;
    let answers = publisher.evaluate("answers").await?;
    ensure!(answers == json!([]), "no restart is asked for: {answers}");
    ensure!(connected(&node).await? == 2.0, "a session of its own");
    until_more_pictures(&viewer).await
}
