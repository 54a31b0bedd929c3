//! Who is alive is judged by one's own clock, and never while one cannot see.

use std::time::{Duration, Instant};

use model::NodeId;
use proptest::prelude::*;
use tree::membership::{DEAD_AFTER, DEAD_MAX, Membership, Record, SETTLE, SeenError, Sight};
use tree::{Health, Incarnation, Version};

/// An observer under a clock of its own.
struct Observer {
    now: Instant,
    membership: Membership,
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("good id")
}

fn record(counter: u64) -> Record {
    Record {
        version: Version { counter, writer: counter },
        incarnation: Incarnation { counter: 1, random: 5 },
        is_draining: false,
    }
}

impl Observer {
    fn new() -> Self {
        let now = Instant::now();
        Self { now, membership: Membership::new(now) }
    }

    fn written(&mut self, name: &str, record: Record) {
        self.membership.seen(self.now, &node(name), (Sight::Written, record)).expect("the latest run");
    }

    fn found(&mut self, name: &str, record: Record) {
        self.membership.seen(self.now, &node(name), (Sight::Found, record)).expect("the latest run");
    }

    /// Time passes in steps, as a shell ticks.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(250));
            self.membership.tick(self.now);
        }
    }

    fn health(&self, name: &str) -> Option<Health> {
        self.membership.health(self.now, &node(name))
    }
}

const fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

#[test]
fn a_silent_node_is_suspect_then_dead_and_lives_again_when_heard() {
    let mut observer = Observer::new();
    observer.written("e1", record(1));
    assert_eq!(observer.health("e1"), Some(Health::Ready));
    observer.pass(seconds(2));
    assert_eq!(observer.health("e1"), Some(Health::Suspect));
    assert_eq!(observer.membership.poll_timeout(), Some(observer.now + seconds(1)));
    observer.pass(seconds(1));
    assert_eq!(observer.health("e1"), Some(Health::Dead));
    observer.found("e1", record(1));
    assert_eq!(observer.health("e1"), Some(Health::Dead), "the same record again is no sign of life");
    observer.written("e1", record(2));
    assert_eq!(observer.health("e1"), Some(Health::Ready));
}

#[test]
fn a_record_found_lying_there_is_no_sign_of_life() {
    let mut observer = Observer::new();
    observer.found("e1", record(9));
    observer.found("e2", record(4));
    assert_eq!(observer.health("e1"), Some(Health::Suspect));
    observer.pass(seconds(1));
    observer.written("e2", record(5));
    assert_eq!(observer.health("e2"), Some(Health::Ready));
    observer.pass(seconds(2));
    assert!(observer.membership.is_settled(observer.now));
    assert_eq!(observer.health("e1"), Some(Health::Dead));
}

#[test]
fn nobody_dies_while_the_store_is_away_nor_before_they_could_speak_again() {
    let mut observer = Observer::new();
    observer.written("e1", record(1));
    observer.pass(seconds(1));
    observer.membership.store_lost(observer.now);
    observer.pass(seconds(600));
    assert_eq!(observer.health("e1"), Some(Health::Ready), "the last that was known");
    assert!(!observer.membership.is_settled(observer.now));
    assert_eq!(observer.membership.poll_timeout(), None);
    observer.membership.store_returned(observer.now);
    observer.membership.gone(&node("e1"));
    observer.pass(SETTLE - Duration::from_millis(1));
    assert_ne!(observer.health("e1"), Some(Health::Dead));
    assert!(!observer.membership.is_settled(observer.now));
    observer.pass(Duration::from_millis(1));
    assert!(observer.membership.is_settled(observer.now));
    assert_eq!(observer.health("e1"), Some(Health::Dead), "it has not spoken");
}

#[test]
fn an_observer_that_stood_still_blames_nobody() {
    let mut observer = Observer::new();
    observer.written("e1", record(1));
    observer.pass(SETTLE - seconds(1));
    observer.now += seconds(60);
    observer.membership.tick(observer.now);
    assert_eq!(observer.health("e1"), Some(Health::Ready));
    assert!(!observer.membership.is_settled(observer.now));
    observer.pass(DEAD_AFTER);
    assert_eq!(observer.health("e1"), Some(Health::Dead));
}

