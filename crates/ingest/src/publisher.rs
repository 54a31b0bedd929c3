//! One publisher's WebRTC session: str0m in RTP mode as an ICE-lite agent, its packets turned into tree packets.
//!
//! Offers are judged and answers finished by crate `signaling`. What the publisher may do is decided by [`crate::Origin`].
//!
//! **Invariant**: a packet keeps its distance to every other one of its stream. Tree sequence number = the publisher's
//! extended one + a constant, so losses keep their gap and late packets find their place.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use media_core::svc::dependency;
use media_core::time::ClockOffset;
use model::{Kind, Mid, NtpTime, Ssrc, Track};
use str0m::change::SdpOffer;
use str0m::config::DtlsCert;
use str0m::media::KeyframeRequestKind;
use str0m::rtp::{Extension, ExtensionMap, ExtensionSerializer, ExtensionValues};
use str0m::{Candidate, Event, IceCreds, Input, Output as EngineOutput, Rtc, RtcConfig};

mod api;
mod channels;
mod dtls;
mod offer;
mod receive;
mod record;
mod repair;
mod resume;
mod stats;
mod stun;
mod tracks;

pub use api::{AcceptError, Certificate, CloseReason, IceCredentials, Identity, Output, Setup};
pub use record::{DecodeError, PublisherRecord};
pub use resume::ResumeError;
pub use stats::{Connection, Drops, LayerStats, Stats};

use crate::stream::Stream;
use offer::Section;

/// Sessions that never connect end after this (RFC 9725 has none; WHIP clients give up after 8 to 30 s).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence after which the publisher's consent is gone (RFC 7675, section 5.1).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// How often receiver reports go out; the engine tells audio from video by whether there is RTX, so both alike.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Most local addresses that one session learns.
const LOCAL_ADDRESSES_MAX: usize = 16;
/// Most addresses of the publisher that are remembered.
const REMOTE_ADDRESSES_MAX: usize = 8;
/// So many new addresses may check the path to us at once: the engine keeps a candidate for each and looks through all of
/// them. No honest peer has as many.
const NEW_ADDRESSES_MAX: u32 = 64;
/// One more may come after this time.
const NEW_ADDRESS_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting { until: Instant },
    Connected,
    Closing,
    Closed,
}

/// Where an SSRC of the publisher belongs, once one of its packets was authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RemoteStream {
    is_repair: bool,
    /// Index in [`Publisher::streams`], once the engine knows.
    stream: Option<usize>,
    /// Highest extended sequence number that was authentic.
    highest: u64,
}

/// What a session brings along from the process that established it.
struct Past {
    keys: dtls::Keys,
    rtcp_ssrcs: Vec<u32>,
}

