//! Why an offer is refused, in words that the person at the encoder or player can act on.

use model::{Codec, Kind};

use crate::coding::{Coding, plain_name};
use crate::sdp::{Direction, ParseError};

/// Why an offer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The text is no session description.
    #[error("The offer cannot be read: {0}.")]
    Parse(#[from] ParseError),
    /// There is nothing to send or receive.
    #[error("The offer has no audio and no video.")]
    Empty,
    /// A section in use has no `a=mid`, or one that RTP cannot carry.
    #[error(
        "Media section {section} has no usable a=mid: 1 to 16 letters, digits, '-' or '_' are expected, and \
         each only once."
    )]
    Mid {
        /// Counted from 1.
        section: usize,
    },
    /// No user fragment or password.
    #[error("The offer has no usable a=ice-ufrag and a=ice-pwd, so no connection could be made.")]
    IceCredentials,
    /// Two lite agents never begin (RFC 8445, section 2.7).
    #[error(
        "The offer says a=ice-lite. This server is ICE-lite itself, so the client must be a full ICE agent."
    )]
    IceLite,
    /// No `a=fingerprint`.
    #[error("The offer has no a=fingerprint, so the connection could not be made safe.")]
    FingerprintMissing,
    /// Only old hashes, or a hash of the wrong length.
    #[error("The offer has no a=fingerprint with SHA-256, SHA-384 or SHA-512.")]
    FingerprintUnsupported,
    /// Sections use separate transports.
    #[error("The media sections must share one transport: a=group:BUNDLE has to list each of their mids.")]
    Bundle,
    /// RTCP on a port of its own.
    #[error("Media section '{mid}' lacks a=rtcp-mux: RTP and RTCP must share one port.")]
    RtcpMux {
        /// Which section.
        mid: String,
    },
    /// Not DTLS-SRTP.
    #[error("Media section '{mid}' uses {protocol}; only UDP/TLS/RTP/SAVPF (WebRTC) is served.")]
    Protocol {
        /// Which section.
        mid: String,
        /// What it has.
        protocol: String,
    },
    /// A publisher that does not send.
    #[error("Media section '{mid}' is {}; a publisher has to offer sendonly.", .direction.as_str())]
    NotSending {
        /// Which section.
        mid: String,
        /// What it says.
        direction: Direction,
    },
    /// A viewer that does not receive.
    #[error("Media section '{mid}' is {}; a viewer has to offer recvonly.", .direction.as_str())]
    NotReceiving {
        /// Which section.
        mid: String,
        /// What it says.
        direction: Direction,
    },
    /// RFC 9725, section 4.4.1.
    #[error("The offer has more than one {kind} section; one audio and one video are the most.")]
    TooMany {
        /// Which kind.
        kind: Kind,
    },
    /// A section that a publisher offers and nobody could use (RFC 9725, section 4.4.4: no partial success).
    #[error(
        "The {kind} section of the offer cannot be used; only audio, video and data channels can be published."
    )]
    Unusable {
        /// The word of its media line.
        kind: String,
    },
    /// None of the codecs of a publisher's section is taken.
    #[error(
        "The {kind} of the offer cannot be taken: this server takes {}, the offer has {}.",
        list(.wanted), or_nothing(.offered)
    )]
    NoUsableCodec {
        /// Which kind.
        kind: Kind,
        /// What would do.
        wanted: Vec<Codec>,
        /// Encoding names in the offer.
        offered: Vec<String>,
    },
    /// A viewer can play none of the codecs of a broadcast.
    #[error("No common {kind} codec: the broadcast has {}, the player has {}.", list(.wanted), or_nothing(.offered))]
    NoCommonCodec {
        /// Which kind.
        kind: Kind,
        /// What would do.
        wanted: Vec<Codec>,
        /// Encoding names in the offer.
        offered: Vec<String>,
    },
    /// A viewer does not take the codec of what is on air.
    #[error(
        "This player cannot play the broadcast: its {} is {on_air}, and the player takes {}.",
        perceived(.on_air), or_nothing(.offered)
    )]
    CodecNotPlayed {
        /// What is on air.
        on_air: Coding,
        /// Codecs in the offer.
        offered: Vec<String>,
    },
    /// A viewer takes the codec of what is on air, but not in a profile that contains it.
    #[error(
        "This player cannot play the broadcast: its {} is {on_air}, and of {} the player takes {}.",
        perceived(.on_air), plain_name(.on_air.codec()), or_nothing(.offered)
    )]
    ProfileNotPlayed {
        /// What is on air.
        on_air: Coding,
        /// Profiles in the offer.
        offered: Vec<String>,
    },
    /// Simulcast with too many layers.
    #[error("The offer has {offered} simulcast layers; at most {max} are taken.")]
    TooManyLayers {
        /// How many there are.
        offered: usize,
        /// How many are taken.
        max: usize,
    },
    /// A rid that RTP cannot carry, twice the same one, or one without its `a=rid` line.
    #[error(
        "The simulcast layer '{rid}' cannot be used: a rid has 1 to 16 letters and digits and an a=rid line."
    )]
    Rid {
        /// As offered.
        rid: String,
    },
    /// Layers named by SSRC.
    #[error("Simulcast by ssrc-group:SIM is not supported; layers need rids (RFC 8853).")]
    SimulcastBySsrc,
}

fn list(codecs: &[Codec]) -> String {
    if codecs.is_empty() {
        return "none".to_owned();
    }
    codecs.iter().map(|codec| plain_name(*codec)).collect::<Vec<_>>().join(", ")
}

/// What a track is for who watches.
const fn perceived(coding: &Coding) -> &'static str {
    match coding.codec().kind() {
        Kind::Audio => "sound",
        Kind::Video => "picture",
    }
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
