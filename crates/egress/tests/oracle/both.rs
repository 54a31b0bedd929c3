//! The boundary, and the two that stand behind it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use egress::{Config, SendBatch, Shard, ViewerId, ViewerSetup};
use ice_dtls::{
    Certificate, Datagram, DtlsRole, Handshake, HandshakeConfig, IceConfig, IceCredentials,
    Output as HandshakeOutput, PeerCredentials, classify,
};
use media_core::TreePacket;
use model::{Broadcast, Codec, Kind, NtpTime, Ssrc};
use str0m::config::Fingerprint;
use str0m::format::{Codec as WireCodec, FormatParams};
use str0m::ice::IceCreds;
use str0m::media::{Frequency, MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{AbsCaptureTime, Extension, ExtensionMap, ExtensionValues, RtpWrite, VideoOrientation};
use str0m::{Candidate, Input, Output, Rtc, RtcConfig};

use crate::publisher::{
    AUDIO, AUDIO_PT, RTX, RTX_PT, TRANSPORT_ID, VIDEO, VIDEO_PT, broadcast_id, setup, ssrc, telling_arrivals,
};

pub const VIEWER: u64 = 1;

/// Serves one viewer: the broadcast and its tree packets go in, datagrams come out. What the shard is driven by too.
pub trait Egress {
    /// The viewer's offer in; keys are agreed on over datagrams.
    fn new(now: Instant, viewer: &Description) -> Self;
    /// The answer.
    fn description(&mut self) -> Description;
    fn broadcast_changed(&mut self, now: Instant, broadcast: &Broadcast);
    fn fan_out(&mut self, now: Instant, train: &[Arc<TreePacket>]);
    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]);
    fn handle_timeout(&mut self, now: Instant);
    fn poll_datagram(&mut self) -> Option<Vec<u8>>;
}

/// What the two ends tell each other by signalling.
pub struct Description {
    ufrag: String,
    pwd: String,
    fingerprint: String,
}

pub fn viewer_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 2], 40_000))
}

pub fn egress_address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 50_000))
}

pub fn video_mid() -> Mid {
    "1".into()
}

pub fn audio_mid() -> Mid {
    "0".into()
}

pub fn out_ssrc(stream: u32) -> str0m::rtp::Ssrc {
    ssrc(VIEWER, stream).get().into()
}

/// A str0m with the payload types and header extensions of [`setup`].
pub fn rtc(now: Instant, is_viewer: bool) -> Rtc {
    let mut config = RtcConfig::new().clear_codecs().set_rtp_mode(true).set_ice_lite(!is_viewer);
    let codecs = config.codec_config();
    codecs.enable_opus(true, false);
    for (codec, main, rtx) in
        [(WireCodec::H264, VIDEO_PT, RTX_PT), (WireCodec::Vp8, VIDEO_PT + 4, RTX_PT + 4)]
    {
        let (main, rtx) = (Pt::new_with_value(main), Pt::new_with_value(rtx));
        codecs.add_config(main, Some(rtx), codec, Frequency::NINETY_KHZ, None, FormatParams::default());
    }
    let mut extensions = ExtensionMap::empty();
    extensions.set(1, Extension::RtpMid);
    extensions.set(2, Extension::AbsoluteCaptureTime);
    extensions.set(3, Extension::AudioLevel);
    extensions.set(4, Extension::VideoOrientation);
    extensions.set(TRANSPORT_ID, Extension::TransportSequenceNumber);
    let mut rtc = config.set_extension_map(extensions).build(now);
    let (local, remote) =
        if is_viewer { (viewer_address(), egress_address()) } else { (egress_address(), viewer_address()) };
    rtc.add_local_candidate(Candidate::host(local, Protocol::Udp).expect("a candidate"));
    rtc.add_remote_candidate(Candidate::host(remote, Protocol::Udp).expect("a candidate"));
    let mut api = rtc.direct_api();
    api.set_ice_controlling(is_viewer);
    api.declare_media(audio_mid(), MediaKind::Audio);
    api.declare_media(video_mid(), MediaKind::Video);
    rtc
}

pub fn describe(rtc: &mut Rtc) -> Description {
    let api = rtc.direct_api();
    let IceCreds { ufrag, pass } = api.local_ice_credentials();
    Description { ufrag, pwd: pass, fingerprint: api.local_dtls_fingerprint().to_string() }
}

pub fn connect(rtc: &mut Rtc, remote: &Description, is_dtls_client: bool) {
    let fingerprint: Fingerprint = remote.fingerprint.parse().expect("a fingerprint");
    let mut api = rtc.direct_api();
    api.set_remote_ice_credentials(IceCreds { ufrag: remote.ufrag.clone(), pass: remote.pwd.clone() });
    api.set_remote_fingerprint(fingerprint);
    api.start_dtls(is_dtls_client).expect("DTLS starts");
}

