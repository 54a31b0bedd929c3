//! The store of a controller, over HTTP (`wire` tells the protocol).

mod following;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::feeds::{Feeds, Scope};
use crate::stats::Meter;
use crate::wire::{DURABLE, LEASE, Line, Lines, MARK, ROOT};
use crate::{
    ANSWER_WITHIN, AccessKey, Collection, Expect, Key, PutError, RECORDS_MAX, Record, Stats, Store,
    StoreState, Unavailable, VALUE_BYTES_MAX, Version, Watch, Write,
};

/// How often the controller is asked whether it and its store are there.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// The largest list that is taken: [`RECORDS_MAX`] records of the size that they have, about 6 KiB.
const LIST_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The store of a controller.
pub struct Remote {
    shared: Arc<Shared>,
    /// The check, and a task for each scope that is watched.
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    client: Client,
    base: String,
    meter: Arc<Meter>,
    feeds: Feeds,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("base", &self.shared.base).finish_non_exhaustive()
    }
}

impl Remote {
    /// Begins to ask the controller at `base` (scheme and host). Needs a tokio runtime.
    pub(crate) fn start(base: String, key: &AccessKey) -> Result<Self, reqwest::Error> {
        let mut headers = HeaderMap::new();
        let mut right =
            HeaderValue::from_str(&key.header()).expect("hexadecimal digits may stand in a header");
        right.set_sensitive(true);
        headers.insert(AUTHORIZATION, right);
        let mut builder = Client::builder();
        if !base.starts_with("https:") {
            // Without TLS the system need not have certificates.
            builder = builder.tls_certs_only([]);
        }
        // Idle connections are dropped before a controller or something between drops them: less than usual limits.
        let client = builder
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(15))
            .connect_timeout(ANSWER_WITHIN)
            .build()?;
        let meter = Arc::new(Meter::new(StoreState::Down { since: Instant::now() }));
        let shared = Arc::new(Shared { client, base, meter, feeds: Feeds::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(check(shared.clone()));
        Ok(Self { shared, tasks: Mutex::new(tasks) })
    }

    fn watch_scope(&self, scope: Scope) -> Watch {
        let (watch, new) = self.shared.feeds.watch(scope.clone(), &self.shared.meter);
        if let Some(feed) = new {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            // Takes those that have ended out of the set.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(following::follow(self.shared.clone(), scope, feed));
        }
        watch
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.shared.feeds.close();
    }
}

async fn check(shared: Arc<Shared>) {
    let mut ticks = interval(CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = shared.answer(shared.request(Method::GET, "")).await;
        // Whether it is up is noted with the answer.
        if let Err(error) = asked {
            tracing::debug!(%error, "the controller's store is away");
        }
    }
}

fn unreachable(error: &reqwest::Error) -> Unavailable {
    Unavailable::Unreachable(reason(error))
}

/// The outer message is "error sending request" or the like; the reason is further in. Neither has the token.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

fn malformed(what: &str) -> Unavailable {
    Unavailable::Malformed(what.into())
}

impl Shared {
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{ROOT}{path}", self.base))
    }

    /// Sends a request; the answer is one of the store, and not that it is away.
    async fn answer(&self, request: RequestBuilder) -> Result<Response, Unavailable> {
        let outcome = match timeout(ANSWER_WITHIN, request.send()).await {
            Ok(Ok(response)) => store_answer(response).await,
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(Unavailable::TimedOut { within: ANSWER_WITHIN }),
        };
        self.note(&outcome);
        outcome
    }

