//! What the controller and operators want of a node.

use model::NodeId;
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// What one node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose it is.
    #[serde(with = "text")]
    pub node: NodeId,
    /// Whom to take media from, best first: it uses the first `paths` that offer a broadcast, the others stand by.
    pub parents: Vec<AssignedParent>,
    /// From how many parents a broadcast is taken at once.
    pub paths: u8,
    /// Term of the controller that chose the parents: what an earlier leader still writes loses.
    pub term: u64,
    /// Set while the node is to send its peers away.
    pub drain: Option<Drain>,
}

/// One parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedParent {
    /// Its name.
    #[serde(with = "text")]
    pub node: NodeId,
    /// Its link port, `host:port`.
    pub link: String,
    /// All ways to it, in the order in which this child tries them; none: only that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

/// An order to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// Tells one order from the next.
    pub id: u64,
    /// Seconds, from when the node hears of it, until those who are still there are closed.
    pub deadline_secs: u32,
}

impl Stored for Assignment {
    const COLLECTION: Collection = Collection::Assignments;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.node.as_str()
    }
}
