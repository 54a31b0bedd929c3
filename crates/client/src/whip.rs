//! The WHIP publisher (RFC 9725): one audio and one video track at most, packets given by the caller.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use model::{Codec, Kind, Rid};
use str0m::media::{Direction, MediaKind, Mid, Pt, Simulcast, SimulcastLayer};
use str0m::rtp::{AbsCaptureTime, ExtensionValues, RtpWrite, SeqNo};
use str0m::{Event, Rtc};
use tokio::sync::{mpsc, watch};

use crate::codecs::{self, H264Offer};
use crate::error::{CloseError, ConnectError, Ending, RestartError};
use crate::http::{self, Accepted, Resource};
use crate::ice::IceDescription;
use crate::impairment::Impairment;
use crate::offer::{Answered, Offer};
use crate::peer::{self, Joining, Message, Peer, Role, State};

/// How a publisher behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Simulcast layers of the video track, best first (RFC 8853); empty for a single stream.
    pub layers: Vec<Rid>,
    /// Offer retransmissions (RFC 4588). OBS does not; without it no NACK is answered.
    pub rtx: bool,
    /// List the local candidate in the offer. OBS does not.
    pub candidates_in_offer: bool,
    /// Send the `abs-capture-time` header extension, if the server takes it.
    pub capture_time: bool,
    /// First RTP sequence number of every stream. SRTP starts at rollover counter 0, so browsers keep to the lower
    /// half; a high one makes the counter roll over early. `None` draws one.
    pub first_seq_no: Option<u16>,
    /// Losses on this side.
    pub impairment: Impairment,
    /// How long ICE and DTLS may take.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            rtx: true,
            candidates_in_offer: true,
            capture_time: true,
            first_seq_no: None,
            impairment: Impairment::NONE,
            patience: Duration::from_secs(15),
        }
    }
}

/// One RTP packet to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Track.
    pub kind: Kind,
    /// Simulcast layer, where there are layers.
    pub rid: Option<Rid>,
    /// RTP timestamp, in ticks of the codec's clock.
    pub timestamp: u32,
    /// RTP marker.
    pub marker: bool,
    /// When the sample was captured: what sender reports and `abs-capture-time` say.
    pub captured: Instant,
    /// RTP payload.
    pub payload: Bytes,
}

/// The WHIP client.
#[derive(Debug)]
pub struct Whip;

impl Whip {
    /// Publishes to the WHIP endpoint `url` with one track for each of `codecs`, and waits until media can flow.
    ///
    /// # Errors
    /// [`ConnectError`] says which step failed.
    pub async fn connect(
        url: &str,
        token: Option<&str>,
        tracks: &[Codec],
        options: Options,
    ) -> Result<WhipSession, ConnectError> {
        let endpoint = http::endpoint(url)?;
        let offer = Self::offer(url, tracks, options).await?;
        let Accepted { resource, answer } =
            http::post_offer(endpoint, token, offer.description().to_owned()).await?;
        let peer = offer.accept(&answer).await?;
        Ok(WhipSession { resource, answer, peer })
    }

    /// A publisher without signalling of its own: the caller brings its offer to the server at `url`, over HTTP or
    /// HTTPS, and the answer back.
    ///
    /// # Errors
    /// [`ConnectError`] if there is no socket, or nothing to offer.
    pub async fn offer(url: &str, tracks: &[Codec], options: Options) -> Result<WhipOffer, ConnectError> {
        let socket = peer::socket_towards(&http::server(url)?).await?;
        let started = Instant::now();
        let mut rtc = codecs::configuration(tracks, H264Offer::One, options.rtx).build(started);
        let candidate = peer::host_candidate(socket.1)?;
        if options.candidates_in_offer {
            rtc.add_local_candidate(candidate.clone());
        }
        let mut changes = rtc.sdp_api();
        let mut mids = Vec::new();
        for codec in tracks {
            let (kind, simulcast) = match codec.kind() {
                Kind::Audio => (MediaKind::Audio, None),
                Kind::Video => (MediaKind::Video, simulcast(&options.layers)),
            };
            let stream = Some("media-tree-client".to_owned());
            mids.push((*codec, changes.add_media(kind, Direction::SendOnly, stream, None, simulcast)));
        }
        let (offer, pending) =
            changes.apply().ok_or(ConnectError::Answer { reason: "there is nothing to offer".into() })?;
        let is_candidate_offered = options.candidates_in_offer;
        let description = offer.to_sdp_string();
        let offer = Offer { rtc, pending, socket, started, candidate, is_candidate_offered, description };
        Ok(WhipOffer { offer, mids, options })
    }
}

/// A publisher that waits for the server's answer.
pub struct WhipOffer {
    offer: Offer,
    mids: Vec<(Codec, Mid)>,
    options: Options,
}

impl WhipOffer {
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
    pub async fn accept(self, answer: &str) -> Result<WhipPeer, ConnectError> {
        let Self { offer, mids, options } = self;
        let answered = offer.started.elapsed();
        let Answered { rtc, socket, started } = offer.accept(answer)?;
        let tracks = tracks_of(&rtc, &mids, &options).map_err(|reason| ConnectError::Answer { reason })?;
        let keyframe_requests = Arc::new(AtomicU64::new(0));
        let publisher =
            Publisher { tracks, keyframe_requests: keyframe_requests.clone(), options: options.clone() };
        let (peer, messages, mut states) = Peer::new(rtc, socket, publisher, (options.impairment, answer));
        tokio::spawn(peer.run());
        let connected = peer::connected(&mut states, options.patience).await?.duration_since(started);
        let joining = Joining { started, answered, connected };
        Ok(WhipPeer { messages, states, keyframe_requests, joining })
    }
}

