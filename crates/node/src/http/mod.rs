//! The public listener: WHIP, WHEP, pages, API.

mod admission;
mod advice;
pub mod api;
mod beacon;
mod connection;
mod counter_offers;
mod cues;
mod ice_restart;
mod ice_servers;
mod listener;
mod operators;
mod page_origins;
mod pages;
mod patience;
mod proxies;
mod redirect;
mod responses;
mod whep;
mod whep_events;
mod whep_layers;
mod whip;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use model::{BroadcastId, BroadcastState, JoinName, ObsVersion, Right, TraceParent};
use signaling::http::{self as rules, Action, EntityTag, Link, Problem, Resource};
use signaling::whep::layers::Layer;
use signaling::{SessionId, patch};
use telemetry::traces::Traces;
use tracing::field::display;

pub use admission::Admission;
pub use beacon::Beacons;
pub use connection::Addresses;
pub use counter_offers::CounterOffers;
pub use ice_servers::IceServers;
pub use listener::{Connection, Limits, Listener, media_connections_max};
pub use patience::WaitingRoom;
pub use redirect::move_viewers;
pub use whep::SHARDS_BUSY;
pub use whep_events::{follow as follow_events, operations as event_operations};

use crate::advice::Advice;
use crate::clock::unix_time;
use crate::control::Control;
use crate::directory::Directory;
use crate::gate::{Gate, Visitor};
use crate::join;
use crate::metrics::Metrics;
use crate::pending::PendingViewers;
use crate::rate_limit::RateLimit;
use crate::sessions::{Peer, Session, Sessions};
use crate::shard::ShardHandle;
use crate::shard_load::ShardLoad;
use crate::tree::TreeHandle;
use patience::Patience;
use proxies::origin;
use redirect::Place;
use responses::{ProblemCode, created_response, insert, problem_response, reply_response, with_cors};

/// The header of W3C Trace Context; in URLs of redirects a parameter is called so.
const TRACE_PARENT: &str = "traceparent";
/// In the query of a POST: host and port of a server that does not answer the client any more.
const LOST: &str = "lost";

/// When a viewer comes again who may not wait for the publisher.
const NOT_LIVE_RETRY_SECS: u32 = 2;

/// An offer has a few kilobytes: who takes longer is no client of ours.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// For so long an address that came or went may go unnoticed.
const HOST_ADDRESSES_AGE_MAX: Duration = Duration::from_secs(5);

/// For so long a viewer of a broadcast that nobody knows may be ahead of the news of its publisher.
const NEWS_TAKE_MAX: Duration = Duration::from_secs(1);

/// One shard as requests see it.
pub struct ShardPort {
    /// Its thread.
    pub handle: ShardHandle,
    /// Its handshake worker.
    pub handshakes: crossbeam_channel::Sender<crate::handshakes::Command>,
    /// UDP port of its socket.
    pub port: u16,
    /// How busy it is.
    pub load: Arc<ShardLoad>,
    /// Viewers it has or expects.
    pub occupied: AtomicU64,
    /// Viewers it may have.
    pub slots: u64,
    /// The layers of what is watched on it, as it told last.
    pub layers: Mutex<BTreeMap<BroadcastId, Arc<[Layer]>>>,
}

