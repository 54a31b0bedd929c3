//! Broadcasts that operators make ahead of their first publisher, and the keys to publish them.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model::{BroadcastId, TreeId};
use serde::{Deserialize, Serialize};

use super::{Api, Problem, unprocessable};
use crate::declared::DeclareError;
use crate::view::BroadcastState;

/// The routes, relative to the root of the listener. `GET /api/v1/broadcasts` is every node's, for whoever watches.
pub(super) fn router() -> Router<Api> {
    Router::new()
        .route("/api/v1/broadcasts", post(create))
        .route("/api/v1/broadcasts/{broadcast}", get(show).delete(delete))
        .route("/api/v1/broadcasts/{broadcast}/publish-key", get(key).post(change_key))
}

/// A broadcast to be made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewBroadcast {
    id: String,
    /// The tree that carries it; by default the one that nodes belong to by default.
    tree: Option<String>,
    /// By default one is drawn at random.
    publish_key: Option<String>,
}

/// Another key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKey {
    /// By default one is drawn at random.
    publish_key: Option<String>,
}

/// What a publisher needs.
#[derive(Serialize)]
struct PublishKey<'a> {
    id: &'a str,
    /// Bearer token of the publisher.
    publish_key: &'a str,
    /// Relative to any node of the installation.
    whip_path: String,
}

impl From<DeclareError> for Problem {
    fn from(error: DeclareError) -> Self {
        match error {
            DeclareError::Registry(error) => error.into(),
            DeclareError::Key | DeclareError::Seal(_) => unprocessable(format!("{error}.")),
        }
    }
}

/// With the key in it, so that nobody keeps it on the way.
fn told(status: StatusCode, id: &BroadcastId, key: &str) -> Response {
    let body = PublishKey { id: id.as_str(), publish_key: key, whip_path: format!("/whip/{id}") };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn create(
    State(api): State<Api>,
    body: Result<Json<NewBroadcast>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body?;
    let id = BroadcastId::new(&new.id).map_err(|error| unprocessable(format!("{}: {error}.", new.id)))?;
    let tree = match &new.tree {
        None => api.controller.default_tree().clone(),
        Some(name) => {
            let is_there = api.controller.view().trees.iter().any(|tree| tree.id == *name);
            let tree =
                TreeId::new(name).ok().filter(|tree| is_there || tree == api.controller.default_tree());
            tree.ok_or_else(|| unprocessable(format!("There is no tree named {name}.")))?
        }
    };
    let made = api.controller.declared().declare(id.clone(), tree, new.publish_key).await;
    let key = made.map_err(|error| match error {
        DeclareError::Registry(error) if error.is_conflict() => {
            Problem::new(StatusCode::CONFLICT, "exists", format!("There is a broadcast named {id} already."))
        }
        error => error.into(),
    })?;
    let mut response = told(StatusCode::CREATED, &id, &key);
    if let Ok(location) = format!("/api/v1/broadcasts/{id}").parse() {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn show(State(api): State<Api>, Path(id): Path<String>) -> Result<Json<BroadcastState>, Problem> {
    let view = api.controller.view();
    let found = view.broadcasts.iter().find(|broadcast| broadcast.id == id).cloned();
    found.map(Json).ok_or_else(|| Problem::not_found("broadcast", &id))
}

async fn delete(State(api): State<Api>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    let broadcast = named(&id)?;
    let is_deleted = api.controller.declared().delete(&broadcast).await?;
    if is_deleted { Ok(StatusCode::NO_CONTENT) } else { Err(not_made(&id)) }
}

async fn key(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Problem> {
    let broadcast = named(&id)?;
    let key = api.controller.declared().key(&broadcast).await?.ok_or_else(|| not_made(&id))?;
    Ok(told(StatusCode::OK, &broadcast, &key))
}

async fn change_key(
    State(api): State<Api>,
    Path(id): Path<String>,
    body: Result<Json<NewKey>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(new) = body?;
    let broadcast = named(&id)?;
    let changed = api.controller.declared().change_key(&broadcast, new.publish_key).await?;
    let key = changed.ok_or_else(|| not_made(&id))?;
    Ok(told(StatusCode::OK, &broadcast, &key))
}

fn named(id: &str) -> Result<BroadcastId, Problem> {
    BroadcastId::new(id).map_err(|_| not_made(id))
}

/// One that is merely published has no key and cannot be deleted: it is over when its publisher is gone.
fn not_made(id: &str) -> Problem {
    let detail = format!("No broadcast named {id} was made ahead of its publisher.");
    Problem::new(StatusCode::NOT_FOUND, "not found", detail)
}
