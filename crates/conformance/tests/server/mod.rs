//! A small WHIP and WHEP server that keeps every line, made of str0m and axum, and that can be told to break one.
//!
//! It forwards no media. It exists so that the suite is tried on a server that is not the product's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use axum::routing::any;
use str0m::change::SdpOffer;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};

/// What lets a client in.
pub const TOKEN: &str = "sesame";

/// How long a session may wait for its peer here.
const UNCONNECTED_MAX: Duration = Duration::from_secs(3);

/// What a server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// POST is answered 200.
    StatusOfPost,
    NoLocation,
    RelativeLocation,
    NoEntityTag,
    WeakEntityTag,
    SameEntityTag,
    NoAcceptPost,
    NoCors,
    AnyHeaderAllowed,
    NothingExposed,
    AnyContentType,
    GetIs405,
    DeleteIs204,
    DeleteLooksAtIfMatch,
    DeleteEndsNothing,
    NoGoodbye,
    TrickleIs200,
    TrickleHasEntityTag,
    NoIfMatchIs400,
    StaleIs409,
    RestartIs422,
    RestartKeepsCredentials,
    RestartIsTrickled,
    RestartFailureEnds,
    RestartForgetsLite,
    NoCandidates,
    WrongDirection,
    AnyDirection,
    NoMuxOnly,
    TwoVideos,
    CountedNames,
    PlainErrors,
    OpenToAll,
    PreflightWantsToken,
    IceServersInPreflight,
    TurnWithoutCredential,
    ForeignExtension,
    NeverExpires,
    NoHead,
    TwoStreams,
    LinesEndWithLf,
    RedirectIs302,
    CrashOnRubbish,
}

pub struct Server {
    pub address: SocketAddr,
}

struct Shared {
    fault: Fault,
    address: SocketAddr,
    sessions: Mutex<BTreeMap<String, Session>>,
    count: Mutex<u64>,
}

#[derive(Clone)]
struct Session {
    entity_tag: String,
    offer: String,
    answer: String,
    commands: mpsc::Sender<Command>,
}

enum Command {
    Restart(String, oneshot::Sender<Option<String>>),
    End,
}

impl Server {
    pub async fn start(fault: Fault) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let shared = Arc::new(Shared { fault, address, sessions: Mutex::default(), count: Mutex::default() });
        let router = Router::new()
            .route("/{protocol}/show", any(endpoint))
            .route("/{protocol}/show/{session}", any(session))
            .with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
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

    fn links(&self, protocol: &str) -> Vec<String> {
        let turn = if self.is(Fault::TurnWithoutCredential) {
            "<turn:turn.example.net>; rel=\"ice-server\"; username=\"u\"".to_owned()
        } else {
            "<turn:turn.example.net>; rel=\"ice-server\"; username=\"u\"; credential=\"p\"; credential-type=\"password\""
                .to_owned()
        };
        let mut links = vec![turn];
        if self.is(Fault::ForeignExtension) {
            links.push(format!("<http://{}/x>; rel=\"urn:x-nobody:{protocol}:ext:events\"", self.address));
        }
        links
    }
}

async fn endpoint(
    State(shared): State<Arc<Shared>>,
    Path(protocol): Path<String>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response {
    let said = match method.as_str() {
        "OPTIONS" => options(&shared, &headers, &protocol, "accept-post", "application/sdp"),
        "GET" | "HEAD" => look(&shared, &protocol, method == Method::HEAD),
        "POST" => post(&shared, &protocol, &headers, &body).await,
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
        said = said.with("link", shared.links(protocol)[0].clone());
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

async fn post(shared: &Arc<Shared>, protocol: &str, headers: &HeaderMap, body: &str) -> Said {
    if !shared.is_let_in(headers) {
        return shared.refuse(401, "Who are you then").with("www-authenticate", "Bearer");
    }
    if shared.is(Fault::RedirectIs302) {
        return Said::new(302).with("location", format!("http://{}/{protocol}/elsewhere", shared.address));
    }
    let kind = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/sdp") && !shared.is(Fault::AnyContentType) {
        return shared.refuse(415, "This is no session description");
    }
    let is_good = is_good(shared, protocol, body);
    let made = if is_good { begin(shared, protocol, body).await } else { None };
    let Some((id, session)) = made else {
        let status = if shared.is(Fault::CrashOnRubbish) { 500 } else { 400 };
        return shared.refuse(status, "This offer cannot be taken");
    };
    let location = match shared.fault {
        Fault::RelativeLocation => format!("/{protocol}/show/{id}"),
        _ => format!("http://{}/{protocol}/show/{id}", shared.address),
    };
    let mut said = Said::new(if shared.is(Fault::StatusOfPost) { 200 } else { 201 });
    if !shared.is(Fault::NoLocation) {
        said = said.with("location", location);
    }
    if !shared.is(Fault::NoEntityTag) {
        said = said.with("etag", session.entity_tag.clone());
    }
    for link in shared.links(protocol) {
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
        && !is_cut
        && is_whole
        && !is_foreign
}

async fn begin(shared: &Arc<Shared>, protocol: &str, body: &str) -> Option<(String, Session)> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.ok()?;
    let local = socket.local_addr().ok()?;
    let config = RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true).enable_vp8(true);
    let mut rtc = config.set_ice_lite(true).set_rtp_mode(true).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).ok()?);
    let offer = SdpOffer::from_sdp_string(body).ok()?;
    let answer = rtc.sdp_api().accept_offer(offer).ok()?.to_sdp_string();
    let count = {
        let mut count = shared.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        *count
    };
    let id = if shared.is(Fault::CountedNames) { format!("{count:032}") } else { drawn() };
    let entity_tag = match shared.fault {
        Fault::SameEntityTag => "\"same\"".to_owned(),
        Fault::WeakEntityTag => format!("W/\"{count}\""),
        _ => format!("\"{count}\""),
    };
    let (commands, received) = mpsc::channel(8);
    let peer = Peer { rtc, socket, local, shared: shared.clone(), id: id.clone(), commands: received };
    tokio::spawn(peer.run());
    let answer = dressed(shared, protocol, &answer);
    Some((id, Session { entity_tag, offer: body.to_owned(), answer, commands }))
}

