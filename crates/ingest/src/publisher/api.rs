//! The plain types at the edge: what a session begins with, what it says, why it ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use media_core::TreePacket;
use model::{NtpTime, Track};
use zeroize::Zeroizing;

use super::offer;

/// User fragment and password of one ICE agent.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// At least 4 characters of letters, digits, '+' and '/' (RFC 8839, section 5.4).
    pub ufrag: String,
    /// At least 22 of them.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The node's DTLS certificate. Cloning shares it.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    pub(super) certificate: Arc<[u8]>,
    pub(super) private_key: Arc<Zeroizing<Vec<u8>>>,
}

impl Certificate {
    /// An ECDSA certificate and its private key (PKCS #8), both DER.
    #[must_use]
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Self {
        Self { certificate: certificate.into(), private_key: Arc::new(Zeroizing::new(private_key.to_vec())) }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").finish_non_exhaustive()
    }
}

/// 64 random bytes from which a publisher's streams get their tree-wide SSRCs and the beginnings of their sequence
/// spaces. Never to be used for two publishers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub [u8; 64]);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

/// What accepting an offer needs beside it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Ours, freshly drawn.
    pub ice: IceCredentials,
    /// The node's.
    pub certificate: Certificate,
    /// Addresses at which datagrams of the publisher arrive here, port included. They stand in the engine's answer;
    /// behind NAT the finished answer names others. Addresses that are missing are learned.
    pub local_addresses: Vec<SocketAddr>,
    /// Randomness for the streams' identities.
    pub identity: Identity,
    /// Now.
    pub now: Instant,
}

/// Why an offer cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// Two sections of a kind, or one without name.
    #[error("the offer must have at most one audio and one video section, each with a mid")]
    Sections,
    /// No codec that the tree carries.
    #[error("the offer has no codec that can be received")]
    NothingToReceive,
    /// A simulcast layer without proper name.
    #[error("simulcast layers need distinct names of 1 to 8 characters")]
    Rid,
    /// More layers than can be told apart.
    #[error("{offered} simulcast layers, more than {}", offer::LAYERS_MAX)]
    TooManyLayers {
        /// How many.
        offered: usize,
    },
    /// No local address that an ICE candidate can have.
    #[error("no usable local address")]
    LocalAddress,
    /// The engine does not take the offer.
    #[error("the WebRTC engine refuses the offer: {reason}")]
    Engine {
        /// What it says.
        reason: String,
    },
}

/// Why a session has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// [`Publisher::close`] was called.
    #[error("closed by this server")]
    Requested,
    /// The publisher said goodbye (DTLS close_notify).
    #[error("closed by the publisher")]
    PeerClosed,
    /// No connection within 15 s.
    #[error("no connection within 15 seconds{}", handshake.as_ref().map(|error| format!("; last DTLS error: {error}")).unwrap_or_default())]
    NeverConnected {
        /// What went wrong in the DTLS handshake, if it came to one.
        handshake: Option<String>,
    },
    /// Neither connectivity checks nor media for 30 s (RFC 7675).
    #[error("nothing heard from the publisher for 30 seconds")]
    ConsentExpired,
    /// The publisher's DTLS certificate is neither ECDSA on a usual curve, nor RSA of one who says hello first.
    #[error(
        "the publisher has no certificate that this server verifies: ECDSA with curve P-256 or P-384, or RSA of 2048 \
         bits and more where the offer says a=setup:actpass or active; ffmpeg with GnuTLS wants an ECDSA one given by \
         cert_file and key_file"
    )]
    UnsupportedCertificate,
    /// The publisher's DTLS certificate is not the one of its offer.
    #[error("the DTLS certificate does not have the offer's fingerprint")]
    FingerprintMismatch,
    /// The connection that brought it has ended, or brought what cannot be taken.
    #[error("{reason}")]
    Connection {
        /// Why, in words for its owner.
        reason: String,
    },
    /// The engine gave up.
    #[error("the WebRTC engine failed: {reason}")]
    Engine {
        /// What it says.
        reason: String,
    },
}

/// What a publisher wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// From this local address.
        source: SocketAddr,
        /// To this one.
        destination: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// ICE and DTLS are through.
    Connected,
    /// What is published, in full; comes before the first packet, and again when the media says otherwise.
    Tracks(Vec<Track>),
    /// Media.
    Packet(TreePacket),
    /// A caption or other timed data, as it came over a data channel or from an encoder: nobody has looked at it.
    Cue {
        /// When it was sent, by our wallclock.
        captured: NtpTime,
        /// Its bytes, at most 64 KiB.
        document: Vec<u8>,
    },
    /// The session has ended; nothing comes after it.
    Closed(CloseReason),
}
