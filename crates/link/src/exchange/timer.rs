//! All timers of an exchange in one table; the next deadline is its minimum.

use std::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(super) enum Timer {
    /// Heartbeats to all peers.
    Heartbeat,
    /// Joins, reports, expiry.
    Refresh,
    /// The first parent may have been silent for too long.
    Silence,
    /// The first gap may have to be asked for, or given up.
    Repair,
    /// The next slice of replays.
    Replay,
    /// A keyframe request that had to wait.
    Keyframe,
}

#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; 6]);

impl Timers {
    pub(super) const fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Sets a timer unless it fires earlier already.
    pub(super) fn set_earlier(&mut self, timer: Timer, at: Instant) {
        let slot = &mut self.0[timer as usize];
        *slot = Some(slot.map_or(at, |present| present.min(at)));
    }

    /// Whether the timer has fired; it is off then.
    pub(super) fn is_due(&mut self, timer: Timer, now: Instant) -> bool {
        self.0[timer as usize].take_if(|at| *at <= now).is_some()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }
}
