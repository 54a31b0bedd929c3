//! One received RTP stream: sequence, frames, what its receiver reports, and what of it counts in the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media_core::codec::KeyframeDetector;
use media_core::rtcp::ReportBlock;
use model::{NtpTime, SeqNo, Ssrc};

use crate::description::Format;
use crate::frames::{Frames, Stalls};
use crate::gaps::{Arrival, Gaps};

/// What the header of a packet says; of the original one where it came by RTX.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) seq_no: SeqNo,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) via_rtx: bool,
}

/// The part of the sequence that lies in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// The last packet before the window; of the first packet in it, if the stream had none before.
    base: Option<SeqNo>,
    /// The last packet in the window, once it has ended.
    end: Option<SeqNo>,
    is_open: bool,
    /// Expected before the sequence began anew.
    earlier: u64,
    pub(crate) seen: Option<(Instant, Instant)>,
    pub(crate) lost_before_repair: u64,
    pub(crate) lost_after_repair: u64,
}

impl Share {
    fn holds(&self, seq_no: SeqNo) -> bool {
        self.base.is_some_and(|base| seq_no > base) && self.end.is_none_or(|end| seq_no <= end)
    }

    pub(crate) fn expected(&self) -> u64 {
        match (self.base, self.end) {
            (Some(base), Some(end)) => self.earlier + end.get().saturating_sub(base.get()),
            _ => self.earlier,
        }
    }
}

/// Looks for the first whole keyframe.
#[derive(Debug)]
struct KeyframeWait {
    detector: KeyframeDetector,
    /// First packet and timestamp of the keyframe on its way.
    start: Option<(SeqNo, u32)>,
    /// Its last packet.
    end: Option<SeqNo>,
    /// Ends of the latest frames: the first packet of a keyframe may be repaired after its last one came.
    ends: VecDeque<(SeqNo, u32)>,
}

/// Ends of frames that are remembered; repair takes no longer than so many frames.
const ENDS_MAX: usize = 64;

impl KeyframeWait {
    fn new(format: Format) -> Self {
        let ends = VecDeque::new();
        Self { detector: KeyframeDetector::new(format.codec), start: None, end: None, ends }
    }

    fn received(&mut self, head: Head, payload: &[u8]) {
        if head.marker {
            if self.ends.len() == ENDS_MAX {
                self.ends.pop_front();
            }
            self.ends.push_back((head.seq_no, head.timestamp));
        }
        if !payload.is_empty() && self.detector.inspect(head.seq_no, head.timestamp, payload) {
            self.start = Some((head.seq_no, head.timestamp));
            self.end = None;
        }
        if let (Some((start, of)), None) = (self.start, self.end) {
            let mut ends = self.ends.iter().filter(|(end, timestamp)| *timestamp == of && *end >= start);
            self.end = ends.next().map(|(end, _)| *end);
        }
    }
}

/// One stream, by its SSRC.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: Ssrc,
    pub(crate) format: Format,
    pub(crate) gaps: Gaps,
    frames: Frames,
    keyframe: Option<Box<KeyframeWait>>,
    reception: Reception,
    pub(crate) share: Share,
}

impl Stream {
    /// A stream whose first packet has just come.
    pub(crate) fn new(now: Instant, ssrc: Ssrc, format: Format, is_window_open: bool) -> Self {
        let mut stream = Self {
            ssrc,
            format,
            gaps: Gaps::default(),
            frames: Frames::default(),
            keyframe: format.is_video().then(|| Box::new(KeyframeWait::new(format))),
            reception: Reception::default(),
            share: Share::default(),
        };
        if is_window_open {
            stream.begin_window(now);
        }
        stream
    }

    /// Whether the payload has to be looked at: a whole keyframe has not come yet.
    pub(crate) const fn awaits_keyframe(&self) -> bool {
        self.keyframe.is_some()
    }

    /// The index of the packet with this header field.
    pub(crate) fn seq_no(&self, seq: u16) -> SeqNo {
        self.gaps.newest().map_or_else(|| SeqNo::from_parts(0, seq), |newest| newest.nearest(seq))
    }

    /// Takes a packet that proved authentic, or was not looked into; tells whether the first keyframe is whole by it.
    pub(crate) fn received(&mut self, now: Instant, head: Head, payload: Option<&[u8]>) -> (Arrival, bool) {
        let newest_before = self.gaps.newest();
        let arrival = self.gaps.received(now, head.seq_no);
        if !head.via_rtx {
            self.reception.received(now, head, self.format.clock_rate);
        }
        self.account(now, head, arrival, newest_before);
        if arrival == Arrival::Duplicate {
            return (arrival, false);
        }
        if arrival == Arrival::Restart {
            self.reception.restart(head.seq_no);
        }
        if !self.format.is_video() {
            return (arrival, false);
        }
        if head.marker {
            self.frames.ended(head.seq_no, head.timestamp);
        }
        if let (Some(wait), Some(payload)) = (&mut self.keyframe, payload) {
            wait.received(head, payload);
        }
        (arrival, self.advance(now))
    }

    fn advance(&mut self, now: Instant) -> bool {
        let Some(frontier) = self.gaps.frontier() else { return false };
        self.frames.advance(now, frontier);
        let is_whole = self.keyframe.as_ref().is_some_and(|wait| wait.end.is_some_and(|end| end <= frontier));
        if is_whole {
            self.keyframe = None;
        }
        is_whole
    }

