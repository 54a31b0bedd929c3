//! The slots that trees grow by.

use model::{NodeId, Role, TreeId};
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// All slots of one tree, in one record: what is decided about several of them happens together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsRecord {
    /// The tree.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// Term of the controller that wrote it: what an earlier leader still writes loses.
    pub term: u64,
    /// By number.
    pub slots: Vec<SlotEntry>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotEntry {
    /// Its number in its tree.
    pub number: u32,
    /// How far it has come: `cold`, `warming`, `warm`, `growing`, `attached`, `draining`, `stopping`.
    pub state: String,
    /// Since when, in seconds since 1970 in the clock of the controller: for people, nothing is decided by it.
    pub since: u64,
    /// Who starts and stops its nodes.
    pub place: String,
    /// Its nodes.
    pub nodes: Vec<SlotNode>,
    /// Failed starts in a row.
    pub failures: u32,
    /// Tells the orders to drain of its latest drain from others.
    pub drain: u64,
    /// What waits for an operator.
    pub proposal: Option<Proposal>,
}

/// A node of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotNode {
    /// Its name.
    #[serde(with = "text")]
    pub node: NodeId,
    /// Relay or egress.
    #[serde(with = "text")]
    pub role: Role,
}

/// A change that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// `grow` or `shrink`.
    pub change: String,
    /// An operator has allowed it.
    pub is_approved: bool,
    /// Why it is wanted, for people.
    pub reason: String,
}

impl Stored for SlotsRecord {
    const COLLECTION: Collection = Collection::Slots;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.tree.as_str()
    }
}
