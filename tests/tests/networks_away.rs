//! Browsers whose network is away for a while, or lets no media through: they go on in the sessions that they have, and say
//! what is the matter.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::demo::{self, Clip};
use client::{Whip, whip};
use model::Codec;
use tests::apart::{CLEAR, CUT};
use tests::browser::Browser;
use tests::installation::until_live;
use tests::network::{Hosts, PUBLISH_TOKEN};
use tests::program::{self, PATIENCE, until};
use tests::{detour, tools, watching};
use tokio::net::UdpSocket;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// How long nothing gets through, TCP neither. ICE of browsers says so after 5 s, and has failed after 15 s; servers end such a
/// session after 30 s.
const AWAY: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(20)];
/// From the network's return to media, however busy the machine is: as long as the page gives a new way.
const BACK_WITHIN: Duration = Duration::from_secs(12);
/// Two seconds of a picture with sound.
const PACKETS: f64 = 160.0;

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_goes_on_in_its_session_when_its_network_is_back() -> Result {
    let name = "the_publish_page_goes_on_in_its_session_when_its_network_is_back";
    if !tools::has(name, CHROMIUM) || !tools::is_root(name) {
        return Ok(());
    }
    let hosts = Hosts::new(64, &["node"])?;
    let (here, there) = (hosts.here(), hosts.host("node").address);
    let node = hosts.node("up", "node", &[]).start().await?;
    let chromium = Browser::chromium().await?;
    let url = node.url(&format!("/publish/show#key={PUBLISH_TOKEN}"));
    let page = watching::publish_test_picture(&chromium, &url, "vp8").await?;
    let packets = async || node.metric("media_tree_publisher_rtp_packets_total{").await;
    until("it is on the air", async || Ok(packets().await? > PACKETS)).await?;
    for away in AWAY {
        hosts.join(here, there, CUT);
        let cut = Instant::now();
        page.wait_until("mediaTree.state === 'reconnecting'", AWAY[1]).await.context("say it in words")?;
        tokio::time::sleep(away.saturating_sub(cut.elapsed())).await;
        hosts.join(here, there, CLEAR);
        let back = Instant::now();
        let before = packets().await?;
        until("its media comes again", async || Ok(packets().await? > before)).await?;
        let after = back.elapsed();
        println!("{name}: away for {away:?}, media {after:?} after its return");
        ensure!(after < BACK_WITHIN, "media {after:?} after the network's return");
        until("it goes on", async || Ok(packets().await? > before + PACKETS)).await?;
        page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
        let sessions = node.metric_with("media_tree_publishes_total{", r#"result="connected""#).await?;
        ensure!(sessions == 1.0, "not in the session that it had: {sessions} were made");
        ensure!(node.metric("media_tree_whip_sessions{").await? == 1.0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_player_goes_on_when_its_network_is_back() -> Result {
    let name = "the_player_goes_on_when_its_network_is_back";
    if !tools::has(name, CHROMIUM) || !tools::is_root(name) {
        return Ok(());
    }
    let hosts = Hosts::new(65, &["in", "out"])?;
    let (here, there) = (hosts.here(), hosts.host("out").address);
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    // Real pictures, because a decoder looks at them.
    let (door, codecs) = (injection.url("/whip/show"), [Codec::Opus, Codec::H264]);
    let publisher = Whip::connect(&door, Some(PUBLISH_TOKEN), &codecs, whip::Options::default()).await?;
    let publishing = tokio::spawn(async move { demo::play(&Clip::built_in(), &publisher).await });
    until_live(&egress, "show").await?;
    let chromium = Browser::chromium().await?;
    let page = watching::open_player(&chromium, &egress.url("/watch/show")).await?;
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    for away in AWAY {
        let before = page.evaluate("mediaTree.stats()").await?["framesDecoded"].as_u64().unwrap_or(0);
        hosts.join(here, there, CUT);
        let cut = Instant::now();
        page.wait_until("mediaTree.state === 'reconnecting'", AWAY[1]).await.context("say it in words")?;
        tokio::time::sleep(away.saturating_sub(cut.elapsed())).await;
        hosts.join(here, there, CLEAR);
        let back = Instant::now();
        page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
        let after = back.elapsed();
        println!("{name}: away for {away:?}, live {after:?} after its return");
        ensure!(after < BACK_WITHIN, "live {after:?} after the network's return");
        let more = format!("mediaTree.stats().then(({{ framesDecoded }}) => framesDecoded > {before} + 60)");
        page.wait_until(&more, PATIENCE).await?;
    }
    publishing.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_page_whose_media_does_not_get_through_says_so_and_tries_again() -> Result {
    /// How long a session may take to connect, in ms of the page.
    const CONNECT_MAX: f64 = 10_000.0;
    let name = "a_publish_page_whose_media_does_not_get_through_says_so_and_tries_again";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let chromium = Browser::chromium().await?;
    let mut pages = Vec::new();
    for (language, words) in [
        ("en", "The server answers, but picture and sound do not get through to it (is UDP blocked?)"),
        ("de", "Der Server antwortet, aber Bild und Ton kommen nicht zu ihm durch (ist UDP gesperrt?)"),
        ("it", "Il server risponde, ma audio e video non gli arrivano (UDP è bloccato?)"),
    ] {
        let path = format!("/publish/{language}?source=clock&codec=vp8&lang={language}");
        let page = chromium.open(&node.url(&path)).await?;
        page.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
        page.evaluate(&detour::of_page(nobody.local_addr()?.port())).await?;
        page.evaluate("document.getElementById('form').requestSubmit()").await?;
        pages.push((page, words));
    }
    for (page, words) in &pages {
        let says = format!("document.getElementById('badge').textContent.startsWith('{words}')");
        page.wait_until(&says, PATIENCE).await?;
        page.evaluate("void (window.detour = null)").await?;
    }
    for (page, _) in &pages {
        page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
        let pauses = "sessions.slice(1).map(({ at }, index) => at - sessions[index].at)";
        let pauses: Vec<f64> = serde_json::from_value(page.evaluate(pauses).await?)?;
        ensure!(!pauses.is_empty() && pauses.iter().all(|pause| *pause >= CONNECT_MAX), "{pauses:?}");
    }
    Ok(())
}
