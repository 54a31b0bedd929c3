//! What this node knows of broadcasts, for HTTP: written by the tree thread when something changes, read by requests.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::SystemTime;

use model::{Broadcast, BroadcastId, BroadcastState};

/// One broadcast as this node sees it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What injection announced last.
    pub broadcast: Broadcast,
    /// When it came into its present state.
    pub since: SystemTime,
    /// Viewers of it on this node.
    pub viewers: u64,
}

/// All broadcasts this node knows.
#[derive(Debug, Default)]
pub struct Directory {
    entries: RwLock<BTreeMap<BroadcastId, Entry>>,
}

impl Directory {
    /// Learns of a broadcast or of its change.
    pub fn changed(&self, now: SystemTime, broadcast: Broadcast) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match entries.get_mut(&broadcast.id) {
            Some(entry) => {
                if entry.broadcast.state != broadcast.state || entry.broadcast.epoch != broadcast.epoch {
                    entry.since = now;
                }
                entry.broadcast = broadcast;
            }
            None => {
                entries.insert(broadcast.id.clone(), Entry { broadcast, since: now, viewers: 0 });
            }
        }
    }

    /// Forgets a broadcast.
    pub fn retired(&self, id: &BroadcastId) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// One viewer more or less of a broadcast.
    pub fn viewers_changed(&self, id: &BroadcastId, by: i64) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(id) {
            entry.viewers = entry.viewers.saturating_add_signed(by);
        }
    }

    /// The broadcast of this name.
    #[must_use]
    pub fn get(&self, id: &BroadcastId) -> Option<Entry> {
        self.read().get(id).cloned()
    }

    /// All broadcasts, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        self.read().values().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<BroadcastId, Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// The state in a word, as the API and the pages say it.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self.broadcast.state {
            BroadcastState::Live => "live",
            BroadcastState::Waiting => "waiting",
        }
    }
}
