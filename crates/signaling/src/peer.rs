//! What an offer says about the peer's end of the one transport, and checks that WHIP and WHEP share.

use model::{Kind, Mid};

use crate::OfferError;
use crate::sdp::{Fingerprint, IceCredentials, Media, Session, Setup};

/// The peer's end of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its ICE user fragment and password.
    pub ice: IceCredentials,
    /// What its certificate must hash to. Where an offer has several hashes (RFC 8122: of the same
    /// certificate), the first in the order SHA-256, SHA-384, SHA-512.
    pub fingerprint: Fingerprint,
    /// The role that this server takes.
    pub dtls_role: DtlsRole,
}

/// A side of the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// Sends the first message; `a=setup:active`.
    Client,
    /// Waits for it, and picks the SRTP suite; `a=setup:passive`.
    Server,
}

impl DtlsRole {
    /// The value of `a=setup` in the answer.
    #[must_use]
    pub const fn setup(self) -> Setup {
        match self {
            Self::Client => Setup::Active,
            Self::Server => Setup::Passive,
        }
    }
}

impl Peer {
    /// Reads the transport of `tagged`, the section whose transport the bundle uses.
    pub(crate) fn of(offer: &Session, tagged: &Media) -> Result<Self, OfferError> {
        if offer.is_ice_lite() {
            return Err(OfferError::IceLite);
        }
        let ice = offer
            .ice_credentials(tagged)
            .filter(IceCredentials::is_well_formed)
            .ok_or(OfferError::IceCredentials)?;
        if !offer.has_fingerprint_line(tagged) {
            return Err(OfferError::FingerprintMissing);
        }
        let fingerprint = offer
            .fingerprints(tagged)
            .into_iter()
            .min_by_key(|fingerprint| fingerprint.algorithm)
            .ok_or(OfferError::FingerprintUnsupported)?;
        // Where a client leaves the choice, or says nothing, this server is the one that picks the SRTP suite.
        let dtls_role = match offer.setup(tagged) {
            Some(Setup::Passive) => DtlsRole::Client,
            Some(Setup::Active | Setup::ActPass) | None => DtlsRole::Server,
        };
        Ok(Self { ice, fingerprint, dtls_role })
    }
}

/// What WebRTC transports are called (RFC 8829, section 5.1.2); all mean DTLS-SRTP over ICE.
const PROTOCOLS: [&str; 4] =
    ["UDP/TLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVP"];

/// Audio or video, if the section is either.
pub(crate) fn kind(media: &Media) -> Option<Kind> {
    [Kind::Audio, Kind::Video].into_iter().find(|kind| kind.as_str() == media.kind)
}

/// The section's mid, unique in the offer. `index` counts from 0.
pub(crate) fn mid(offer: &Session, index: usize) -> Result<Mid, OfferError> {
    let error = OfferError::Mid { section: index + 1 };
    let text = offer.media.get(index).and_then(Media::mid).ok_or(error.clone())?;
    let is_unique = offer.media.iter().filter(|media| media.mid() == Some(text)).count() == 1;
    Mid::new(text).ok().filter(|_| is_unique).ok_or(error)
}

/// Whether a section is offered at all: port 0 means no, but for `bundle-only` (RFC 9143, section 7.2).
pub(crate) fn is_offered(media: &Media) -> bool {
    media.port != 0 || media.has("bundle-only")
}

/// Whether the section can go over the one transport.
pub(crate) fn check_transport(offer: &Session, media: &Media, mid: &Mid) -> Result<(), OfferError> {
    if !PROTOCOLS.contains(&media.protocol.as_str()) {
        return Err(OfferError::Protocol { mid: mid.to_string(), protocol: media.protocol.clone() });
    }
    check_bundle(offer, mid)?;
    if !media.has("rtcp-mux") && !media.has("rtcp-mux-only") {
        return Err(OfferError::RtcpMux { mid: mid.to_string() });
    }
    Ok(())
}

/// Whether the section shares the one transport. A lone section needs no bundle.
pub(crate) fn check_bundle(offer: &Session, mid: &Mid) -> Result<(), OfferError> {
    let is_bundled = match offer.group("BUNDLE") {
        Some(mids) => mids.contains(&mid.as_str()),
        None => offer.media.len() == 1,
    };
    is_bundled.then_some(()).ok_or(OfferError::Bundle)
}

/// At most one audio and one video section (RFC 9725, section 4.4.1).
pub(crate) fn check_count(offer: &Session) -> Result<(), OfferError> {
    for kind in [Kind::Audio, Kind::Video] {
        let count =
            offer.media.iter().filter(|media| self::kind(media) == Some(kind) && is_offered(media)).count();
        if count > 1 {
            return Err(OfferError::TooMany { kind });
        }
    }
    Ok(())
}
