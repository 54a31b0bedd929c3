//! The seeded network between nodes, and between nodes and viewers.
//!
//! Datagrams (link media, unreliable link messages, everything of viewers) are lost, late, overtaken and doubled.
//! Reliable link messages are never lost and never overtake each other: what is lost is sent again and comes later. A
//! partition swallows datagrams and holds reliable messages back until it heals. Everything arrives at whole
//! milliseconds, as if sockets were read that often: so what comes at once is one batch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::ViewerId;
use link::exchange::PeerId;

use crate::random::Random;
use crate::tap::Opened;

/// Arrivals are rounded up to this.
const GRID: Duration = Duration::from_millis(1);
/// How often a reliable message is lost at most before it comes through.
const RESENDS_MAX: u32 = 4;

/// One node of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeIndex(pub(crate) usize);

/// What datagrams suffer on a way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// Share that is lost, 0 to 1.
    pub loss: f64,
    /// Share that comes twice, 0 to 1.
    pub duplicate: f64,
    /// Time that every datagram takes at least.
    pub delay: Duration,
    /// What is added at most; a datagram with little of it overtakes one with much.
    pub jitter: Duration,
}

impl Conditions {
    /// Nothing but 5 ms.
    pub const PERFECT: Self =
        Self { loss: 0.0, duplicate: 0.0, delay: Duration::from_millis(5), jitter: Duration::ZERO };
    /// A bad day between data centres.
    pub const LOSSY: Self = Self {
        loss: 0.02,
        duplicate: 0.005,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(4),
    };
    /// A home with wireless.
    pub const HOME: Self = Self {
        loss: 0.01,
        duplicate: 0.002,
        delay: Duration::from_millis(15),
        jitter: Duration::from_millis(8),
    };
    /// Hardly usable.
    pub const BAD: Self = Self {
        loss: 0.08,
        duplicate: 0.02,
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(25),
    };
}

/// What arrives.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// A link media datagram.
    Media {
        /// Where.
        to: NodeIndex,
        /// From which address.
        from: SocketAddr,
        /// The datagram.
        wire: Bytes,
    },
    /// An encoded link message.
    Message {
        /// At which end of a channel.
        to: PeerId,
        /// The message.
        bytes: Rc<[u8]>,
    },
    /// A datagram of an egress node.
    ToViewer {
        /// Who gets it.
        viewer: ViewerId,
        /// What it was when it was opened with the viewer's key.
        opened: Rc<Opened>,
    },
    /// SRTCP of a viewer.
    FromViewer {
        /// Who sent it.
        viewer: ViewerId,
        /// The datagram.
        datagram: Rc<[u8]>,
    },
}

/// Reliable messages that a partition holds back.
#[derive(Debug)]
struct Stuck {
    between: (NodeIndex, NodeIndex),
    delay: Duration,
    messages: VecDeque<Rc<[u8]>>,
}

/// Everything that is on its way.
#[derive(Debug)]
pub struct Network {
    start: Instant,
    random: Random,
    queue: BTreeMap<(Instant, u64), Delivery>,
    count: u64,
    cuts: BTreeSet<(NodeIndex, NodeIndex)>,
    /// When the last reliable message to each end arrives.
    in_order: BTreeMap<PeerId, Instant>,
    stuck: BTreeMap<PeerId, Stuck>,
}

impl Network {
    /// An empty network; `start` is where the grid of arrivals begins.
    #[must_use]
    pub const fn new(start: Instant, random: Random) -> Self {
        Self {
            start,
            random,
            queue: BTreeMap::new(),
            count: 0,
            cuts: BTreeSet::new(),
            in_order: BTreeMap::new(),
            stuck: BTreeMap::new(),
        }
    }

    /// Sends a datagram to or from a viewer.
    pub fn datagram(&mut self, now: Instant, conditions: &Conditions, delivery: Delivery) {
        if self.random.happens(conditions.loss) {
            return;
        }
        if self.random.happens(conditions.duplicate) {
            let at = self.arrival(now, conditions);
            self.enqueue(at, delivery.clone());
        }
        let at = self.arrival(now, conditions);
        self.enqueue(at, delivery);
    }

    /// Sends a datagram between two nodes.
    pub fn link_datagram(
        &mut self,
        now: Instant,
        conditions: &Conditions,
        between: (NodeIndex, NodeIndex),
        delivery: Delivery,
    ) {
        if !self.is_cut(between) {
            self.datagram(now, conditions, delivery);
        }
    }

    /// Sends a reliable message to the end `to` of a channel between two nodes.
    pub fn reliable(
        &mut self,
        now: Instant,
        conditions: &Conditions,
        between: (NodeIndex, NodeIndex),
        to: PeerId,
        bytes: Rc<[u8]>,
    ) {
        if self.is_cut(between) {
            let new = || Stuck { between, delay: conditions.delay, messages: VecDeque::new() };
            self.stuck.entry(to).or_insert_with(new).messages.push_back(bytes);
            return;
        }
        let mut at = self.arrival(now, conditions);
        for _ in 0..RESENDS_MAX {
            if self.random.happens(conditions.loss) {
                at += conditions.delay * 3;
            }
        }
        self.enqueue_in_order(at, to, bytes);
    }

