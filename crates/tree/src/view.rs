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

/// The most that a node takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Viewers at once.
    pub viewers_max: u32,
    /// Publishers at once.
    pub publishers_max: u32,
    /// Children connected at once, those that only stand by included.
    pub children_max: u32,
    /// Media towards viewers; `None`: not limited.
    pub egress_max: Option<Bitrate>,
    /// Packets towards viewers in a second; `None`: not limited.
    pub packets_per_second_max: Option<u64>,
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
    /// All its streams together, where it is known.
    pub bitrate: Option<Bitrate>,
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
