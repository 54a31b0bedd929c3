//! Behaviour of the module `ring`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::SeqNo;
use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { bytes_max: 10_000, age_max: Duration::from_secs(10), span_max: 64 };

fn seq_no(index: u64) -> SeqNo {
    SeqNo::new(index)
}

fn ring_of(indices: impl IntoIterator<Item = u64>) -> (Ring<u64>, Instant) {
    let now = Instant::now();
    let mut ring = Ring::new(LIMITS);
    for index in indices {
        assert_eq!(ring.insert(now, seq_no(index), 100, index), Inserted::New);
    }
    (ring, now)
}

#[test]
fn gaps_are_visible_until_a_repaired_packet_fills_them() {
    let (mut ring, now) = ring_of([65_534, 65_535, 65_538]);
    let seen: Vec<_> = ring.range(..).map(|(at, item)| (at.get(), item.copied())).collect();
    let expected = [
        (65_534, Some(65_534)),
        (65_535, Some(65_535)),
        (65_536, None),
        (65_537, None),
        (65_538, Some(65_538)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(ring.insert(now, seq_no(65_536), 100, 65_536), Inserted::New);
    assert_eq!(ring.insert(now, seq_no(65_536), 100, 0), Inserted::Duplicate);
    assert_eq!(ring.get(seq_no(65_536)), Some(&65_536));
    assert_eq!((ring.len(), ring.bytes()), (4, 400));
}

#[test]
fn each_item_has_the_time_at_which_it_came() {
    let (mut ring, now) = ring_of([5, 7]);
    let late = now + Duration::from_secs(1);
    ring.insert(late, seq_no(6), 100, 6);
    let times = [4, 5, 6, 7, 8].map(|index| ring.inserted_at(seq_no(index)));
    assert_eq!(times, [None, Some(now), Some(late), Some(now), None]);
}

#[test]
fn a_range_is_cut_to_what_is_held() {
    let (ring, _) = ring_of(10..20);
    let numbers =
        |range: Vec<(SeqNo, Option<&u64>)>| range.iter().map(|(at, _)| at.get()).collect::<Vec<_>>();
    assert_eq!(numbers(ring.range(seq_no(17)..).collect()), [17, 18, 19]);
    assert_eq!(numbers(ring.range(seq_no(0)..seq_no(12)).collect()), [10, 11]);
    assert_eq!(numbers(ring.range(seq_no(18)..=seq_no(u64::MAX)).rev().collect()), [19, 18]);
    assert_eq!(ring.range(seq_no(20)..).len(), 0);
    assert_eq!(ring.range((Bound::Excluded(seq_no(18)), Bound::Excluded(seq_no(3)))).len(), 0);
}

#[test]
fn bytes_evict_the_oldest_first_and_never_the_newest() {
    let (mut ring, now) = ring_of(0..50);
    assert_eq!(ring.insert(now, seq_no(50), 9_950, 50), Inserted::New);
    assert_eq!((ring.oldest(), ring.len(), ring.bytes()), (Some(seq_no(50)), 1, 9_950));
    assert_eq!(ring.insert(now, seq_no(51), 1_000_000, 51), Inserted::New);
    assert_eq!((ring.oldest(), ring.newest()), (Some(seq_no(51)), Some(seq_no(51))));
    assert_eq!(ring.insert(now, seq_no(49), 1, 49), Inserted::TooOld);
}

#[test]
fn age_evicts_even_where_nothing_arrives() {
    let (mut ring, now) = ring_of(0..5);
    ring.insert(now + Duration::from_secs(5), seq_no(5), 100, 5);
    ring.expire(now + Duration::from_secs(10));
    assert_eq!(ring.len(), 6);
    ring.expire(now + Duration::from_millis(10_001));
    assert_eq!((ring.len(), ring.oldest()), (1, Some(seq_no(5))));
    ring.expire(now + Duration::from_secs(60));
    assert_eq!((ring.is_empty(), ring.bytes(), ring.newest()), (true, 0, None));
    assert_eq!(ring.insert(now, seq_no(5), 100, 5), Inserted::TooOld, "it was evicted");
}

#[test]
fn packets_reordered_at_the_very_start_are_taken() {
    let (ring, _) = ring_of([100, 98, 99, 101]);
    assert_eq!((ring.oldest(), ring.len()), (Some(seq_no(98)), 4));
}

#[test]
fn a_jump_of_any_size_clears_the_ring_and_takes_no_memory() {
    let (mut ring, now) = ring_of(0..5);
    assert_eq!(ring.insert(now, SeqNo::MAX, 100, 7), Inserted::New);
    assert_eq!((ring.len(), ring.oldest(), ring.slots.len()), (1, Some(SeqNo::MAX), 1));
    assert_eq!(ring.insert(now, seq_no(5), 100, 5), Inserted::TooOld, "further back than the span");
    let (mut ring, now) = ring_of(0..5);
    assert_eq!(ring.insert(now, seq_no(4 + 63), 100, 7), Inserted::New);
    assert_eq!((ring.oldest(), ring.slots.len()), (Some(seq_no(4)), 64), "the span just reaches back to one");
}

#[test]
fn the_start_of_the_newest_keyframe_is_known_and_of_the_one_before() {
    let (mut ring, _) = ring_of(0..40);
    assert_eq!(ring.keyframes(), Keyframes::NotYet);
    assert!(ring.mark_keyframe(seq_no(30)));
    assert_eq!(ring.keyframes(), Keyframes::Held { newest: seq_no(30), previous: None });
    assert!(ring.mark_keyframe(seq_no(10)), "repaired late");
    assert!(ring.mark_keyframe(seq_no(30)), "marked again");
    assert_eq!(ring.keyframes(), Keyframes::Held { newest: seq_no(30), previous: Some(seq_no(10)) });
    assert_eq!(ring.newest_keyframe(), Some(seq_no(30)));
    assert!(!ring.mark_keyframe(seq_no(40)), "not held");
}

#[test]
fn a_group_of_pictures_beyond_the_limit_leaves_no_keyframe_until_the_next() {
    let (mut ring, now) = ring_of(0..1);
    ring.mark_keyframe(seq_no(0));
    for index in 1..=100 {
        ring.insert(now, seq_no(index), 100, index);
    }
    assert_eq!(ring.keyframes(), Keyframes::Evicted);
    assert_eq!(ring.newest_keyframe(), None);
    ring.insert(now, seq_no(101), 100, 101);
    ring.mark_keyframe(seq_no(101));
    assert_eq!(ring.keyframes(), Keyframes::Held { newest: seq_no(101), previous: None });
}

#[test]
fn a_cleared_ring_takes_any_number_again() {
    let (mut ring, now) = ring_of(1000..1064);
    ring.mark_keyframe(seq_no(1001));
    ring.clear();
    assert_eq!((ring.len(), ring.keyframes()), (0, Keyframes::NotYet));
    assert_eq!(ring.insert(now, seq_no(1), 100, 1), Inserted::New);
}

/// The same rules without any cleverness.
struct Model {
    items: BTreeMap<u64, (Instant, usize)>,
    keyframes: BTreeSet<u64>,
    floor: u64,
}

impl Model {
    fn evict_oldest(&mut self) {
        let (oldest, _) = self.items.pop_first().expect("an item to evict");
        self.keyframes.remove(&oldest);
        self.floor = oldest + 1;
    }

    fn oldest(&self) -> u64 {
        *self.items.keys().next().expect("an item")
    }

    fn insert(&mut self, now: Instant, index: u64, bytes: usize) -> Inserted {
        self.expire(now);
        if index < self.floor {
            return Inserted::TooOld;
        }
        if self.items.contains_key(&index) {
            return Inserted::Duplicate;
        }
        let span_max = LIMITS.span_max as u64;
        if self.items.keys().next_back().is_some_and(|newest| *newest >= index + span_max) {
            return Inserted::TooOld;
        }
        while !self.items.is_empty() && index >= self.oldest() + span_max {
            self.evict_oldest();
        }
        self.items.insert(index, (now, bytes));
        while self.items.len() > 1
            && self.items.values().map(|(_, bytes)| bytes).sum::<usize>() > LIMITS.bytes_max
        {
            self.evict_oldest();
        }
        if self.items.contains_key(&index) { Inserted::New } else { Inserted::TooOld }
    }

    fn expire(&mut self, now: Instant) {
        while self.items.values().next().is_some_and(|(at, _)| now - *at > LIMITS.age_max) {
            self.evict_oldest();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert { offset: i64, bytes: usize },
    Mark { offset: i64 },
    Wait { millis: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (-3i64..6, 0usize..800).prop_map(|(offset, bytes)| Step::Insert { offset, bytes }),
        6 => (-80i64..80, 0usize..12_000).prop_map(|(offset, bytes)| Step::Insert { offset, bytes }),
        6 => (-20i64..3).prop_map(|offset| Step::Mark { offset }),
        2 => (0u64..6000).prop_map(|millis| Step::Wait { millis }),
        1 => (1000i64..1 << 40).prop_map(|offset| Step::Insert { offset, bytes: 10 }),
    ]
}

proptest! {
    #[test]
    fn random_operations_agree_with_a_simple_model(steps in prop::collection::vec(any_step(), 0..300)) {
        let mut now = Instant::now();
        let mut ring = Ring::new(LIMITS);
        let mut model = Model { items: BTreeMap::new(), keyframes: BTreeSet::new(), floor: 0 };
        let mut newest = 65_500u64;
        for step in steps {
            match step {
                Step::Insert { offset, bytes } => {
                    let index = newest.saturating_add_signed(offset);
                    prop_assert_eq!(ring.insert(now, seq_no(index), bytes, index), model.insert(now, index, bytes));
                    newest = newest.max(index);
                }
                Step::Mark { offset } => {
                    let index = newest.saturating_add_signed(offset);
                    let held = model.items.contains_key(&index);
                    prop_assert_eq!(ring.mark_keyframe(seq_no(index)), held);
                    if held {
                        model.keyframes.insert(index);
                    }
                }
                Step::Wait { millis } => {
                    now += Duration::from_millis(millis);
                    ring.expire(now);
                    model.expire(now);
                }
            }
            let held: Vec<u64> = ring.range(..).filter_map(|(at, item)| {
                assert!(item.is_none_or(|item| *item == at.get()), "an item in a wrong place");
                item.copied()
            }).collect();
            prop_assert!(held.iter().eq(model.items.keys()));
            prop_assert_eq!(ring.len(), model.items.len());
            prop_assert_eq!(ring.bytes(), model.items.values().map(|(_, bytes)| bytes).sum::<usize>());
            prop_assert_eq!(ring.oldest().map(SeqNo::get), model.items.keys().next().copied());
            prop_assert_eq!(ring.newest().map(SeqNo::get), model.items.keys().next_back().copied());
            prop_assert!(ring.keyframes.iter().map(|start| start.get()).eq(model.keyframes.iter().copied()));
            prop_assert!(ring.slots.len() <= LIMITS.span_max);
        }
    }
}

proptest! {
    #[test]
    fn the_first_item_that_is_not_before_is_found_across_gaps(
        numbers in proptest::collection::btree_set(100u64..164, 0..40), from in 90u64..170, wanted in 90u64..170,
    ) {
        let (ring, _) = ring_of(numbers.iter().copied());
        let found = ring.first_from(seq_no(from), |item| *item < wanted).map(|(at, item)| (at.get(), *item));
        let expected = numbers.range(from.max(wanted)..).next().map(|number| (*number, *number));
        prop_assert_eq!(found, expected);
    }
}