    fn note<T>(&self, outcome: &Result<T, Unavailable>) {
        let is_change = self.meter.set_up(outcome.is_ok());
        match outcome {
            Ok(_) if is_change => {
                Meter::count(&self.meter.resolutions);
                tracing::info!(base = %self.base, "the controller's store is there");
            }
            Err(error) if is_change => {
                tracing::warn!(base = %self.base, %error, "the controller's store is away")
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// An operation with its answer's body, all within the bound.
    async fn operation<T>(&self, work: impl Future<Output = Result<T, PutError>>) -> Result<T, PutError> {
        match timeout(ANSWER_WITHIN, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let late = Unavailable::TimedOut { within: ANSWER_WITHIN };
                self.note::<()>(&Err(late.clone()));
                Err(late.into())
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, PutError> {
        let response = self.answer(self.request(Method::GET, &path(key))).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(record(key, response).await?)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(unexpected(status).into()),
        }
    }

    async fn list(&self, collection: Collection) -> Result<Vec<Record>, PutError> {
        let response = self.answer(self.request(Method::GET, &format!("/{collection}"))).await?;
        if response.status() != StatusCode::OK {
            return Err(unexpected(response.status()).into());
        }
        let mut lines = Lines::default();
        lines.feed(&body(response, LIST_BYTES_MAX).await?);
        let Ok(Some(Some(Line::Snapshot(count)))) = lines.next() else {
            return Err(malformed("the list has no head").into());
        };
        let mut records = Vec::with_capacity(count.min(RECORDS_MAX));
        while let Ok(Some(line)) = lines.next() {
            match line {
                Some(Line::Put(entry)) => match entry.record(collection) {
                    Some(record) => records.push(record),
                    None => Meter::count(&self.meter.malformed),
                },
                Some(_) | None => return Err(malformed("a line of the list").into()),
            }
        }
        Ok(records)
    }

    async fn put(&self, key: &Key, value: Bytes, write: Write) -> Result<Version, PutError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(PutError::TooLarge { bytes: value.len() });
        }
        let bytes = value.len();
        let mut request = expecting(self.request(Method::PUT, &path(key)), write.expect).body(value);
        if let Some(lease) = write.lease {
            request = request.header(LEASE, lease.as_millis().to_string());
        }
        if write.is_durable {
            request = request.header(DURABLE, "1");
        }
        let response = self.answer(request).await?;
        match response.status() {
            StatusCode::NO_CONTENT => {
                let version = version(&response)?;
                let is_confirmed = !response.headers().contains_key(DURABLE);
                if is_confirmed { Ok(version) } else { Err(PutError::Unconfirmed { version }) }
            }
            StatusCode::PRECONDITION_FAILED => Err(conflict(key, response).await?),
            StatusCode::PAYLOAD_TOO_LARGE => Err(PutError::TooLarge { bytes }),
            StatusCode::INSUFFICIENT_STORAGE => Err(PutError::Full),
            status => Err(unexpected(status).into()),
        }
    }

    async fn delete(&self, key: &Key, expect: Expect) -> Result<bool, PutError> {
        let request = expecting(self.request(Method::DELETE, &path(key)), expect);
        let response = self.answer(request).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::PRECONDITION_FAILED => Err(conflict(key, response).await?),
            status => Err(unexpected(status).into()),
        }
    }
}

fn path(key: &Key) -> String {
    format!("/{}/{}", key.collection, key.id)
}

fn expecting(request: RequestBuilder, expect: Expect) -> RequestBuilder {
    match expect {
        Expect::Any => request,
        Expect::Absent => request.header(IF_NONE_MATCH, "*"),
        Expect::Version(version) => request.header(IF_MATCH, format!("\"{version}\"")),
    }
}

/// The answer, if it is one of a store that is there.
async fn store_answer(response: Response) -> Result<Response, Unavailable> {
    if !response.headers().contains_key(MARK) {
        return Err(malformed(&format!("status {} from what is no controller's store", response.status())));
    }
    match response.status() {
        StatusCode::UNAUTHORIZED => {
            Err(Unavailable::Refused("the controller has another cluster key".into()))
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
            let reason = body(response, 1024).await.unwrap_or_default();
            Err(Unavailable::Refused(String::from_utf8_lossy(&reason).trim().to_owned()))
        }
        _ => Ok(response),
    }
}

fn unexpected(status: StatusCode) -> Unavailable {
    malformed(&format!("status {status}"))
}

/// The body, if it is no longer than `most`.
async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, Unavailable> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| unreachable(&error))? {
        if body.len() + piece.len() > most {
            return Err(malformed(&format!("an answer of more than {most} bytes")));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

fn version(response: &Response) -> Result<Version, Unavailable> {
    let tag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok());
    let version = tag.and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok());
    version.ok_or_else(|| malformed("an answer without version"))
}

async fn record(key: &Key, response: Response) -> Result<Record, Unavailable> {
    let version = version(&response)?;
    let value = body(response, VALUE_BYTES_MAX).await?.into();
    Ok(Record { key: key.clone(), value, version })
}

async fn conflict(key: &Key, response: Response) -> Result<PutError, Unavailable> {
    let is_there = response.headers().contains_key(ETAG);
    let current = if is_there { Some(Box::new(record(key, response).await?)) } else { None };
    Ok(PutError::Conflict { current })
}

/// Reads fail only by not being answered.
fn reading<T>(outcome: Result<T, PutError>) -> Result<T, Unavailable> {
    outcome.map_err(|error| match error {
        PutError::Unavailable(reason) => reason,
        other => malformed(&other.to_string()),
    })
}

impl Store for Remote {
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Record>, Unavailable>> {
        let get = async { reading(self.shared.operation(self.shared.get(key)).await) };
        self.shared.meter.measured(get).boxed()
    }

    fn list(&self, collection: Collection) -> BoxFuture<'_, Result<Vec<Record>, Unavailable>> {
        let list = async move { reading(self.shared.operation(self.shared.list(collection)).await) };
        self.shared.meter.measured(list).boxed()
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        value: Bytes,
        write: Write,
    ) -> BoxFuture<'a, Result<Version, PutError>> {
        self.shared.meter.measured(self.shared.operation(self.shared.put(key, value, write))).boxed()
    }

    fn delete<'a>(&'a self, key: &'a Key, expect: Expect) -> BoxFuture<'a, Result<bool, PutError>> {
        self.shared.meter.measured(self.shared.operation(self.shared.delete(key, expect))).boxed()
    }

    fn watch(&self, collection: Collection) -> Watch {
        self.watch_scope((collection, None))
    }

    fn watch_one(&self, key: &Key) -> Watch {
        self.watch_scope((key.collection, Some(key.clone())))
    }

    fn state(&self) -> StoreState {
        self.shared.meter.state()
    }

    fn stats(&self) -> Stats {
        self.shared.meter.stats()
    }
}
