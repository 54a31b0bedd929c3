//! The lease record of the acting controller, as [`tree::election`] wants it written and read.

use std::time::Instant;

use model::NodeId;
use registry::{LEADER, LeaderRecord, Registry, Versioned};
use store::{PutError, WatchEvent, Write};
use tree::election::{Candidate, Election, Lease, Observed, Outcome};

use crate::convert;

/// Takes part in the election.
pub struct Elector {
    pub election: Election,
    controller: NodeId,
    registry: Registry,
    /// The record of the last write, and its version as the store has it.
    seen: Option<Versioned<LeaderRecord>>,
}

impl Elector {
    /// `is_alone`: nobody else can reach the store.
    pub fn new(
        now: Instant,
        registry: Registry,
        (controller, candidate): (NodeId, u128),
        is_alone: bool,
    ) -> Self {
        let me = Candidate(candidate);
        let election = if is_alone { Election::alone(now, me) } else { Election::new(now, me) };
        Self { election, controller, registry, seen: None }
    }

    /// The watch says something of the record.
    pub fn changed(&mut self, now: Instant, event: WatchEvent) {
        let seen = match event {
            WatchEvent::Snapshot(records) => records.iter().find_map(|record| Versioned::of(record).ok()),
            WatchEvent::Put(record) => Versioned::of(&record).ok(),
            WatchEvent::Gone(_) => None,
        };
        self.observed(now, seen);
    }

    fn observed(&mut self, now: Instant, seen: Option<Versioned<LeaderRecord>>) {
        self.election.observed(now, seen.as_ref().map(observed));
        self.seen = seen;
    }

    /// Writes what is due.
    pub async fn tick(&mut self) {
        let Some(write) = self.election.poll_write(Instant::now()) else { return };
        self.write(&write).await;
    }

    /// Lets another one lead at once.
    pub async fn resign(&mut self) {
        if let Some(write) = self.election.resign(Instant::now()) {
            self.write(&write).await;
        }
    }

    async fn write(&mut self, write: &tree::election::Write) {
        let holder = write.lease.holder;
        let record = LeaderRecord {
            controller: holder.map(|_| self.controller.clone()),
            candidate: holder.map(|Candidate(run)| format!("{run:032x}")),
            term: write.lease.term,
            attempt: write.lease.attempt,
        };
        let expect = match write.expect {
            None => store::Expect::Absent,
            Some(expected) => {
                store::Expect::Version(store::Version { counter: expected.counter, writer: expected.writer })
            }
        };
        let put = self.registry.put(&record, Write::expecting(expect)).await;
        let now = Instant::now();
        let outcome = match put {
            Ok(version) => Outcome::Written(convert::version(version)),
            Err(registry::RegistryError::Put(PutError::Conflict { current })) => {
                let current = current.and_then(|record| Versioned::of(&record).ok());
                Outcome::Conflict(current.as_ref().map(observed))
            }
            Err(error) => {
                tracing::debug!(%error, "the lease was not written");
                Outcome::Unknown
            }
        };
        self.election.written(now, write, outcome);
    }

    /// Whether this controller acts.
    pub fn is_leader(&self) -> bool {
        self.election.is_leader(Instant::now())
    }

    /// Who acts, by name.
    pub fn leader(&self) -> Option<&NodeId> {
        self.seen.as_ref()?.record.controller.as_ref()
    }
}

/// The name of the record.
pub const RECORD: &str = LEADER;

fn observed(found: &Versioned<LeaderRecord>) -> Observed {
    let record = &found.record;
    let holder = record.candidate.as_deref().and_then(|run| u128::from_str_radix(run, 16).ok());
    Observed {
        lease: Lease { holder: holder.map(Candidate), term: record.term, attempt: record.attempt },
        version: convert::version(found.version),
    }
}