pub fn give(rtc: &mut Rtc, now: Instant, (source, destination): (SocketAddr, SocketAddr), datagram: &[u8]) {
    let contents = datagram.try_into().expect("a datagram that str0m knows");
    let receive = Receive { proto: Protocol::Udp, source, destination, contents };
    rtc.handle_input(Input::Receive(now, receive)).expect("str0m goes on");
}

/// The shard with its handshake before it, as the node drives them.
pub struct OurEgress {
    handshake: Handshake,
    certificate: Arc<Certificate>,
    credentials: IceCredentials,
    shard: Shard,
    datagrams: Datagrams,
}

#[derive(Default)]
struct Datagrams(VecDeque<Vec<u8>>);

impl SendBatch for Datagrams {
    fn datagram(&mut self, _: &egress::Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut bytes = vec![0; len_max];
        let length = fill(&mut bytes);
        bytes.truncate(length);
        self.0.push_back(bytes);
    }
}

impl OurEgress {
    pub fn stats(&self) -> egress::Stats {
        self.shard.stats()
    }

    fn drain_handshake(&mut self, now: Instant) {
        while let Some(output) = self.handshake.poll_output() {
            match output {
                HandshakeOutput::Transmit { bytes, .. } => self.datagrams.0.push_back(bytes),
                HandshakeOutput::Established { path, receive, send, .. } => {
                    let path = egress::Path { local: path.local.ip(), remote: path.remote };
                    let viewer = telling_arrivals(setup(VIEWER, now));
                    let viewer = ViewerSetup { path, send, receive, ..viewer };
                    self.shard.add_viewer(now, &broadcast_id(), viewer).expect("added");
                }
                HandshakeOutput::PathSelected(_) => {}
                HandshakeOutput::Failed(reason) => panic!("{reason}"),
                HandshakeOutput::Closed => panic!("the viewer left"),
            }
        }
    }
}

impl Egress for OurEgress {
    fn new(now: Instant, viewer: &Description) -> Self {
        let certificate = Arc::new(Certificate::generate().expect("a certificate"));
        let credentials = IceCredentials::from_random(&[3; 32]);
        let config = HandshakeConfig {
            ice: IceConfig {
                local: credentials.clone(),
                remote: PeerCredentials { ufrag: viewer.ufrag.clone(), pwd: viewer.pwd.clone() },
                random: [4; 32],
            },
            remote_fingerprint: viewer.fingerprint.parse().expect("a fingerprint"),
            certificate: certificate.clone(),
            dtls_role: DtlsRole::Server,
        };
        Self {
            handshake: Handshake::new(config, now),
            certificate,
            credentials,
            shard: Shard::new(Config::default()),
            datagrams: Datagrams::default(),
        }
    }

    fn description(&mut self) -> Description {
        Description {
            ufrag: self.credentials.ufrag().to_owned(),
            pwd: self.credentials.pwd().to_owned(),
            fingerprint: self.certificate.fingerprint().to_string(),
        }
    }

    fn broadcast_changed(&mut self, now: Instant, broadcast: &Broadcast) {
        self.shard.broadcast_changed(now, broadcast);
    }

    fn fan_out(&mut self, now: Instant, train: &[Arc<TreePacket>]) {
        self.shard.fan_out(now, train, &mut self.datagrams);
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        match classify(datagram) {
            Datagram::Stun | Datagram::Dtls => {
                let path = ice_dtls::Path { local: egress_address(), remote: viewer_address() };
                self.handshake.handle_datagram(now, path, datagram).expect("taken");
                self.drain_handshake(now);
            }
            Datagram::Rtcp => {
                let mut datagram = datagram.to_vec();
                let viewer = ViewerId::new(VIEWER);
                self.shard.handle_rtcp(now, viewer, &mut datagram, &mut self.datagrams).expect("authentic");
            }
            Datagram::Rtp | Datagram::Unknown => panic!("a viewer sends no such thing"),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.handshake.handle_timeout(now);
        self.drain_handshake(now);
        self.shard.handle_timeout(now, &mut self.datagrams);
    }

    fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.0.pop_front()
    }
}

/// str0m, with the least that an egress must add to it: numbers that go on from one publishing run to the next, and a
/// start with a keyframe.
pub struct Oracle {
    rtc: Rtc,
    broadcast: Option<Broadcast>,
    tracks: BTreeMap<&'static str, OracleTrack>,
    datagrams: VecDeque<Vec<u8>>,
}

