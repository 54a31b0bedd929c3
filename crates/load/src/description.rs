//! The SDP of a viewer: its offer, the server's answer, and the answer to a server that offers by itself.

use std::net::SocketAddr;

use ice_dtls::{DtlsRole, Fingerprint, HashFunction, IceCredentials};
use model::{Codec, Kind};
use signaling::sdp::{self, Attribute, Candidate, Direction, HashAlgorithm, Media, Session, Setup};

/// Header extensions of a browser, with the ids that it gives them.
const EXTENSIONS: [(u8, &str); 3] = [(1, AUDIO_LEVEL), (4, MID), (5, CAPTURE_TIME)];
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
const PROTOCOL: &str = "UDP/TLS/RTP/SAVPF";
/// The discard port: with ICE the addresses stand in the candidates (RFC 8839, section 4.3.1).
const PORT: u16 = 9;
const VIDEO_FEEDBACK: [&str; 3] = ["nack", "nack pli", "ccm fir"];

/// A video payload type of the offer; the one after it is its RTX.
struct VideoFormat {
    payload_type: u8,
    codec: Codec,
    parameters: &'static str,
}

const fn h264(payload_type: u8, parameters: &'static str) -> VideoFormat {
    VideoFormat { payload_type, codec: Codec::H264, parameters }
}

const VIDEO: [VideoFormat; 7] = [
    h264(102, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    h264(104, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    h264(106, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
    h264(108, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"),
    VideoFormat { payload_type: 96, codec: Codec::Vp8, parameters: "" },
    VideoFormat { payload_type: 98, codec: Codec::Vp9, parameters: "profile-id=0" },
    VideoFormat { payload_type: 45, codec: Codec::Av1, parameters: "" },
];
const OPUS: u8 = 111;

/// This side of a session.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) ice: IceCredentials,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) address: SocketAddr,
}

/// A payload type that the server may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) payload_type: u8,
    pub(crate) codec: Codec,
    pub(crate) clock_rate: u32,
    /// Where retransmissions of it come.
    pub(crate) rtx: Option<u8>,
    /// The server repairs.
    pub(crate) takes_nack: bool,
}

impl Format {
    pub(crate) fn is_video(&self) -> bool {
        self.codec.kind() == Kind::Video
    }
}

/// The server's side of a session.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) ice: sdp::IceCredentials,
    pub(crate) fingerprint: Fingerprint,
    /// UDP, best first.
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) formats: Vec<Format>,
    /// Id of the `abs-capture-time` header extension.
    pub(crate) capture_time: Option<u8>,
    /// Feedback may go without a report before it (RFC 5506).
    pub(crate) is_reduced_size: bool,
    /// Ours.
    pub(crate) dtls_role: DtlsRole,
    /// Whether this side nominates (RFC 8445, section 6.1.1).
    pub(crate) is_controlling: bool,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It is no SDP.
    #[error("no SDP: {0}")]
    Syntax(String),
    /// No section is accepted, or offers a codec that is known here.
    #[error("no audio or video to receive")]
    NoMedia,
    /// No ICE credentials.
    #[error("no ICE credentials")]
    IceCredentials,
    /// No certificate fingerprint that can be checked.
    #[error("no usable fingerprint")]
    Fingerprint,
}

/// The offer of a viewer, as a browser's.
pub(crate) fn offer(local: &Local) -> String {
    let mut session = session("0 1");
    let mut audio = section(local, "audio", "0", Setup::ActPass);
    audio.formats = vec![OPUS.to_string()];
    push_format(&mut audio, OPUS, "opus/48000/2", "minptime=10;useinbandfec=1");
    let mut video = section(local, "video", "1", Setup::ActPass);
    for format in VIDEO {
        let encoding = format!("{}/90000", format.codec.encoding_name());
        push_video(&mut video, format.payload_type, &encoding, format.parameters);
        push_rtx(&mut video, format.payload_type + 1, format.payload_type);
    }
    for media in [&mut audio, &mut video] {
        let is_audio = media.kind == "audio";
        let known = EXTENSIONS.into_iter().filter(|(_, uri)| is_audio || *uri != AUDIO_LEVEL);
        media.attributes.extend(known.map(|(id, uri)| Attribute::with("extmap", format_args!("{id} {uri}"))));
    }
    session.media = vec![audio, video];
    session.to_string()
}

