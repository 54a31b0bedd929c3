//! The WHEP viewer: receives, repairs and reports as a browser does, and hands out RTP packets instead of pictures.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use model::{Codec, Kind, SeqNo, Ssrc};
use str0m::change::SdpOffer;
use str0m::media::{Direction, KeyframeRequestKind, MediaKind, Mid};
use str0m::rtp::RtpPacket;
use str0m::stats::MediaIngressStats;
use str0m::{Event, Rtc};
use tokio::sync::{mpsc, watch};

use crate::codecs::{self, H264Offer};
use crate::error::{CloseError, ConnectError, Ending, RestartError};
use crate::http::{self, Accepted, Resource};
use crate::ice::IceDescription;
use crate::impairment::Impairment;
use crate::keyframe::starts_keyframe;
use crate::offer::{Answered, Offer};
use crate::peer::{self, Joining, Message, Peer, Role, State};
use crate::picture_loss::PictureLoss;

/// How often [`WhepSession::stats`] is brought up to date.
const STATS_INTERVAL: Duration = Duration::from_millis(250);

/// How a viewer behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Codecs offered.
    pub codecs: Vec<Codec>,
    /// Send PLI where a browser would.
    pub requests_keyframes: bool,
    /// List the local candidate in the offer.
    pub candidates_in_offer: bool,
    /// Losses on this side.
    pub impairment: Impairment,
    /// Packets that wait to be read; more are dropped and counted. 0 for a viewer whose packets nobody reads.
    pub queue_packets_max: usize,
    /// How long ICE and DTLS may take.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            codecs: vec![Codec::Opus, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1],
            requests_keyframes: true,
            candidates_in_offer: true,
            impairment: Impairment::NONE,
            queue_packets_max: 2048,
            patience: Duration::from_secs(15),
        }
    }
}

/// One RTP packet after SRTP, and after RTX where it came that way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPacket {
    /// Track.
    pub kind: Kind,
    /// SDP media id of the track.
    pub mid: String,
    /// Codec of the payload.
    pub codec: Codec,
    /// Stream; that of the original packet where it came by RTX.
    pub ssrc: Ssrc,
    /// Extended sequence number.
    pub seq_no: SeqNo,
    /// RTP timestamp, in ticks of the codec's clock.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// RTP payload without padding.
    pub payload: Bytes,
    /// When it was read from the socket.
    pub arrival: Instant,
    /// It was sent again on the RTX stream.
    pub via_rtx: bool,
    /// It starts a keyframe (H264 and VP8; true for other codecs).
    pub starts_keyframe: bool,
    /// The `abs-capture-time` header extension.
    pub capture_time: Option<SystemTime>,
    /// The latest sender report of the stream: wallclock and the RTP timestamp that belongs to it.
    pub sender_report: Option<(SystemTime, u32)>,
}

/// What one track received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamStats {
    /// RTP packets, those sent again included.
    pub packets: u64,
    /// Of them, sent again on the RTX stream.
    pub via_rtx: u64,
    /// RTP payload bytes.
    pub bytes: u64,
    /// Packets that no retransmission brought (video only).
    pub lost: u64,
    /// NACK messages sent.
    pub nacks: u64,
    /// PLI messages sent.
    pub plis: u64,
    /// Sender reports seen at work: the latest one came with a packet.
    pub has_sender_report: bool,
}

/// What a viewer received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// The audio track.
    pub audio: StreamStats,
    /// The video track.
    pub video: StreamStats,
    /// Packets that nobody read in time.
    pub unread: u64,
}

