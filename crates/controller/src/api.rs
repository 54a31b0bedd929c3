//! `/api/v1` for operators: what is there, what was decided, and the few things that can be ordered.
//!
//! Who may call it is for whoever mounts it to say. `openapi.json` beside this file describes it; a test holds both
//! together.

mod broadcasts;
mod slots;
mod trees;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::NodeId;
use registry::{Assignment, Drain, RegistryError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::run::Handle;
use crate::view::{DecisionView, InstallationView, NodeView};

/// Dashboards that may follow at once.
const STREAMS_MAX: usize = 64;
/// An idle stream says so this often, so that both ends notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The longest deadline of a drain.
const DRAIN_SECS_MAX: u32 = 24 * 3600;

/// The description of this API.
pub const OPENAPI: &str = include_str!("openapi.json");

#[derive(Clone)]
struct Api {
    controller: Handle,
    streams: Arc<Semaphore>,
}

/// The routes, relative to the root of the listener.
pub fn router(controller: Handle) -> Router {
    let api = Api { controller, streams: Arc::new(Semaphore::new(STREAMS_MAX)) };
    Router::new()
        .route("/api/v1/openapi.json", get(openapi))
        .route("/api/v1/installation", get(installation))
        .route("/api/v1/events", get(events))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/{node}", get(node))
        .route("/api/v1/nodes/{node}/drain", post(drain))
        .route("/api/v1/nodes/{node}/undrain", post(undrain))
        .route("/api/v1/viewers", get(viewers))
        .route("/api/v1/decisions", get(decisions))
        .route("/api/v1/targets", get(targets))
        .merge(broadcasts::router())
        .merge(slots::router())
        .merge(trees::router())
        .with_state(api)
}

/// Why a call did not succeed (RFC 9457).
#[derive(Debug, Serialize)]
struct Problem {
    #[serde(skip)]
    code: StatusCode,
    title: &'static str,
    status: u16,
    detail: String,
}

impl Problem {
    fn new(code: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self { code, title, status: code.as_u16(), detail: detail.into() }
    }

    fn not_found(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", format!("There is no {what} named {name}."))
    }
}

impl From<JsonRejection> for Problem {
    fn from(error: JsonRejection) -> Self {
        Self::new(error.status(), "not understood", error.body_text())
    }
}

fn unprocessable(detail: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not possible", detail)
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Unavailable(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "store away",
                format!(
                    "The store does not answer: {error}. Media is not affected; try again when it is back."
                ),
            ),
            error if error.is_conflict() => Self::new(
                StatusCode::CONFLICT,
                "changed meanwhile",
                "Somebody else changed it at the same time. Look again and repeat the call.",
            ),
            error => unprocessable(format!("{error}.")),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_string(&self).unwrap_or_default();
        (self.code, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn installation(State(api): State<Api>) -> Response {
    let view: &InstallationView = &api.controller.view();
    Json(view).into_response()
}

/// Server-sent events: the whole installation each time it was looked at.
async fn events(State(api): State<Api>) -> Result<Response, Problem> {
    let permit = api.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = format!("{STREAMS_MAX} dashboards follow already, the most that may.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many", detail)
    })?;
    let first = (api.controller, permit, true);
    let stream = futures_util::stream::unfold(first, |(mut controller, permit, is_first)| async move {
        if !is_first && !controller.changed().await {
            return None;
        }
        let data = serde_json::to_string(&*controller.view()).unwrap_or_default();
        let event = Event::default().event("installation").data(data);
        Some((Ok::<_, Infallible>(event), (controller, permit, false)))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

async fn nodes(State(api): State<Api>) -> Json<Vec<NodeView>> {
    Json(api.controller.view().nodes.clone())
}

async fn node(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<NodeView>, Problem> {
    Ok(Json(find_node(&api, &id)?))
}

fn find_node(api: &Api, id: &str) -> Result<NodeView, Problem> {
    let view = api.controller.view();
    let found = view.nodes.iter().find(|node| node.id == id).cloned();
    found.ok_or_else(|| Problem::not_found("node", id))
}

/// How a node is to be drained.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainOrder {
    /// Seconds until those who are still there are closed.
    deadline_secs: u32,
}

async fn drain(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Result<Json<DrainOrder>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(order) = body?;
    if order.deadline_secs > DRAIN_SECS_MAX {
        return Err(unprocessable(format!("A deadline of more than {DRAIN_SECS_MAX} seconds is none.")));
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let drain = Drain { id: since_1970.as_millis() as u64, deadline_secs: order.deadline_secs };
    order_drain(&api, &id, Some(drain)).await
}

async fn undrain(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    order_drain(&api, &id, None).await
}

async fn order_drain(api: &Api, id: &str, drain: Option<Drain>) -> Result<StatusCode, Problem> {
    find_node(api, id)?;
    let node = NodeId::new(id).map_err(|_| Problem::not_found("node", id))?;
    let change = |found: Option<&Assignment>| {
        let none = || Assignment { node: node.clone(), parents: Vec::new(), paths: 2, term: 0, drain: None };
        Some(Assignment { drain, ..found.cloned().unwrap_or_else(none) })
    };
    api.controller.registry().update(id, change).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Viewers of one broadcast.
#[derive(Serialize)]
struct Audience {
    broadcast: String,
    tree: String,
    viewers: u64,
    /// Where they are.
    nodes: Vec<NodeAudience>,
}

/// Viewers of one broadcast at one node.
#[derive(Serialize)]
struct NodeAudience {
    node: String,
    viewers: u32,
}

async fn viewers(State(api): State<Api>) -> Json<Vec<Audience>> {
    let view = api.controller.view();
    let audience = view.broadcasts.iter().map(|broadcast| {
        let at = |node: &NodeView| {
            let watched = node.broadcasts.iter().find(|it| it.broadcast.as_str() == broadcast.id)?;
            Some(NodeAudience { node: node.id.clone(), viewers: watched.viewers })
        };
        let is_there = |node: &&NodeView| node.tree == broadcast.tree && node.health != "dead";
        Audience {
            broadcast: broadcast.id.clone(),
            tree: broadcast.tree.clone(),
            viewers: broadcast.viewers,
            nodes: view.nodes.iter().filter(is_there).filter_map(at).filter(|it| it.viewers > 0).collect(),
        }
    });
    Json(audience.collect())
}

async fn decisions(State(api): State<Api>) -> Json<Vec<DecisionView>> {
    Json(api.controller.view().decisions.clone())
}

/// One group of targets, as Prometheus' HTTP service discovery wants it.
#[derive(Serialize)]
struct TargetGroup {
    targets: [String; 1],
    labels: TargetLabels,
}

/// Labels that Prometheus sees before it scrapes.
#[derive(Serialize)]
struct TargetLabels {
    __meta_media_tree_tree_id: String,
    __meta_media_tree_node_id: String,
    __meta_media_tree_node_type: &'static str,
    __meta_media_tree_region: String,
}

async fn targets(State(api): State<Api>) -> Json<Vec<TargetGroup>> {
    let view = api.controller.view();
    let group = |node: &NodeView| {
        Some(TargetGroup {
            targets: [node.ops.clone()?],
            labels: TargetLabels {
                __meta_media_tree_tree_id: node.tree.clone(),
                __meta_media_tree_node_id: node.id.clone(),
                __meta_media_tree_node_type: node.role,
                __meta_media_tree_region: node.region.clone(),
            },
        })
    };
    // The dead too: that they do not answer is what an alert is made of.
    Json(view.nodes.iter().chain(&view.missing).filter_map(group).collect())
}
