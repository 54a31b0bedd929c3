//! From RTP timestamps to our wallclock, by way of sender reports (RFC 3550, section 6.4.1).
//!
//! A publisher has one NTP clock and several RTP streams. [`ClockOffset`] (one per publisher) learns how far its NTP
//! clock is from ours; [`SenderClock`] (one per stream) turns the stream's timestamps into capture times. Streams that
//! share the offset come out aligned with each other, whatever their reports met on the way.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::NtpTime;

/// Time over which the fastest report is looked for. Clocks that differ by 50 ppm part by 1.5 ms in it.
const OFFSET_WINDOW: Duration = Duration::from_secs(30);
/// Reports in this time share one entry of the window, so that a flood of them takes no memory.
const OFFSET_BUCKET: Duration = Duration::from_secs(1);
/// A clock that differs by more than this from what was believed has been set; media this far from its arrival is
/// mapped wrongly. Above any encoder's delay (OBS: up to 3 s).
const IMPLAUSIBLE: Duration = Duration::from_secs(10);

/// How far the wallclock of one publisher is behind ours, transit included.
#[derive(Debug, Clone, Default)]
pub struct ClockOffset {
    round_trip: Duration,
    /// Smallest offset of each second, as NTP bits modulo 2^64.
    minima: VecDeque<(Instant, u64)>,
}

impl ClockOffset {
    /// Sets the round trip to the publisher; half of it is taken for the transit of reports. Zero at first.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// A report saying `sender` arrived now, when our wallclock showed `wallclock`. Feed the reports of all streams.
    /// A sender without a wallclock says zero (RFC 3550, section 6.4.1), which is ignored.
    pub fn observe(&mut self, now: Instant, wallclock: NtpTime, sender: NtpTime) {
        if sender.to_bits() == 0 {
            return;
        }
        let offset = wallclock.to_bits().wrapping_sub(sender.to_bits());
        if self.smallest().is_some_and(|known| difference(offset, known).unsigned_abs() > bits(IMPLAUSIBLE)) {
            self.minima.clear();
        }
        while let Some((at, _)) = self.minima.front()
            && now.saturating_duration_since(*at) > OFFSET_WINDOW
        {
            self.minima.pop_front();
        }
        match self.minima.back_mut() {
            Some((at, smallest)) if now.saturating_duration_since(*at) < OFFSET_BUCKET => {
                if difference(offset, *smallest) < 0 {
                    *smallest = offset;
                }
            }
            _ => self.minima.push_back((now, offset)),
        }
    }

    /// `sender` in our wallclock; `None` before the first report.
    #[must_use]
    pub fn to_wallclock(&self, sender: NtpTime) -> Option<NtpTime> {
        let transit = bits(self.round_trip / 2);
        let offset = self.smallest()?.wrapping_sub(transit);
        Some(NtpTime::from_bits(sender.to_bits().wrapping_add(offset)))
    }

    /// Offsets lie on a circle, but all of them close together: compared with the newest.
    fn smallest(&self) -> Option<u64> {
        let (_, newest) = *self.minima.back()?;
        self.minima.iter().map(|(_, offset)| *offset).min_by_key(|offset| difference(*offset, newest))
    }
}

/// A moment in both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Anchor {
    time: NtpTime,
    timestamp: u32,
}

/// Capture times of one RTP stream.
///
/// Before the first report, time runs on from the first packet's arrival. A report does not make it jump: the capture
/// time approaches what the report says by at most half a second per second of media, so it never runs backwards.
/// Only where it would be more than 10 s away from a packet's arrival does it start anew.
#[derive(Debug, Clone)]
pub struct SenderClock {
    clock_rate: u32,
    /// What the last report said, in the sender's wallclock.
    report: Option<Anchor>,
    /// The mapping in force, in our wallclock.
    capture: Option<Anchor>,
}

