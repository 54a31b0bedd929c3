//! The store in Redis, found by its address or through Sentinels.
//!
//! A write is one Lua script: compare, set with expiry, count, publish. Reads and lists are one round trip; `KEYS` and
//! `SCAN` are never used. What stands where is told in `names`, how failovers are survived in `connection`.

mod connection;
mod follow;
mod names;
mod target;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Script, Value};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use crate::feeds::{Feeds, Scope};
use crate::stats::Meter;
use crate::{
    ANSWER_WITHIN, Collection, Expect, Key, PutError, RECORDS_MAX, Record, Stats, Store, StoreState,
    Unavailable, VALUE_BYTES_MAX, Version, Watch, Write, record,
};
use connection::Link;
use follow::Reading;
use names::Names;
pub(crate) use target::Target;

/// How long a durable write waits for a replica.
const REPLICA_WITHIN_MILLIS: u64 = 200;

/// The store in Redis.
pub struct Redis {
    shared: Arc<Shared>,
    keeper: AbortHandle,
}

pub(crate) struct Shared {
    target: Target,
    names: Names,
    meter: Arc<Meter>,
    feeds: Feeds,
    link: watch::Sender<Option<Link>>,
    /// The latest connection on which an operation failed.
    failed: watch::Sender<u64>,
    put: Script,
    delete: Script,
    read: Script,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

impl Redis {
    /// Begins to look for the server. Needs a tokio runtime.
    pub(crate) fn start(target: Target) -> Self {
        let shared = Arc::new(Shared {
            names: Names { database: target.database },
            target,
            meter: Arc::new(Meter::new(StoreState::Down { since: Instant::now() })),
            feeds: Feeds::default(),
            link: watch::Sender::new(None),
            failed: watch::Sender::new(0),
            put: Script::new(include_str!("redis/put.lua")),
            delete: Script::new(include_str!("redis/delete.lua")),
            read: Script::new(include_str!("redis/read.lua")),
        });
        let keeper = tokio::spawn(connection::keep(shared.clone())).abort_handle();
        Self { shared, keeper }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper.abort();
        self.shared.feeds.close();
    }
}

fn unavailable(error: &RedisError) -> Unavailable {
    if error.is_timeout() {
        Unavailable::TimedOut { within: ANSWER_WITHIN }
    } else if error.code().is_some() {
        Unavailable::Refused(error.to_string())
    } else {
        Unavailable::Unreachable(error.to_string())
    }
}

/// What a server says on every connection: it is full, cannot write its file, or lacks replicas.
const OF_SERVER: [&str; 3] = ["OOM", "MISCONF", "NOREPLICAS"];

fn malformed(what: &str) -> Unavailable {
    Unavailable::Malformed(what.into())
}

impl Shared {
    /// Runs an operation on the connection, as soon as there is one, all within the bound. What goes wrong ends the
    /// connection where another one may do better.
    async fn run<T>(&self, operation: impl AsyncFnOnce(Link) -> RedisResult<T>) -> Result<T, Unavailable> {
        let mut links = self.link.subscribe();
        let (mut generation, mut is_of_server) = (0, false);
        let running = async {
            let link = match links.wait_for(Option::is_some).await {
                Ok(link) => link.clone(),
                Err(_) => None,
            };
            let link = link.ok_or_else(|| Unavailable::Unreachable("closed".into()))?;
            generation = link.generation;
            operation(link).await.map_err(|error| {
                is_of_server = error.code().is_some_and(|code| OF_SERVER.contains(&code));
                unavailable(&error)
            })
        };
        let outcome = timeout(ANSWER_WITHIN, running).await;
        let outcome = outcome.unwrap_or(Err(Unavailable::TimedOut { within: ANSWER_WITHIN }));
        if outcome.is_err() && !is_of_server && generation > 0 {
            self.failed.send_if_modified(|failed| {
                let is_newer = generation > *failed;
                *failed = generation.max(*failed);
                is_newer
            });
        }
        outcome
    }

