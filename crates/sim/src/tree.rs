//! A whole tree in one thread: nodes, links, publishers, viewers, under one clock and one network.
//!
//! What the shell of a node does between its cores is done here, as plainly as possible; the rules of the cores
//! themselves are not repeated. Everything that happens is held against the reference model at once; what can only be
//! seen from afar is checked by [`Tree::check`] and [`Tree::check_to_the_end`].

mod channels;
mod checks;
mod run;
mod viewers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use egress::ViewerId;
use model::{Broadcast, BroadcastId, BroadcastState, Epoch, SeqNo, Ssrc};

pub use channels::IDLE_TIMEOUT;
use channels::Links;
use checks::Watched;

use crate::clock::Clock;
use crate::network::{Conditions, Network, NodeIndex};
use crate::node::{Node, Setup};
use crate::published::Published;
use crate::publisher::{self, Publisher};
use crate::random::Random;
use crate::trace::Trace;
use crate::viewer::Viewer;
use crate::violation::Violation;

/// One broadcast: where and how it is published, how often it was.
#[derive(Debug)]
struct Programme {
    node: NodeIndex,
    style: publisher::Style,
    epochs: u64,
    /// What was announced last.
    announced: Option<Broadcast>,
    /// The present run, if there is one.
    publisher: Option<Publisher>,
    /// Since when it runs, or does not.
    since: Instant,
}

/// A tree.
pub struct Tree {
    clock: Clock,
    network: Network,
    random: Random,
    /// What link datagrams and messages suffer.
    conditions: Conditions,
    nodes: Vec<Node>,
    links: Links,
    programmes: BTreeMap<BroadcastId, Programme>,
    viewers: BTreeMap<ViewerId, Viewer>,
    by_remote: BTreeMap<SocketAddr, ViewerId>,
    published: Published,
    watched: Watched,
    violation: Option<Violation>,
    trace: Trace,
    maintenance_at: Instant,
}

