//! Protection against packets that are sent again by someone else (RFC 3711, section 3.3.2).

/// Remembers which of the last [`ReplayWindow::LENGTH`] indices were received; older ones count as received.
///
/// Ask [`ReplayWindow::is_fresh`] before opening a packet, call [`ReplayWindow::record`] only once it proved authentic.
#[derive(Debug, Clone, Default)]
pub struct ReplayWindow {
    /// One above the highest index received; zero before the first.
    end: u64,
    /// Bit *n* stands for the index `end - 1 - n`.
    received: u128,
}

impl ReplayWindow {
    /// How many indices back the window reaches: twice the 64 that the RFC demands, because several RTCP packets
    /// of a burst may overtake each other.
    pub const LENGTH: u64 = 128;

    /// A window that takes everything up to `highest` as received: for a session that is resumed.
    #[must_use]
    pub const fn above(highest: u64) -> Self {
        Self { end: highest.saturating_add(1), received: u128::MAX }
    }

    /// The highest index received, if there was one.
    #[must_use]
    pub const fn highest(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Whether `index` was not received yet and is not too old to tell.
    #[must_use]
    pub const fn is_fresh(&self, index: u64) -> bool {
        if index >= self.end {
            return true;
        }
        let age = self.end - 1 - index;
        age < Self::LENGTH && self.received >> age & 1 == 0
    }

    /// Notes that the packet with `index` was received and is authentic.
    pub const fn record(&mut self, index: u64) {
        if index >= self.end {
            let advance = index.saturating_add(1) - self.end;
            self.received = if advance < Self::LENGTH { self.received << advance | 1 } else { 1 };
            self.end = index.saturating_add(1);
        } else if self.end - 1 - index < Self::LENGTH {
            self.received |= 1 << (self.end - 1 - index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_window_agrees_with_a_set_of_all_indices(
            base in prop_oneof![Just(0), any::<u64>().prop_map(|base| base >> 1)],
            steps in proptest::collection::vec(0u64..400, 1..200),
        ) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            for index in steps.into_iter().map(|step| base + step) {
                let oldest = seen.last().map_or(0, |highest: &u64| (highest + 1).saturating_sub(ReplayWindow::LENGTH));
                prop_assert_eq!(window.is_fresh(index), index >= oldest && !seen.contains(&index));
                window.record(index);
                seen.insert(index);
                prop_assert_eq!(window.highest(), seen.last().copied());
            }
        }
    }

    #[test]
    fn the_last_index_of_all_does_not_overflow() {
        let mut window = ReplayWindow::default();
        window.record(u64::MAX - 1);
        assert!(!window.is_fresh(u64::MAX - 1));
        assert!(window.is_fresh(u64::MAX));
    }

    #[test]
    fn a_resumed_window_takes_nothing_old() {
        let window = ReplayWindow::above(500);
        assert_eq!(window.highest(), Some(500));
        assert!(!window.is_fresh(500) && !window.is_fresh(400) && !window.is_fresh(0));
        assert!(window.is_fresh(501));
    }
}
