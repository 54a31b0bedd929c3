//! Numbers that must never be used twice, counted in blocks.
//!
//! What is not a function of a packet (RTX sequence number, SRTCP index) and the end of what was sent are remembered
//! in the viewer's record. A record is written before the first number of a block is used, not for every number: who
//! resumes from it goes on at the end of the block.

/// So many of the last numbers may stand in a queue that a process takes with it when it dies. What was beyond them (the
/// rest of a large keyframe) the viewer asks for.
const QUEUED_MAX: u64 = 64;

/// A counter and how far the record has promised it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterBlock {
    /// The next number to use.
    pub next: u64,
    /// All numbers below may have been used.
    pub reserved_until: u64,
}

impl CounterBlock {
    /// A counter that begins at `first`, with nothing reserved.
    #[must_use]
    pub const fn starting_at(first: u64) -> Self {
        Self { next: first, reserved_until: first }
    }

    /// The counter for whoever resumes from a record: begins after all that may have been used.
    #[must_use]
    pub const fn resumed(self) -> Self {
        Self::starting_at(self.reserved_until)
    }

    /// The counter as whoever hands over leaves it: nothing is reserved that was not used.
    #[must_use]
    pub const fn settled(self) -> Self {
        Self::starting_at(self.next)
    }

    /// The numbers below were sent by whoever wrote this. A record is written before what it is about, while packets before
    /// that may still be queued; one that was handed over says exactly.
    #[must_use]
    pub const fn surely_used(self) -> u64 {
        if self.next == self.reserved_until { self.next } else { self.next.saturating_sub(QUEUED_MAX) }
    }

    /// Uses the next number. The flag says that a block was reserved for it: the record changed, and has to be
    /// written before the number is seen by anybody.
    #[must_use]
    pub fn take(&mut self, block: u64) -> (u64, bool) {
        let number = self.next;
        (number, self.reach(number, block))
    }

    /// Notes that `number` is used, whatever was used before. Returns whether the record changed, as in
    /// [`CounterBlock::take`].
    #[must_use]
    pub fn reach(&mut self, number: u64, block: u64) -> bool {
        self.next = self.next.max(number + 1);
        let is_beyond = number >= self.reserved_until;
        if is_beyond {
            self.reserved_until = number + block.max(1);
        }
        is_beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_due_once_in_a_block() {
        let mut counter = CounterBlock::starting_at(7);
        let dues: Vec<_> = (0..9).map(|_| counter.take(4)).collect();
        let expected = [true, false, false, false, true, false, false, false, true];
        assert_eq!(dues, (7..16).zip(expected).collect::<Vec<_>>());
    }

    #[test]
    fn who_resumes_repeats_no_number() {
        let mut counter = CounterBlock::starting_at(7);
        let (_, is_due) = counter.take(4);
        assert!(is_due);
        let written = counter;
        let before: Vec<_> = (0..3).map(|_| counter.take(4).0).collect();
        let mut resumed = written.resumed();
        assert!(before.iter().all(|number| *number < resumed.next), "{before:?}");
        assert_eq!(resumed.take(4), (11, true));
    }

    #[test]
    fn a_number_far_ahead_is_reserved_with_a_block_after_it() {
        let mut counter = CounterBlock::starting_at(0);
        assert!(counter.reach(1000, 10));
        assert!(!counter.reach(1009, 10));
        assert!(!counter.reach(3, 10), "a late one changes nothing");
        assert_eq!(counter, CounterBlock { next: 1010, reserved_until: 1010 });
    }
}