/// 128 bits of the process's hasher, which is seeded by the kernel.
fn drawn() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    format!("{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2))
}

/// str0m's answer with what WHIP demands beyond it, and without what the fault leaves out.
fn dressed(shared: &Shared, protocol: &str, answer: &str) -> String {
    let mut text = String::new();
    let mut sections = 0;
    for line in answer.lines().map(str::trim_end) {
        match line {
            _ if line.starts_with("a=candidate") && shared.is(Fault::NoCandidates) => continue,
            _ if line.starts_with("a=msid") => continue,
            "a=recvonly" | "a=sendrecv" | "a=sendonly" | "a=inactive" => {
                let right = if protocol == "whip" { "a=recvonly" } else { "a=sendonly" };
                text += if shared.is(Fault::WrongDirection) { "a=sendrecv" } else { right };
                let stream = if shared.is(Fault::TwoStreams) { sections } else { 0 };
                text += &format!("\r\na=msid:stream{stream} track{sections}");
            }
            "a=rtcp-mux" if !shared.is(Fault::NoMuxOnly) => text += "a=rtcp-mux\r\na=rtcp-mux-only",
            _ => text += line,
        }
        sections += usize::from(line.starts_with("m="));
        text += "\r\n";
    }
    if shared.is(Fault::LinesEndWithLf) { text.replace("\r\n", "\n") } else { text }
}

async fn session(
    State(shared): State<Arc<Shared>>,
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
        match (known, method.as_str()) {
            (None, _) => shared.refuse(404, "There is no such session"),
            (Some(_), "GET" | "HEAD") => look(&shared, "session", false),
            (Some(_), "PATCH" | "DELETE") if !shared.is_let_in(&headers) => {
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
    if header("content-type") != Some("application/trickle-ice-sdpfrag") {
        return shared.refuse(415, "This is no fragment");
    }
    let Some(if_match) = header("if-match") else {
        let status = if shared.is(Fault::NoIfMatchIs400) { 400 } else { 428 };
        return shared.refuse(status, "Of which ICE session is this");
    };
    if !matches!(if_match, "*" | "\"*\"") && if_match != session.entity_tag {
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
        if shared.is(Fault::RestartFailureEnds) && is_fragment {
            shared.sessions().remove(id);
            let _ = session.commands.send(Command::End).await;
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
    let (reply, answered) = oneshot::channel();
    let _ = session.commands.send(Command::Restart(offer.clone(), reply)).await;
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
    session.entity_tag = format!("\"{}-again\"", session.entity_tag.trim_matches(['"', 'W', '/']));
    session.offer = offer;
    let entity_tag = session.entity_tag.clone();
    shared.sessions().insert(id.to_owned(), session);
    Said::new(200).with("etag", entity_tag).body("application/trickle-ice-sdpfrag", fragment)
}

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    shared: Arc<Shared>,
    id: String,
    commands: mpsc::Receiver<Command>,
}

impl Peer {
    async fn run(mut self) {
        let begun = Instant::now();
        let mut is_connected = false;
        let mut buffer = vec![0; 2048];
        let mut commands_are_open = true;
        while self.rtc.is_alive() {
            let wake = loop {
                match self.rtc.poll_output() {
                    Ok(Output::Timeout(wake)) => break wake,
                    Ok(Output::Transmit(transmit)) => {
                        let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                    }
                    Ok(Output::Event(Event::Connected)) => is_connected = true,
                    Ok(Output::Event(Event::IceConnectionStateChange(IceConnectionState::Disconnected))) => {
                        return self.forget();
                    }
                    Ok(Output::Event(_)) => {}
                    Err(_) => return self.forget(),
                }
            };
            let expires = begun + UNCONNECTED_MAX;
            if !is_connected && Instant::now() > expires && !self.shared.is(Fault::NeverExpires) {
                return self.forget();
            }
            let wake = if is_connected { wake } else { wake.min(expires + Duration::from_millis(10)) };
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    if let Ok((length, source)) = received
                        && let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, &buffer[..length])
                    {
                        let _ = self.rtc.handle_input(Input::Receive(Instant::now(), receive));
                    }
                }
                command = self.commands.recv(), if commands_are_open => match command {
                    Some(Command::Restart(offer, reply)) => {
                        let answer = SdpOffer::from_sdp_string(&offer).ok();
                        let answer = answer.and_then(|offer| self.rtc.sdp_api().accept_offer(offer).ok());
                        let _ = reply.send(answer.map(|answer| answer.to_sdp_string()));
                    }
                    Some(Command::End) if self.shared.is(Fault::NoGoodbye) => return,
                    Some(Command::End) => {
                        let _ = self.rtc.close();
                    }
                    None => commands_are_open = false,
                },
                () = tokio::time::sleep_until(wake.into()) => {
                    let _ = self.rtc.handle_input(Input::Timeout(Instant::now()));
                }
            }
        }
        self.forget();
    }

    fn forget(&self) {
        self.shared.sessions().remove(&self.id);
    }
}
