//! When leases end, in order.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// The end of each lease, by holder.
#[derive(Debug)]
pub(crate) struct Leases<K> {
    ends: BTreeMap<K, Instant>,
    in_order: BTreeSet<(Instant, K)>,
}

impl<K> Default for Leases<K> {
    fn default() -> Self {
        Self { ends: BTreeMap::new(), in_order: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Leases<K> {
    pub fn give(&mut self, holder: K, until: Instant) {
        self.take(&holder);
        self.in_order.insert((until, holder.clone()));
        self.ends.insert(holder, until);
    }

    pub fn take(&mut self, holder: &K) {
        if let Some(until) = self.ends.remove(holder) {
            self.in_order.remove(&(until, holder.clone()));
        }
    }

    pub fn holds(&self, holder: &K) -> bool {
        self.ends.contains_key(holder)
    }

    pub fn next_end(&self) -> Option<Instant> {
        self.in_order.first().map(|(until, _)| *until)
    }

    /// Takes and returns one whose lease has ended.
    pub fn take_ended(&mut self, now: Instant) -> Option<K> {
        let (until, holder) = self.in_order.first()?;
        if *until > now {
            return None;
        }
        let holder = holder.clone();
        self.take(&holder);
        Some(holder)
    }
}

/// Waits until then; for ever if there is no end.
pub(crate) async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
