//! When a node that ended by itself may be started again: later and later.

use std::time::{Duration, Instant};

/// A node that ran for so long has nothing to do with the ends before it.
const WELL_AFTER: Duration = Duration::from_secs(60);
/// Before the second start in a row; doubles from end to end.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A node that ended, and that nobody has asked for since, is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// The starts and ends of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Restarts {
    since: Instant,
    /// When it ended by itself.
    ended: Option<Instant>,
    failures: u32,
}

impl Restarts {
    /// It runs, and nothing is known of what was before.
    pub const fn started(now: Instant) -> Self {
        Self { since: now, ended: None, failures: 0 }
    }

    /// It runs again.
    pub fn restarted(&mut self, now: Instant) {
        (self.since, self.ended) = (now, None);
    }

    /// It has ended, and nobody had told it to.
    pub fn ended(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= WELL_AFTER {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.ended = Some(now);
    }

    /// Since it last ended it has not been started.
    pub const fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// How often it ended in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Between its latest end and the next start.
    pub fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
    }

    /// How much longer it is not started again.
    pub fn waits(&self, now: Instant) -> Option<Duration> {
        let until = self.ended? + self.pause();
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// It ended long ago, and nobody wants it.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.ended.is_some_and(|ended| now >= ended + FORGOTTEN_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_minute_and_a_good_run_ends_the_row() {
        let mut now = Instant::now();
        let mut node = Restarts::started(now);
        assert_eq!((node.waits(now), node.has_ended()), (None, false));
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60)] {
            node.ended(now);
            assert_eq!((node.failures(), node.waits(now)), (failures, Some(Duration::from_secs(seconds))));
            now += Duration::from_secs(seconds);
            assert_eq!(node.waits(now), None, "it may be started");
            node.restarted(now);
        }
        now += WELL_AFTER;
        node.ended(now);
        assert_eq!((node.failures(), node.waits(now)), (1, Some(PAUSE_MIN)));
        assert!(!node.is_forgotten(now) && node.is_forgotten(now + FORGOTTEN_AFTER));
    }
}
