//! ICE-lite and DTLS-SRTP handshakes, sans-IO (RFC 8445, RFC 5764). Knows nothing of media or HTTP.
//!
//! A [`Handshake`] brings one session from its peer's first connectivity check to SRTP keys, and stays behind as a cold
//! object that answers what the peer repeats and says goodbye. [`stun`] and [`classify`] are also for whoever reads the
//! socket of established sessions and answers their consent checks.
//!
//! **Invariant**: nothing that is not authenticated is answered. A check is answered when its message integrity is
//! right. That proves who asks, not that the address receives: so DTLS is spoken, and a path told to its user, only once
//! the peer has answered a check of our own from there. The DTLS cookie exchange, which would prove the return address a
//! second time, is left out and a round trip with it.
//!
//! # DTLS 1.2, on purpose
//! All peers speak it: Chromium, Firefox and Safari beside 1.3, OpenSSL, mbedTLS and GnuTLS (OBS, GStreamer, FFmpeg)
//! nothing newer. As a 1.3 server the DTLS library takes the SRTP profile that the client lists first, which is
//! AES-CM with HMAC-SHA1 in Chromium's hello, the dearest one; as a 1.2 server it takes GCM wherever the client has
//! it (256 bits before 128, which costs 8 % more to compute). The server sends its first media packet after one round
//! trip either way. A hello that offers 1.3 as well, and needs two datagrams for it, is understood.
#![forbid(unsafe_code)]

mod certificate;
mod classify;
mod credentials;
mod dtls;
mod fingerprint;
mod handshake;
mod paths;
pub mod stun;

pub use certificate::{Certificate, CertificateError};
pub use classify::{Datagram, classify};
pub use credentials::{CredentialsError, IceCredentials, PeerCredentials};
pub use dtls::{Association, DtlsRole, FailureReason, Keys, Progress};
pub use fingerprint::{Fingerprint, FingerprintError, HashFunction};
pub use handshake::{
    DatagramError, HANDSHAKE_DURATION_MAX, Handshake, HandshakeConfig, IceConfig, Output, Path,
};
pub use paths::PATHS_MAX;
