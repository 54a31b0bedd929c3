//! Behaviour of the module `gap`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::SeqNo;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn numbers(indices: impl IntoIterator<Item = u64>) -> Vec<SeqNo> {
    indices.into_iter().map(SeqNo::new).collect()
}

fn tracker_after(indices: impl IntoIterator<Item = u64>) -> (GapTracker, Instant) {
    let now = Instant::now();
    let mut tracker = GapTracker::new(Config::default());
    for index in indices {
        assert_eq!(tracker.received(now, SeqNo::new(index)), Arrival::New);
    }
    (tracker, now)
}

fn nack(tracker: &mut GapTracker, now: Instant) -> Vec<SeqNo> {
    let mut out = Vec::new();
    tracker.poll_nack(now, &mut out);
    out
}

#[test]
fn a_gap_is_asked_for_after_the_reorder_delay_and_again_after_the_interval() {
    let (mut tracker, start) = tracker_after([65_534, 65_538]);
    assert_eq!(tracker.poll_timeout(), Some(start + ms(5)));
    assert_eq!(nack(&mut tracker, start + ms(4)), []);
    assert_eq!(nack(&mut tracker, start + ms(5)), numbers(65_535..65_538));
    assert_eq!(tracker.poll_timeout(), Some(start + ms(25)));
    assert_eq!(nack(&mut tracker, start + ms(24)), []);
    assert_eq!(tracker.received(start + ms(24), SeqNo::new(65_536)), Arrival::Recovered { after: ms(24) });
    assert_eq!(nack(&mut tracker, start + ms(25)), numbers([65_535, 65_537]));
}

#[test]
fn a_long_round_trip_makes_it_patient() {
    let (mut tracker, start) = tracker_after([1]);
    tracker.set_round_trip(ms(200));
    tracker.received(start, SeqNo::new(3));
    assert_eq!(tracker.poll_timeout(), Some(start + ms(50)));
    assert_eq!(nack(&mut tracker, start + ms(50)), numbers([2]));
    let again = tracker.poll_timeout().expect("a second request");
    assert!(again.duration_since(start + ms(240 + 50)) < ms(1), "{:?}", again - start);
}

#[test]
fn a_packet_that_is_only_late_is_never_asked_for() {
    let (mut tracker, start) = tracker_after([1, 3]);
    assert_eq!(tracker.received(start + ms(3), SeqNo::new(2)), Arrival::Recovered { after: ms(3) });
    assert_eq!(tracker.poll_timeout(), None);
    assert_eq!(nack(&mut tracker, start + ms(100)), []);
    let stats = tracker.stats();
    assert_eq!((stats.received, stats.recovered, stats.asked), (3, 1, 0));
}

#[test]
fn a_second_copy_is_a_duplicate_whether_it_came_straight_or_was_repaired() {
    let (mut tracker, now) = tracker_after([1, 3]);
    tracker.received(now, SeqNo::new(2));
    for index in 1..=3 {
        assert_eq!(tracker.received(now, SeqNo::new(index)), Arrival::Duplicate);
    }
    assert_eq!(tracker.stats().duplicates, 3);
}

#[test]
fn what_came_before_the_first_packet_is_too_old() {
    let (mut tracker, now) = tracker_after([100]);
    assert_eq!(tracker.received(now, SeqNo::new(99)), Arrival::TooOld);
}

