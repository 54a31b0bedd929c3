//! Nodes in memory: virtual time, one seed for loss, delay, reordering and duplication.
//!
//! Messages travel encoded. Reliable ones keep their order and are only late when lost; unreliable ones and media
//! share the fate of datagrams. A killed node neither hears nor speaks, and nobody is told.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use link::exchange::*;
use link::wire::message::{Cue, Incarnation, Message};
use media_core::TreePacket;
use model::{Bitrate, Broadcast, BroadcastId, NodeId, Role, SeqNo, Ssrc};

use super::Random;
use super::source::{Source, key};

pub const FRAME: Duration = Duration::from_millis(20);
const NEED_INTERVAL: Duration = Duration::from_secs(1);

/// What datagrams suffer on the way.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    pub loss: f64,
    pub duplicate: f64,
    pub delay: Duration,
    pub jitter: Duration,
}

impl Conditions {
    pub const PERFECT: Self =
        Self { loss: 0.0, duplicate: 0.0, delay: Duration::from_millis(5), jitter: Duration::ZERO };
    pub const BAD: Self = Self {
        loss: 0.05,
        duplicate: 0.01,
        delay: Duration::from_millis(10),
        jitter: Duration::from_millis(4),
    };
}

#[derive(Debug)]
pub struct Node {
    pub exchange: Exchange,
    pub address: SocketAddr,
    pub is_alive: bool,
    pub delivered: Vec<(Instant, Arc<TreePacket>)>,
    pub keyframes_wanted: Vec<Ssrc>,
    /// What was told last.
    pub left_out: Vec<(Ssrc, Bitrate)>,
    /// For its viewers.
    pub cues: Vec<Cue>,
    pub changed: Vec<Broadcast>,
    pub retired: Vec<BroadcastId>,
    pub events: Vec<(Instant, Event)>,
    pub disconnects: Vec<DisconnectReason>,
}

#[derive(Debug)]
enum Delivery {
    Media { to: usize, from: SocketAddr, wire: Bytes },
    Message { to: PeerId, bytes: Vec<u8> },
}

#[derive(Debug)]
struct End {
    node: usize,
    other: PeerId,
    /// When the last reliable message to this end arrives.
    in_order: Instant,
}

#[derive(Debug)]
pub struct SentMessage {
    pub at: Instant,
    pub from: usize,
    pub to: usize,
    pub message: Message,
}

#[derive(Debug)]
pub struct SentMedia {
    pub from: usize,
    pub wire: Bytes,
    pub to: Destinations,
}

#[derive(Debug)]
pub struct Network {
    pub now: Instant,
    pub conditions: Conditions,
    /// A node that stops wanting a broadcast and wants it again gets packets that it had.
    pub allows_repeats: bool,
    /// Layers that viewers of each node need, said every [`NEED_INTERVAL`].
    pub needs: BTreeMap<usize, Vec<Ssrc>>,
    /// Parents are of a version that does not tell how much there is of each layer.
    pub tells_no_rates: bool,
    /// How much longer than datagrams reliable messages take.
    pub reliable_lag: Duration,
    pub nodes: Vec<Node>,
    pub published: Vec<TreePacket>,
    pub messages: Vec<SentMessage>,
    pub media: Vec<SentMedia>,
    random: Random,
    ends: BTreeMap<PeerId, End>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    count: u64,
    sources: Vec<(usize, Source, Instant)>,
    need_at: Instant,
}

