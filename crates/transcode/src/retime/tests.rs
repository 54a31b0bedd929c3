//! The clock against publishers that are late, early, fast, slow or gone for a while.

use proptest::prelude::*;

use super::*;

/// Plays pieces of silence; gives the frames.
fn frames(retimer: &mut Retimer) -> Vec<Frame> {
    std::iter::from_fn(|| retimer.poll()).collect()
}

fn millis(frame: &Frame) -> i64 {
    frame.ticks / 48
}

/// How far what the clock counts is from what the publisher says, in milliseconds, at the latest piece.
fn behind(retimer: &Retimer, said: f64) -> f64 {
    let per_sample = 48_000.0 / f64::from(retimer.rate);
    let counted =
        retimer.next.expect("begun") as f64 + (retimer.input.len() as f64 - retimer.position) * per_sample;
    said - counted / 48.0
}

#[test]
fn frames_follow_one_another_from_the_first_time_on() {
    let mut retimer = Retimer::new(44_100, None);
    let mut all = Vec::new();
    for piece in 0..100i64 {
        retimer
            .push(MediaTime::from_micros(1_000_000 + piece * 1024 * 1_000_000 / 44_100), &[[0.5; 2]; 1024]);
        all.extend(frames(&mut retimer));
    }
    assert!(all.len() > 110);
    assert_eq!(all[0].ticks, 48_000);
    assert!(all.windows(2).all(|pair| pair[1].ticks - pair[0].ticks == 960 && !pair[1].begins));
    assert!(all[0].begins && all.iter().all(|frame| frame.samples.len() == 1920));
    let loud = |sample: &f32| (sample - 0.5).abs() < 0.001;
    assert!(all[2..].iter().all(|frame| frame.samples.iter().all(loud)));
}

#[test]
fn a_fast_sound_card_does_not_push_sound_away_from_the_picture() {
    // 500 parts in a million for ten minutes: 300 ms in all, as much as a bad crystal makes in an hour and a half.
    for drift in [0.9995, 1.0005] {
        let mut retimer = Retimer::new(48_000, None);
        let mut worst: f64 = 0.0;
        for piece in 0..28_125 {
            // Said in whole milliseconds, as RTMP does.
            let said = (f64::from(piece) * 1024.0 / 48.0 * drift).floor();
            retimer.push(MediaTime::from_millis(said as i64), &[[0.0; 2]; 1024]);
            let frames = frames(&mut retimer);
            assert!(frames.iter().all(|frame| !frame.begins || piece < 3), "no break");
            if piece > 2000 {
                worst = worst.max(behind(&retimer, said + 1024.0 / 48.0).abs());
            }
        }
        assert!(worst < 4.0, "{worst} ms");
    }
}

#[test]
fn a_short_gap_is_filled_with_silence_of_its_length() {
    let mut retimer = Retimer::new(48_000, None);
    let times = [0, 20, 40, 160, 180, 200, 220];
    let placed = times.map(|time| retimer.push(MediaTime::from_millis(time), &[[0.5; 2]; 960]));
    assert_eq!(placed.iter().position(|placed| *placed == Placed::AfterSilence), Some(3), "{placed:?}");
    let frames = frames(&mut retimer);
    assert_eq!(
        frames.iter().map(millis).collect::<Vec<_>>(),
        (0..11).map(|index| index * 20).collect::<Vec<_>>()
    );
    assert!(frames[1..].iter().all(|frame| !frame.begins));
    let loudness =
        |frame: &Frame| frame.samples.iter().fold(0.0f32, |loudest, sample| loudest.max(sample.abs()));
    let silent: Vec<i64> = frames.iter().filter(|frame| loudness(frame) < 0.01).map(millis).collect();
    assert_eq!(silent, [60, 80, 100, 120, 140]);
}

#[test]
fn a_long_gap_stays_one() {
    let mut retimer = Retimer::new(48_000, None);
    let times = [0, 20, 40, 5000, 5020, 5040];
    let placed = times.map(|time| retimer.push(MediaTime::from_millis(time), &[[0.5; 2]; 960]));
    assert_eq!(placed.iter().position(|placed| *placed == Placed::AfterGap), Some(3), "{placed:?}");
    let found: Vec<(i64, bool)> =
        frames(&mut retimer).iter().map(|frame| (millis(frame), frame.begins)).collect();
    assert_eq!(found, [(0, true), (20, false), (40, false), (5000, true), (5020, false)]);
    assert!(retimer.input.len() < 3000);
}

#[test]
fn sound_that_was_played_already_is_cut() {
    let mut retimer = Retimer::new(48_000, None);
    // The third piece is sent again, late.
    let times = [0, 20, 40, 60, 80, 40, 60, 80, 100, 120, 140];
    let placed = times.map(|time| retimer.push(MediaTime::from_millis(time), &[[0.5; 2]; 960]));
    assert_eq!(placed.iter().filter(|placed| **placed == Placed::Cut).count(), 3, "{placed:?}");
    let found: Vec<i64> = frames(&mut retimer).iter().map(millis).collect();
    assert_eq!(found, (0..7).map(|index| index * 20).collect::<Vec<_>>());
}

#[test]
fn a_change_of_rate_goes_on_with_the_clock() {
    let mut first = Retimer::new(44_100, None);
    first.push(MediaTime::from_millis(100), &[[0.5; 2]; 1024]);
    first.finish();
    assert_eq!(frames(&mut first).iter().map(millis).collect::<Vec<_>>(), [100, 120]);
    let mut second = Retimer::new(48_000, first.next());
    second.push(MediaTime::from_millis(123), &[[0.5; 2]; 1920]);
    assert_eq!(frames(&mut second).iter().map(millis).collect::<Vec<_>>(), [140]);
}

proptest! {
    #[test]
    fn whatever_times_are_said_frames_never_overlap_and_little_is_held(
        pieces in prop::collection::vec((-100_000i64..100_000, 0usize..9000), 1..40),
        rate in prop_oneof![Just(8000u32), Just(44_100), Just(48_000), Just(96_000)],
    ) {
        let mut retimer = Retimer::new(rate, None);
        let (mut time, mut after) = (0, i64::MIN);
        for (step, length) in pieces {
            time += step;
            retimer.push(MediaTime::from_micros(time), &vec![[0.1; 2]; length]);
            for frame in frames(&mut retimer) {
                prop_assert!(frame.ticks >= after);
                after = frame.ticks + 960;
            }
            prop_assert!(retimer.input.len() < rate as usize / 2 + PIECE_SAMPLES_MAX);
        }
    }
}