impl Tree {
    /// A tree without nodes.
    #[must_use]
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let clock = Clock::default();
        let mut random = Random::new(seed);
        Self {
            network: Network::new(clock.start(), random.fork()),
            clock,
            random,
            conditions,
            nodes: Vec::new(),
            links: Links::default(),
            programmes: BTreeMap::new(),
            viewers: BTreeMap::new(),
            by_remote: BTreeMap::new(),
            published: Published::default(),
            watched: Watched::default(),
            violation: None,
            trace: Trace::default(),
            maintenance_at: clock.now(),
        }
    }

    /// Adds a node, whose process starts at once.
    pub fn add(&mut self, setup: Setup) -> NodeIndex {
        let index = NodeIndex(self.nodes.len());
        let random = self.random.fork();
        self.nodes.push(Node::new(self.clock.now(), index, setup, random));
        index
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index.0]
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Virtual time.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Everything that was published.
    #[must_use]
    pub const fn published(&self) -> &Published {
        &self.published
    }

    /// A fingerprint of all that happened.
    #[must_use]
    pub const fn trace(&self) -> u64 {
        self.trace.hash()
    }

    /// What links suffer from now on.
    pub const fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// A publisher begins a new run of a broadcast at a node; one that is there is replaced.
    pub fn publish(&mut self, node: NodeIndex, id: &BroadcastId, style: publisher::Style) {
        let now = self.clock.now();
        let epochs = self.programmes.get(id).map_or(0, |programme| programme.epochs) + 1;
        let epoch = Epoch { counter: epochs, random: self.random.draw() };
        let random = self.random.fork();
        let publisher = Publisher::new(now, self.clock.wallclock(now), id.clone(), epoch, style, random);
        let broadcast = publisher.broadcast().clone();
        self.published.begin(&broadcast);
        let announced = Some(broadcast.clone());
        let publisher = Some(publisher);
        let programme = Programme { node, style, epochs, announced, publisher, since: now };
        self.programmes.insert(id.clone(), programme);
        self.announce(node, broadcast);
    }

    /// The publisher of a broadcast is gone; it may come back.
    pub fn unpublish(&mut self, id: &BroadcastId) {
        let now = self.clock.now();
        let Some(programme) = self.programmes.get_mut(id) else { return };
        if programme.publisher.take().is_none() {
            return;
        }
        programme.since = now;
        let node = programme.node;
        let Some(announced) = &mut programme.announced else { return };
        announced.state = BroadcastState::Waiting;
        let broadcast = announced.clone();
        self.announce(node, broadcast);
    }

    /// The publisher of a broadcast comes back, with this codec; it begins a new run.
    pub fn publish_again(&mut self, id: &BroadcastId, codec: model::Codec) {
        if let Some(programme) = self.programmes.get(id) {
            let style = publisher::Style { codec, ..programme.style };
            self.publish(programme.node, id, style);
        }
    }

    fn announce(&mut self, node: NodeIndex, broadcast: Broadcast) {
        if !self.nodes[node.0].is_alive {
            return;
        }
        let result = self.exchange(node, |exchange, now| exchange.publish_changed(now, broadcast));
        if let Err(error) = result {
            self.fail(format!("{node:?} does not take what is published there: {error}"));
        }
    }

    /// The broadcasts that were ever published.
    pub fn broadcasts(&self) -> impl Iterator<Item = &BroadcastId> {
        self.programmes.keys()
    }

    /// Whether a broadcast has a publisher now.
    #[must_use]
    pub fn is_published(&self, id: &BroadcastId) -> bool {
        self.programmes.get(id).is_some_and(|programme| programme.publisher.is_some())
    }

    /// What a broadcast consists of.
    #[must_use]
    pub fn broadcast(&self, id: &BroadcastId) -> Option<&Broadcast> {
        self.programmes.get(id)?.announced.as_ref()
    }

    /// The process of a node dies; its host lives, and so do the records of its viewers.
    pub fn crash(&mut self, node: NodeIndex) {
        if !std::mem::replace(&mut self.nodes[node.0].is_alive, false) {
            return;
        }
        self.trace.note(&[1, node.0 as u64]);
        self.drop_ends(node);
        // Publishers lose their connection with it.
        for programme in self.programmes.values_mut().filter(|programme| programme.node == node) {
            programme.publisher = None;
            programme.since = self.clock.now();
        }
    }

    /// The process of a node dies within the next calls of its shard, after so many outputs.
    pub fn doom(&mut self, node: NodeIndex, outputs: usize) {
        self.nodes[node.0].outbox.outputs_left = Some(outputs);
    }

    /// The process of a node starts again, with nothing but the records of its viewers.
    pub fn revive(&mut self, node: NodeIndex) {
        if self.nodes[node.0].is_alive {
            return;
        }
        let now = self.clock.now();
        self.trace.note(&[2, node.0 as u64]);
        self.nodes[node.0].start(now);
        self.configure_parents(node);
        self.resume_viewers(node);
    }

    /// Nothing passes between two nodes any more.
    pub fn partition(&mut self, one: NodeIndex, other: NodeIndex) {
        self.trace.note(&[3, one.0 as u64, other.0 as u64]);
        self.network.cut(one, other);
    }

    /// All partitions end, all processes run, links and viewers' ways are perfect.
    pub fn heal(&mut self) {
        let now = self.clock.now();
        for (one, other) in self.network.cuts() {
            self.network.heal(now, one, other);
        }
        for index in 0..self.nodes.len() {
            self.nodes[index].outbox.outputs_left = None;
            self.revive(NodeIndex(index));
        }
        self.conditions = Conditions::PERFECT;
        self.viewers.values_mut().for_each(|viewer| viewer.conditions = Conditions::PERFECT);
    }

    /// Ends one partition.
    pub fn reunite(&mut self, one: NodeIndex, other: NodeIndex) {
        self.network.heal(self.clock.now(), one, other);
    }

    /// The pairs between which nothing passes.
    #[must_use]
    pub fn partitions(&self) -> Vec<(NodeIndex, NodeIndex)> {
        self.network.cuts()
    }

    /// The published packets of a stream, from the first that came to a node on, that never did.
    #[must_use]
    pub fn missing(&self, node: NodeIndex, ssrc: Ssrc) -> Vec<SeqNo> {
        let came = self.nodes[node.0].came.get(&ssrc);
        let Some((came, stream)) = came.zip(self.published.stream(ssrc)) else { return Vec::new() };
        came.missing().filter_map(|index| Some(stream.at(index)?.seq_no)).collect()
    }

    /// Notes that an invariant is broken; the first time counts.
    fn fail(&mut self, what: String) {
        let at = self.clock.elapsed();
        self.violation.get_or_insert(Violation { at, what });
    }

    fn expect(&mut self, who: impl FnOnce() -> String, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(format!("{}: {what}", who()));
        }
    }

    /// How long a broadcast has been published without a break.
    fn published_for(&self, id: &BroadcastId) -> Option<Duration> {
        let programme = self.programmes.get(id).filter(|programme| programme.publisher.is_some())?;
        Some(self.clock.now().saturating_duration_since(programme.since))
    }
}
