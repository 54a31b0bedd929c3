//! Behaviour of the module `time`.

use std::time::{Duration, Instant};

use model::NtpTime;
use proptest::prelude::*;

use super::*;

const AUDIO: u32 = 48_000;
const VIDEO: u32 = 90_000;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Our wallclock when a test begins.
fn epoch() -> NtpTime {
    NtpTime::from_unix(Duration::from_secs(1_790_000_000))
}

/// Seconds from `other` to `one`.
fn seconds(one: NtpTime, other: NtpTime) -> f64 {
    difference(one.to_bits(), other.to_bits()) as f64 / 4_294_967_296.0
}

fn assert_close(one: NtpTime, other: NtpTime, tolerance: Duration) {
    let apart = seconds(one, other);
    assert!(apart.abs() <= tolerance.as_secs_f64(), "{apart} s apart");
}

/// A publisher whose wallclock began 1000 s after 1900, as clocks that count from boot do.
struct Sender {
    clock_rate: u32,
    first_timestamp: u32,
}

impl Sender {
    fn ntp(at: Duration) -> NtpTime {
        NtpTime::from_bits(1000 << 32).plus(at)
    }

    fn timestamp(&self, at: Duration) -> u32 {
        let ticks = at.as_micros() * u128::from(self.clock_rate) / 1_000_000;
        self.first_timestamp.wrapping_add(ticks as u32)
    }
}

#[test]
fn before_any_report_time_runs_on_from_the_first_arrival() {
    let offset = ClockOffset::default();
    let mut clock = SenderClock::new(VIDEO);
    assert_eq!(clock.capture_time(0), None);
    let first = u32::MAX - 4500; // wraps around on the way
    assert_eq!(clock.received(epoch(), first, &offset), epoch());
    // The second packet is 30 ms late; its capture time is not.
    let second = clock.received(epoch().plus(ms(130)), first.wrapping_add(9000), &offset);
    assert_close(second, epoch().plus(ms(100)), ms(1));
    assert_close(clock.capture_time(first).expect("a packet came"), epoch(), ms(1));
}

#[test]
fn nothing_arrives_before_it_was_captured() {
    let offset = ClockOffset::default();
    let mut clock = SenderClock::new(VIDEO);
    // The first packet was held up for 200 ms, those after it were not.
    clock.received(epoch().plus(ms(200)), 0, &offset);
    let mut arrival = epoch();
    let mut captured = epoch();
    for frame in 1..=60 {
        arrival = epoch().plus(ms(40) * frame);
        captured = clock.received(arrival, 3600 * frame, &offset);
    }
    assert_close(captured, arrival, ms(1));
}

#[test]
fn sound_and_picture_of_one_publisher_come_out_aligned() {
    let audio = Sender { clock_rate: AUDIO, first_timestamp: u32::MAX - 50_000 };
    let video = Sender { clock_rate: VIDEO, first_timestamp: 123_456 };
    let mut offset = ClockOffset::default();
    let mut clocks = [SenderClock::new(AUDIO), SenderClock::new(VIDEO)];
    let start = Instant::now();
    let mut captured = [epoch(); 2];
    for tick in 0..300u32 {
        let at = ms(20) * tick;
        // Media and reports of the picture always take longer than those of the sound.
        let transit = [ms(5 + u64::from(tick % 3)), ms(60 + u64::from(tick % 7) * 5)];
        for (index, sender) in [&audio, &video].into_iter().enumerate() {
            let wallclock = epoch().plus(at + transit[index]);
            if tick % 50 == 7 {
                offset.observe(start + at + transit[index], wallclock, Sender::ntp(at));
                clocks[index].sender_report(Sender::ntp(at), sender.timestamp(at));
            }
            captured[index] = clocks[index].received(wallclock, sender.timestamp(at), &offset);
        }
    }
    let truth = epoch().plus(ms(20) * 299);
    assert_close(captured[0], captured[1], Duration::from_micros(50));
    assert_close(captured[0], truth, ms(6));
}

#[test]
fn half_the_round_trip_is_taken_for_the_reports_transit() {
    let mut offset = ClockOffset::default();
    offset.set_round_trip(ms(80));
    assert_eq!(offset.to_wallclock(Sender::ntp(ms(0))), None);
    offset.observe(Instant::now(), epoch().plus(ms(40)), Sender::ntp(ms(0)));
    let wallclock = offset.to_wallclock(Sender::ntp(ms(500))).expect("a report came");
    assert_close(wallclock, epoch().plus(ms(500)), Duration::from_micros(1));
}

#[test]
fn the_fastest_report_of_the_window_counts_and_is_forgotten_after_it() {
    let mut offset = ClockOffset::default();
    let start = Instant::now();
    let observed = |offset: &mut ClockOffset, at: Duration, transit: Duration| {
        offset.observe(start + at + transit, epoch().plus(at + transit), Sender::ntp(at));
        offset.to_wallclock(Sender::ntp(ms(0))).expect("a report came")
    };
    assert_close(observed(&mut offset, ms(0), ms(50)), epoch().plus(ms(50)), ms(1));
    assert_close(observed(&mut offset, ms(100), ms(10)), epoch().plus(ms(10)), ms(1));
    assert_close(observed(&mut offset, ms(20_000), ms(40)), epoch().plus(ms(10)), ms(1));
    assert_close(observed(&mut offset, ms(40_000), ms(45)), epoch().plus(ms(40)), ms(1));
    for at in 40_000..200_000 {
        observed(&mut offset, ms(at), ms(40));
    }
    assert!(offset.minima.len() <= 32, "{}", offset.minima.len());
}

