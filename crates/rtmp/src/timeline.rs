//! One clock for the tracks of a publisher, out of time stamps of 32 bits that wrap and sometimes jump.
//!
//! Differences within a track are kept to the millisecond, so sound and picture stay together. A jump that no passing
//! of time explains (an encoder that starts its clock anew, a file that is played in a loop) is taken out: the media go
//! on where they should be by now, and a second track that makes the same jump gets the same correction.

use std::time::{Duration, Instant};

use model::{Kind, MediaTime};

/// How much further than the time that has passed a track may go on: encoders send what they have queued.
const AHEAD_MAX: i64 = 5000;
/// How far a track may step back. Consumers put up with that much.
const BACK_MAX: i64 = 1000;
/// How far apart two tracks may begin, in either direction.
const APART_MAX: i64 = 10_000;

#[derive(Debug, Clone, Copy)]
struct Track {
    /// Latest time, in milliseconds.
    newest: i64,
    /// When that was said.
    at: Instant,
    /// Where it would be by now if nothing had been held back, and when: of what comes late, the next may be of any time until then.
    edge: (i64, Instant),
    /// What is added to the track's time stamps.
    offset: i64,
}

/// The clock. All its numbers are milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    audio: Option<Track>,
    video: Option<Track>,
    /// The latest correction of any track.
    offset: i64,
    jumps: u64,
}

impl Timeline {
    /// The time of a message of this kind that came `now` with this time stamp.
    pub(crate) fn place(&mut self, now: Instant, kind: Kind, timestamp: u32) -> MediaTime {
        let (own, other) = match kind {
            Kind::Audio => (self.audio, self.video),
            Kind::Video => (self.video, self.audio),
        };
        let track = match (own, other) {
            (Some(own), _) => self.go_on(now, own, timestamp),
            (None, Some(other)) => self.join(now, other, timestamp),
            (None, None) => Track::begin(now, i64::from(timestamp), 0),
        };
        let time = nearest(track.newest, i64::from(timestamp) + track.offset);
        let slot = match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        *slot = Some(track);
        MediaTime::from_millis(time)
    }

    /// Moves the clock ahead by so much: it has stood still.
    pub(crate) fn advance(&mut self, millis: i64) {
        self.offset += millis;
        for track in [&mut self.audio, &mut self.video].into_iter().flatten() {
            track.offset += millis;
            track.newest += millis;
            track.edge.0 = track.edge.0.max(track.newest);
        }
    }

    /// Jumps that were taken out.
    pub(crate) const fn jumps(&self) -> u64 {
        self.jumps
    }

    fn go_on(&mut self, now: Instant, own: Track, timestamp: u32) -> Track {
        let edge = own.edge(now);
        for offset in [own.offset, self.offset] {
            let time = nearest(own.newest, i64::from(timestamp) + offset);
            if (own.newest - BACK_MAX..=edge + AHEAD_MAX).contains(&time) {
                let at = if time >= own.newest { now } else { own.at };
                let edge = if time >= edge { (time, now) } else { own.edge };
                return Track { newest: own.newest.max(time), at, edge, offset };
            }
        }
        let elapsed = millis(now.saturating_duration_since(own.at));
        self.jump(now, own.newest + elapsed, timestamp)
    }

    fn join(&mut self, now: Instant, other: Track, timestamp: u32) -> Track {
        let expected = other.newest + millis(now.saturating_duration_since(other.at));
        let time = nearest(expected, i64::from(timestamp) + other.offset);
        if (time - expected).abs() <= APART_MAX {
            return Track::begin(now, time, other.offset);
        }
        self.jump(now, expected, timestamp)
    }

    fn jump(&mut self, now: Instant, expected: i64, timestamp: u32) -> Track {
        self.jumps += 1;
        self.offset = expected - i64::from(timestamp);
        Track::begin(now, expected, self.offset)
    }
}

impl Track {
    const fn begin(now: Instant, time: i64, offset: i64) -> Self {
        Self { newest: time, at: now, edge: (time, now), offset }
    }

