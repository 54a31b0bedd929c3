//! Hosts that fall off the network without a word, under publishers and viewers: each played once, and what was seen.
//!
//! The tests demand that it heals, the acceptance runs demand in which time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::demo::{self, Clip};
use client::{Whip, whip};
use model::{Codec, Kind};

use crate::apart::{CLEAR, CUT, Installation, LIVELY};
use crate::browser::Browser;
use crate::crowd::Watching;
use crate::installation::{Viewer, until_live, until_parents};
use crate::network::{Hosts, PUBLISH_TOKEN};
use crate::program::{PATIENCE, Program, until};
use crate::screening::{self, Screening};
use crate::source::Source;
use crate::watching;

/// What these need beside namespaces.
pub const CHROMIUM: &str = "/usr/bin/chromium";

/// Two seconds of pictures.
const PICTURES: usize = 60;

/// What one viewer saw of a loss.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The longest that a picture stood.
    pub dark: Duration,
    /// Packets of the picture that never came.
    pub missing: u64,
}

/// An egress node takes media from two relays, and a third one stands by: the first `lost` of them are lost in one moment.
///
/// # Errors
/// If the viewer does not go on.
pub async fn relays(seed: u64, lost: usize) -> anyhow::Result<Seen> {
    const RELAYS: [&str; 3] = ["first", "second", "third"];
    let hosts = Hosts::new(seed, &[&["injection", "egress"], &RELAYS[..]].concat())?;
    let injection = hosts.node("injection", "injection", &[]).start().await?;
    let mut relays = Vec::new();
    for name in RELAYS {
        relays.push(hosts.node("relay", name, &["injection"]).start().await?);
    }
    let egress = hosts.node("egress", "egress", &RELAYS).start().await?;
    until("the egress has all parents", async || {
        Ok(egress.metric("media_tree_link_parents{").await? == RELAYS.len() as f64)
    })
    .await?;
    let _source = Source::publish_as(&injection.url("/whip/show"), Some(PUBLISH_TOKEN), LIVELY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    let used = async || {
        let mut used = Vec::new();
        for (relay, name) in relays.iter().zip(RELAYS) {
            if relay.metric("media_tree_link_destinations{").await? == 1.0 {
                used.push(name);
            }
        }
        anyhow::Ok(used)
    };
    let used = used().await?;
    ensure!(used.len() == 2, "media comes from {used:?}");
    used.iter().take(lost).for_each(|name| hosts.partition(hosts.host(name)));
    viewer.watch(2 * PICTURES).await?;
    Ok(Seen { dark: viewer.seens.longest_pause(), missing: viewer.seens.missing() })
}

/// The host of an egress node is lost under our player, which came by the controller: what was on its screen until it
/// played from the other egress node.
///
/// # Errors
/// If it does not come back.
pub async fn egress(seed: u64) -> anyhow::Result<Screening> {
    const NAMES: [&str; 2] = ["out-1", "out-2"];
    let it = Installation::begin(seed, &["in", NAMES[0], NAMES[1]]).await?;
    let injection = it.node("injection", "in").start().await?;
    let egress = [it.node("egress", NAMES[0]).start().await?, it.node("egress", NAMES[1]).start().await?];
    for name in NAMES {
        until_parents(&it.controller, name, &["in"]).await?;
    }
    // Real pictures, because a decoder looks at them.
    let codecs = [Codec::Opus, Codec::H264];
    let (door, options) = (injection.url("/whip/show"), whip::Options::default());
    let publisher = Whip::connect(&door, Some(PUBLISH_TOKEN), &codecs, options).await?;
    let publishing = tokio::spawn(async move { demo::play(&Clip::built_in(), &publisher).await });
    for egress in &egress {
        until_live(egress, "show").await?;
    }
    let browser = Browser::chromium().await?;
    let page = watching::open_player(&browser, &it.controller.url("/watch/show")).await?;
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    screening::follow(&page).await?;
    page.wait_until("screening.pictures.length > 60", PATIENCE).await?;
    let at = usize::from(egress[1].metric("media_tree_viewers{").await? > 0.0);
    it.hosts.partition(it.host(NAMES[at]));
    let is_back = format!("screening.pictures.at(-1).server === '{}'", egress[1 - at].http);
    page.wait_until(&is_back, PATIENCE).await?;
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let screening = screening::screening(&page).await?;
    publishing.abort();
    Ok(screening)
}

/// The network of a publisher is gone for a while, in both directions; it is an encoder that waits. What the viewer saw from
/// its return on.
///
/// # Errors
/// If either of them loses its session.
pub async fn network_of_publisher(seed: u64, gone: Duration) -> anyhow::Result<Seen> {
    let it = Installation::begin(seed, &["in", "out"]).await?;
    let injection = it.node("injection", "in").start().await?;
    let egress = it.node("egress", "out").start().await?;
    until_parents(&it.controller, "out", &["in"]).await?;
    let _source = it.publish(&injection).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    it.hosts.join(it.hosts.here(), it.host("in").address, CUT);
    tokio::time::sleep(gone).await;
    it.hosts.join(it.hosts.here(), it.host("in").address, CLEAR);
    let back = Instant::now();
    viewer.watch(PICTURES).await?;
    let first = viewer.seens.pictures().into_iter().map(|picture| picture.arrival).find(|at| *at >= back);
    let dark = first.context("a picture after its return")? - back;
    ensure!(egress.metric("media_tree_viewers{").await? == 1.0, "the viewer's session stayed");
    ensure!(injection.metric("media_tree_whip_sessions{").await? == 1.0, "the publisher's session stayed");
    Ok(Seen { dark, missing: viewer.seens.missing() })
}

/// Two encoders publish, the second of which stands by on another host: then the first one's host is lost. It comes back to
/// life afterwards, and has nothing to say.
///
/// # Errors
/// If the second one does not go on, or both do.
pub async fn injection_with_backup(seed: u64) -> anyhow::Result<Seen> {
    const NAMES: [&str; 2] = ["in-1", "in-2"];
    let backup = ["--publisher-conflict", "backup"];
    let it = Installation::begin_with(seed, &[NAMES[0], NAMES[1], "out"], &backup).await?;
    let node = |name| it.node("injection", name).with(&backup).start();
    let injections = [node(NAMES[0]).await?, node(NAMES[1]).await?];
    let egress = it.node("egress", "out").start().await?;
    until_parents(&it.controller, "out", &NAMES).await?;
    let first = it.publish(&it.controller).await?;
    until_live(&egress, "show").await?;
    until_live(&it.controller, "show").await?;
    let at = usize::from(first.url().starts_with(&injections[1].url("/")));
    let (lost, left) = (&injections[at], &injections[1 - at]);
    let second = it.publish(&it.controller).await?;
    ensure!(second.url().starts_with(&left.url("/")), "not on a host of its own: {}", second.url());
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    ensure!(lost.metric("media_tree_whip_sessions{").await? == 1.0, "the first one is on the air");
    ensure!(left.metric("media_tree_publisher_take_overs_total{").await? == 0.0, "the second one stands by");

    it.hosts.partition(it.host(NAMES[at]));
    viewer.watch(2 * PICTURES).await?;
    ensure!(left.metric("media_tree_publisher_take_overs_total{").await? == 1.0, "the second one goes on");
    let seen = Seen { dark: viewer.seens.longest_pause(), missing: viewer.seens.missing() };
    it.hosts.heal(it.host(NAMES[at]));
    it.until_health(NAMES[at], "ready").await?;
    until("the first one is told that it has lost", async || {
        Ok(lost.metric("media_tree_whip_sessions{").await? == 0.0)
    })
    .await?;
    viewer.watch(PICTURES).await?;
    ensure!(left.metric("media_tree_publisher_take_overs_total{").await? == 1.0, "nobody switches back");
    ensure!(viewer.seens.missing() == 0, "sequence numbers leave a gap: {}", viewer.summary());
    Ok(seen)
}

/// What was seen when the host of an injection node was lost.
#[derive(Debug, Clone, Copy)]
pub struct InjectionLost {
    /// Until the page that publishes said so.
    pub noticed: Duration,
    /// Until it was live on another host.
    pub live: Duration,
    /// A viewer, who stayed in its session.
    pub viewer: Seen,
}

/// The host of an injection node is lost under a page that publishes, which came by the controller: it is back by itself
/// on another host.
///
/// # Errors
/// If it does not come back, or the viewer does not stay.
pub async fn injection(seed: u64) -> anyhow::Result<InjectionLost> {
    const NAMES: [&str; 2] = ["in-1", "in-2"];
    let it = Installation::begin(seed, &[NAMES[0], NAMES[1], "out"]).await?;
    let injections =
        [it.node("injection", NAMES[0]).start().await?, it.node("injection", NAMES[1]).start().await?];
    let egress = it.node("egress", "out").start().await?;
    until_parents(&it.controller, "out", &NAMES).await?;
    let browser = Browser::chromium().await?;
    let door = format!("{}#key={PUBLISH_TOKEN}", it.controller.url("/publish/show"));
    let page = watching::publish_test_picture(&browser, &door, "vp8").await?;
    until_live(&egress, "show").await?;
    let viewer = Watching::begin(&egress).await?;
    let watched = async |pictures: f64| {
        let sent = async || egress.metric("media_tree_viewer_rtp_packets_total{").await;
        let before = sent().await?;
        until("the viewer gets media", async || Ok(sent().await? > before + pictures)).await
    };
    watched(300.0).await?;
    let publishers = async |program: &Program| program.metric("media_tree_whip_sessions{").await;
    let at = usize::from(publishers(&injections[1]).await? > 0.0);
    it.hosts.partition(it.host(NAMES[at]));
    let cut = Instant::now();
    page.wait_until("mediaTree.state !== 'live'", PATIENCE).await?;
    let noticed = cut.elapsed();
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let live = cut.elapsed();
    ensure!(publishers(&injections[1 - at]).await? == 1.0, "on the other host");
    watched(300.0).await?;
    let recording = viewer.judge("the injection host lost", Duration::MAX).await?;
    let track = recording.track(Kind::Video);
    let viewer = Seen {
        dark: track.fluency().longest_pause,
        missing: u64::try_from(track.missing().len()).context("a count")?,
    };
    Ok(InjectionLost { noticed, live, viewer })
}
