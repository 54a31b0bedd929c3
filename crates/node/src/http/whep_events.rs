//! Server-sent events of viewers' sessions over HTTP: made by POST, read by GET, ended by DELETE (WHEP, "Server Sent
//! Events extension"); and the way to send viewers elsewhere.
//!
//! POST and DELETE want the token of the session. GET does not: `EventSource` cannot send one, and the URL of a stream
//! is as hard to guess as a token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use model::{BroadcastId, BroadcastState, Epoch};
use serde::{Deserialize, Serialize};
use signaling::SessionId;
use signaling::http::{self as rules, Action, Link, Problem, Resource};
use signaling::whep::events::{self, Kinds};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Addresses, App, authorize, broadcast_id, origin, problem_response, read_body, reply_response,
    take_allowance, text, with_cors,
};
use crate::aside::Aside;
use crate::event_streams::{CreateError, EventStreams, Looked, Truth};
use crate::sessions::{Peer, Session, Watching};

/// Changes that come closer together are told together.
const UPDATE_INTERVAL: Duration = Duration::from_millis(100);
/// How often readers are looked at when nothing changes: viewer counts fall due, and readers get stuck.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Events wait so long at most for the count of those who watch at other nodes: the first count that a player is told should
/// have them in it, and a store that answers slowly should delay nothing.
const COUNT_PATIENCE: Duration = Duration::from_millis(100);
/// The step in which viewers are sent away.
const MOVE_STEP: Duration = Duration::from_millis(20);
/// Longest time over which an operator spreads a move.
const MOVE_TIME_MAX: Duration = Duration::from_secs(600);

/// The `Link` of the extension, for the session at `location`.
pub(super) fn link(location: &str) -> Option<Link> {
    let link = Link::whep_extension(&format!("{location}/events"), events::EXTENSION);
    let named = link.and_then(|link| link.with("events", &events::Kind::list()));
    named.and_then(|link| link.with(events::MORE_EVENTS, &events::Kind::own_list())).ok()
}

/// `/whep/{broadcast}/{session}/events`.
pub(super) async fn entry(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session)): Path<(String, String)>,
    request: Request,
) -> Response {
    let result = async {
        if let Action::Reply(reply) = rules::action(Resource::EventsEntry, request.method().as_str())? {
            return Ok(reply_response(&reply));
        }
        take_allowance(&app, addresses)?;
        let (viewer_id, found) = viewer(&app, &broadcast, &session)?;
        authorize(&app, addresses, (viewer_id, &found), request.headers()).await?;
        let origin = origin(&app, &request, addresses);
        let content_type = text(request.headers(), header::CONTENT_TYPE).map(str::to_owned);
        let body = read_body(request.into_body()).await?;
        let kinds = Kinds::parse(content_type.as_deref(), &body)?;
        let id = SessionId::from_random(super::random()?);
        let run = app.directory.get(&found.broadcast).and_then(|entry| run_of(&entry.broadcast));
        found.events.create(Instant::now(), id, kinds, run).map_err(refused)?;
        let location = format!("{origin}/whep/{broadcast}/{session}/events/{id}");
        Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}

/// `/whep/{broadcast}/{session}/events/{stream}`.
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session, stream)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let names = StreamNames { broadcast: &broadcast, session: &session, stream: &stream };
    let asked = Asked { addresses, method: request.method(), headers: request.headers() };
    let result = read_or_end(&app, names, asked).await;
    with_cors(result.unwrap_or_else(|problem| problem_response(&problem)))
}

struct StreamNames<'a> {
    broadcast: &'a str,
    session: &'a str,
    stream: &'a str,
}

struct Asked<'a> {
    addresses: Addresses,
    method: &'a Method,
    headers: &'a HeaderMap,
}

