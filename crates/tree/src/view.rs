//! What a controller sees: plain data, built by the shell from records and from [`crate::membership`].

use std::fmt;
use std::sync::Arc;

use model::{Bitrate, BroadcastId, NodeId, Role, TreeId};

use crate::Template;

/// The version of a stored record: two different writes never have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows with each write; may go back when a store loses its latest writes.
    pub counter: u64,
    /// Drawn at random for each write.
    pub writer: u64,
}

/// One run of a node's process; the higher one is the later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation {
    /// Grows with each start.
    pub counter: u64,
    /// Drawn at random at each start.
    pub random: u64,
}

/// What an observer believes of a node, by its own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// Alive, takes children, viewers and publishers.
    Ready,
    /// Alive, takes nobody new.
    Draining,
    /// Not heard for a moment: keeps what it has, gets nothing new.
    Suspect,
    /// Not heard for so long that it is out of every decision.
    Dead,
}

impl Health {
    /// The word for people and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }

    /// Everything but dead.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        !matches!(self, Self::Dead)
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a node stands. Empty texts: not told, shared with nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Links within a region are short and cheap.
    pub region: Arc<str>,
    /// Part of a region that fails on its own.
    pub zone: Arc<str>,
    /// Identity of the machine: nodes with the same one share its fate.
    pub host: Arc<str>,
}

/// What flows in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rate {
    /// Bits.
    pub bits: Bitrate,
    /// Packets.
    pub packets: u64,
}

impl Rate {
    /// So many of these.
    #[must_use]
    pub const fn times(self, count: u64) -> Self {
        let bits = Bitrate::bps(self.bits.as_bps().saturating_mul(count));
        Self { bits, packets: self.packets.saturating_mul(count) }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        let bits = Bitrate::bps(self.bits.as_bps().saturating_add(more.bits.as_bps()));
        Self { bits, packets: self.packets.saturating_add(more.packets) }
    }

    /// What is left of it without those.
    #[must_use]
    pub const fn less(self, other: Self) -> Self {
        let bits = Bitrate::bps(self.bits.as_bps().saturating_sub(other.bits.as_bps()));
        Self { bits, packets: self.packets.saturating_sub(other.packets) }
    }

    /// The larger one of each.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        Self { bits: self.bits.max(other.bits), packets: self.packets.max(other.packets) }
    }
}

/// The most that a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Viewers at once.
    pub viewers_max: u32,
    /// Publishers at once.
    pub publishers_max: u32,
    /// Children connected at once, those that only stand by included.
    pub children_max: u32,
    /// What its network carries towards viewers and children; `None`: not limited.
    pub egress_max: Option<Bitrate>,
    /// Packets that it carries there in a second; `None`: not limited.
    pub packets_per_second_max: Option<u64>,
}

impl Capacity {
    /// How many more of `each` the network carries beside `used`; `None`: as many as there are.
    #[must_use]
    pub fn fits(&self, used: Rate, each: Rate) -> Option<u64> {
        let room = |most: Option<u64>, used: u64, each: u64| most?.saturating_sub(used).checked_div(each);
        let bits = room(self.egress_max.map(Bitrate::as_bps), used.bits.as_bps(), each.bits.as_bps());
        let packets = room(self.packets_per_second_max, used.packets, each.packets);
        bits.into_iter().chain(packets).min()
    }
}

/// What a node carries, as its last heartbeat says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Viewers connected.
    pub viewers: u32,
    /// Publishers connected.
    pub publishers: u32,
    /// Children connected.
    pub children: u32,
    /// Processor time used, of all that the process may use.
    pub cpu_percent: u8,
    /// How busy the busiest egress shard is.
    pub shard_percent: u8,
    /// Sent in the latest second.
    pub sent: Bitrate,
    /// Sent in the latest second.
    pub packets_per_second: u64,
    /// What all its viewers may take, those that it expects included, as far as it knows what they watch.
    pub promised: Rate,
}

impl Load {
    /// Sent in the latest second.
    #[must_use]
    pub const fn sent(&self) -> Rate {
        Rate { bits: self.sent, packets: self.packets_per_second }
    }
}

/// An assignment as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Best first; a node takes each broadcast from the first `paths` of them that offer it.
    pub parents: Vec<NodeId>,
    /// From how many parents each broadcast is taken at once.
    pub paths: u8,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Unique for ever.
    pub id: NodeId,
    /// The tree that it serves.
    pub tree: TreeId,
    /// What it does there. Controllers are no part of a tree's shape and are passed over.
    pub role: Role,
    /// Where it stands.
    pub place: Place,
    /// The run of its process.
    pub incarnation: Incarnation,
    /// From [`crate::membership::Membership::health`].
    pub health: Health,
    /// The most that it takes.
    pub capacity: Capacity,
    /// `None`: not known, which is never taken for idle.
    pub load: Option<Load>,
    /// Its stored assignment, if it has one.
    pub assigned: Option<Assigned>,
    /// The parents it is connected to, as its last heartbeat says.
    pub connected: Vec<NodeId>,
}

/// One broadcast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastView {
    /// Its name, unique in its tree.
    pub id: BroadcastId,
    /// The tree that distributes it.
    pub tree: TreeId,
    /// The injection node that has it, or had it last; `None` before it was first published.
    pub origin: Option<NodeId>,
    /// The most that one viewer of it takes, where that is known.
    pub viewer: Option<Rate>,
    /// All its streams together, which a child may take, where that is known.
    pub child: Option<Rate>,
}

/// One tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeView {
    /// Its name.
    pub id: TreeId,
    /// The shape it was created with.
    pub template: Template,
}

/// Everything that a decision rests on. The order of the lists does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// From [`crate::membership::Membership::is_settled`]; nothing is decided before.
    pub is_settled: bool,
    /// All trees.
    pub trees: Vec<TreeView>,
    /// All nodes, dead ones too.
    pub nodes: Vec<NodeView>,
    /// All broadcasts.
    pub broadcasts: Vec<BroadcastView>,
}
