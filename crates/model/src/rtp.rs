//! Units of RTP (RFC 3550).

use std::fmt;
use std::time::Duration;

/// Synchronisation source of one RTP stream: given once at injection, kept through the tree, rewritten
/// once per viewer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ssrc(u32);

impl Ssrc {
    /// Any 32-bit value is one.
    #[must_use]
    pub const fn new(value: u32) -> Self {
        Self(value)
    }

    /// The value as it stands in the RTP header.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ssrc({self})")
    }
}

/// Extended sequence number: the 16 bits of the RTP header with the rollover counter above them
/// (RFC 3711, section 3.3.1: `index = 2^16 * ROC + SEQ`). Never wraps in practice: 48 bits are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo(u64);

impl SeqNo {
    /// The largest index that SRTP can seal: 2^48 - 1.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// From a whole index.
    #[must_use]
    pub const fn new(index: u64) -> Self {
        Self(index)
    }

    /// From rollover counter and header field.
    #[must_use]
    pub const fn from_parts(roc: u32, seq: u16) -> Self {
        Self(((roc as u64) << 16) | seq as u64)
    }

    /// The whole index.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The 16 bits that stand in the RTP header.
    #[must_use]
    pub const fn seq(self) -> u16 {
        self.0 as u16
    }

    /// The rollover counter.
    #[must_use]
    pub const fn roc(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The index `count` later.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }

    /// The index whose low 16 bits are `seq` and which is nearest to `self` (RFC 3711, section 3.3.1).
    #[must_use]
    pub const fn nearest(self, seq: u16) -> Self {
        let distance = seq.wrapping_sub(self.seq()) as i16 as i64;
        let index = self.0 as i64 + distance;
        if index < 0 { Self((index + (1 << 16)) as u64) } else { Self(index as u64) }
    }
}

/// Wallclock in NTP format: seconds since 1900 in the upper 32 bits, their fraction in the lower ones
/// (RFC 3550, section 4). In the tree it is always in the injection node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(u64);

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX_SECONDS: u64 = 2_208_988_800;

impl NtpTime {
    /// From the 64 bits of an SR or of `abs-capture-time`.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The 64 bits of an SR or of `abs-capture-time`.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// From the time since the Unix epoch.
    #[must_use]
    pub const fn from_unix(since_epoch: Duration) -> Self {
        let seconds = since_epoch.as_secs() + NTP_TO_UNIX_SECONDS;
        let fraction = ((since_epoch.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self((seconds << 32) | fraction)
    }

    /// Time since the Unix epoch; zero before it.
    #[must_use]
    pub const fn to_unix(self) -> Duration {
        let seconds = (self.0 >> 32).saturating_sub(NTP_TO_UNIX_SECONDS);
        let nanos = ((self.0 & 0xffff_ffff) * 1_000_000_000) >> 32;
        Duration::new(seconds, nanos as u32)
    }

    /// The middle 32 bits, as in LSR (RFC 3550, section 6.4.1).
    #[must_use]
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// This time plus `duration`.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.wrapping_add(Self::length(duration)))
    }

    /// This time minus `duration`.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.wrapping_sub(Self::length(duration)))
    }

    /// How long before `self` the `earlier` time was; zero if it was not.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let bits = self.0.saturating_sub(earlier.0);
        let nanos = ((bits & 0xffff_ffff) * 1_000_000_000) >> 32;
        Duration::new(bits >> 32, nanos as u32)
    }

    const fn length(duration: Duration) -> u64 {
        (duration.as_secs() << 32) | (((duration.subsec_nanos() as u64) << 32) / 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nearest_finds_every_index_within_half_a_cycle(index in 40_000u64..1 << 40, step in -32_767i64..32_768) {
            let target = SeqNo::new((index as i64 + step) as u64);
            prop_assert_eq!(SeqNo::new(index).nearest(target.seq()), target);
        }

        #[test]
        fn ntp_time_round_trips_within_a_nanosecond(seconds in 0u64..2_000_000_000, nanos in 0u32..1_000_000_000) {
            let time = Duration::new(seconds, nanos);
            let back = NtpTime::from_unix(time).to_unix();
            prop_assert!(time - back <= Duration::from_nanos(1), "{time:?} {back:?}");
        }
    }

    #[test]
    fn nearest_never_goes_below_zero() {
        assert_eq!(SeqNo::new(5).nearest(65_530), SeqNo::new(65_530));
    }

    #[test]
    fn parts_of_an_index() {
        let seq_no = SeqNo::from_parts(3, 7);
        assert_eq!((seq_no.roc(), seq_no.seq(), seq_no.get()), (3, 7, 3 * 65_536 + 7));
    }
}