/// What requests share.
pub struct App {
    /// Broadcasts known here.
    pub directory: Arc<Directory>,
    /// The tree thread, and the UDP port of its publishers' socket, on nodes that take publishers.
    pub ingest: Option<(TreeHandle, u16)>,
    /// Shards, on nodes that serve viewers.
    pub shards: Vec<ShardPort>,
    /// Sessions that have a URL.
    pub sessions: Arc<Sessions>,
    /// Offers of ours that viewers have not answered yet.
    pub counter_offers: CounterOffers,
    /// Who may publish and watch.
    pub gate: Gate,
    /// How often a client may ask.
    pub rate_limit: RateLimit,
    /// How often players may report.
    pub beacons: Beacons,
    /// Where publishers wait for a place.
    pub waiting_room: WaitingRoom,
    /// The addresses of a one-to-one NAT.
    pub public_ips: Vec<IpAddr>,
    /// The certificate of every DTLS association of this node.
    pub certificate: Arc<ice_dtls::Certificate>,
    /// STUN and TURN servers of clients.
    pub ice_servers: IceServers,
    /// Viewers may come while nobody publishes.
    pub viewers_wait: bool,
    /// Whether the listener speaks TLS.
    pub is_tls: bool,
    /// Other origins that the pages may talk to.
    pub page_origins: Vec<String>,
    /// Set when the node drains: no new sessions.
    pub is_draining: AtomicBool,
    /// For ids of viewers and publishers.
    pub next_id: AtomicU64,
    /// POSTed viewers that are connecting.
    pub pending: PendingViewers,
    /// Publishers that this node may have.
    pub publishers_max: u64,
    /// How busy a shard may be that takes one more viewer, from 0 to 1.
    pub shard_load_max: f64,
    /// What metrics read.
    pub metrics: Arc<Metrics>,
    /// Where spans of joins are made.
    pub traces: Traces,
    /// What publishers could do better.
    pub advice: Advice,
    /// This node in its installation, if it shares a store.
    pub control: Option<Arc<Control>>,
    /// What operators show; with none, only this machine operates.
    pub operator_tokens: Vec<config::Secret>,
    /// Where RTMP is taken, on nodes that take it.
    pub rtmp: Option<SocketAddr>,
    /// Ports of media that can be reached over TCP, too.
    pub tcp_ports: BTreeSet<u16>,
    /// Proxies that are believed whom they ask for.
    pub trusted_proxies: Vec<config::Network>,
    /// Whether nodes of other machines can be told from others.
    pub has_cluster_key: bool,
}

impl App {
    /// Whether a broadcast is known here, or to the installation.
    #[must_use]
    pub fn knows(&self, broadcast: &BroadcastId) -> bool {
        let is_elsewhere = |control: &Arc<Control>| control.front_door.knows(broadcast);
        self.directory.get(broadcast).is_some() || self.control.as_ref().is_some_and(is_elsewhere)
    }

    /// Like [`App::knows`], but news of a new publisher may still be on their way through the installation.
    async fn comes_to_know(&self, broadcast: &BroadcastId) -> bool {
        if self.knows(broadcast) {
            return true;
        }
        let Some(control) = &self.control else { return false };
        // Parents tell, too: of a node that has begun anew without the store, they alone.
        let offered = async {
            let mut changes = self.directory.changes();
            while self.directory.get(broadcast).is_none() {
                // The sender lives as long as this.
                let _ = changes.changed().await;
            }
        };
        tokio::select! {
            is_known = control.front_door.comes_to_know(broadcast, NEWS_TAKE_MAX) => is_known,
            () = offered => true,
        }
    }

    /// Whether somebody publishes a broadcast, as far as this node knows.
    pub fn is_live(&self, broadcast: &BroadcastId) -> bool {
        let is_here =
            self.directory.get(broadcast).is_some_and(|entry| entry.broadcast.state == BroadcastState::Live);
        let recorded = self.control.as_ref().and_then(|control| control.front_door.broadcast(broadcast));
        is_here || recorded.is_some_and(|record| record.state == registry::RecordedState::Live)
    }

    /// How many watch a broadcast in the whole installation, as far as that is known: never fewer than `here`, on this
    /// node.
    #[must_use]
    pub fn audience(&self, broadcast: &BroadcastId, here: u64) -> u64 {
        let counted = self.control.as_ref().and_then(|control| control.front_door.audience(broadcast));
        counted.unwrap_or(0).max(here)
    }

    /// Viewers that the shards have or expect.
    #[must_use]
    pub fn occupied(&self) -> u64 {
        self.shards.iter().map(|shard| shard.occupied.load(Ordering::Relaxed)).sum()
    }
}

