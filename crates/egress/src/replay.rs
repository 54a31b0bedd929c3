//! How a viewer gets from a cached keyframe to live.
//!
//! The keyframe goes out at once. The frames after it follow faster than they were made, and their timestamps are
//! squeezed by the same factor: so each frame is sent when its squeezed timestamp says, the decoder shows it without
//! waiting, and the end of the squeeze is the present. Where the shard's budget makes a replay slower than that, the
//! segment that follows it makes up the difference in one step.

use std::time::{Duration, Instant};

use media_core::TreePacket;
use model::{Bitrate, NtpTime, SeqNo};

use crate::mapping::{Scale, Segment};

/// A backlog up to this length is sent in one go: a player shows it as a short fast start, and pacing it would only
/// put off the present.
const DIRECT_MAX: Duration = Duration::from_millis(300);
/// How much that short backlog is squeezed.
const DIRECT_SPEED: u16 = 16;
/// A replay that gains less than a quarter of a second in each second would hardly end.
const SPEED_MIN_PERCENT: u64 = 125;

/// A frame of a replay that is later than this had to wait for the budget, not for the thread.
const LATE_MAX: Duration = Duration::from_millis(50);

/// How much timestamps are squeezed for a backlog of this length: as `factor` says, less if the viewer estimates
/// that it can take less of a layer with this rate (zero if unknown).
#[must_use]
pub fn scale(backlog: Duration, factor: u16, estimate: Option<Bitrate>, layer: Bitrate) -> Scale {
    let factor_percent = u64::from(factor.max(1)) * 100;
    let possible =
        estimate.and_then(|estimate| estimate.as_bps().saturating_mul(100).checked_div(layer.as_bps()));
    let percent = possible.map_or(factor_percent, |possible| possible.min(factor_percent));
    if backlog <= DIRECT_MAX && possible.is_none_or(|possible| possible >= factor_percent) {
        return Scale { numerator: 1, denominator: DIRECT_SPEED };
    }
    Scale { numerator: 100, denominator: percent.max(SPEED_MIN_PERCENT).min(u64::from(u16::MAX)) as u16 }
}

/// Where a replay stands.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// The next source packet to send, which may be one that is left out,
    pub next: SeqNo,
    /// and the count of the segment's part before it.
    pub counted: u16,
    /// Source timestamp of the frame sent last,
    pub timestamp: u32,
    /// and when it was captured.
    pub capture_time: NtpTime,
    /// Whether that frame is known to be out whole.
    pub is_frame_end: bool,
    /// Whether the keyframe went out whole.
    pub has_keyframe: bool,
    /// When the last packet went out; when it began, before the first.
    pub sent_at: Instant,
    /// When it began,
    started: Instant,
    /// and with which timestamp.
    started_timestamp: u32,
}

impl Replay {
    /// A replay that begins now with this packet of the segment, the first of a keyframe.
    #[must_use]
    pub fn new(now: Instant, keyframe: &TreePacket, segment: &Segment) -> Self {
        let TreePacket { seq_no, timestamp, capture_time, .. } = *keyframe;
        Self {
            next: seq_no,
            counted: segment.part.zip(keyframe.svc).map_or(0, |(part, svc)| svc.count(part.point)),
            timestamp,
            capture_time,
            is_frame_end: false,
            has_keyframe: false,
            sent_at: now,
            started: now,
            started_timestamp: segment.timestamp(timestamp),
        }
    }

    /// Notes that a packet of the segment was sent.
    pub fn sent(&mut self, now: Instant, packet: &TreePacket, segment: &Segment) {
        self.sent_at = now;
        self.next = packet.seq_no.plus(1);
        self.counted = segment.count_after(packet);
        self.timestamp = packet.timestamp;
        self.capture_time = packet.capture_time;
        self.is_frame_end = segment.marker(packet);
        self.has_keyframe |= self.is_frame_end;
    }

    /// Whether the frame with this squeezed timestamp should be sent by now.
    ///
    /// A replay that had to wait for its turn goes on from there at its own pace: what it missed it does not make up for
    /// at the cost of the viewer's link.
    #[must_use]
    pub fn is_due(&mut self, now: Instant, out_timestamp: u32, clock_rate: u32) -> bool {
        let ticks = out_timestamp.wrapping_sub(self.started_timestamp);
        let at = self.started + duration(ticks, clock_rate);
        let late = now.saturating_duration_since(at);
        if late > LATE_MAX {
            self.started += late;
        }
        now >= at
    }
}

/// Time of `ticks` of a clock; zero for a step back.
#[must_use]
pub fn duration(ticks: u32, clock_rate: u32) -> Duration {
    let ticks = u64::try_from(ticks as i32).unwrap_or(0);
    Duration::from_micros(ticks * 1_000_000 / u64::from(clock_rate))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::Ssrc;

    use super::*;

    const LAYER: Bitrate = Bitrate::kbps(2500);

    fn percent(scale: Scale) -> u64 {
        u64::from(scale.denominator) * 100 / u64::from(scale.numerator)
    }

    #[test]
    fn a_replay_is_as_fast_as_configured_unless_the_viewer_says_less() {
        let backlog = Duration::from_secs(5);
        assert_eq!(percent(scale(backlog, 4, None, LAYER)), 400);
        assert_eq!(percent(scale(backlog, 4, Some(Bitrate::kbps(90_000)), LAYER)), 400);
        assert_eq!(percent(scale(backlog, 4, Some(Bitrate::kbps(5000)), LAYER)), 200);
        assert_eq!(percent(scale(backlog, 4, Some(Bitrate::kbps(300)), LAYER)), 125, "it still gets there");
        assert_eq!(percent(scale(backlog, 4, Some(Bitrate::kbps(300)), Bitrate::default())), 400);
    }

    #[test]
    fn a_short_backlog_goes_out_at_once() {
        assert_eq!(percent(scale(Duration::from_millis(250), 4, None, LAYER)), 1600);
        assert_eq!(percent(scale(Duration::from_millis(250), 4, Some(Bitrate::kbps(5000)), LAYER)), 200);
    }

    #[test]
    fn a_frame_is_due_when_its_timestamp_says() {
        let start = Instant::now();
        let keyframe = TreePacket {
            ssrc: Ssrc::new(1),
            seq_no: SeqNo::new(0),
            timestamp: 0,
            marker: false,
            starts_keyframe: true,
            capture_time: NtpTime::from_bits(0),
            audio_level: None,
            orientation: 0,
            svc: None,
            payload: Bytes::new(),
        };
        let segment = Segment {
            first_out: SeqNo::new(0),
            source: Ssrc::new(1),
            source_base: SeqNo::new(0),
            source_timestamp: 0,
            out_timestamp: u32::MAX - 8,
            scale: Scale::LIVE,
            payload_type: 96,
            part: None,
        };
        let mut replay = Replay::new(start, &keyframe, &segment);
        let at = |millis| start + Duration::from_millis(millis);
        assert!(replay.is_due(start, u32::MAX - 8, 90_000));
        assert!(!replay.is_due(start, 9000 - 9, 90_000));
        assert!(replay.is_due(at(100), 9000 - 9, 90_000));
        assert!(!replay.is_due(at(100), 18_000 - 9, 90_000));
        assert!(
            replay.is_due(at(1200), 18_000 - 9, 90_000),
            "a second late: that much later is everything after it"
        );
        assert!(!replay.is_due(at(1290), 27_000 - 9, 90_000));
        assert!(replay.is_due(at(1300), 27_000 - 9, 90_000));
    }
}