fn session(mids: &str) -> Session {
    Session {
        origin: "- 1 1 IN IP4 127.0.0.1".to_owned(),
        name: "-".to_owned(),
        connection: None,
        attributes: vec![
            Attribute::with("group", format_args!("BUNDLE {mids}")),
            Attribute::flag("extmap-allow-mixed"),
            Attribute::with("msid-semantic", " WMS"),
            Attribute::with("ice-options", "ice2"),
        ],
        media: Vec::new(),
    }
}

/// A section that receives, without formats.
fn section(local: &Local, kind: &str, mid: &str, setup: Setup) -> Media {
    let attributes = vec![
        Attribute::with("candidate", Candidate::host(0, local.address)),
        Attribute::flag("end-of-candidates"),
        Attribute::with("ice-ufrag", local.ice.ufrag()),
        Attribute::with("ice-pwd", local.ice.pwd()),
        Attribute::with("fingerprint", &local.fingerprint),
        Attribute::with("setup", setup.as_str()),
        Attribute::with("mid", mid),
        Attribute::flag(Direction::RecvOnly.as_str()),
        Attribute::flag("rtcp-mux"),
        Attribute::flag("rtcp-rsize"),
    ];
    Media {
        kind: kind.into(),
        port: PORT,
        protocol: PROTOCOL.into(),
        formats: Vec::new(),
        connection: None,
        attributes,
    }
}

fn push_format(media: &mut Media, payload_type: u8, encoding: &str, parameters: &str) {
    media.attributes.push(Attribute::with("rtpmap", format_args!("{payload_type} {encoding}")));
    if !parameters.is_empty() {
        media.attributes.push(Attribute::with("fmtp", format_args!("{payload_type} {parameters}")));
    }
}

fn push_video(media: &mut Media, payload_type: u8, encoding: &str, parameters: &str) {
    media.formats.push(payload_type.to_string());
    push_format(media, payload_type, encoding, parameters);
    for feedback in VIDEO_FEEDBACK {
        media.attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {feedback}")));
    }
}

fn push_rtx(media: &mut Media, payload_type: u8, of: u8) {
    media.formats.push(payload_type.to_string());
    push_format(media, payload_type, "rtx/90000", &format!("apt={of}"));
}

impl Remote {
    /// Reads the answer to [`offer`].
    ///
    /// # Errors
    /// [`DescriptionError`] names what is missing.
    pub(crate) fn of_answer(text: &str) -> Result<Self, DescriptionError> {
        let session = parse(text)?;
        let accepted: Vec<&Media> = session.media.iter().filter(|media| is_served(&session, media)).collect();
        // Who answers `active` is the DTLS client; whoever leaves it open, wrongly, gets a hello.
        let role = match accepted.first().and_then(|media| session.setup(media)) {
            Some(Setup::Active) => DtlsRole::Server,
            Some(Setup::Passive | Setup::ActPass) | None => DtlsRole::Client,
        };
        Self::of(&session, &accepted, role, true)
    }

