//! The life of the connection: find the server, serve watches, notice trouble, begin again.
//!
//! Any error ends the connection: an address that a Sentinel named a second ago may be a replica now, frozen, or cut
//! off. Commands and messages go over two connections to the same server, and live and die together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Shared;
use super::follow::{Following, Verdict};
use super::names::message;
use super::target::{connect, is_master, timed_out};
use crate::feeds::Scope;
use crate::leases::until;
use crate::stats::Meter;
use crate::{ANSWER_WITHIN, Collection, pause};

/// How often the server is asked whether it is there, still the master, and not emptied.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Every so many checks the Sentinels are asked whether it is still the one.
const CHECKS_BETWEEN_SENTINELS: u32 = 5;
/// Records whose leases have ended that are read again at once.
const READ_AGAIN_MAX: usize = 500;

/// A connection for commands, shared by all operations.
#[derive(Clone)]
pub struct Link {
    /// Which connection this is, from 1.
    pub generation: u64,
    pub commands: MultiplexedConnection,
    /// Writes that wait for a replica hold up their connection, so they have one of their own, one at a time.
    pub durable: Arc<Mutex<Option<MultiplexedConnection>>>,
    pub client: redis::Client,
}

struct Connected {
    address: (String, u16),
    /// How long it was looked for.
    outage: Duration,
    link: Link,
    sink: PubSubSink,
    stream: PubSubStream,
}

/// Keeps a connection until the store is dropped.
pub async fn keep(shared: Arc<Shared>) {
    let mut generation = 0;
    let mut down_since = Instant::now();
    loop {
        generation += 1;
        Meter::count(&shared.meter.resolutions);
        let error = match find(&shared, generation, down_since.elapsed()).await {
            Ok(connected) => {
                shared.meter.set_up(true);
                let (host, port) = &connected.address;
                tracing::info!(%host, port, after = ?down_since.elapsed(), "Redis is there");
                shared.link.send_replace(Some(connected.link.clone()));
                let error = Serving::new(&shared, connected).run().await;
                shared.link.send_replace(None);
                down_since = Instant::now();
                error
            }
            Err(error) => error,
        };
        if shared.meter.set_up(false) || generation == 1 {
            tracing::warn!(%error, "Redis is away");
        } else {
            tracing::debug!(%error, "Redis is still away");
        }
        tokio::time::sleep(pause::after(down_since.elapsed())).await;
    }
}

