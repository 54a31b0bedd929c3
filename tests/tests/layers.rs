//! Layers of a picture in real browsers: Chromium sends several sizes, and viewers get the one they choose or can carry.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::Whep;
use model::Bitrate;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::event_stream::{self, EventStream, Item};
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program;
use tests::{tools, watching};
use tokio::sync::Mutex;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// Whoever codes several sizes wants the machine for itself: a browser that is short of time sends fewer.
static MACHINE: Mutex<()> = Mutex::const_new(());
/// Heights of the sizes in which Chromium sends the test picture, which is too small for three.
const HEIGHTS: [u64; 2] = [360, 180];
/// Chromium begins with the smallest size, and adds the others as its own estimate of its uplink grows; a viewer goes up
/// again after probes that wait for each other.
const PATIENCE: Duration = Duration::from_secs(120);

/// Chooses a layer by what is posted.
async fn choose(session: &str, choice: &Value) -> anyhow::Result<StatusCode> {
    Ok(Client::new().post(format!("{session}/layer")).json(choice).send().await?.status())
}

/// The layers that the next event tells of.
async fn told(events: &mut EventStream) -> anyhow::Result<Vec<Value>> {
    let Item::Event(kind, data) = events.next().await? else { anyhow::bail!("the stream ended") };
    ensure!(kind == "layers", "{kind}");
    let pictures = data.as_object().context("an object")?;
    let (_, layers) = pictures.iter().next().context("a picture")?;
    Ok(layers.as_array().context("an array")?.clone())
}

/// Waits until all sizes come.
async fn until_all_sizes_come(events: &mut EventStream) -> anyhow::Result<Vec<Value>> {
    let mut last = Vec::new();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let layers = told(events).await?;
            last.clone_from(&layers);
            let heights: Vec<u64> = layers.iter().filter_map(|layer| layer["height"].as_u64()).collect();
            if heights == HEIGHTS && layers.iter().all(|layer| layer["bitrate"].is_u64()) {
                return anyhow::Ok(layers);
            }
        }
    });
    waited.await.with_context(|| format!("not all sizes come: {last:?}"))?
}

async fn until_height(page: &Page, height: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let is_there = format!("mediaTree.stats().then(({{ frameHeight }}) => frameHeight === {height})");
    page.wait_until(&is_there, PATIENCE).await.with_context(|| format!("no picture of {height} lines"))?;
    Ok(begun.elapsed())
}

/// The session of a player: its events stand below it.
async fn session(page: &Page) -> anyhow::Result<String> {
    let found = "performance.getEntriesByType('resource').map(({ name }) => name).find((name) => /\\/events$/.test(name))";
    page.wait_until(&format!("Boolean({found})"), program::PATIENCE).await?;
    let url = page.evaluate(found).await?;
    Ok(url.as_str().context("a URL")?.trim_end_matches("/events").to_owned())
}

async fn freezes(page: &Page) -> anyhow::Result<u64> {
    page.evaluate("mediaTree.stats()").await?["freezeCount"].as_u64().context("freezes are counted")
}

async fn publish(browser: &Browser, url: &str, codec: &str) -> anyhow::Result<Page> {
    let (address, fragment) = url.split_once('#').unwrap_or((url, ""));
    watching::publish_test_picture(browser, &format!("{address}?layers=3#{fragment}"), codec).await
}

