//! OBS 32.1 and later publish up to four layers whose keyframes come apart, answer no request for one, and name layers in
//! their packets alone. Its stand-in does, and viewers get each layer that they choose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use model::Kind;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::clip::layers::{GROUP, Layer, Place, Places, layers};
use tests::encoders::{self, Encoder};
use tests::event_stream::{self, EventStream, Item};
use tests::exclusive::Exclusive;
use tests::installation::until_live;
use tests::program::{self, PATIENCE, Program, until};
use tests::{tools, watching};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// Where a layer begins, the keyframe may be as old as this many pictures: one of the last 100 ms is as good as one that
/// comes.
const KEYFRAME_AGE_MAX: i64 = 4;
/// From a picture of one layer to the next one of another, in ticks of 90 kHz, at most: 200 ms.
const TICKS_MAX: i32 = 18_000;
/// RTP streams that a node takes from its parent.
const STREAMS: &str = "media_tree_link_streams{";

fn is_here(name: &str) -> bool {
    encoders::parts_of_libdatachannel().into_iter().all(|part| tools::has(name, &part.to_string_lossy()))
}

/// OBS's stand-in on air in these layers.
async fn on_air(url: &str, layers: &[Layer], named: &str) -> anyhow::Result<Encoder> {
    let mut obs = Encoder::in_layers(url, layers)?;
    ensure!(obs.until("layers").await? == named, "another offer than OBS's");
    obs.until("state connected").await?;
    Ok(obs)
}

async fn choose(session: &str, rid: &str) -> Result {
    let choice = json!({ "rid": rid });
    let answer = Client::new().post(format!("{session}/layer")).json(&choice).send().await?;
    ensure!(answer.status() == StatusCode::OK, "{}: {}", answer.status(), answer.text().await?);
    Ok(())
}

/// The layers that the next event tells of.
async fn told(events: &mut EventStream) -> anyhow::Result<Vec<Value>> {
    let Item::Event(_, data) = events.next().await? else { anyhow::bail!("the stream ended") };
    let layers = data.as_object().and_then(|pictures| pictures.values().next()?.as_array());
    Ok(layers.context("layers of a picture")?.clone())
}

