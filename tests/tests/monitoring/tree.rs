//! A tree in use, everything of which that is measured is moved.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepPeer, Whip, WhipPeer, demo, whip};
use model::{Codec, Kind};
use serde_json::json;
use tests::detour::Detour;
use tests::installation::{Installation, until_live, until_parents};
use tests::offers;
use tests::program::{self, LINK_PORT, PATIENCE, Program, until};
use tests::udp_way::UdpWay;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::{Result, succeeds};

pub const OPENSSL: &str = "/usr/bin/openssl";
/// All that ffmpeg sends to publish `show`, and its media; see `crates/rtmp/tests`.
const OVER_RTMP: &[u8] = include_bytes!("../../../crates/rtmp/tests/data/ffmpeg-h264-aac.rtmp");
/// A second of pictures.
const PICTURES: usize = 30;
/// Of a hundred packets so many are lost on links: each is asked for fifty times, and some are lost each time.
const LINK_LOST_PERCENT: u32 = 95;
/// The same of a publisher, whose packets are asked for ten times.
const PUBLISHER_LOST_PERCENT: u32 = 75;
/// The same of a viewer, who reports it.
const VIEWER_LOST_PERCENT: u32 = 20;

/// Two relays, so that there are two parents; an egress under a supervisor; one node speaks HTTPS.
pub struct Nodes {
    pub injection: Program,
    pub relays: Vec<Program>,
    pub egress: Program,
    /// Of another tree, which is to keep a reserve as soon as it is made.
    spare: Program,
    /// From the relays to the injection node.
    link: UdpWay,
    _certificate: tempfile::TempDir,
}

impl Nodes {
    /// Starts all of them at once.
    pub async fn start(controller: &Program) -> anyhow::Result<Self> {
        let certificate = certificate()?;
        let file = |name: &str| certificate.path().join(name).display().to_string();
        let installation = Installation::of(controller);
        let ports = program::free_ports()?;
        let link = UdpWay::to(ports + LINK_PORT).await?;
        let public = format!("127.0.0.1:{}", link.port);
        let injection = installation.node("injection", "in").from_port(ports);
        let injection = injection.with(&["--region", "here", "--link-public", &public]).spawn()?;
        let (crt, key) = (file("tls.crt"), file("tls.key"));
        let tls = ["--tls-certificate", &crt, "--tls-key", &key];
        let there = ["--region", "there"];
        let mut relays = Vec::new();
        for (name, more) in [("relay-1", &tls[..]), ("relay-2", &[][..])] {
            relays.push(installation.node("relay", name).with(&there).with(more).spawn()?);
        }
        let egress = installation.node("egress", "out").with(&there).supervised().spawn()?;
        let spare = installation.node("relay", "spare").with(&["--tree-id=spare"]).spawn()?;
        for node in relays.iter().chain([&injection, &egress, &spare]) {
            node.until_ready().await?;
        }
        until_parents(controller, "out", &["relay-1", "relay-2"]).await?;
        Ok(Self { injection, relays, egress, spare, link, _certificate: certificate })
    }
}

/// Who publishes and watches.
struct Clients {
    /// The viewer.
    viewer: JoinHandle<()>,
    session: String,
    /// The ways of the viewer, and of a publisher whose line is bad.
    ways: [UdpWay; 2],
    others: Vec<JoinHandle<()>>,
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.others.iter().chain([&self.viewer]).for_each(JoinHandle::abort);
    }
}

/// A whole installation.
pub struct Tree {
    /// They go first.
    clients: Option<Clients>,
    pub controller: Program,
    pub nodes: Nodes,
}

impl Tree {
    /// What begins it, and the tree, which may grow and keeps no nodes in reserve: there is no port for them. The tree of this
    /// controller itself has no other node.
    pub async fn controller(homes: &Path) -> anyhow::Result<Program> {
        let directory = homes.join("nodes").display().to_string();
        let scaling = ["--scaling=on", "--scaling-port=65535", "--scaling-directory", &directory];
        let controller =
            program::node("controller").with(&["--tree-id=operations"]).with(&scaling).start().await?;
        make_tree(&controller, "main", Slots { warm: 0, cold: 1 }).await?;
        Ok(controller)
    }

