//! A budget of bytes that refills with time (token bucket).

use std::time::{Duration, Instant};

use model::Bitrate;

/// Bytes that may be spent now.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// What is left; below zero after something that was larger.
    bytes: i64,
    refilled_at: Option<Instant>,
}

impl Budget {
    /// A budget with `bytes` in it.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self { bytes: bytes as i64, refilled_at: None }
    }

    /// Adds what `rate` brought since the last time, up to `bytes_max` in all.
    pub fn refill(&mut self, now: Instant, rate: Bitrate, bytes_max: u64) {
        let before = *self.refilled_at.get_or_insert(now);
        let gained = rate.bytes_in(now.saturating_duration_since(before));
        self.bytes = (self.bytes + gained as i64).min(bytes_max as i64);
        // What is too little for a byte stays for the next time.
        if gained > 0 {
            self.refilled_at = Some(now);
        }
    }

    /// Whether anything is left.
    #[must_use]
    pub const fn has_any(&self) -> bool {
        self.bytes > 0
    }

    /// Takes `bytes`, whether there are as many or not.
    pub const fn spend(&mut self, bytes: usize) {
        self.bytes -= bytes as i64;
    }

    /// How long until something is left again.
    #[must_use]
    pub fn wait(&self, rate: Bitrate) -> Duration {
        let missing = u64::try_from(1 - self.bytes).unwrap_or(0);
        Duration::from_micros((missing * 8_000_000).checked_div(rate.as_bps()).unwrap_or(1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_spent_over_time() {
        let start = Instant::now();
        let rate = Bitrate::kbps(800);
        let mut budget = Budget::new(1000);
        let mut spent = 0;
        for millisecond in 0..1000 {
            budget.refill(start + Duration::from_millis(millisecond), rate, 1000);
            while budget.has_any() {
                budget.spend(1200);
                spent += 1200;
            }
        }
        assert!((99_000..=102_200).contains(&spent), "{spent}");
    }

    #[test]
    fn a_long_pause_does_not_pile_up() {
        let start = Instant::now();
        let mut budget = Budget::new(0);
        assert!(!budget.has_any());
        assert_eq!(budget.wait(Bitrate::bps(8)), Duration::from_secs(1));
        budget.refill(start, Bitrate::kbps(800), 1000);
        budget.refill(start + Duration::from_secs(60), Bitrate::kbps(800), 1000);
        budget.spend(1000);
        assert!(!budget.has_any());
    }
}
