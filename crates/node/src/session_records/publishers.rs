//! Records of publishers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ingest::{PublisherId, PublisherRecord};
use model::Epoch;

use super::Resource;
use super::envelope::Publisher;
use super::keeper::{Keeper, Kind};

/// How often records take up the newest sequence numbers. One may lag 32 767 packets behind and still be resumed from.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Records of a node's publishers, with what the shell adds to them.
pub struct PublisherRecords {
    keeper: Keeper,
    sessions: BTreeMap<PublisherId, Session>,
    refresh_at: Option<Instant>,
}

struct Session {
    publisher: Publisher,
    /// As it was last written.
    written: Option<PublisherRecord>,
}

impl PublisherRecords {
    pub(super) const fn new(keeper: Keeper) -> Self {
        Self { keeper, sessions: BTreeMap::new(), refresh_at: None }
    }

    /// A publisher was POSTed; it has a record as soon as it is connected.
    pub fn expect(&mut self, id: PublisherId, resource: Resource) {
        let publisher = Publisher { resource, epoch: None };
        self.sessions.insert(id, Session { publisher, written: None });
    }

    /// Writes the record of a publisher if it changed; `epoch` is the publishing run that it is.
    pub fn put(
        &mut self,
        now: Instant,
        id: PublisherId,
        record: Option<PublisherRecord>,
        epoch: Option<Epoch>,
    ) {
        let Some((session, record)) = self.sessions.get_mut(&id).zip(record) else { return };
        if session.publisher.epoch == epoch && session.written.as_ref() == Some(&record) {
            return;
        }
        session.publisher.epoch = epoch;
        let is_written = self.keeper.put(now, Kind::Publisher, id.0, &session.publisher.encode(&record));
        session.written = is_written.then_some(record);
    }

    /// The publisher is gone, and so is its record.
    pub fn remove(&mut self, now: Instant, id: PublisherId) {
        if self.sessions.remove(&id).is_some() {
            self.keeper.remove(now, Kind::Publisher, id.0);
        }
    }

    /// Time has passed; true if all records are to be put again.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.keeper.keep_alive(now);
        let is_due = self.refresh_at.is_none_or(|at| now >= at);
        if is_due {
            self.refresh_at = Some(now + REFRESH_INTERVAL);
        }
        is_due
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.refresh_at
    }
}
