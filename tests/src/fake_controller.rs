//! An operator API that says what a test wants, before the pages of a real program: trees of any size and in any state.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::Program;

/// The fake; ends with its value.
pub struct FakeController {
    /// Where it listens.
    pub address: SocketAddr,
    views: watch::Sender<Value>,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    views: watch::Receiver<Value>,
    token: Option<&'static str>,
    has_stream: AtomicBool,
    pages: String,
    client: reqwest::Client,
}

impl FakeController {
    /// Serves `view`, to those who have `token` if there is one, and the pages of `program`.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start(program: &Program, view: Value, token: Option<&'static str>) -> anyhow::Result<Self> {
        let (views, receiver) = watch::channel(view);
        let shared = Arc::new(Shared {
            views: receiver,
            token,
            has_stream: AtomicBool::new(true),
            pages: program.url(""),
            client: reqwest::Client::new(),
        });
        let router = Router::new()
            .route("/api/v1/events", get(events))
            .route("/api/v1/installation", get(installation))
            .fallback(page)
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, views, shared, server })
    }

    /// The dashboard.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/dashboard", self.address)
    }

    /// Says something else from now on.
    pub fn say(&self, view: Value) {
        self.views.send_replace(view);
    }

    /// Refuses event streams.
    pub fn refuse_streams(&self) {
        self.shared.has_stream.store(false, Ordering::Relaxed);
    }
}

impl Drop for FakeController {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn refuse(status: StatusCode, detail: &str) -> Response {
    let problem = json!({ "title": "refused", "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// The answer to somebody who may not ask.
fn refusal(shared: &Shared, headers: &HeaderMap) -> Option<Response> {
    let token = shared.token?;
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let is_operator = given == Some(&format!("Bearer {token}"));
    (!is_operator).then(|| refuse(StatusCode::UNAUTHORIZED, "This is not an operator token."))
}

async fn installation(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let view = || Json(shared.views.borrow().clone()).into_response();
    refusal(&shared, &headers).unwrap_or_else(view)
}

async fn events(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&shared, &headers) {
        return refusal;
    }
    if !shared.has_stream.load(Ordering::Relaxed) {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "Too many dashboards.");
    }
    let mut views = shared.views.clone();
    views.mark_changed();
    let stream = futures_util::stream::unfold(views, |mut views| async move {
        views.changed().await.ok()?;
        let event = Event::default().event("installation").data(views.borrow_and_update().to_string());
        Some((Ok::<_, Infallible>(event), views))
    });
    Sse::new(stream).into_response()
}

/// What the program serves, with the headers that it serves it with.
async fn page(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, Response> {
    let failed = |error: reqwest::Error| refuse(StatusCode::BAD_GATEWAY, &error.to_string());
    let url = format!("{}{}", shared.pages, request.uri().path());
    let answer = shared.client.get(url).send().await.map_err(failed)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = (status, Body::from(answer.bytes().await.map_err(failed)?)).into_response();
    for name in [header::CONTENT_TYPE, header::CONTENT_SECURITY_POLICY, header::X_CONTENT_TYPE_OPTIONS] {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    Ok(response)
}

/// What a link has carried so far, for a stream of this many packets a second that began at some time in the past.
fn packets(packets_per_second: u128) -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // JavaScript counts exactly to 2^53.
    (since_1970.as_millis() % 1_000_000_000 * packets_per_second / 1000) as u64
}

/// A link to `parent` that carries 1800 packets a second, of which 36 are lost on it and repaired.
#[must_use]
pub fn carries(parent: &str) -> Value {
    json!({
        "node": parent, "is_assigned": true, "is_alive": true, "joined": 1, "round_trip_ms": 1.25,
        "packets": packets(1800), "duplicates": 0, "repaired": packets(36)
    })
}

/// A link to `parent` that is there in case another one fails.
#[must_use]
pub fn stands_by(parent: &str) -> Value {
    json!({
        "node": parent, "is_assigned": true, "is_alive": true, "joined": 0, "round_trip_ms": null, "packets": 0,
        "duplicates": 0, "repaired": 0
    })
}

/// A node that is well.
#[must_use]
pub fn node(id: &str, role: &str, region: &str, parents: &[Value]) -> Value {
    let is = |wanted: &str, number: u32| if role == wanted { number } else { 0 };
    json!({
        "id": id, "tree": "main", "role": role, "health": "ready", "region": region, "zone": null,
        "host": format!("host-of-{id}"), "url": null, "link": null, "ops": null,
        "capacity": { "viewers": is("egress", 1000), "publishers": is("injection", 50), "children": 64 - is("egress", 64) },
        "load": {
            "viewers": is("egress", 400), "publishers": is("injection", 1), "children": is("relay", 16),
            "cpu_percent": 20.0, "shard_percent": 10.0, "transmit_mbps": 1000.0, "packets_per_second": 144_000.0
        },
        "parents": parents, "broadcasts": [{ "broadcast": "demo", "viewers": is("egress", 400) }], "drain": null,
        "version": "0.1.0"
    })
}

/// An installation of these nodes, with one broadcast.
#[must_use]
pub fn installation_of(nodes: &[Value]) -> Value {
    let viewers: u64 = nodes.iter().filter_map(|node| node["load"]["viewers"].as_u64()).sum();
    json!({
        "controller": "controller-1", "leader": "controller-1", "is_leader": true, "is_store_up": true,
        "is_settled": true, "decide_micros": 900, "findings": [],
        "trees": [{
            "id": "main", "template": "standard", "shape": {}, "created": 1_795_000_000, "nodes": nodes.len(),
            "viewers": viewers, "broadcasts": 1
        }],
        "nodes": nodes,
        "broadcasts": [{ "id": "demo", "tree": "main", "origin": "injection-1", "state": "live", "viewers": viewers, "created": null }],
        "decisions": [{
            "tree": "main", "at": 1_795_000_000, "controller": "controller-1", "kind": "assign", "node": "relay-1",
            "reason": "relay-1 takes injection-1"
        }]
    })
}

/// One node of each role.
#[must_use]
pub fn three_nodes() -> Vec<Value> {
    vec![
        node("injection-1", "injection", "eu", &[]),
        node("relay-1", "relay", "eu", &[carries("injection-1")]),
        node("egress-1", "egress", "eu", &[carries("relay-1"), stands_by("injection-1")]),
    ]
}

/// A tree over three regions: 2 injection, 16 relay and 282 egress nodes, each egress node with two parents and a standby.
#[must_use]
pub fn three_hundred_nodes() -> Vec<Value> {
    let regions = ["ap", "eu", "us"];
    let mut nodes: Vec<Value> = (1..=2)
        .map(|number| node(&format!("injection-{number}"), "injection", regions[number], &[]))
        .collect();
    nodes.extend((0..16).map(|number| {
        let parents = [carries("injection-1"), carries("injection-2")];
        node(&format!("relay-{}", number + 1), "relay", regions[number % 3], &parents)
    }));
    nodes.extend((0..282).map(|number| {
        // Relays of the same region have the same remainder.
        let relay = |next: usize| format!("relay-{}", (number / 3 + next) % 5 * 3 + number % 3 + 1);
        let parents = [carries(&relay(0)), carries(&relay(1)), stands_by(&relay(2))];
        node(&format!("egress-{}", number + 1), "egress", regions[number % 3], &parents)
    }));
    nodes
}
