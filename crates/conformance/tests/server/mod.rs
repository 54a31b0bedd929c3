//! A small WHIP and WHEP server that keeps every line, made of str0m and axum, and that can be told to break one.
//!
//! It forwards no media. It exists so that the suite is tried on a server that is not the product's.

mod events;
mod fault;
mod limit;
mod peer;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::any;
use tokio::sync::{mpsc, oneshot};

pub use fault::Fault;
use limit::Limit;
use peer::Command;

/// What lets a client in.
pub const TOKEN: &str = "sesame";

pub struct Server {
    pub address: SocketAddr,
}

struct Shared {
    fault: Fault,
    address: SocketAddr,
    sessions: Mutex<BTreeMap<String, Session>>,
    count: Mutex<u64>,
    limit: Limit,
    /// One restart after the other.
    restarts: tokio::sync::Mutex<()>,
    /// When something of a layer came last.
    layers: Mutex<BTreeMap<String, Instant>>,
}

#[derive(Clone)]
struct Session {
    entity_tag: String,
    offer: String,
    answer: String,
    /// Its answer is to come: this is its offer.
    is_counter_offer: bool,
    restarts: usize,
    commands: mpsc::Sender<Command>,
}

impl Server {
    pub async fn start(fault: Fault) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared {
            fault,
            address,
            sessions: Mutex::default(),
            count: Mutex::default(),
            limit: Limit::default(),
            restarts: tokio::sync::Mutex::default(),
            layers: Mutex::default(),
        });
        let router = Router::new()
            .route("/{protocol}/show", any(endpoint))
            .route("/{protocol}/there", any(endpoint))
            .route("/{protocol}/show/{session}", any(session))
            .route("/{protocol}/show/{session}/events", any(events::entry))
            .route("/{protocol}/show/{session}/events/{stream}", any(events::stream))
            .with_state(shared);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// An answer in the making.
struct Said {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Said {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, content_type: &str, body: impl Into<String>) -> Self {
        self.body = body.into();
        self.with("content-type", content_type)
    }
}

impl Shared {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, status: u16, detail: &str) -> Said {
        if self.is(Fault::PlainErrors) {
            return Said::new(status).body("application/problem+json", "no");
        }
        let text = format!("{{\"title\":\"Not taken\",\"status\":{status},\"detail\":\"{detail}\"}}");
        Said::new(status).body("application/problem+json", text)
    }

    fn refuse_for_number(&self) -> Said {
        self.refuse(429, "This is too much at once").with("retry-after", "1")
    }

    fn number(&self) -> u64 {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        *count
    }

    fn finish(&self, said: Said, method: &Method) -> Response {
        let mut response = Response::builder().status(said.status);
        for (name, value) in &said.headers {
            response = response.header(*name, value);
        }
        if !self.is(Fault::NoCors) {
            response = response.header("access-control-allow-origin", "*");
            if !self.is(Fault::NothingExposed) {
                response =
                    response.header("access-control-expose-headers", "Location, ETag, Link, Retry-After");
            }
            if method == Method::OPTIONS {
                let headers = if self.is(Fault::AnyHeaderAllowed) {
                    "*"
                } else {
                    "authorization, content-type, if-match"
                };
                response = response
                    .header("access-control-allow-methods", "POST, PATCH, DELETE, GET, HEAD, OPTIONS")
                    .header("access-control-allow-headers", headers);
            }
        }
        response.body(Body::from(said.body)).expect("a response")
    }

    fn is_let_in(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        self.is(Fault::OpenToAll) || shown == Some(&format!("Bearer {TOKEN}"))
    }

    fn links(&self, protocol: &str, session: &str) -> Vec<String> {
        const CREDENTIAL: &str = "; credential=\"p\"; credential-type=\"password\"";
        let turn = "<turn:turn.example.net>; rel=\"ice-server\"; username=\"u\"";
        let turn = match self.fault {
            Fault::TurnWithoutCredential => turn.to_owned(),
            Fault::TurnIsNotQuoted => format!("{}{CREDENTIAL}", turn.replace("\"u\"", "u")),
            Fault::ServersInOneLink => {
                format!("{turn}{CREDENTIAL}, <stun:stun.example.net>; rel=\"ice-server\"")
            }
            _ => format!("{turn}{CREDENTIAL}"),
        };
        let mut links = vec![turn];
        if protocol == "whep" {
            links.push(events::link(&format!("http://{}/whep/show/{session}", self.address)));
        }
        if self.is(Fault::ForeignExtension) {
            links.push(format!("<http://{}/x>; rel=\"urn:x-nobody:{protocol}:ext:events\"", self.address));
        }
        links
    }
}

