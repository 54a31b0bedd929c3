//! A tree whose nodes are processes on hosts of their own, over good and bad networks.

use std::time::Duration;

use client::demo::{self, Clip};
use client::{Whep, Whip, whip};
use model::{Codec, Kind};
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program::{Program, until};
use tests::recording::Recording;
use tests::tools::is_root;

type Result = anyhow::Result<()>;

/// Ten seconds of the clip.
const PICTURES: usize = 300;

/// One node on each host, from injection through relays to egress.
async fn chain(hosts: &Hosts, names: &[&str]) -> anyhow::Result<Vec<Program>> {
    let mut nodes = vec![hosts.node("injection", names[0], &[]).start().await?];
    for (parent, name) in names.iter().zip(&names[1..]) {
        let role = if nodes.len() + 1 == names.len() { "egress" } else { "relay" };
        nodes.push(hosts.node(role, name, &[parent]).start().await?);
    }
    Ok(nodes)
}

/// Every link between nodes becomes `path`. Publisher and viewer are as far, but lose nothing: what reaches the viewer
/// is what the tree repaired.
fn spoil(hosts: &Hosts, nodes: &[&str], path: Path) {
    for pair in nodes.windows(2) {
        hosts.join(hosts.host(pair[0]).address, hosts.host(pair[1]).address, path);
    }
    for edge in [nodes[0], nodes[nodes.len() - 1]] {
        hosts.join(hosts.here(), hosts.host(edge).address, Path { delay: path.delay, ..Path::default() });
    }
}

/// What the nodes of a chain did about bad links.
#[derive(Debug, Default)]
struct Repairs {
    /// Requests to parents for a packet.
    asked: f64,
    /// Packets that filled a gap.
    recovered: f64,
    /// Packets given up.
    lost: f64,
    /// Link datagrams and messages that were not processed.
    drops: f64,
}

async fn repairs(nodes: &[Program]) -> anyhow::Result<Repairs> {
    let mut sums = Repairs::default();
    for (index, node) in nodes.iter().enumerate() {
        let text = reqwest::get(format!("http://{}/metrics", node.ops)).await?.text().await?;
        let sum = |name: &str, label: &str| -> f64 {
            let name = format!("media_tree_{name}_total{{");
            let lines = text.lines().filter(|line| line.starts_with(&name) && line.contains(label));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        sums.drops += sum("link_drops", "");
        // The first node has no parents: its repairs are the publisher's.
        if index > 0 {
            sums.asked += sum("nacked_packets", "direction=\"out\"");
            sums.recovered += sum("rtp_recovered", "");
            sums.lost += sum("rtp_lost", "");
        }
    }
    Ok(sums)
}

/// Publishes the clip into a chain of nodes and watches ten seconds of it at the other end. Nothing may be missing.
async fn watch(name: &str, seed: u64, nodes: &[&str], path: Path) -> anyhow::Result<Repairs> {
    let hosts = Hosts::new(seed, nodes)?;
    let programs = chain(&hosts, nodes).await?;
    spoil(&hosts, nodes, path);
    let (injection, egress) = (&programs[0], &programs[programs.len() - 1]);
    let tracks = [Codec::Opus, Codec::H264];
    let publisher =
        Whip::connect(&injection.url("/whip/show"), Some(PUBLISH_TOKEN), &tracks, whip::Options::default())
            .await?;
    let playing = tokio::spawn(async move { demo::play(&Clip::built_in(), &publisher).await });
    until("the egress offers the broadcast", async || {
        let list = reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?;
        Ok(list.contains("\"live\""))
    })
    .await?;
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    let is_enough = |so_far: &Recording| so_far.track(Kind::Video).fluency().pictures >= PICTURES;
    recording.record(&mut viewer, is_enough).await?;
    playing.abort();
    let repairs = repairs(&programs).await?;
    let addresses: Vec<_> = nodes.iter().map(|node| hosts.host(node).address).collect();
    let downstream = addresses.windows(2).map(|pair| hosts.carried(pair[0], pair[1]).lost);
    println!(
        "{name}: {}; links lost {} datagrams downstream, {repairs:?}; joined in {} ms",
        recording.summary(),
        downstream.sum::<u64>(),
        viewer.joining().connected.as_millis()
    );
    for kind in [Kind::Audio, Kind::Video] {
        let track = recording.track(kind);
        // A hop asks for a lost packet every 1.2 round trips for a second. At 5 % loss and 90 ms that is 9 attempts,
        // each of which fails with a chance of 10 %: one packet in 10^9 is left over.
        assert_eq!(track.missing(), [0; 0], "{kind} packets are missing");
        assert_eq!(track.backward_steps(), [], "{kind} timestamps go back");
        assert_eq!(track.ssrcs.len(), 1, "{kind} changed its stream");
    }
    Ok(repairs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_network_needs_no_repair() -> Result {
    if !is_root("a_clean_network_needs_no_repair") {
        return Ok(());
    }
    let repairs = watch("clean", 1, &["injection", "relay", "egress"], Path::default()).await?;
    assert_eq!((repairs.asked, repairs.lost), (0.0, 0.0), "{repairs:?}");
    // Both kinds of traffic on a link's port are told apart without fail.
    assert_eq!(repairs.drops, 0.0, "{repairs:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_percent_of_loss_is_repaired_on_each_link() -> Result {
    if !is_root("one_percent_of_loss_is_repaired_on_each_link") {
        return Ok(());
    }
    let path = Path { loss: 0.01, delay: Duration::from_millis(40), ..Path::default() };
    let repairs = watch("1 % loss, 40 ms", 2, &["injection", "relay", "egress"], path).await?;
    assert!(repairs.asked > 0.0 && repairs.recovered > 0.0, "nothing was repaired: {repairs:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn five_percent_of_loss_and_reordering_are_repaired_on_each_link() -> Result {
    if !is_root("five_percent_of_loss_and_reordering_are_repaired_on_each_link") {
        return Ok(());
    }
    let path = Path {
        loss: 0.05,
        delay: Duration::from_millis(40),
        jitter: Duration::from_millis(5),
        ..Path::default()
    };
    let repairs = watch("5 % loss, 40 to 45 ms", 3, &["injection", "relay", "egress"], path).await?;
    assert!(repairs.asked > 0.0 && repairs.recovered > 0.0, "nothing was repaired: {repairs:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_in_a_row_repair_each_for_itself() -> Result {
    if !is_root("two_relays_in_a_row_repair_each_for_itself") {
        return Ok(());
    }
    let path = Path { loss: 0.02, delay: Duration::from_millis(20), ..Path::default() };
    let nodes = ["injection", "upper", "lower", "egress"];
    let repairs = watch("two relays, 2 % loss, 20 ms", 4, &nodes, path).await?;
    assert!(repairs.asked > 0.0 && repairs.recovered > 0.0, "nothing was repaired: {repairs:?}");
    Ok(())
}