impl Stats {
    fn of(&mut self, kind: Kind) -> &mut StreamStats {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

/// The WHEP client.
#[derive(Debug)]
pub struct Whep;

impl Whep {
    /// Watches the WHEP endpoint `url` as a browser would, and waits until media can flow.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed.
    pub async fn connect(url: &str, token: Option<&str>) -> Result<WhepSession, ConnectError> {
        Self::connect_with(url, token, Options::default()).await
    }

    /// The same for a viewer that behaves otherwise.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed.
    pub async fn connect_with(
        url: &str,
        token: Option<&str>,
        options: Options,
    ) -> Result<WhepSession, ConnectError> {
        let endpoint = http::endpoint(url)?;
        let offer = Self::offer(url, options).await?;
        let Accepted { resource, answer } =
            http::post_offer(endpoint, token, offer.description().to_owned()).await?;
        let peer = offer.accept(&answer).await?;
        Ok(WhepSession { resource, answer, peer })
    }

    /// A viewer without signalling of its own: the caller brings its offer to the server at `url`, over HTTP or HTTPS,
    /// and the answer back.
    ///
    /// # Errors
    /// [`ConnectError`] if there is no socket, or nothing to offer.
    pub async fn offer(url: &str, options: Options) -> Result<WhepOffer, ConnectError> {
        let socket = peer::socket_towards(&http::server(url)?).await?;
        let started = Instant::now();
        let config = codecs::configuration(&options.codecs, H264Offer::All, true);
        let mut rtc = config.set_stats_interval(Some(STATS_INTERVAL)).build(started);
        let candidate = peer::host_candidate(socket.1)?;
        if options.candidates_in_offer {
            rtc.add_local_candidate(candidate.clone());
        }
        let mut changes = rtc.sdp_api();
        let mut tracks = Vec::new();
        for (kind, media_kind) in [(Kind::Audio, MediaKind::Audio), (Kind::Video, MediaKind::Video)] {
            if options.codecs.iter().any(|codec| codec.kind() == kind) {
                tracks.push((kind, changes.add_media(media_kind, Direction::RecvOnly, None, None, None)));
            }
        }
        let (offer, pending) =
            changes.apply().ok_or(ConnectError::Answer { reason: "there is nothing to offer".into() })?;
        let is_candidate_offered = options.candidates_in_offer;
        let description = offer.to_sdp_string();
        let offer = Offer { rtc, pending, socket, started, candidate, is_candidate_offered, description };
        Ok(WhepOffer { offer, tracks, options })
    }

    /// A viewer that the server at `url` has made an offer (WHEP, counter-offers): the caller brings its answer there.
    ///
    /// # Errors
    /// [`ConnectError`] if there is no socket, or the offer cannot be taken.
    pub async fn answer(url: &str, offer: &str, options: Options) -> Result<WhepAnswer, ConnectError> {
        let socket = peer::socket_towards(&http::server(url)?).await?;
        let started = Instant::now();
        let config = codecs::configuration(&options.codecs, H264Offer::All, true);
        let mut rtc = config.set_stats_interval(Some(STATS_INTERVAL)).build(started);
        rtc.add_local_candidate(peer::host_candidate(socket.1)?);
        let unusable = |error: &dyn std::fmt::Display| ConnectError::Offer { reason: error.to_string() };
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| unusable(&error))?;
        let answer = rtc.sdp_api().accept_offer(parsed).map_err(|error| unusable(&error))?;
        let description = answer.to_sdp_string();
        let answered = Answered { rtc, socket, started };
        Ok(WhepAnswer { answered, offer: offer.to_owned(), description, options })
    }
}

/// A viewer that has answered an offer of the server.
pub struct WhepAnswer {
    answered: Answered,
    offer: String,
    description: String,
    options: Options,
}

impl WhepAnswer {
    /// The answer.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.description
    }

    /// Waits until media can flow. The server has to have the answer.
    ///
    /// # Errors
    /// [`ConnectError`] if nothing comes through.
    pub async fn connect(self) -> Result<WhepPeer, ConnectError> {
        let Self { answered, offer, description: _, options } = self;
        begin(answered, (sections(&offer), options), &offer).await
    }
}

/// The sections of a server's description, and of which kind they are.
fn sections(description: &str) -> Vec<(Kind, Mid)> {
    let (mut kind, mut sections) = (None, Vec::new());
    for line in description.lines().map(str::trim_end) {
        if line.starts_with("m=") {
            kind = [("m=audio ", Kind::Audio), ("m=video ", Kind::Video)]
                .into_iter()
                .find_map(|(word, kind)| line.starts_with(word).then_some(kind));
        } else if let (Some(mid), Some(kind)) = (line.strip_prefix("a=mid:"), kind) {
            sections.push((kind, Mid::from(mid)));
        }
    }
    sections
}

