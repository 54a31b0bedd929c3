//! A foreign server: the smallest one that str0m makes, with full ICE. It answers offers, or makes counter-offers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::watch;

pub const TOKEN: &str = "sesame";
const PACKET_INTERVAL: Duration = Duration::from_millis(20);
/// A keyframe in one packet: parameter sets and the picture (STAP-A).
const KEYFRAME: &[u8] = &[0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 4, 0x65, 0x88, 1, 2];
const DELTA: &[u8] = &[0x41, 0x9a, 1, 2];

/// What the server has seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Authorization of each POST, in order.
    pub authorizations: Vec<Option<String>>,
    pub patches: usize,
    pub deletes: usize,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    /// Counter-offers that wait for their answer.
    pending: Mutex<Vec<Option<(Peer, SdpPendingOffer)>>>,
    /// Where `/abroad` sends its visitors.
    abroad: Option<String>,
    is_silent: watch::Sender<bool>,
}

impl Server {
    pub async fn open(abroad: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            pending: Mutex::default(),
            abroad,
            is_silent: watch::channel(false).0,
        });
        let router = Router::new()
            .route("/answers", post(answers))
            .route("/offers", post(offers))
            .route("/elsewhere", post(|| async { redirect("/answers") }))
            .route("/circle", post(|| async { redirect("/circle") }))
            .route("/abroad", post(go_abroad))
            .route("/refuses", post(|| async { StatusCode::FORBIDDEN }))
            .route(
                "/nonsense",
                post(|| async { (StatusCode::CREATED, [("location", "/session/0")], "v=nonsense") }),
            )
            .route("/session/{id}", patch(answered).delete(delete))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn seen(&self) -> Seen {
        self.shared.seen.lock().expect("lock").clone()
    }

    /// No peer says anything any more.
    pub fn fall_silent(&self) {
        self.shared.is_silent.send_replace(true);
    }
}

fn redirect(location: &str) -> impl IntoResponse + use<> {
    (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location.to_owned())])
}

fn note(shared: &Shared, headers: &HeaderMap) {
    let authorization =
        headers.get(header::AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned());
    shared.seen.lock().expect("lock").authorizations.push(authorization);
}

async fn go_abroad(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    note(&shared, &headers);
    redirect(shared.abroad.as_deref().expect("somewhere")).into_response()
}

async fn answers(State(shared): State<Arc<Shared>>, headers: HeaderMap, offer: String) -> Response {
    note(&shared, &headers);
    let mut peer = Peer::new().await;
    let offer = SdpOffer::from_sdp_string(&offer).expect("an offer");
    let answer = peer.rtc.sdp_api().accept_offer(offer).expect("acceptable");
    tokio::spawn(peer.run(shared.is_silent.subscribe()));
    let headers = [(header::CONTENT_TYPE, "application/sdp"), (header::LOCATION, "/session/1")];
    (StatusCode::CREATED, headers, answer.to_sdp_string()).into_response()
}

async fn offers(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    note(&shared, &headers);
    let mut peer = Peer::new().await;
    let mut changes = peer.rtc.sdp_api();
    changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
    let video = changes.add_media(MediaKind::Video, Direction::SendOnly, None, None, None);
    let (offer, pending) = changes.apply().expect("something to offer");
    peer.video = Some(video);
    let mut waiting = shared.pending.lock().expect("lock");
    waiting.push(Some((peer, pending)));
    let location = format!("/session/{}", waiting.len() - 1);
    let headers = [(header::CONTENT_TYPE, "application/sdp".to_owned()), (header::LOCATION, location)];
    (StatusCode::NOT_ACCEPTABLE, headers, offer.to_sdp_string()).into_response()
}

async fn answered(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<usize>,
    headers: HeaderMap,
    answer: String,
) -> StatusCode {
    shared.seen.lock().expect("lock").patches += 1;
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let waiting = shared.pending.lock().expect("lock").get_mut(id).and_then(Option::take);
    let Some((mut peer, pending)) = waiting else { return StatusCode::NOT_FOUND };
    if authorization != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED;
    }
    let answer = SdpAnswer::from_sdp_string(&answer).expect("an answer");
    peer.rtc.sdp_api().accept_answer(pending, answer).expect("acceptable");
    tokio::spawn(peer.run(shared.is_silent.subscribe()));
    StatusCode::NO_CONTENT
}

async fn delete(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.seen.lock().expect("lock").deletes += 1;
    StatusCode::OK
}

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    video: Option<Mid>,
    is_connected: bool,
    sent: u64,
}

impl Peer {
    async fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        let local = socket.local_addr().expect("address");
        let config = RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true);
        let mut rtc = config.set_rtp_mode(true).build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).expect("candidate"));
        Self { rtc, socket, local, video: None, is_connected: false, sent: 0 }
    }

    async fn run(mut self, mut is_silent: watch::Receiver<bool>) {
        let mut buffer = vec![0; 2048];
        let mut pace = tokio::time::interval(PACKET_INTERVAL);
        while self.rtc.is_alive() && !*is_silent.borrow() {
            let wake = loop {
                match self.rtc.poll_output().expect("poll") {
                    Output::Timeout(wake) => break wake,
                    Output::Transmit(transmit) => {
                        let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                    }
                    Output::Event(Event::MediaAdded(added)) if added.kind.is_video() => {
                        self.video = Some(added.mid)
                    }
                    Output::Event(Event::Connected) => self.is_connected = true,
                    Output::Event(_) => {}
                }
            };
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received.expect("receive");
                    if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, &buffer[..length]) {
                        self.rtc.handle_input(Input::Receive(Instant::now(), receive)).expect("input");
                    }
                }
                _ = pace.tick(), if self.is_connected => self.send(),
                _ = is_silent.changed() => {}
                () = tokio::time::sleep_until(wake.into()) => {
                    self.rtc.handle_input(Input::Timeout(Instant::now())).expect("timeout");
                }
            }
        }
    }

    fn send(&mut self) {
        let Some(mid) = self.video else { return };
        let Some(payload_type) = self.rtc.media(mid).and_then(|media| media.remote_pts().first().copied())
        else {
            return;
        };
        let payload = if self.sent.is_multiple_of(50) { KEYFRAME } else { DELTA };
        let timestamp = (self.sent * 1800) as u32;
        // Near the end of 16 bits: the rollover counter has to follow.
        let seq_no = (65_500 + self.sent).into();
        self.sent += 1;
        if let Some(stream) = self.rtc.direct_api().stream_tx_by_mid(mid, None) {
            let write = RtpWrite::new(payload_type, seq_no, timestamp, Instant::now(), payload);
            stream.write_rtp(write.marker(true).nackable(true).ext_vals(ExtensionValues::default()));
        }
    }
}