fn simulcast(layers: &[Rid]) -> Option<Simulcast> {
    let mut simulcast = Simulcast::new();
    layers.iter().for_each(|rid| simulcast.add_send_layer(SimulcastLayer::new(rid.as_str())));
    (!layers.is_empty()).then_some(simulcast)
}

/// One RTP stream of the publisher.
struct Track {
    kind: Kind,
    rid: Option<Rid>,
    mid: Mid,
    payload_type: Pt,
    next_seq_no: SeqNo,
}

fn tracks_of(rtc: &Rtc, mids: &[(Codec, Mid)], options: &Options) -> Result<Vec<Track>, String> {
    let mut tracks = Vec::new();
    for &(codec, mid) in mids {
        let payload_type = codecs::agreed_payload_type(rtc, mid, codec)
            .ok_or_else(|| format!("it does not take {codec}, the codec offered"))?;
        let is_layered = codec.kind() == Kind::Video && !options.layers.is_empty();
        let rids: Vec<Option<Rid>> =
            if is_layered { options.layers.iter().cloned().map(Some).collect() } else { vec![None] };
        for rid in rids {
            let first = match options.first_seq_no {
                Some(first) => first,
                None => getrandom::u32().map_err(|error| error.to_string())? as u16 & 0x7fff,
            };
            let next_seq_no = SeqNo::from(u64::from(first));
            tracks.push(Track { kind: codec.kind(), rid, mid, payload_type, next_seq_no });
        }
    }
    Ok(tracks)
}

struct Publisher {
    tracks: Vec<Track>,
    keyframe_requests: Arc<AtomicU64>,
    options: Options,
}

impl Role for Publisher {
    type Command = Outgoing;

    fn handle_event(&mut self, _now: Instant, _rtc: &mut Rtc, event: Event, _payload_type: Option<u8>) {
        if let Event::KeyframeRequest(_) = event {
            self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn handle_command(&mut self, now: Instant, rtc: &mut Rtc, packet: Outgoing) {
        let is_it = |track: &&mut Track| track.kind == packet.kind && track.rid == packet.rid;
        let Some(track) = self.tracks.iter_mut().find(is_it) else { return };
        let rid = track.rid.as_ref().map(|rid| rid.as_str().into());
        let mut direct = rtc.direct_api();
        let Some(stream) = direct.stream_tx_by_mid(track.mid, rid) else { return };
        let mut extensions = ExtensionValues::default();
        if self.options.capture_time {
            let capture_time = SystemTime::now() - now.saturating_duration_since(packet.captured);
            extensions.abs_capture_time = Some(AbsCaptureTime { capture_time, clock_offset: None });
        }
        let write = RtpWrite::new(
            track.payload_type,
            track.next_seq_no,
            packet.timestamp,
            packet.captured,
            &packet.payload[..],
        )
        .marker(packet.marker)
        .nackable(packet.kind == Kind::Video)
        .ext_vals(extensions);
        track.next_seq_no = SeqNo::from(*track.next_seq_no + 1);
        stream.write_rtp(write);
    }

    fn handle_timeout(&mut self, _now: Instant, _rtc: &mut Rtc) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// A connected publisher. Dropped, it vanishes without a word, as a crashed client does; see [`WhipSession::close`].
pub struct WhipSession {
    resource: Resource,
    answer: String,
    peer: WhipPeer,
}

impl WhipSession {
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

impl Deref for WhipSession {
    type Target = WhipPeer;

    fn deref(&self) -> &WhipPeer {
        &self.peer
    }
}

/// The connection of a publisher, whoever did its signalling. Dropped, it vanishes without a word.
pub struct WhipPeer {
    messages: mpsc::Sender<Message<Outgoing>>,
    states: watch::Receiver<State>,
    keyframe_requests: Arc<AtomicU64>,
    joining: Joining,
}

impl WhipPeer {
    /// Sends one packet of a track without layers, captured now. Sequence numbers are given in order of writing.
    ///
    /// # Errors
    /// [`Ending`] if the session has ended.
    pub async fn write(
        &self,
        kind: Kind,
        timestamp: u32,
        marker: bool,
        payload: impl Into<Bytes>,
    ) -> Result<(), Ending> {
        let captured = Instant::now();
        self.send(Outgoing { kind, rid: None, timestamp, marker, captured, payload: payload.into() }).await
    }

    /// Sends one packet.
    ///
    /// # Errors
    /// [`Ending`] if the session has ended.
    pub async fn send(&self, packet: Outgoing) -> Result<(), Ending> {
        peer::command(&self.messages, &self.states, packet).await
    }

    /// Keyframe requests (PLI, FIR) received so far. Nobody answers them but the caller: one that does not look is
    /// as deaf as OBS.
    #[must_use]
    pub fn keyframe_requests(&self) -> u64 {
        self.keyframe_requests.load(Ordering::Relaxed)
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