    fn record(&self, key: Key, stored: Bytes) -> Option<Record> {
        let record = names::record(key, stored);
        if record.is_none() {
            Meter::count(&self.meter.malformed);
        }
        record
    }

    async fn read_scope(&self, link: &Link, (collection, key): &Scope) -> RedisResult<Reading> {
        self.read_keys(link, *collection, key.as_slice()).await
    }

    /// Reads `keys`, or all of the collection if there are none.
    async fn read_keys(&self, link: &Link, collection: Collection, keys: &[Key]) -> RedisResult<Reading> {
        let mut call = self.read.key(self.names.index(collection));
        call.key(self.names.revision(collection)).key(self.names.era(collection));
        call.arg(self.names.before_id(collection));
        for key in keys {
            call.arg(key.id.as_str());
        }
        let mut commands = link.commands.clone();
        let parts: Vec<Value> = call.invoke_async(&mut commands).await?;
        let mut parts = parts.into_iter();
        let counter: u64 = redis::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let era: String = redis::from_redis_value(parts.next().unwrap_or(Value::Nil))?;
        let mut records = Vec::new();
        while let (Some(id), Some(lease), Some(stored)) = (parts.next(), parts.next(), parts.next()) {
            let id: String = redis::from_redis_value(id)?;
            let lease: i64 = redis::from_redis_value(lease)?;
            let stored: Vec<u8> = redis::from_redis_value(stored)?;
            let Ok(key) = Key::new(collection, &id) else {
                Meter::count(&self.meter.malformed);
                continue;
            };
            if let Some(record) = self.record(key, stored.into()) {
                records.push((record, u64::try_from(lease).ok().map(Duration::from_millis)));
            }
        }
        records.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        Ok(Reading { era: (!era.is_empty()).then_some(era), counter, records })
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let name = self.names.record(key);
        let get = async |mut link: Link| redis::cmd("GET").arg(name).query_async(&mut link.commands).await;
        let Some(stored) = self.run::<Option<Vec<u8>>>(get).await? else { return Ok(None) };
        self.record(key.clone(), stored.into()).map(Some).ok_or_else(|| malformed(&key.to_string()))
    }

    async fn list(&self, collection: Collection) -> Result<Vec<Record>, Unavailable> {
        let reading = self.run(async |link| self.read_keys(&link, collection, &[]).await).await?;
        Ok(reading.records.into_iter().map(|(record, _)| record).collect())
    }

