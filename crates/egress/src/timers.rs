//! When each viewer wants to be looked at again.

use std::collections::BTreeSet;
use std::time::Instant;

/// One deadline for each slot; the caller remembers it to replace it.
#[derive(Debug, Default)]
pub struct Timers {
    deadlines: BTreeSet<(Instant, usize)>,
}

impl Timers {
    /// Sets the first deadline of a slot.
    pub fn insert(&mut self, at: Instant, slot: usize) {
        self.deadlines.insert((at, slot));
    }

    /// Takes a deadline away.
    pub fn remove(&mut self, at: Instant, slot: usize) {
        self.deadlines.remove(&(at, slot));
    }

    /// The earliest one.
    pub fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes the slot whose deadline is earliest, if it has passed.
    pub fn pop(&mut self, now: Instant) -> Option<usize> {
        self.deadlines.pop_first().and_then(|(at, slot)| {
            if at <= now {
                return Some(slot);
            }
            self.deadlines.insert((at, slot));
            None
        })
    }
}
