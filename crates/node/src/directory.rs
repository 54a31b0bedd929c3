//! What this node knows of broadcasts, for HTTP: written by the tree thread when something changes, read by requests.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use model::{Broadcast, BroadcastId, BroadcastState};
use tokio::sync::watch;

use crate::cues::Cues;

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
    /// What broadcasts have beside their media.
    pub cues: Cues,
    tables: RwLock<Tables>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Tables {
    entries: BTreeMap<BroadcastId, Entry>,
    /// Viewers of broadcasts that are not known, or not yet: sessions of an earlier process go on before anybody has
    /// told this one of their broadcasts.
    early: BTreeMap<BroadcastId, u64>,
}

impl Directory {
    /// Learns of a broadcast or of its change.
    pub fn changed(&self, now: SystemTime, broadcast: Broadcast) {
        let mut tables = self.write();
        match tables.entries.get_mut(&broadcast.id) {
            Some(entry) => {
                if entry.broadcast.state != broadcast.state || entry.broadcast.epoch != broadcast.epoch {
                    entry.since = now;
                }
                entry.broadcast = broadcast;
            }
            None => {
                let viewers = tables.early.remove(&broadcast.id).unwrap_or(0);
                tables.entries.insert(broadcast.id.clone(), Entry { broadcast, since: now, viewers });
            }
        }
        self.changes.send_replace(());
    }

    /// Forgets a broadcast; its viewers go one by one.
    pub fn retired(&self, id: &BroadcastId) {
        let mut tables = self.write();
        if let Some(entry) = tables.entries.remove(id).filter(|entry| entry.viewers > 0) {
            tables.early.insert(id.clone(), entry.viewers);
        }
        self.changes.send_replace(());
    }

    /// One viewer more or less of a broadcast, which need not be known.
    pub fn viewers_changed(&self, id: &BroadcastId, by: i64) {
        let mut tables = self.write();
        if let Some(entry) = tables.entries.get_mut(id) {
            entry.viewers = entry.viewers.saturating_add_signed(by);
            self.changes.send_replace(());
            return;
        }
        let viewers = tables.early.entry(id.clone()).or_default();
        *viewers = viewers.saturating_add_signed(by);
        if *viewers == 0 {
            tables.early.remove(id);
        }
    }

    /// The broadcast of this name.
    #[must_use]
    pub fn get(&self, id: &BroadcastId) -> Option<Entry> {
        self.read().entries.get(id).cloned()
    }

    /// All broadcasts, in the order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<Entry> {
        self.read().entries.values().cloned().collect()
    }

    /// Viewers of each broadcast that somebody watches here, known or not.
    #[must_use]
    pub fn viewers(&self) -> Vec<(BroadcastId, u64)> {
        let tables = self.read();
        let known = tables.entries.iter().map(|(id, entry)| (id.clone(), entry.viewers));
        let early = tables.early.iter().map(|(id, viewers)| (id.clone(), *viewers));
        known.chain(early).filter(|(_, viewers)| *viewers > 0).collect()
    }

    /// Tells whenever something here has changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_are_counted_before_their_broadcast_is_known_and_after() {
        let directory = Directory::default();
        let id = BroadcastId::new("show").expect("an id");
        directory.viewers_changed(&id, 1);
        directory.viewers_changed(&id, 1);
        assert!(directory.get(&id).is_none() && directory.list().is_empty());
        let known = || directory.changed(SystemTime::now(), Broadcast::waiting(id.clone()));
        let viewers = || directory.get(&id).map(|entry| entry.viewers);
        known();
        assert_eq!(viewers(), Some(2));
        directory.viewers_changed(&id, 1);
        directory.retired(&id);
        directory.viewers_changed(&id, -1);
        known();
        assert_eq!(viewers(), Some(2));
        directory.retired(&id);
        directory.viewers_changed(&id, -1);
        directory.viewers_changed(&id, -1);
        directory.viewers_changed(&id, -1);
        known();
        assert_eq!(viewers(), Some(0), "never below none, and nothing is remembered");
    }
}