/// One publisher's session.
pub struct Publisher {
    rtc: Rtc,
    tap: dtls::Tap,
    /// Key that the publisher seals with, once known.
    remote_key: Option<srtp::RtpKey>,
    offer: String,
    sections: Vec<Section>,
    ice: IceCredentials,
    certificate: Certificate,
    streams: Vec<Stream>,
    /// Streams of each section, best first.
    order: Vec<Vec<usize>>,
    announced: Option<Vec<Track>>,
    remote_streams: BTreeMap<u32, RemoteStream>,
    local_addresses: Vec<SocketAddr>,
    remote_addresses: VecDeque<SocketAddr>,
    /// How many new addresses may come now, and since when.
    new_addresses: (u32, Instant),
    /// Local and remote address that are sent from and to.
    path: Option<(SocketAddr, SocketAddr)>,
    /// Those that the newest media came to and from. The engine keeps to an earlier pair as long as that was checked lately, which a
    /// publisher who has another network has left: what is lost would be asked for in vain.
    media_path: Option<(SocketAddr, SocketAddr)>,
    /// SSRCs that this session's RTCP has been sealed under.
    rtcp_ssrcs: Vec<u32>,
    /// The engine's, of this life.
    engine_rtcp_ssrc: Option<u32>,
    sealer: Option<repair::Sealer>,
    is_resumed: bool,
    /// Packets are our own, to set the engine's counters; they go nowhere.
    is_priming: bool,
    /// SSRC and extended sequence number of the last such packet that came out of the engine.
    primed: Option<(u32, u64)>,
    /// Of the datagrams of data channels.
    channel_budget: channels::Budget,
    phase: Phase,
    /// Last sign of life that was authentic.
    alive_at: Instant,
    now: Instant,
    wallclock: NtpTime,
    offset: ClockOffset,
    engine_timeout: Instant,
    /// Next look at the order of layers.
    look_at: Option<Instant>,
    outputs: VecDeque<Output>,
    round_trip: Option<Duration>,
    drops: Drops,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("phase", &self.phase)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Publisher {
    /// Takes an offer that crate `signaling` has checked and put into plain form; gives the session and the engine's
    /// answer, for `signaling` to finish.
    ///
    /// # Errors
    /// [`AcceptError`] if it cannot be received.
    pub fn accept(offer: &str, setup: Setup) -> Result<(Self, String), AcceptError> {
        let sections = offer::sections(offer)?;
        let streams = streams(&sections, &setup.identity);
        let (publisher, answer) = Self::build(offer, sections, streams, setup, None)?;
        Ok((publisher, answer))
    }

    fn build(
        offer: &str,
        sections: Vec<Section>,
        streams: Vec<Stream>,
        setup: Setup,
        past: Option<Past>,
    ) -> Result<(Self, String), AcceptError> {
        let Setup { ice, certificate, local_addresses, now, .. } = setup;
        let is_resumed = past.is_some();
        let (keys, rtcp_ssrcs) = past.map_or((None, Vec::new()), |past| (Some(past.keys), past.rtcp_ssrcs));
        let (mut rtc, tap) = dtls::build(engine_config(&sections, &ice, &certificate), now, keys);
        let mut usable = Vec::new();
        for address in local_addresses {
            if let Ok(candidate) = Candidate::host(address, "udp")
                && rtc.add_local_candidate(candidate).is_some()
            {
                usable.push(address);
            }
        }
        if usable.is_empty() {
            return Err(AcceptError::LocalAddress);
        }
        let refusal = |error: &dyn fmt::Display| AcceptError::Engine { reason: error.to_string() };
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| refusal(&error))?;
        let answer = rtc.sdp_api().accept_offer(parsed).map_err(|error| refusal(&error))?.to_sdp_string();
        let order = (0..sections.len())
            .map(|section| (0..streams.len()).filter(|index| streams[*index].section == section).collect())
            .collect();
        let mut publisher = Self {
            rtc,
            tap,
            remote_key: None,
            offer: offer.to_owned(),
            sections,
            ice,
            certificate,
            streams,
            order,
            announced: None,
            remote_streams: BTreeMap::new(),
            local_addresses: usable,
            remote_addresses: VecDeque::new(),
            new_addresses: (NEW_ADDRESSES_MAX, now),
            path: None,
            media_path: None,
            rtcp_ssrcs,
            engine_rtcp_ssrc: None,
            sealer: None,
            is_resumed,
            is_priming: false,
            primed: None,
            channel_budget: channels::Budget::new(now),
            phase: Phase::Connecting { until: now + CONNECT_TIMEOUT },
            alive_at: now,
            now,
            wallclock: NtpTime::from_bits(0),
            offset: ClockOffset::default(),
            engine_timeout: now,
            look_at: None,
            outputs: VecDeque::new(),
            round_trip: None,
            drops: Drops::default(),
        };
        publisher.advance(now);
        Ok((publisher, answer))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        self.advance(now);
        self.ask_for_missing();
        if self.look_at.is_some_and(|at| now >= at) {
            self.settle_order();
        }
        match self.phase {
            Phase::Connecting { until } if now >= until => {
                let (unsupported, handshake) =
                    self.tap.with(|seen| (seen.unsupported_certificate, seen.error.clone()));
                let never = CloseReason::NeverConnected { handshake };
                self.end(if unsupported { CloseReason::UnsupportedCertificate } else { never });
            }
            Phase::Connected if now >= self.alive_at + CONSENT_TIMEOUT => {
                self.end(CloseReason::ConsentExpired)
            }
            Phase::Connecting { .. } | Phase::Connected | Phase::Closing | Phase::Closed => {}
        }
    }

