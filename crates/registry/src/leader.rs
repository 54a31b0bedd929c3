//! Which controller acts.

use model::NodeId;
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// The id of the only record of its collection.
pub const LEADER: &str = "controller";

/// The lease of the acting controller. Others take it when it has not changed for its time, by their own clocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// Who acts, for people; `None`: given back.
    #[serde(with = "text::option")]
    pub controller: Option<NodeId>,
    /// The run of its process, 32 hexadecimal digits.
    pub candidate: Option<String>,
    /// Grows with each change of the holder.
    pub term: u64,
    /// Grows with each write.
    pub attempt: u64,
}

impl Stored for LeaderRecord {
    const COLLECTION: Collection = Collection::Leaders;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        LEADER
    }
}
