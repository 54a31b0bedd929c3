//! The trees of an installation.

use model::TreeId;
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// One tree, as an operator asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRecord {
    /// Its name.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// The template it was made from, for people.
    pub template: String,
    /// What it is made of.
    pub shape: Shape,
    /// Seconds since 1970.
    pub created: u64,
}

/// Counts and limits of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Injection nodes wanted.
    pub injection: u32,
    /// Relay nodes wanted.
    pub relay: u32,
    /// Egress nodes wanted.
    pub egress: u32,
    /// Egress nodes of one sub-tree.
    pub sub_tree_egress: u32,
    /// Relay-slots that run and carry nothing.
    pub warm_slots: u32,
    /// Relay-slots that are made and not started.
    pub cold_slots: u32,
    /// Most nodes that the tree may have.
    pub nodes_max: u32,
    /// Most egress nodes that an injection node feeds without a relay between them.
    pub direct_children_max: u32,
    /// From how many parents a node takes each broadcast at once.
    pub paths: u8,
    /// Parents beyond those, connected and silent.
    pub standbys: u8,
    /// Most relays in a row; 0: none at all.
    #[serde(default = "relay_levels_max")]
    pub relay_levels_max: u8,
    /// Most children of a relay; `None`: as many as it takes by itself.
    #[serde(default)]
    pub relay_children_max: Option<u32>,
}

/// Of trees that were made when no template said it.
const fn relay_levels_max() -> u8 {
    4
}

impl Stored for TreeRecord {
    const COLLECTION: Collection = Collection::Trees;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.tree.as_str()
    }
}
