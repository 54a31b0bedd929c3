//! What the packets of one stream say of its encoder and of their way here: facts for the broadcaster doctor.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use media_core::codec::h264::{self, SequenceParameters};
use model::Codec;

/// The quickest packet of each of these counts as one of the stream.
const STANDING: Duration = Duration::from_secs(1);
/// The quickest packets are remembered by spans of this length, so many of them: five minutes. Clocks that differ by
/// 100 ppm part by 30 ms in it.
const BASE_SPAN: Duration = Duration::from_secs(5);
const BASE_SPANS: usize = 60;
/// A step of the media clock beyond this is another clock, not media.
const STEP_MAX_SECONDS: i64 = 10;
/// An audio level at or below it, in -dBov (RFC 6464), is silence: the last bit of 16.
const SILENCE: u8 = 90;

/// What one stream has shown until now. Counters only grow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Facts {
    /// Pictures; packets with a new timestamp in the case of sound.
    pub frames: u64,
    /// Media time from the first to the newest packet, breaks left out.
    pub media: Duration,
    /// How much later than the quickest ones of the last five minutes even the quickest packet of the last second has
    /// arrived: time that everything waits in a queue on the way.
    pub lateness: Duration,
    /// Keyframes.
    pub keyframes: u64,
    /// H.264: sequence parameter sets.
    pub parameter_sets: u64,
    /// Pictures that are shown in another order than they come in: H.264 B slices, or RTP timestamps that step back.
    pub b_frames: u64,
    /// H.264: pictures may consist of two fields.
    pub is_interlaced: bool,
    /// H.264: pictures per second, as the sequence parameter set says.
    pub frame_rate: Option<f64>,
    /// Packets that tell how loud they are (RFC 6464).
    pub levels: u64,
    /// Those of them that are louder than silence.
    pub audible: u64,
    /// Whether the publisher said that it takes keyframe requests.
    pub takes_keyframe_requests: bool,
    /// Whether the publisher sends again in a stream of its own (RFC 4588), as browsers do.
    pub has_retransmissions: bool,
}

/// Collects them.
#[derive(Debug)]
pub(crate) struct Observer {
    clock_rate: i64,
    facts: Facts,
    ticks: i64,
    newest: Option<u32>,
    transit: Transit,
}

impl Observer {
    pub(crate) fn new(clock_rate: u32) -> Self {
        let clock_rate = i64::from(clock_rate.max(1));
        Self { clock_rate, facts: Facts::default(), ticks: 0, newest: None, transit: Transit::default() }
    }

    /// What it takes in feedback and gives in return.
    pub(crate) const fn negotiated(&mut self, takes_keyframe_requests: bool, has_retransmissions: bool) {
        self.facts.takes_keyframe_requests = takes_keyframe_requests;
        self.facts.has_retransmissions = has_retransmissions;
    }

    /// A packet came that is newer than all before.
    pub(crate) fn newest(&mut self, now: Instant, timestamp: u32) {
        let step = self.newest.map(|newest| i64::from(timestamp.wrapping_sub(newest) as i32));
        match step {
            Some(0) => return,
            None => {}
            Some(step) if step.abs() > STEP_MAX_SECONDS * self.clock_rate => {
                self.transit = Transit::default()
            }
            Some(step) => {
                self.ticks += step;
                self.facts.b_frames += u64::from(step < 0);
            }
        }
        self.newest = Some(timestamp);
        self.facts.frames += 1;
        let media = self.ticks.max(0) as u64 * 1_000_000 / self.clock_rate as u64;
        self.facts.media = self.facts.media.max(Duration::from_micros(media));
        self.transit.observe(now, media as i64);
    }

    /// The payload of any packet.
    pub(crate) fn payload(&mut self, codec: Codec, payload: &[u8], starts_keyframe: bool) {
        self.facts.keyframes += u64::from(starts_keyframe);
        if codec == Codec::H264 {
            self.facts.b_frames += u64::from(h264::slice_type(payload) == Some(h264::SliceType::B));
        }
    }

    /// A sequence parameter set came.
    pub(crate) const fn sequence(&mut self, sequence: &SequenceParameters) {
        self.facts.parameter_sets += 1;
        self.facts.is_interlaced = sequence.is_interlaced;
        self.facts.frame_rate = sequence.frame_rate;
    }