impl SenderClock {
    /// For a stream with `clock_rate` ticks per second; zero counts as one.
    #[must_use]
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: clock_rate.max(1), report: None, capture: None }
    }

    /// An SR of this stream said that its clock showed `timestamp` at `sender`. Feed [`ClockOffset::observe`] too.
    pub fn sender_report(&mut self, sender: NtpTime, timestamp: u32) {
        if sender.to_bits() != 0 {
            self.report = Some(Anchor { time: sender, timestamp });
        }
    }

    /// A packet with this timestamp arrived when our wallclock showed `wallclock`: when it was captured, in our
    /// wallclock. `offset` is the publisher's.
    pub fn received(&mut self, wallclock: NtpTime, timestamp: u32, offset: &ClockOffset) -> NtpTime {
        let reported = self.reported(timestamp, offset).filter(|time| is_plausible(*time, wallclock));
        let Some(Anchor { timestamp: newest, .. }) = self.capture else {
            return self.start(reported.unwrap_or(wallclock), timestamp);
        };
        let expected = self.capture_time(timestamp).unwrap_or(wallclock);
        if !is_plausible(expected, wallclock) {
            return self.start(reported.unwrap_or(wallclock), timestamp);
        }
        let elapsed = timestamp.wrapping_sub(newest) as i32;
        if elapsed <= 0 {
            return expected;
        }
        // Without a report all that is known is that nothing arrives before it was captured.
        let target = reported.unwrap_or_else(|| earlier(expected, wallclock));
        let step_max = self.length(elapsed) / 2;
        let step = difference(target.to_bits(), expected.to_bits()).clamp(-step_max, step_max);
        let time = NtpTime::from_bits(expected.to_bits().wrapping_add_signed(step));
        self.capture = Some(Anchor { time, timestamp });
        time
    }

    /// When the sample with this timestamp was captured, by the mapping in force; `None` before the first packet. The
    /// timestamp is taken to be less than half a cycle from the newest packet's.
    #[must_use]
    pub fn capture_time(&self, timestamp: u32) -> Option<NtpTime> {
        self.capture.map(|anchor| self.at(anchor, timestamp))
    }

    /// Whether the sender has said what its clock shows: without that, capture times are guesses from arrivals.
    #[must_use]
    pub const fn is_reported(&self) -> bool {
        self.report.is_some()
    }

    fn start(&mut self, time: NtpTime, timestamp: u32) -> NtpTime {
        self.capture = Some(Anchor { time, timestamp });
        time
    }

    fn reported(&mut self, timestamp: u32, offset: &ClockOffset) -> Option<NtpTime> {
        let report = self.report?;
        let sender = self.at(report, timestamp);
        // Where reports cease, the anchor follows the stream before the distance reaches half a cycle.
        if timestamp.wrapping_sub(report.timestamp) as i32 > 1 << 30 {
            self.report = Some(Anchor { time: sender, timestamp });
        }
        offset.to_wallclock(sender)
    }

    fn at(&self, anchor: Anchor, timestamp: u32) -> NtpTime {
        let length = self.length(timestamp.wrapping_sub(anchor.timestamp) as i32);
        NtpTime::from_bits(anchor.time.to_bits().wrapping_add_signed(length))
    }

    /// NTP bits in this many ticks.
    fn length(&self, ticks: i32) -> i64 {
        (i64::from(ticks) << 32) / i64::from(self.clock_rate)
    }
}

fn is_plausible(time: NtpTime, arrival: NtpTime) -> bool {
    difference(time.to_bits(), arrival.to_bits()).unsigned_abs() <= bits(IMPLAUSIBLE)
}

fn earlier(one: NtpTime, other: NtpTime) -> NtpTime {
    if difference(one.to_bits(), other.to_bits()) < 0 { one } else { other }
}

/// `one - other` on the circle of NTP bits.
const fn difference(one: u64, other: u64) -> i64 {
    one.wrapping_sub(other) as i64
}

fn bits(duration: Duration) -> u64 {
    NtpTime::from_bits(0).plus(duration).to_bits()
}

#[cfg(test)]
mod tests;