/// Every route of the public listener.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/dashboard", get(pages::dashboard))
        .route("/publish/{broadcast}", get(pages::publish))
        .route("/watch/{broadcast}", get(pages::watch))
        .route("/embed/{broadcast}", get(pages::embed))
        .route("/embed.js", get(pages::embed_script))
        .route("/assets/{file}", get(pages::asset))
        .route("/api/v1/broadcasts", get(api::broadcasts))
        .route("/api/v1/endings", get(api::endings))
        .route("/api/v1/publishing", get(api::publishing))
        .route("/whip/{broadcast}", any(whip_endpoint))
        .route("/whep/{broadcast}", any(whep_endpoint))
        // As people write them into encoders, which say nothing of why an address is none.
        .route("/whip/{broadcast}/", any(whip_endpoint))
        .route("/whep/{broadcast}/", any(whep_endpoint))
        .route("/whip/{broadcast}/t/{ticket}", any(whip_by_ticket))
        .route("/whep/{broadcast}/t/{ticket}", any(whep_by_ticket))
        .route("/whip/{broadcast}/advice", any(advice::show_of_broadcast))
        .route("/whip/{broadcast}/t/{ticket}/advice", any(advice::show_by_ticket))
        .route("/whip/{broadcast}/cues", any(cues::post))
        .route("/whip/{broadcast}/t/{ticket}/cues", any(cues::post_by_ticket))
        .route("/whip/{broadcast}/{session}", any(session))
        .route("/whip/{broadcast}/{session}/advice", any(advice::show))
        .route("/whep/{broadcast}/{session}", any(session))
        .route("/whep/{broadcast}/{session}/beacon", post(beacon::report))
        .route("/whep/{broadcast}/{session}/events", any(whep_events::entry))
        .route("/whep/{broadcast}/{session}/layer", any(whep_layers::entry))
        .route("/whep/{broadcast}/{session}/events/{stream}", any(whep_events::stream))
        .merge(operators::router(&app))
        .layer(axum::middleware::from_fn_with_state(app.clone(), proxies::see_through))
        .layer(axum::middleware::from_fn(connection::answer))
        .with_state(app)
}

/// A request whose head is checked.
pub(crate) struct Posted {
    broadcast: BroadcastId,
    addresses: Addresses,
    /// Scheme and authority for `Location`.
    origin: String,
    /// The offer.
    body: String,
    /// Another node has sent it here.
    has_ticket: bool,
    /// What its way in is called.
    join: JoinName,
    /// What let it in, for the ticket if it is sent on.
    credential: Option<access::Credential>,
    /// What posts it, if it says that it is OBS.
    obs: Option<ObsVersion>,
    /// For how long it may be held, if it publishes.
    patience: Patience,
}

async fn whip_endpoint(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path(broadcast): Path<String>,
    request: Request,
) -> Response {
    whip(&app, Door { addresses, broadcast: &broadcast, ticket: None }, request).await
}

/// `/whip/{broadcast}/t/{ticket}`: another node has sent the publisher here.
async fn whip_by_ticket(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, ticket)): Path<(String, String)>,
    request: Request,
) -> Response {
    whip(&app, Door { addresses, broadcast: &broadcast, ticket: Some(&ticket) }, request).await
}

async fn whip(app: &Arc<App>, door: Door<'_>, request: Request) -> Response {
    let is_post = request.method() == Method::POST;
    let response = endpoint(app, Resource::WhipEndpoint, door, request, whip::create).await;
    app.metrics.whip_answered(is_post, response.status().as_u16());
    response
}

async fn whep_endpoint(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path(broadcast): Path<String>,
    request: Request,
) -> Response {
    whep(&app, Door { addresses, broadcast: &broadcast, ticket: None }, request).await
}

