//! What an earlier process left behind: which of its records are worth trying, and a line about them.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

use records::{Record, RecordError};
use telemetry::RecordRefusal;

/// A peer that has heard nothing for so long has given the session up (RFC 7675, section 5.1).
pub const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Refusals of one store that get a line each; the rest is counted.
const REFUSALS_LOGGED: usize = 100;

/// Sums over all stores.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Records that are tried.
    pub publishers: usize,
    /// Likewise.
    pub viewers: usize,
    /// Records that are not.
    pub refused: usize,
    /// For how long the earlier process had been silent.
    pub silence: Duration,
    /// No session is to be tried.
    pub is_given_up: bool,
}

impl Earlier {
    /// Adds another store's.
    pub fn add(&mut self, other: &Self) {
        self.publishers += other.publishers;
        self.viewers += other.viewers;
        self.refused += other.refused;
        self.silence = self.silence.max(other.silence);
    }

    /// One more refusal, and its line.
    pub fn refuse(&mut self, reason: RecordRefusal, error: &dyn Display) {
        self.refused += 1;
        if self.refused <= REFUSALS_LOGGED {
            tracing::warn!(?reason, %error, "session of an earlier process is not resumed");
        }
    }

    /// Says what was found, if anything was.
    pub fn log(&self) {
        let Self { publishers, viewers, refused, silence, .. } = self;
        if publishers + viewers + refused > 0 {
            let silent_ms = silence.as_millis() as u64;
            tracing::info!(publishers, viewers, refused, silent_ms, "sessions of an earlier process found");
        }
    }
}

/// How long a store has not been written to. A viewer's record is not written for every sign of life, but its process
/// says each second that it is alive.
pub fn silence(found: &[Result<Record, RecordError>], now: SystemTime) -> Duration {
    let alive_at = found.iter().flatten().map(|record| record.written_at).max();
    let distance = |at| now.duration_since(at).unwrap_or_else(|ahead| ahead.duration());
    alive_at.map(distance).unwrap_or_default()
}

/// The label for what a store refuses.
pub const fn reason(error: &RecordError) -> RecordRefusal {
    match error {
        RecordError::Foreign => RecordRefusal::Foreign,
        RecordError::Version { .. } => RecordRefusal::Version,
        RecordError::Stale { .. } => RecordRefusal::Stale,
        // The crate may find more of them one day.
        _ => RecordRefusal::Damaged,
    }
}
