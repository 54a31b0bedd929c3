//! Packets of one stream in their order.
//!
//! What comes in order passes at once. What follows a gap waits for it, for [`WAIT`] and [`WAITING_MAX`] packets at most;
//! then the gap is told, and what fills it later is too late.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::SeqNo;

/// How long a gap is waited for. Networks of a studio reorder within a millisecond or two; nothing can be asked for again.
pub(crate) const WAIT: Duration = Duration::from_millis(30);
/// Packets that wait for a gap: 30 ms of 200 Mbit/s.
pub(crate) const WAITING_MAX: usize = 640;

/// The order of one stream.
#[derive(Debug)]
pub(crate) struct Reorder<T> {
    next: Option<SeqNo>,
    waiting: BTreeMap<SeqNo, (Instant, T)>,
    /// Came after a later one, in time.
    reordered: u64,
}

impl<T> Reorder<T> {
    pub(crate) const fn new() -> Self {
        Self { next: None, waiting: BTreeMap::new(), reordered: 0 }
    }

    /// Takes a packet that came now. False if it came twice or too late.
    pub(crate) fn push(&mut self, now: Instant, number: SeqNo, packet: T) -> bool {
        if self.next.is_some_and(|next| number < next) || self.waiting.contains_key(&number) {
            return false;
        }
        self.reordered += u64::from(self.waiting.last_key_value().is_some_and(|(last, _)| number < *last));
        self.waiting.insert(number, (now, packet));
        true
    }

    /// The next packet in order, and how many are missing before it.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(u64, T)> {
        let entry = self.waiting.first_entry()?;
        let number = *entry.key();
        let missing = self.next.map_or(0, |next| number.get() - next.get());
        let is_waited_for = missing > 0 && now < entry.get().0 + WAIT;
        if is_waited_for && self.waiting.len() <= WAITING_MAX {
            return None;
        }
        let (_, (_, packet)) = self.waiting.pop_first()?;
        self.next = Some(number.plus(1));
        Some((missing, packet))
    }

    /// When [`Reorder::pop`] has something though nothing came.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, (arrived, _))| *arrived + WAIT)
    }

    /// Packets that came after a later one and were put into their place.
    pub(crate) const fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(reorder: &mut Reorder<u64>, now: Instant) -> Vec<(u64, u64)> {
        std::iter::from_fn(|| reorder.pop(now)).collect()
    }

    #[test]
    fn a_gap_is_waited_for_and_then_told() {
        let (now, mut reorder) = (Instant::now(), Reorder::new());
        for number in [10, 11, 13, 15] {
            assert!(reorder.push(now, SeqNo::new(number), number));
        }
        assert_eq!(drain(&mut reorder, now), [(0, 10), (0, 11)]);
        assert_eq!(reorder.due_at(), Some(now + WAIT));
        assert!(reorder.push(now, SeqNo::new(12), 12));
        assert_eq!(drain(&mut reorder, now), [(0, 12), (0, 13)]);
        assert!(!reorder.push(now, SeqNo::new(15), 15), "it came twice");
        assert_eq!(drain(&mut reorder, now + WAIT), [(1, 15)]);
        assert!(!reorder.push(now, SeqNo::new(14), 14), "it comes too late");
        assert_eq!((reorder.due_at(), reorder.reordered()), (None, 1));
    }

    #[test]
    fn no_gap_holds_back_more_than_the_bound() {
        let (now, mut reorder) = (Instant::now(), Reorder::new());
        assert!(reorder.push(now, SeqNo::new(0), 0));
        assert_eq!(drain(&mut reorder, now), [(0, 0)]);
        for number in 2..=WAITING_MAX as u64 + 1 {
            assert!(reorder.push(now, SeqNo::new(number), number));
            assert_eq!(reorder.pop(now), None);
        }
        let last = WAITING_MAX as u64 + 2;
        assert!(reorder.push(now, SeqNo::new(last), last));
        assert_eq!(drain(&mut reorder, now).len(), WAITING_MAX + 1);
    }

    proptest! {
        #[test]
        fn what_is_shuffled_within_the_wait_comes_out_whole(
            first in 1u64 << 16..1 << 40,
            order in Just((1..200u64).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let (now, mut reorder) = (Instant::now(), Reorder::new());
            prop_assert!(reorder.push(now, SeqNo::new(first), first));
            let mut out = drain(&mut reorder, now);
            for step in order {
                prop_assert!(reorder.push(now, SeqNo::new(first + step), first + step));
                out.extend(drain(&mut reorder, now));
            }
            let expected: Vec<(u64, u64)> = (0..200).map(|step| (0, first + step)).collect();
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn every_number_comes_out_once_or_is_missing(
            steps in prop::collection::vec((0u64..60, 0u64..20), 1..200),
        ) {
            let (start, mut reorder) = (Instant::now(), Reorder::new());
            let (mut now, mut next, mut came) = (start, None, 0u64);
            let mut out = Vec::new();
            for (number, wait) in steps {
                now += Duration::from_millis(wait);
                came += u64::from(reorder.push(now, SeqNo::new(number), number));
                out.extend(drain(&mut reorder, now));
            }
            out.extend(drain(&mut reorder, now + WAIT));
            prop_assert_eq!(out.len() as u64, came);
            for (missing, number) in out {
                let expected = next.map_or(number, |next: u64| next + missing);
                prop_assert_eq!(number, expected);
                next = Some(number + 1);
            }
        }
    }
}