/// `/whep/{broadcast}/t/{ticket}`: another node has sent the viewer here.
async fn whep_by_ticket(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, ticket)): Path<(String, String)>,
    request: Request,
) -> Response {
    whep(&app, Door { addresses, broadcast: &broadcast, ticket: Some(&ticket) }, request).await
}

async fn whep(app: &Arc<App>, door: Door<'_>, request: Request) -> Response {
    let is_post = request.method() == Method::POST;
    let response = endpoint(app, Resource::WhepEndpoint, door, request, whep::create).await;
    let problem = response.extensions().get().map(|ProblemCode(code)| *code);
    app.metrics.whep_answered(is_post, response.status().as_u16(), problem);
    response
}

/// Where a request comes in.
#[derive(Clone, Copy)]
struct Door<'a> {
    addresses: Addresses,
    broadcast: &'a str,
    ticket: Option<&'a str>,
}

/// What a POST was answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreatedKind {
    /// 201: there is a session.
    Answer,
    /// 406: there will be one when this offer of ours is answered.
    CounterOffer,
}

/// What a POST made: a description and the names of its resource.
pub(crate) struct Created {
    kind: CreatedKind,
    description: String,
    location: String,
    entity_tag: EntityTag,
    session: SessionId,
    /// Extensions that the client may use.
    extensions: Vec<Link>,
}

async fn endpoint(
    app: &Arc<App>,
    resource: Resource,
    door: Door<'_>,
    request: Request,
    create: impl AsyncFnOnce(&Arc<App>, Posted) -> Result<Created, Problem>,
) -> Response {
    match rules::action(resource, request.method().as_str()) {
        Err(problem) => return with_cors(problem_response(&problem)),
        Ok(Action::Reply(reply)) => return with_cors(reply_response(&reply)),
        Ok(Action::Create | Action::Modify | Action::Listen | Action::Show | Action::Delete) => {}
    }
    let (name, route) = match resource {
        Resource::WhipEndpoint => ("POST /whip/{broadcast}", "/whip/{broadcast}"),
        _ => ("POST /whep/{broadcast}", "/whep/{broadcast}"),
    };
    let mut span = app.traces.answer(name, trace_parent(&request));
    let lost = in_query(&request, LOST).map(str::to_owned);
    let result = async {
        let mut posted = check_post(app, resource, door, (request, span.context())).await?;
        span.broadcast(&posted.broadcast);
        let right = if resource == Resource::WhipEndpoint { Right::Publish } else { Right::View };
        if right == Right::View {
            let is_known = app.comes_to_know(&posted.broadcast).await;
            // Any name may be on air in a moment.
            if !app.viewers_wait && !app.is_live(&posted.broadcast) {
                return Err(Problem::not_live(NOT_LIVE_RETRY_SECS));
            }
            if !is_known {
                let detail = format!("There is no broadcast named {}.", posted.broadcast);
                return Err(Problem::new(404, "broadcast-unknown", detail));
            }
        }
        if !posted.has_ticket {
            let with = (posted.credential, span.context(), posted.addresses.peer.ip());
            let wish = (right, &posted.broadcast, lost.as_deref());
            if let Place::There(url, join) = redirect::place(app, wish, with, &mut posted.patience).await? {
                span.join(join);
                return Ok(redirect::there(&url, join.span));
            }
        }
        span.join(posted.join);
        if app.is_draining.load(Ordering::Relaxed) {
            return Err(Problem::overloaded(2));
        }
        let credential = posted.credential;
        let created = create(app, posted).await?;
        app.gate.remember(created.session, credential);
        let ice_servers = app.ice_servers.links(unix_time(), created.session);
        Ok(created_response(created, &ice_servers))
    };
    let result: Result<Response, Problem> = result.await;
    let response = with_cors(result.unwrap_or_else(|problem| problem_response(&problem)));
    let status = response.status();
    span.text("http.request.method", "POST");
    span.text("http.route", route);
    span.number("http.response.status_code", status.as_u16().into());
    if status.is_server_error() {
        span.failed(status);
    }
    response
}

