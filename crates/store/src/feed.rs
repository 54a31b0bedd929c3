//! Watches: what observers of a collection are told.
//!
//! A [`Feed`] holds the records as they are known now, and for each [`Watch`] a bounded queue of changes. A watch that
//! falls behind its bound loses its queue and gets a snapshot instead; so does every watch whenever the adapter has
//! read everything anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::stats::Meter;
use crate::{Key, Record};

/// Changes that wait for one watch: a second of a thousand heartbeats.
const QUEUE_MAX: usize = 1024;

/// What a watch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Everything that is there. The first event, and again after every gap: forget what you knew.
    Snapshot(Vec<Record>),
    /// A record is new or has changed.
    Put(Record),
    /// A record was deleted, or its lease ended.
    Gone(Key),
}

/// Changes of a collection or of one record, in the order of the writes.
#[derive(Debug)]
pub struct Watch {
    feed: Arc<Feed>,
    mailbox: u64,
    wake: Arc<Notify>,
}

impl Watch {
    /// The next event; `None` once the store is closed. Waits while the store is away. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            match self.feed.take(self.mailbox) {
                Taken::Event(event) => return Some(event),
                Taken::Closed => return None,
                Taken::Nothing => self.wake.notified().await,
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.feed.lock().mailboxes.remove(&self.mailbox);
    }
}

enum Taken {
    Event(WatchEvent),
    Nothing,
    Closed,
}

#[derive(Debug)]
pub(crate) struct Feed {
    state: Mutex<State>,
    meter: Arc<Meter>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Key, Record>,
    /// False until the adapter has read everything once.
    is_known: bool,
    is_closed: bool,
    mailboxes: BTreeMap<u64, Mailbox>,
    mailboxes_made: u64,
}

#[derive(Debug)]
struct Mailbox {
    only: Option<Key>,
    queue: VecDeque<WatchEvent>,
    needs_snapshot: bool,
    wake: Arc<Notify>,
}

impl Mailbox {
    fn push(&mut self, event: WatchEvent, overflows: &AtomicU64) {
        if self.needs_snapshot {
            return;
        }
        if self.queue.len() == QUEUE_MAX {
            Meter::count(overflows);
            self.ask_for_snapshot();
        } else {
            self.queue.push_back(event);
        }
    }

    fn ask_for_snapshot(&mut self) {
        self.queue.clear();
        self.needs_snapshot = true;
    }
}

impl Feed {
    /// A feed of nothing yet.
    pub fn new(meter: Arc<Meter>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), meter })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch of all, or of `only` one record.
    pub fn watch(self: &Arc<Self>, only: Option<Key>) -> Watch {
        let mut state = self.lock();
        let mailbox = state.mailboxes_made;
        state.mailboxes_made += 1;
        let wake = Arc::new(Notify::new());
        let queue = VecDeque::new();
        state.mailboxes.insert(mailbox, Mailbox { only, queue, needs_snapshot: true, wake: wake.clone() });
        Watch { feed: self.clone(), mailbox, wake }
    }

    fn take(&self, mailbox: u64) -> Taken {
        let mut state = self.lock();
        let State { records, is_known, is_closed, mailboxes, .. } = &mut *state;
        let Some(mailbox) = mailboxes.get_mut(&mailbox) else { return Taken::Closed };
        if mailbox.needs_snapshot && *is_known && !*is_closed {
            mailbox.needs_snapshot = false;
            let snapshot = match &mailbox.only {
                Some(key) => records.get(key).cloned().into_iter().collect(),
                None => records.values().cloned().collect(),
            };
            return Taken::Event(WatchEvent::Snapshot(snapshot));
        }
        match mailbox.queue.pop_front() {
            Some(event) => Taken::Event(event),
            None if *is_closed => Taken::Closed,
            None => Taken::Nothing,
        }
    }

    /// The record as it is known.
    pub fn get(&self, key: &Key) -> Option<Record> {
        self.lock().records.get(key).cloned()
    }

    /// All records as they are known.
    pub fn list(&self) -> Vec<Record> {
        self.lock().records.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().records.len()
    }

    /// Everything was read anew: each watch gets a snapshot.
    pub fn replace(&self, records: Vec<Record>) {
        let mut state = self.lock();
        state.records = records.into_iter().map(|record| (record.key.clone(), record)).collect();
        state.is_known = true;
        for mailbox in state.mailboxes.values_mut() {
            mailbox.ask_for_snapshot();
            mailbox.wake.notify_one();
        }
    }

    /// A record is new or has changed.
    pub fn put(&self, record: Record) {
        let mut state = self.lock();
        state.records.insert(record.key.clone(), record.clone());
        self.tell(&mut state, &record.key, || WatchEvent::Put(record.clone()));
    }

    /// A record is gone. False if it was not known.
    pub fn remove(&self, key: &Key) -> bool {
        let mut state = self.lock();
        let was_known = state.records.remove(key).is_some();
        if was_known {
            self.tell(&mut state, key, || WatchEvent::Gone(key.clone()));
        }
        was_known
    }

    fn tell(&self, state: &mut State, key: &Key, event: impl Fn() -> WatchEvent) {
        for mailbox in state.mailboxes.values_mut() {
            if mailbox.only.as_ref().is_none_or(|only| only == key) {
                mailbox.push(event(), &self.meter.watch_overflows);
                mailbox.wake.notify_one();
            }
        }
    }

    /// The store is closed: watches end.
    pub fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        for mailbox in state.mailboxes.values() {
            mailbox.wake.notify_one();
        }
    }
}