#[test]
fn a_sender_that_sets_its_clock_is_followed_at_once() {
    let mut offset = ClockOffset::default();
    let start = Instant::now();
    offset.observe(start, epoch(), Sender::ntp(ms(0)));
    // Set back by an hour: its offset grows, so the smallest of the window would be wrong for long.
    let set_back = Sender::ntp(ms(1000)).minus(Duration::from_secs(3600));
    offset.observe(start + ms(1000), epoch().plus(ms(1000)), set_back);
    assert_close(offset.to_wallclock(set_back).expect("a report came"), epoch().plus(ms(1000)), ms(1));
}

#[test]
fn a_sender_without_a_wallclock_is_mapped_by_arrival() {
    let mut offset = ClockOffset::default();
    let mut clock = SenderClock::new(VIDEO);
    offset.observe(Instant::now(), epoch(), NtpTime::from_bits(0));
    clock.sender_report(NtpTime::from_bits(0), 77);
    assert_eq!(offset.to_wallclock(Sender::ntp(ms(0))), None);
    assert_eq!(clock.received(epoch(), 0, &offset), epoch());
}

#[test]
fn a_report_of_nonsense_is_not_believed() {
    let mut offset = ClockOffset::default();
    let mut clock = SenderClock::new(VIDEO);
    offset.observe(Instant::now(), epoch(), Sender::ntp(ms(0)));
    clock.sender_report(Sender::ntp(ms(0)), 1_000_000_000); // hours from the media's timestamps
    assert_eq!(clock.received(epoch(), 0, &offset), epoch());
    assert_close(clock.received(epoch().plus(ms(20)), 1800, &offset), epoch().plus(ms(20)), ms(1));
}

#[test]
fn an_encoder_that_begins_with_new_timestamps_is_mapped_anew() {
    let offset = ClockOffset::default();
    let mut clock = SenderClock::new(VIDEO);
    clock.received(epoch(), 3_000_000_000, &offset);
    let restarted = epoch().plus(ms(500));
    assert_eq!(clock.received(restarted, 5, &offset), restarted);
    assert_close(clock.received(restarted.plus(ms(100)), 9005, &offset), restarted.plus(ms(100)), ms(1));
}

#[test]
fn days_without_a_report_of_its_own_do_not_lose_the_mapping() {
    let mut offset = ClockOffset::default();
    let sender = Sender { clock_rate: VIDEO, first_timestamp: 5 };
    let mut clock = SenderClock::new(VIDEO);
    let start = Instant::now();
    offset.observe(start, epoch(), Sender::ntp(ms(0)));
    clock.sender_report(Sender::ntp(ms(0)), sender.timestamp(ms(0)));
    for second in 0..100_000 {
        let at = Duration::from_secs(second);
        let captured = clock.received(epoch().plus(at + ms(20)), sender.timestamp(at), &offset);
        assert_close(captured, epoch().plus(at), ms(1));
    }
    // Another stream's report moves the offset: this one still follows.
    let at = Duration::from_secs(100_000);
    offset.observe(start + at, epoch().plus(at + ms(15)), Sender::ntp(at));
    let captured = clock.received(epoch().plus(at + ms(20)), sender.timestamp(at), &offset);
    assert_close(captured, epoch().plus(at + ms(15)), ms(1));
}

proptest! {
    #[test]
    fn capture_time_never_runs_backwards_and_settles_on_the_truth(
        first_timestamp in any::<u32>(),
        jitter in prop::collection::vec(0u64..80, 200),
        delay in 0u64..2000,
        report_every in 10usize..60,
    ) {
        let sender = Sender { clock_rate: VIDEO, first_timestamp };
        let mut offset = ClockOffset::default();
        let mut clock = SenderClock::new(VIDEO);
        let start = Instant::now();
        let mut previous: Option<NtpTime> = None;
        let mut last = (epoch(), epoch());
        for (tick, jitter) in jitter.iter().enumerate() {
            // Captured at `at`, sent `delay` later by a slow encoder.
            let at = ms(33) * tick as u32;
            let wallclock = epoch().plus(at + ms(delay + jitter));
            if tick % report_every == 9 {
                let sent = at + ms(delay);
                offset.observe(start + sent + ms(*jitter), epoch().plus(sent + ms(*jitter)), Sender::ntp(sent));
                clock.sender_report(Sender::ntp(sent), sender.timestamp(sent));
            }
            let captured = clock.received(wallclock, sender.timestamp(at), &offset);
            prop_assert!(previous.is_none_or(|previous| seconds(captured, previous) > 0.0));
            previous = Some(captured);
            last = (captured, epoch().plus(at));
        }
        // Transit is unknown: at most the largest jitter remains.
        let error = seconds(last.0, last.1);
        prop_assert!((-0.001..=0.081).contains(&error), "{} s", error);
    }
}