async fn endpoint(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path(protocol): Path<String>,
    method: Method,
    request: axum::extract::Request,
) -> Response {
    let is_first = request.uri().path().ends_with("/show");
    let headers = request.headers().clone();
    let body = axum::body::to_bytes(request.into_body(), 1 << 21).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let said = match method.as_str() {
        "OPTIONS" => options(&shared, &headers, &protocol, "accept-post", "application/sdp"),
        "GET" | "HEAD" => look(&shared, &protocol, method == Method::HEAD),
        "POST" if !shared.limit.admits(shared.fault, &method, client) => shared.refuse_for_number(),
        "POST" => post(&shared, &protocol, (&headers, is_first), &body).await,
        _ => shared.refuse(405, "There is nothing like that here"),
    };
    shared.finish(said, &method)
}

fn options(
    shared: &Shared,
    headers: &HeaderMap,
    protocol: &str,
    accept: &'static str,
    media_type: &str,
) -> Said {
    if shared.is(Fault::PreflightWantsToken) && !shared.is_let_in(headers) {
        return shared.refuse(401, "Who are you then").with("www-authenticate", "Bearer");
    }
    let mut said = Said::new(200);
    if !shared.is(Fault::NoAcceptPost) {
        said = said.with(accept, media_type);
    }
    if shared.is(Fault::IceServersInPreflight) {
        said = said.with("link", shared.links(protocol, "none")[0].clone());
    }
    said
}

fn look(shared: &Shared, protocol: &str, is_head: bool) -> Said {
    if shared.is(Fault::GetIs405) && !is_head || shared.is(Fault::NoHead) && is_head {
        return shared.refuse(405, "There is nothing to see here");
    }
    let status = if is_head { 200 } else { 204 };
    if protocol == "whep" {
        Said::new(status).with("content-type", "application/sdp")
    } else {
        Said::new(status)
    }
}

async fn post(
    shared: &Arc<Shared>,
    protocol: &str,
    (headers, is_first): (&HeaderMap, bool),
    body: &str,
) -> Said {
    if !shared.is_let_in(headers) {
        return shared.refuse(401, "Who are you then").with("www-authenticate", "Bearer");
    }
    if shared.is(Fault::RedirectIs302) {
        return Said::new(302).with("location", format!("http://{}/{protocol}/elsewhere", shared.address));
    }
    if is_first && matches!(shared.fault, Fault::Redirects | Fault::RedirectIsRelative) {
        let host =
            if shared.is(Fault::Redirects) { format!("http://{}", shared.address) } else { String::new() };
        return Said::new(307).with("location", format!("{host}/{protocol}/there"));
    }
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/sdp") && !shared.is(Fault::AnyContentType) {
        return shared.refuse(415, "This is no session description");
    }
    let is_open_to_all = body.starts_with("v=0") && body.contains("t=0 0") && !body.contains("m=");
    let is_asking = protocol == "whep" && is_open_to_all && !shared.is(Fault::CrashOnRubbish);
    let made = if is_asking {
        peer::offer(shared).await
    } else if is_good(shared, protocol, body) {
        peer::begin(shared, protocol, body).await
    } else {
        None
    };
    let Some((id, session)) = made else {
        let is_too_much = body.matches("m=video").count() > 1 || body.matches("m=audio").count() > 1;
        let status = match shared.fault {
            Fault::CrashOnRubbish => 500,
            Fault::ManyIs409 if is_too_much => 409,
            _ => 400,
        };
        return shared.refuse(status, "This offer cannot be taken");
    };
    let location = match shared.fault {
        Fault::RelativeLocation => format!("/{protocol}/show/{id}"),
        _ => format!("http://{}/{protocol}/show/{id}", shared.address),
    };
    let status = match shared.fault {
        _ if session.is_counter_offer => 406,
        Fault::StatusOfPost => 200,
        _ => 201,
    };
    let mut said = Said::new(status);
    let is_nameless = shared.is(Fault::CounterOfferWithoutLocation) && session.is_counter_offer;
    if !shared.is(Fault::NoLocation) && !is_nameless {
        said = said.with("location", location);
    }
    if !shared.is(Fault::NoEntityTag) {
        said = said.with("etag", session.entity_tag.clone());
    }
    for link in shared.links(protocol, &id) {
        said = said.with("link", link);
    }
    let answer = session.answer.clone();
    shared.sessions().insert(id, session);
    said.body("application/sdp", answer)
}