    pub fn new(controller: Program, nodes: Nodes) -> Self {
        Self { clients: None, controller, nodes }
    }

    pub fn all(&self) -> Vec<&Program> {
        let Nodes { injection, relays, egress, spare, .. } = &self.nodes;
        relays.iter().chain([&self.controller, injection, egress, spare]).collect()
    }

    /// Everybody comes: publishers with the built-in clip, one of them over a line that may be bad; an encoder over RTMP; one
    /// who cannot connect; a viewer.
    pub async fn play(&mut self) -> Result {
        let Nodes { injection, egress, .. } = &self.nodes;
        let codecs = [Codec::Opus, Codec::H264];
        let publisher =
            Whip::connect(&injection.url("/whip/show"), None, &codecs, whip::Options::default()).await?;
        let Detour { peer: bad, way: bad_line, .. } =
            Detour::<WhipPeer>::publish(&injection.url("/whip/bad-line"), &codecs).await?;
        let over_rtmp = publish_over_rtmp(injection.rtmp);
        let others = vec![
            tokio::spawn(async move {
                let _ = demo::play(&demo::Clip::built_in(), &publisher).await;
            }),
            tokio::spawn(async move {
                let _ = demo::play(&demo::Clip::built_in(), &bad).await;
            }),
            tokio::spawn(async move { over_rtmp.await.expect("an encoder over RTMP") }),
        ];
        a_broadcaster_is_blocked(injection).await?;
        make_tree(&self.controller, "spare", Slots { warm: 1, cold: 0 }).await?;
        until_live(egress, "show").await?;
        let Detour { mut peer, way, session } = Detour::<WhepPeer>::watch(&egress.url("/whep/show")).await?;
        receive(&mut peer, PICTURES).await?;
        self.clients = Some(Clients {
            viewer: tokio::spawn(async move { while peer.receive().await.is_some() {} }),
            session,
            ways: [way, bad_line],
            others,
        });
        Ok(())
    }

    /// One more viewer: what is counted as it comes has been looked at before.
    pub async fn another_comes(&mut self) -> Result {
        let mut viewer = Whep::connect(&self.nodes.egress.url("/whep/show"), None).await?;
        receive(&mut viewer, PICTURES).await?;
        let watching = tokio::spawn(async move { while viewer.receive().await.is_some() {} });
        self.clients.as_mut().context("clients")?.others.push(watching);
        Ok(())
    }

    /// From now on packets are lost, or none are.
    pub fn lose(&self, are_lost: bool) {
        let percent = |percent| if are_lost { percent } else { 0 };
        self.nodes.link.lose(percent(LINK_LOST_PERCENT));
        if let Some(Clients { ways: [viewer, publisher], .. }) = &self.clients {
            viewer.lose(percent(VIEWER_LOST_PERCENT));
            publisher.lose(percent(PUBLISHER_LOST_PERCENT));
        }
    }

    /// The node of the other tree is to take nobody any more, and the controller counts it so.
    pub async fn drain(&self) -> Result {
        let order = reqwest::Client::new().post(self.controller.url("/api/v1/nodes/spare/drain"));
        let answer = order.json(&json!({ "deadline_secs": 60 })).send().await?;
        ensure!(answer.status() == 202, "a drain: {}", answer.status());
        until("it drains", async || {
            let draining = r#"role="relay",state="draining""#;
            Ok(self.controller.metric_with("media_tree_controller_nodes{", draining).await? == 1.0)
        })
        .await
    }