    /// When [`Publisher::handle_timeout`] wants to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limit = match self.phase {
            Phase::Connecting { until } => until,
            Phase::Connected => self.alive_at + CONSENT_TIMEOUT,
            Phase::Closing => self.now + CONSENT_TIMEOUT,
            Phase::Closed => return None,
        };
        let gaps = self.streams.iter().filter_map(|stream| stream.gaps.poll_timeout());
        let others = [Some(self.engine_timeout), self.look_at].into_iter().flatten();
        Some(gaps.chain(others).fold(limit, Instant::min))
    }

    /// What to do next; call until `None` after every change.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Asks the publisher for a keyframe of the stream with this tree-wide SSRC, if it takes such requests. How often is
    /// the caller's business.
    pub fn request_keyframe(&mut self, ssrc: Ssrc) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) else { return };
        let (Some(mapping), Some(payload_type)) = (stream.mapping, stream.payload_type) else { return };
        let Some((_, payload, _)) = offer::find(&self.sections, payload_type) else { return };
        let kind = match payload.feedback {
            offer::Feedback { pli: true, .. } => KeyframeRequestKind::Pli,
            offer::Feedback { fir: true, .. } => KeyframeRequestKind::Fir,
            offer::Feedback { .. } => return,
        };
        let mut api = self.rtc.direct_api();
        let Some(engine) = api.stream_rx(&mapping.remote.into()) else { return };
        engine.request_keyframe(kind);
        stream.keyframe_requested();
        self.advance(self.now);
    }

    /// Ends the session: says goodbye (DTLS close_notify), unless it was resumed, and reports
    /// [`CloseReason::Requested`].
    pub fn close(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Closing | Phase::Closed) {
            return;
        }
        self.phase = Phase::Closing;
        if let Err(error) = self.rtc.close() {
            tracing::debug!(%error, "no goodbye");
        }
        self.advance(now);
        self.end(CloseReason::Requested);
    }

    /// ICE restart (RFC 8445, section 9): from now on only checks between `local` and `remote` count. The path in use stays
    /// in use until the publisher nominates another one, and so do its keys.
    pub fn restart_ice(&mut self, local: IceCredentials, remote: IceCredentials) {
        self.offer = offer::with_ice(&self.offer, &remote.ufrag, &remote.password);
        let credentials =
            |ice: &IceCredentials| IceCreds { ufrag: ice.ufrag.clone(), pass: ice.password.to_string() };
        let mut api = self.rtc.direct_api();
        api.set_local_ice_credentials(credentials(&local));
        api.set_remote_ice_credentials(credentials(&remote));
        self.ice = local;
        self.advance(self.now);
    }

    /// The media id of the first section of its offer.
    #[must_use]
    pub fn first_mid(&self) -> Option<Mid> {
        let mut mids = self.offer.lines().filter_map(|line| line.strip_prefix("a=mid:"));
        mids.find_map(|mid| Mid::new(mid.trim()).ok())
    }

    /// Whether ICE and DTLS are through and the session has not ended.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether an earlier process made this session. It cannot say goodbye then (its DTLS keys are lost), so it can be
    /// handed over but not drained.
    #[must_use]
    pub const fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// What has come so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let kind = |stream: &Stream| self.sections[stream.section].kind;
        let delay = |wanted: Kind| {
            self.streams.iter().filter(|stream| kind(stream) == wanted).find_map(Stream::delay)
        };
        let connection = match self.phase {
            Phase::Connecting { .. } if self.remote_addresses.is_empty() => Connection::Awaited,
            Phase::Connecting { .. } => Connection::Heard,
            Phase::Connected | Phase::Closing | Phase::Closed => Connection::Connected,
        };
        Stats {
            connection,
            round_trip: self.round_trip,
            picture_delay: delay(Kind::Video).zip(delay(Kind::Audio)).map(|(video, audio)| video - audio),
            drops: self.drops,
            layers: self.streams.iter().map(|stream| stream.stats(self.now, kind(stream))).collect(),
        }
    }

    /// Lets the engine's time go on and carries out what it wants.
    fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if let Err(error) = self.rtc.handle_input(Input::Timeout(self.now)) {
            self.engine_failed(&error);
        }
        self.drain();
    }

    fn drain(&mut self) {
        while self.phase != Phase::Closed {
            match self.rtc.poll_output() {
                Ok(EngineOutput::Timeout(at)) => {
                    self.engine_timeout = at;
                    break;
                }
                Ok(EngineOutput::Transmit(transmit)) => self.transmit(&transmit),
                Ok(EngineOutput::Event(event)) => self.handle_event(event),
                Err(error) => {
                    self.engine_failed(&error);
                    break;
                }
            }
        }
        self.after_handshake();
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.phase = Phase::Connected;
                self.alive_at = self.now;
                self.outputs.push_back(Output::Connected);
            }
            Event::Closed => self.end(CloseReason::PeerClosed),
            Event::RtpPacket(packet) if self.is_priming => {
                self.primed = Some((*packet.header.ssrc, *packet.seq_no));
            }
            Event::SenderFeedback(feedback) => self.handle_report(&feedback),
            Event::ChannelData(message) => {
                self.alive_at = self.now;
                self.tap.with(|seen| seen.delivered += channels::cost(message.data.len()));
                let captured = self.wallclock.minus(self.round_trip.unwrap_or_default() / 2);
                self.outputs.push_back(Output::Cue { captured, document: message.data });
            }
            Event::MediaIngressStats(stats) => {
                if let Some(round_trip) = stats.rtt {
                    self.set_round_trip(round_trip);
                }
            }
            _ => {}
        }
    }

    fn transmit(&mut self, transmit: &str0m::net::Transmit) {
        let bytes = transmit.contents.to_vec();
        let (mut source, mut destination) = (transmit.source, transmit.destination);
        if stun::is_success(&bytes) {
            self.alive_at = self.now;
            if !self.remote_addresses.contains(&destination) {
                self.remote_addresses.truncate(REMOTE_ADDRESSES_MAX - 1);
                self.remote_addresses.push_front(destination);
            }
        } else {
            (source, destination) = self.media_path.unwrap_or((source, destination));
            self.path = Some((source, destination));
            if receive::is_rtcp(&bytes) && !self.note_rtcp(&bytes) {
                return;
            }
        }
        self.outputs.push_back(Output::Transmit { source, destination, bytes });
    }

    fn engine_failed(&mut self, error: &str0m::RtcError) {
        // Of all errors only these leave the engine dead; others come from single datagrams, forged ones included.
        if self.rtc.is_alive() {
            tracing::debug!(%error, "engine error");
            return;
        }
        let reason = match error {
            _ if self.tap.with(|seen| seen.unsupported_certificate) => CloseReason::UnsupportedCertificate,
            str0m::RtcError::RemoteSdp(reason) if reason.contains("fingerprint no match") => {
                CloseReason::FingerprintMismatch
            }
            error => CloseReason::Engine { reason: error.to_string() },
        };
        self.end(reason);
    }

    /// Looks at what the handshake has brought.
    fn after_handshake(&mut self) {
        if self.remote_key.is_some() || self.phase == Phase::Closed {
            return;
        }
        let (keys, unsupported) = self.tap.with(|seen| (seen.keys.clone(), seen.unsupported_certificate));
        if let Some(keys) = keys {
            let Some((local, remote)) = self.master_keys(&keys) else { return };
            self.remote_key = srtp::RtpKey::derive(&remote).ok();
            self.make_sealer(&local);
        } else if unsupported {
            self.end(CloseReason::UnsupportedCertificate);
        }
    }

    /// The keys that we seal with and that the publisher seals with.
    fn master_keys(&self, keys: &dtls::Keys) -> Option<(srtp::MasterKey, srtp::MasterKey)> {
        let (client, server) = srtp::split_exporter(keys.profile, &keys.material).ok()?;
        Some(if offer::is_remote_dtls_server(&self.offer) { (client, server) } else { (server, client) })
    }

    fn end(&mut self, reason: CloseReason) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.rtc.disconnect();
            self.outputs.push_back(Output::Closed(reason));
        }
    }
}

