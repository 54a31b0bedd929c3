//! The heart of a node, for every role: takes packets from publishers and parents, keeps them in rings, hands them to
//! children and to the egress shards of the node.
//!
//! Sans-IO: call one method that mutates, then [`Exchange::poll_output`] until `None`, then
//! [`Exchange::poll_timeout`]. The shell owns sockets and link channels; it connects a channel to *every* configured
//! parent and keeps it connected. The exchange decides which of them to join.
//!
//! Rules:
//! - *Soft state, driven by the receiver.* A node asks a parent for a broadcast only while it has a viewer or a child
//!   for it, repeats the Join each [`REFRESH_INTERVAL`], and is forgotten after [`JOIN_AGE_MAX`] of silence.
//! - *Only layers that somebody needs* cross a link, see `layers.rs`.
//! - *A silent parent is not a silent publisher.* A parent that sends a child little media sends it a heartbeat each
//!   [`HEARTBEAT_INTERVAL`]; one that says nothing for [`SILENCE_MAX`] gives way to the next one that offers the
//!   broadcast.
//! - *Nothing unauthenticated* is kept, forwarded or answered: media counts only from the address of a connected
//!   parent and only after it verified; requests count only from children that have joined.
//! - *The same bytes.* A packet is sealed once, at injection; children get the datagram that came.
//! - *Never hold a packet.* Only replays to a new child are paced, see `downstream.rs`.
//!
//! Links must form no loop; two nodes that are each other's parent are refused here, longer loops are for those who
//! place nodes to avoid.
//!
//! Memory is bounded by broadcasts × streams × ring, and streams have rings only while their broadcast is published
//! here or joined.

mod broadcasts;
mod budget;
mod carried;
mod cues;
mod downstream;
mod early;
mod handover;
mod layers;
mod links;
mod media;
mod output;
mod peer;
mod stats;
mod stream;
mod timer;
mod upstream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media_core::keyframe_request::KeyframeLimiter;
use media_core::ring;
use model::{Broadcast, BroadcastId, BroadcastState, JoinName, NodeId, Role, SeqNo, Ssrc};

use crate::wire::GroupKey;
use crate::wire::media::GroupSealer;
use crate::wire::message::{Incarnation, Message};
pub use broadcasts::PublishError;
use carried::Carried;
pub use cues::{CUE_AGE_MAX, CUES_KEPT};
use early::EarlyMedia;
pub use handover::{BYTES_MAX as HANDOVER_BYTES_MAX, Handover};
pub use layers::UNWATCHED_MAX;
pub use links::TooManyChildren;
pub use output::{Destinations, DisconnectReason, Event, Output};
use peer::{Parent, Peer};
pub use stats::{BroadcastStats, ChildStats, DropReason, Drops, ParentStats, Stats, StreamStats};
use stream::Stream;
use timer::{Timer, Timers};

/// How often a parent says that it is there, where its media does not.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How often both sides of a link do so anyhow, for the round trip. A relay has so many children that heartbeats would
/// cost it more than their media: each is a QUIC packet of its own, and is acknowledged by another one.
pub const ROUND_TRIP_INTERVAL: Duration = Duration::from_secs(1);
/// After this silence a parent is replaced: two heartbeats may be lost.
pub const SILENCE_MAX: Duration = Duration::from_millis(300);
/// How often a child repeats its joins.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// After this silence a parent forgets a join: four refreshes may be lost.
pub const JOIN_AGE_MAX: Duration = Duration::from_secs(5);

/// Children that a node takes.
pub const CHILDREN_MAX: usize = 64;

/// One connection of a link channel. Chosen by the shell, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u64);

impl PeerId {
    /// Any number that was not used before.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }
}

/// One configured parent. Chosen by the shell; stays the same over reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentId(u32);

impl ParentId {
    /// Any number.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }
}