    /// Waits until what takes longest has come.
    pub async fn until_all_is_moved(&self) -> Result {
        let Nodes { injection, relays, egress, .. } = &self.nodes;
        let bad_line = r#"broadcast="bad-line""#;
        for (node, name, label) in [
            (injection, "media_tree_publisher_advice{", ""),
            (injection, "media_tree_rtmp_audio_frames_total{", r#"fate="recoded""#),
            (injection, "media_tree_publisher_rtp_lost_total{", bad_line),
            (injection, "media_tree_publisher_rtp_recovered_total{", bad_line),
            (&relays[0], "media_tree_rtp_lost_total{", ""),
            (&relays[0], "media_tree_rtp_recovered_total{", ""),
            (egress, "media_tree_viewer_loss_ratio_sum{", ""),
            (&self.controller, "media_tree_provision_failures_total{", r#"reason="refused""#),
        ] {
            until(&format!("{name} is moved"), async || Ok(node.metric_with(name, label).await? > 0.0))
                .await?;
        }
        Ok(())
    }

    /// What our player reports after some seconds; it is a page, and browsers are for other tests.
    pub async fn player_reports(&self) -> Result {
        let session = &self.clients.as_ref().context("a viewer")?.session;
        let report = r#"{"firstFrameMs":250,"latencyMs":180,"watchedMs":5000,"freezes":1,"freezeMs":30,
                         "packetsReceived":1000,"packetsLost":1}"#;
        let answer = reqwest::Client::new().post(format!("{session}/beacon")).body(report).send().await?;
        ensure!(answer.status() == 204, "a player's report: {}", answer.status());
        Ok(())
    }
}

/// What a tree may grow by: one that has neither does not, and its places are not counted.
struct Slots {
    warm: u32,
    cold: u32,
}

async fn make_tree(controller: &Program, id: &str, Slots { warm, cold }: Slots) -> Result {
    let shape = json!({ "id": id, "template": "standard", "warm_slots": warm, "cold_slots": cold });
    let made = reqwest::Client::new().post(controller.url("/api/v1/trees")).json(&shape).send().await?;
    ensure!(made.status() == 201, "{}", made.text().await?);
    Ok(())
}

async fn receive(viewer: &mut WhepPeer, pictures: usize) -> Result {
    let mut count = 0;
    while count < pictures {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no media comes")?;
        let packet = packet.context("the session ended")?;
        count += usize::from(packet.kind == Kind::Video && packet.marker);
    }
    Ok(())
}

/// A publisher of whom nothing comes over UDP: there is something to advise.
async fn a_broadcaster_is_blocked(injection: &Program) -> Result {
    let request = reqwest::Client::new().post(injection.url("/whip/blocked"));
    let request = request.header("Content-Type", "application/sdp");
    let answer = request.body(offers::crlf(offers::CHROMIUM_PUBLISHER)).send().await?;
    ensure!(answer.status() == 201, "{}", answer.status());
    Ok(())
}

/// An encoder that publishes `tape` over RTMP again and again: after its recording it falls silent, and is sent away.
async fn publish_over_rtmp(listener: SocketAddr) -> Result {
    let mut recording = OVER_RTMP.to_vec();
    let media = recording.windows(4).rposition(|bytes| bytes == b"live").context("the end of `publish`")?;
    while let Some(at) = recording[..media].windows(4).position(|bytes| bytes == b"show") {
        recording[at..at + 4].copy_from_slice(b"tape");
    }
    loop {
        let mut stream = TcpStream::connect(listener).await?;
        stream.write_all(&recording).await?;
        let mut answers = Vec::new();
        let _until_the_end = stream.read_to_end(&mut answers).await;
    }
}

/// A certificate of our own for 127.0.0.1, and its key.
fn certificate() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (key, crt) = (file("tls.key"), file("tls.crt"));
    let request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost";
    let mut arguments: Vec<&str> = request.split(' ').collect();
    arguments.extend(["-keyout", &key, "-out", &crt]);
    succeeds(OPENSSL, &arguments)?;
    Ok(folder)
}