/// Streams as the offer announces them, with their identities.
fn streams(sections: &[Section], identity: &Identity) -> Vec<Stream> {
    let (ssrcs, bases) = identity.0.split_at(4 * (offer::LAYERS_MAX + 1));
    let mut numbers = ssrcs.as_chunks::<4>().0.iter().zip(bases.as_chunks::<2>().0);
    let mut streams: Vec<Stream> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let clock_rate = section.payloads.first().map_or(90_000, |payload| payload.codec.clock_rate());
        let layers = match section.kind {
            Kind::Audio => 1,
            Kind::Video => section.rids.len().max(1),
        };
        for (layer, (ssrc, base)) in (0..layers).zip(numbers.by_ref()) {
            let mut ssrc = u32::from_be_bytes(*ssrc).max(1);
            while streams.iter().any(|other| other.ssrc.get() == ssrc) {
                ssrc = ssrc.wrapping_add(1).max(1);
            }
            // The first cycle stays free, so that packets from before the first one have a place.
            let base = (1 << 16) + u64::from(u16::from_be_bytes(*base) >> 1);
            let mut stream = Stream::new(Ssrc::new(ssrc), index, layer, base, clock_rate);
            let takes_requests = |payload: &offer::Payload| payload.feedback.pli || payload.feedback.fir;
            stream.negotiated(
                section.payloads.iter().any(takes_requests),
                section.payloads.iter().any(|payload| payload.rtx.is_some()),
            );
            streams.push(stream);
        }
    }
    streams
}

