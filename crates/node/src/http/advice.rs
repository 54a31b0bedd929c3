//! `GET {session}/advice`: what a publisher could do better, for whoever made its session.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use signaling::SessionId;
use signaling::http::{self as rules, Action, Problem, Resource};

use super::{
    Addresses, App, authorize, broadcast_id, problem_response, reply_response, take_allowance, with_cors,
};
use crate::advice::AdviceView;
use crate::sessions::Peer;

/// The body.
#[derive(Serialize)]
struct AdviceDocument {
    /// The gravest first; empty if all is well.
    advice: Vec<AdviceView>,
}

/// `/whip/{broadcast}/{session}/advice`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let result = async {
        if let Action::Reply(reply) = rules::action(Resource::Advice, method.as_str())? {
            return Ok(reply_response(&reply));
        }
        take_allowance(&app, addresses)?;
        let broadcast = broadcast_id(&broadcast)?;
        let id: SessionId = session.parse().map_err(|_| Problem::session_not_found())?;
        let found = app.sessions.get(id).filter(|session| session.broadcast == broadcast);
        let session = found.ok_or_else(Problem::session_not_found)?;
        let Peer::Publisher(publisher) = session.peer else { return Err(Problem::session_not_found()) };
        authorize(&app, addresses, (id, &session), &headers).await?;
        let advice = app.advice.of_publisher(publisher);
        Ok(([(header::CACHE_CONTROL, "no-store")], Json(AdviceDocument { advice })).into_response())
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}
