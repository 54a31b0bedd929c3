//! What a node says of itself each second.

use model::{BroadcastId, NodeId, Role, TreeId};
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// One node, in its own words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    #[serde(with = "text")]
    pub node: NodeId,
    /// The tree that it belongs to.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// What it does.
    #[serde(with = "text")]
    pub role: Role,
    /// This run of its process.
    pub incarnation: Incarnation,
    /// Counts the reports of this run.
    pub report: u64,
    /// Where in the world it is.
    pub region: String,
    /// Which part of the region.
    pub zone: Option<String>,
    /// The machine: nodes of one host share their fate.
    pub host: String,
    /// Where children reach its link port, `host:port`.
    pub link: Option<String>,
    /// All such addresses, that one first, at most [`LINKS_MAX`]; none from a node of an earlier version.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
    /// Where clients reach its HTTP listener, without a path.
    pub url: Option<String>,
    /// Where Prometheus reaches its operations listener, `host:port`.
    pub ops: Option<String>,
    /// Whether it takes new peers.
    pub state: NodeState,
    /// What it can carry.
    pub capacity: Capacity,
    /// What it carries.
    pub load: Load,
    /// Parents that it has links to, and what it takes from them.
    pub parents: Vec<ParentLink>,
    /// Viewers of each broadcast, most first, at most [`BROADCASTS_MAX`].
    pub broadcasts: Vec<Watched>,
    /// What its publishers could do better, at most [`ADVICE_MAX`].
    #[serde(default)]
    pub advice: Vec<Advice>,
    /// Version of the program.
    pub version: String,
}

/// Addresses of one link port that a node lists.
pub const LINKS_MAX: usize = 8;

/// Pieces of advice that a node lists.
pub const ADVICE_MAX: usize = 64;

/// Broadcasts that a node lists.
pub const BROADCASTS_MAX: usize = 256;

/// A run of a process: the higher counter is the later one, ties go to the higher random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Incarnation {
    /// Grows from run to run.
    pub counter: u64,
    /// Drawn at random.
    pub random: u64,
}

/// Whether a node takes new peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Ready,
    /// It does not, and sends those away that it has.
    Draining,
}

/// What a node can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Capacity {
    /// Viewers.
    pub viewers: u32,
    /// Publishers.
    pub publishers: u32,
    /// Children.
    pub children: u32,
    /// What its network carries towards viewers and children, in Mbit/s; `None`: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_mbps: Option<u32>,
    /// Packets that it carries there in a second; `None`: not limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_per_second: Option<u32>,
}

/// What a node carries. Numbers that it does not know are `None`, never zero.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Load {
    /// Viewers that it has or expects: places that are taken.
    pub viewers: u32,
    /// Viewers that are connected; `None` from a node of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<u32>,
    /// Publishers.
    pub publishers: u32,
    /// Children.
    pub children: u32,
    /// Share of its processors' time, in percent.
    pub cpu_percent: Option<f64>,
    /// Of its busiest shard, in percent.
    pub shard_percent: Option<f64>,
    /// What it sends, in Mbit/s.
    pub transmit_mbps: Option<f64>,
    /// Packets that it sends in a second.
    pub packets_per_second: Option<f64>,
    /// What its viewers may take, in Mbit/s; `None` where its network has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_mbps: Option<f64>,
    /// Packets that its viewers may take in a second; `None` where its network has no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promised_packets_per_second: Option<f64>,
}

/// One parent of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParentLink {
    /// The parent.
    #[serde(with = "text")]
    pub node: NodeId,
    /// Whether it is connected and heard.
    pub is_alive: bool,
    /// Broadcasts taken from it.
    pub joined: u32,
    /// Round trip, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Packets that came over it first until now.
    pub packets: u64,
    /// Packets that had come over another link before.
    #[serde(default)]
    pub duplicates: u64,
    /// Packets, of both, that came only when they were asked for.
    #[serde(default)]
    pub repaired: u64,
}

/// Viewers of one broadcast at one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// What they watch.
    #[serde(with = "text")]
    pub broadcast: BroadcastId,
    /// How many they are.
    pub viewers: u32,
}

/// What the publisher of one broadcast could do better.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    /// What it publishes.
    #[serde(with = "text")]
    pub broadcast: BroadcastId,
    /// Stable name of what was found.
    pub code: String,
    /// `advice`, `warning` or `problem`.
    pub severity: String,
    /// What is not as it could be.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

impl Stored for NodeRecord {
    const COLLECTION: Collection = Collection::Nodes;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.node.as_str()
    }
}