#[derive(Default)]
struct OracleTrack {
    /// The publishing run's stream, and its first packet.
    start: Option<(Ssrc, TreePacket)>,
    /// What that packet is for the viewer.
    first_out: u64,
    first_timestamp: u32,
    /// Capture time of the very first packet, which has timestamp 0.
    began: Option<NtpTime>,
    next_out: u64,
}

impl OracleTrack {
    /// Sequence number and timestamp of a packet; `None` if it is from before the start.
    fn place(&mut self, packet: &TreePacket, codec: Codec) -> Option<(u64, u32)> {
        if self.start.as_ref().is_none_or(|(ssrc, _)| *ssrc != packet.ssrc) {
            if codec.kind() == Kind::Video && !packet.starts_keyframe {
                return None;
            }
            let began = *self.began.get_or_insert(packet.capture_time);
            let elapsed = packet.capture_time.saturating_since(began);
            self.first_timestamp = (elapsed.as_secs_f64() * f64::from(codec.clock_rate())).round() as u32;
            self.first_out = self.next_out;
            self.start = Some((packet.ssrc, packet.clone()));
        }
        let (_, first) = self.start.as_ref()?;
        let out = self.first_out + packet.seq_no.get().checked_sub(first.seq_no.get())?;
        self.next_out = self.next_out.max(out + 1);
        let ticks = packet.timestamp.wrapping_sub(first.timestamp);
        Some((out, self.first_timestamp.wrapping_add(ticks)))
    }
}

impl Oracle {
    fn write(&mut self, now: Instant, packet: &TreePacket) {
        let tracks = self.broadcast.iter().flat_map(|broadcast| &broadcast.tracks);
        let of = |track: &&model::Track| track.layers.iter().any(|layer| layer.ssrc == packet.ssrc);
        let Some(codec) = tracks.into_iter().find(of).map(|track| track.codec) else { return };
        let track = self.tracks.entry(codec.kind().as_str()).or_default();
        let Some((out, timestamp)) = track.place(packet, codec) else { return };
        let (stream, payload_type) = match codec {
            Codec::Opus => (AUDIO, AUDIO_PT),
            Codec::H264 => (VIDEO, VIDEO_PT),
            Codec::Vp8 => (VIDEO, VIDEO_PT + 4),
            Codec::H265 | Codec::Vp9 | Codec::Av1 => panic!("not in this test"),
        };
        let capture_time = SystemTime::UNIX_EPOCH + packet.capture_time.to_unix();
        let is_video = codec.kind() == Kind::Video;
        let extensions = ExtensionValues {
            abs_capture_time: Some(AbsCaptureTime { capture_time, clock_offset: None }),
            audio_level: packet.audio_level.map(|level| -((level & 0x7f) as i8)),
            voice_activity: packet.audio_level.map(|level| level & 0x80 != 0),
            video_orientation: is_video.then_some(VideoOrientation::Deg0),
            ..ExtensionValues::default()
        };
        let payload_type = Pt::new_with_value(payload_type);
        let write = RtpWrite::new(payload_type, out.into(), timestamp, now, &packet.payload[..])
            .marker(packet.marker)
            .nackable(is_video)
            .ext_vals(extensions);
        let mut api = self.rtc.direct_api();
        api.stream_tx(&out_ssrc(stream)).expect("declared").write_rtp(write);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().expect("str0m goes on") {
                Output::Transmit(transmit) => self.datagrams.push_back(transmit.contents.to_vec()),
                Output::Event(_) => {}
                Output::Timeout(_) => return,
            }
        }
    }
}

impl Egress for Oracle {
    fn new(now: Instant, viewer: &Description) -> Self {
        let mut rtc = rtc(now, false);
        let mut api = rtc.direct_api();
        api.declare_stream_tx(out_ssrc(AUDIO), None, audio_mid(), None);
        api.declare_stream_tx(out_ssrc(VIDEO), Some(out_ssrc(RTX)), video_mid(), None);
        connect(&mut rtc, viewer, false);
        Self { rtc, broadcast: None, tracks: BTreeMap::new(), datagrams: VecDeque::new() }
    }

    fn description(&mut self) -> Description {
        describe(&mut self.rtc)
    }

    fn broadcast_changed(&mut self, _now: Instant, broadcast: &Broadcast) {
        self.broadcast = Some(broadcast.clone());
    }

    fn fan_out(&mut self, now: Instant, train: &[Arc<TreePacket>]) {
        train.iter().for_each(|packet| self.write(now, packet));
        self.handle_timeout(now);
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        give(&mut self.rtc, now, (viewer_address(), egress_address()), datagram);
        self.drain();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.rtc.handle_input(Input::Timeout(now)).expect("str0m goes on");
        self.drain();
    }

    fn poll_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop_front()
    }
}
