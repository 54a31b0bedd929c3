//! Two controllers never both act, whatever their clocks, their store and their luck.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tree::Version;
use tree::election::{Candidate, Election, GUARD, LEASE, Lease, Observed, Outcome, RENEW, Write};

const fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn observed(counter: u64, holder: Option<u128>) -> Observed {
    let lease = Lease { holder: holder.map(Candidate), term: counter, attempt: 1 };
    Observed { lease, version: Version { counter, writer: counter } }
}

#[test]
fn a_candidate_waits_a_whole_lease_where_it_finds_nothing_and_an_only_one_does_not() {
    let start = Instant::now();
    let mut election = Election::new(start, Candidate(1));
    assert_eq!(election.poll_write(start + LEASE - milliseconds(1)), None);
    let write = election.poll_write(start + LEASE).expect("nobody is there");
    assert_eq!((write.expect, write.lease.holder, write.lease.term), (None, Some(Candidate(1)), 1));
    assert!(Election::alone(start, Candidate(1)).poll_write(start).is_some());
}

#[test]
fn the_leader_stops_before_the_others_may_start() {
    let start = Instant::now();
    let mut election = Election::alone(start, Candidate(1));
    let write = election.poll_write(start).expect("alone");
    election.written(start + milliseconds(300), &write, Outcome::Written(Version { counter: 1, writer: 1 }));
    assert!(election.is_leader(start + milliseconds(300)));
    assert_eq!(election.term(), 1);
    let end = start + LEASE - GUARD;
    assert!(election.is_leader(end - milliseconds(1)));
    assert!(!election.is_leader(end), "counted from when the write began");
}

#[test]
fn a_write_of_unknown_fate_is_known_again_in_the_record() {
    let start = Instant::now();
    let mut election = Election::alone(start, Candidate(1));
    let write = election.poll_write(start).expect("alone");
    let later = start + milliseconds(500);
    election.written(later, &write, Outcome::Unknown);
    assert!(!election.is_leader(later));
    election
        .observed(later, Some(Observed { lease: write.lease, version: Version { counter: 1, writer: 1 } }));
    assert!(election.is_leader(later));
    assert!(!election.is_leader(start + LEASE - GUARD));
}

#[test]
fn who_is_overtaken_stops_at_once() {
    let start = Instant::now();
    let mut election = Election::alone(start, Candidate(1));
    let write = election.poll_write(start).expect("alone");
    election.written(start, &write, Outcome::Written(Version { counter: 1, writer: 1 }));
    let renewal = election.poll_write(start + RENEW).expect("a renewal");
    assert_eq!((renewal.lease.term, renewal.expect), (1, Some(Version { counter: 1, writer: 1 })));
    election.written(start + RENEW, &renewal, Outcome::Conflict(Some(observed(2, Some(2)))));
    assert!(!election.is_leader(start + RENEW));
    assert_eq!(election.leader(), Some(Candidate(2)));
}

#[test]
fn a_lease_given_back_is_taken_at_once() {
    let start = Instant::now();
    let mut first = Election::alone(start, Candidate(1));
    let write = first.poll_write(start).expect("alone");
    first.written(start, &write, Outcome::Written(Version { counter: 1, writer: 1 }));
    let resignation = first.resign(start + milliseconds(10)).expect("it leads");
    assert!(!first.is_leader(start + milliseconds(10)));
    assert_eq!(first.poll_write(start + RENEW), None, "not taken back");
    let mut second = Election::new(start, Candidate(2));
    let record = Observed { lease: resignation.lease, version: Version { counter: 2, writer: 2 } };
    second.observed(start + milliseconds(20), Some(record));
    let taken = second.poll_write(start + milliseconds(20)).expect("free");
    assert_eq!((taken.lease.term, taken.expect), (2, Some(record.version)));
}

/// A controller whose clock runs at its own rate.
struct Controller {
    election: Election,
    /// Its clock runs so many permille of the true rate.
    rate: u32,
    origin: Instant,
    /// The write that the store has not answered yet, and when the answer comes, in true time.
    answers: VecDeque<(Duration, Write, Outcome)>,
    /// What the watch will bring, in true time.
    watch: VecDeque<(Duration, Option<Observed>)>,
    /// Cut off from the store, or frozen, until then.
    cut_until: Duration,
    frozen_until: Duration,
}

impl Controller {
    fn clock(&self, now: Duration) -> Instant {
        self.origin + now * self.rate / 1000
    }
}

/// A store, and controllers that fight for one lease.
struct Fight {
    now: Duration,
    record: Option<Observed>,
    versions: u64,
    controllers: Vec<Controller>,
    led: Duration,
    terms: Vec<u64>,
}

/// One 50 ms step, drawn: who suffers what, and how slow the network is.
#[derive(Debug, Clone)]
struct Step {
    victim: usize,
    event: u16,
    request: u16,
    answer: u16,
}

const TICK: Duration = milliseconds(50);

