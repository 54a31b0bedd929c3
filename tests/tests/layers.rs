//! Layers of a picture: Chromium sends several sizes, and viewers get the one they choose or can carry; and through a tree
//! of nodes goes only what somebody watches.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use model::{Bitrate, Kind};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::event_stream::{self, EventStream, Item};
use tests::exclusive::Exclusive;
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program::{self, Program};
use tests::source::{Seens, Shape, Source, Stamp};
use tests::{offers, tools, watching};
use tokio::sync::watch;
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
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
    let _alone = Exclusive::Machine.take().await?;
    for codec in ["vp8", "h264"] {
        choose_by_name(codec).await?;
    }
    Ok(())
}

/// What is answered to a viewer that offers what Chromium offers. Its session ends at once.
async fn answer_to_chromium(endpoint: &str) -> anyhow::Result<String> {
    let client = Client::new();
    let offer = offers::crlf(offers::CHROMIUM_VIEWER);
    let posted = client.post(endpoint).header("Content-Type", "application/sdp").body(offer).send().await?;
    ensure!(posted.status() == StatusCode::CREATED, "{}", posted.status());
    let session = posted.headers().get("Location").context("a session")?.to_str()?.to_owned();
    let answer = posted.text().await?;
    client.delete(session).send().await?;
    Ok(answer)
}

/// How often viewers have told when packets arrived.
const ARRIVALS_TOLD: &str = "media_tree_viewer_transport_feedback_total";

/// The viewer's link gets narrow and wide again: the picture gets small and large again, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_gets_the_layer_that_its_link_carries() -> Result {
    let name = "a_viewer_gets_the_layer_that_its_link_carries";
    if !tools::has(name, CHROMIUM) || !tools::is_root(name) {
        return Ok(());
    }
    let _alone = Exclusive::Machine.take().await?;
    let hosts = Hosts::new(61, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let chromium = Browser::chromium().await?;
    let url = injection.url(&format!("/publish/show#key={PUBLISH_TOKEN}"));
    let publisher = publish(&chromium, &url, "vp8").await?;
    let page = watching::open_player(&chromium, &egress.url("/watch/show")).await?;
    until_height(&page, 360).await.context("before the link is narrow")?;
    let answer = answer_to_chromium(&egress.url("/whep/show")).await?;
    ensure!(answer.contains("transport-cc") && !answer.contains("goog-remb"), "{answer}");

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
    let told = egress.metric(ARRIVALS_TOLD).await?;
    let malformed = egress.metric_with("media_tree_egress_drops_total{", "reason=\"rtcp_malformed\"").await?;
    ensure!(
        told > 100.0 && malformed == 0.0,
        "{told} times it was told when packets arrived, {malformed} not read"
    );
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

/// The viewer's link carries less than the only size that there is: the sound goes on alone, and the picture comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_carries_no_picture_carries_the_sound() -> Result {
    let name = "a_link_that_carries_no_picture_carries_the_sound";
    if !tools::has(name, CHROMIUM) || !tools::is_root(name) {
        return Ok(());
    }
    let _alone = Exclusive::Machine.take().await?;
    let hosts = Hosts::new(66, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let chromium = Browser::chromium().await?;
    let url = injection.url(&format!("/publish/show#key={PUBLISH_TOKEN}"));
    let publisher = watching::publish_test_picture(&chromium, &url, "vp8").await?;
    let page = watching::open_player(&chromium, &egress.url("/watch/show")).await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 150)", PATIENCE).await?;
    let answer = answer_to_chromium(&egress.url("/whep/show")).await?;
    ensure!(answer.contains("goog-remb") && !answer.contains("transport-cc"), "nothing to choose: {answer}");

    let viewers_link = |bitrate| {
        let path = Path { delay: Duration::from_millis(10), bitrate, ..Path::default() };
        hosts.join(hosts.host("out").address, hosts.here(), path);
    };
    let narrowed = Instant::now();
    viewers_link(Some(Bitrate::kbps(200)));
    let player = "document.querySelector('media-tree-player')";
    let held = format!(
        "{player}.state === 'stalled' && {player}.message.startsWith('Your connection carries sound')"
    );
    page.wait_until(&held, PATIENCE).await.context("the player says that there is sound alone")?;
    let after = narrowed.elapsed();
    let sounds = format!("{player}.stats().then(({{ audio }}) => audio.packetsReceived)");
    let before = page.evaluate(&sounds).await?;
    page.wait_until(&format!("{sounds}.then((now) => now > {before} + 150)"), program::PATIENCE)
        .await
        .context("the sound goes on")?;
    let decoded = page.evaluate("mediaTree.stats()").await?["framesDecoded"].as_u64().context("a number")?;
    let widened = Instant::now();
    viewers_link(None);
    let plays = format!(
        "mediaTree.state === 'live' && mediaTree.stats().then((stats) => stats.framesDecoded > {decoded} + 60)"
    );
    page.wait_until(&plays, PATIENCE).await.context("the picture is back")?;
    println!(
        "{name}: sound alone after {:.1} s; the picture is back {:.1} s after the link is wide",
        after.as_secs_f64(),
        widened.elapsed().as_secs_f64()
    );
    ensure!(egress.metric(ARRIVALS_TOLD).await? == 0.0, "it was not asked");
    page.close().await?;
    publisher.close().await
}

