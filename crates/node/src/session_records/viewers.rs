//! Records of one shard's viewers.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Instant;

use egress::{ViewerId, ViewerRecord};
use signaling::http::EntityTag;
use signaling::sdp;
use telemetry::RecordRefusal;

use super::Resource;
use super::envelope::{DecodeError, Viewer};
use super::keeper::{Found, Keeper, Kind};

/// Records of the viewers of one shard, with what the shell adds to them.
pub struct ViewerRecords {
    keeper: Keeper,
    sessions: HashMap<ViewerId, Viewer>,
    /// Of an earlier process, until they are asked for.
    earlier: Vec<(Viewer, ViewerRecord)>,
}

impl ViewerRecords {
    pub(super) fn new(mut keeper: Keeper, found: Vec<Found>) -> Self {
        let mut earlier = Vec::new();
        for Found { kind, number, bytes } in found {
            match kind {
                Kind::Alive | Kind::Memory => {}
                Kind::Publisher => {
                    keeper.refuse((kind, number), RecordRefusal::Unusable, &"it is no viewer's");
                }
                Kind::Viewer => match Viewer::decode(&bytes) {
                    Ok((viewer, record)) if record.id.get() == number => earlier.push((viewer, record)),
                    Ok(_) => {
                        keeper.refuse((kind, number), RecordRefusal::Unusable, &"it is another viewer's")
                    }
                    Err(error) => keeper.refuse((kind, number), refusal(&error), &error),
                },
            }
        }
        Self { keeper, sessions: HashMap::new(), earlier }
    }

    /// The highest id of an earlier process's viewers.
    pub(super) fn highest_id(&self) -> u64 {
        self.earlier.iter().map(|(_, record)| record.id.get()).max().unwrap_or(0)
    }

    /// The viewers of an earlier process, once. Each has its record still, until it is [`Self::refuse`]d or removed.
    pub fn take_earlier(&mut self) -> Vec<(Viewer, ViewerRecord)> {
        let earlier = std::mem::take(&mut self.earlier);
        self.sessions.extend(earlier.iter().map(|(viewer, record)| (record.id, viewer.clone())));
        earlier
    }

    /// A viewer of an earlier process goes on.
    pub fn resumed(&self) {
        self.keeper.resumed();
    }

    /// A viewer of an earlier process cannot go on.
    pub fn refuse(&mut self, viewer: ViewerId, error: &dyn Display) {
        self.sessions.remove(&viewer);
        self.keeper.refuse((Kind::Viewer, viewer.get()), RecordRefusal::Unusable, error);
    }

    /// A viewer was POSTed; it has a record as soon as [`Self::put`] is called for it.
    pub fn expect(&mut self, viewer: ViewerId, resource: Resource, local: ice_dtls::IceCredentials) {
        self.sessions.insert(viewer, Viewer { resource, local });
    }

    /// A viewer has other ICE credentials; its record is to be [`Self::put`] again.
    pub fn restarted(
        &mut self,
        viewer: ViewerId,
        local: ice_dtls::IceCredentials,
        remote: sdp::IceCredentials,
        entity_tag: EntityTag,
    ) {
        if let Some(session) = self.sessions.get_mut(&viewer) {
            session.local = local;
            (session.resource.peer_ice, session.resource.entity_tag) = (remote, entity_tag);
        }
    }

    /// Writes the record of a viewer.
    pub fn put(&mut self, now: Instant, viewer: ViewerId, record: &ViewerRecord) {
        if let Some(session) = self.sessions.get(&viewer) {
            self.keeper.put(now, Kind::Viewer, viewer.get(), &session.encode(record));
        }
    }

    /// The viewer is gone, and so is its record.
    pub fn remove(&mut self, viewer: ViewerId) {
        if self.sessions.remove(&viewer).is_some() {
            self.keeper.remove(Kind::Viewer, viewer.get());
        }
    }

    /// Time has passed: says now and then that the process is alive.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.keeper.keep_alive(now);
    }
}

/// The label for what cannot be read.
pub(super) const fn refusal(error: &DecodeError) -> RecordRefusal {
    match error {
        DecodeError::Version { .. }
        | DecodeError::Viewer(egress::DecodeError::Version { .. })
        | DecodeError::Publisher(ingest::DecodeError::Version { .. }) => RecordRefusal::Version,
        DecodeError::Malformed | DecodeError::Viewer(_) | DecodeError::Publisher(_) => {
            RecordRefusal::Unusable
        }
    }
}
