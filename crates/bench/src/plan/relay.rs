//! A relay with 1 to 64 children: what it costs to forward a packet.
//!
//! The children are egress nodes on the other host, each with one viewer, as a node takes a broadcast only while
//! somebody wants it.

use std::collections::VecDeque;

use anyhow::Context as _;

use super::{ON_AIR, Part, profile};
use crate::load::{self, Audience, Media, Pacing};
use crate::machine;
use crate::network::Side;
use crate::process::{Place, Running};
use crate::record::{self, Record};
use crate::servers::{BROADCAST, LIMITS};

const CHILDREN: [usize; 4] = [1, 4, 16, 64];
const CLUSTER_KEY: &str = "one-secret-for-all-nodes-of-a-bench";
/// A node takes consecutive ports from here on: HTTP, operations, link, publishers, viewers.
const FIRST_PORT: u16 = 30_000;
const PORTS_A_NODE: u16 = 8;

/// Measures with more and more children.
///
/// # Errors
/// If a node does not start or the viewers fail.
pub async fn measure(place: &Place, seconds: u32) -> anyhow::Result<Vec<Record>> {
    let most = CHILDREN.iter().copied().max().context("no children")?;
    let mut nodes = VecDeque::new();
    for role in ["injection", "relay"] {
        nodes.push_back(start(place, Side::Server, role, nodes.len()).await?);
    }
    for number in 0..most {
        nodes.push_back(start(place, Side::Viewers, "egress", number + 2).await?);
    }
    let http = |side: Side, number| format!("http://{}:{}", side.address(), port(number));
    let whip = format!("{}/whip/{BROADCAST}", http(Side::Server, 0));
    let publisher = load::publish(place, &whip, Media::usual(Pacing::Burst))?;
    let whep = |child: usize| format!("{}/whep/{BROADCAST}", http(Side::Viewers, child + 2));
    let mut measured = Vec::new();
    for children in CHILDREN {
        let urls: Vec<String> = (0..children).map(whep).collect();
        measured.push(Record::Relay(run(place, &nodes[1], &urls, seconds).await?));
    }
    let urls: Vec<String> = (0..most).map(whep).collect();
    measured.push(profiled(place, &nodes[1], &urls, seconds).await?);
    publisher.end().await;
    for node in nodes {
        node.end().await;
    }
    Ok(measured)
}

fn port(number: usize) -> u16 {
    FIRST_PORT + number as u16 * PORTS_A_NODE
}

/// A node of this role; the relay's parent is the injection, everybody else's is the relay.
async fn start(place: &Place, side: Side, role: &str, number: usize) -> anyhow::Result<Running> {
    let first = port(number);
    let http = format!("{}:{first}", side.address());
    let ops = format!("127.0.0.1:{}", first + 1);
    let [link, ingest, media] = [2, 3, 4].map(|offset| (first + offset).to_string());
    let parent = format!("{}:{}", Side::Server.address(), port(number.clamp(1, 2) - 1) + 2);
    let mut arguments = vec![role, "--http", &http, "--ops", &ops, "--insecure-http"];
    arguments.extend(["--link-port", &link, "--ingest-port", &ingest, "--media-port", &media]);
    arguments.extend(["--shards", "1", "--cluster-key", CLUSTER_KEY, "--broadcasts", BROADCAST]);
    arguments.extend(LIMITS);
    if number > 0 {
        arguments.extend(["--parents", &parent]);
    }
    let mut node = place.start(side, "media-tree", &arguments)?;
    place.until_ready(side, &ops, &mut node).await?;
    Ok(node)
}

/// Once more with the most children, for a profile.
async fn profiled(place: &Place, relay: &Running, urls: &[String], seconds: u32) -> anyhow::Result<Record> {
    let audience = Audience { viewers: urls.len() as u32, join_rate: 50, seconds, takes_trains: false };
    let watching = load::watch(place, urls, profile::longer(audience))?;
    tokio::time::sleep(profile::MARGIN).await;
    let functions = profile::perf(place, relay, seconds).await;
    let (seen, _) = watching.finished().await?;
    let spent = relay.meter.cpu_seconds((seen.window.start_unix_ms, seen.window.end_unix_ms));
    Ok(Record::Profile(record::Profile {
        part: Part::Relay,
        of: format!("The relay, {} children", urls.len()),
        packet_ns: spent * 1e9 / seen.packets.delivered.max(1) as f64,
        functions: functions?,
    }))
}

async fn run(place: &Place, relay: &Running, urls: &[String], seconds: u32) -> anyhow::Result<record::Relay> {
    tokio::time::sleep(ON_AIR).await;
    let audience = Audience { viewers: urls.len() as u32, join_rate: 50, seconds, takes_trains: false };
    let (seen, _) = load::watch(place, urls, audience)?.finished().await?;
    let window = (seen.window.start_unix_ms, seen.window.end_unix_ms);
    let relay = record::Relay {
        children: audience.viewers,
        packets: seen.packets.delivered,
        cpu_seconds: relay.meter.cpu_seconds(window),
        seconds: (window.1 - window.0) / 1000.0,
        latency_ms: seen.latency_frame_ms.unwrap_or_default(),
        load_average: machine::load_average(),
    };
    println!("relay, {} children: {:.0} ns for each packet forwarded", relay.children, relay.packet_ns());
    Ok(relay)
}
