//! Deadlines of many viewers: a heap in which outdated entries are left until they come up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines by slot. A slot has one deadline; the caller keeps it in `scheduled`.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Timers {
    /// `slot` is due at `at`. An entry is added only where it comes earlier than the one known.
    pub(crate) fn schedule(&mut self, slot: usize, scheduled: &mut Option<Instant>, at: Option<Instant>) {
        let Some(at) = at else { return };
        if scheduled.is_none_or(|known| at < known) {
            *scheduled = Some(at);
            self.heap.push(Reverse((at, slot)));
        }
    }

    /// When something may be due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due. It is outdated unless the slot still waits for this very moment.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let Reverse((at, _)) = *self.heap.peek()?;
        if at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_deadline_comes_first_and_a_later_one_adds_nothing() {
        let mut timers = Timers::default();
        let now = Instant::now();
        let after = |milliseconds| Some(now + Duration::from_millis(milliseconds));
        let (mut one, mut other) = (None, None);
        timers.schedule(1, &mut one, after(50));
        timers.schedule(2, &mut other, after(30));
        timers.schedule(1, &mut one, after(80));
        timers.schedule(1, &mut one, after(20));
        timers.schedule(1, &mut one, None);
        assert_eq!(timers.next_at(), after(20));
        let mut due = Vec::new();
        while let Some((at, slot)) = timers.pop_due(now + Duration::from_millis(50)) {
            due.push((at - now, slot));
        }
        let milliseconds = Duration::from_millis;
        assert_eq!(due, [(milliseconds(20), 1), (milliseconds(30), 2), (milliseconds(50), 1)]);
        assert_eq!(timers.pop_due(now + milliseconds(90)), None);
    }
}
