//! What an encoder's network held back: whether to take it when it comes at last.
//!
//! TCP loses nothing. After a cut of twenty seconds everything that the encoder made in the meantime comes in order and
//! as fast as the network allows. Passed on, it would have viewers' players follow a clock that runs twenty seconds late,
//! and most of them stay there. So it is left out until what comes is live again: sound then goes on at once, the picture
//! with its next keyframe, and their times show the gap that there was.
//!
//! What comes late without having been held back is another matter. An encoder that stood still (a sleeping computer, a
//! paused program) goes on where it was, as late as it will ever be: its clock is moved to where it is by now. And a
//! network that is slower than the broadcast lags behind little by little; leaving out would help nobody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::MediaTime;

/// All times are in milliseconds. Nothing came for so long before what was held back.
const SILENCE: i64 = 1000;
/// What is later than this is left out.
const LATE: i64 = 1500;
/// What is no later than this is live.
const LIVE: i64 = 300;
/// A backlog that shrinks by less than a tenth of the time that passes, over this time, is none: the clock stood still.
const LOOK: i64 = 2000;
const SHRINKS_BY: i64 = 10;
/// Longer than this nothing is left out.
const PATIENCE: i64 = 60_000;
/// How far back it is looked for what came fastest: beyond any cut that a connection outlives.
const WINDOW: Duration = Duration::from_secs(120);
/// What comes in this time shares one entry of it.
const BUCKET: Duration = Duration::from_secs(1);

/// Something of sound or picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Sound,
    Picture { is_keyframe: bool },
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is live.
    Taken,
    /// It is too late, or of no use without a picture that was.
    LeftOut,
    /// The clock has stood still for so many milliseconds. Move it, and judge this again.
    Stood(i64),
}

#[derive(Debug, Clone, Copy)]
struct Catching {
    began: Instant,
    /// The beginning of a look, and how late what came was then.
    since: Instant,
    lateness: i64,
}

/// How late a publisher's media come.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// When something came first: arrivals are counted from there.
    origin: Option<Instant>,
    came_at: Option<Instant>,
    /// The least that arrival was ahead of media time in each second.
    least: VecDeque<(Instant, i64)>,
    catching: Option<Catching>,
    /// A picture was left out: those that build on it are of no use.
    needs_keyframe: bool,
    left_out: u64,
}

impl Backlog {
    /// What becomes of something of this time that comes now.
    pub(crate) fn judge(&mut self, now: Instant, time: MediaTime, what: What) -> Fate {
        let origin = *self.origin.get_or_insert(now);
        let ahead = millis(now.saturating_duration_since(origin)) - time.as_micros() / 1000;
        let lateness = self.least().map_or(0, |least| ahead - least);
        let silence = self.came_at.map_or(0, |at| millis(now.saturating_duration_since(at)));
        self.came_at = Some(now);
        match self.catching {
            None if silence >= SILENCE && lateness > LATE => {
                self.catching = Some(Catching { began: now, since: now, lateness });
                return self.leave_out(what);
            }
            Some(Catching { began, since, lateness: before }) if lateness > LIVE => {
                let elapsed = millis(now.saturating_duration_since(since));
                let shrinks = (before - lateness) * SHRINKS_BY >= elapsed;
                // What is still late after a burst is so because its way has become longer; and a burst may stumble.
                if silence >= SILENCE || (elapsed >= LOOK && shrinks) {
                    self.catching = Some(Catching { began, since: now, lateness });
                }
                let stands = elapsed >= LOOK && !shrinks && silence < SILENCE;
                if !stands && millis(now.saturating_duration_since(began)) < PATIENCE {
                    return self.leave_out(what);
                }
                self.catching = None;
                return Fate::Stood(lateness);
            }
            Some(_) | None => self.catching = None,
        }
        self.observe(now, ahead);
        match what {
            What::Sound => Fate::Taken,
            What::Picture { is_keyframe: false } if self.needs_keyframe => self.leave_out(what),
            What::Picture { .. } => {
                self.needs_keyframe = false;
                Fate::Taken
            }
        }
    }

    /// Messages that were left out.
    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn leave_out(&mut self, what: What) -> Fate {
        self.needs_keyframe |= matches!(what, What::Picture { .. });
        self.left_out += 1;
        Fate::LeftOut
    }

    fn least(&self) -> Option<i64> {
        self.least.iter().map(|(_, ahead)| *ahead).min()
    }

    fn observe(&mut self, now: Instant, ahead: i64) {
        match self.least.back_mut() {
            Some((at, least)) if now.saturating_duration_since(*at) < BUCKET => *least = ahead.min(*least),
            _ => self.least.push_back((now, ahead)),
        }
        while let Some((at, _)) = self.least.front()
            && now.saturating_duration_since(*at) > WINDOW
        {
            self.least.pop_front();
        }
    }
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOP: i64 = 2000;

    /// An encoder with a picture each 40 ms, and sound with each of them.
    struct Encoder {
        backlog: Backlog,
        start: Instant,
        /// Of the next picture, and what it was moved by.
        time: i64,
        moved: i64,
        /// Arrival, kind, and the time that it got, of all that was taken.
        taken: Vec<(i64, What, i64)>,
    }

    impl Encoder {
        fn new() -> Self {
            Self { backlog: Backlog::default(), start: Instant::now(), time: 0, moved: 0, taken: Vec::new() }
        }