/// A viewer begins whose description and the server's are known to both.
async fn begin(
    answered: Answered,
    (tracks, options): (Vec<(Kind, Mid)>, Options),
    server: &str,
) -> Result<WhepPeer, ConnectError> {
    let Answered { rtc, socket, started } = answered;
    let answered = started.elapsed();
    let stats = Arc::new(Mutex::new(Stats::default()));
    let (sender, packets) = mpsc::channel(options.queue_packets_max.max(1));
    let viewer = Viewer {
        tracks,
        packets: (options.queue_packets_max > 0).then_some(sender),
        stats: stats.clone(),
        requests_keyframes: options.requests_keyframes,
        picture: PictureLoss::default(),
    };
    let (peer, messages, mut states) = Peer::new(rtc, socket, viewer, (options.impairment, server));
    tokio::spawn(peer.run());
    let connected = peer::connected(&mut states, options.patience).await?.duration_since(started);
    let joining = Joining { started, answered, connected };
    Ok(WhepPeer { packets, messages, states, stats, joining })
}

/// A viewer that waits for the server's answer.
pub struct WhepOffer {
    offer: Offer,
    tracks: Vec<(Kind, Mid)>,
    options: Options,
}

impl WhepOffer {
    /// The offer.
    #[must_use]
    pub fn description(&self) -> &str {
        &self.offer.description
    }

    /// Its ICE, for trickling and checks by hand.
    #[must_use]
    pub fn ice(&mut self) -> IceDescription {
        self.offer.ice()
    }

    /// Takes the server's answer and waits until media can flow.
    ///
    /// # Errors
    /// [`ConnectError`] if the answer cannot be used, or nothing comes through.
    pub async fn accept(self, answer: &str) -> Result<WhepPeer, ConnectError> {
        let Self { offer, tracks, options } = self;
        begin(offer.accept(answer)?, (tracks, options), answer).await
    }
}

struct Viewer {
    tracks: Vec<(Kind, Mid)>,
    packets: Option<mpsc::Sender<ReceivedPacket>>,
    stats: Arc<Mutex<Stats>>,
    requests_keyframes: bool,
    picture: PictureLoss,
}

/// What a viewer's owner can ask for.
pub(crate) struct RequestKeyframe;

impl Viewer {
    fn kind_of(&self, mid: Mid) -> Option<Kind> {
        self.tracks.iter().find(|track| track.1 == mid).map(|track| track.0)
    }

    fn handle_packet(&mut self, now: Instant, rtc: &mut Rtc, packet: &RtpPacket, payload_type: Option<u8>) {
        let ssrc = packet.header.ssrc;
        let Some(mid) = rtc.direct_api().stream_rx(&ssrc).map(|stream| stream.mid()) else { return };
        let (Some(kind), Some(codec)) =
            (self.kind_of(mid), codecs::codec_of(rtc, packet.header.payload_type))
        else {
            return;
        };
        let via_rtx = payload_type.is_some_and(|payload_type| codecs::is_rtx(rtc, payload_type));
        let starts_keyframe = starts_keyframe(codec, &packet.payload);
        if kind == Kind::Video {
            self.picture.handle_packet(now, *packet.seq_no, starts_keyframe);
        }
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = stats.of(kind);
        stream.packets += 1;
        stream.via_rtx += u64::from(via_rtx);
        stream.bytes += packet.payload.len() as u64;
        stream.has_sender_report |= packet.last_sender_info.is_some();
        let Some(packets) = &self.packets else { return };
        let received = ReceivedPacket {
            kind,
            mid: mid.to_string(),
            codec,
            ssrc: Ssrc::new(*ssrc),
            seq_no: SeqNo::new(*packet.seq_no),
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload: Bytes::copy_from_slice(&packet.payload),
            arrival: packet.timestamp,
            via_rtx,
            starts_keyframe,
            capture_time: packet.header.ext_vals.abs_capture_time.map(|extension| extension.capture_time),
            sender_report: packet
                .last_sender_info
                .map(|report| (report.ntp_time, report.rtp_time.numer() as u32)),
        };
        if packets.try_send(received).is_err() {
            stats.unread += 1;
        }
    }

    fn handle_stats(&self, ingress: &MediaIngressStats) {
        let Some(kind) = self.kind_of(ingress.mid) else { return };
        let mut stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = stats.of(kind);
        stream.nacks = ingress.nacks;
        stream.plis = ingress.plis;
        if kind == Kind::Video {
            stream.lost = self.picture.lost();
        }
    }

