//! A token bucket: how much a peer may cost per second.

use std::time::{Duration, Instant};

/// Millionths of a token, so that a microsecond at one token per second counts.
const MICRO: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    micro_tokens: u64,
    updated: Instant,
}

impl Budget {
    /// Full: one second's worth may be spent at once.
    pub(super) fn new(now: Instant, per_second: u32) -> Self {
        Self { per_second, micro_tokens: u64::from(per_second) * MICRO, updated: now }
    }

    /// Spends one token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.updated).min(Duration::from_secs(1));
        self.updated = self.updated.max(now);
        let earned = elapsed.as_micros() as u64 * u64::from(self.per_second);
        self.micro_tokens = (self.micro_tokens + earned).min(u64::from(self.per_second) * MICRO);
        let is_enough = self.micro_tokens >= MICRO;
        if is_enough {
            self.micro_tokens -= MICRO;
        }
        is_enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_grants_its_rate_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::new(start, 10);
        assert_eq!((0..100).filter(|_| budget.take(start)).count(), 10);
        let granted =
            (1..=2_000u64).filter(|millis| budget.take(start + Duration::from_millis(*millis))).count();
        assert_eq!(granted, 20);
    }
}
