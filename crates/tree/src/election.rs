//! Which controller acts: a lease record, taken and renewed by compare-and-set, judged by everybody's own clock.
//!
//! The leader counts its lease from the *start* of the last renewal that it knows to have succeeded and stops acting
//! [`GUARD`] before the others may take over; they count [`LEASE`] from when they last *saw* the record change. So two
//! never act at once as long as clocks run at rates within 20 % of each other, whatever they show. A store that loses
//! acknowledged writes can break any lease: what a leader writes carries its term, and the lower term loses.

use std::time::{Duration, Instant};

use crate::Version;

/// A record that has not changed for so long may be taken over.
pub const LEASE: Duration = Duration::from_secs(5);

/// How often the leader renews.
pub const RENEW: Duration = Duration::from_millis(1500);

/// The leader stops acting so long before its lease is over for others.
pub const GUARD: Duration = Duration::from_secs(1);

/// How long the answer to a write is waited for before the next one.
const ANSWER: Duration = Duration::from_secs(1);

/// How soon a write of unknown fate is followed by the next one.
const RETRY: Duration = Duration::from_millis(500);

/// So many writes of unknown fate are recognised when the record shows them after all.
const ATTEMPTS_MAX: usize = 8;

/// One run of a controller's process, drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Candidate(pub u128);

/// The value of the lease record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Who leads; `None`: given back.
    pub holder: Option<Candidate>,
    /// Grows with each change of the holder; fences what an older leader still writes.
    pub term: u64,
    /// Grows with each write of one holder, so that it knows its own write again.
    pub attempt: u64,
}

/// The lease record as it was read or watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// What it says.
    pub lease: Lease,
    /// Its version in the store.
    pub version: Version,
}

/// A compare-and-set to be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// The value to put.
    pub lease: Lease,
    /// What must be there: this version, or nothing.
    pub expect: Option<Version>,
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the store.
    Written(Version),
    /// Something else was there: this.
    Conflict(Option<Observed>),
    /// Nobody knows: an error or no answer.
    Unknown,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    lease: Lease,
    started: Instant,
}

/// One controller's part in the election.
#[derive(Debug, Clone)]
pub struct Election {
    me: Candidate,
    /// How long an unchanged record is left alone.
    patience: Duration,
    /// The record when it last changed; `None`: there was none.
    seen: Option<Observed>,
    /// When it last changed, or watching began.
    changed: Instant,
    /// Own writes whose fate is not known, latest last.
    attempts: Vec<Attempt>,
    /// The start of the last renewal that succeeded, while leading.
    renewed: Option<Instant>,
    /// The write that is waited for, until then.
    answer_until: Option<Instant>,
    /// No write before.
    next_write: Instant,
    attempt: u64,
    /// The highest term seen: a store that forgets does not bring it down.
    term_seen: u64,
}

impl Election {
    /// A candidate that has seen nothing yet: it waits a whole lease before it takes a record that nobody renews, or
    /// none. A store that only this process can see needs no such wait: [`Election::alone`].
    #[must_use]
    pub const fn new(now: Instant, me: Candidate) -> Self {
        Self {
            me,
            patience: LEASE,
            seen: None,
            changed: now,
            attempts: Vec::new(),
            renewed: None,
            answer_until: None,
            next_write: now,
            attempt: 0,
            term_seen: 0,
        }
    }

    /// The only candidate that there can be: leads from its first write on.
    #[must_use]
    pub const fn alone(now: Instant, me: Candidate) -> Self {
        let mut election = Self::new(now, me);
        election.patience = Duration::ZERO;
        election
    }

    /// The record was read, or a watch delivered it; `None`: there is none.
    pub fn observed(&mut self, now: Instant, record: Option<Observed>) {
        if self.seen.map(|seen| seen.version) == record.map(|record| record.version) {
            return;
        }
        self.seen = record;
        self.changed = now;
        let lease = record.map(|record| record.lease);
        self.term_seen = self.term_seen.max(lease.map_or(0, |lease| lease.term));
        if let Some(index) = self.attempts.iter().position(|attempt| Some(attempt.lease) == lease) {
            self.renewed = self.renewed.max(Some(self.attempts[index].started));
            self.attempts.drain(..=index);
        } else if lease.and_then(|lease| lease.holder) != Some(self.me) {
            self.renewed = None;
            self.attempts.clear();
        }
    }

    /// The answer to what [`Election::poll_write`] asked for.
    pub fn written(&mut self, now: Instant, write: &Write, outcome: Outcome) {
        self.answer_until = None;
        match outcome {
            Outcome::Written(version) => {
                // Not among the attempts: the watch was faster.
                if self.attempts.iter().any(|attempt| attempt.lease == write.lease) {
                    self.observed(now, Some(Observed { lease: write.lease, version }));
                }
            }
            Outcome::Conflict(current) => {
                self.attempts.retain(|attempt| attempt.lease != write.lease);
                let is_own = current.is_some_and(|current| {
                    self.attempts.iter().any(|attempt| attempt.lease == current.lease)
                });
                if !is_own {
                    self.renewed = None;
                }
                self.observed(now, current);
            }
            Outcome::Unknown => self.next_write = self.next_write.min(now + RETRY),
        }
    }

    /// What to write now, if anything. To be called each time something was told, and at least each 100 ms.
    pub fn poll_write(&mut self, now: Instant) -> Option<Write> {
        if now < self.next_write || self.answer_until.is_some_and(|until| now < until) {
            return None;
        }
        let is_mine = self.seen.is_some_and(|seen| seen.lease.holder == Some(self.me));
        let is_renewal = is_mine && self.is_leader(now);
        let is_free = self.seen.is_some_and(|seen| seen.lease.holder.is_none());
        if !is_renewal && !is_free && now < self.changed + self.patience {
            return None;
        }
        let term = if is_renewal { self.term() } else { self.term_seen + 1 };
        self.attempt += 1;
        let lease = Lease { holder: Some(self.me), term, attempt: self.attempt };
        if self.attempts.len() == ATTEMPTS_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(Attempt { lease, started: now });
        self.answer_until = Some(now + ANSWER);
        self.next_write = now + RENEW;
        Some(Write { lease, expect: self.seen.map(|seen| seen.version) })
    }

    /// Gives the lease back: the write that lets another one lead at once. This one does not act from here on.
    pub fn resign(&mut self, now: Instant) -> Option<Write> {
        let leads = self.is_leader(now);
        self.renewed = None;
        self.attempts.clear();
        self.next_write = now + LEASE;
        let seen = self.seen.filter(|seen| leads && seen.lease.holder == Some(self.me))?;
        Some(Write { lease: Lease { holder: None, ..seen.lease }, expect: Some(seen.version) })
    }

    /// This controller may act now.
    #[must_use]
    pub fn is_leader(&self, now: Instant) -> bool {
        self.renewed.is_some_and(|renewed| now < renewed + (LEASE - GUARD))
    }

    /// The term of what this leader writes; 0 while it has none.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.seen.map_or(0, |seen| seen.lease.term)
    }

    /// Who leads, as far as is known here.
    #[must_use]
    pub fn leader(&self) -> Option<Candidate> {
        self.seen.and_then(|seen| seen.lease.holder)
    }
}
