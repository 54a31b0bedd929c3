//! Percentiles of any number of durations in bounded memory.

use std::time::Duration;

use serde::Serialize;

/// Each doubling is cut into so many equal steps: a percentile is at most 1.6 % too large.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Longest duration told apart: 2^32 µs, more than an hour.
const BITS_MAX: u32 = 32;
const BUCKETS: usize = (BITS_MAX - STEP_BITS + 1) as usize * STEPS;

/// Counts of durations by length, to the microsecond.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    /// Empty until the first one.
    buckets: Vec<u64>,
    count: u64,
    longest: Duration,
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
        }
        self.buckets[bucket(duration)] += 1;
        self.count += 1;
        self.longest = self.longest.max(duration);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(count, more)| *count += more);
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    /// What `share` of all durations do not exceed; zero without any.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_end(index).min(self.longest);
            }
        }
        self.longest
    }

    /// `None` without any duration.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let milliseconds = |duration: Duration| duration.as_micros() as f64 / 1000.0;
        (self.count > 0).then(|| Percentiles {
            p50: milliseconds(self.percentile(0.5)),
            p95: milliseconds(self.percentile(0.95)),
            p99: milliseconds(self.percentile(0.99)),
            max: milliseconds(self.longest),
        })
    }
}

/// In milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half are not longer.
    pub p50: f64,
    /// 95 of 100 are not longer.
    pub p95: f64,
    /// 99 of 100 are not longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

fn bucket(duration: Duration) -> usize {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    let doublings = (u32::BITS - micros.leading_zeros()).saturating_sub(STEP_BITS + 1);
    // The top bits of the number, the highest one included, follow on those of the doubling below.
    doublings as usize * STEPS + (micros >> doublings) as usize
}

/// The longest duration of a bucket.
fn upper_end(index: usize) -> Duration {
    let doublings = (index / STEPS).saturating_sub(1);
    let top = (index - doublings * STEPS) as u64;
    Duration::from_micros(((top + 1) << doublings) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_of_a_hundred_are_the_ones_expected() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentiles(), None);
        for milliseconds in (1..=100).rev() {
            histogram.record(Duration::from_millis(milliseconds));
        }
        let found = histogram.percentiles().unwrap();
        assert!((50.0..51.0).contains(&found.p50), "{found:?}");
        assert!((95.0..97.0).contains(&found.p95), "{found:?}");
        assert!((99.0..=100.0).contains(&found.p99), "{found:?}");
        assert_eq!((found.max, histogram.count), (100.0, 100));
    }

    #[test]
    fn merged_histograms_are_as_one() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        other.record(Duration::from_millis(3));
        one.merge(&other);
        other.record(Duration::from_millis(7));
        one.merge(&other);
        assert_eq!((one.count, one.percentile(1.0)), (3, Duration::from_millis(7)));
        assert_eq!(one.percentile(0.3), other.percentile(0.5));
    }

    proptest! {
        #[test]
        fn a_bucket_ends_within_two_percent_of_what_it_holds(micros in 0u32..) {
            let duration = Duration::from_micros(micros.into());
            let index = bucket(duration);
            prop_assert!(index < BUCKETS);
            let end = upper_end(index).as_micros() as u64;
            let limit = u64::from(micros) + u64::from(micros) / 50 + 1;
            prop_assert!((u64::from(micros)..=limit).contains(&end), "{} {}", micros, end);
        }
    }
}