    /// Reads the offer of a server and writes the answer to it.
    ///
    /// # Errors
    /// [`DescriptionError`] names what is missing.
    pub(crate) fn of_counter_offer(text: &str, local: &Local) -> Result<(Self, String), DescriptionError> {
        let offer = parse(text)?;
        let mut accepted: Vec<&Media> = Vec::new();
        for media in offer.media.iter().filter(|media| is_served(&offer, media)) {
            let is_first_of_kind = accepted.iter().all(|other| other.kind != media.kind);
            if is_first_of_kind && formats(media).next().is_some() {
                accepted.push(media);
            }
        }
        let role = match accepted.first().and_then(|media| offer.setup(media)) {
            Some(Setup::Active) => DtlsRole::Server,
            Some(Setup::Passive | Setup::ActPass) | None => DtlsRole::Client,
        };
        // The offerer is controlling, but for one that is lite.
        let mut remote = Self::of(&offer, &accepted, role, offer.is_ice_lite())?;
        let mut kept = Vec::new();
        for media in &accepted {
            kept.extend(formats(media).next());
        }
        remote.formats = kept;
        let answer = remote.answer(&offer, &accepted, local);
        Ok((remote, answer))
    }

    fn of(
        session: &Session,
        accepted: &[&Media],
        dtls_role: DtlsRole,
        is_controlling: bool,
    ) -> Result<Self, DescriptionError> {
        let first = *accepted.first().ok_or(DescriptionError::NoMedia)?;
        let formats: Vec<Format> = accepted.iter().flat_map(|media| formats(media)).collect();
        if formats.is_empty() {
            return Err(DescriptionError::NoMedia);
        }
        let with_transport = || std::iter::once(first).chain(session.media.iter());
        let ice = with_transport()
            .find_map(|media| session.ice_credentials(media))
            .ok_or(DescriptionError::IceCredentials)?;
        let fingerprint = with_transport()
            .flat_map(|media| session.fingerprints(media))
            .find_map(|found| Fingerprint::new(function(found.algorithm), &found.bytes).ok())
            .ok_or(DescriptionError::Fingerprint)?;
        let extension = |media: &&Media| {
            let map = media.extension_maps().find(|map| map.uri == CAPTURE_TIME)?;
            u8::try_from(map.id).ok()
        };
        Ok(Self {
            ice,
            fingerprint,
            candidates: candidates(session),
            capture_time: accepted.iter().find_map(extension),
            is_reduced_size: accepted.iter().all(|media| media.has("rtcp-rsize")),
            formats,
            dtls_role,
            is_controlling,
        })
    }

    /// Every section of the offer in its order; those not accepted with port 0 (RFC 8829, section 5.3.1).
    fn answer(&self, offer: &Session, accepted: &[&Media], local: &Local) -> String {
        let mids: Vec<&str> = accepted.iter().filter_map(|media| media.mid()).collect();
        let mut answer = session(&mids.join(" "));
        if offer.group("BUNDLE").is_none() {
            answer.attributes.retain(|attribute| attribute.name != "group");
        }
        let setup = match self.dtls_role {
            DtlsRole::Client => Setup::Active,
            DtlsRole::Server => Setup::Passive,
        };
        for media in &offer.media {
            let mid = media.mid().unwrap_or_default();
            let mut section = section(local, &media.kind, mid, setup);
            section.protocol.clone_from(&media.protocol);
            let format = if accepted.iter().any(|accepted| std::ptr::eq(*accepted, media)) {
                formats(media).next()
            } else {
                None
            };
            let Some(format) = format else {
                section.port = 0;
                section.formats = media.formats.iter().take(1).cloned().collect();
                section.attributes = vec![Attribute::with("mid", mid), Attribute::flag("inactive")];
                answer.media.push(section);
                continue;
            };
            accept(&mut section, media, &format);
            answer.media.push(section);
        }
        answer.to_string()
    }
}

