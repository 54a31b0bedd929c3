//! Layers within one RTP stream: Chromium sends VP9 or AV1 with a scalability mode, and viewers get the part that they choose.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession, whep};
use model::Kind;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::event_stream::{self, EventStream, Item};
use tests::program;
use tests::{tools, watching};
use tokio::sync::Mutex;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// Whoever codes several layers wants the machine for itself.
static MACHINE: Mutex<()> = Mutex::const_new(());
const PATIENCE: Duration = Duration::from_secs(90);
/// Ticks of a picture's clock in a second.
const SECOND: u32 = 90_000;

/// Publishes the test picture with a scalability mode (W3C, "Scalable Video Coding (SVC) Extension for WebRTC"), and with
/// dependency descriptors if they are taken.
async fn publish(browser: &Browser, url: &str, (codec, mode): (&str, &str)) -> anyhow::Result<Page> {
    let page = browser.open(&format!("{url}?source=clock&codec={codec}")).await?;
    page.wait_until("window.mediaTree !== undefined", program::PATIENCE).await?;
    let script = format!(
        "(() => {{
           const add = RTCPeerConnection.prototype.addTransceiver;
           RTCPeerConnection.prototype.addTransceiver = function (track, init) {{
             const encodings = init.sendEncodings.map((one) => ({{ ...one, scalabilityMode: '{mode}' }}));
             if (track.kind !== 'video') return add.call(this, track, init);
             const transceiver = add.call(this, track, {{ ...init, sendEncodings: encodings }});
             const extensions = transceiver.getHeaderExtensionsToNegotiate();
             for (const one of extensions) {{
               if (one.uri.includes('#dependency-descriptor')) one.direction = 'sendrecv';
             }}
             transceiver.setHeaderExtensionsToNegotiate(extensions);
             return transceiver;
           }};
         }})()"
    );
    page.evaluate(&script).await?;
    page.evaluate("document.getElementById('form').requestSubmit()").await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesEncoded > 10)", program::PATIENCE)
        .await
        .with_context(|| format!("no {codec} is encoded with {mode}"))?;
    Ok(page)
}

async fn choose(session: &str, choice: &Value) -> anyhow::Result<StatusCode> {
    Ok(Client::new().post(format!("{session}/layer")).json(choice).send().await?.status())
}

/// Waits until parts of these names, best first, are told of with their rates.
async fn until_parts_come(session: &str, names: &[&str]) -> anyhow::Result<Vec<Value>> {
    let stream = event_stream::create(session, &["layers"]).await?;
    let mut events = EventStream::open(&stream).await?;
    let mut last = Vec::new();
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            let Item::Event(_, data) = events.next().await? else { continue };
            let (_, layers) = data.as_object().and_then(|all| all.iter().next()).context("a picture")?;
            last = layers.as_array().context("a list")?.clone();
            let told: Vec<&str> = last.iter().filter_map(|layer| layer["rid"].as_str()).collect();
            if told == names && last.iter().all(|layer| layer["bitrate"].is_u64()) {
                return anyhow::Ok(last.clone());
            }
        }
    })
    .await;
    waited.with_context(|| format!("{names:?} are not told of"))?
}

/// What came of a picture in some seconds of its own time.
#[derive(Debug)]
struct Came {
    pictures_per_second: f64,
    bytes_per_second: f64,
}