impl Fight {
    fn new(rates: &[u32]) -> Self {
        let origin = Instant::now();
        let controller = |(number, rate): (usize, &u32)| Controller {
            election: Election::new(origin, Candidate(number as u128 + 1)),
            rate: *rate,
            origin,
            answers: VecDeque::new(),
            watch: VecDeque::new(),
            cut_until: Duration::ZERO,
            frozen_until: Duration::ZERO,
        };
        Self {
            now: Duration::ZERO,
            record: None,
            versions: 0,
            controllers: rates.iter().enumerate().map(controller).collect(),
            led: Duration::ZERO,
            terms: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.now += TICK;
        let now = self.now;
        let victim = step.victim % self.controllers.len();
        match step.event {
            0..8 => self.controllers[victim].cut_until = now + milliseconds(7000),
            8..16 => self.controllers[victim].frozen_until = now + milliseconds(6000),
            // The store forgets the record.
            16 | 17 => {
                self.record = None;
                self.tell(step);
            }
            18..24 => self.resign(victim, step),
            _ => {}
        }
        for index in 0..self.controllers.len() {
            self.turn(index, step);
        }
        let is_acting = |controller: &&Controller| {
            now >= controller.frozen_until && controller.election.is_leader(controller.clock(now))
        };
        let acting: Vec<_> = self.controllers.iter().filter(is_acting).collect();
        prop_assert!(acting.len() <= 1, "two act at {now:?}");
        if let Some(leader) = acting.first() {
            self.led += TICK;
            self.terms.push(leader.election.term());
        }
        Ok(())
    }

    fn turn(&mut self, index: usize, step: &Step) {
        let now = self.now;
        let controller = &mut self.controllers[index];
        if now < controller.frozen_until {
            return;
        }
        let clock = controller.clock(now);
        while controller.watch.front().is_some_and(|(at, _)| *at <= now) {
            let (_, record) = controller.watch.pop_front().expect("just seen");
            controller.election.observed(clock, record);
        }
        while controller.answers.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, write, outcome) = controller.answers.pop_front().expect("just seen");
            controller.election.written(clock, &write, outcome);
        }
        let Some(write) = controller.election.poll_write(clock) else { return };
        let answer_at = now + milliseconds(u64::from(step.answer % 900));
        if now < controller.cut_until {
            controller.answers.push_back((answer_at, write, Outcome::Unknown));
            return;
        }
        let outcome = self.put(&write, step);
        // Sometimes the write arrives and its answer does not.
        let outcome = if step.request.is_multiple_of(5) { Outcome::Unknown } else { outcome };
        self.controllers[index].answers.push_back((answer_at, write, outcome));
    }

    fn resign(&mut self, index: usize, step: &Step) {
        let clock = self.controllers[index].clock(self.now);
        if let Some(write) = self.controllers[index].election.resign(clock) {
            self.put(&write, step);
        }
    }

    fn put(&mut self, write: &Write, step: &Step) -> Outcome {
        if self.record.map(|record| record.version) != write.expect {
            return Outcome::Conflict(self.record);
        }
        self.versions += 1;
        let version = Version { counter: self.versions, writer: self.versions };
        self.record = Some(Observed { lease: write.lease, version });
        self.tell(step);
        Outcome::Written(version)
    }

    /// Watches bring the record, each after its own time, in order.
    fn tell(&mut self, step: &Step) {
        for (number, controller) in (0u64..).zip(&mut self.controllers) {
            let at = self.now + milliseconds((u64::from(step.request) * (number + 1)) % 700);
            let at = at.max(controller.cut_until).max(controller.watch.back().map_or(at, |(at, _)| *at));
            controller.watch.push_back((at, self.record));
        }
    }
}

/// Nothing happens, and everything takes its time.
const fn peace(number: u16) -> Step {
    Step { victim: 0, event: 999, request: (number % 7) * 13 + 1, answer: number % 90 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn two_controllers_never_both_act(
        rates in prop::collection::vec(900u32..1100, 2..4),
        steps in prop::collection::vec((0usize..4, 0u16..1000, 0u16..1000, 0u16..1000), 1200),
    ) {
        let mut fight = Fight::new(&rates);
        for (victim, event, request, answer) in steps {
            fight.step(&Step { victim, event, request, answer })?;
        }
        let led = fight.led;
        for number in 0..600u16 {
            fight.step(&peace(number))?;
        }
        prop_assert!(fight.led > led, "nobody leads in the 30 s of peace after it");
    }
}

#[test]
fn in_peace_somebody_leads_nearly_always() {
    let mut fight = Fight::new(&[1000, 950, 1050]);
    for number in 0..2400 {
        fight.step(&peace(number)).expect("only one");
    }
    assert!(fight.led >= milliseconds(2400 * 50 - 7000), "led for {:?}", fight.led);
    assert_eq!(fight.terms.iter().max(), Some(&1), "the first leader stays");
}

#[test]
fn a_frozen_leader_is_replaced_and_does_not_act_when_it_wakes() {
    let mut fight = Fight::new(&[1000, 1000]);
    let quiet = Step { victim: 0, event: 999, request: 1, answer: 20 };
    for _ in 0..200 {
        fight.step(&quiet).expect("only one");
    }
    let leader = fight.controllers.iter().position(|one| one.election.is_leader(one.clock(fight.now)));
    let leader = leader.expect("a leader after ten seconds");
    fight.controllers[leader].frozen_until = fight.now + milliseconds(20_000);
    for _ in 0..600 {
        fight.step(&quiet).expect("only one");
    }
    let other = &fight.controllers[1 - leader];
    assert!(other.election.is_leader(other.clock(fight.now)));
    assert_eq!(other.election.term(), 2);
}