/// Waits until an event says this of each layer. They are told best first, always.
async fn until_told(events: &mut EventStream, layers: &[Layer], what: fn(&Layer, &Value) -> bool) -> Result {
    let search = async {
        loop {
            let told = told(events).await?;
            let rids: Vec<&str> = told.iter().filter_map(|layer| layer["rid"].as_str()).collect();
            let expected: Vec<&str> = layers.iter().map(|layer| layer.rid.as_str()).collect();
            ensure!(rids == expected, "{told:?}");
            if layers.iter().zip(&told).all(|(layer, told)| what(layer, told)) {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.context("not all is told of the layers")?
}

/// A packet of the picture.
#[derive(Debug, Clone, Copy)]
struct Got {
    seq_no: u64,
    timestamp: u32,
    arrival: Instant,
    place: Option<Place>,
}

/// Somebody who watches until the test is over.
struct Watcher {
    session: String,
    /// The layer of what came last.
    layer: watch::Receiver<Option<usize>>,
    stop: watch::Sender<bool>,
    watching: JoinHandle<anyhow::Result<Vec<Got>>>,
}

impl Watcher {
    async fn come(node: &Program, places: Places) -> anyhow::Result<Self> {
        let viewer = Whep::connect(&node.url("/whep/show"), None).await?;
        let session = viewer.url().to_owned();
        let (layer_sender, layer) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(receive(viewer, places, layer_sender, stopped));
        Ok(Self { session, layer, stop, watching })
    }

    /// Waits until it gets this layer. Gives how long that took.
    async fn until_layer(&mut self, layer: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let comes = self.layer.wait_for(|now| *now == Some(layer));
        let came = tokio::time::timeout(PATIENCE, comes).await;
        came.with_context(|| format!("layer {layer} never came"))?.context("the viewer ended")?;
        Ok(begun.elapsed())
    }

    /// Everything that it got, in order.
    async fn leave(self) -> anyhow::Result<Vec<Got>> {
        self.stop.send_replace(true);
        tokio::time::timeout(PATIENCE, self.watching).await.context("some packets never came")??
    }
}

/// How many sequence numbers are missing between the first and the last.
fn missing(got: &[Got]) -> u64 {
    let [first, .., last] = got else { return 0 };
    last.seq_no + 1 - first.seq_no - got.len() as u64
}

async fn receive(
    mut viewer: WhepSession,
    places: Places,
    layer: watch::Sender<Option<usize>>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Got>> {
    let mut got: Vec<Got> = Vec::new();
    // What is missing when it is told to stop may still come.
    while !*stopped.borrow() || missing(&got) > 0 {
        let packet = tokio::select! {
            packet = viewer.receive() => packet.context("the session ended")?,
            _stopped = stopped.changed(), if !*stopped.borrow() => continue,
        };
        if packet.kind != Kind::Video {
            continue;
        }
        let seq_no = packet.seq_no.get();
        let at = got.partition_point(|other| other.seq_no < seq_no);
        if got.get(at).is_some_and(|other| other.seq_no == seq_no) {
            continue;
        }
        let place = places.find(&packet.payload);
        got.insert(at, Got { seq_no, timestamp: packet.timestamp, arrival: packet.arrival, place });
        if let Some(place) = place {
            layer.send_if_modified(|now| now.replace(place.layer) != Some(place.layer));
        }
    }
    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    Ok(got)
}

/// The layers that were got one after the other. Within each no picture is left out, each begins with a keyframe of its
/// own, and times go on from one to the next.
fn course(got: &[Got], layers: &[Layer]) -> anyhow::Result<Vec<usize>> {
    let turn = layers[0].pictures.len() as i64;
    let placed: Vec<(Got, Place)> = got.iter().filter_map(|got| Some((*got, got.place?))).collect();
    let mut course: Vec<usize> = placed.first().map(|(_, place)| place.layer).into_iter().collect();
    for pair in placed.windows(2) {
        let ((before, was), (after, is)) = (pair[0], pair[1]);
        let step = (i64::from(is.frame) - i64::from(was.frame) + turn / 2).rem_euclid(turn) - turn / 2;
        let ticks = after.timestamp.wrapping_sub(before.timestamp).cast_signed();
        if is.layer == was.layer {
            // At first it may leave out what a newer keyframe makes needless.
            ensure!(course.len() < 2 || (0..=1).contains(&step), "from {was:?} to {is:?}");
            ensure!(ticks >= 0, "from {was:?} to {is:?} {ticks} ticks");
        } else {
            ensure!(layers[is.layer].is_keyframe(is.frame), "{is:?} begins within a group");
            ensure!((-KEYFRAME_AGE_MAX..=1).contains(&step), "from {was:?} to {is:?}");
            ensure!((1..=TICKS_MAX).contains(&ticks), "from {was:?} to {is:?} {ticks} ticks");
            course.push(is.layer);
        }
    }
    Ok(course)
}

/// The longest time between two pictures.
fn longest_pause(got: &[Got]) -> Duration {
    let mut pictures: Vec<(u32, Instant)> = Vec::new();
    for Got { timestamp, arrival, .. } in got {
        match pictures.last_mut() {
            Some((known, at)) if known == timestamp => *at = (*at).max(*arrival),
            Some(_) | None => pictures.push((*timestamp, *arrival)),
        }
    }
    let pauses = pictures.windows(2).map(|pair| pair[1].1.saturating_duration_since(pair[0].1));
    pauses.max().unwrap_or_default()
}

/// A viewer below a link goes through all layers, in either direction.
async fn go_through(name: &str, count: u32, choices: &[usize]) -> Result {
    let sizes = layers(count)?;
    let injection = program::node("injection").start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
    let names: Vec<&str> = sizes.iter().map(|layer| layer.rid.as_str()).collect();
    let named = format!("{}, ssrcs false", names.join(";"));
    let obs = on_air(&injection.url("/whip/show"), &sizes, &named).await?;
    until_live(&egress, "show").await?;

    let mut viewer = Watcher::come(&egress, Places::of(&sizes)).await?;
    let stream = event_stream::create(&viewer.session, &["layers"]).await?;
    let mut events = EventStream::open(&stream).await?;
    until_told(&mut events, &sizes, |_, told| told["bitrate"].is_u64()).await?;
    for &layer in choices {
        choose(&viewer.session, &sizes[layer].rid).await?;
        let took = viewer.until_layer(layer).await?;
        println!("{name}: layer {layer} of {count} after {} ms", took.as_millis());
        ensure!(took < 2 * GROUP, "layer {layer} came after {took:?}, its keyframes every {GROUP:?}");
        until("sound and this layer cross the link, and no other", async || {
            Ok(egress.metric(STREAMS).await? == 2.0)
        })
        .await?;
    }
    until_told(&mut events, &sizes, |layer, told| {
        (told["width"].as_u64(), told["height"].as_u64())
            == (Some(layer.size.0.into()), Some(layer.size.1.into()))
    })
    .await?;
    let got = viewer.leave().await?;
    let (course, pause) = (course(&got, &sizes)?, longest_pause(&got));
    println!("{name}: {} packets, layers {course:?}, longest pause {} ms", got.len(), pause.as_millis());
    ensure!(course.ends_with(choices), "{course:?} came");
    ensure!(pause < GROUP, "the picture stood still for {pause:?}");
    ensure!(obs.close().await? == "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_below_a_link_goes_from_each_layer_of_obs_to_each() -> Result {
    let name = "a_viewer_below_a_link_goes_from_each_layer_of_obs_to_each";
    if !is_here(name) {
        return Ok(());
    }
    let _alone = Exclusive::Machine.take().await?;
    go_through(name, 2, &[1, 0, 1]).await?;
    go_through(name, 4, &[3, 0, 2, 1, 3, 2, 0, 1, 0, 3, 1, 2, 3]).await
}

/// The session of a player: its events stand below it.
async fn session(page: &Page) -> anyhow::Result<String> {
    let found = "performance.getEntriesByType('resource').map(({ name }) => name).find((name) => /\\/events$/.test(name))";
    page.wait_until(&format!("Boolean({found})"), PATIENCE).await?;
    let url = page.evaluate(found).await?;
    Ok(url.as_str().context("a URL")?.trim_end_matches("/events").to_owned())
}

async fn figure(page: &Page, name: &str) -> anyhow::Result<u64> {
    page.evaluate("mediaTree.stats()").await?[name].as_u64().with_context(|| format!("{name} is counted"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_shows_each_layer_of_obs_without_a_pause() -> Result {
    let name = "a_player_shows_each_layer_of_obs_without_a_pause";
    if !is_here(name) || !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let _alone = Exclusive::Machine.take().await?;
    let sizes = layers(3)?;
    let node = program::node("up").start().await?;
    let obs = on_air(&node.url("/whip/show"), &sizes, "0;1;2, ssrcs false").await?;
    until_live(&node, "show").await?;
    let chromium = Browser::chromium().await?;
    let page = watching::open_player(&chromium, &node.url("/watch/show")).await?;
    let session = session(&page).await?;
    for layer in [2usize, 0, 1, 2, 1, 0] {
        let freezes = figure(&page, "freezeCount").await?;
        choose(&session, &sizes[layer].rid).await?;
        let height = sizes[layer].size.1;
        let is_there = format!("mediaTree.stats().then(({{ frameHeight }}) => frameHeight === {height})");
        page.wait_until(&is_there, PATIENCE).await.with_context(|| format!("no picture of layer {layer}"))?;
        let decoded = figure(&page, "framesDecoded").await?;
        let goes_on = format!("mediaTree.stats().then((stats) => stats.framesDecoded > {decoded} + 30)");
        page.wait_until(&goes_on, PATIENCE).await.with_context(|| format!("layer {layer} stands still"))?;
        let more = figure(&page, "freezeCount").await? - freezes;
        println!("{name}: layer {layer}, {more} freezes");
        // Two cores code and decode beside the nodes: one hiccup is theirs.
        ensure!(more <= 1, "{more} freezes on the way to layer {layer}");
    }
    page.close().await?;
    ensure!(obs.close().await? == "200");
    Ok(())
}

/// As OBS 32.1 and later do unless they are told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_layer_of_obs_is_taken_though_its_packets_name_it_and_its_offer_does_not() -> Result {
    let name = "the_only_layer_of_obs_is_taken_though_its_packets_name_it_and_its_offer_does_not";
    if !is_here(name) {
        return Ok(());
    }
    let sizes = layers(1)?;
    let node = program::node("up").start().await?;
    let obs = on_air(&node.url("/whip/show"), &sizes, "none, ssrcs true").await?;
    until_live(&node, "show").await?;
    let mut viewer = Watcher::come(&node, Places::of(&sizes)).await?;
    viewer.until_layer(0).await?;
    let course = course(&viewer.leave().await?, &sizes)?;
    ensure!(course == [0], "{course:?}");
    ensure!(obs.close().await? == "200");
    Ok(())
}
