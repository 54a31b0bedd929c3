//! One node of a tree: its real cores, the little that a shell does between them, and what it did so far.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Path, RecordChange, SendBatch, Shard, ViewerId, ViewerRecord};
use link::exchange::{self, Exchange};
use link::wire::GroupKey;
use link::wire::message::Incarnation;
use media_core::TreePacket;
use model::{BroadcastId, KeyGeneration, NodeId, Role, Ssrc};

use crate::network::NodeIndex;
use crate::published::Published;
use crate::random::Random;

/// How long a broadcast is kept after its last viewer left.
pub const LINGER: Duration = Duration::from_secs(2);
/// Consent of viewers expires after this: sooner than in real life, so that it happens in a run.
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(6);

/// What differs between nodes.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Its role.
    pub role: Role,
    /// From how many parents it takes a broadcast at once.
    pub parents_active: usize,
    /// Bounds of its rings.
    pub ring: media_core::ring::Limits,
    /// What all replays of its viewers may take.
    pub replay_rate: model::Bitrate,
}

impl Setup {
    /// Defaults of a role.
    #[must_use]
    pub fn new(role: Role) -> Self {
        let egress = egress::Config::default();
        Self { role, parents_active: 1, ring: egress.ring, replay_rate: egress.replay_rate }
    }
}

/// Which packets of a stream came, by place in the stream.
#[derive(Debug, Default)]
pub struct Came {
    first: Option<usize>,
    marks: Vec<bool>,
}

impl Came {
    /// Notes a packet. Returns whether it is the first time.
    fn mark(&mut self, index: usize) -> bool {
        self.first = Some(self.first.map_or(index, |first| first.min(index)));
        if index >= self.marks.len() {
            self.marks.resize(index + 1, false);
        }
        !std::mem::replace(&mut self.marks[index], true)
    }

    /// Whether it came.
    #[must_use]
    pub fn has(&self, index: usize) -> bool {
        self.marks.get(index).copied().unwrap_or(false)
    }

    /// Places between the first and the last that came, which did not.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        (self.first.unwrap_or(0)..self.marks.len()).filter(|index| !self.has(*index))
    }

    /// How many came.
    #[must_use]
    pub fn count(&self) -> usize {
        self.marks.iter().filter(|mark| **mark).count()
    }
}

/// What a shard put out in one call, up to the moment when its process died.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Datagrams, in order.
    pub datagrams: Vec<(Path, Vec<u8>)>,
    /// Records of viewers that outlive the process.
    pub records: BTreeMap<ViewerId, ViewerRecord>,
    /// How many more outputs the process lives for, if it is doomed.
    pub outputs_left: Option<usize>,
}

impl Outbox {
    /// Whether this output still happens.
    fn lives(&mut self) -> bool {
        match &mut self.outputs_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Whether the process has died.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.outputs_left == Some(0)
    }
}

impl SendBatch for Outbox {
    fn datagram(&mut self, path: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut bytes = vec![0xee; len_max];
        let length = fill(&mut bytes);
        bytes.truncate(length);
        if length > 0 && self.lives() {
            self.datagrams.push((*path, bytes));
        }
    }

    fn keeps_records(&self) -> bool {
        true
    }

    fn record(&mut self, viewer: ViewerId, change: RecordChange) {
        if !self.lives() {
            return;
        }
        match change {
            RecordChange::Put(record) => self.records.insert(viewer, *record),
            RecordChange::Removed => self.records.remove(&viewer),
        };
    }
}

/// One node.
pub struct Node {
    /// Its place in the tree.
    pub index: NodeIndex,
    /// How it was set up.
    pub setup: Setup,
    /// Where its link media comes from and goes to.
    pub address: SocketAddr,
    /// Which run of its process this is, from 1.
    pub run: u32,
    /// Whether its process runs.
    pub is_alive: bool,
    /// The heart of its process.
    pub exchange: Exchange,
    /// Its viewers; only where the role has them.
    pub shard: Option<Shard>,
    /// What the shard puts out, and the records.
    pub outbox: Outbox,
    /// Packets for the shard.
    pub train: Vec<Arc<TreePacket>>,
    /// Viewers of each broadcast, and since when there are none.
    pub audience: BTreeMap<BroadcastId, (usize, Option<Instant>)>,
    /// What came to the shard in this run and since the broadcast was last wanted.
    pub came: BTreeMap<Ssrc, Came>,
    random: Random,
}