/// Packets of a keyframe and of another picture, of each layer. Viewers tell layers by them.
const LAYERS: [(&str, (u16, u16)); 3] = [("h", (40, 9)), ("m", (15, 4)), ("l", (6, 2))];

fn shapes() -> [(&'static str, Shape); 3] {
    LAYERS.map(|(rid, (keyframe_packets, frame_packets))| {
        let shape =
            Shape { frame_rate: 30, frames_a_group: 60, keyframe_packets, frame_packets, has_sound: true };
        (rid, shape)
    })
}

/// Which layer a packet is of.
fn layer_of(stamp: &Stamp) -> Option<&'static str> {
    let is_of = |(keyframe, other): (u16, u16)| stamp.count == keyframe || stamp.count == other;
    LAYERS.into_iter().find(|(_, packets)| is_of(*packets)).map(|(rid, _)| rid)
}

/// Somebody who watches until the test is over.
struct Watcher {
    session: String,
    /// The newest picture, and the layer that it is of.
    newest: watch::Receiver<(u32, &'static str)>,
    stop: watch::Sender<bool>,
    watching: JoinHandle<anyhow::Result<Seens>>,
}

impl Watcher {
    async fn come(egress: &Program) -> anyhow::Result<Self> {
        let viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
        let session = viewer.url().to_owned();
        let (newest_sender, newest) = watch::channel((0, "none"));
        let (stop, stopped) = watch::channel(false);
        let watching = tokio::spawn(receive(viewer, newest_sender, stopped));
        Ok(Self { session, newest, stop, watching })
    }

    /// Chooses a layer, and waits until it has come. Gives how long that took.
    async fn choose(&mut self, rid: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        ensure!(choose(&self.session, &json!({ "rid": rid })).await? == StatusCode::OK, "{rid} is there");
        let comes = self.newest.wait_for(|(_, layer)| *layer == rid);
        tokio::time::timeout(program::PATIENCE, comes)
            .await
            .with_context(|| format!("{rid} never came"))??;
        Ok(begun.elapsed())
    }

    /// Waits until so many more pictures have come.
    async fn watch(&mut self, pictures: u32) -> Result {
        let until = self.newest.borrow().0 + pictures;
        let comes = self.newest.wait_for(|(frame, _)| *frame >= until);
        tokio::time::timeout(program::PATIENCE, comes).await.context("the picture stands still")??;
        Ok(())
    }

