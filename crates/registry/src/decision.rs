//! What controllers have done lately, and why.

use std::collections::VecDeque;

use model::TreeId;
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// Decisions kept for each tree: with the longest reasons they fit a record.
pub const DECISIONS_MAX: usize = 100;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 400;

/// The latest decisions about one tree, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionsRecord {
    /// The tree.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// At most [`DECISIONS_MAX`].
    pub decisions: VecDeque<Decision>,
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Seconds since 1970, in the clock of the controller.
    pub at: u64,
    /// Which controller.
    pub controller: String,
    /// What kind: `assign`, `forget`, ...
    pub kind: String,
    /// Whom it is about.
    pub node: Option<String>,
    /// What was done and why, for people.
    pub reason: String,
}

impl DecisionsRecord {
    /// None yet.
    #[must_use]
    pub const fn new(tree: TreeId) -> Self {
        Self { tree, decisions: VecDeque::new() }
    }

    /// Adds the latest one; the oldest makes room.
    pub fn push(&mut self, mut decision: Decision) {
        let mut end = REASON_BYTES_MAX.min(decision.reason.len());
        while !decision.reason.is_char_boundary(end) {
            end -= 1;
        }
        decision.reason.truncate(end);
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }
}

impl Stored for DecisionsRecord {
    const COLLECTION: Collection = Collection::Decisions;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.tree.as_str()
    }
}