#[test]
fn a_stream_that_begins_earlier_than_was_thought_lacks_what_is_in_between() {
    let (mut tracker, start) = tracker_after([100]);
    assert_eq!(tracker.received(start, SeqNo::new(97)), Arrival::TooOld);
    tracker.begin_earlier(start, SeqNo::new(97));
    assert_eq!(nack(&mut tracker, start + ms(5)), numbers(98..100));
    assert_eq!(tracker.received(start + ms(6), SeqNo::new(98)), Arrival::Recovered { after: ms(6) });
    tracker.begin_earlier(start, SeqNo::new(97));
    tracker.begin_earlier(start, SeqNo::new(99));
    assert_eq!(tracker.stats().outstanding, 1, "only 99 is missing now");
    tracker.begin_earlier(start, SeqNo::new(96));
    assert_eq!(tracker.stats().outstanding, 1, "nothing lies between 96 and 97");
    let (mut far, now) = tracker_after([5000]);
    far.begin_earlier(now, SeqNo::new(5000 - 1026));
    assert_eq!(far.stats().outstanding, 0);
    far.begin_earlier(now, SeqNo::new(5000 - 1025));
    assert_eq!(far.stats().outstanding, 1024);
}

#[test]
fn the_first_packet_is_missed_where_it_was_expected() {
    let (mut tracker, start) = tracker_after([]);
    tracker.expect(SeqNo::new(65_536));
    assert_eq!(tracker.received(start, SeqNo::new(65_537)), Arrival::New);
    assert_eq!(nack(&mut tracker, start + ms(5)), numbers([65_536]));
    assert_eq!(tracker.received(start, SeqNo::new(65_534)), Arrival::TooOld);
    tracker.begin_earlier(start + ms(10), SeqNo::new(65_534));
    assert_eq!(nack(&mut tracker, start + ms(15)), numbers([65_535]), "expected later is not received");
    assert_eq!(tracker.stats().received, 2);
}

#[test]
fn a_gap_is_given_up_after_so_many_requests() {
    let (mut tracker, start) = tracker_after([1, 3]);
    let mut asks = 0;
    let mut now = start;
    while let Some(wake_at) = tracker.poll_timeout() {
        assert!(wake_at > now, "time goes on");
        now = wake_at;
        asks += nack(&mut tracker, now).len();
    }
    assert_eq!((asks, now), (10, start + ms(5 + 10 * 20)));
    let stats = tracker.stats();
    assert_eq!((stats.lost, stats.outstanding, stats.asked), (1, 0, 10));
    assert_eq!(tracker.received(now, SeqNo::new(2)), Arrival::TooOld);
}

#[test]
fn a_gap_is_given_up_at_its_age_even_if_nobody_polled_in_time() {
    let (mut tracker, start) = tracker_after([1, 3]);
    assert_eq!(nack(&mut tracker, start + ms(1000)), []);
    assert_eq!(tracker.stats().lost, 1);
}

#[test]
fn the_age_wakes_it_where_the_next_request_would_come_later() {
    let (mut tracker, start) = tracker_after([1]);
    tracker.set_round_trip(ms(2000));
    tracker.received(start, SeqNo::new(3));
    assert_eq!(nack(&mut tracker, start + ms(500)), numbers([2]));
    assert_eq!(tracker.poll_timeout(), Some(start + ms(1000)));
}

#[test]
fn the_widest_gap_is_asked_for_and_one_more_is_a_jump() {
    let (mut tracker, start) = tracker_after([1, 1026]);
    assert_eq!(nack(&mut tracker, start + ms(5)).len(), 1024);
    let (mut tracker, start) = tracker_after([1, 1027]);
    assert_eq!(nack(&mut tracker, start + ms(5)), []);
    assert_eq!(tracker.stats().resets, 1);
}

#[test]
fn a_jump_is_a_new_start_and_asks_for_nothing() {
    let (mut tracker, start) = tracker_after([1, 3, 1_000_000]);
    assert_eq!(tracker.poll_timeout(), None);
    assert_eq!(nack(&mut tracker, start + ms(100)), []);
    assert_eq!(tracker.received(start, SeqNo::new(2)), Arrival::TooOld);
    assert_eq!(tracker.received(start, SeqNo::new(1_000_001)), Arrival::New);
    let stats = tracker.stats();
    assert_eq!((stats.resets, stats.lost, stats.received), (1, 1, 4));
}