/// What an exchange must know of its node, and its bounds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// From how many parents a broadcast is taken at once: 1, or 2 for no loss when one dies.
    pub parents_active: usize,
    /// Bounds of the ring of each RTP stream.
    pub ring: ring::Limits,
    /// Least time between two keyframe requests of a stream that go upstream.
    pub keyframe_request_interval: Duration,
    /// Most broadcasts known at once.
    pub broadcasts_max: usize,
    /// Most children connected at once.
    pub children_max: usize,
    /// Most joins at once: children, each counted for every broadcast that it takes.
    pub joins_max: usize,
    /// Messages that a peer may send per second; more are dropped.
    pub messages_per_second_max: u32,
    /// Packets that a child may have resent per second; more are not.
    pub resends_per_second_max: u32,
    /// How long a broadcast stays known after the last parent that offered it is gone.
    pub orphan_age_max: Duration,
}

impl Config {
    /// Defaults for a node: one parent at a time, 2048 broadcasts, 64 children, 4096 joins.
    #[must_use]
    pub fn new(node: NodeId, role: Role, incarnation: Incarnation) -> Self {
        Self {
            node,
            role,
            incarnation,
            parents_active: 1,
            ring: ring::Limits::default(),
            keyframe_request_interval: media_core::keyframe_request::INTERVAL,
            broadcasts_max: 2048,
            children_max: CHILDREN_MAX,
            joins_max: 4096,
            messages_per_second_max: 2000,
            resends_per_second_max: 4000,
            orphan_age_max: Duration::from_secs(60),
        }
    }
}

/// State of one node; see the module.
#[derive(Debug)]
pub struct Exchange {
    config: Config,
    /// Time zero of heartbeats.
    started: Instant,
    delivers_locally: bool,
    group_key: Option<(GroupKey, GroupSealer)>,
    /// With the name of who wanted it first, if he has one.
    wanted: BTreeMap<BroadcastId, Option<JoinName>>,
    /// The newest packet of a stream that every viewer has whom this process found when it began.
    viewers_have: BTreeMap<Ssrc, SeqNo>,
    broadcasts: BTreeMap<BroadcastId, Carried>,
    streams: BTreeMap<Ssrc, Stream>,
    parents: BTreeMap<ParentId, Parent>,
    peers: BTreeMap<PeerId, Peer>,
    /// Where media may come from.
    parent_addresses: BTreeMap<SocketAddr, PeerId>,
    early: EarlyMedia,
    keyframe_limiter: KeyframeLimiter,
    /// The payload of the packet at hand.
    payload: Vec<u8>,
    timers: Timers,
    drops: Drops,
    outputs: VecDeque<Output>,
}

