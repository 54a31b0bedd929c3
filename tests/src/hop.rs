//! What the way through the tree takes: one picture seen behind a relay and beside it.
//!
//! Publisher and viewers live in one process and share its clock; each packet carries the moment at which the publisher
//! handed the picture to its WebRTC stack, each viewer notes the moment at which its task read the packet from the
//! socket. So a delay contains both clients' stacks and their scheduling beside the nodes and is an upper bound for what
//! the tree adds. The difference between two viewers of the same picture, one behind a relay and one not, is free of the
//! publisher's part: what one more process on the way costs.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::Whep;
use futures_util::future::try_join_all;
use model::Kind;

use crate::program::{self, PATIENCE, Program, until};
use crate::source::{Seen, Seens, Shape, Source, percentile};

/// Pictures before the first that counts: some come from the egress node's memory.
const UNSETTLED: usize = 30;

/// Delays of the same pictures, sorted.
#[derive(Debug)]
pub struct Delays {
    /// Of the first packet of each picture, through injection, relay and egress.
    pub first: Vec<Duration>,
    /// Of the whole picture, on the same way.
    pub far: Vec<Duration>,
    /// Of the whole picture, through injection and egress.
    pub near: Vec<Duration>,
    /// What the relay adds to the whole picture.
    pub added: Vec<Duration>,
    /// Packets that never came, to either.
    pub missing: u64,
}

/// Publishes 2.5 Mbit/s and measures `pictures` of them.
///
/// # Errors
/// If a node does not start, a link breaks, or packets stop coming.
pub async fn measure(pictures: usize) -> anyhow::Result<Delays> {
    let injection = program::node("injection").start().await?;
    let start = async |role, parent: &Program| {
        let parent = format!("127.0.0.1:{}", parent.link_port);
        program::node(role).with(&["--parents", &parent]).start().await
    };
    let relay = start("relay", &injection).await?;
    let (far_node, near_node) = (start("egress", &relay).await?, start("egress", &injection).await?);
    let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
    let watching = [&far_node, &near_node].map(|egress| watch(egress, pictures + UNSETTLED));
    let seens = try_join_all(watching).await?;
    for node in [&relay, &far_node, &near_node] {
        ensure!(!node.log().contains("ParentSilent"), "links hold: {}", node.log());
    }
    let [far, near] = &seens[..] else { unreachable!("two viewers") };
    Ok(Delays::of(&source, (far, near), pictures))
}

async fn watch(egress: &Program, count: usize) -> anyhow::Result<Seens> {
    until("the broadcast is known", || async {
        Ok(reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?.contains("\"live\""))
    })
    .await?;
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    let mut seens = Seens::default();
    let mut pictures = 0;
    while pictures < count {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no packet")?;
        let packet = packet.context("the session ended")?;
        pictures += usize::from(packet.kind == Kind::Video && packet.marker);
        seens.add(&packet);
    }
    Ok(seens)
}

impl Delays {
    fn of(source: &Source, (far, near): (&Seens, &Seens), count: usize) -> Self {
        let settled = |seens: &Seens| {
            let pictures = seens.pictures();
            pictures[pictures.len().saturating_sub(count)..].to_vec()
        };
        let (far_pictures, near_pictures) = (settled(far), settled(near));
        let age = |seen: &Seen| Some(source.age(&seen.stamp?, seen.arrival));
        let sorted = |delays: &mut dyn Iterator<Item = Duration>| {
            let mut delays: Vec<Duration> = delays.collect();
            delays.sort_unstable();
            delays
        };
        let earliest = far_pictures.first().and_then(|seen| Some(seen.stamp?.frame)).unwrap_or(0);
        let is_first =
            |seen: &&Seen| seen.stamp.is_some_and(|stamp| stamp.index == 0 && stamp.frame >= earliest);
        let at_near = |frame| {
            let is_it = |seen: &&Seen| seen.stamp.is_some_and(|stamp| stamp.frame == frame);
            near_pictures.iter().find(is_it).map(|seen| seen.arrival)
        };
        let more = |seen: &Seen| Some(seen.arrival.saturating_duration_since(at_near(seen.stamp?.frame)?));
        Self {
            first: sorted(&mut far.all().iter().filter(is_first).filter_map(age)),
            far: sorted(&mut far_pictures.iter().filter_map(age)),
            near: sorted(&mut near_pictures.iter().filter_map(age)),
            added: sorted(&mut far_pictures.iter().filter_map(more)),
            missing: far.missing() + near.missing(),
        }
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |delays: &[Duration]| {
            let mut delays = delays.to_vec();
            let [median, late] =
                [50, 99].map(|percent| percentile(&mut delays, percent).as_secs_f64() * 1000.0);
            format!("p50 {median:.1} ms, p99 {late:.1} ms")
        };
        write!(
            f,
            "injection, relay, egress: first packet of a picture {}, whole picture {}; injection, egress: whole picture {}; \
             the relay adds {}; {} packets missing",
            part(&self.first),
            part(&self.far),
            part(&self.near),
            part(&self.added),
            self.missing
        )
    }
}