    /// Everything it got, in the layers that it chose and perhaps another one before. Nothing is missing, each layer begins
    /// with a keyframe, and from one to the next no picture is left out or goes back.
    async fn leave(self, course: &[&str]) -> anyhow::Result<Seens> {
        self.stop.send_replace(true);
        let watching = tokio::time::timeout(program::PATIENCE, self.watching).await;
        let seens = watching.context("some packets never came")???;
        ensure!(seens.missing() == 0, "{} packets never came", seens.missing());
        let stamps: Vec<Stamp> = seens.all().iter().filter_map(|seen| seen.stamp).collect();
        let mut layers: Vec<&str> = Vec::new();
        for pair in stamps.windows(2) {
            let [before, after] = [layer_of(&pair[0]), layer_of(&pair[1])];
            let step = i64::from(pair[1].frame) - i64::from(pair[0].frame);
            // At first it may leave out what a newer keyframe makes needless.
            let may_skip = before == after && layers.len() < 2;
            // A keyframe of the last 100 ms is as good as one that comes.
            ensure!(may_skip || (-3..=1).contains(&step), "from {:?} to {:?}", pair[0], pair[1]);
            if before != after || layers.is_empty() {
                layers.extend(after);
                let is_keyframe = pair[1].frame % shapes()[0].1.frames_a_group == 0;
                ensure!(is_keyframe || before == after, "{:?} begins within a group", pair[1]);
            }
        }
        let is_before = layers.len().saturating_sub(course.len());
        ensure!(layers.ends_with(course) && is_before <= 1, "{layers:?} came");
        Ok(seens)
    }
}

async fn receive(
    mut viewer: WhepSession,
    newest: watch::Sender<(u32, &'static str)>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Seens> {
    let mut seens = Seens::default();
    // What is missing when it is told to stop may still come.
    while !*stopped.borrow() || seens.missing() > 0 {
        let packet = tokio::select! {
            packet = viewer.receive() => packet.context("the session ended")?,
            _stopped = stopped.changed(), if !*stopped.borrow() => continue,
        };
        seens.add(&packet);
        if let Some(stamp) = Stamp::of(&packet).filter(|_| packet.kind == Kind::Video)
            && let Some(layer) = layer_of(&stamp)
        {
            newest.send_if_modified(|newest| {
                let is_newer = stamp.frame >= newest.0 && (stamp.frame, layer) != *newest;
                if is_newer {
                    *newest = (stamp.frame, layer);
                }
                is_newer
            });
        }
    }
    ensure!(viewer.stats().unread == 0, "this test did not read fast enough");
    Ok(seens)
}

/// What nodes took of the picture while the injection took a few megabytes: as shares of that.
async fn shares(injection: &Program, nodes: [&Program; 2]) -> anyhow::Result<[f64; 2]> {
    const TAKEN: &str = "media_tree_rtp_bytes_total{";
    let taken = async |node: &Program| {
        let text = reqwest::get(format!("http://{}/metrics", node.ops)).await?.text().await?;
        let is_it = |line: &&str| {
            line.starts_with(TAKEN) && line.contains("kind=\"video\"") && line.contains("direction=\"in\"")
        };
        let values =
            text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        anyhow::Ok(values.sum::<f64>())
    };
    let mut before = Vec::new();
    for node in [injection, nodes[0], nodes[1]] {
        before.push(taken(node).await?);
    }
    program::until("the publisher sends", async || Ok(taken(injection).await? > before[0] + 4e6)).await?;
    let all = taken(injection).await? - before[0];
    Ok([(taken(nodes[0]).await? - before[1]) / all, (taken(nodes[1]).await? - before[2]) / all])
}

/// Waits until so many RTP streams come to the relay and to the egress.
async fn until_streams_come(nodes: [&Program; 2], count: f64) -> Result {
    program::until("only what is watched comes", async || {
        let streams = [nodes[0].metric(STREAMS).await?, nodes[1].metric(STREAMS).await?];
        Ok(streams == [count; 2])
    })
    .await
}
const STREAMS: &str = "media_tree_link_streams{";

/// Two viewers of the smallest layer, one of whom goes to the best one and back, below links that lose packets.
#[tokio::test(flavor = "multi_thread")]
async fn a_layer_crosses_the_tree_only_while_somebody_watches_it() -> Result {
    let name = "a_layer_crosses_the_tree_only_while_somebody_watches_it";
    if !tools::is_root(name) {
        return Ok(());
    }
    let _alone = Exclusive::Machine.take().await?;
    let hosts = Hosts::new(62, &["in", "between", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let relay = hosts.node("relay", "between", &["in"]).start().await?;
    let egress = hosts.node("egress", "out", &["between"]).with(&["--broadcasts", "show"]).start().await?;
    let url = injection.url("/whip/show");
    let _source = Source::publish_layers(&url, Some(PUBLISH_TOKEN), &shapes()).await?;
    program::until("the egress knows the broadcast", async || {
        let list = reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?;
        Ok(list.contains("\"live\""))
    })
    .await?;
    let path = Path { loss: 0.01, delay: Duration::from_millis(5), ..Path::default() };
    for (above, below) in [("in", "between"), ("between", "out")] {
        hosts.join(hosts.host(above).address, hosts.host(below).address, path);
    }
    let (mut changing, mut staying) = (Watcher::come(&egress).await?, Watcher::come(&egress).await?);
    for watcher in [&mut changing, &mut staying] {
        watcher.choose("l").await?;
    }
    let tree = [&relay, &egress];
    until_streams_come(tree, 2.0).await?;
    let low = shares(&injection, tree).await?;

    let took = changing.choose("h").await?;
    until_streams_come(tree, 3.0).await?;
    changing.watch(90).await?;
    let both = shares(&injection, tree).await?;

    changing.choose("l").await?;
    let left = Instant::now();
    until_streams_come(tree, 2.0).await?;
    let left = left.elapsed();
    let again = shares(&injection, tree).await?;
    let lost = egress.metric("media_tree_rtp_lost_total{").await?;
    let recovered = egress.metric("media_tree_rtp_recovered_total{").await?;
    let changed = changing.leave(&["l", "h", "l"]).await?;
    let stayed = staying.leave(&["l"]).await?;
    println!(
        "{name}: of the picture came to relay and egress {low:.2?} (smallest layer watched), {both:.2?} (best one, too), {again:.2?} \
         (smallest again, {:.1} s later); the best one came {} ms after it was chosen; {lost} packets lost, {recovered} recovered; \
         longest pause {} ms for who changed, {} ms for who stayed; {} pictures",
        left.as_secs_f64(),
        took.as_millis(),
        changed.longest_pause().as_millis(),
        stayed.longest_pause().as_millis(),
        changed.pictures().len(),
    );
    // 2 of 15 packets a picture, 11 of 15, and somewhat more in keyframes.
    let are_within =
        |shares: [f64; 2], from: f64, to: f64| shares.iter().all(|share| (from..to).contains(share));
    ensure!(are_within(low, 0.08, 0.2) && are_within(again, 0.08, 0.2), "{low:?}, {again:?}");
    ensure!(are_within(both, 0.6, 0.85), "{both:?}");
    ensure!(lost == 0.0 && recovered > 0.0, "{lost} packets lost, {recovered} recovered");
    let asked = injection.metric_with("media_tree_keyframe_requests_total{", "direction=\"out\"").await?;
    ensure!(asked > 0.0, "whoever goes to another layer asks for a keyframe of it");
    Ok(())
}