#[test]
fn too_many_gaps_push_out_the_oldest() {
    let (mut tracker, start) = tracker_after((0..=1030).map(|index| index * 2));
    assert_eq!(tracker.stats().outstanding, 1024);
    assert_eq!(tracker.stats().lost, 6);
    assert_eq!(tracker.received(start, SeqNo::new(11)), Arrival::TooOld);
    assert_eq!(tracker.received(start, SeqNo::new(13)), Arrival::Recovered { after: ms(0) });
    assert_eq!(nack(&mut tracker, start + ms(5)).len(), 1023);
}

/// A link with delay, loss, reordering and duplication, and a parent that answers what it is asked.
struct Link {
    random: StdRng,
    loss: f64,
    sent: u64,
    in_flight: BTreeMap<(Instant, u64), SeqNo>,
}

impl Link {
    fn send(&mut self, now: Instant, seq_no: SeqNo) {
        let copies = if self.random.random_bool(0.02) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.random.random_bool(self.loss) {
                let delay = Duration::from_micros(self.random.random_range(10_000..18_000));
                self.sent += 1;
                self.in_flight.insert((now + delay, self.sent), seq_no);
            }
        }
    }

    fn arrivals(&mut self, now: Instant) -> Vec<SeqNo> {
        let mut arrived = Vec::new();
        while let Some(entry) = self.in_flight.first_entry()
            && entry.key().0 <= now
        {
            arrived.push(entry.remove());
        }
        arrived
    }
}

proptest! {
    #[test]
    fn a_lossy_link_is_repaired(seed in any::<u64>(), loss in 0.0f64..0.2, first in 0u64..70_000) {
        let mut link = Link { random: StdRng::seed_from_u64(seed), loss, sent: 0, in_flight: BTreeMap::new() };
        let mut tracker = GapTracker::new(Config::default());
        tracker.set_round_trip(ms(28));
        let mut now = Instant::now();
        // How often each packet was taken, and when it was last asked for.
        let mut taken: BTreeMap<SeqNo, u32> = BTreeMap::new();
        let mut asked_at: BTreeMap<SeqNo, Instant> = BTreeMap::new();
        let mut arrivals = 0;
        let mut too_old = 0;
        for tick in 0..1500u64 {
            now += ms(1);
            if tick % 3 == 0 && tick < 900 {
                link.send(now, SeqNo::new(first + tick / 3));
            }
            for seq_no in link.arrivals(now) {
                arrivals += 1;
                match tracker.received(now, seq_no) {
                    Arrival::New | Arrival::Recovered { .. } => *taken.entry(seq_no).or_default() += 1,
                    Arrival::Duplicate => prop_assert!(taken.contains_key(&seq_no)),
                    Arrival::TooOld => too_old += 1,
                }
            }
            for seq_no in nack(&mut tracker, now) {
                prop_assert!(!taken.contains_key(&seq_no), "asked for what it has");
                let before = asked_at.insert(seq_no, now);
                prop_assert!(before.is_none_or(|before| now - before >= ms(33)), "asked too soon");
                if !link.random.random_bool(loss) {
                    link.send(now + ms(14), seq_no);
                }
            }
            prop_assert!(tracker.poll_timeout().is_none_or(|wake_at| wake_at > now));
        }
        prop_assert!(taken.values().all(|times| *times == 1), "each packet is taken once");
        let stats = tracker.stats();
        let (Some((oldest, _)), Some(newest)) = (taken.first_key_value(), tracker.newest()) else {
            return Ok(());
        };
        // Nothing is left open, and everything between the first and the newest packet is accounted for.
        prop_assert_eq!(stats.outstanding, 0);
        prop_assert_eq!(stats.received + stats.lost, newest.get() - oldest.get() + 1);
        prop_assert_eq!(stats.received, taken.len() as u64);
        prop_assert_eq!(stats.received + stats.duplicates + too_old, arrivals);
        // 10 requests, each answered with a chance of at least 0.64.
        prop_assert!(stats.lost <= 1, "{:?}", stats);
    }
}
