//! A store in one piece: compare-and-set, versions that never repeat, watches with delay and gaps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::{BroadcastId, NodeId};
use tree::election::Lease;
use tree::{Assigned, Version};

use super::node::NodeRecord;
use crate::Random;

/// A watcher notices that the store is away after so long.
const AWAY_AFTER: Duration = Duration::from_millis(500);

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Who leads.
    Lease,
    /// A node's heartbeat.
    Node(NodeId),
    /// Whom a node takes media from.
    Assignment(NodeId),
    /// Where a broadcast is published.
    Broadcast(BroadcastId),
}

/// What is stored under a key of the same name.
#[derive(Debug, Clone)]
pub enum Value {
    /// Who leads.
    Lease(Lease),
    /// A node's heartbeat.
    Node(Box<NodeRecord>),
    /// Whom a node takes media from.
    Assignment(Assigned),
    /// Where a broadcast is published.
    Broadcast(NodeId),
}

/// One record as a watch brings it.
pub type Record = (Key, Value, Version);

/// What a watch brings.
#[derive(Debug, Clone)]
pub enum Event {
    /// Everything that there is: first thing, and after every gap.
    Snapshot(Vec<Record>),
    /// One record was written.
    Put(Box<Record>),
    /// One record is gone.
    Gone(Key),
    /// The store does not answer.
    Away,
}

/// Who watches, by number.
pub type Watcher = usize;

#[derive(Debug, Default)]
struct Watch {
    events: VecDeque<(Duration, Event)>,
    /// Cut off from the store.
    is_cut: bool,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// Anything, or nothing.
    Any,
    /// This version, or nothing.
    Version(Option<Version>),
}

/// The store and everybody's watch on it.
#[derive(Debug)]
pub struct Store {
    records: BTreeMap<Key, (Value, Version)>,
    is_up: bool,
    writes: u64,
    watches: Vec<Watch>,
    random: Random,
    /// Writes of assignments that took effect.
    pub assignments_written: u64,
}

impl Store {
    /// Empty, and up.
    #[must_use]
    pub const fn new(random: Random) -> Self {
        Self {
            records: BTreeMap::new(),
            is_up: true,
            writes: 0,
            watches: Vec::new(),
            random,
            assignments_written: 0,
        }
    }

    /// A new watch; its first event is a snapshot.
    pub fn watch(&mut self, now: Duration) -> Watcher {
        self.watches.push(Watch::default());
        let watcher = self.watches.len() - 1;
        self.catch_up(now, watcher);
        watcher
    }

    fn snapshot(&self) -> Event {
        let records = self.records.iter();
        Event::Snapshot(
            records.map(|(key, (value, version))| (key.clone(), value.clone(), *version)).collect(),
        )
    }

    fn catch_up(&mut self, now: Duration, watcher: Watcher) {
        let event = if self.is_up { self.snapshot() } else { Event::Away };
        self.send(now, watcher, event);
    }

    fn send(&mut self, now: Duration, watcher: Watcher, event: Event) {
        let delay = Duration::from_millis(self.random.within(5, 150));
        let watch = &mut self.watches[watcher];
        let due = watch.events.back().map_or(now, |(due, _)| *due).max(now + delay);
        watch.events.push_back((due, event));
    }

    fn tell(&mut self, now: Duration, event: &Event) {
        for watcher in 0..self.watches.len() {
            if !self.watches[watcher].is_cut {
                self.send(now, watcher, event.clone());
            }
        }
    }

    /// What is due for a watcher.
    pub fn next(&mut self, now: Duration, watcher: Watcher) -> Option<Event> {
        let events = &mut self.watches[watcher].events;
        let is_due = events.front().is_some_and(|(due, _)| *due <= now);
        is_due.then(|| events.pop_front()).flatten().map(|(_, event)| event)
    }

    /// Cuts a watcher off, or connects it again.
    pub fn cut(&mut self, now: Duration, watcher: Watcher, is_cut: bool) {
        if std::mem::replace(&mut self.watches[watcher].is_cut, is_cut) != is_cut {
            if is_cut {
                self.watches[watcher].events.push_back((now + AWAY_AFTER, Event::Away));
            } else {
                self.catch_up(now, watcher);
            }
        }
    }

    /// A watcher reaches the store.
    #[must_use]
    pub fn answers(&self, watcher: Watcher) -> bool {
        self.is_up && !self.watches[watcher].is_cut
    }

    /// The store goes away.
    pub fn go_down(&mut self, now: Duration) {
        if std::mem::take(&mut self.is_up) {
            self.tell(now + AWAY_AFTER, &Event::Away);
        }
    }

    /// The store is back, perhaps without what it knew.
    pub fn come_up(&mut self, now: Duration, is_empty: bool) {
        if !std::mem::replace(&mut self.is_up, true) {
            if is_empty {
                self.records.clear();
            }
            let snapshot = self.snapshot();
            self.tell(now, &snapshot);
        }
    }

    /// It answers.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.is_up
    }

    /// One record.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&(Value, Version)> {
        self.records.get(key).filter(|_| self.is_up)
    }

    /// Writes if what is expected is there; else says what is.
    ///
    /// # Errors
    /// The version that is there instead; `None`: nothing, or the store is away.
    pub fn put(
        &mut self,
        now: Duration,
        (key, value): (Key, Value),
        expect: Expect,
    ) -> Result<Version, Option<Version>> {
        self.check(&key, expect)?;
        self.writes += 1;
        self.assignments_written += u64::from(matches!(key, Key::Assignment(_)));
        let version = Version { counter: self.writes, writer: self.random.draw() };
        self.records.insert(key.clone(), (value.clone(), version));
        self.tell(now, &Event::Put(Box::new((key, value, version))));
        Ok(version)
    }

    /// Deletes if what is expected is there.
    pub fn delete(&mut self, now: Duration, key: &Key, expect: Expect) {
        if self.check(key, expect).is_ok() && self.records.remove(key).is_some() {
            self.assignments_written += u64::from(matches!(key, Key::Assignment(_)));
            self.tell(now, &Event::Gone(key.clone()));
        }
    }

    fn check(&self, key: &Key, expect: Expect) -> Result<(), Option<Version>> {
        let there = self.records.get(key).map(|(_, version)| *version);
        match expect {
            _ if !self.is_up => Err(None),
            Expect::Version(expected) if expected != there => Err(there),
            Expect::Any | Expect::Version(_) => Ok(()),
        }
    }
}
