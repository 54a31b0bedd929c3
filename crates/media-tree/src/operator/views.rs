//! What the operator API answers, as far as it is shown. What a later controller adds is left alone.

use serde::Deserialize;

/// Everything at once.
#[derive(Deserialize)]
pub struct Installation {
    pub controller: String,
    pub leader: Option<String>,
    pub is_store_up: bool,
    pub is_settled: bool,
    pub decide_micros: u64,
    pub findings: Vec<String>,
    pub trees: Vec<Tree>,
    pub nodes: Vec<Node>,
    pub broadcasts: Vec<Broadcast>,
}

/// One tree.
#[derive(Deserialize)]
pub struct Tree {
    pub id: String,
    pub template: String,
    pub shape: Shape,
    pub created: u64,
    pub nodes: u64,
    pub viewers: u64,
    pub broadcasts: u64,
}

/// What a tree is made of.
#[derive(Deserialize)]
pub struct Shape {
    pub injection: u32,
    pub relay: u32,
    pub egress: u32,
    pub sub_tree_egress: u32,
    pub warm_slots: u32,
    pub cold_slots: u32,
    pub nodes_max: u32,
    pub direct_children_max: u32,
    pub paths: u8,
    pub standbys: u8,
    /// Older controllers tell neither of these.
    pub relay_levels_max: Option<u8>,
    pub relay_children_max: Option<u32>,
}

/// One slot.
#[derive(Deserialize)]
pub struct Slot {
    pub tree: String,
    pub number: u32,
    pub state: String,
    pub since: u64,
    pub nodes: Vec<String>,
    pub failures: u32,
    pub proposal: Option<Proposal>,
}

/// What a slot waits for.
#[derive(Deserialize)]
pub struct Proposal {
    pub change: String,
    pub is_approved: bool,
    pub reason: String,
}

/// One node.
#[derive(Deserialize)]
pub struct Node {
    pub id: String,
    pub tree: String,
    pub role: String,
    pub health: String,
    pub region: String,
    pub zone: Option<String>,
    pub host: String,
    pub url: Option<String>,
    pub link: Option<String>,
    #[serde(default)]
    pub links: Vec<String>,
    pub ops: Option<String>,
    pub capacity: Capacity,
    pub load: Load,
    pub parents: Vec<Parent>,
    pub broadcasts: Vec<Watched>,
    pub drain: Option<Drain>,
    pub version: String,
}

/// What a node takes.
#[derive(Deserialize)]
pub struct Capacity {
    pub viewers: u32,
    pub publishers: u32,
    pub children: u32,
    pub egress_mbps: Option<u32>,
    pub packets_per_second: Option<u32>,
}

/// What a node carries.
#[derive(Deserialize)]
pub struct Load {
    pub viewers: u32,
    pub publishers: u32,
    pub children: u32,
    pub cpu_percent: Option<f64>,
    pub shard_percent: Option<f64>,
    pub transmit_mbps: Option<f64>,
    pub packets_per_second: Option<f64>,
    pub promised_mbps: Option<f64>,
    pub promised_packets_per_second: Option<f64>,
}

/// One link.
#[derive(Deserialize)]
pub struct Parent {
    pub node: String,
    pub is_assigned: bool,
    pub is_alive: bool,
    pub joined: u32,
    pub round_trip_ms: Option<f64>,
    pub packets: u64,
    #[serde(default)]
    pub repaired: u64,
}

/// Viewers of a broadcast at one node.
#[derive(Deserialize)]
pub struct Watched {
    pub broadcast: String,
    pub viewers: u32,
}

/// An order to drain.
#[derive(Deserialize)]
pub struct Drain {
    pub deadline_secs: u32,
}

/// One broadcast.
#[derive(Deserialize)]
pub struct Broadcast {
    pub id: String,
    pub tree: String,
    pub origin: Option<String>,
    pub state: String,
    pub viewers: u64,
    pub created: Option<u64>,
    /// `None` until it is measured, and from older controllers.
    pub rates: Option<Rates>,
    /// Older controllers tell none.
    #[serde(default)]
    pub advice: Vec<Advice>,
}

/// What a broadcast takes.
#[derive(Deserialize)]
pub struct Rates {
    pub viewer_kbps: u32,
    pub viewer_packets: u32,
}

/// What a publisher could do better.
#[derive(Deserialize)]
pub struct Advice {
    pub code: String,
    pub severity: String,
    pub what: String,
    pub remedy: String,
}

/// What a publisher needs.
#[derive(Deserialize)]
pub struct PublishKey {
    pub id: String,
    pub publish_key: String,
    pub whip_path: String,
}

/// One decision.
#[derive(Deserialize)]
pub struct Decision {
    pub tree: String,
    pub at: u64,
    pub kind: String,
    pub reason: String,
}

/// Who watches a broadcast, and where.
#[derive(Deserialize)]
pub struct Audience {
    pub broadcast: String,
    pub tree: String,
    pub viewers: u64,
    pub nodes: Vec<NodeAudience>,
}

/// Viewers of a broadcast at one node.
#[derive(Deserialize)]
pub struct NodeAudience {
    pub node: String,
    pub viewers: u32,
}
