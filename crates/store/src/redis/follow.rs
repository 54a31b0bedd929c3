//! What watches follow: the state between the messages of Redis and the feeds.
//!
//! Messages carry the era and the count of their collection. Those up to the count at which a scope was read are in
//! what was read, and are skipped. Another era means that Redis was emptied: the scope is read again. Redis says nothing
//! when an expiry passes, so the ends of leases are timed here, and the record is read again then.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;

use super::names::{Change, Message};
use crate::feed::Feed;
use crate::feeds::Scope;
use crate::leases::Leases;
use crate::{Collection, Key, Record};

/// One reading of a scope.
#[derive(Debug)]
pub struct Reading {
    pub era: Option<String>,
    pub counter: u64,
    /// With what is left of the lease.
    pub records: Vec<(Record, Option<Duration>)>,
}

/// What a message or a look means for a scope.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// Read the scope again: something is missing.
    ReadAgain,
}

#[derive(Debug)]
struct Followed {
    feed: Weak<Feed>,
    era: Option<String>,
    counter: u64,
}

/// All scopes that are followed over one connection.
#[derive(Debug, Default)]
pub struct Following {
    scopes: BTreeMap<Scope, Followed>,
    leases: Leases<(Scope, Key)>,
}

impl Following {
    pub fn has(&self, scope: &Scope) -> bool {
        self.scopes.contains_key(scope)
    }

    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    pub fn remove(&mut self, scope: &Scope) {
        self.scopes.remove(scope);
    }

    /// The scope was read as a whole.
    pub fn set(&mut self, scope: &Scope, feed: Weak<Feed>, reading: Reading) {
        let now = Instant::now();
        if let Some(feed) = feed.upgrade() {
            for known in feed.list() {
                self.leases.take(&(scope.clone(), known.key));
            }
            let mut records = Vec::with_capacity(reading.records.len());
            for (record, lease) in reading.records {
                if let Some(lease) = lease {
                    self.leases.give((scope.clone(), record.key.clone()), now + lease);
                }
                records.push(record);
            }
            feed.replace(records);
        }
        self.scopes.insert(scope.clone(), Followed { feed, era: reading.era, counter: reading.counter });
    }

    /// The feed of a scope, if it is followed and somebody watches.
    pub fn feed(&self, scope: &Scope) -> Option<Weak<Feed>> {
        self.scopes.get(scope).map(|followed| followed.feed.clone())
    }

    /// A message has come about something in `scope`.
    pub fn message(&mut self, scope: &Scope, message: Message) -> Verdict {
        let Some(followed) = self.scopes.get_mut(scope) else { return Verdict::Fine };
        match &followed.era {
            Some(era) if *era != message.era => return Verdict::ReadAgain,
            None if message.version.counter > 1 && scope.1.is_none() => return Verdict::ReadAgain,
            Some(_) | None => {}
        }
        if message.version.counter <= followed.counter {
            return Verdict::Fine;
        }
        followed.era = Some(message.era);
        followed.counter = message.version.counter;
        let Some(feed) = followed.feed.upgrade() else { return Verdict::Fine };
        let holder = (scope.clone(), message.key.clone());
        self.leases.take(&holder);
        match message.change {
            Change::Put { value, lease_millis } => {
                if lease_millis > 0 {
                    self.leases.give(holder, Instant::now() + Duration::from_millis(lease_millis));
                }
                feed.put(Record { key: message.key, value, version: message.version });
            }
            Change::Gone => {
                feed.remove(&message.key);
            }
        }
        Verdict::Fine
    }

    /// The era of a collection is this now: scopes that must be read again.
    pub fn other_era(&self, collection: Collection, era: Option<&str>) -> Vec<Scope> {
        let is_other = |followed: &Followed| followed.era.is_some() && followed.era.as_deref() != era;
        let scopes = self.scopes.iter().filter(|((other, _), _)| *other == collection);
        scopes.filter(|(_, followed)| is_other(followed)).map(|(scope, _)| scope.clone()).collect()
    }

    pub fn next_lease_end(&self) -> Option<Instant> {
        self.leases.next_end()
    }

    /// Takes records of one scope whose leases should have ended: at most `most` of them.
    pub fn take_ended(&mut self, most: usize) -> Option<(Scope, Vec<Key>)> {
        let now = Instant::now();
        let (scope, key) = self.leases.take_ended(now)?;
        let mut keys = vec![key];
        while keys.len() < most
            && let Some(next) = self.leases.take_ended(now)
        {
            if next.0 != scope {
                self.leases.give(next, now);
                break;
            }
            keys.push(next.1);
        }
        Some((scope, keys))
    }

    /// `keys` were read again after their leases should have ended.
    pub fn read_again(&mut self, scope: &Scope, keys: &[Key], reading: Reading) {
        let now = Instant::now();
        let Some(feed) = self.scopes.get(scope).and_then(|followed| followed.feed.upgrade()) else { return };
        let mut there: BTreeMap<Key, (Record, Option<Duration>)> =
            reading.records.into_iter().map(|read| (read.0.key.clone(), read)).collect();
        for key in keys {
            let Some((record, lease)) = there.remove(key) else {
                feed.remove(key);
                continue;
            };
            // One that was put since will come as a message too; until then its lease is timed as read.
            if let Some(lease) = lease {
                self.leases.give((scope.clone(), record.key), now + lease);
            }
        }
    }
}
