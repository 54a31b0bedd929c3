//! Records of publishers, and what their node knows beside them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ingest::{PublisherId, PublisherRecord};
use link::exchange::Handover;
use model::Epoch;
use signaling::http::EntityTag;
use signaling::sdp;
use telemetry::RecordRefusal;

use super::Resource;
use super::envelope::Publisher;
use super::keeper::{Found, Keeper, Kind};
use super::memory::Memory;
use super::rings;
use super::viewers::refusal;

/// How often records take up the newest sequence numbers. One may lag 32 767 packets behind and still be resumed from.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// File with the packets of the rings, between two processes.
const RINGS: &str = "rings";
/// Number of the record of [`Memory`].
const MEMORY: u64 = 0;

/// A publisher of an earlier process.
pub struct EarlierPublisher {
    /// Its id, which it keeps.
    pub id: PublisherId,
    /// What the shell knew of it.
    pub session: Publisher,
    /// What its peer knew.
    pub record: PublisherRecord,
}

/// Records of a node's publishers, with what the shell adds to them.
pub struct PublisherRecords {
    keeper: Keeper,
    sessions: BTreeMap<PublisherId, Session>,
    refresh_at: Option<Instant>,
    /// Of an earlier process, until they are asked for.
    earlier: Vec<EarlierPublisher>,
    /// As it was last written.
    memory: Memory,
    /// What the rings hold, from one process to the next.
    rings: PathBuf,
}

struct Session {
    publisher: Publisher,
    /// As it was last written.
    written: Option<PublisherRecord>,
}

impl PublisherRecords {
    /// `directory` is the keeper's.
    pub(super) fn new(directory: &Path, mut keeper: Keeper, found: Vec<Found>) -> Self {
        let (mut earlier, mut memory) = (Vec::new(), Memory::default());
        for Found { kind, number, bytes } in found {
            match kind {
                Kind::Alive => {}
                Kind::Memory => match Memory::decode(&bytes) {
                    Some(known) => memory = known,
                    None => keeper.refuse((kind, number), RecordRefusal::Unusable, &"it is broken"),
                },
                Kind::Viewer => {
                    keeper.refuse((kind, number), RecordRefusal::Unusable, &"it is no publisher's");
                }
                Kind::Publisher => match Publisher::decode(&bytes) {
                    Ok((session, record)) => {
                        earlier.push(EarlierPublisher { id: PublisherId(number), session, record });
                    }
                    Err(error) => keeper.refuse((kind, number), refusal(&error), &error),
                },
            }
        }
        // Of two publishers of a broadcast the later run is to win.
        earlier.sort_by_key(|publisher| publisher.session.epoch);
        let rings = directory.join(RINGS);
        Self { keeper, sessions: BTreeMap::new(), refresh_at: None, earlier, memory, rings }
    }

    /// The highest id of an earlier process's publishers.
    pub(super) fn highest_id(&self) -> u64 {
        self.earlier.iter().map(|publisher| publisher.id.0).max().unwrap_or(0)
    }

    /// The publishers of an earlier process, once, by epoch. Each has its record still, until it is [`Self::refuse`]d or
    /// removed.
    pub fn take_earlier(&mut self) -> Vec<EarlierPublisher> {
        let earlier = std::mem::take(&mut self.earlier);
        for EarlierPublisher { id, session, .. } in &earlier {
            self.sessions.insert(*id, Session { publisher: session.clone(), written: None });
        }
        earlier
    }

    /// A publisher of an earlier process goes on.
    pub fn resumed(&self) {
        self.keeper.resumed();
    }

    /// A publisher of an earlier process cannot go on.
    pub fn refuse(&mut self, id: PublisherId, reason: RecordRefusal, error: &dyn Display) {
        self.sessions.remove(&id);
        self.keeper.refuse((Kind::Publisher, id.0), reason, error);
    }

    /// What this process, or an earlier one, has written down last.
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Writes down what is known beside publishers, if it changed.
    pub fn put_memory(&mut self, now: Instant, memory: Memory) {
        if memory != self.memory {
            self.keeper.put_memory(now, MEMORY, &memory.encode());
            self.memory = memory;
        }
    }

    /// Leaves the rings to the next process: their packets, which are sealed, in a file, and the key in a record.
    pub fn hand_over(&mut self, now: Instant, handover: &Handover) {
        match rings::write(&self.rings, &handover.packets) {
            Ok(()) => {
                let handed_over = Some(handover.key.clone());
                self.put_memory(now, Memory { handed_over, ..self.memory.clone() });
            }
            Err(error) => {
                // A part of it helps nobody, least of all on a full disk.
                let _ = std::fs::remove_file(&self.rings);
                tracing::warn!(%error, "the rings are not handed over: who joins next waits for a keyframe");
            }
        }
    }

    /// What the process before this one left in its rings, once, if it had time to.
    pub fn take_handover(&mut self) -> Option<Handover> {
        let key = self.memory.handed_over.clone()?;
        match rings::take(&self.rings) {
            Ok(packets) => Some(Handover { key, packets }),
            Err(error) => {
                tracing::warn!(%error, "the rings of the process before are lost: who joins next waits for a keyframe");
                None
            }
        }
    }

    /// A publisher was POSTed; it has a record as soon as it is connected.
    pub fn expect(&mut self, id: PublisherId, resource: Resource) {
        let publisher = Publisher { resource, epoch: None };
        self.sessions.insert(id, Session { publisher, written: None });
    }

    /// A publisher has other ICE credentials; its record is to be [`Self::put`] again.
    pub fn restarted(&mut self, id: PublisherId, remote: sdp::IceCredentials, entity_tag: EntityTag) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let resource = &mut session.publisher.resource;
            (resource.peer_ice, resource.entity_tag) = (remote, entity_tag);
            session.written = None;
        }
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
    pub fn remove(&mut self, id: PublisherId) {
        if self.sessions.remove(&id).is_some() {
            self.keeper.remove(Kind::Publisher, id.0);
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
