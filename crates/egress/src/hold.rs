//! Sound alone, for a connection that carries not even the worst layer of the picture.
//!
//! Pure policy beside [`Controller`](crate::controller::Controller), which says what the connection carries when that is too
//! little. A picture of which a third is missing is none, and what it takes is missing from the sound. So the picture is
//! held: none of it is sent, repeats neither, until there is a reason to believe that it fits. Then it goes on with the
//! next keyframe, and if it does not fit after all, the next try waits twice as long.
//!
//! While nothing of the picture is sent, browsers say nothing of it, and estimate nothing either. What is left are the
//! reports of the sound, where there are any: Chromium, for one, sends none on sound that it only receives.

use std::time::{Duration, Instant};

use model::Bitrate;

/// A connection that carries less than this share of the worst layer carries none: what is missing of more can be repeated.
const STARVED_PERCENT: u64 = 70;
/// It has to be so for this time; one that comes out of a tunnel is not.
const STARVED_TIME: Duration = Duration::from_secs(3);
/// Signs of it that are further apart have nothing to do with each other. Between two there may be a switch, the rest after
/// it, and two windows of loss.
const SIGNS_APART_MAX: Duration = Duration::from_secs(7);

/// A picture stays held for so long at least, and after tries that failed up to the second.
const PATIENCE_MIN: Duration = Duration::from_secs(8);
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// What comes sooner is a report of what was before.
const QUIET: Duration = Duration::from_secs(2);
/// A report of the sound counts for so long: who sends them does each five seconds or so.
const REPORT_AGE_MAX: Duration = Duration::from_secs(12);
/// Who no longer reports on its sound is given another try so long after the usual time.
const UNHEARD_MAX: Duration = Duration::from_secs(20);
/// Sound that loses more is not to be burdened with a picture.
const SOUND_LOSS_MAX: u8 = 13;
/// Nor sound whose round trip is longer than the least one by this, and twice as long.
const ROUND_TRIP_GROWTH: Duration = Duration::from_millis(100);
/// A picture that is short so soon after it came back, for so long, has come back in vain; at once where less than this share
/// of it is carried.
const TRIAL: Duration = Duration::from_secs(10);
const TRIAL_TIME: Duration = Duration::from_secs(1);
const HOPELESS_PERCENT: u64 = 50;
/// What an estimate must be above the layer's rate, in percent, to be believed at once.
const ROOM_PERCENT: u64 = 120;

/// A viewer's connection as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// What it carries, if that is known to be less than what is sent.
    pub capacity: Option<Bitrate>,
    /// What the worst layer takes.
    pub needed: Bitrate,
    /// Whether there is sound for which the picture could be held.
    pub has_sound: bool,
    /// Whether the picture is being sent.
    pub is_playing: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// Send no more of the picture.
    Hold,
    /// Go on with the next keyframe.
    Return,
    /// Nothing: it has come back.
    Returned,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The picture is sent.
    Sent,
    /// It is held.
    Held { since: Instant },
    /// It is to come back, and waits for its keyframe.
    Returning,
    /// It has come back, perhaps in vain.
    Tried { until: Instant },
}

/// What the viewer said last of its sound.
#[derive(Debug, Clone, Copy)]
struct Sound {
    at: Instant,
    fraction_lost: u8,
    has_queue: bool,
}

/// The policy for one viewer.
#[derive(Debug)]
pub struct Hold {
    state: State,
    /// The first and the latest sign in a row that the connection starves.
    starving: Option<(Instant, Instant)>,
    patience: Duration,
    sound: Option<Sound>,
    round_trip_min: Option<Duration>,
    estimate: Option<(Bitrate, Instant)>,
}

impl Hold {
    /// For a viewer that gets its picture.
    pub const fn new() -> Self {
        Self {
            state: State::Sent,
            starving: None,
            patience: PATIENCE_MIN,
            sound: None,
            round_trip_min: None,
            estimate: None,
        }
    }

    /// The viewer says how its sound arrives: the share lost since the report before, in 1/256, and the round trip.
    pub fn sound_reported(&mut self, now: Instant, fraction_lost: u8, round_trip: Option<Duration>) {
        let mut has_queue = false;
        if let Some(round_trip) = round_trip {
            // The least one is forgotten slowly: ways change.
            let least = self.round_trip_min.map_or(round_trip, |least| least + least / 64).min(round_trip);
            self.round_trip_min = Some(least);
            has_queue = round_trip > least + least.max(ROUND_TRIP_GROWTH);
        }
        self.sound = Some(Sound { at: now, fraction_lost, has_queue });
    }

