//! Places that were promised: they last until a report includes them, or for a while.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use model::NodeId;

use super::{RESERVATION, Stats};
use crate::{Incarnation, NodeView, Rate};

/// Promises of one kind at one node, oldest first.
#[derive(Debug, Default)]
struct Promises {
    /// Until when each lasts, and what of the network is kept with it.
    kept: VecDeque<(Instant, Rate)>,
    /// Of the network, with all of them.
    rate: Rate,
    reported: u32,
}

impl Promises {
    /// A report came. Those who came since the last one had a promise, as far as anybody can tell.
    fn report(&mut self, reported: u32) {
        let arrived = reported.saturating_sub(self.reported) as usize;
        self.drop_first(arrived.min(self.kept.len()));
        self.reported = reported;
    }

    fn expire(&mut self, now: Instant) -> u64 {
        let expired = self.expired(now);
        self.drop_first(expired);
        expired as u64
    }

    fn drop_first(&mut self, count: usize) {
        self.rate = self.rate.less(self.rate_of_first(count));
        self.kept.drain(..count);
    }

    fn rate_of_first(&self, count: usize) -> Rate {
        self.kept.range(..count).fold(Rate::default(), |sum, (_, rate)| sum.plus(*rate))
    }

    fn expired(&self, now: Instant) -> usize {
        self.kept.partition_point(|(until, _)| *until <= now)
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

/// What is promised at a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Promised {
    pub count: u64,
    /// What of the network is kept for them.
    pub rate: Rate,
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

    /// What is promised at this node and still counts.
    pub fn count(&self, now: Instant, node: &NodeId, kind: Kind) -> Promised {
        let Some(held) = self.nodes.get(node) else { return Promised::default() };
        let promises = match kind {
            Kind::Viewer => &held.viewers,
            Kind::Publisher => &held.publishers,
        };
        let expired = if self.is_frozen { 0 } else { promises.expired(now) };
        let count = (promises.kept.len() - expired) as u64;
        Promised { count, rate: promises.rate.less(promises.rate_of_first(expired)) }
    }

    /// One more. Bounded by the places of the node: who is full is promised nothing.
    pub fn add(&mut self, now: Instant, node: &NodeId, (kind, rate): (Kind, Rate)) {
        if let Some(held) = self.nodes.get_mut(node) {
            let promises = match kind {
                Kind::Viewer => &mut held.viewers,
                Kind::Publisher => &mut held.publishers,
            };
            promises.rate = promises.rate.plus(rate);
            promises.kept.push_back((now + RESERVATION, rate));
        }
    }

    pub const fn freeze(&mut self) {
        self.is_frozen = true;
    }

    pub fn thaw(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_frozen) {
            let all = self.nodes.values_mut().flat_map(|held| [&mut held.viewers, &mut held.publishers]);
            all.flat_map(|promises| &mut promises.kept).for_each(|(until, _)| *until = now + RESERVATION);
        }
    }

    pub fn stats(&self) -> Stats {
        let all = self.nodes.values().map(|held| held.viewers.kept.len() + held.publishers.kept.len());
        Stats { reserved: all.sum::<usize>() as u64, expired: self.expired }
    }
}