async fn read_or_end(app: &App, names: StreamNames<'_>, asked: Asked<'_>) -> Result<Response, Problem> {
    let Asked { addresses, method, headers } = asked;
    let action = rules::action(Resource::EventStream, method.as_str())?;
    if let Action::Reply(reply) = action {
        return Ok(reply_response(&reply));
    }
    let (viewer_id, found) = viewer(app, names.broadcast, names.session)?;
    let id: SessionId = names.stream.parse().map_err(|_| not_found())?;
    if action == Action::Delete {
        take_allowance(app, addresses)?;
        authorize(app, addresses, (viewer_id, &found), headers).await?;
        return if found.events.delete(id) { Ok(StatusCode::OK.into_response()) } else { Err(not_found()) };
    }
    let body = found.events.read(id).ok_or_else(not_found)?;
    let headers = [
        (header::CONTENT_TYPE.as_str(), events::EVENT_STREAM),
        (header::CACHE_CONTROL.as_str(), "no-store"),
        // Said to nginx and its kin: pass each event on at once.
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

pub(super) fn viewer(app: &App, broadcast: &str, session: &str) -> Result<(SessionId, Session), Problem> {
    let broadcast = broadcast_id(broadcast)?;
    let id: SessionId = session.parse().map_err(|_| Problem::session_not_found())?;
    let found = app.sessions.get(id).filter(|session| session.broadcast == broadcast);
    let found = found.filter(|session| matches!(session.peer, Peer::Viewer(..)));
    Ok((id, found.ok_or_else(Problem::session_not_found)?))
}

fn not_found() -> Problem {
    Problem::new(404, "event-stream-not-found", "This event stream does not exist, or it has ended.")
}

fn refused(error: CreateError) -> Problem {
    match error {
        CreateError::Ended => Problem::session_not_found(),
        CreateError::Full => Problem::new(429, "event-streams", format!("Not made: {error}.")),
    }
}

fn run_of(broadcast: &model::Broadcast) -> Option<Epoch> {
    broadcast.epoch.filter(|_| broadcast.state == BroadcastState::Live)
}

/// Keeps event streams at what is true, for as long as the node lives.
pub async fn follow(app: Arc<App>) {
    let (mut changes, mut cues) = (app.directory.changes(), app.directory.cues.changes());
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut counting = Aside::new();
    loop {
        tokio::select! {
            _ = changes.changed() => {}
            _ = cues.changed() => {}
            _ = looks.tick() => {}
            () = counting.ended() => {}
        }
        counting.begin(COUNT_PATIENCE, || count(&app)).await;
        update(&app);
        tokio::time::sleep(UPDATE_INTERVAL).await;
    }
}

/// Asks how many watch in the whole installation, if there is anybody to tell.
fn count(app: &App) -> Option<impl Future<Output = ()>> {
    let is_anybody_there = app.sessions.viewers().iter().any(|viewer| viewer.events.count() > 0);
    let control = app.control.as_ref().filter(|_| is_anybody_there)?;
    Some(control.front_door.refresh_audience())
}

fn update(app: &App) {
    let mut viewers = app.sessions.viewers();
    viewers.retain(|viewer| viewer.events.count() > 0);
    if viewers.is_empty() {
        return;
    }
    let now = Instant::now();
    let entries = app.directory.list();
    let known: BTreeMap<&BroadcastId, (Option<Epoch>, u64)> = entries
        .iter()
        .map(|entry| (&entry.broadcast.id, (run_of(&entry.broadcast), entry.viewers)))
        .collect();
    let cues = app.directory.cues.recent(now);
    let looked = viewers.iter().map(|Watching { broadcast, shard, events, .. }| {
        let (run, here) = known.get(broadcast).copied().unwrap_or_default();
        let layers = run.and_then(|_| app.layers(*shard, broadcast));
        let cues = cues.get(broadcast).cloned().unwrap_or_default();
        events.update(now, &Truth { run, viewers: app.audience(broadcast, here), layers, cues })
    });
    let Looked { stuck, cues_told } = looked.fold(Looked::default(), std::ops::Add::add);
    app.metrics.event_readers_stuck(stuck);
    app.metrics.cues_told(cues_told);
}

/// How many viewers were sent elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// Told to go.
    pub told: u64,
    /// Whose players do not listen: they stay until their sessions are ended.
    pub not_subscribed: u64,
    /// For whom no place was given.
    pub no_place: u64,
}

impl App {
    /// Sends `reconnect` to every viewer's player, evenly spread over a time, so that not all move in one moment.
    ///
    /// `place` gives, for one viewer of a broadcast, the absolute URL of the WHEP endpoint that it is to go to. A player
    /// that listens makes its new session there first and ends the old one then; one that begins to listen later is told
    /// then. May be repeated: who was told the same place before is told nothing new.
    pub async fn move_viewers(
        &self,
        over: Duration,
        place: impl Fn(SessionId, &BroadcastId) -> Option<String>,
    ) -> Moved {
        let viewers = self.sessions.viewers();
        let begun = tokio::time::Instant::now();
        let mut moved = Moved::default();
        for (index, Watching { session, broadcast, events, .. }) in viewers.iter().enumerate() {
            let due = begun + over.mul_f64(index as f64 / viewers.len() as f64);
            if due > tokio::time::Instant::now() + MOVE_STEP {
                tokio::time::sleep_until(due).await;
            }
            self.send_away(&mut moved, events, || place(*session, broadcast));
        }
        moved
    }

    fn send_away(&self, moved: &mut Moved, streams: &EventStreams, place: impl FnOnce() -> Option<String>) {
        let Some(url) = place() else {
            moved.no_place += 1;
            return;
        };
        match streams.send_away(&url) {
            Some(true) => {
                moved.told += 1;
                self.metrics.viewer_sent_away();
            }
            Some(false) => moved.not_subscribed += 1,
            None => {}
        }
    }
}

/// `POST /viewers/move` of the operations listener: empties a node whose tree has no controller to do it.
pub fn operations(app: Arc<App>) -> Router {
    Router::new().route("/viewers/move", post(move_viewers)).with_state(app)
}

/// What an operator asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// Scheme and authority of the node or front door that takes the viewers.
    to: String,
    /// Over how many seconds their moves are spread.
    #[serde(default)]
    over_seconds: u64,
}

/// JSON alone is taken, which no foreign web page can post here without being asked first.
async fn move_viewers(
    State(app): State<Arc<App>>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Moved>, Response> {
    let Json(order) = order.map_err(axum::response::IntoResponse::into_response)?;
    let over = Duration::from_secs(order.over_seconds);
    let to = order.to.trim_end_matches('/');
    let is_web = to.starts_with("http://") || to.starts_with("https://");
    if !is_web || to.split('/').count() != 3 || over > MOVE_TIME_MAX {
        let problem = Problem::new(
            400,
            "order",
            format!(
                "`to` is like https://egress-2.example, `over_seconds` at most {}.",
                MOVE_TIME_MAX.as_secs()
            ),
        );
        return Err(problem_response(&problem));
    }
    tracing::info!(to, over_seconds = order.over_seconds, "viewers are sent away");
    Ok(Json(app.move_viewers(over, |_, broadcast| Some(format!("{to}/whep/{broadcast}"))).await))
}
