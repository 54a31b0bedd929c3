//! A controller: an observer that may lead.

use std::collections::VecDeque;
use std::time::Duration;

use tree::election::{Candidate, Election, Observed, Outcome, Write};
use tree::topology::Plan;

use super::observer::{Observer, lease_record};
use super::store::{Expect, Key, Store, Value};
use crate::Random;

/// How often a leader decides.
const DECIDE: Duration = Duration::from_secs(1);

/// One controller process.
#[derive(Debug)]
pub struct Controller {
    /// What it sees.
    pub observer: Observer,
    election: Election,
    answers: VecDeque<(Duration, Write, Outcome)>,
    next_decision: Duration,
    /// It stands still, until then.
    pub frozen_until: Duration,
    /// Since when it has led and decided without a pause.
    pub decides_since: Option<Duration>,
    /// Its last decision.
    pub plan: Plan,
}

impl Controller {
    /// A process that has just started.
    #[must_use]
    pub fn new(now: Duration, candidate: u128, observer: Observer) -> Self {
        Self {
            election: Election::new(observer.clock(now), Candidate(candidate)),
            observer,
            answers: VecDeque::new(),
            next_decision: now,
            frozen_until: Duration::ZERO,
            decides_since: None,
            plan: Plan::default(),
        }
    }

    /// It would act now.
    #[must_use]
    pub fn acts(&self, now: Duration) -> bool {
        now >= self.frozen_until && self.election.is_leader(self.observer.clock(now))
    }

    /// Looks, campaigns, decides.
    pub fn turn(&mut self, now: Duration, store: &mut Store, random: &mut Random) {
        if now < self.frozen_until {
            self.decides_since = None;
            return;
        }
        self.observer.turn(now, store);
        let clock = self.observer.clock(now);
        if !self.observer.is_away {
            self.election.observed(clock, self.observer.lease);
        }
        while self.answers.front().is_some_and(|(at, ..)| *at <= now) {
            if let Some((_, write, outcome)) = self.answers.pop_front() {
                self.election.written(clock, &write, outcome);
            }
        }
        if let Some(write) = self.election.poll_write(clock) {
            let outcome = self.put(now, &write, store);
            // Now and then an answer is lost.
            let outcome = if random.happens(0.05) { Outcome::Unknown } else { outcome };
            self.answers.push_back((now + Duration::from_millis(random.within(0, 300)), write, outcome));
        }
        if !self.acts(now) || !self.observer.observation(now).is_settled {
            self.decides_since = None;
        } else if now >= self.next_decision {
            self.next_decision = now + DECIDE;
            self.decides_since = self.decides_since.or(Some(now));
            if store.answers(self.observer.watcher) {
                self.plan = self.observer.act(now, store);
            }
        }
    }

    fn put(&self, now: Duration, write: &Write, store: &mut Store) -> Outcome {
        if !store.answers(self.observer.watcher) {
            return Outcome::Unknown;
        }
        match store.put(now, lease_record(write.lease), Expect::Version(write.expect)) {
            Ok(version) => Outcome::Written(version),
            Err(_) => Outcome::Conflict(match store.get(&Key::Lease) {
                Some((Value::Lease(lease), version)) => Some(Observed { lease: *lease, version: *version }),
                _ => None,
            }),
        }
    }
}
