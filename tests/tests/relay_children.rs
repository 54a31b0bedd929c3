//! A relay and its children: each gets every packet, whatever becomes of the others.

use std::net::{Ipv4Addr, SocketAddr};

use model::BroadcastId;
use tests::lean_child::{LeanChild, Received};
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};

const CLUSTER_KEY: &str = "a-cluster-of-one-machine";
const CHILDREN: usize = 16;
/// Ten seconds of sound and picture.
const PACKETS: u64 = 3000;

/// An injection with a publisher, and a relay below it.
struct Tree {
    relay: Program,
    _source: Source,
    _injection: Program,
}

impl Tree {
    async fn grow() -> anyhow::Result<Self> {
        let key = ["--cluster-key", CLUSTER_KEY, "--link-address", "127.0.0.1"];
        let injection = program::node("injection").with(&key).start().await?;
        let parent = format!("127.0.0.1:{}", injection.link_port);
        let relay = program::node("relay").with(&key).with(&["--parents", &parent]).start().await?;
        let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
        until("the relay knows the broadcast", async || {
            let text = reqwest::get(format!("http://{}/metrics", relay.ops)).await?.text().await?;
            Ok(text.contains("media_tree_link_destinations{"))
        })
        .await?;
        Ok(Self { relay, _source: source, _injection: injection })
    }

    async fn child(&self, number: usize) -> anyhow::Result<LeanChild> {
        let parent = SocketAddr::from((Ipv4Addr::LOCALHOST, self.relay.link_port));
        let show = BroadcastId::new("show")?;
        LeanChild::join((parent, CLUSTER_KEY), &format!("child-{number}"), &[show]).await
    }

    async fn until_children(&self, count: usize) -> anyhow::Result<()> {
        until("the relay forwards to so many", async || {
            Ok(self.relay.metric("media_tree_link_destinations{").await? == count as f64)
        })
        .await
    }
}

async fn until_fed(children: &[LeanChild], packets: u64) -> anyhow::Result<()> {
    until("each child has so many packets", async || {
        Ok(children.iter().all(|child| child.received().packets >= packets))
    })
    .await
}

fn assert_nothing_missing(children: &[LeanChild]) {
    for (number, child) in children.iter().enumerate() {
        let received = child.received();
        let expected = Received {
            streams: 2,
            packets: received.packets,
            trains: received.trains,
            ..Received::default()
        };
        assert_eq!(received, expected, "child {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_child_gets_every_packet_once_and_dead_ones_are_forgotten() -> anyhow::Result<()> {
    let tree = Tree::grow().await?;
    let mut children = Vec::new();
    for number in 0..CHILDREN {
        children.push(tree.child(number).await?);
    }
    tree.until_children(CHILDREN).await?;
    until_fed(&children, PACKETS / 2).await?;
    assert_nothing_missing(&children);

    // Half of them die without a word. The kernel answers for their ports with errors meanwhile.
    children.truncate(CHILDREN / 2);
    until_fed(&children, PACKETS).await?;
    tree.until_children(CHILDREN / 2).await?;
    assert_nothing_missing(&children);
    let sent = tree.relay.metric("media_tree_rtp_packets_total{").await?;
    assert!(sent >= (PACKETS * CHILDREN as u64 / 2) as f64, "{sent} packets counted");
    assert_eq!(tree.relay.metric("media_tree_rtp_resent_total{").await?, 0.0);
    Ok(())
}