/// What str0m would let pass and WHIP does not.
fn is_good(shared: &Shared, protocol: &str, offer: &str) -> bool {
    let wrong = if protocol == "whip" { ["a=recvonly", "a=inactive"] } else { ["a=sendonly", "a=inactive"] };
    let is_wrong = wrong.iter().any(|line| offer.lines().any(|known| known.trim_end() == *line));
    let videos = offer.matches("m=video").count();
    let is_cut = !offer.ends_with("\r\n") || !offer.contains("m=");
    let sections = offer.matches("m=audio").count() + videos;
    let is_whole = ["a=ice-pwd:", "a=ice-ufrag:", "a=fingerprint:", "a=mid:", "a=setup:"]
        .iter()
        .all(|line| offer.matches(line).count() == sections);
    let is_foreign = offer.contains("X-NOBODY");
    (!is_wrong || shared.is(Fault::AnyDirection))
        && (videos < 2 || shared.is(Fault::TwoVideos))
        && (sections - videos < 2 || shared.is(Fault::TwoAudios))
        && !is_cut
        && is_whole
        && !is_foreign
}

async fn session(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    Path((protocol, id)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response {
    let said = if method == Method::OPTIONS {
        let media_type = "application/trickle-ice-sdpfrag";
        options(&shared, &headers, &protocol, "accept-patch", media_type)
    } else {
        let known = shared.sessions().get(&id).cloned();
        let is_let_in = shared.is_let_in(&headers) || shared.is(Fault::SessionsAreOpen);
        match (known, method.as_str()) {
            (_, "PATCH" | "DELETE") if !shared.limit.admits(shared.fault, &method, client) => {
                shared.refuse_for_number()
            }
            (None, _) => shared.refuse(404, "There is no such session"),
            (Some(_), "GET" | "HEAD") => look(&shared, "session", false),
            (Some(_), "PATCH" | "DELETE") if !is_let_in => {
                shared.refuse(401, "Who are you then").with("www-authenticate", "Bearer")
            }
            (Some(session), "PATCH") => patch(&shared, &id, session, &headers, &body).await,
            (Some(session), "DELETE") => delete(&shared, &id, &session, &headers).await,
            (Some(_), _) => shared.refuse(405, "There is nothing like that here"),
        }
    };
    shared.finish(said, &method)
}

async fn delete(shared: &Shared, id: &str, session: &Session, headers: &HeaderMap) -> Said {
    if shared.is(Fault::DeleteIsRedirected) {
        return Said::new(307).with("location", format!("http://{}/elsewhere/{id}", shared.address));
    }
    if shared.is(Fault::DeleteLooksAtIfMatch) && headers.contains_key("if-match") {
        return shared.refuse(412, "This is another session");
    }
    if !shared.is(Fault::DeleteEndsNothing) {
        shared.sessions().remove(id);
        let _ = session.commands.send(Command::End).await;
    }
    Said::new(if shared.is(Fault::DeleteIs204) { 204 } else { 200 })
}

async fn patch(shared: &Shared, id: &str, session: Session, headers: &HeaderMap, body: &str) -> Said {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if session.is_counter_offer {
        return answer(shared, id, session, body).await;
    }
    if header("content-type") != Some("application/trickle-ice-sdpfrag") {
        return shared.refuse(415, "This is no fragment");
    }
    let Some(if_match) = header("if-match") else {
        let status = if shared.is(Fault::NoIfMatchIs400) { 400 } else { 428 };
        return shared.refuse(status, "Of which ICE session is this");
    };
    let is_any = matches!(if_match, "*" | "\"*\"") || shared.is(Fault::AnyIfMatch);
    if !is_any && if_match != session.entity_tag {
        let status = if shared.is(Fault::StaleIs409) { 409 } else { 412 };
        return shared.refuse(status, "This ICE session is over");
    }
    let attribute = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim_end().strip_prefix(name).map(str::to_owned));
        line.unwrap_or_default()
    };
    let is_fragment =
        !body.is_empty() && body.lines().all(|line| line.starts_with("a=") || line.starts_with("m=audio 9"));
    let (ufrag, pwd) = (attribute(body, "a=ice-ufrag:"), attribute(body, "a=ice-pwd:"));
    if !is_fragment || ufrag.len() < 4 || pwd.len() < 22 {
        if is_fragment {
            restart_failed(shared, id, &session).await;
        }
        return shared.refuse(400, "This is no fragment");
    }
    if attribute(&session.offer, "a=ice-ufrag:") == ufrag || shared.is(Fault::RestartIsTrickled) {
        let said = Said::new(if shared.is(Fault::TrickleIs200) { 200 } else { 204 });
        return if shared.is(Fault::TrickleHasEntityTag) {
            said.with("etag", session.entity_tag)
        } else {
            said
        };
    }
    if shared.is(Fault::RestartIs422) {
        return shared.refuse(422, "There is no second chance");
    }
    restart(shared, id, session, (&ufrag, &pwd)).await
}