        /// What was made until `made` comes, the first of it at `arrival`, and so many times as fast as it was made.
        fn come(&mut self, made: i64, arrival: i64, pace: i64) {
            let first = self.time;
            while self.time < made {
                let at = arrival + (self.time - first) / pace;
                let now = self.start + Duration::from_millis(at as u64);
                for what in [What::Picture { is_keyframe: self.time % GOP == 0 }, What::Sound] {
                    let mut fate =
                        self.backlog.judge(now, MediaTime::from_millis(self.time + self.moved), what);
                    if let Fate::Stood(millis) = fate {
                        self.moved += millis;
                        fate = self.backlog.judge(now, MediaTime::from_millis(self.time + self.moved), what);
                    }
                    if fate == Fate::Taken {
                        self.taken.push((at, what, self.time + self.moved));
                    }
                }
                self.time += 40;
            }
        }

        fn lateness_max(&self) -> i64 {
            self.taken.iter().map(|(at, _, time)| at - time).max().expect("something")
        }

        fn of(&self, is_sound: bool) -> Vec<i64> {
            let of_kind = self.taken.iter().filter(|(_, what, _)| (*what == What::Sound) == is_sound);
            of_kind.map(|(.., time)| *time).collect()
        }
    }

    #[test]
    fn after_a_cut_of_twenty_seconds_it_goes_on_live() {
        for pace in [2, 5, 50] {
            let mut encoder = Encoder::new();
            encoder.come(10_000, 0, 1);
            // What is made during the cut, and while that comes.
            let caught_up = 30_000 + 20_000 / (pace - 1);
            encoder.come(caught_up, 30_000, pace);
            encoder.come(caught_up + 10_000, caught_up, 1);
            assert!(encoder.lateness_max() <= LIVE, "{} ms at {pace} times the pace", encoder.lateness_max());
            let back = |times: &[i64]| *times.iter().find(|time| **time >= 10_000).expect("back");
            let (sound, picture) = (back(&encoder.of(true)), back(&encoder.of(false)));
            assert!((caught_up - 2 * LIVE - 80..=caught_up + 40).contains(&sound), "{sound} of {caught_up}");
            assert!(picture >= sound && picture < sound + GOP + 40 && picture % GOP == 0, "{picture}");
            assert_eq!(encoder.moved, 0, "the times of the encoder stay");
            assert!(encoder.backlog.left_out() > 2 * 400);
        }
    }

    #[test]
    fn a_short_stall_is_passed_on_as_it_comes() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        encoder.come(11_400, 11_400, 20);
        encoder.come(20_000, 11_470, 1);
        assert_eq!(encoder.taken.len(), 2 * 500);
        assert_eq!(encoder.backlog.left_out(), 0);
    }

    #[test]
    fn a_clock_that_stood_still_is_moved_to_where_it_is_by_now() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        encoder.come(30_000, 22_000, 1);
        assert_eq!(encoder.moved, 12_000);
        let sound = encoder.of(true);
        let back = sound.iter().find(|time| **time > 10_000).expect("back");
        assert!((24_000..24_100).contains(back), "{back}");
        assert!(encoder.lateness_max() <= LIVE);
    }

    #[test]
    fn a_way_that_is_longer_after_a_cut_is_soon_put_up_with() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        encoder.come(20_080, 20_000, 20);
        encoder.come(40_000, 20_504, 1);
        assert!((400..=440).contains(&encoder.moved), "{}", encoder.moved);
        let back = encoder.taken.iter().find(|(at, ..)| *at >= 20_000).expect("back");
        assert!(back.0 < 25_000, "{back:?}");
    }

    #[test]
    fn a_burst_that_stumbles_is_still_one() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        encoder.come(15_000, 30_000, 10);
        encoder.come(36_560, 35_500, 20);
        encoder.come(46_000, 36_578, 1);
        assert_eq!(encoder.moved, 0);
        assert!(encoder.lateness_max() <= LIVE, "{}", encoder.lateness_max());
    }

    #[test]
    fn a_network_that_lags_behind_little_by_little_is_put_up_with() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        for second in 10..60 {
            // Each second takes 50 ms more than a second to come.
            encoder.come((second + 1) * 1000, second * 1050 - 500, 1);
        }
        assert_eq!(encoder.backlog.left_out(), 0);
    }

    #[test]
    fn a_pause_of_the_encoder_that_its_clock_knows_of_is_none_of_the_network() {
        let mut encoder = Encoder::new();
        encoder.come(10_000, 0, 1);
        encoder.time = 40_000;
        encoder.come(50_000, 40_000, 1);
        assert_eq!(encoder.backlog.left_out(), 0);
    }

    proptest! {
        #[test]
        fn what_is_taken_after_a_cut_is_never_late_for_long(
            cuts in prop::collection::vec((0i64..40, 2i64..40, 2i64..20), 1..6),
        ) {
            let mut encoder = Encoder::new();
            let mut arrival = 10_000;
            encoder.come(arrival, 0, 1);
            for (live, cut, pace) in cuts {
                let until = encoder.time + live * 1000;
                encoder.come(until, arrival, 1);
                arrival = until + cut * 1000;
                let caught_up = arrival + cut * 1000 / (pace - 1);
                encoder.come(caught_up, arrival, pace);
                arrival = encoder.time;
            }
            prop_assert!(encoder.lateness_max() <= LATE);
            prop_assert_eq!(encoder.moved, 0);
        }
    }
}
