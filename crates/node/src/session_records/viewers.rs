//! Records of one shard's viewers.

use std::collections::HashMap;
use std::time::Instant;

use egress::{ViewerId, ViewerRecord};

use super::Resource;
use super::envelope::Viewer;
use super::keeper::{Keeper, Kind};

/// Records of the viewers of one shard, with what the shell adds to them.
pub struct ViewerRecords {
    keeper: Keeper,
    sessions: HashMap<ViewerId, Viewer>,
}

impl ViewerRecords {
    pub(super) fn new(keeper: Keeper) -> Self {
        Self { keeper, sessions: HashMap::new() }
    }

    /// A viewer was POSTed; it has a record as soon as [`Self::put`] is called for it.
    pub fn expect(&mut self, viewer: ViewerId, resource: Resource, local: ice_dtls::IceCredentials) {
        self.sessions.insert(viewer, Viewer { resource, local });
    }

    /// Writes the record of a viewer.
    pub fn put(&mut self, now: Instant, viewer: ViewerId, record: &ViewerRecord) {
        if let Some(session) = self.sessions.get(&viewer) {
            self.keeper.put(now, Kind::Viewer, viewer.get(), &session.encode(record));
        }
    }

    /// The viewer is gone, and so is its record.
    pub fn remove(&mut self, now: Instant, viewer: ViewerId) {
        if self.sessions.remove(&viewer).is_some() {
            self.keeper.remove(now, Kind::Viewer, viewer.get());
        }
    }

    /// Time has passed: says now and then that the process is alive.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.keeper.keep_alive(now);
    }
}