#[test]
fn a_draining_node_whose_record_is_gone_has_left() {
    let mut observer = Observer::new();
    observer.written("e1", Record { is_draining: true, ..record(1) });
    observer.written("e2", record(1));
    assert_eq!(observer.health("e1"), Some(Health::Draining));
    observer.membership.gone(&node("e1"));
    observer.membership.gone(&node("e2"));
    assert_eq!(observer.health("e1"), Some(Health::Dead));
    assert_eq!(observer.health("e2"), Some(Health::Ready), "the store may have forgotten it");
}

#[test]
fn an_id_is_not_taken_by_an_earlier_run() {
    let mut observer = Observer::new();
    let later = Incarnation { counter: 2, random: 1 };
    observer.written("e1", Record { incarnation: later, ..record(7) });
    let known = later;
    let claimed = record(8).incarnation;
    let refused = observer.membership.seen(observer.now, &node("e1"), (Sight::Written, record(8)));
    assert_eq!(refused, Err(SeenError::Superseded { node: node("e1"), known, claimed }));
    observer.pass(seconds(3));
    assert_eq!(observer.health("e1"), Some(Health::Dead), "the refused record is no sign of life");
}

#[test]
fn a_run_whose_clock_was_set_back_takes_the_id_of_a_dead_one() {
    let mut observer = Observer::new();
    let later = Incarnation { counter: 90, random: 0 };
    observer.written("e1", Record { incarnation: later, ..record(7) });
    observer.pass(seconds(3));
    assert_eq!(observer.health("e1"), Some(Health::Dead));
    let found = observer.membership.seen(observer.now, &node("e1"), (Sight::Found, record(8)));
    assert!(found.is_err(), "it may have been written long before");
    observer.written("e1", record(8));
    assert_eq!(observer.health("e1"), Some(Health::Ready));
    observer.written("e1", record(9));
}

#[test]
fn so_many_dead_are_remembered_and_no_more() {
    let mut observer = Observer::new();
    for number in 0..DEAD_MAX + 3 {
        observer.written(&format!("n{number}"), record(1));
        if number < 3 {
            observer.pass(Duration::from_millis(10));
        }
    }
    observer.pass(seconds(4));
    assert_eq!(observer.membership.nodes(observer.now).count(), DEAD_MAX);
    assert_eq!(observer.health("n0"), None);
    assert_eq!(observer.health("n3"), Some(Health::Dead));
}

proptest! {
    /// Whatever happens: who writes each second, as seen by the observer, is never called dead, and who stays silent for
    /// three seconds in sight of the store is.
    #[test]
    fn the_living_are_never_dead_and_the_dead_not_long_alive(
        steps in prop::collection::vec(0u8..20, 1..200),
    ) {
        let mut observer = Observer::new();
        let mut is_store_up = true;
        let mut silent_since = observer.now;
        observer.written("talks", record(0));
        observer.written("silent", record(0));
        for (counter, event) in (1..).zip(&steps) {
            match event {
                0 if is_store_up => {
                    observer.membership.store_lost(observer.now);
                    is_store_up = false;
                }
                1 | 2 if !is_store_up => {
                    observer.membership.store_returned(observer.now);
                    is_store_up = true;
                    silent_since = observer.now;
                }
                3 => {
                    observer.now += seconds(30);
                    if is_store_up {
                        silent_since = observer.now;
                    }
                    observer.membership.tick(observer.now);
                }
                _ => observer.pass(seconds(1)),
            }
            if is_store_up {
                observer.written("talks", record(counter));
                prop_assert_eq!(observer.health("talks"), Some(Health::Ready));
                if observer.now >= silent_since + DEAD_AFTER + seconds(1) {
                    prop_assert_eq!(observer.health("silent"), Some(Health::Dead));
                }
            } else {
                prop_assert_ne!(observer.health("talks"), Some(Health::Dead));
            }
        }
    }
}