    /// The viewer says what it can take.
    pub const fn estimated(&mut self, now: Instant, bitrate: Bitrate) {
        self.estimate = Some((bitrate, now));
    }

    /// Somebody wants the picture whatever it costs. True if it was held, and not said to be back.
    pub fn release(&mut self) -> bool {
        let was_held = matches!(self.state, State::Held { .. } | State::Returning);
        *self = Self::new();
        was_held
    }

    /// Decides. To be called after news of the viewer, and now and then.
    pub fn decide(&mut self, now: Instant, connection: Connection) -> Step {
        match self.state {
            State::Sent => self.watch(now, connection, false),
            State::Tried { until } if now >= until => {
                (self.state, self.patience) = (State::Sent, PATIENCE_MIN);
                self.watch(now, connection, false)
            }
            State::Tried { .. } => self.watch(now, connection, true),
            State::Held { since } => {
                if connection.has_sound && !self.may_return(now, since, connection.needed) {
                    return Step::Stay;
                }
                self.state = State::Returning;
                Step::Return
            }
            State::Returning if connection.is_playing => {
                self.state = State::Tried { until: now + TRIAL };
                self.starving = None;
                Step::Returned
            }
            State::Returning => Step::Stay,
        }
    }

    fn watch(&mut self, now: Instant, connection: Connection, is_trial: bool) -> Step {
        let Connection { capacity, needed, has_sound, .. } = connection;
        let is_below = |percent: u64| {
            let enough = needed.as_bps().saturating_mul(percent);
            capacity.is_some_and(|capacity| capacity.as_bps().saturating_mul(100) < enough)
        };
        let apart = |(_, latest): (Instant, Instant)| now.saturating_duration_since(latest);
        if !has_sound || self.starving.is_some_and(|starving| apart(starving) > SIGNS_APART_MAX) {
            self.starving = None;
        }
        if !has_sound || !is_below(STARVED_PERCENT) {
            return Step::Stay;
        }
        let (first, _) = self.starving.unwrap_or((now, now));
        self.starving = Some((first, now));
        let patience = match is_trial {
            true if is_below(HOPELESS_PERCENT) => Duration::ZERO,
            true => TRIAL_TIME,
            false => STARVED_TIME,
        };
        if now.saturating_duration_since(first) < patience {
            return Step::Stay;
        }
        if is_trial {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
        }
        (self.state, self.starving) = (State::Held { since: now }, None);
        Step::Hold
    }

