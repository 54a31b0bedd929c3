//! A foreign encoder and player: GStreamer's `webrtcbin` publishes and watches.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::Context as _;
use client::Whep;
use model::Kind;
use tests::gstreamer::{Decoded, GStreamer, PARTS, PARTS_OF_HEVC};
use tests::program::{self, Program, until};
use tests::tools;

type Result = anyhow::Result<()>;

fn is_here(name: &str) -> bool {
    PARTS.into_iter().all(|part| tools::has(name, part))
}

async fn until_live(program: &Program, broadcast: &str) -> Result {
    let series = format!("broadcast=\"{broadcast}\"");
    until("the broadcast is live", || async {
        let metrics = reqwest::get(format!("http://{}/metrics", program.ops)).await?.text().await?;
        let is_live =
            |line: &str| line.starts_with("pipeline_up{") && line.contains(&series) && line.ends_with(" 1");
        Ok(metrics.lines().any(is_live))
    })
    .await
}

#[tokio::test]
async fn gstreamer_publishes_to_our_viewer_and_to_its_own() -> Result {
    if !is_here("gstreamer_publishes_to_our_viewer_and_to_its_own") {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let started = Instant::now();
    let mut publisher = GStreamer::publish(&program.url("/whip/test")).await?;
    publisher.until_state("connected").await?;
    let connected = started.elapsed();
    until_live(&program, "test").await?;

    let mut viewer = Whep::connect(&program.url("/whep/test"), None).await?;
    let joined = viewer.joining().started;
    let (mut sounds, mut pictures, mut keyframes, mut first) = (0, 0, BTreeSet::new(), None);
    while keyframes.len() < 2 || sounds < 50 {
        let packet =
            tokio::time::timeout(program::PATIENCE, viewer.receive()).await?.context("the viewer ended")?;
        match packet.kind {
            Kind::Audio => sounds += 1,
            Kind::Video => {
                assert!(
                    pictures > 0 || packet.starts_keyframe,
                    "a viewer begins with a keyframe: {:02x?}",
                    &packet.payload[..packet.payload.len().min(40)]
                );
                first.get_or_insert(packet.arrival.duration_since(joined));
                keyframes.extend(packet.starts_keyframe.then_some(packet.timestamp));
                pictures += u64::from(packet.marker);
            }
        }
    }
    assert_eq!(viewer.stats().video.lost, 0);

    let mut player = GStreamer::watch(&program.url("/whep/test")).await?;
    let decoded = player.until_decoded(Decoded { pictures: 60, sounds: 60 }).await?;
    player.close().await?;
    publisher.close().await?;
    println!(
        "gstreamer publishes: connected after {connected:?}, first picture {first:?} after a viewer's POST, \
         {pictures} pictures, {} keyframes, {sounds} sounds received; GStreamer decoded {decoded:?} of them",
        keyframes.len()
    );
    Ok(())
}

#[tokio::test]
async fn gstreamer_plays_the_demo_clip() -> Result {
    if !is_here("gstreamer_plays_the_demo_clip") {
        return Ok(());
    }
    let program = program::node("up").with(&["--demo"]).start().await?;
    until_live(&program, "demo").await?;
    let mut player = GStreamer::watch(&program.url("/whep/demo")).await?;
    player.until_state("connected").await?;
    let connected = Instant::now();
    let decoded = player.until_decoded(Decoded { pictures: 90, sounds: 100 }).await?;
    println!("gstreamer plays: {decoded:?} within {:?} of being connected", connected.elapsed());
    player.close().await?;
    until("its session is gone", || async { Ok(program.metric("media_tree_whep_sessions{").await? == 0.0) })
        .await
}

#[tokio::test]
async fn hevc_of_gstreamer_goes_through_three_nodes_and_a_late_viewer_decodes_it() -> Result {
    let name = "hevc_of_gstreamer_goes_through_three_nodes_and_a_late_viewer_decodes_it";
    if !is_here(name) || !PARTS_OF_HEVC.into_iter().all(|part| tools::has(name, part)) {
        return Ok(());
    }
    let injection = program::node("injection").start().await?;
    let below = async |role, parent: &Program| {
        let parent = format!("127.0.0.1:{}", parent.link_port);
        program::node(role).with(&["--parents", &parent]).start().await
    };
    let relay = below("relay", &injection).await?;
    let egress = below("egress", &relay).await?;
    let mut publisher = GStreamer::publish_as(&injection.url("/whip/test"), "H265").await?;
    publisher.until_state("connected").await?;
    until_live(&egress, "test").await?;

    let mut player = GStreamer::watch_as(&egress.url("/whep/test"), "H265").await?;
    let first = player.until_decoded(Decoded { pictures: 60, sounds: 60 }).await?;
    let mut late = GStreamer::watch_as(&egress.url("/whep/test"), "H265").await?;
    let second = late.until_decoded(Decoded { pictures: 60, sounds: 60 }).await?;
    println!("HEVC through three nodes: the first player decoded {first:?}, a later one {second:?}");
    for player in [player, late] {
        player.close().await?;
    }
    publisher.close().await
}