    fn account(&mut self, now: Instant, head: Head, arrival: Arrival, newest_before: Option<SeqNo>) {
        let share = &mut self.share;
        match arrival {
            Arrival::New | Arrival::Restart if share.is_open => {
                let before = SeqNo::new(head.seq_no.get().saturating_sub(1));
                match (share.base, newest_before) {
                    (Some(base), Some(newest)) if arrival == Arrival::Restart => {
                        share.earlier += newest.get() - base.get();
                        share.base = Some(before);
                    }
                    (Some(_), _) => {}
                    (None, _) => share.base = Some(before),
                }
                share.seen = Some((share.seen.map_or(now, |(first, _)| first), now));
            }
            Arrival::Repaired if share.holds(head.seq_no) => share.lost_before_repair += 1,
            Arrival::Reordered if head.via_rtx && share.holds(head.seq_no) => share.lost_before_repair += 1,
            Arrival::New | Arrival::Restart | Arrival::Repaired | Arrival::Reordered | Arrival::Duplicate => {
            }
        }
    }

    /// Appends what to ask for now; tells whether packets were given up, so that the picture is broken.
    pub(crate) fn poll(&mut self, now: Instant, round_trip: Duration, asks: &mut Vec<SeqNo>) -> bool {
        let mut lost = Vec::new();
        self.gaps.poll(now, round_trip, self.format.takes_nack, (asks, &mut lost));
        for seq_no in &lost {
            if self.share.holds(*seq_no) {
                self.share.lost_before_repair += 1;
                self.share.lost_after_repair += 1;
            }
            self.frames.lost(*seq_no);
            if let Some(wait) = &mut self.keyframe
                && wait.start.is_some_and(|(start, _)| start < *seq_no)
                && wait.end.is_none_or(|end| *seq_no < end)
            {
                wait.start = None;
                wait.end = None;
            }
        }
        let is_broken = !lost.is_empty() && self.format.is_video();
        if is_broken {
            // The decoder would wait for the next keyframe.
            self.keyframe.get_or_insert_with(|| Box::new(KeyframeWait::new(self.format)));
            self.advance(now);
        }
        is_broken
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.gaps.poll_timeout(self.format.takes_nack)
    }

    pub(crate) fn begin_window(&mut self, now: Instant) {
        self.share = Share { is_open: true, base: self.gaps.newest(), ..Share::default() };
        self.frames.begin_window(now);
    }

    /// Repairs of what is in the window still count afterwards.
    pub(crate) fn end_window(&mut self, now: Instant) -> Option<Stalls> {
        self.share.is_open = false;
        self.share.end = self.gaps.newest();
        self.format.is_video().then(|| self.frames.end_window(now))
    }

    /// The window ends here because the viewer leaves: what it waits for would still come.
    pub(crate) fn end_window_at_frontier(&mut self, now: Instant) -> Option<Stalls> {
        let stalls = self.end_window(now);
        self.share.end = self.gaps.frontier();
        stalls
    }

    /// What has not come by now is lost.
    pub(crate) fn close_account(&mut self) -> Share {
        let open = self.gaps.open().filter(|seq_no| self.share.holds(*seq_no)).count() as u64;
        self.share.lost_before_repair += open;
        self.share.lost_after_repair += open;
        self.share
    }

    pub(crate) fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.reception.sender_report = Some((ntp.middle(), now));
    }

    /// What a receiver report says of the stream; `None` before its first packet.
    pub(crate) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.gaps.newest()?;
        Some(self.reception.block(now, self.ssrc))
    }
}

/// Reception as reports tell it (RFC 3550, appendices A.3 and A.8). Packets sent again on RTX do not count, as in
/// browsers.
#[derive(Debug, Default)]
struct Reception {
    first: Option<SeqNo>,
    highest: u64,
    received: u64,
    expected_prior: u64,
    received_prior: u64,
    /// In ticks, scaled by 16.
    jitter: u64,
    /// Arrival of the last packet and its timestamp.
    last: Option<(Instant, u32)>,
    /// LSR, and when it came.
    sender_report: Option<(u32, Instant)>,
}

impl Reception {
    fn received(&mut self, now: Instant, head: Head, clock_rate: u32) {
        self.first.get_or_insert(head.seq_no);
        self.highest = self.highest.max(head.seq_no.get());
        self.received += 1;
        if let Some((at, timestamp)) = self.last {
            let elapsed = now.saturating_duration_since(at).as_secs_f64() * f64::from(clock_rate);
            let difference = elapsed as i64 - i64::from(head.timestamp.wrapping_sub(timestamp) as i32);
            let difference = difference.unsigned_abs().min(u64::from(clock_rate) * 10);
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
        self.last = Some((now, head.timestamp));
    }

    fn restart(&mut self, seq_no: SeqNo) {
        let sender_report = self.sender_report;
        *self = Self {
            first: Some(seq_no),
            highest: seq_no.get(),
            received: 1,
            sender_report,
            ..Self::default()
        };
    }

    fn block(&mut self, now: Instant, ssrc: Ssrc) -> ReportBlock {
        let expected = self.first.map_or(0, |first| self.highest.saturating_sub(first.get()) + 1);
        let since_expected = expected.saturating_sub(self.expected_prior);
        let since_received = self.received.saturating_sub(self.received_prior);
        let since_lost = since_expected.saturating_sub(since_received);
        self.expected_prior = expected;
        self.received_prior = self.received;
        let delay = |at: Instant| (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32;
        ReportBlock {
            ssrc,
            fraction_lost: (since_lost * 256).checked_div(since_expected).unwrap_or(0).min(255) as u8,
            lost: (expected as i64 - self.received as i64) as i32,
            highest_seq: self.highest as u32,
            jitter: (self.jitter >> 4) as u32,
            last_report: self.sender_report.map_or(0, |(middle, _)| middle),
            delay: self.sender_report.map_or(0, |(_, at)| delay(at)),
        }
    }
}

#[cfg(test)]
mod tests;