    /// A channel is gone, and with it all that was on its way to this end.
    pub fn forget(&mut self, end: PeerId) {
        self.in_order.remove(&end);
        self.stuck.remove(&end);
    }

    /// Nothing passes between the two any more.
    pub fn cut(&mut self, one: NodeIndex, other: NodeIndex) {
        self.cuts.insert(ordered((one, other)));
    }

    /// Everything passes again.
    pub fn heal(&mut self, now: Instant, one: NodeIndex, other: NodeIndex) {
        let between = ordered((one, other));
        self.cuts.remove(&between);
        let is_freed = |stuck: &Stuck| ordered(stuck.between) == between;
        let freed: Vec<_> =
            self.stuck.iter().filter(|(_, stuck)| is_freed(stuck)).map(|(end, _)| *end).collect();
        for end in freed {
            let Some(stuck) = self.stuck.remove(&end) else { continue };
            // The sender's next probe finds out.
            let at = now + stuck.delay * 3;
            stuck.messages.into_iter().for_each(|bytes| self.enqueue_in_order(at, end, bytes));
        }
    }

    /// Whether nothing passes between the two.
    #[must_use]
    pub fn is_cut(&self, between: (NodeIndex, NodeIndex)) -> bool {
        self.cuts.contains(&ordered(between))
    }

    /// The pairs between which nothing passes.
    #[must_use]
    pub fn cuts(&self) -> Vec<(NodeIndex, NodeIndex)> {
        self.cuts.iter().copied().collect()
    }

    /// When something arrives next.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// What has arrived; call until `None`.
    pub fn pop(&mut self, now: Instant) -> Option<Delivery> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn enqueue_in_order(&mut self, at: Instant, to: PeerId, bytes: Rc<[u8]>) {
        let at = self.in_order.get(&to).map_or(at, |last| at.max(*last));
        self.in_order.insert(to, at);
        self.enqueue(at, Delivery::Message { to, bytes });
    }

    fn enqueue(&mut self, at: Instant, delivery: Delivery) {
        let since = at.saturating_duration_since(self.start).as_nanos();
        let slots = since.div_ceil(GRID.as_nanos()) as u32;
        self.count += 1;
        self.queue.insert((self.start + GRID * slots, self.count), delivery);
    }

    fn arrival(&mut self, now: Instant, conditions: &Conditions) -> Instant {
        let jitter = match conditions.jitter.as_micros() as u64 {
            0 => 0,
            most => self.random.within(0, most),
        };
        now + conditions.delay + Duration::from_micros(jitter)
    }
}

fn ordered((one, other): (NodeIndex, NodeIndex)) -> (NodeIndex, NodeIndex) {
    (one.min(other), one.max(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(network: &mut Network, now: Instant, number: u8, conditions: &Conditions) {
        let between = (NodeIndex(0), NodeIndex(1));
        network.reliable(now, conditions, between, PeerId::new(1), Rc::from([number]));
    }

    fn arrived(network: &mut Network, until: Instant) -> Vec<u8> {
        let delivered = std::iter::from_fn(|| network.pop(until));
        delivered
            .map(|delivery| match delivery {
                Delivery::Message { bytes, .. } => bytes[0],
                Delivery::Media { .. } | Delivery::ToViewer { .. } | Delivery::FromViewer { .. } => u8::MAX,
            })
            .collect()
    }

    #[test]
    fn reliable_messages_all_come_in_order_through_loss_and_partition() {
        let start = Instant::now();
        for seed in 0..50 {
            let mut network = Network::new(start, Random::new(seed));
            for number in 0..20 {
                if number == 5 {
                    network.cut(NodeIndex(1), NodeIndex(0));
                }
                if number == 15 {
                    network.heal(start + Duration::from_millis(15), NodeIndex(0), NodeIndex(1));
                }
                let now = start + Duration::from_millis(number.into());
                message(&mut network, now, number, &Conditions::BAD);
            }
            let numbers = arrived(&mut network, start + Duration::from_secs(10));
            assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "seed {seed}");
        }
    }

    #[test]
    fn datagrams_are_lost_doubled_and_overtaken_as_often_as_conditions_say() {
        let start = Instant::now();
        let mut network = Network::new(start, Random::new(7));
        let between = (NodeIndex(0), NodeIndex(1));
        for number in 0..10_000u64 {
            let now = start + Duration::from_millis(number);
            let bytes: Rc<[u8]> = Rc::from(number.to_be_bytes());
            let delivery = Delivery::Message { to: PeerId::new(1), bytes };
            network.link_datagram(now, &Conditions::BAD, between, delivery);
        }
        let end = start + Duration::from_secs(20);
        let mut numbers = Vec::new();
        while let Some(Delivery::Message { bytes, .. }) = network.pop(end) {
            numbers.push(u64::from_be_bytes(bytes[..].try_into().expect("eight bytes")));
        }
        let different: BTreeSet<_> = numbers.iter().copied().collect();
        assert!((9000..9400).contains(&different.len()), "{}", different.len());
        assert!((100..300).contains(&(numbers.len() - different.len())), "{}", numbers.len());
        assert!(numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() > 1000);
    }
}
