//! The store in this process: memory, and a file if asked.
//!
//! Leases run on tokio's monotonic clock. Records with a lease live in memory only: whoever holds a lease puts it again
//! within seconds, so they are not worth a disk write each. All other writes are in the file, synchronised, before they
//! are acknowledged.

mod log;
mod writer;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::feed::Feed;
use crate::leases::{Leases, until};
use crate::stats::Meter;
use crate::{
    Collection, Expect, Key, PutError, RECORDS_MAX, Record, Stats, Store, StoreState, Unavailable,
    VALUE_BYTES_MAX, Version, Watch, Write, record,
};
pub use log::FileError;
use log::{Change, Log};
use writer::{Receipt, Writer};

/// The store in this process.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    expiry: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    feeds: BTreeMap<Collection, Arc<Feed>>,
    meter: Arc<Meter>,
    /// A lease ends sooner than the expiry task knows.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    /// The counter of each collection's last write.
    counters: BTreeMap<Collection, u64>,
    leases: Leases<Key>,
    writer: Option<Writer>,
}

impl Embedded {
    /// A store that forgets everything with the process. Needs a tokio runtime.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::start(Vec::new(), None)
    }

    /// A store whose records without a lease outlive the process and a crash of the machine. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the file cannot be used, or another process uses it.
    pub fn with_file(path: &Path) -> Result<Self, FileError> {
        let (log, records) = Log::open(path)?;
        let writer = Writer::start(log).map_err(|source| FileError::Io { path: path.into(), source })?;
        Ok(Self::start(records, Some(writer)))
    }

    fn start(records: Vec<Record>, writer: Option<Writer>) -> Self {
        let meter = Arc::new(Meter::new(StoreState::Up));
        let mut by_collection: BTreeMap<Collection, Vec<Record>> = BTreeMap::new();
        for record in records {
            by_collection.entry(record.key.collection).or_default().push(record);
        }
        let mut feeds = BTreeMap::new();
        let mut counters = BTreeMap::new();
        for collection in Collection::ALL {
            let records = by_collection.remove(collection).unwrap_or_default();
            let last = records.iter().map(|record| record.version.counter).max();
            counters.insert(*collection, last.unwrap_or(0));
            let feed = Feed::new(meter.clone());
            feed.replace(records);
            feeds.insert(*collection, feed);
        }
        let state = State { counters, leases: Leases::default(), writer };
        let shared = Arc::new(Shared { state: Mutex::new(state), feeds, meter, sooner: Notify::new() });
        let expiry = tokio::spawn(expire(shared.clone())).abort_handle();
        Self { shared, expiry }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.expiry.abort();
        self.shared.feeds.values().for_each(|feed| feed.close());
        // Waits for the file, which may be opened again at once.
        let writer = self.shared.lock().writer.take();
        drop(writer);
    }
}

async fn settle(receipt: Option<Receipt>) -> Result<(), Unavailable> {
    match receipt {
        Some(receipt) => receipt.written().await,
        None => Ok(()),
    }
}

/// Ends leases until the store is dropped.
async fn expire(shared: Arc<Shared>) {
    loop {
        let next = shared.end_leases();
        tokio::select! {
            () = shared.sooner.notified() => {}
            () = until(next) => {}
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn feed(&self, collection: Collection) -> &Arc<Feed> {
        self.feeds.get(&collection).expect("there is a feed for each collection")
    }

    /// Removes what has ended, and says when the next lease ends.
    fn end_leases(&self) -> Option<Instant> {
        let mut state = self.lock();
        self.end_leases_of(&mut state)
    }

    fn end_leases_of(&self, state: &mut State) -> Option<Instant> {
        let now = Instant::now();
        while let Some(key) = state.leases.take_ended(now) {
            self.feed(key.collection).remove(&key);
        }
        state.leases.next_end()
    }

    /// What is there now, with leases that have ended taken out.
    fn current(&self, state: &mut State, key: &Key) -> Option<Record> {
        self.end_leases_of(state);
        self.feed(key.collection).get(key)
    }

    fn put(&self, key: &Key, value: Bytes, write: Write) -> Result<(Version, Option<Receipt>), PutError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(PutError::TooLarge { bytes: value.len() });
        }
        let writer = record::nonce()?;
        let mut state = self.lock();
        let current = self.current(&mut state, key);
        if !write.expect.allows(current.as_ref().map(|record| record.version)) {
            return Err(PutError::Conflict { current: current.map(Box::new) });
        }
        if current.is_none() && self.feed(key.collection).len() >= RECORDS_MAX {
            return Err(PutError::Full);
        }
        let counter = state.counters.entry(key.collection).or_default();
        let version = Version { counter: *counter + 1, writer };
        let record = Record { key: key.clone(), value, version };
        let was_in_file = current.is_some() && !state.leases.holds(key);
        let receipt = match write.lease {
            None => state.write_down(Change::Put(record.clone()))?,
            Some(_) if was_in_file => state.write_down(Change::Gone(key.clone()))?,
            Some(_) => None,
        };
        state.counters.insert(key.collection, version.counter);
        state.leases.take(key);
        if let Some(lease) = write.lease {
            let until = Instant::now() + lease;
            if state.leases.next_end().is_none_or(|next| until < next) {
                self.sooner.notify_one();
            }
            state.leases.give(key.clone(), until);
        }
        self.feed(key.collection).put(record);
        Ok((version, receipt))
    }

    fn delete(&self, key: &Key, expect: Expect) -> Result<(bool, Option<Receipt>), PutError> {
        let mut state = self.lock();
        let current = self.current(&mut state, key);
        if !expect.allows(current.as_ref().map(|record| record.version)) {
            return Err(PutError::Conflict { current: current.map(Box::new) });
        }
        if current.is_none() {
            return Ok((false, None));
        }
        let is_in_file = !state.leases.holds(key);
        let receipt = if is_in_file { state.write_down(Change::Gone(key.clone()))? } else { None };
        state.leases.take(key);
        self.feed(key.collection).remove(key);
        Ok((true, receipt))
    }
}

impl State {
    fn write_down(&mut self, change: Change) -> Result<Option<Receipt>, Unavailable> {
        self.writer.as_ref().map(|writer| writer.write(change)).transpose()
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        let get = async { Ok(self.shared.current(&mut self.shared.lock(), key)) };
        self.shared.meter.measured(get).boxed()
    }

    fn list(&self, collection: Collection) -> BoxFuture<'_, Result<Vec<Record>, Unavailable>> {
        let list = async move {
            self.shared.end_leases();
            Ok(self.shared.feed(collection).list())
        };
        self.shared.meter.measured(list).boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Bytes,
        write: Write,
    ) -> BoxFuture<'a, Result<Version, PutError>> {
        let put = async move {
            let (version, receipt) = self.shared.put(key, value, write)?;
            settle(receipt).await?;
            Ok(version)
        };
        self.shared.meter.measured(put).boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key, expect: Expect) -> BoxFuture<'a, Result<bool, PutError>> {
        let delete = async move {
            let (was_there, receipt) = self.shared.delete(key, expect)?;
            settle(receipt).await?;
            Ok(was_there)
        };
        self.shared.meter.measured(delete).boxed()
    }

    fn watch(&self, collection: Collection) -> Watch {
        self.shared.feed(collection).watch(None)
    }

    fn watch_one(&self, key: &Key) -> Watch {
        self.shared.feed(key.collection).watch(Some(key.clone()))
    }

    fn state(&self) -> StoreState {
        self.shared.meter.state()
    }

    fn stats(&self) -> Stats {
        self.shared.meter.stats()
    }
}
