//! Relays die while media flows: what viewers see with two parents, with three, with one.

use std::time::Duration;

use client::demo::{self, Clip};
use client::{Whep, WhepSession, Whip, whip};
use model::{Codec, Kind};
use tests::losses;
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program::{Program, until};
use tests::recording::Recording;
use tests::tools::is_root;
use tokio::task::AbortHandle;

type Result = anyhow::Result<()>;

/// Pictures recorded before and after each failure: two seconds.
const PICTURES: usize = 60;

/// An injection, some relays side by side and an egress below all of them, with a publisher and a viewer.
struct Tree {
    playing: AbortHandle,
    viewer: WhepSession,
    recording: Recording,
    relays: Vec<Program>,
    /// Never asked, only kept running.
    _injection: Program,
    egress: Program,
    hosts: Hosts,
}

impl Tree {
    async fn grow(seed: u64, relays: &[&str]) -> anyhow::Result<Self> {
        let hosts = Hosts::new(seed, &[&["injection", "egress"], relays].concat())?;
        let injection = hosts.node("injection", "injection", &[]).start().await?;
        let mut nodes = Vec::new();
        for (relay, distance) in relays.iter().zip(1..) {
            nodes.push(hosts.node("relay", relay, &["injection"]).start().await?);
            // The first parent's copies come first, so that the merge is at work when it dies.
            let path = Path { delay: Duration::from_millis(10) * distance, ..Path::default() };
            hosts.join(hosts.host(relay).address, hosts.host("egress").address, path);
        }
        let egress = hosts.node("egress", "egress", relays).start().await?;
        let tracks = [Codec::Opus, Codec::H264];
        let publisher = Whip::connect(
            &injection.url("/whip/show"),
            Some(PUBLISH_TOKEN),
            &tracks,
            whip::Options::default(),
        )
        .await?;
        let playing = tokio::spawn(async move { demo::play(&Clip::built_in(), &publisher).await });
        until("the egress has all parents and the broadcast", async || {
            let list = reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?;
            let parents = egress.metric("media_tree_link_parents{").await?;
            Ok(list.contains("\"live\"") && parents == relays.len() as f64)
        })
        .await?;
        let viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
        let playing = playing.abort_handle();
        let recording = Recording::default();
        Ok(Self { playing, viewer, recording, relays: nodes, _injection: injection, egress, hosts })
    }

    /// Records two more seconds.
    async fn watch(&mut self) -> Result {
        let enough = self.recording.track(Kind::Video).fluency().pictures + PICTURES;
        let is_enough = |so_far: &Recording| so_far.track(Kind::Video).fluency().pictures >= enough;
        self.recording.record(&mut self.viewer, is_enough).await
    }

    /// Waits until the egress takes media from this relay. Packets wait in the viewer's queue meanwhile.
    async fn until_used(&self, relay: usize) -> Result {
        until("the egress takes media from the relay", async || {
            Ok(self.relays[relay].metric("media_tree_link_destinations{").await? == 1.0)
        })
        .await
    }

    async fn assert_nothing_missing(&self, what: &str) -> Result {
        let lost = self.egress.metric("media_tree_rtp_lost_total{").await?;
        let duplicates = self.egress.metric("media_tree_rtp_duplicates_total{").await?;
        println!(
            "{what}: {}; the egress gave up {lost} and had {duplicates} twice",
            self.recording.summary()
        );
        assert_eq!(lost, 0.0, "the egress gave up packets");
        for kind in [Kind::Audio, Kind::Video] {
            let track = self.recording.track(kind);
            assert_eq!(track.missing(), [0; 0], "{kind} packets are missing");
            assert_eq!(track.backward_steps(), [], "{kind} timestamps go back");
        }
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.playing.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_relay_costs_no_packet_where_there_is_a_second_parent() -> Result {
    if !is_root("a_killed_relay_costs_no_packet_where_there_is_a_second_parent") {
        return Ok(());
    }
    let mut tree = Tree::grow(11, &["near", "far"]).await?;
    tree.until_used(1).await?;
    tree.watch().await?;
    tree.relays[0].signal("KILL")?;
    tree.watch().await?;
    tree.assert_nothing_missing("one of two relays killed").await?;

    // It comes back, and then the other one's host falls off the network.
    tree.relays[0] = tree.hosts.node("relay", "near", &["injection"]).start().await?;
    tree.until_used(0).await?;
    tree.watch().await?;
    tree.hosts.partition(tree.hosts.host("far"));
    tree.watch().await?;
    tree.assert_nothing_missing("the other one's host gone").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_parent_takes_the_place_of_a_killed_one() -> Result {
    if !is_root("a_standby_parent_takes_the_place_of_a_killed_one") {
        return Ok(());
    }
    let mut tree = Tree::grow(12, &["first", "second", "third"]).await?;
    tree.until_used(1).await?;
    tree.watch().await?;
    tree.relays[0].signal("KILL")?;
    tree.watch().await?;
    tree.until_used(2).await?;
    tree.relays[1].signal("KILL")?;
    tree.watch().await?;
    tree.assert_nothing_missing("two of three relays killed, one after the other").await
}

/// No second parent is left: the picture stands until the one that stood by has sent what the others did not.
#[tokio::test(flavor = "multi_thread")]
async fn both_relays_lost_in_one_moment_are_made_good_from_the_ring_of_a_third() -> Result {
    const NAME: &str = "both_relays_lost_in_one_moment_are_made_good_from_the_ring_of_a_third";
    if !is_root(NAME) {
        return Ok(());
    }
    let seen = losses::relays(14, 2).await?;
    println!("{NAME}: the viewer saw {seen:?}");
    assert_eq!(seen.missing, 0, "packets are missing");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_viewer_of_a_single_relay_goes_on_once_it_is_back() -> Result {
    if !is_root("the_viewer_of_a_single_relay_goes_on_once_it_is_back") {
        return Ok(());
    }
    let mut tree = Tree::grow(13, &["only"]).await?;
    tree.watch().await?;
    tree.relays[0].signal("KILL")?;
    tree.relays[0].exit_code().await?;
    tree.relays[0] = tree.hosts.node("relay", "only", &["injection"]).start().await?;
    tree.watch().await?;
    let lost = tree.egress.metric("media_tree_rtp_lost_total{").await?;
    println!("the only relay restarted: {}; the egress gave up {lost}", tree.recording.summary());
    for kind in [Kind::Audio, Kind::Video] {
        let track = tree.recording.track(kind);
        assert_eq!(track.ssrcs.len(), 1, "{kind} is another stream now");
        assert_eq!(track.backward_steps(), [], "{kind} timestamps go back");
        // Every gap of the viewer is one that the tree has counted.
        assert!(track.missing().len() as f64 <= lost, "{kind}: {:?} missing", track.missing());
    }
    // Less than QUIC takes to notice by itself that the old relay is no more.
    let pause = tree.recording.track(Kind::Video).fluency().longest_pause;
    assert!(pause < Duration::from_secs(4), "the picture stood for {pause:?}");
    Ok(())
}