    fn request_keyframe(&self, rtc: &mut Rtc) {
        let Some((_, mid)) = self.tracks.iter().find(|track| track.0 == Kind::Video) else { return };
        if let Some(stream) = rtc.direct_api().stream_rx_by_mid(*mid, None) {
            stream.request_keyframe(KeyframeRequestKind::Pli);
        }
    }
}

impl Role for Viewer {
    type Command = RequestKeyframe;

    fn handle_event(&mut self, now: Instant, rtc: &mut Rtc, event: Event, payload_type: Option<u8>) {
        match event {
            Event::RtpPacket(packet) => self.handle_packet(now, rtc, &packet, payload_type),
            Event::MediaIngressStats(ingress) => self.handle_stats(&ingress),
            _ => {}
        }
    }

    fn handle_command(&mut self, _now: Instant, rtc: &mut Rtc, _command: RequestKeyframe) {
        self.request_keyframe(rtc);
    }

    fn handle_timeout(&mut self, now: Instant, rtc: &mut Rtc) {
        if self.picture.handle_timeout(now) && self.requests_keyframes {
            self.request_keyframe(rtc);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.picture.poll_timeout()
    }
}

/// A connected viewer. Dropped, it vanishes without a word, as a crashed client does; see [`WhepSession::close`].
pub struct WhepSession {
    resource: Resource,
    answer: String,
    peer: WhepPeer,
}

impl WhepSession {
    /// The server's SDP.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    /// URL of the session on the server.
    #[must_use]
    pub fn url(&self) -> &str {
        self.resource.url()
    }

    /// Ends without a word to anybody, as a crashed client or a cut network does. The same as dropping the session.
    pub fn vanish(self) {}

    /// Ends the session: goodbye over DTLS, then DELETE, which must answer 200.
    ///
    /// # Errors
    /// [`CloseError`] if the server does not answer DELETE as it must.
    pub async fn close(self) -> Result<(), CloseError> {
        self.peer.say_goodbye().await;
        self.resource.delete().await
    }
}

impl Deref for WhepSession {
    type Target = WhepPeer;

    fn deref(&self) -> &WhepPeer {
        &self.peer
    }
}

impl DerefMut for WhepSession {
    fn deref_mut(&mut self) -> &mut WhepPeer {
        &mut self.peer
    }
}

/// The connection of a viewer, whoever did its signalling. Dropped, it vanishes without a word.
pub struct WhepPeer {
    packets: mpsc::Receiver<ReceivedPacket>,
    messages: mpsc::Sender<Message<RequestKeyframe>>,
    states: watch::Receiver<State>,
    stats: Arc<Mutex<Stats>>,
    joining: Joining,
}

impl WhepPeer {
    /// The next packet, in order of arrival; `None` once the session has ended and everything is read.
    pub async fn receive(&mut self) -> Option<ReceivedPacket> {
        self.packets.recv().await
    }

    /// Counters since the start; NACK, PLI and loss up to a quarter of a second old.
    #[must_use]
    pub fn stats(&self) -> Stats {
        *self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a PLI for the video track.
    ///
    /// # Errors
    /// [`Ending`] if the session has ended.
    pub async fn request_keyframe(&self) -> Result<(), Ending> {
        peer::command(&self.messages, &self.states, RequestKeyframe).await
    }

    /// How long joining took.
    #[must_use]
    pub const fn joining(&self) -> Joining {
        self.joining
    }

    /// Waits until the session has ended, and says how.
    pub async fn closed(&self) -> Ending {
        peer::ended(&mut self.states.clone()).await
    }

    /// Begins an ICE restart: what the server is to be told with a PATCH.
    ///
    /// # Errors
    /// [`RestartError`] if the session has ended.
    pub async fn begin_restart(&self) -> Result<IceDescription, RestartError> {
        peer::begin_restart(&self.messages).await
    }

    /// Goes on with what the server answered; waits until the new ICE session is connected, at most `patience`.
    ///
    /// # Errors
    /// [`RestartError`] says what did not work.
    pub async fn finish_restart(
        &self,
        server: IceDescription,
        patience: Duration,
    ) -> Result<(), RestartError> {
        peer::finish_restart(&self.messages, server, patience).await
    }

    /// Says goodbye over RTCP and DTLS, and ends.
    pub async fn say_goodbye(&self) {
        if self.messages.send(Message::Close).await.is_ok() {
            self.closed().await;
        }
    }
}
