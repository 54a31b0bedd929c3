//! What a session description (RFC 8866) announces: tracks, where they go, who sends them, what their decoders need.

use std::net::IpAddr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use model::{Codec, Kind};
use signaling::sdp::{Media, ParseError, Session};

/// Some encoders leave the padding away.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Encodings of payload types that need no `a=rtpmap` (RFC 3551, section 6), as far as somebody may send them.
const STATIC_ENCODINGS: [(u8, &str); 10] = [
    (0, "PCMU"),
    (3, "GSM"),
    (8, "PCMA"),
    (9, "G722"),
    (10, "L16"),
    (11, "L16"),
    (14, "MPA"),
    (26, "JPEG"),
    (32, "MPV"),
    (33, "MP2T (an MPEG transport stream)"),
];

/// Why a description cannot be received.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptionError {
    /// It is none.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Nothing to receive.
    #[error("the description has neither an audio nor a video section with a port")]
    Empty,
    /// More than one section of a kind.
    #[error("the description has two {kind} sections, and a broadcast has one: remove the other")]
    TwoSections {
        /// Of which kind.
        kind: Kind,
    },
    /// Not plain RTP.
    #[error("the {kind} section is {protocol}, and only plain RTP is taken here: RTP/AVP or RTP/AVPF")]
    Protocol {
        /// Of which section.
        kind: Kind,
        /// What it says.
        protocol: String,
    },
    /// No codec that the tree carries.
    #[error(
        "the {kind} section has {encodings}, which browsers do not take over WebRTC: send H264, H265, VP8, VP9, AV1 or Opus"
    )]
    Encoding {
        /// Of which section.
        kind: Kind,
        /// What it has.
        encodings: String,
    },
    /// Another clock than the codec's payload format has.
    #[error("the {kind} section has {codec} with {clock_rate} ticks a second, and its clock has {}", codec.clock_rate())]
    ClockRate {
        /// Of which section.
        kind: Kind,
        /// The codec.
        codec: Codec,
        /// What the section says.
        clock_rate: u32,
    },
    /// Units in another order than they are decoded in.
    #[error(
        "the {codec} is interleaved ({parameter}): set the sender to packetization-mode 1 and no interleaving"
    )]
    Interleaved {
        /// The codec.
        codec: Codec,
        /// What says so.
        parameter: String,
    },
    /// Two things come to one port.
    #[error(
        "two sections, or one and the RTCP of the other, come to port {port}: give each a port of its own"
    )]
    SharedPort {
        /// The port.
        port: u16,
    },
    /// Of senders, only addresses can be looked at.
    #[error(
        "a=source-filter:{value} is not read: it is like 'incl IN IP4 239.1.2.3 192.0.2.7', with addresses"
    )]
    SourceFilter {
        /// What it says.
        value: String,
    },
}

/// What is to be received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// At most one of each kind, in the order of the description.
    pub tracks: Vec<Track>,
}

/// One RTP stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// What it is coded with.
    pub codec: Codec,
    /// Of its packets.
    pub payload_type: u8,
    /// The address of this machine, or the group of multicast, that it is sent to; `None` if that is not said.
    pub address: Option<IpAddr>,
    /// UDP port of its media.
    pub port: u16,
    /// UDP port of its RTCP; `None` if that comes to the port of the media, or has none.
    pub control_port: Option<u16>,
    /// Who sends it.
    pub sources: Sources,
    /// Parameter sets that need not stand in the stream.
    pub parameter_sets: Vec<Bytes>,
    /// H.264: the profile.
    pub profile_level_id: Option<[u8; 3]>,
}

/// Who may send (RFC 4570).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// Nobody else, unless it is empty.
    pub included: Vec<IpAddr>,
    /// Not these.
    pub excluded: Vec<IpAddr>,
}

impl Sources {
    /// Whether this address may.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> bool {
        let is_included = self.included.is_empty() || self.included.contains(&address);
        is_included && !self.excluded.contains(&address)
    }
}

impl Description {
    /// Reads a description, as encoders write them and as ffmpeg prints them.
    ///
    /// # Errors
    /// [`DescriptionError`] in words for whoever wrote the file.
    pub fn parse(text: &str) -> Result<Self, DescriptionError> {
        let text = text.trim_start();
        let session = Session::parse(text.strip_prefix("SDP:").unwrap_or(text).trim_start())?;
        let mut tracks: Vec<Track> = Vec::new();
        for media in session.media.iter().filter(|media| media.port != 0) {
            let kind = match media.kind.as_str() {
                "audio" => Kind::Audio,
                "video" => Kind::Video,
                _ => continue,
            };
            if tracks.iter().any(|track| track.codec.kind() == kind) {
                return Err(DescriptionError::TwoSections { kind });
            }
            tracks.push(track(&session, media, kind)?);
        }
        if tracks.is_empty() {
            return Err(DescriptionError::Empty);
        }
        separate(&mut tracks)?;
        Ok(Self { tracks })
    }
}