/// What a request is a part of: as another node's redirect has it, or as the client does.
fn trace_parent(request: &Request) -> Option<TraceParent> {
    let of_redirect = in_query(request, TRACE_PARENT).and_then(|text| text.parse().ok());
    of_redirect.or_else(|| text(request.headers(), HeaderName::from_static(TRACE_PARENT))?.parse().ok())
}

/// The value of this name in the query of a URL, as it stands there.
fn in_query<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let of_pair = |pair: &'a str| pair.strip_prefix(name)?.strip_prefix('=');
    request.uri().query()?.split('&').find_map(of_pair)
}

async fn check_post(
    app: &App,
    resource: Resource,
    door: Door<'_>,
    (request, span): (Request, Option<TraceParent>),
) -> Result<Posted, Problem> {
    let Door { addresses, ticket, .. } = door;
    take_allowance(app, addresses)?;
    let broadcast = broadcast_id(door.broadcast)?;
    let right = if resource == Resource::WhipEndpoint { Right::Publish } else { Right::View };
    let token = rules::bearer::token(text(request.headers(), header::AUTHORIZATION))?;
    let visitor = Visitor { right, broadcast: &broadcast, client: addresses.peer.ip(), token, ticket };
    let credential = app.gate.admit(&visitor).await?;
    rules::check_content_type(text(request.headers(), header::CONTENT_TYPE), rules::SDP)?;
    let origin = origin(app, &request, addresses);
    let obs = text(request.headers(), header::USER_AGENT).and_then(rules::user_agent::obs);
    let body = read_body(request.into_body()).await?;
    let (join, has_ticket) = (join::of(ticket, span)?, ticket.is_some());
    let patience = app.waiting_room.patience(has_ticket);
    Ok(Posted { broadcast, addresses, origin, body, has_ticket, join, credential, obs, patience })
}