    fn edge(&self, now: Instant) -> i64 {
        let (time, at) = self.edge;
        time + millis(now.saturating_duration_since(at))
    }
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

/// The number that is `value` modulo 2^32 and nearest to `around`.
fn nearest(around: i64, value: i64) -> i64 {
    around + i64::from(value.wrapping_sub(around) as u32 as i32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Places messages `every` milliseconds apart, at the same pace.
    struct Bench {
        timeline: Timeline,
        start: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { timeline: Timeline::default(), start: Instant::now() }
        }

        fn at(&mut self, elapsed: u64, kind: Kind, timestamp: u32) -> i64 {
            self.timeline.place(self.start + Duration::from_millis(elapsed), kind, timestamp).as_micros()
                / 1000
        }
    }

    #[test]
    fn time_goes_on_over_the_wrap() {
        let mut bench = Bench::new();
        let first = u32::MAX - 49;
        assert_eq!(bench.at(0, Kind::Video, first), i64::from(first));
        assert_eq!(bench.at(40, Kind::Audio, first.wrapping_add(40)), i64::from(first) + 40);
        assert_eq!(bench.at(100, Kind::Video, first.wrapping_add(100)), i64::from(first) + 100);
        assert_eq!(bench.at(100, Kind::Audio, first.wrapping_add(90)), i64::from(first) + 90);
        assert_eq!(bench.timeline.jumps(), 0);
    }

    #[test]
    fn a_clock_that_starts_anew_goes_on_where_it_was_in_both_tracks_alike() {
        let mut bench = Bench::new();
        bench.at(0, Kind::Video, 500_000);
        bench.at(5, Kind::Audio, 500_005);
        assert_eq!(bench.at(1000, Kind::Video, 501_000), 501_000);
        assert_eq!(bench.at(1040, Kind::Video, 0), 501_040, "by the time that has passed");
        assert_eq!(
            bench.at(1042, Kind::Audio, 7),
            501_047,
            "seven milliseconds after the picture, as before"
        );
        assert_eq!(bench.at(1080, Kind::Video, 40), 501_080);
        assert_eq!(bench.timeline.jumps(), 1);
    }

    #[test]
    fn a_pause_that_time_explains_is_kept_and_a_leap_is_not() {
        let mut bench = Bench::new();
        bench.at(0, Kind::Video, 0);
        assert_eq!(bench.at(60_000, Kind::Video, 60_000), 60_000);
        assert_eq!(bench.at(60_040, Kind::Video, 3_660_000), 60_040);
        assert_eq!(bench.at(60_080, Kind::Video, 3_660_040), 60_080);
        assert_eq!(bench.timeline.jumps(), 1);
    }

    #[test]
    fn what_a_stalled_network_held_back_comes_in_a_burst() {
        let mut bench = Bench::new();
        bench.at(0, Kind::Video, 0);
        for frame in 1..200 {
            assert_eq!(bench.at(8000, Kind::Video, frame * 40), i64::from(frame) * 40);
        }
        assert_eq!(bench.timeline.jumps(), 0);
    }

    #[test]
    fn what_was_held_back_may_have_gaps() {
        let mut bench = Bench::new();
        bench.at(0, Kind::Video, 100_000);
        bench.at(0, Kind::Audio, 100_000);
        // An encoder whose queue is full leaves pictures out until the next keyframe, but no sound.
        assert_eq!(bench.at(15_000, Kind::Video, 100_033), 100_033);
        for frame in 1..200 {
            assert_eq!(bench.at(15_000, Kind::Audio, 100_000 + frame * 40), 100_000 + i64::from(frame) * 40);
        }
        assert_eq!(bench.at(15_001, Kind::Video, 108_000), 108_000);
        assert_eq!(bench.at(15_002, Kind::Video, 115_002), 115_002);
        assert_eq!(bench.timeline.jumps(), 0);
        assert_eq!(bench.at(15_003, Kind::Video, 121_000), 115_003, "nothing comes from so far ahead");
    }

    #[test]
    fn a_clock_that_is_moved_goes_on_from_there_in_both_tracks_and_over_the_wrap() {
        let mut bench = Bench::new();
        let first = u32::MAX - 1000;
        bench.at(0, Kind::Video, first);
        bench.at(10, Kind::Audio, first + 10);
        bench.timeline.advance(20_000);
        let moved = |millis: i64| i64::from(first) + 20_000 + millis;
        assert_eq!(bench.at(20_040, Kind::Video, first + 40), moved(40));
        assert_eq!(bench.at(20_050, Kind::Audio, first + 50), moved(50));
        assert_eq!(bench.at(22_040, Kind::Video, first.wrapping_add(2040)), moved(2040));
        assert_eq!(bench.timeline.jumps(), 0);
    }

    #[test]
    fn tracks_with_clocks_of_their_own_begin_together() {
        let mut bench = Bench::new();
        bench.at(0, Kind::Video, 3_600_000);
        assert_eq!(bench.at(10, Kind::Audio, 0), 3_600_010);
        assert_eq!(bench.at(30, Kind::Audio, 20), 3_600_030);
        assert_eq!(bench.at(40, Kind::Video, 3_600_040), 3_600_040);
    }

    proptest! {
        #[test]
        fn steps_within_a_track_are_kept(first in any::<u32>(), steps in prop::collection::vec(0u32..4000, 1..100)) {
            let mut bench = Bench::new();
            let (mut timestamp, mut time) = (first, bench.at(0, Kind::Audio, first));
            for step in steps {
                timestamp = timestamp.wrapping_add(step);
                time += i64::from(step);
                prop_assert_eq!(bench.at(0, Kind::Audio, timestamp), time);
            }
        }

        #[test]
        fn no_time_stamps_lead_back_far(stamps in prop::collection::vec((any::<u32>(), any::<bool>(), 0u64..100_000), 1..60)) {
            let mut bench = Bench::new();
            let (mut elapsed, mut newest) = (0, [None; 2]);
            for (timestamp, is_audio, pause) in stamps {
                elapsed += pause;
                let time = bench.at(elapsed, if is_audio { Kind::Audio } else { Kind::Video }, timestamp);
                let newest = &mut newest[usize::from(is_audio)];
                prop_assert!(newest.is_none_or(|newest| time >= newest - BACK_MAX));
                *newest = Some(newest.map_or(time, |newest: i64| newest.max(time)));
            }
        }
    }
}
