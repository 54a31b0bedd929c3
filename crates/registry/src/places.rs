//! Which nodes take viewers and publishers, as the leading controller sees them: for front doors.
//!
//! Nodes read it when somebody asks them for a place, at most once a second, and never watch it: a thousand nodes that
//! each heard of every change would cost the store more than all heartbeats.

use model::{NodeId, Role, TreeId};
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::node::{Capacity, Load};
use crate::{Stored, text};

/// Nodes in one record: with the longest names they fit it.
pub const PLACES_MAX: usize = 56;

/// A part of the list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacesRecord {
    /// Its number, from 0, as text.
    pub part: String,
    /// How many parts there are: later ones are left over from when there were more nodes.
    pub parts: u32,
    /// By id.
    pub nodes: Vec<Place>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    #[serde(with = "text")]
    pub node: NodeId,
    /// Its tree.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// What it does.
    #[serde(with = "text")]
    pub role: Role,
    /// Where in the world it is.
    pub region: String,
    /// What the controller believes of it: `ready`, `draining`, `suspect`.
    pub health: String,
    /// Where clients reach it.
    pub url: Option<String>,
    /// Run of its process and number of its report, so that what was promised since is counted right.
    pub report: (u64, u64),
    /// What it takes.
    pub capacity: Capacity,
    /// What it carries; `None`: not known.
    pub load: Option<Load>,
    /// Whom it takes media from.
    pub parents: Vec<String>,
}

impl Stored for PlacesRecord {
    const COLLECTION: Collection = Collection::Places;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        &self.part
    }
}
