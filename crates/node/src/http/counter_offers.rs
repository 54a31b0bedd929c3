//! Counter-offers of WHEP that are out, and the sessions that their answers make (draft-ietf-wish-whep, "Server Sends
//! Counter-offer").
//!
//! None takes anything of a shard until it is answered: who never answers costs an entry here for half a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use model::{BroadcastId, Right};
use signaling::http::{self as rules, Action, EntityTag, Problem};
use signaling::whep::counter_offer;
use signaling::{SessionId, sdp};

use super::whep::{self, Slot, Viewer};
use super::{Addresses, App, Created, CreatedKind, Posted, insert, origin, read_body, reply_response, text};
use crate::gate::Visitor;

/// Counter-offers that are out at once. Beyond, offers are refused in words alone.
const OPEN_MAX: usize = 1024;

/// Those that can still be answered.
#[derive(Default)]
pub struct CounterOffers(Mutex<BTreeMap<SessionId, Open>>);

struct Open {
    viewer: Viewer,
    shard: usize,
    until: Instant,
}

impl CounterOffers {
    /// Keeps one; `false` if there are too many.
    fn keep(&self, now: Instant, viewer: Viewer, shard: usize) -> bool {
        let mut open = self.lock();
        open.retain(|_, open| open.until > now);
        if open.len() >= OPEN_MAX {
            return false;
        }
        let until = now + Duration::from_secs(counter_offer::VALID_SECS);
        open.insert(viewer.session, Open { viewer, shard, until });
        true
    }

    /// Whether one of a broadcast can be answered under this name.
    pub(super) fn has(&self, now: Instant, id: SessionId, broadcast: &BroadcastId) -> bool {
        self.lock().get(&id).is_some_and(|open| open.until > now && open.viewer.broadcast == *broadcast)
    }

    fn take(&self, id: SessionId) -> Option<Open> {
        self.lock().remove(&id)
    }

    fn put_back(&self, open: Open) {
        self.lock().insert(open.viewer.session, open);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An offer of our own to who POSTed one that cannot be taken; `None` if too many are out.
pub(super) fn make(app: &App, posted: &Posted) -> Result<Option<Created>, Problem> {
    let viewer = Viewer::new(app, posted)?;
    let shard = whep::choose_shard(app).map_err(|refusal| whep::refuse(refusal, viewer.id))?;
    let candidates = whep::viewer_candidates(app, shard, posted.addresses);
    let description = counter_offer::write(&viewer.parameters(&whep::own_fingerprint(app), &candidates)?);
    let (session, entity_tag) = (viewer.session, viewer.entity_tag.clone());
    let location = format!("{}/whep/{}/{session}", posted.origin, posted.broadcast);
    tracing::debug!(broadcast = %posted.broadcast, join = %posted.join, "answered with a counter-offer");
    let is_kept = app.counter_offers.keep(Instant::now(), viewer, shard);
    let kind = CreatedKind::CounterOffer;
    let extensions = Vec::new();
    Ok(is_kept.then_some(Created { kind, description, location, entity_tag, session, extensions }))
}

/// A request for what a counter-offer named, which is no session yet.
pub(super) async fn handle(
    app: &Arc<App>,
    (id, broadcast): (SessionId, &BroadcastId),
    addresses: Addresses,
    action: Action,
    request: Request,
) -> Result<Response, Problem> {
    if let Action::Reply(reply) = action {
        return Ok(reply_response(&reply));
    }
    let client = addresses.peer.ip();
    let location = format!("{}/whep/{broadcast}/{id}", origin(app, &request, addresses));
    let (head, body) = request.into_parts();
    let token = rules::bearer::token(text(&head.headers, header::AUTHORIZATION))?;
    app.gate.admit_to(id, &Visitor { right: Right::View, broadcast, client, token, ticket: None }).await?;
    if action == Action::Delete {
        app.counter_offers.take(id);
        return Ok(StatusCode::OK.into_response());
    }
    rules::check_content_type(text(&head.headers, header::CONTENT_TYPE), rules::SDP)?;
    let entity_tag = begin(app, (id, broadcast), client, &read_body(body).await?).await?;
    let mut response = (StatusCode::NO_CONTENT, [(header::ETAG, entity_tag.to_string())]).into_response();
    for link in whep::extensions(&location) {
        insert(response.headers_mut(), "Link", &link.to_string());
    }
    Ok(response)
}

/// Begins the session that this answer makes. A wrong one leaves the counter-offer as it is.
async fn begin(
    app: &Arc<App>,
    (id, broadcast): (SessionId, &BroadcastId),
    client: IpAddr,
    answer: &str,
) -> Result<EntityTag, Problem> {
    let answer = sdp::Session::parse(answer).map_err(|error| {
        Problem::new(400, "answer-unreadable", format!("The answer cannot be read: {error}."))
    })?;
    let accepted = counter_offer::accept(&answer, &whep::policy(app, broadcast))?;
    if app.is_draining.load(Ordering::Relaxed) {
        return Err(Problem::overloaded(2));
    }
    let open = app.counter_offers.take(id).ok_or_else(Problem::session_not_found)?;
    let slot = match Slot::take(app, &open.viewer, client, Ok(open.shard)) {
        Ok(slot) => slot,
        Err(problem) => {
            // It may be answered again when there is room.
            app.counter_offers.put_back(open);
            return Err(problem);
        }
    };
    let entity_tag = open.viewer.entity_tag.clone();
    whep::begin(app, open.viewer, &accepted, slot).await?;
    Ok(entity_tag)
}