/// Reads `seconds` of the picture, of which nothing may be missing and every picture has its end marked.
async fn read(viewer: &mut WhepSession, seconds: u32) -> anyhow::Result<Came> {
    let mut first = None;
    let mut numbers = BTreeSet::new();
    // Of each timestamp: bytes, and how many markers.
    let mut pictures: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
    let reading = async {
        loop {
            let packet = viewer.receive().await.context("the session ended")?;
            if packet.kind != Kind::Video {
                continue;
            }
            let first = *first.get_or_insert(packet.timestamp);
            numbers.insert(packet.seq_no);
            let age = packet.timestamp.wrapping_sub(first);
            let picture = pictures.entry(age).or_default();
            picture.0 += packet.payload.len();
            picture.1 += usize::from(packet.marker);
            let span =
                numbers.last().zip(numbers.first()).map_or(0, |(last, first)| last.get() - first.get());
            // What is missing then may still come.
            if (seconds * SECOND..u32::MAX / 2).contains(&age) && numbers.len() as u64 == span + 1 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.context("something never came")??;
    let whole: Vec<(usize, usize)> = pictures.into_values().collect();
    // The first and the last one may be cut.
    let inner = whole.get(1..whole.len() - 1).context("three pictures")?;
    ensure!(inner.iter().all(|(_, markers)| *markers == 1), "not one end to each picture: {inner:?}");
    let bytes: usize = inner.iter().map(|(bytes, _)| bytes).sum();
    Ok(Came {
        pictures_per_second: inner.len() as f64 / f64::from(seconds),
        bytes_per_second: bytes as f64 / f64::from(seconds),
    })
}

/// Throws away what came before something was chosen, and until it surely is so: a keyframe may be needed.
async fn settle(viewer: &mut WhepSession) -> Result {
    let settled = Instant::now() + Duration::from_secs(3);
    let reading = async {
        loop {
            let packet = viewer.receive().await.context("the session ended")?;
            if packet.kind == Kind::Video && packet.arrival >= settled {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.context("no picture comes")?
}

/// Of three frame rates the lowest has a quarter of the pictures, and comes at once, as the others do again.
async fn choose_a_frame_rate(name: &str, codec: &str) -> Result {
    let _alone = MACHINE.lock().await;
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let publisher = publish(&chromium, &node.url("/publish/show"), (codec, "L1T3")).await?;
    // Long enough for what comes while nobody reads.
    let options = whep::Options { queue_packets_max: 65_536, ..whep::Options::default() };
    let mut viewer = Whep::connect_with(&node.url("/whep/show"), None, options).await?;
    let session = viewer.url().to_owned();
    let parts = until_parts_come(&session, &["s0t2", "s0t1", "s0t0"]).await?;
    settle(&mut viewer).await?;
    let all = read(&mut viewer, 4).await?;
    ensure!(choose(&session, &json!({ "temporalLayerId": 0 })).await? == StatusCode::OK);
    settle(&mut viewer).await?;
    let lowest = read(&mut viewer, 4).await?;
    ensure!(choose(&session, &json!({})).await? == StatusCode::OK);
    settle(&mut viewer).await?;
    let again = read(&mut viewer, 4).await?;
    let lost = viewer.stats().video.lost;
    println!("{name}: {parts:?}; {all:?}, lowest {lowest:?}, again {again:?}");
    let share = lowest.pictures_per_second / all.pictures_per_second;
    ensure!((0.2..0.35).contains(&share), "{share:.2} of the pictures");
    ensure!(lowest.bytes_per_second < all.bytes_per_second, "{lowest:?} of {all:?}");
    ensure!(again.pictures_per_second > lowest.pictures_per_second * 2.0, "{again:?}");
    ensure!(lost == 0, "{lost} packets lost");
    ensure!(choose(&session, &json!({ "spatialLayerId": 1 })).await? == StatusCode::UNPROCESSABLE_ENTITY);
    publisher.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_the_lowest_frame_rate_of_vp9_gets_a_quarter_of_the_pictures() -> Result {
    let name = "a_viewer_of_the_lowest_frame_rate_of_vp9_gets_a_quarter_of_the_pictures";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    choose_a_frame_rate(name, "vp9").await
}

/// By the dependency descriptor alone: the payload of AV1 is not looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_the_lowest_frame_rate_of_av1_gets_a_quarter_of_the_pictures() -> Result {
    let name = "a_viewer_of_the_lowest_frame_rate_of_av1_gets_a_quarter_of_the_pictures";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    choose_a_frame_rate(name, "av1").await
}

/// The session of a player: its events stand below it.
async fn session(page: &Page) -> anyhow::Result<String> {
    let found = "performance.getEntriesByType('resource').map(({ name }) => name).find((name) => /\\/events$/.test(name))";
    page.wait_until(&format!("Boolean({found})"), program::PATIENCE).await?;
    let url = page.evaluate(found).await?;
    Ok(url.as_str().context("a URL")?.trim_end_matches("/events").to_owned())
}

async fn until_height(page: &Page, height: u64) -> Result {
    let decoded = page.evaluate("mediaTree.stats()").await?["framesDecoded"].as_u64().unwrap_or(0);
    let is_there = format!(
        "mediaTree.stats().then((stats) => stats.frameHeight === {height} && stats.framesDecoded > {decoded} + 30)"
    );
    page.wait_until(&is_there, PATIENCE)
        .await
        .with_context(|| format!("no picture of {height} lines goes on"))
}

/// Chromium decodes what is left of its own stream, and of the whole again.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_gets_a_smaller_picture_of_the_same_stream() -> Result {
    let name = "a_player_gets_a_smaller_picture_of_the_same_stream";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let _alone = MACHINE.lock().await;
    let node = program::node("up").start().await?;
    let chromium = Browser::chromium().await?;
    let publisher = publish(&chromium, &node.url("/publish/show"), ("vp9", "L2T2_KEY")).await?;
    let page = watching::open_player(&chromium, &node.url("/watch/show")).await?;
    let session = session(&page).await?;
    until_parts_come(&session, &["s1t1", "s0t1", "s0t0"]).await?;
    until_height(&page, 360).await?;
    for (choice, height) in [
        (json!({ "maxSpatialLayerId": 0 }), 180),
        (json!({ "rid": "s0t0" }), 180),
        (json!({ "spatialLayerId": 0, "temporalLayerId": 1 }), 180),
        (json!({ "rid": "s1t1" }), 360),
    ] {
        ensure!(choose(&session, &choice).await? == StatusCode::OK, "{choice}");
        until_height(&page, height).await.with_context(|| format!("after {choice}"))?;
    }
    let stats = page.evaluate("mediaTree.stats()").await?;
    println!("{name}: {stats}");
    ensure!(stats["packetsLost"].as_u64() == Some(0), "{stats}");
    page.close().await?;
    publisher.close().await
}