impl Exchange {
    /// A node without parents, children and broadcasts.
    #[must_use]
    pub fn new(now: Instant, config: Config) -> Self {
        let mut timers = Timers::default();
        timers.set(Timer::Heartbeat, now + HEARTBEAT_INTERVAL);
        timers.set(Timer::Refresh, now + REFRESH_INTERVAL);
        Self {
            delivers_locally: config.role.is_egress(),
            keyframe_limiter: KeyframeLimiter::new(config.keyframe_request_interval),
            config,
            started: now,
            group_key: None,
            wanted: BTreeMap::new(),
            viewers_have: BTreeMap::new(),
            broadcasts: BTreeMap::new(),
            streams: BTreeMap::new(),
            parents: BTreeMap::new(),
            peers: BTreeMap::new(),
            parent_addresses: BTreeMap::new(),
            early: EarlyMedia::default(),
            payload: Vec::new(),
            timers,
            drops: Drops::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether packets are handed to egress shards of this node; by default if its role has viewers.
    pub const fn set_local_delivery(&mut self, delivers_locally: bool) {
        self.delivers_locally = delivers_locally;
    }

    /// Each broadcast is taken from so many parents at once from now on, at least from one.
    pub fn set_parents_active(&mut self, now: Instant, count: usize) {
        let count = count.max(1);
        if std::mem::replace(&mut self.config.parents_active, count) != count {
            self.update_all_upstream(now);
        }
    }

    /// Whether the broadcast exists, so that a viewer may wait for it.
    #[must_use]
    pub fn known(&self, id: &BroadcastId) -> bool {
        self.broadcasts.contains_key(id)
    }

    /// The broadcast as it is now.
    #[must_use]
    pub fn broadcast(&self, id: &BroadcastId) -> Option<&Broadcast> {
        self.broadcasts.get(id).map(|carried| &carried.broadcast)
    }

    /// All known broadcasts, by name.
    pub fn broadcasts(&self) -> impl Iterator<Item = &Broadcast> {
        self.broadcasts.values().map(|carried| &carried.broadcast)
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Exchange::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timers.is_due(Timer::Silence, now) {
            self.check_silence(now);
        }
        if self.timers.is_due(Timer::Repair, now) {
            self.repair(now);
        }
        if self.timers.is_due(Timer::Replay, now) {
            self.replay(now);
        }
        if self.timers.is_due(Timer::Keyframe, now) {
            self.forward_keyframe_requests(now);
        }
        if self.timers.is_due(Timer::Heartbeat, now) {
            self.timers.set(Timer::Heartbeat, now + HEARTBEAT_INTERVAL);
            self.send_heartbeats(now);
        }
        if self.timers.is_due(Timer::Refresh, now) {
            self.timers.set(Timer::Refresh, now + REFRESH_INTERVAL);
            self.expire_joins(now);
            self.expire_orphans(now);
            self.refresh_joins(now);
            self.tell_rates(now);
            self.streams.values_mut().for_each(|stream| stream.expire(now));
            self.early.expire(now);
        }
    }

    /// All counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { drops: self.drops, ..Stats::default() };
        stats.drops.add(&self.early.dropped);
        for (id, carried) in &self.broadcasts {
            let mut broadcast = BroadcastStats {
                destinations: carried.joins.len(),
                parents: carried.upstream.len(),
                is_due: carried.broadcast.state == BroadcastState::Live && self.is_taken(id, carried),
                is_offered: carried.is_local || self.is_offered(id),
                ..BroadcastStats::default()
            };
            for kind in [model::Kind::Audio, model::Kind::Video] {
                broadcast.of_mut(kind).add(carried.past(kind));
            }
            let is_taken = carried.is_local || !carried.upstream.is_empty();
            for (ssrc, kind) in carried.ssrcs() {
                if let Some(stream) = self.streams.get(&ssrc) {
                    broadcast.streams += usize::from(is_taken && stream.demand.is_taken());
                    broadcast.of_mut(kind).add(&stream.stats());
                }
            }
            stats.broadcasts.insert(id.clone(), broadcast);
        }
        for (id, parent) in &self.parents {
            let joined = self.broadcasts.values().filter(|carried| carried.upstream.contains(id)).count();
            let peer = parent.peer.and_then(|peer| self.peers.get(&peer));
            let parent = ParentStats {
                node: peer.and_then(|peer| Some(peer.hello.as_ref()?.node.clone())),
                is_alive: peer.is_some() && !parent.is_silent,
                joined,
                round_trip: peer.and_then(|peer| peer.round_trip),
                packets_received: peer.map_or(0, |peer| peer.packets_received),
                duplicates: peer.map_or(0, |peer| peer.duplicates),
                recovered: peer.map_or(0, |peer| peer.recovered),
                nacked: peer.map_or(0, |peer| peer.nacked),
            };
            stats.parents.insert(*id, parent);
        }
        for (id, peer) in self.peers.iter().filter(|(_, peer)| peer.relation == peer::Relation::Child) {
            let joined = self.broadcasts.values().filter(|carried| carried.joins.contains_key(id)).count();
            let child = ChildStats {
                node: peer.hello.as_ref().map(|hello| hello.node.clone()),
                joined,
                round_trip: peer.round_trip,
                report: peer.report,
            };
            stats.children.insert(*id, child);
        }
        stats
    }

    fn send(&mut self, peer: PeerId, message: Message) {
        self.outputs.push_back(Output::Send { peer, message });
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_micros() as u64
    }
}