/// Chooses each size by name, in either direction, and gives the choice back.
async fn choose_by_name(codec: &str) -> Result {
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let publisher = publish(&chromium, &node.url("/publish/show"), codec).await?;
    let watcher = Whep::connect(&node.url("/whep/show"), None).await?;
    let stream = event_stream::create(watcher.url(), &["layers"]).await?;
    let layers = match until_all_sizes_come(&mut EventStream::open(&stream).await?).await {
        Ok(layers) => layers,
        Err(error) => {
            let publishing = publisher.evaluate("mediaTree.stats()").await?;
            return Err(error.context(format!("the publisher sends {publishing}")));
        }
    };
    let rids: Vec<&str> = layers.iter().filter_map(|layer| layer["rid"].as_str()).collect();
    ensure!(rids == ["h", "m"], "best first: {layers:?}");

    let page = watching::open_player(&chromium, &node.url("/watch/show")).await?;
    let session = session(&page).await?;
    for (choice, height) in [
        (json!({ "rid": "m" }), 180),
        (json!({ "rid": "h" }), 360),
        (json!({ "encodingId": "m" }), 180),
        (json!({}), 360),
        (json!({ "maxHeight": 200 }), 180),
    ] {
        ensure!(choose(&session, &choice).await? == StatusCode::OK, "{choice}");
        let took = until_height(&page, height).await?;
        println!("{codec}: {choice} after {} ms, {} freezes", took.as_millis(), freezes(&page).await?);
    }
    let decoded = page.evaluate("mediaTree.stats()").await?;
    ensure!(decoded["videoCodec"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(codec)), "{decoded}");
    ensure!(choose(&session, &json!({ "rid": "x" })).await? == StatusCode::UNPROCESSABLE_ENTITY);
    ensure!(choose(&session, &json!({ "mediaId": "7" })).await? == StatusCode::UNPROCESSABLE_ENTITY);
    ensure!(choose(&session, &json!([])).await? == StatusCode::BAD_REQUEST);
    page.close().await?;
    // The first may have been a start on the smaller one, while the other was still to come.
    program::until("the switches are counted", async || {
        Ok(node.metric("media_tree_viewer_layer_switches_total{").await? >= 4.0)
    })
    .await?;
    publisher.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn e11_a_player_chooses_among_the_layers_of_chromium() -> Result {
    let name = "e11_a_player_chooses_among_the_layers_of_chromium";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let _alone = MACHINE.lock().await;
    for codec in ["vp8", "h264"] {
        choose_by_name(codec).await?;
    }
    Ok(())
}

/// The viewer's link gets narrow and wide again: the picture gets small and large again, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_gets_the_layer_that_its_link_carries() -> Result {
    let name = "a_viewer_gets_the_layer_that_its_link_carries";
    if !tools::has(name, CHROMIUM) || !tools::is_root(name) {
        return Ok(());
    }
    let _alone = MACHINE.lock().await;
    let hosts = Hosts::new(61, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let chromium = Browser::chromium().await?;
    let url = injection.url(&format!("/publish/show#key={PUBLISH_TOKEN}"));
    let publisher = publish(&chromium, &url, "vp8").await?;
    let page = watching::open_player(&chromium, &egress.url("/watch/show")).await?;
    until_height(&page, 360).await.context("before the link is narrow")?;

    let viewers_link = |bitrate| {
        let path = Path { delay: Duration::from_millis(10), bitrate, ..Path::default() };
        hosts.join(hosts.host("out").address, hosts.here(), path);
    };
    let before = freezes(&page).await?;
    viewers_link(Some(Bitrate::kbps(900)));
    let down = until_height(&page, 180).await.context("900 kbit/s carry the smaller one")?;
    let then = page.evaluate("mediaTree.stats()").await?;
    page.wait_until(
        &format!("mediaTree.stats().then((stats) => stats.framesDecoded > {} + 100)", then["framesDecoded"]),
        program::PATIENCE,
    )
    .await
    .context("it goes on")?;
    let narrow = freezes(&page).await?;
    viewers_link(None);
    let up = until_height(&page, 360).await.context("the link is wide again")?;
    let after = freezes(&page).await?;
    println!(
        "{name}: 360 lines; at 900 kbit/s 180 lines after {:.1} s, {} freezes; wide again: 360 lines after {:.1} s, {} freezes",
        down.as_secs_f64(),
        narrow - before,
        up.as_secs_f64(),
        after - narrow
    );
    page.close().await?;
    publisher.close().await
}
