//! A stage to play on: the smallest WHIP and WHEP server that str0m makes. One publisher, every viewer gets its
//! packets as they come. It exists so that this crate is tested without the product's server.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use str0m::change::SdpOffer;
use str0m::media::KeyframeRequestKind;
use str0m::net::{Protocol, Receive};
use str0m::rtp::{Extension, ExtensionMap, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::{broadcast, watch};

pub const TOKEN: &str = "sesame";

#[derive(Clone)]
pub struct Stage {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    media: broadcast::Sender<Arc<RtpPacket>>,
    keyframe_requests: broadcast::Sender<()>,
    closed: watch::Sender<u32>,
    deleted: Mutex<Vec<String>>,
    layers: Mutex<BTreeSet<String>>,
}

impl Stage {
    pub async fn open() -> Self {
        let shared = Arc::new(Shared {
            media: broadcast::channel(1024).0,
            keyframe_requests: broadcast::channel(16).0,
            closed: watch::channel(0).0,
            deleted: Mutex::default(),
            layers: Mutex::default(),
        });
        let router = Router::new()
            .route("/whip/demo", post(whip))
            .route("/whep/demo", post(whep))
            .route(
                "/elsewhere/demo",
                post(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/whip/demo")]) }),
            )
            .route(
                "/circle/demo",
                post(|| async { (StatusCode::TEMPORARY_REDIRECT, [("location", "/circle/demo")]) }),
            )
            .route(
                "/full/demo",
                post(|| async { (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")], "full") }),
            )
            .route("/session/{id}", delete(forget))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Closes every session from the server's side.
    pub fn close_all(&self) {
        self.shared.closed.send_modify(|count| *count += 1);
    }

    /// Layers of which a packet came, in order of name.
    pub fn layers_seen(&self) -> Vec<String> {
        self.shared.layers.lock().expect("lock").iter().cloned().collect()
    }

    pub fn deleted(&self) -> usize {
        self.shared.deleted.lock().expect("lock").len()
    }
}

async fn forget(
    State(shared): State<Arc<Shared>>,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> StatusCode {
    shared.deleted.lock().expect("lock").push(id);
    StatusCode::OK
}

async fn whip(State(shared): State<Arc<Shared>>, headers: HeaderMap, offer: String) -> Response {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    accept(shared, &offer, true).await
}

async fn whep(State(shared): State<Arc<Shared>>, offer: String) -> Response {
    accept(shared, &offer, false).await
}

async fn accept(shared: Arc<Shared>, offer: &str, is_publisher: bool) -> Response {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bind");
    let local = socket.local_addr().expect("address");
    let mut extensions = ExtensionMap::standard();
    extensions.set(5, Extension::AbsoluteCaptureTime);
    let config =
        RtcConfig::new().clear_codecs().enable_opus(true, false).enable_h264(true).set_ice_lite(true);
    let mut rtc = config.set_rtp_mode(true).set_extension_map(extensions).build(Instant::now());
    rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).expect("candidate"));
    let Ok(offer) = SdpOffer::from_sdp_string(offer) else { return StatusCode::BAD_REQUEST.into_response() };
    let answer = rtc.sdp_api().accept_offer(offer).expect("offer");
    let peer = StagePeer { rtc, socket, local, is_publisher, mids: Vec::new() };
    tokio::spawn(peer.run(shared));
    let headers = [(header::CONTENT_TYPE, "application/sdp"), (header::LOCATION, "/session/1")];
    (StatusCode::CREATED, headers, answer.to_sdp_string()).into_response()
}

struct StagePeer {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    is_publisher: bool,
    mids: Vec<(str0m::media::Mid, str0m::media::MediaKind)>,
}

impl StagePeer {
    async fn run(mut self, shared: Arc<Shared>) {
        let mut media = shared.media.subscribe();
        let mut keyframe_requests = shared.keyframe_requests.subscribe();
        let mut closed = shared.closed.subscribe();
        let mut buffer = vec![0; 2048];
        while self.rtc.is_alive() {
            let wake = loop {
                match self.rtc.poll_output().expect("poll") {
                    Output::Timeout(wake) => break wake,
                    Output::Transmit(transmit) => {
                        let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                    }
                    Output::Event(event) => self.handle_event(&shared, event),
                }
            };
            if !self.rtc.is_alive() {
                return;
            }
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (length, source) = received.expect("receive");
                    if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, &buffer[..length]) {
                        self.rtc.handle_input(Input::Receive(Instant::now(), receive)).expect("input");
                    }
                }
                Ok(packet) = media.recv(), if !self.is_publisher => self.forward(&packet),
                Ok(()) = keyframe_requests.recv(), if self.is_publisher => self.request_keyframe(),
                Ok(()) = closed.changed() => self.rtc.close().expect("close"),
                () = tokio::time::sleep_until(wake.into()) => {
                    self.rtc.handle_input(Input::Timeout(Instant::now())).expect("timeout");
                }
            }
        }
    }

    fn handle_event(&mut self, shared: &Shared, event: Event) {
        match event {
            Event::MediaAdded(added) => self.mids.push((added.mid, added.kind)),
            Event::RtpPacket(packet) if self.is_publisher => {
                let stream =
                    self.rtc.direct_api().stream_rx(&packet.header.ssrc).and_then(|stream| stream.rid());
                if let Some(rid) = stream {
                    shared.layers.lock().expect("lock").insert(rid.to_string());
                }
                let _ = shared.media.send(Arc::new(packet));
            }
            Event::KeyframeRequest(_) => {
                let _ = shared.keyframe_requests.send(());
            }
            _ => {}
        }
    }

    fn forward(&mut self, packet: &RtpPacket) {
        let is_video = packet.header.payload_type != 111.into();
        let Some((mid, _)) = self.mids.iter().find(|(_, kind)| kind.is_video() == is_video) else { return };
        let media = self.rtc.media(*mid).expect("media");
        let Some(payload_type) = media.remote_pts().first().copied() else { return };
        let mut direct = self.rtc.direct_api();
        let stream = direct.stream_tx_by_mid(*mid, None).expect("stream");
        let header = &packet.header;
        let mut extensions = header.ext_vals.clone();
        extensions.mid = None;
        stream.write_rtp(
            RtpWrite::new(
                payload_type,
                packet.seq_no,
                header.timestamp,
                packet.timestamp,
                packet.payload.clone(),
            )
            .marker(header.marker)
            .nackable(is_video)
            .ext_vals(extensions),
        );
    }

    fn request_keyframe(&mut self) {
        let Some((mid, _)) = self.mids.iter().find(|(_, kind)| kind.is_video()) else { return };
        if let Some(stream) = self.rtc.direct_api().stream_rx_by_mid(*mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }
}