impl Network {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        Self {
            now: Instant::now(),
            conditions,
            allows_repeats: false,
            needs: BTreeMap::new(),
            tells_no_rates: false,
            need_at: Instant::now(),
            reliable_lag: Duration::ZERO,
            nodes: Vec::new(),
            published: Vec::new(),
            messages: Vec::new(),
            media: Vec::new(),
            random: Random(seed),
            ends: BTreeMap::new(),
            queue: BTreeMap::new(),
            count: 0,
            sources: Vec::new(),
        }
    }

    pub fn add(&mut self, role: Role) -> usize {
        self.add_with(role, |_| {})
    }

    pub fn add_with(&mut self, role: Role, configure: impl FnOnce(&mut Config)) -> usize {
        let index = self.nodes.len();
        let name = NodeId::new(&format!("{role}-{index}")).expect("good id");
        let mut config = Config::new(name, role, Incarnation { counter: 1, random: index as u64 });
        configure(&mut config);
        let mut exchange = Exchange::new(self.now, config);
        if role.is_injection() {
            exchange.begin_generation(self.now, key(1));
        }
        self.nodes.push(Node {
            exchange,
            address: SocketAddr::from((Ipv4Addr::new(10, 0, (index >> 8) as u8, index as u8), 51000)),
            is_alive: true,
            delivered: Vec::new(),
            keyframes_wanted: Vec::new(),
            left_out: Vec::new(),
            cues: Vec::new(),
            changed: Vec::new(),
            retired: Vec::new(),
            events: Vec::new(),
            disconnects: Vec::new(),
        });
        index
    }

    /// Opens a channel; the order of calls is the order of preference. Gives both ends, the child's first.
    pub fn connect(&mut self, child: usize, parent: usize) -> (PeerId, PeerId) {
        let (up, down) = (PeerId::new(self.count), PeerId::new(self.count + 1));
        self.count += 2;
        self.ends.insert(up, End { node: child, other: down, in_order: self.now });
        self.ends.insert(down, End { node: parent, other: up, in_order: self.now });
        let (child_address, parent_address) = (self.nodes[child].address, self.nodes[parent].address);
        let id = ParentId::new(parent as u32);
        let priority = self.nodes[child].exchange.stats().parents.len() as u8;
        self.nodes[child].exchange.add_parent(id, priority);
        self.nodes[child].exchange.parent_connected(self.now, id, up, parent_address);
        self.nodes[parent].exchange.child_connected(self.now, down, child_address).expect("few children");
        self.drain(child);
        self.drain(parent);
        (up, down)
    }

    /// Both ends learn that the channel is gone.
    pub fn disconnect(&mut self, (up, down): (PeerId, PeerId)) {
        for end in [up, down] {
            let Some(gone) = self.ends.remove(&end) else { continue };
            self.with(gone.node, |exchange, now| exchange.peer_disconnected(now, end));
        }
    }

    pub fn kill(&mut self, node: usize) {
        self.nodes[node].is_alive = false;
    }

    /// Lets something happen at a node, and carries out what follows.
    pub fn with<R>(&mut self, node: usize, act: impl FnOnce(&mut Exchange, Instant) -> R) -> R {
        let result = act(&mut self.nodes[node].exchange, self.now);
        self.drain(node);
        result
    }

    pub fn want(&mut self, node: usize, id: &BroadcastId) {
        self.with(node, |exchange, now| exchange.want(now, id, true));
    }

    /// From now on the node publishes a frame every 20 ms.
    pub fn publish(&mut self, node: usize, source: Source) {
        self.with(node, |exchange, now| exchange.publish_changed(now, source.broadcast.clone()))
            .expect("published");
        self.sources.push((node, source, self.now));
    }

    pub fn stop_publishing(&mut self) {
        self.sources.clear();
    }

    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut turns_at_once = 0;
        while let Some(next) = self.next_event().filter(|next| *next <= end) {
            turns_at_once = if next > self.now { 0 } else { turns_at_once + 1 };
            assert!(turns_at_once < 100_000, "time stands still");
            self.now = self.now.max(next);
            self.turn();
        }
        self.now = end;
    }

    pub fn run_millis(&mut self, millis: u64) {
        self.run(Duration::from_millis(millis));
    }

    /// Runs until a condition holds; fails if it does not within ten seconds.
    pub fn run_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..10_000 {
            if holds(self) {
                return;
            }
            self.run_millis(1);
        }
        panic!("{what}: not within ten seconds");
    }

    fn next_event(&self) -> Option<Instant> {
        let queued = self.queue.keys().next().map(|(at, _)| *at);
        let timers =
            self.nodes.iter().filter(|node| node.is_alive).filter_map(|node| node.exchange.poll_timeout());
        let sources = self.sources.iter().map(|(_, _, at)| *at);
        let needs = (!self.needs.is_empty()).then_some(self.need_at);
        timers.chain(queued).chain(sources).chain(needs).min()
    }

    fn turn(&mut self) {
        if self.need_at <= self.now {
            self.need_at = self.now + NEED_INTERVAL;
            for (node, layers) in self.needs.clone() {
                layers.into_iter().for_each(|ssrc| self.with(node, |exchange, now| exchange.need(now, ssrc)));
            }
        }
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            match entry.remove() {
                Delivery::Media { to, from, wire } => {
                    if self.nodes[to].is_alive {
                        self.with(to, |exchange, now| exchange.media(now, from, &wire));
                    }
                }
                Delivery::Message { to, bytes } => {
                    let Some(end) = self.ends.get(&to).filter(|end| self.nodes[end.node].is_alive) else {
                        continue;
                    };
                    let message = Message::decode(&bytes).expect("good message").expect("known message");
                    self.with(end.node, |exchange, now| exchange.message(now, to, message));
                }
            }
        }
        for index in 0..self.nodes.len() {
            let is_due = self.nodes[index].exchange.poll_timeout().is_some_and(|at| at <= self.now);
            if self.nodes[index].is_alive && is_due {
                self.with(index, Exchange::handle_timeout);
            }
        }
        for index in 0..self.sources.len() {
            if self.sources[index].2 > self.now {
                continue;
            }
            self.sources[index].2 += FRAME;
            let (node, packets) = (self.sources[index].0, self.sources[index].1.frame());
            for packet in packets {
                self.published.push(packet.clone());
                if self.nodes[node].is_alive {
                    self.with(node, |exchange, now| exchange.published(now, packet));
                }
            }
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].exchange.poll_output() {
            let now = self.now;
            let node = &mut self.nodes[index];
            match output {
                Output::Send { peer, message } => self.send(index, peer, message),
                Output::Media { wire, to } => self.send_media(index, wire, to),
                Output::Deliver(packet) => node.delivered.push((now, packet)),
                Output::Restored(packets) => {
                    node.delivered.extend(packets.into_iter().map(|packet| (now, packet)));
                }
                Output::LeftOut(layers) => node.left_out = layers,
                Output::Cue(cue) => node.cues.push(cue),
                Output::BroadcastChanged(broadcast) => node.changed.push(broadcast),
                Output::BroadcastRetired(id) => node.retired.push(id),
                Output::KeyframeWanted { ssrc } => node.keyframes_wanted.push(ssrc),
                Output::Disconnect { reason, peer } => {
                    node.disconnects.push(reason);
                    if let Some(end) = self.ends.remove(&peer)
                        && let Some(other) = self.ends.remove(&end.other)
                    {
                        self.with(other.node, |exchange, now| exchange.peer_disconnected(now, end.other));
                    }
                }
                Output::Event(event) => node.events.push((now, event)),
            }
        }
    }

    fn send(&mut self, from: usize, peer: PeerId, message: Message) {
        if self.tells_no_rates && matches!(message, Message::Rates(_)) {
            return;
        }
        let Some(end) = self.ends.get(&peer) else { return };
        let (to, mut at) = (end.other, self.now + self.latency());
        let mut copies = self.copies();
        let is_reliable = message.is_reliable();
        if is_reliable {
            at += self.reliable_lag;
            // QUIC sends again after about a round trip; the order stays.
            for _ in 0..2 {
                if self.random.happens(self.conditions.loss) {
                    at += 3 * self.conditions.delay;
                }
            }
            copies = 1;
        }
        let Some(other) = self.ends.get_mut(&to) else { return };
        if is_reliable {
            at = at.max(other.in_order);
            other.in_order = at;
        }
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.messages.push(SentMessage { at: self.now, from, to: other.node, message });
        for _ in 0..copies {
            self.enqueue(at, Delivery::Message { to, bytes: bytes.clone() });
        }
    }

    fn send_media(&mut self, from: usize, wire: Bytes, to: Destinations) {
        for address in to.as_slice() {
            let to = self.nodes.iter().position(|node| node.address == *address).expect("address of a node");
            for _ in 0..self.copies() {
                let at = self.now + self.latency();
                let from = self.nodes[from].address;
                self.enqueue(at, Delivery::Media { to, from, wire: wire.clone() });
            }
        }
        self.media.push(SentMedia { from, wire, to });
    }

    fn enqueue(&mut self, at: Instant, delivery: Delivery) {
        self.count += 1;
        self.queue.insert((at, self.count), delivery);
    }

    fn latency(&mut self) -> Duration {
        let jitter = self.random.below(self.conditions.jitter.as_micros() as u64 + 1);
        self.conditions.delay + Duration::from_micros(jitter)
    }

    fn copies(&mut self) -> usize {
        if self.random.happens(self.conditions.loss) {
            return 0;
        }
        1 + usize::from(self.random.happens(self.conditions.duplicate))
    }

    /// What was published of a stream from the first packet on that the node delivered, and never reached it.
    pub fn missing(&self, node: usize, ssrc: Ssrc) -> Vec<SeqNo> {
        let delivered = self.delivered(node, ssrc);
        let Some(first) = delivered.keys().next() else {
            panic!("node {node} has delivered nothing of {ssrc}")
        };
        let expected = self.published.iter().filter(|packet| packet.ssrc == ssrc && packet.seq_no >= *first);
        let missing = expected.filter(|packet| match delivered.get(&packet.seq_no) {
            Some((_, same)) => {
                assert_eq!(same.as_ref(), *packet, "delivered as published");
                false
            }
            None => true,
        });
        missing.map(|packet| packet.seq_no).collect()
    }

    /// The packets of a stream that the node delivered, each once.
    pub fn delivered(&self, node: usize, ssrc: Ssrc) -> BTreeMap<SeqNo, (Instant, Arc<TreePacket>)> {
        let mut delivered = BTreeMap::new();
        for (at, packet) in self.nodes[node].delivered.iter().filter(|(_, packet)| packet.ssrc == ssrc) {
            let again = delivered.insert(packet.seq_no, (*at, packet.clone()));
            assert!(again.is_none() || self.allows_repeats, "{:?} was delivered twice", packet.seq_no);
        }
        delivered
    }

    pub fn stats(&self, node: usize) -> Stats {
        self.nodes[node].exchange.stats()
    }

    /// How many children have joined a broadcast.
    pub fn destinations(&self, node: usize, id: &BroadcastId) -> usize {
        self.stats(node).broadcasts[id].destinations
    }

    pub fn drops(&self, node: usize, reason: DropReason) -> u64 {
        self.stats(node).drops.get(reason)
    }

    /// How many messages went from one node to another that fit.
    pub fn sent(&self, from: usize, to: usize, fits: impl Fn(&Message) -> bool) -> usize {
        self.messages.iter().filter(|sent| (sent.from, sent.to) == (from, to) && fits(&sent.message)).count()
    }
}

/// injection 0, relay 1, and as many egress nodes below it.
pub fn star(egress: usize) -> Network {
    let mut network = Network::new(1, Conditions::PERFECT);
    network.add(Role::Injection);
    network.add(Role::Relay);
    network.connect(1, 0);
    for child in 2..2 + egress {
        network.add(Role::Egress);
        network.connect(child, 1);
    }
    network.run_millis(200);
    network
}
