//! When the frames of a video stream are whole, and whether they come as steadily as they were made.
//!
//! A frame is whole when all its packets, up to the one with the marker, are here. Frames count in order: one that waits
//! for a packet holds up those after it, as a decoder would be held up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::SeqNo;

/// No frame for longer than this may be a stall.
const STALL_MIN: Duration = Duration::from_millis(150);
/// No frame for so many average intervals may be a stall.
const STALL_INTERVALS: f64 = 3.0;
/// Ends of frames that wait for earlier packets at most; a stream cannot have more in the time a gap is open.
const WAITING_MAX: usize = 1024;
/// Ticks of every video codec's RTP clock in a second.
const CLOCK_RATE: f64 = 90_000.0;

/// The stalls of one viewer in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stalls {
    pub(crate) count: u64,
    pub(crate) longest: Duration,
}

impl Stalls {
    pub(crate) fn add(&mut self, length: Duration) {
        self.count += 1;
        self.longest = self.longest.max(length);
    }
}

/// Follows the frames of one stream.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// Markers above the frontier.
    waiting: VecDeque<(SeqNo, u32)>,
    /// Packets given up whose frame has not ended yet, ascending.
    lost: VecDeque<SeqNo>,
    completed: Option<(Instant, u32)>,
    /// Average interval in seconds, by media time.
    interval: Option<f64>,
    stalls: Stalls,
    /// Since when stalls count; `None` outside the window.
    counted_since: Option<Instant>,
    /// The last frame that was whole, by its last packet.
    last_whole: Option<SeqNo>,
}

impl Frames {
    /// A packet with the marker arrived.
    pub(crate) fn ended(&mut self, seq_no: SeqNo, timestamp: u32) {
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        let at = self.waiting.partition_point(|(other, _)| *other < seq_no);
        self.waiting.insert(at, (seq_no, timestamp));
    }

    /// A packet was given up.
    pub(crate) fn lost(&mut self, seq_no: SeqNo) {
        if self.lost.len() < WAITING_MAX {
            let at = self.lost.partition_point(|other| *other < seq_no);
            self.lost.insert(at, seq_no);
        }
    }

    /// Everything up to `frontier` is here or given up. Gives the last frame that became whole by it, by its last packet.
    pub(crate) fn advance(&mut self, now: Instant, frontier: SeqNo) -> Option<SeqNo> {
        let before = self.last_whole;
        while let Some((end, timestamp)) = self.waiting.front().copied()
            && end <= frontier
        {
            self.waiting.pop_front();
            let mut is_whole = true;
            while self.lost.front().is_some_and(|lost| *lost < end) {
                self.lost.pop_front();
                is_whole = false;
            }
            if is_whole {
                self.complete(now, timestamp);
                self.last_whole = Some(end);
            }
        }
        if self.last_whole == before { None } else { self.last_whole }
    }

    fn complete(&mut self, now: Instant, timestamp: u32) {
        if let Some((_, last)) = self.completed {
            let ticks = timestamp.wrapping_sub(last) as i32;
            // Frames of one picture instant, and jumps of the clock, say nothing of the interval.
            if (1..CLOCK_RATE as i32 * 10).contains(&ticks) {
                let seconds = f64::from(ticks) / CLOCK_RATE;
                self.interval = Some(self.interval.map_or(seconds, |known| known + (seconds - known) / 16.0));
            }
        }
        self.look_for_stall(now);
        self.completed = Some((now, timestamp));
    }

    fn look_for_stall(&mut self, now: Instant) {
        let Some(since) = self.counted_since else { return };
        let last = self.completed.map_or(since, |(at, _)| at.max(since));
        let pause = now.saturating_duration_since(last);
        let limit = Duration::from_secs_f64(self.interval.unwrap_or(0.0) * STALL_INTERVALS).max(STALL_MIN);
        if pause > limit {
            self.stalls.add(pause);
        }
    }

    /// From now on stalls count.
    pub(crate) fn begin_window(&mut self, now: Instant) {
        self.counted_since = Some(now);
        self.stalls = Stalls::default();
    }

    /// The stalls since the window began, one that still goes on included.
    pub(crate) fn end_window(&mut self, now: Instant) -> Stalls {
        self.look_for_stall(now);
        self.counted_since = None;
        self.stalls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);

    struct Stream {
        frames: Frames,
        now: Instant,
        next: u64,
    }

    impl Stream {
        fn new() -> Self {
            let now = Instant::now();
            let mut frames = Frames::default();
            frames.begin_window(now);
            Self { frames, now, next: 0 }
        }

        /// A frame of two packets.
        fn frame(&mut self) -> SeqNo {
            self.now += FRAME;
            self.next += 2;
            let end = SeqNo::new(self.next);
            self.frames.ended(end, (self.next / 2 * 3000) as u32);
            end
        }

        fn steady(&mut self, frames: usize) {
            for _ in 0..frames {
                let end = self.frame();
                assert_eq!(self.frames.advance(self.now, end), Some(end));
            }
        }
    }

    #[test]
    fn steady_frames_are_no_stall_and_a_pause_is_one() {
        let mut stream = Stream::new();
        stream.steady(30);
        stream.now += Duration::from_millis(300);
        stream.steady(30);
        let stalls = stream.frames.end_window(stream.now);
        assert_eq!(stalls, Stalls { count: 1, longest: Duration::from_millis(333) });
    }

    #[test]
    fn a_pause_that_lasts_to_the_end_is_a_stall() {
        let mut stream = Stream::new();
        stream.steady(3);
        stream.now += Duration::from_secs(2);
        assert_eq!(stream.frames.end_window(stream.now).longest, Duration::from_secs(2));
        let mut silent = Stream::new();
        silent.now += Duration::from_secs(1);
        assert_eq!(silent.frames.end_window(silent.now).count, 1, "nothing ever came");
    }

    #[test]
    fn a_slow_stream_is_not_stalled_by_its_own_rate() {
        let mut stream = Stream::new();
        for _ in 0..10 {
            stream.now += Duration::from_millis(467);
            stream.next += 2;
            let end = SeqNo::new(stream.next);
            stream.frames.ended(end, (stream.next / 2 * 45_000) as u32);
            stream.frames.advance(stream.now, end);
        }
        // Only before the interval was known.
        assert!(stream.frames.end_window(stream.now).count <= 1);
    }

    #[test]
    fn a_frame_waits_for_the_ones_before_it_and_one_with_a_lost_packet_is_never_whole() {
        let mut stream = Stream::new();
        let first = stream.frame();
        let second = stream.frame();
        let third = stream.frame();
        assert_eq!(stream.frames.advance(stream.now, SeqNo::new(first.get() - 1)), None);
        assert_eq!(stream.frames.advance(stream.now, first), Some(first));
        stream.frames.lost(SeqNo::new(second.get() - 1));
        assert_eq!(stream.frames.advance(stream.now, second), None);
        assert_eq!(stream.frames.advance(stream.now, third), Some(third));
    }
}