fn track(session: &Session, media: &Media, kind: Kind) -> Result<Track, DescriptionError> {
    if !matches!(media.protocol.as_str(), "RTP/AVP" | "RTP/AVPF") {
        return Err(DescriptionError::Protocol { kind, protocol: media.protocol.clone() });
    }
    let (codec, payload_type) = codec(media, kind)?;
    let fmtp = media.fmtp(payload_type).unwrap_or_default();
    let is_interleaved =
        |parameter: &&str| matches!(codec, Codec::H264 | Codec::H265) && interleaves(parameter);
    if let Some(parameter) = fmtp.split(';').map(str::trim).find(is_interleaved) {
        return Err(DescriptionError::Interleaved { codec, parameter: parameter.to_owned() });
    }
    let address = session.connection(media).map(|connection| connection.address);
    let control_port = match value(media, "rtcp") {
        _ if media.has("rtcp-mux") => None,
        Some(rtcp) => rtcp.split_ascii_whitespace().next().and_then(|port| port.parse().ok()),
        None => media.port.checked_add(1),
    };
    let sets: &[&str] = match codec {
        Codec::H264 => &["sprop-parameter-sets"],
        Codec::H265 => &["sprop-vps", "sprop-sps", "sprop-pps"],
        Codec::Opus | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => &[],
    };
    let sets = sets.iter().filter_map(|name| parameter(fmtp, name)).flat_map(|list| list.split(','));
    Ok(Track {
        codec,
        payload_type,
        address,
        port: media.port,
        control_port,
        sources: sources(session, media, address)?,
        parameter_sets: sets.filter_map(|set| Some(BASE64.decode(set.trim()).ok()?.into())).collect(),
        profile_level_id: parameter(fmtp, "profile-level-id").and_then(profile_level_id),
    })
}

/// The first codec of a section that the tree carries, and its payload type.
fn codec(media: &Media, kind: Kind) -> Result<(Codec, u8), DescriptionError> {
    let mut others = Vec::new();
    for payload_type in media.payload_types() {
        let Some(map) = media.rtpmap(payload_type) else {
            let known = STATIC_ENCODINGS.iter().find(|(number, _)| *number == payload_type);
            others.push(
                known.map_or_else(|| format!("payload type {payload_type}"), |(_, name)| (*name).into()),
            );
            continue;
        };
        match Codec::from_encoding_name(map.encoding).filter(|codec| codec.kind() == kind) {
            Some(codec) if codec.clock_rate() == map.clock_rate => return Ok((codec, payload_type)),
            Some(codec) => {
                return Err(DescriptionError::ClockRate { kind, codec, clock_rate: map.clock_rate });
            }
            None => others.push(map.encoding.to_owned()),
        }
    }
    Err(DescriptionError::Encoding { kind, encodings: others.join(", ") })
}

/// Parameters that let units come in another order (RFC 6184, section 8.1; RFC 7798, section 7.1).
fn interleaves(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    match name.trim() {
        "packetization-mode" => value.trim() == "2",
        "sprop-max-don-diff" | "sprop-interleaving-depth" => value.trim() != "0",
        _ => false,
    }
}

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = fmtp.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| found.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn profile_level_id(value: &str) -> Option<[u8; 3]> {
    let bits = u32::from_str_radix(value, 16).ok().filter(|_| value.len() == 6)?;
    let [_, profile, constraints, level] = bits.to_be_bytes();
    Some([profile, constraints, level])
}

fn value<'a>(media: &'a Media, name: &str) -> Option<&'a str> {
    media.attributes.iter().find(|attribute| attribute.name == name)?.value.as_deref()
}

/// The filters of a section, and those of the session that are for its address.
fn sources(session: &Session, media: &Media, address: Option<IpAddr>) -> Result<Sources, DescriptionError> {
    let mut sources = Sources::default();
    let attributes = media.attributes.iter().chain(&session.attributes);
    let filters = attributes.filter(|attribute| attribute.name == "source-filter");
    for value in filters.filter_map(|attribute| attribute.value.as_deref()) {
        let error = || DescriptionError::SourceFilter { value: value.to_owned() };
        let words: Vec<&str> = value.split_ascii_whitespace().collect();
        let [mode, "IN", "IP4" | "IP6" | "*", destination, listed @ ..] = &words[..] else {
            return Err(error());
        };
        let destination = match *destination {
            "*" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| error())?),
        };
        let listed: Result<Vec<IpAddr>, _> = listed.iter().map(|source| source.parse()).collect();
        let listed = listed.ok().filter(|listed| !listed.is_empty()).ok_or_else(error)?;
        if destination.is_some() && address.is_some() && destination != address {
            continue;
        }
        match *mode {
            "incl" => sources.included.extend(listed),
            "excl" => sources.excluded.extend(listed),
            _ => return Err(error()),
        }
    }
    Ok(sources)
}

/// Each port belongs to one thing. RTCP that is only supposed to come beside the media gives way.
fn separate(tracks: &mut [Track]) -> Result<(), DescriptionError> {
    let media: Vec<(Option<IpAddr>, u16)> = tracks.iter().map(|track| (track.address, track.port)).collect();
    for (index, track) in tracks.iter_mut().enumerate() {
        let others = || media.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, at)| at);
        let meets = |port: u16| {
            others().any(|(address, other)| {
                let is_same = *address == track.address || address.is_none() || track.address.is_none();
                is_same && *other == port
            })
        };
        if meets(track.port) {
            return Err(DescriptionError::SharedPort { port: track.port });
        }
        if track.control_port.is_some_and(meets) || track.control_port == Some(track.port) {
            track.control_port = None;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
