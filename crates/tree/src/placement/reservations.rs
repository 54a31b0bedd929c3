//! Places that were promised: they last until a report includes them, or for a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use model::NodeId;

use super::{RESERVATION, Stats};
use crate::{Incarnation, NodeView};

/// Promises of one kind at one node, oldest first.
#[derive(Debug, Default)]
struct Promises {
    until: VecDeque<Instant>,
    reported: u32,
}

impl Promises {
    /// A report came. Those who came since the last one had a promise, as far as anybody can tell.
    fn report(&mut self, reported: u32) {
        let arrived = reported.saturating_sub(self.reported) as usize;
        self.until.drain(..arrived.min(self.until.len()));
        self.reported = reported;
    }

    fn expire(&mut self, now: Instant) -> u64 {
        let expired = self.until.partition_point(|until| *until <= now);
        self.until.drain(..expired);
        expired as u64
    }
}

#[derive(Debug)]
struct Held {
    incarnation: Incarnation,
    viewers: Promises,
    publishers: Promises,
}

/// Promises at all nodes.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    nodes: BTreeMap<NodeId, Held>,
    is_frozen: bool,
    expired: u64,
}

/// What is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Viewer,
    Publisher,
}

impl Reservations {
    /// Reports came. A node's restart ends its promises: who was on the way finds another process.
    pub fn update(&mut self, now: Instant, nodes: &[NodeView]) {
        let mut before = std::mem::take(&mut self.nodes);
        for node in nodes.iter().filter(|node| node.health.is_alive()) {
            let incarnation = node.incarnation;
            let fresh =
                || Held { incarnation, viewers: Promises::default(), publishers: Promises::default() };
            let mut held =
                before.remove(&node.id).filter(|held| held.incarnation == incarnation).unwrap_or_else(fresh);
            if let Some(load) = node.load {
                held.viewers.report(load.viewers);
                held.publishers.report(load.publishers);
            }
            self.nodes.insert(node.id.clone(), held);
        }
        if !self.is_frozen {
            for held in self.nodes.values_mut() {
                self.expired += held.viewers.expire(now) + held.publishers.expire(now);
            }
        }
    }

    /// How many are promised at this node and still count.
    pub fn count(&self, now: Instant, node: &NodeId, kind: Kind) -> u64 {
        let Some(held) = self.nodes.get(node) else { return 0 };
        let until = match kind {
            Kind::Viewer => &held.viewers.until,
            Kind::Publisher => &held.publishers.until,
        };
        let expired = if self.is_frozen { 0 } else { until.partition_point(|until| *until <= now) };
        (until.len() - expired) as u64
    }

    /// One more. Bounded by the places of the node: who is full is promised nothing.
    pub fn add(&mut self, now: Instant, node: &NodeId, kind: Kind) {
        if let Some(held) = self.nodes.get_mut(node) {
            let until = match kind {
                Kind::Viewer => &mut held.viewers.until,
                Kind::Publisher => &mut held.publishers.until,
            };
            until.push_back(now + RESERVATION);
        }
    }

    pub const fn freeze(&mut self) {
        self.is_frozen = true;
    }

    pub fn thaw(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_frozen) {
            let all = self.nodes.values_mut().flat_map(|held| [&mut held.viewers, &mut held.publishers]);
            all.flat_map(|promises| &mut promises.until).for_each(|until| *until = now + RESERVATION);
        }
    }

    pub fn stats(&self) -> Stats {
        let all = self.nodes.values().map(|held| held.viewers.until.len() + held.publishers.until.len());
        Stats { reserved: all.sum::<usize>() as u64, expired: self.expired }
    }
}
