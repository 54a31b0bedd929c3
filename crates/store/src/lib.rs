//! The store port of the control plane and its adapters. Does not know what is in a value.
//!
//! A [`Store`] keeps small versioned records: compare-and-set writes, leases, watches. It is *recoverable coordination
//! state*: a store may lose its last writes (a Redis failover does), or all of them, and everybody announces itself
//! again. So nothing here is the only copy of anything, and nobody waits for it long: an operation that gets no answer
//! ends as [`Unavailable`] within [`ANSWER_WITHIN`], and watches stay open and deliver a [`WatchEvent::Snapshot`] when
//! the store is back.
//!
//! [`open`] makes one from a URL: `embedded`, `embedded:/path`, `redis://`, `redis+sentinel://`, or
//! `http(s)://` of a controller, whose side is [`serve`].
#![forbid(unsafe_code)]

mod embedded;
mod feed;
mod feeds;
mod key;
mod leases;
mod open;
mod pause;
mod record;
mod redis;
mod remote;
mod secrets;
pub mod serve;
mod stats;
mod wire;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use embedded::{Embedded, FileError};
pub use feed::{Watch, WatchEvent};
pub use key::{Collection, Key, UnknownCollection};
pub use open::{OpenError, Options, UrlError, open, redacted};
pub use record::{
    Expect, LEASE_MAX, PutError, RECORDS_MAX, Record, Unavailable, VALUE_BYTES_MAX, Version, VersionError,
    Write,
};
pub use secrets::{AccessKey, SECRET_BYTES_MAX, SealError, Sealer};
pub use stats::{LATENCY_BOUNDS, Stats, StoreState};

/// The longest time that an operation takes.
pub const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Versioned records with compare-and-set, leases and watches. Use it as `Arc<dyn Store>`.
///
/// Dropping the future of a write does not undo the write.
pub trait Store: fmt::Debug + Send + Sync {
    /// One record, or that there is none.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, Unavailable>>;

    /// All records of a collection, ordered by id.
    fn list(&self, collection: Collection) -> BoxFuture<'_, Result<Vec<Record>, Unavailable>>;

    /// Writes a record if what is there is as expected.
    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Bytes,
        write: Write,
    ) -> BoxFuture<'a, Result<Version, PutError>>;

    /// Deletes a record if what is there is as expected. False if there was none and none was expected.
    fn delete<'a>(&'a self, key: &'a Key, expect: Expect) -> BoxFuture<'a, Result<bool, PutError>>;

    /// Changes of a collection, beginning with all of it. What was just written may come as a change.
    fn watch(&self, collection: Collection) -> Watch;

    /// Changes of one record, beginning with it as it is; the snapshot is empty if it is not there.
    fn watch_one(&self, key: &Key) -> Watch;

    /// Whether the store answers.
    fn state(&self) -> StoreState;

    /// Counters.
    fn stats(&self) -> Stats;
}
