//! Sends viewers and publishers to the node that has a place for them: 307, which keeps the method and the body.
//!
//! Browsers drop `Authorization` when a redirect leads to another origin, so what was checked here travels as a ticket in
//! the path. Whoever comes with a ticket is not sent on: no two nodes can play ball with anybody.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::Credential;
use access::tickets::Grant;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use controller::{Asker, Sent};
use model::{BroadcastId, JoinName, NodeId, Right, TraceParent};
use signaling::SessionId;
use signaling::http::Problem;
use tracing::field::display;

use super::patience::Patience;
use super::{App, TRACE_PARENT, random};
use crate::control::Control;
use crate::join;

/// Where a request belongs.
pub(super) enum Place {
    /// Here.
    Here,
    /// To this URL, under this name.
    There(String, JoinName),
}

/// Where a publisher or viewer belongs that has shown what lets it in; not, if it can be helped, at the node that is `lost`
/// to it, by host and port. A publisher waits a moment for somebody who takes it.
///
/// # Errors
/// If nobody takes it.
pub(super) async fn place(
    app: &App,
    (right, broadcast, lost): (Right, &BroadcastId, Option<&str>),
    (credential, span, client): (Option<Credential>, Option<TraceParent>, IpAddr),
    patience: &mut Patience,
) -> Result<Place, Problem> {
    let Some(control) = &app.control else { return Ok(Place::Here) };
    let is_draining = app.is_draining.load(std::sync::atomic::Ordering::Relaxed);
    let can_serve = match right {
        Right::Publish => app.ingest.is_some(),
        Right::View => !app.shards.is_empty(),
    };
    let here = (can_serve && !is_draining).then_some(&control.about.node);
    let asker = Asker { broadcast, here, lost };
    let mut draws = Draws::new()?;
    let sent = loop {
        let sent = match right {
            Right::Publish => control.front_door.publisher(asker, &mut || draws.next()).await,
            Right::View => control.front_door.viewer(asker, &mut || draws.next()).await,
        };
        let may_wait = matches!(sent, Sent::Nowhere(_)) && here.is_none() && right == Right::Publish;
        if !may_wait || !patience.a_moment().await {
            break sent;
        }
    };
    match sent {
        Sent::Here => Ok(Place::Here),
        Sent::To { node, url } => {
            patience.served();
            let ticket = ticket(app, (right, broadcast, &node), credential)?;
            let join = join::of(Some(&ticket), span)?;
            let (right_name, client_address) = (right.as_str(), app.sessions.shown(client).map(display));
            tracing::info!(%broadcast, to = %node, %join, right = right_name, client_address, "sent on to another node");
            Ok(Place::There(target(&url, right, broadcast, &ticket), join))
        }
        // The node has not been seen by a controller yet, or none is there: it does what it can by itself.
        Sent::Nowhere(_) if here.is_some() => Ok(Place::Here),
        Sent::Nowhere(nowhere) => {
            let detail = format!("This cannot be served at the moment: {nowhere}. Try again soon.");
            Err(Problem::new(503, "nowhere", detail).with_header("Retry-After", 2))
        }
    }
}

/// The URL of a broadcast at the node that it is published to, if that is another one, for somebody who has shown what lets
/// a publisher in.
///
/// # Errors
/// If no ticket can be made.
pub(super) async fn origin(
    app: &App,
    broadcast: &BroadcastId,
    credential: Option<Credential>,
) -> Result<Option<String>, Problem> {
    let Some(control) = &app.control else { return Ok(None) };
    let Some((node, url)) = control.front_door.origin(broadcast).await else { return Ok(None) };
    if node == control.about.node {
        return Ok(None);
    }
    let ticket = ticket(app, (Right::Publish, broadcast, &node), credential)?;
    Ok(Some(target(&url, Right::Publish, broadcast, &ticket)))
}

/// The answer that sends somebody there. A redirect cannot add a header to the next request, so the span that this one
/// is a part of stands in the URL.
pub(super) fn there(url: &str, span: Option<TraceParent>) -> Response {
    let url = match span {
        Some(span) => format!("{url}?{TRACE_PARENT}={span}"),
        None => url.to_owned(),
    };
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, &*url), (header::CACHE_CONTROL, "no-store")])
        .into_response()
}

fn target(url: &str, right: Right, broadcast: &BroadcastId, ticket: &str) -> String {
    let endpoint = match right {
        Right::Publish => "whip",
        Right::View => "whep",
    };
    format!("{}/{endpoint}/{broadcast}/t/{ticket}", url.trim_end_matches('/'))
}

fn ticket(
    app: &App,
    (right, broadcast, target): (Right, &BroadcastId, &NodeId),
    credential: Option<Credential>,
) -> Result<String, Problem> {
    let ticket = app.gate.issue(&Grant { right, broadcast, target }, credential)?;
    Ok(ticket.as_str().to_owned())
}

/// How many viewers of a draining node were told to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// They go.
    pub told: u64,
    /// Their players do not listen, or there is no place for them: they stay until the deadline.
    pub unreachable: u64,
}

/// Tells every viewer of this node where to go, spread over a time.
pub async fn move_viewers(app: &Arc<App>, control: &Arc<Control>, over: Duration) -> Told {
    control.front_door.refresh().await;
    let place = |session: SessionId, broadcast: &BroadcastId| {
        let mut draws = Draws::new().ok()?;
        let asker = Asker { broadcast, here: None, lost: None };
        match control.front_door.viewer_at_once(asker, &mut || draws.next()) {
            Sent::To { node, url } if node != control.about.node => {
                // What its token was good for here it is good for there, though it may have expired since.
                let credential = app.gate.credential(session);
                let ticket = ticket(app, (Right::View, broadcast, &node), credential).ok()?;
                Some(target(&url, Right::View, broadcast, &ticket))
            }
            Sent::To { .. } | Sent::Here | Sent::Nowhere(_) => None,
        }
    };
    // The list of places must not grow old while viewers are told one after the other.
    let refreshing = async {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        loop {
            tick.tick().await;
            control.front_door.refresh().await;
        }
    };
    let moved = tokio::select! {
        moved = app.move_viewers(over, place) => moved,
        never = refreshing => never,
    };
    Told { told: moved.told, unreachable: moved.not_subscribed + moved.no_place }
}

/// Random numbers from one call of the kernel's generator (xorshift64*).
struct Draws(u64);

impl Draws {
    fn new() -> Result<Self, Problem> {
        Ok(Self(u64::from_be_bytes(random()?) | 1))
    }

    const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}
