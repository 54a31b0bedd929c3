//! `GET {session}/advice`: what a publisher could do better, for whoever made its session; `GET /whip/{broadcast}/advice`:
//! the same for whoever may publish, because an encoder tells nobody the URL of its session, and over RTMP has none.

use std::sync::Arc;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse as _, Response};
use model::Right;
use serde::Serialize;
use signaling::SessionId;
use signaling::http::{self as rules, Action, Problem, Resource};

use super::{
    Addresses, App, Door, authorize, broadcast_id, problem_response, redirect, reply_response,
    take_allowance, text, with_cors,
};
use crate::advice::AdviceView;
use crate::gate::Visitor;
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
        Ok(document(app.advice.of_publisher(publisher)))
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}

/// `/whip/{broadcast}/advice`.
pub(super) async fn show_of_broadcast(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path(broadcast): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    of_broadcast(&app, Door { addresses, broadcast: &broadcast, ticket: None }, (&method, &headers)).await
}

/// `/whip/{broadcast}/t/{ticket}/advice`: another node has sent the asker here.
pub(super) async fn show_by_ticket(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, ticket)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let door = Door { addresses, broadcast: &broadcast, ticket: Some(&ticket) };
    of_broadcast(&app, door, (&method, &headers)).await
}

async fn of_broadcast(app: &App, door: Door<'_>, (method, headers): (&Method, &HeaderMap)) -> Response {
    let Door { addresses, ticket, .. } = door;
    let result = async {
        if let Action::Reply(reply) = rules::action(Resource::Advice, method.as_str())? {
            return Ok(reply_response(&reply));
        }
        take_allowance(app, addresses)?;
        let broadcast = broadcast_id(door.broadcast)?;
        let token = rules::bearer::token(text(headers, header::AUTHORIZATION))?;
        let client = addresses.peer.ip();
        let visitor = Visitor { right: Right::Publish, broadcast: &broadcast, client, token, ticket };
        let credential = app.gate.admit(&visitor).await?;
        if let Some(advice) = app.advice.of_broadcast(&broadcast) {
            return Ok(document(advice));
        }
        if ticket.is_none()
            && let Some(url) = redirect::origin(app, &broadcast, credential).await?
        {
            return Ok(redirect::there(&format!("{url}/advice"), None));
        }
        if app.ingest.is_none() && app.control.is_none() {
            return Err(Problem::new(404, "not-an-injection-node", "This node does not take publishers."));
        }
        let detail = format!("Nobody publishes {broadcast} at the moment.");
        Err(Problem::new(404, "not-published", detail))
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}

fn document(advice: Vec<AdviceView>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(AdviceDocument { advice })).into_response()
}
