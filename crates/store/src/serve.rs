//! The store over HTTP: the controller's side. Nodes use it as `http(s)://` (`wire` tells the protocol).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::wire::{DURABLE, LEASE, Line, MARK, ROOT};
use crate::{
    AccessKey, Collection, Expect, Key, PutError, Record, Store, StoreState, Unavailable, VALUE_BYTES_MAX,
    Write,
};

mod watching;

/// A request that is not complete and answered by then is given up: longer than a store takes at most.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How much is served at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Watches open at the same time; more are answered 503. Default: 4096, four for each of a thousand nodes.
    pub watches_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { watches_max: 4096 }
    }
}

#[derive(Clone)]
struct Served {
    store: Arc<dyn Store>,
    key: AccessKey,
    watches: Arc<Semaphore>,
}

/// Routes `/api/v1/store/...` that offer `store` to whoever has `key`.
pub fn router(store: Arc<dyn Store>, key: AccessKey, limits: Limits) -> Router {
    let watches = Arc::new(Semaphore::new(limits.watches_max));
    let served = Served { store, key, watches };
    Router::new()
        .route(ROOT, get(state))
        .route(&format!("{ROOT}/{{collection}}"), get(list))
        .route(&format!("{ROOT}/{{collection}}/{{id}}"), get(read).put(write).delete(remove))
        .layer(DefaultBodyLimit::max(VALUE_BYTES_MAX))
        .route_layer(middleware::from_fn_with_state(served.clone(), admit))
        .with_state(served)
}

/// Lets in who has the key, bounds the time, marks the answer.
async fn admit(State(served): State<Served>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let is_admitted = header.is_some_and(|header| served.key.admits(header.as_bytes()));
    let mut response = if is_admitted {
        match tokio::time::timeout(REQUEST_WITHIN, next.run(request)).await {
            Ok(response) => response,
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    } else {
        (StatusCode::UNAUTHORIZED, "the store needs the cluster key\n").into_response()
    };
    response.headers_mut().insert(MARK, HeaderValue::from_static("1"));
    response
}

async fn state(State(served): State<Served>) -> StatusCode {
    match served.store.state() {
        StoreState::Up => StatusCode::NO_CONTENT,
        StoreState::Down { .. } => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    watch: bool,
}

async fn list(
    State(served): State<Served>,
    Path(collection): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    let Ok(collection) = collection.parse::<Collection>() else { return no_such_name() };
    if asked.watch {
        return watching::answer(served.store.watch(collection), served.watches);
    }
    match served.store.list(collection).await {
        Ok(records) => lines(&records),
        Err(error) => unavailable(&error),
    }
}

fn lines(records: &[Record]) -> Response {
    let mut text = Vec::new();
    Line::Snapshot(records.len()).write(&mut text);
    for record in records {
        Line::Put(record.into()).write(&mut text);
    }
    ([(header::CONTENT_TYPE, watching::CONTENT_TYPE)], text).into_response()
}

async fn read(
    State(served): State<Served>,
    Path(name): Path<(String, String)>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(key) = key(&name) else { return no_such_name() };
    if asked.watch {
        return watching::answer(served.store.watch_one(&key), served.watches);
    }
    match served.store.get(&key).await {
        Ok(Some(record)) => with_record(StatusCode::OK, record),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn write(
    State(served): State<Served>,
    Path(name): Path<(String, String)>,
    headers: HeaderMap,
    value: Bytes,
) -> Response {
    let Some(key) = key(&name) else { return no_such_name() };
    let Some(write) = write_of(&headers) else { return bad_header() };
    match served.store.put(&key, value, write).await {
        Ok(version) => (StatusCode::NO_CONTENT, [(header::ETAG, format!("\"{version}\""))]).into_response(),
        Err(PutError::Unconfirmed { version }) => {
            let headers = [
                (header::ETAG, format!("\"{version}\"")),
                (HeaderName::from_static(DURABLE), "unconfirmed".into()),
            ];
            (StatusCode::NO_CONTENT, headers).into_response()
        }
        Err(error) => refused(error),
    }
}

async fn remove(
    State(served): State<Served>,
    Path(name): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let Some(key) = key(&name) else { return no_such_name() };
    let Some(expect) = expected(&headers) else { return bad_header() };
    match served.store.delete(&key, expect).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => refused(error),
    }
}

fn key((collection, id): &(String, String)) -> Option<Key> {
    Key::new(collection.parse().ok()?, id).ok()
}

fn write_of(headers: &HeaderMap) -> Option<Write> {
    let mut write = Write::expecting(expected(headers)?);
    if let Some(lease) = headers.get(LEASE) {
        write = write.lease(Duration::from_millis(lease.to_str().ok()?.parse().ok()?));
    }
    Some(if headers.contains_key(DURABLE) { write.durable() } else { write })
}

/// `None` if the headers are malformed.
fn expected(headers: &HeaderMap) -> Option<Expect> {
    match (headers.get(header::IF_MATCH), headers.get(header::IF_NONE_MATCH)) {
        (None, None) => Some(Expect::Any),
        (None, Some(any)) => (any == "*").then_some(Expect::Absent),
        (Some(version), None) => {
            let version = version.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
            version.parse().ok().map(Expect::Version)
        }
        (Some(_), Some(_)) => None,
    }
}

fn with_record(status: StatusCode, record: Record) -> Response {
    let headers = [
        (header::ETAG, format!("\"{}\"", record.version)),
        (header::CONTENT_TYPE, "application/octet-stream".into()),
        (header::CACHE_CONTROL, "no-store".into()),
    ];
    (status, headers, Body::from(record.value)).into_response()
}

fn refused(error: PutError) -> Response {
    match error {
        PutError::Conflict { current: Some(record) } => with_record(StatusCode::PRECONDITION_FAILED, *record),
        PutError::Conflict { current: None } => StatusCode::PRECONDITION_FAILED.into_response(),
        PutError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        PutError::Full => StatusCode::INSUFFICIENT_STORAGE.into_response(),
        PutError::Unconfirmed { .. } => StatusCode::NO_CONTENT.into_response(),
        PutError::Unavailable(error) => unavailable(&error),
    }
}

fn unavailable(error: &Unavailable) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
}

fn no_such_name() -> Response {
    (StatusCode::BAD_REQUEST, "no such collection, or the id is no id\n").into_response()
}

fn bad_header() -> Response {
    let text = "If-Match is a quoted version, If-None-Match is *, not both; the lease is in milliseconds\n";
    (StatusCode::BAD_REQUEST, text).into_response()
}