async fn session(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session)): Path<(String, String)>,
    request: Request,
) -> Response {
    let result = async {
        let action = rules::action(Resource::Session, request.method().as_str())?;
        let is_look = matches!(action, Action::Reply(_)) && request.method() != Method::OPTIONS;
        if let (Action::Reply(reply), false) = (&action, is_look) {
            return Ok(reply_response(reply));
        }
        if !is_look {
            take_allowance(&app, addresses)?;
        }
        let broadcast = broadcast_id(&broadcast)?;
        let id: SessionId = session.parse().map_err(|_| Problem::session_not_found())?;
        if app.counter_offers.has(Instant::now(), id, &broadcast) {
            return counter_offers::handle(&app, (id, &broadcast), addresses, action, request).await;
        }
        let found = app.sessions.get(id).filter(|session| session.broadcast == broadcast);
        // Asked after it was not found: it may have ended since.
        if found.is_none() && action == Action::Delete && app.sessions.has_ended(id) {
            return Ok(StatusCode::OK.into_response());
        }
        let session = found.ok_or_else(Problem::session_not_found)?;
        // Whether a session is still there is what players ask when the picture stands still.
        if let Action::Reply(reply) = action {
            return Ok(reply_response(&reply));
        }
        authorize(&app, addresses, (id, &session), request.headers()).await?;
        if action == Action::Delete {
            end(&app, session.peer).await;
            return Ok(StatusCode::OK.into_response());
        }
        let content_type = text(request.headers(), header::CONTENT_TYPE).map(str::to_owned);
        let if_match = text(request.headers(), header::IF_MATCH).map(str::to_owned);
        let body = read_body(request.into_body()).await?;
        let _turn = session.patches.clone().lock_owned().await;
        let session = app.sessions.get(id).ok_or_else(Problem::session_not_found)?;
        let state = patch::State { entity_tag: &session.entity_tag, peer_ice: &session.peer_ice };
        let headers = patch::Headers { content_type: content_type.as_deref(), if_match: if_match.as_deref() };
        match patch::decide(&state, &headers, &body)? {
            patch::Outcome::Trickled => Ok(StatusCode::NO_CONTENT.into_response()),
            patch::Outcome::Restart(remote) => {
                ice_restart::restart(&app, addresses, (id, &session), remote).await
            }
        }
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}

/// Ends a session: its URL is gone at once, its peer hears of it over DTLS.
pub async fn end(app: &App, peer: Peer) {
    match peer {
        Peer::Publisher(publisher) => {
            log_deleted(app.sessions.end_publisher(publisher));
            if let Some((tree, _)) = &app.ingest {
                tree.unpublish(publisher).await;
            }
        }
        Peer::Viewer(viewer, shard) => {
            log_deleted(app.sessions.end_viewer(viewer));
            let handle = app.shards[shard].handle.clone();
            let _ = tokio::task::spawn_blocking(move || handle.remove(viewer)).await;
        }
    }
}

/// What becomes of it then is told under the number of its peer alone.
fn log_deleted(session: Option<Session>) {
    let Some(Session { broadcast, peer, came, .. }) = session else { return };
    let (join, client_address) = (came.join.map(display), came.client.map(display));
    match peer {
        Peer::Publisher(publisher) => {
            tracing::info!(%broadcast, publisher = publisher.0, join, client_address, "session deleted");
        }
        Peer::Viewer(viewer, _) => {
            tracing::info!(%broadcast, viewer = viewer.get(), join, client_address, "session deleted");
        }
    }
}

fn take_allowance(app: &App, addresses: Addresses) -> Result<(), Problem> {
    app.rate_limit
        .take(Instant::now(), addresses.peer.ip())
        .map_err(|wait| Problem::rate_limited(wait.as_secs().saturating_add(1) as u32))
}

fn broadcast_id(text: &str) -> Result<BroadcastId, Problem> {
    BroadcastId::new(text).map_err(|error| {
        Problem::new(404, "broadcast-name", format!("This is not the name of a broadcast: {error}."))
    })
}

/// Whether a request may change this session.
async fn authorize(
    app: &App,
    addresses: Addresses,
    (id, session): (SessionId, &Session),
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let right = match session.peer {
        Peer::Publisher(_) => Right::Publish,
        Peer::Viewer(..) => Right::View,
    };
    let token = rules::bearer::token(text(headers, header::AUTHORIZATION))?;
    let (broadcast, client) = (&session.broadcast, addresses.peer.ip());
    app.gate.admit_to(id, &Visitor { right, broadcast, client, token, ticket: None }).await
}

async fn read_body(body: Body) -> Result<String, Problem> {
    let read = tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, rules::BODY_BYTES_MAX));
    let bytes = read.await.map_err(|_| Problem::new(408, "too-slow", "The body took too long to arrive."))?;
    let bytes = bytes.map_err(|_| Problem::too_large())?;
    String::from_utf8(bytes.into()).map_err(|_| Problem::new(400, "not-utf8", "The body is not UTF-8 text."))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The addresses of this host that media can reach it on, as they were a moment ago: asking the kernel costs more with
/// each interface, and takes a lock that the whole machine shares.
pub(crate) fn host_addresses() -> Vec<IpAddr> {
    static KNOWN: Mutex<Option<(Instant, Vec<IpAddr>)>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    match &*known {
        Some((asked_at, addresses)) if now < *asked_at + HOST_ADDRESSES_AGE_MAX => addresses.clone(),
        Some(_) | None => {
            let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
            let addresses: Vec<IpAddr> = interfaces.into_iter().map(|interface| interface.ip()).collect();
            *known = Some((now, addresses.clone()));
            addresses
        }
    }
}

/// `N` bytes of the kernel's random generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Problem> {
    crate::random::bytes().map_err(|_| {
        Problem::new(500, "no-randomness", "This server cannot make random numbers at the moment.")
    })
}