impl Node {
    /// A node whose process starts now.
    #[must_use]
    pub fn new(now: Instant, index: NodeIndex, setup: Setup, random: Random) -> Self {
        let NodeIndex(number) = index;
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, (number >> 8) as u8, number as u8), 51_000));
        let exchange = Exchange::new(now, config(index, &setup, 1));
        let mut node = Self {
            index,
            address,
            run: 0,
            is_alive: false,
            exchange,
            shard: None,
            setup,
            outbox: Outbox::default(),
            train: Vec::new(),
            audience: BTreeMap::new(),
            came: BTreeMap::new(),
            random,
        };
        node.start(now);
        node
    }

    /// The process starts: with nothing but the records of viewers.
    pub fn start(&mut self, now: Instant) {
        self.run += 1;
        self.is_alive = true;
        self.exchange = Exchange::new(now, config(self.index, &self.setup, self.run));
        if self.setup.role.is_injection() {
            let key = self.group_key();
            self.exchange.begin_generation(now, key);
        }
        self.shard = self.setup.role.is_egress().then(|| Shard::new(self.shard_config()));
        self.outbox = Outbox { records: std::mem::take(&mut self.outbox.records), ..Outbox::default() };
        self.train.clear();
        self.audience.clear();
        self.came.clear();
    }

    fn group_key(&mut self) -> GroupKey {
        let generation = KeyGeneration { counter: self.run, random: self.random.draw() as u32 };
        GroupKey { generation, key: self.random.bytes(), salt: self.random.bytes() }
    }

    fn shard_config(&self) -> egress::Config {
        egress::Config {
            ring: self.setup.ring,
            replay_rate: self.setup.replay_rate,
            consent_timeout: CONSENT_TIMEOUT,
            // Audiences are small here, and holding is what could go wrong.
            train_viewers_min: 1,
            ..egress::Config::default()
        }
    }

    /// The next deadline of its cores.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let shard = self.shard.as_ref().and_then(Shard::poll_timeout);
        let deadlines = [self.exchange.poll_timeout(), shard];
        deadlines.into_iter().flatten().min().filter(|_| self.is_alive)
    }

    /// A packet for the shard.
    ///
    /// # Errors
    /// If it was never published, or came before.
    pub fn deliver(&mut self, published: &Published, packet: Arc<TreePacket>) -> Result<(), String> {
        let stream = published.stream(packet.ssrc).filter(|_| published.has(&packet));
        let index = stream.and_then(|stream| stream.index(packet.seq_no));
        let Some(index) = index else {
            return Err(format!("{} {:?} was never published", packet.ssrc, packet.seq_no));
        };
        if !self.came.entry(packet.ssrc).or_default().mark(index) {
            return Err(format!("{} {:?} came to the shard twice", packet.ssrc, packet.seq_no));
        }
        self.train.push(packet);
        Ok(())
    }

    /// A viewer of a broadcast comes (`true`) or goes.
    pub fn count_viewer(&mut self, now: Instant, broadcast: &BroadcastId, comes: bool) {
        let (count, empty_since) = self.audience.entry(broadcast.clone()).or_default();
        if comes {
            *count += 1;
            *empty_since = None;
        } else {
            *count = count.saturating_sub(1);
            *empty_since = (*count == 0).then_some(now);
        }
        let is_first = comes && *count == 1;
        if is_first {
            self.exchange.want(now, broadcast, true);
        }
    }

    /// Lets go of broadcasts that nobody has watched for a while.
    pub fn expire_audience(&mut self, now: Instant, published: &Published) {
        let is_over =
            |(_, since): &(usize, Option<Instant>)| since.is_some_and(|since| since + LINGER <= now);
        let over: Vec<_> = self.audience.iter().filter(|(_, audience)| is_over(audience)).collect();
        let over: Vec<_> = over.into_iter().map(|(id, _)| id.clone()).collect();
        for id in over {
            self.audience.remove(&id);
            self.exchange.want(now, &id, false);
            // Who comes back gets some packets again.
            self.came.retain(|ssrc, _| published.stream(*ssrc).is_none_or(|stream| stream.broadcast != id));
        }
    }
}

fn config(index: NodeIndex, setup: &Setup, run: u32) -> exchange::Config {
    let name = NodeId::new(&format!("{}-{}", setup.role, index.0)).expect("letters and digits");
    let incarnation = Incarnation { counter: run.into(), random: index.0 as u64 };
    let config = exchange::Config::new(name, setup.role, incarnation);
    exchange::Config { parents_active: setup.parents_active, ring: setup.ring, ..config }
}