/// Takes the offered format, its retransmissions, and what is known here of feedback and extensions.
fn accept(section: &mut Media, offered: &Media, format: &Format) {
    let payload_type = format.payload_type;
    section.formats.push(payload_type.to_string());
    let encoding = offered.rtpmap(payload_type).map_or(String::new(), |map| {
        let channels = if map.channels > 1 { format!("/{}", map.channels) } else { String::new() };
        format!("{}/{}{channels}", map.encoding, map.clock_rate)
    });
    push_format(section, payload_type, &encoding, offered.fmtp(payload_type).unwrap_or_default());
    for feedback in offered.rtcp_feedback(payload_type).filter(|offered| VIDEO_FEEDBACK.contains(offered)) {
        section.attributes.push(Attribute::with("rtcp-fb", format_args!("{payload_type} {feedback}")));
    }
    if let Some(rtx) = format.rtx {
        push_rtx(section, rtx, payload_type);
    }
    let known = offered.extension_maps().filter(|map| EXTENSIONS.iter().any(|(_, uri)| *uri == map.uri));
    for map in known {
        section.attributes.push(Attribute::with("extmap", format_args!("{} {}", map.id, map.uri)));
    }
    if !offered.has("rtcp-rsize") {
        section.attributes.retain(|attribute| attribute.name != "rtcp-rsize");
    }
}

fn parse(text: &str) -> Result<Session, DescriptionError> {
    Session::parse(text).map_err(|error| DescriptionError::Syntax(error.to_string()))
}

/// Whether the server sends on this section.
fn is_served(session: &Session, media: &Media) -> bool {
    let is_kind = [Kind::Audio, Kind::Video].iter().any(|kind| kind.as_str() == media.kind);
    let is_sent = matches!(session.direction(media), Direction::SendOnly | Direction::SendRecv);
    is_kind && is_sent && (media.port != 0 || media.has("bundle-only"))
}

/// What of a section is known here, in the server's order.
fn formats(media: &Media) -> impl Iterator<Item = Format> + '_ {
    media.payload_types().filter_map(|payload_type| {
        let map = media.rtpmap(payload_type)?;
        let codec = Codec::from_encoding_name(map.encoding)?;
        let rtx = media.payload_types().find(|other| {
            let is_rtx = media.rtpmap(*other).is_some_and(|map| map.encoding.eq_ignore_ascii_case("rtx"));
            is_rtx && media.fmtp(*other).and_then(associated) == Some(payload_type)
        });
        let takes_nack = media.rtcp_feedback(payload_type).any(|feedback| feedback.trim() == "nack");
        Some(Format { payload_type, codec, clock_rate: map.clock_rate.max(1), rtx, takes_nack })
    })
}

/// The payload type whose packets an RTX stream repeats (RFC 4588, section 8.6).
fn associated(parameters: &str) -> Option<u8> {
    let mut pairs = parameters.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("apt"))
        .and_then(|(_, value)| value.trim().parse().ok())
}

/// UDP addresses of all sections and of the session, each once, best first. Names (mDNS) are left out: a server has none.
fn candidates(session: &Session) -> Vec<SocketAddr> {
    let of_session = session.attributes.iter().filter(|attribute| attribute.name == "candidate");
    let of_session = of_session.filter_map(|attribute| attribute.value.as_deref()?.parse::<Candidate>().ok());
    let mut found: Vec<(SocketAddr, u32)> = Vec::new();
    for candidate in session.media.iter().flat_map(Media::candidates).chain(of_session) {
        let is_udp = candidate.component == 1 && candidate.transport.eq_ignore_ascii_case("udp");
        let Ok(ip) = candidate.address.parse() else { continue };
        let address = SocketAddr::new(ip, candidate.port);
        if is_udp && candidate.port != 0 && found.iter().all(|(known, _)| *known != address) {
            found.push((address, candidate.priority));
        }
    }
    found.sort_by_key(|(_, priority)| std::cmp::Reverse(*priority));
    found.into_iter().map(|(address, _)| address).collect()
}

const fn function(algorithm: HashAlgorithm) -> HashFunction {
    match algorithm {
        HashAlgorithm::Sha256 => HashFunction::Sha256,
        HashAlgorithm::Sha384 => HashFunction::Sha384,
        HashAlgorithm::Sha512 => HashFunction::Sha512,
    }
}

#[cfg(test)]
mod tests;