    async fn put(&self, key: &Key, value: Bytes, write: Write) -> Result<Version, PutError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(PutError::TooLarge { bytes: value.len() });
        }
        let writer = format!("{:016x}", record::nonce()?);
        let mut answer = self.put_once(key, &value, write, &writer).await?;
        if answer.is("full") {
            // Ids whose leases have ended are still counted; reading all of them takes them out.
            self.list(key.collection).await?;
            answer = self.put_once(key, &value, write, &writer).await?;
        }
        if answer.is("full") {
            return Err(PutError::Full);
        }
        self.refuse_conflict(key, &answer)?;
        let version = std::str::from_utf8(&answer.detail).ok().and_then(|text| text.parse().ok());
        let version = version.ok_or_else(|| malformed("the answer to a write"))?;
        if answer.is_confirmed { Ok(version) } else { Err(PutError::Unconfirmed { version }) }
    }

    async fn put_once(
        &self,
        key: &Key,
        value: &Bytes,
        write: Write,
        writer: &str,
    ) -> Result<Answer, Unavailable> {
        let mut call = self.put.key(self.names.record(key));
        call.key(self.names.index(key.collection));
        call.key(self.names.revision(key.collection)).key(self.names.era(key.collection));
        let lease = write.lease.map_or(0, |lease| u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
        call.arg(expected(write.expect)).arg(writer).arg(&value[..]).arg(lease).arg(key.id.as_str());
        call.arg(self.names.channel(key.collection)).arg(RECORDS_MAX);
        let is_durable = write.is_durable && self.target.has_replicas();
        self.run(async move |mut link| {
            if !is_durable {
                let (word, detail) = call.invoke_async(&mut link.commands).await?;
                return Ok(Answer { word, detail, is_confirmed: true });
            }
            let mut lane = link.durable.lock().await;
            let connection = durable_connection(&mut lane, &link).await?;
            let (word, detail) = call.invoke_async(connection).await?;
            let mut wait = redis::cmd("WAIT");
            let replicas: u64 = wait.arg(1).arg(REPLICA_WITHIN_MILLIS).query_async(connection).await?;
            Ok(Answer { word, detail, is_confirmed: replicas > 0 })
        })
        .await
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, PutError> {
        let writer = format!("{:016x}", record::nonce()?);
        let mut call = self.delete.key(self.names.record(key));
        call.key(self.names.index(key.collection));
        call.key(self.names.revision(key.collection)).key(self.names.era(key.collection));
        call.arg(expected(expect)).arg(writer).arg(key.id.as_str()).arg(self.names.channel(key.collection));
        let delete = async move |mut link: Link| call.invoke_async(&mut link.commands).await;
        let (word, detail) = self.run(delete).await?;
        let answer = Answer { word, detail, is_confirmed: true };
        self.refuse_conflict(key, &answer)?;
        Ok(answer.is("done"))
    }

    fn refuse_conflict(&self, key: &Key, answer: &Answer) -> Result<(), PutError> {
        if !answer.is("conflict") {
            return Ok(());
        }
        if answer.detail.is_empty() {
            return Err(PutError::Conflict { current: None });
        }
        let current = self.record(key.clone(), Bytes::copy_from_slice(&answer.detail));
        let current = current.ok_or_else(|| malformed(&key.to_string()))?;
        Err(PutError::Conflict { current: Some(Box::new(current)) })
    }
}

async fn durable_connection<'a>(
    lane: &'a mut Option<MultiplexedConnection>,
    link: &Link,
) -> RedisResult<&'a mut MultiplexedConnection> {
    let connection = match lane.take() {
        Some(connection) => connection,
        None => target::connect(&link.client, ANSWER_WITHIN).await?,
    };
    Ok(lane.insert(connection))
}

/// What a script says.
struct Answer {
    word: String,
    detail: Vec<u8>,
    is_confirmed: bool,
}

impl Answer {
    fn is(&self, word: &str) -> bool {
        self.word == word
    }
}

fn expected(expect: Expect) -> String {
    match expect {
        Expect::Any => "any".into(),
        Expect::Absent => "absent".into(),
        Expect::Version(version) => version.to_string(),
    }
}

impl Store for Redis {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        self.shared.meter.measured(self.shared.get(key)).boxed()
    }

    fn list(&self, collection: Collection) -> BoxFuture<'_, Result<Vec<Record>, Unavailable>> {
        self.shared.meter.measured(self.shared.list(collection)).boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Bytes,
        write: Write,
    ) -> BoxFuture<'a, Result<Version, PutError>> {
        self.shared.meter.measured(self.shared.put(key, value, write)).boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key, expect: Expect) -> BoxFuture<'a, Result<bool, PutError>> {
        self.shared.meter.measured(self.shared.delete(key, expect)).boxed()
    }

    fn watch(&self, collection: Collection) -> Watch {
        self.shared.feeds.watch((collection, None), &self.shared.meter).0
    }

    fn watch_one(&self, key: &Key) -> Watch {
        self.shared.feeds.watch((key.collection, Some(key.clone())), &self.shared.meter).0
    }

    fn state(&self) -> StoreState {
        self.shared.meter.state()
    }

    fn stats(&self) -> Stats {
        self.shared.meter.stats()
    }
}