    fn may_return(&self, now: Instant, since: Instant, needed: Bitrate) -> bool {
        let has_come_since = |at: Instant| at >= since + QUIET;
        let has_room = |bitrate: Bitrate| {
            bitrate.as_bps().saturating_mul(100) >= needed.as_bps().saturating_mul(ROOM_PERCENT)
        };
        if self.estimate.is_some_and(|(bitrate, at)| has_come_since(at) && has_room(bitrate)) {
            return true;
        }
        let due = since + self.patience;
        if now < due {
            return false;
        }
        let is_news = |sound: &Sound| {
            has_come_since(sound.at) && now.saturating_duration_since(sound.at) <= REPORT_AGE_MAX
        };
        match self.sound {
            Some(sound) if is_news(&sound) => sound.fraction_lost <= SOUND_LOSS_MAX && !sound.has_queue,
            Some(_) => now >= due + UNHEARD_MAX,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: Bitrate = Bitrate::kbps(200);

    struct Viewer {
        hold: Hold,
        now: Instant,
        has_sound: bool,
        is_playing: bool,
    }

    impl Viewer {
        fn new() -> Self {
            Self { hold: Hold::new(), now: Instant::now(), has_sound: true, is_playing: true }
        }

        /// A second passes, at the end of which the connection is found to carry so much, if anything is found.
        fn second(&mut self, capacity: Option<u64>) -> Step {
            self.now += Duration::from_secs(1);
            let connection = Connection {
                capacity: capacity.map(Bitrate::kbps),
                needed: NEEDED,
                has_sound: self.has_sound,
                is_playing: self.is_playing,
            };
            let step = self.hold.decide(self.now, connection);
            match step {
                Step::Hold => self.is_playing = false,
                // Its keyframe comes at once.
                Step::Return => self.is_playing = true,
                Step::Stay | Step::Returned => {}
            }
            step
        }

        fn seconds(&mut self, count: usize, capacity: Option<u64>) -> Vec<Step> {
            (0..count).map(|_| self.second(capacity)).collect()
        }

        fn held() -> Self {
            let mut viewer = Self::new();
            assert_eq!(viewer.seconds(4, Some(90)), [Step::Stay, Step::Stay, Step::Stay, Step::Hold]);
            viewer
        }

        /// Seconds until the picture comes back, while each fifth one brings a report of the sound.
        fn away(&mut self, fraction_lost: u8) -> Option<u32> {
            (1..200).find(|second| {
                if second % 5 == 0 {
                    self.hold.sound_reported(self.now, fraction_lost, Some(Duration::from_millis(40)));
                }
                self.second(None) == Step::Return
            })
        }
    }

    #[test]
    fn a_picture_is_held_when_a_third_of_the_worst_layer_is_missing_for_seconds() {
        Viewer::held();
        let mut viewer = Viewer::new();
        assert!(viewer.seconds(30, Some(150)).iter().all(|step| *step == Step::Stay), "repeats do for that");
        for _ in 0..10 {
            assert_eq!(viewer.seconds(2, Some(50)), [Step::Stay; 2]);
            assert_eq!(viewer.seconds(7, None), [Step::Stay; 7], "accidents");
        }
    }

    #[test]
    fn without_sound_there_is_nothing_to_hold_a_picture_for() {
        let mut viewer = Viewer::new();
        viewer.has_sound = false;
        assert_eq!(viewer.seconds(20, Some(10)), [Step::Stay; 20]);
        let mut viewer = Viewer::held();
        viewer.has_sound = false;
        assert_eq!(viewer.second(None), Step::Return, "the next publishing run has none");
    }

    #[test]
    fn it_comes_back_when_the_sound_arrives_well() {
        let mut viewer = Viewer::held();
        let away = viewer.away(0).expect("comes back");
        assert!((8..=10).contains(&away), "after {away} s");
        assert_eq!(viewer.second(None), Step::Returned);
        assert_eq!(Viewer::held().away(60), None, "a connection that loses sound carries no picture");
    }

    #[test]
    fn an_estimate_with_room_brings_it_back_at_once() {
        let mut viewer = Viewer::held();
        viewer.hold.estimated(viewer.now, Bitrate::kbps(400));
        assert_eq!(viewer.seconds(2, None), [Step::Stay; 2], "that was of the time before");
        viewer.hold.estimated(viewer.now, Bitrate::kbps(210));
        assert_eq!(viewer.second(None), Step::Stay, "too little");
        viewer.hold.estimated(viewer.now, Bitrate::kbps(400));
        assert_eq!(viewer.second(None), Step::Return);
    }

    #[test]
    fn each_try_that_fails_makes_the_next_wait_longer_and_one_that_holds_forgets_them() {
        let mut viewer = Viewer::held();
        let mut waits = Vec::new();
        for _ in 0..5 {
            waits.push(viewer.away(0).expect("comes back"));
            assert_eq!(viewer.second(None), Step::Returned);
            assert_eq!(viewer.seconds(3, None), [Step::Stay; 3]);
            assert_eq!(viewer.second(Some(90)), Step::Hold, "at the first sign");
        }
        assert!(waits.is_sorted() && waits[0] < 12 && (30..36).contains(&waits[4]), "{waits:?}");
        viewer.away(0).expect("comes back");
        assert_eq!(viewer.second(None), Step::Returned);
        viewer.seconds(11, None);
        viewer.seconds(4, Some(90));
        let away = viewer.away(0).expect("comes back");
        assert!(away < 12, "after {away} s");
    }

    #[test]
    fn a_picture_of_which_more_than_half_arrives_is_tried_for_longer() {
        let mut viewer = Viewer::held();
        viewer.away(0).expect("comes back");
        assert_eq!(viewer.second(None), Step::Returned);
        assert_eq!(viewer.seconds(3, None), [Step::Stay; 3]);
        assert_eq!(viewer.seconds(2, Some(120)), [Step::Stay, Step::Hold]);
    }

    #[test]
    fn who_never_reports_on_its_sound_is_tried_in_time_and_who_ceases_to_later() {
        let away = |viewer: &mut Viewer| (1..60).find(|_| viewer.second(None) == Step::Return);
        assert_eq!(away(&mut Viewer::held()), Some(8));
        let mut viewer = Viewer::new();
        viewer.hold.sound_reported(viewer.now, 0, None);
        viewer.seconds(4, Some(90));
        assert_eq!(away(&mut viewer), Some(28));
    }

    #[test]
    fn whoever_wants_a_picture_gets_it() {
        let mut viewer = Viewer::held();
        assert!(viewer.hold.release());
        assert!(!viewer.hold.release());
        let mut viewer = Viewer::held();
        viewer.away(0).expect("comes back");
        assert!(viewer.hold.release(), "nobody was told yet");
        assert_eq!(viewer.second(None), Step::Stay);
    }
}