async fn restart_failed(shared: &Shared, id: &str, session: &Session) {
    let command = match shared.fault {
        Fault::RestartFailureEnds => {
            shared.sessions().remove(id);
            Command::End
        }
        Fault::RestartFailureDeafens => Command::Deafen,
        Fault::RestartFailureKeeps => Command::Keep,
        _ => return,
    };
    let _ = session.commands.send(command).await;
}

/// The answer to a counter-offer.
async fn answer(shared: &Shared, id: &str, mut session: Session, body: &str) -> Said {
    let is_answer = body.starts_with("v=0") && body.contains("m=");
    if !is_answer && shared.is(Fault::CounterOfferTakesRubbish) {
        return Said::new(204);
    }
    let is_taken = if is_answer && !shared.is(Fault::CounterOfferLeadsNowhere) {
        let (reply, taken) = oneshot::channel();
        let _ = session.commands.send(Command::Answer(body.to_owned(), reply)).await;
        taken.await == Ok(true)
    } else {
        is_answer
    };
    if !is_taken {
        return shared.refuse(400, "This is no answer to it");
    }
    session.is_counter_offer = false;
    shared.sessions().insert(id.to_owned(), session);
    Said::new(if shared.is(Fault::CounterAnswerIs200) { 200 } else { 204 })
}

async fn restart(shared: &Shared, id: &str, mut session: Session, (ufrag, pwd): (&str, &str)) -> Said {
    let offer: String = session
        .offer
        .lines()
        .filter(|line| !line.starts_with("a=candidate"))
        .map(|line| match line.split_once(':') {
            Some(("a=ice-ufrag", _)) => format!("a=ice-ufrag:{ufrag}\r\n"),
            Some(("a=ice-pwd", _)) => format!("a=ice-pwd:{pwd}\r\n"),
            _ => format!("{}\r\n", line.trim_end()),
        })
        .collect();
    let _turn = shared.restarts.lock().await;
    let (reply, answered) = oneshot::channel();
    let is_ignored = shared.is(Fault::SecondRestartIsIgnored) && is_again(shared, id);
    let command = if is_ignored { Command::Pretend(reply) } else { Command::Restart(offer.clone(), reply) };
    let _ = session.commands.send(command).await;
    let Ok(Some(answer)) = answered.await else { return shared.refuse(400, "This cannot be restarted") };
    let shown = if shared.is(Fault::RestartKeepsCredentials) { &session.answer } else { &answer };
    let wanted = ["a=ice-ufrag", "a=ice-pwd", "a=ice-options", "a=ice-lite", "a=candidate"];
    let mut told: Vec<&str> = Vec::new();
    for line in
        shown.lines().map(str::trim_end).filter(|line| wanted.iter().any(|name| line.starts_with(name)))
    {
        let is_left_out = line == "a=ice-lite" && shared.is(Fault::RestartForgetsLite);
        if !told.contains(&line) && !is_left_out {
            told.push(line);
        }
    }
    let fragment = format!("{}\r\n", told.join("\r\n"));
    session.entity_tag = format!("\"again-{}\"", shared.number());
    session.restarts += 1;
    session.offer = offer;
    let entity_tag = session.entity_tag.clone();
    shared.sessions().insert(id.to_owned(), session);
    Said::new(200).with("etag", entity_tag).body("application/trickle-ice-sdpfrag", fragment)
}

fn is_again(shared: &Shared, id: &str) -> bool {
    shared.sessions().get(id).is_some_and(|session| session.restarts > 0)
}
