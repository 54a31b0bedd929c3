//! Units with arithmetic.

use std::fmt;
use std::time::Duration;

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bitrate(u64);

impl Bitrate {
    /// From bits per second.
    #[must_use]
    pub const fn bps(bits_per_second: u64) -> Self {
        Self(bits_per_second)
    }

    /// From thousands of bits per second.
    #[must_use]
    pub const fn kbps(kilobits_per_second: u64) -> Self {
        Self(kilobits_per_second * 1000)
    }

    /// What `bytes` in `duration` amount to; zero for an empty duration.
    #[must_use]
    pub fn of(bytes: u64, duration: Duration) -> Self {
        let micros = duration.as_micros() as u64;
        Self((bytes * 8_000_000).checked_div(micros).unwrap_or(0))
    }

    /// Bits per second.
    #[must_use]
    pub const fn as_bps(self) -> u64 {
        self.0
    }

    /// How many whole bytes pass in `duration`.
    #[must_use]
    pub fn bytes_in(self, duration: Duration) -> u64 {
        (u128::from(self.0) * duration.as_micros() / 8_000_000) as u64
    }
}

impl std::ops::Mul<u32> for Bitrate {
    type Output = Self;
    fn mul(self, factor: u32) -> Self {
        Self(self.0.saturating_mul(u64::from(factor)))
    }
}

impl fmt::Display for Bitrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >= 1_000_000 {
            write!(f, "{:.1} Mbit/s", self.0 as f64 / 1e6)
        } else {
            write!(f, "{} kbit/s", self.0 / 1000)
        }
    }
}

/// A moment on the one clock that all tracks of a publisher share, in microseconds from an origin of its own. May be
/// negative; says nothing about the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaTime(i64);

impl MediaTime {
    /// From microseconds.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis * 1000)
    }

    /// Microseconds.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// The moment so many microseconds later, or earlier if they are negative.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0 + micros)
    }

    /// Ticks of a clock that starts at the origin, rounded down.
    #[must_use]
    pub const fn ticks(self, clock_rate: u32) -> i64 {
        (self.0 as i128 * clock_rate as i128).div_euclid(1_000_000) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_from_the_origin_in_both_directions() {
        assert_eq!(MediaTime::from_millis(1).ticks(90_000), 90);
        assert_eq!(MediaTime::from_micros(-1).ticks(90_000), -1);
        assert_eq!(MediaTime::from_millis(1_000_000_000_000).ticks(48_000), 48_000_000_000_000);
    }
}