async fn find(shared: &Shared, generation: u64, outage: Duration) -> RedisResult<Connected> {
    let within = pause::patience(ANSWER_WITHIN, outage);
    let mut last = RedisError::from((ErrorKind::Client, "no address"));
    for address in shared.target.candidates(outage).await? {
        let opening = async {
            let (link, sink, stream) = open(shared, address.clone(), (generation, within)).await?;
            Ok(Connected { address, outage, link, sink, stream })
        };
        let opened = timeout(within, opening).await;
        match opened.unwrap_or_else(|_| Err(timed_out())) {
            Ok(connected) => return Ok(connected),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn open(
    shared: &Shared,
    address: (String, u16),
    (generation, within): (u64, Duration),
) -> RedisResult<(Link, PubSubSink, PubSubStream)> {
    let client = shared.target.client(address)?;
    let mut commands = connect(&client, within).await?;
    let mut greeting = redis::pipe();
    greeting.cmd("ROLE");
    // Beforehand, as the connection for durable writes: from far away both take longer than an operation may.
    for script in [&shared.put, &shared.delete, &shared.read] {
        greeting.load_script(script).ignore();
    }
    let (role,): (Value,) = greeting.query_async(&mut commands).await?;
    is_master(&role)?;
    let (sink, stream) = client.get_async_pubsub().await?.split();
    let durable = if shared.target.has_replicas() { Some(connect(&client, within).await?) } else { None };
    let link = Link { generation, commands, durable: Arc::new(Mutex::new(durable)), client };
    Ok((link, sink, stream))
}

/// One connection, from its beginning to the first trouble.
struct Serving<'a> {
    shared: &'a Shared,
    address: (String, u16),
    outage: Duration,
    link: Link,
    sink: PubSubSink,
    stream: PubSubStream,
    following: Following,
    /// Which scope a channel belongs to.
    channels: BTreeMap<String, Scope>,
    checks: u32,
}

impl<'a> Serving<'a> {
    fn new(shared: &'a Shared, connected: Connected) -> Self {
        let Connected { address, outage, link, sink, stream } = connected;
        let (following, channels) = (Following::default(), BTreeMap::new());
        Self { shared, address, outage, link, sink, stream, following, channels, checks: 0 }
    }

    /// Runs until something is wrong, and says what.
    async fn run(mut self) -> RedisError {
        let mut checks = interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failures = self.shared.failed.subscribe();
        let generation = self.link.generation;
        if let Err(error) = self.follow_new().await {
            return error;
        }
        loop {
            let outcome = tokio::select! {
                message = self.stream.next() => match message {
                    Some(message) => self.told(&message).await,
                    None => Err(gone("the connection for messages ended")),
                },
                () = self.shared.feeds.added.notified() => self.follow_new().await,
                () = until(self.following.next_lease_end()) => self.end_leases().await,
                _ = checks.tick() => self.check().await,
                () = failed(&mut failures, generation) => Err(gone("an operation failed")),
            };
            if let Err(error) = outcome {
                return error;
            }
        }
    }

    /// Takes up scopes that somebody watches since, and leaves those that nobody watches any more.
    async fn follow_new(&mut self) -> RedisResult<()> {
        let held = self.shared.feeds.held();
        let left: Vec<Scope> =
            self.following.scopes().filter(|scope| !held.contains_key(scope)).cloned().collect();
        for scope in left {
            let channel = self.channel(&scope);
            self.sink.unsubscribe(&channel).await?;
            self.channels.remove(&channel);
            self.following.remove(&scope);
        }
        for (scope, feed) in held {
            let known = self.following.feed(&scope);
            if known.as_ref().is_some_and(|known| known.ptr_eq(&feed)) {
                continue;
            }
            if !self.following.has(&scope) {
                let channel = self.channel(&scope);
                self.sink.subscribe(&channel).await?;
                self.channels.insert(channel, scope.clone());
            }
            // Read after subscribing: nothing falls between.
            let reading = self.shared.read_scope(&self.link, &scope).await?;
            self.following.set(&scope, feed, reading);
        }
        Ok(())
    }

    fn channel(&self, (collection, key): &Scope) -> String {
        match key {
            Some(key) => self.shared.names.channel_of(key),
            None => self.shared.names.channel(*collection),
        }
    }

    async fn told(&mut self, message_in: &redis::Msg) -> RedisResult<()> {
        let Some(scope) = self.channels.get(message_in.get_channel_name()) else { return Ok(()) };
        let scope = scope.clone();
        let payload = bytes::Bytes::copy_from_slice(message_in.get_payload_bytes());
        let Some(message) = message(scope.0, payload) else {
            Meter::count(&self.shared.meter.malformed);
            return Ok(());
        };
        match self.following.message(&scope, message) {
            Verdict::Fine => Ok(()),
            Verdict::ReadAgain => self.read_again(&scope).await,
        }
    }

    async fn read_again(&mut self, scope: &Scope) -> RedisResult<()> {
        if let Some(feed) = self.following.feed(scope) {
            let reading = self.shared.read_scope(&self.link, scope).await?;
            self.following.set(scope, feed, reading);
        }
        Ok(())
    }

    async fn end_leases(&mut self) -> RedisResult<()> {
        if let Some((scope, keys)) = self.following.take_ended(READ_AGAIN_MAX) {
            let reading = self.shared.read_keys(&self.link, scope.0, &keys).await?;
            self.following.read_again(&scope, &keys, reading);
        }
        Ok(())
    }

    /// Asks whether the server is there, the master, and not emptied since.
    async fn check(&mut self) -> RedisResult<()> {
        let mut ask = redis::pipe();
        ask.cmd("ROLE").cmd("MGET");
        for collection in Collection::ALL {
            ask.arg(self.shared.names.era(*collection));
        }
        let asking = timeout(ANSWER_WITHIN, ask.query_async(&mut self.link.commands));
        let pinging = timeout(ANSWER_WITHIN, self.sink.ping::<Value>());
        let (answer, pong) = tokio::join!(asking, pinging);
        let (role, eras): (Value, Vec<Option<String>>) = answer.map_err(|_| timed_out())??;
        pong.map_err(|_| timed_out())??;
        is_master(&role)?;
        for (collection, era) in Collection::ALL.iter().zip(eras) {
            for scope in self.following.other_era(*collection, era.as_deref()) {
                self.read_again(&scope).await?;
            }
        }
        self.checks += 1;
        if self.checks.is_multiple_of(CHECKS_BETWEEN_SENTINELS)
            && self.shared.target.is_elsewhere(&self.address, self.outage).await
        {
            return Err(gone("most Sentinels name another master"));
        }
        self.follow_new().await
    }
}

/// Waits until an operation has failed on this connection.
async fn failed(failures: &mut watch::Receiver<u64>, generation: u64) {
    if failures.wait_for(|failed| *failed >= generation).await.is_err() {
        // The sender lives as long as the store, and this task no longer.
        std::future::pending().await
    }
}

fn gone(why: &'static str) -> RedisError {
    (ErrorKind::Io, why).into()
}
