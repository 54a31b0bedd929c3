//! `POST /whip/{broadcast}/cues`: a caption or other timed data of a broadcast, from whoever may publish it: for encoders
//! without data channels, and for those who write along and publish nothing.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::Right;
use signaling::cue::CueError;
use signaling::http::{self as rules, Action, Problem, Resource};
use signaling::whep::events;
use telemetry::CueResult;

use super::{
    Addresses, App, Door, broadcast_id, problem_response, read_body, redirect, reply_response,
    take_allowance, text, with_cors,
};
use crate::gate::Visitor;

/// When it may be tried again: by then a long one has room.
const RATE_RETRY_SECS: u32 = 1;

/// `/whip/{broadcast}/cues`.
pub(super) async fn post(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path(broadcast): Path<String>,
    request: Request,
) -> Response {
    answer(&app, Door { addresses, broadcast: &broadcast, ticket: None }, request).await
}

/// `/whip/{broadcast}/t/{ticket}/cues`: another node has sent it here.
pub(super) async fn post_by_ticket(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, ticket)): Path<(String, String)>,
    request: Request,
) -> Response {
    answer(&app, Door { addresses, broadcast: &broadcast, ticket: Some(&ticket) }, request).await
}

async fn answer(app: &App, door: Door<'_>, request: Request) -> Response {
    let result = take(app, door, request).await;
    with_cors(result.unwrap_or_else(|problem| problem_response(&problem)))
}

async fn take(app: &App, door: Door<'_>, request: Request) -> Result<Response, Problem> {
    let Door { addresses, ticket, .. } = door;
    if let Action::Reply(reply) = rules::action(Resource::Cues, request.method().as_str())? {
        return Ok(reply_response(&reply));
    }
    take_allowance(app, addresses)?;
    let broadcast = broadcast_id(door.broadcast)?;
    let token = rules::bearer::token(text(request.headers(), header::AUTHORIZATION))?;
    let client = addresses.peer.ip();
    let visitor = Visitor { right: Right::Publish, broadcast: &broadcast, client, token, ticket };
    let credential = app.gate.admit(&visitor).await?;
    rules::check_content_type(text(request.headers(), header::CONTENT_TYPE), events::JSON)?;
    if ticket.is_none()
        && let Some(url) = redirect::origin(app, &broadcast, credential).await?
    {
        return Ok(redirect::there(&format!("{url}/cues"), None));
    }
    let Some((tree, _)) = &app.ingest else {
        return Err(Problem::new(404, "not-an-injection-node", "This node does not take publishers."));
    };
    let document = read_body(request.into_body()).await?;
    let result = tree.cue(broadcast.clone(), document.into_bytes()).await;
    let refused =
        |status, code, error: CueError| Err(Problem::new(status, code, format!("Not taken: {error}.")));
    match result {
        CueResult::Accepted => Ok(StatusCode::NO_CONTENT.into_response()),
        CueResult::TooLarge => refused(413, "too-large", CueError::TooLarge),
        CueResult::Unreadable => refused(422, "cue-unreadable", CueError::Unreadable),
        CueResult::Rate => Err(Problem::rate_limited(RATE_RETRY_SECS)),
        CueResult::NotPublished => {
            let detail = format!("Nobody publishes {broadcast} at the moment.");
            Err(Problem::new(404, "not-published", detail))
        }
    }
}
