//! What an earlier process left behind.

use std::time::SystemTime;

use records::{Record, RecordError};

use super::envelope::{Publisher, Viewer};
use super::keeper::Kind;

/// Sums over all stores.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    publishers: usize,
    viewers: usize,
    /// Sealed with another key.
    foreign: usize,
    /// Torn, changed, or of another version.
    unreadable: usize,
    /// When a record was last written.
    alive_at: Option<SystemTime>,
}

impl Earlier {
    /// Adds what a store found in one of its slots.
    pub fn add(&mut self, found: &Result<Record, RecordError>) {
        match found {
            Ok(record) => self.add_record(record),
            Err(RecordError::Foreign) => self.foreign += 1,
            Err(error) => self.refuse(error),
        }
    }

    fn add_record(&mut self, record: &Record) {
        self.alive_at = self.alive_at.max(Some(record.written_at));
        let (resource, count) = match Kind::from_number(record.id.kind) {
            Some(Kind::Alive) => return,
            Some(Kind::Publisher) => {
                (Publisher::decode(&record.bytes).map(|(it, _)| it.resource), &mut self.publishers)
            }
            Some(Kind::Viewer) => {
                (Viewer::decode(&record.bytes).map(|(it, _)| it.resource), &mut self.viewers)
            }
            None => return self.refuse(&format_args!("kind {} is unknown", record.id.kind)),
        };
        match resource {
            Ok(resource) => {
                *count += 1;
                tracing::debug!(broadcast = %resource.broadcast, session = ?resource.id, "session of an earlier process");
            }
            Err(error) => self.refuse(&error),
        }
    }

    fn refuse(&mut self, reason: &dyn std::fmt::Display) {
        self.unreadable += 1;
        tracing::debug!(%reason, "record of an earlier process refused");
    }

    /// Publishers, viewers, and records that say nothing.
    #[cfg(test)]
    pub const fn sessions(&self) -> (usize, usize, usize) {
        (self.publishers, self.viewers, self.unreadable)
    }

    /// Records of another key.
    #[cfg(test)]
    pub const fn foreign(&self) -> usize {
        self.foreign
    }

    /// Says what was found, if anything was.
    pub fn log(&self) {
        let sessions = self.publishers + self.viewers;
        if sessions > 0 {
            let silence = self.alive_at.and_then(|at| at.elapsed().ok()).unwrap_or_default();
            tracing::warn!(
                publishers = self.publishers,
                viewers = self.viewers,
                silent_ms = silence.as_millis() as u64,
                "{sessions} sessions of an earlier process cannot be resumed yet; their records are erased"
            );
        }
        if self.foreign > 0 {
            tracing::warn!(
                "{} session records were sealed with another key than that of node.state_key_file; they are erased",
                self.foreign
            );
        }
        if self.unreadable > 0 {
            tracing::warn!(
                "{} session records of an earlier process are damaged or of another version; they are erased",
                self.unreadable
            );
        }
    }
}
