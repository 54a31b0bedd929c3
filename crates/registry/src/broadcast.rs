//! Who publishes what: written by injection nodes, fenced by epochs.

use model::{BroadcastId, BroadcastState, Epoch, NodeId, TreeId};
use serde::{Deserialize, Serialize};
use store::Collection;

use crate::{Stored, text};

/// One broadcast and the node that gives it its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BroadcastRecord {
    /// Its name.
    #[serde(with = "text")]
    pub broadcast: BroadcastId,
    /// The tree that carries it.
    #[serde(with = "text")]
    pub tree: TreeId,
    /// Its injection node.
    #[serde(with = "text")]
    pub origin: NodeId,
    /// The publishing run; `None` before the first one.
    pub epoch: Option<RecordedEpoch>,
    /// Whether a publisher is there.
    pub state: RecordedState,
    /// What it takes; `None` before that is known, and from an injection node of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<Rates>,
}

/// What a broadcast takes, as its injection node has measured it, with what the network adds up to UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// One viewer: sound and the largest picture.
    pub viewer_kbps: u32,
    /// One viewer's packets in a second.
    pub viewer_packets: u32,
    /// One child: all layers.
    pub child_kbps: u32,
    /// One child's packets in a second.
    pub child_packets: u32,
}

/// [`Epoch`] as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordedEpoch {
    /// The run.
    pub counter: u64,
    /// Its random part.
    pub random: u64,
}

/// [`BroadcastState`] as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedState {
    /// Without a publisher.
    Waiting,
    /// With one.
    Live,
}

impl From<Epoch> for RecordedEpoch {
    fn from(Epoch { counter, random }: Epoch) -> Self {
        Self { counter, random }
    }
}

impl From<RecordedEpoch> for Epoch {
    fn from(RecordedEpoch { counter, random }: RecordedEpoch) -> Self {
        Self { counter, random }
    }
}

impl From<BroadcastState> for RecordedState {
    fn from(state: BroadcastState) -> Self {
        match state {
            BroadcastState::Waiting => Self::Waiting,
            BroadcastState::Live => Self::Live,
        }
    }
}

impl Stored for BroadcastRecord {
    const COLLECTION: Collection = Collection::Broadcasts;
    const SCHEMA: u32 = 1;
    fn id(&self) -> &str {
        self.broadcast.as_str()
    }
}
