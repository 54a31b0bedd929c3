//! Measures of one received RTP stream: bitrate, interarrival jitter, and what a receiver report says (RFC 3550,
//! appendices A.3 and A.8).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{Bitrate, NtpTime, SeqNo, Ssrc};

use crate::rtcp::ReportBlock;

/// Parts into which a [`RateMeter`] divides its window.
const BUCKETS: u32 = 20;

/// Bitrate over a sliding window, at a resolution of a twentieth of it.
#[derive(Debug, Clone)]
pub struct RateMeter {
    window: Duration,
    started_at: Option<Instant>,
    /// Start and bytes of each part in which something came.
    buckets: VecDeque<(Instant, u64)>,
    bytes: u64,
}

impl RateMeter {
    /// A meter over `window`; one second suits most uses.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self { window, started_at: None, buckets: VecDeque::new(), bytes: 0 }
    }

    /// Counts `bytes` that came now.
    pub fn add(&mut self, now: Instant, bytes: usize) {
        self.started_at.get_or_insert(now);
        self.forget_before(now);
        let bytes = bytes as u64;
        match self.buckets.back_mut() {
            Some((start, sum)) if now.saturating_duration_since(*start) < self.window / BUCKETS => {
                *sum += bytes
            }
            _ => self.buckets.push_back((now, bytes)),
        }
        self.bytes += bytes;
    }

    /// The bitrate of the last window. Before a whole window has passed, of the time since the first byte, but of at
    /// least a tenth of the window, lest one packet count as an enormous rate.
    pub fn rate(&mut self, now: Instant) -> Bitrate {
        self.forget_before(now);
        let elapsed = self.started_at.map_or(self.window, |start| now.saturating_duration_since(start));
        Bitrate::of(self.bytes, elapsed.clamp(self.window / 10, self.window))
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((start, bytes)) = self.buckets.front()
            && now.saturating_duration_since(*start) >= self.window
        {
            self.bytes -= bytes;
            self.buckets.pop_front();
        }
    }
}

/// Interarrival jitter (RFC 3550, section 6.4.1 and appendix A.8).
#[derive(Debug, Clone)]
pub struct Jitter {
    clock_rate: u32,
    previous: Option<(Instant, u32)>,
    /// Sixteenths of a tick.
    estimate: u64,
}

/// A difference in transit above it is a break in the timestamps, not jitter.
const DIFFERENCE_MAX_SECONDS: u64 = 60;

impl Jitter {
    /// For a stream with `clock_rate` ticks per second.
    #[must_use]
    pub const fn new(clock_rate: u32) -> Self {
        Self { clock_rate, previous: None, estimate: 0 }
    }

    /// A packet with this timestamp came now.
    pub fn received(&mut self, now: Instant, timestamp: u32) {
        let Some((previous_at, previous)) = self.previous.replace((now, timestamp)) else { return };
        let clock_rate = u64::from(self.clock_rate);
        let elapsed = now.saturating_duration_since(previous_at).as_micros() as u64 * clock_rate / 1_000_000;
        let media = i64::from(timestamp.wrapping_sub(previous) as i32);
        let difference = (elapsed as i64).saturating_sub(media).unsigned_abs();
        if difference > clock_rate * DIFFERENCE_MAX_SECONDS {
            return;
        }
        // A.8: jitter += (1/16) * (|D| - jitter), in scaled integers with rounding.
        self.estimate = self.estimate + difference - ((self.estimate + 8) >> 4);
    }

    /// The estimate, in ticks.
    #[must_use]
    pub const fn ticks(&self) -> u32 {
        (self.estimate >> 4) as u32
    }

    /// The estimate as time.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let clock_rate = u64::from(self.clock_rate.max(1));
        Duration::from_nanos(u64::from(self.ticks()) * 1_000_000_000 / clock_rate)
    }
}

/// What a receiver report says of one stream.
#[derive(Debug, Clone)]
pub struct ReceiverStatistics {
    ssrc: Ssrc,
    jitter: Jitter,
    first_and_highest: Option<(SeqNo, SeqNo)>,
    received: u64,
    /// Expected and received at the last report.
    reported: (u64, u64),
    last_report: Option<(Instant, NtpTime)>,
}

impl ReceiverStatistics {
    /// For the stream `ssrc` with `clock_rate` ticks per second.
    #[must_use]
    pub const fn new(ssrc: Ssrc, clock_rate: u32) -> Self {
        let jitter = Jitter::new(clock_rate);
        Self { ssrc, jitter, first_and_highest: None, received: 0, reported: (0, 0), last_report: None }
    }

    /// A packet came now. Duplicates are to be fed too: they count as received (RFC 3550, appendix A.3). What came as a
    /// retransmission belongs to the retransmission stream and is not to be fed (RFC 4588).
    pub fn received(&mut self, now: Instant, seq_no: SeqNo, timestamp: u32) {
        self.received += 1;
        self.jitter.received(now, timestamp);
        let (first, highest) = self.first_and_highest.get_or_insert((seq_no, seq_no));
        *first = (*first).min(seq_no);
        *highest = (*highest).max(seq_no);
    }

    /// An SR of the stream came now.
    pub fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.last_report = Some((now, ntp));
    }

    /// Jitter so far.
    #[must_use]
    pub const fn jitter(&self) -> &Jitter {
        &self.jitter
    }

    /// Packets lost since the beginning; negative if there were more duplicates.
    #[must_use]
    pub fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// The report block of now, and the beginning of the next interval. `None` before the first packet.
    pub fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        let (first, highest) = self.first_and_highest?;
        let expected = self.expected();
        let (expected_before, received_before) = self.reported;
        let expected_interval = expected.saturating_sub(expected_before);
        let received_interval = self.received - received_before;
        self.reported = (expected, self.received);
        let lost_interval = expected_interval.saturating_sub(received_interval);
        let fraction = (lost_interval << 8).checked_div(expected_interval).unwrap_or(0);
        let (last_report, delay) = self.last_report.map_or((0, 0), |(at, ntp)| {
            let delay = now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
            (ntp.middle(), u32::try_from(delay).unwrap_or(u32::MAX))
        });
        // Cycles are counted from the first packet's, whatever rollover counter the stream came with.
        let cycles = highest.roc().wrapping_sub(first.roc());
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_seq: (cycles << 16) | u32::from(highest.seq()),
            jitter: self.jitter.ticks(),
            last_report,
            delay,
        })
    }

    fn expected(&self) -> u64 {
        self.first_and_highest.map_or(0, |(first, highest)| highest.get() - first.get() + 1)
    }
}

#[cfg(test)]
mod tests;