/// A header extension of pictures that the engine negotiates and does not read.
#[derive(Debug)]
struct ReadByUs;

impl ExtensionSerializer for ReadByUs {
    fn write_to(&self, _bytes: &mut [u8], _values: &ExtensionValues) -> usize {
        0
    }

    fn parse_value(&self, _bytes: &[u8], _values: &mut ExtensionValues) -> bool {
        true
    }

    fn is_video(&self) -> bool {
        true
    }

    fn is_audio(&self) -> bool {
        false
    }
}

/// Without `urn:3gpp:video-orientation`: browsers that may tell it turn no picture, and viewers who do not know it (Firefox,
/// GStreamer) would see a phone's lying on its side. So they turn it before they encode.
fn engine_config(sections: &[Section], ice: &IceCredentials, certificate: &Certificate) -> RtcConfig {
    let mut extensions = ExtensionMap::empty();
    let wanted = [
        Extension::RtpMid,
        Extension::RtpStreamId,
        Extension::RepairedRtpStreamId,
        Extension::AudioLevel,
        Extension::TransportSequenceNumber,
        Extension::AbsoluteCaptureTime,
        Extension::with_serializer(dependency::URI, ReadByUs),
    ];
    for (id, extension) in (1..).zip(wanted) {
        extensions.set(id, extension);
    }
    let mut config = RtcConfig::new()
        .set_rtp_mode(true)
        .set_ice_lite(true)
        .set_local_ice_credentials(IceCreds { ufrag: ice.ufrag.clone(), pass: ice.password.to_string() })
        .set_dtls_cert(DtlsCert {
            certificate: certificate.certificate.to_vec(),
            private_key: certificate.private_key.to_vec(),
        })
        .set_extension_map(extensions)
        .set_sctp_max_message_size(channels::MESSAGE_BYTES_MAX)
        .set_stats_interval(Some(Duration::from_secs(1)))
        .set_rtcp_report_interval_audio(REPORT_INTERVAL)
        .set_rtcp_report_interval_video(REPORT_INTERVAL);
    *config.codec_config() = offer::codec_config(sections);
    config
}