    /// A packet told how loud it is: voice activity in the highest bit, then -dBov.
    pub(crate) fn level(&mut self, level: u8) {
        self.facts.levels += 1;
        self.facts.audible += u64::from(level & 0x7f < SILENCE);
    }

    pub(crate) fn facts(&self) -> Facts {
        Facts { lateness: self.transit.lateness(), ..self.facts }
    }
}

/// How long packets have been under way, from an unknown zero.
#[derive(Debug, Default)]
struct Transit {
    started_at: Option<Instant>,
    /// Start and quickest packet of the present second, in microseconds.
    present: Option<(Instant, i64)>,
    /// How much later that of the second before was than the quickest until then.
    lateness: i64,
    /// Of each span; the oldest first.
    base: VecDeque<(Instant, i64)>,
}

impl Transit {
    fn observe(&mut self, now: Instant, media_micros: i64) {
        let started_at = *self.started_at.get_or_insert(now);
        let transit = now.saturating_duration_since(started_at).as_micros() as i64 - media_micros;
        match &mut self.present {
            Some((start, quickest)) if now.saturating_duration_since(*start) < STANDING => {
                *quickest = (*quickest).min(transit);
            }
            present => {
                let standing = present.replace((now, transit));
                let base = self.base.iter().map(|(_, quickest)| *quickest).min();
                self.lateness = standing.zip(base).map_or(0, |((_, standing), base)| standing - base);
            }
        }
        match self.base.back_mut() {
            Some((start, quickest)) if now.saturating_duration_since(*start) < BASE_SPAN => {
                *quickest = (*quickest).min(transit);
            }
            _ => {
                if self.base.len() == BASE_SPANS {
                    self.base.pop_front();
                }
                self.base.push_back((now, transit));
            }
        }
    }

    fn lateness(&self) -> Duration {
        Duration::from_micros(u64::try_from(self.lateness).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME_TICKS: u32 = 3000;
    const FRAME: Duration = Duration::from_micros(33_333);

    fn observe(
        observer: &mut Observer,
        start: Instant,
        frames: std::ops::Range<u32>,
        late: impl Fn(u32) -> u64,
    ) {
        for frame in frames {
            let at = start + FRAME * frame + Duration::from_millis(late(frame));
            observer.newest(at, 4_294_960_000u32.wrapping_add(frame * FRAME_TICKS));
        }
    }

    #[test]
    fn pictures_and_their_time_are_counted_over_a_wrap_of_timestamps() {
        let (start, mut observer) = (Instant::now(), Observer::new(90_000));
        observe(&mut observer, start, 0..91, |_| 0);
        observer.newest(start + FRAME * 91, 4_294_960_000u32.wrapping_add(90 * FRAME_TICKS));
        let facts = observer.facts();
        assert_eq!((facts.frames, facts.media, facts.b_frames), (91, Duration::from_secs(3), 0));
    }

    #[test]
    fn a_queue_that_stands_is_lateness_and_single_late_packets_are_not() {
        let (start, mut observer) = (Instant::now(), Observer::new(90_000));
        observe(
            &mut observer,
            start,
            0..150,
            |frame| if frame % 30 == 0 { 200 } else { u64::from(frame % 4) },
        );
        assert!(observer.facts().lateness < Duration::from_millis(5), "{:?}", observer.facts());
        observe(&mut observer, start, 150..300, |_| 400);
        let late = observer.facts().lateness;
        assert!(late.abs_diff(Duration::from_millis(400)) < Duration::from_millis(5), "{late:?}");
        // Another clock begins: nothing is known of the way any more.
        observer.newest(start + FRAME * 400, 3_000_000_000);
        assert_eq!(observer.facts().lateness, Duration::ZERO);
        assert!(observer.facts().media < Duration::from_secs(11), "{:?}", observer.facts());
    }

    #[test]
    fn pictures_that_change_places_and_silence_are_counted() {
        let (start, mut observer) = (Instant::now(), Observer::new(90_000));
        for timestamp in [0, 9000, 3000, 6000, 18_000, 12_000] {
            observer.newest(start, timestamp);
        }
        for level in [127, 0x80 | 127, 90, 60, 0x80 | 12] {
            observer.level(level);
        }
        let facts = observer.facts();
        assert_eq!((facts.b_frames, facts.levels, facts.audible), (2, 5, 2));
    }
}
