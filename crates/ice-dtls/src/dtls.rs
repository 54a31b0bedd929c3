//! One DTLS association: the library driven, its events reduced to what a session needs, its errors given names.

use crate::{Certificate, Fingerprint};
use dimpl::{CertificateError, CryptoError, Dtls, Error, Output, SecurityError};
use srtp::{MasterKey, Profile, split_exporter};
use std::time::Instant;

/// Who sends the first DTLS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We do: the peer's description says `a=setup:passive`.
    Client,
    /// The peer does. The rule, because then we pick the SRTP profile.
    Server,
}

/// Why a session came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FailureReason {
    /// No authentic connectivity check arrived in time.
    #[error("no connectivity check arrived: the peer cannot reach this address, or gave up")]
    NoCheck,
    /// Checks arrived, but the peer answered none of ours, so it may not be where they seemed to come from.
    #[error("the peer answered no connectivity check of ours, so its address is not proved")]
    NoAnswer,
    /// Checks arrived, but DTLS did not finish in time.
    #[error("the DTLS handshake did not finish in time")]
    DtlsTimedOut,
    /// The peer's certificate is not the one that its description announced.
    #[error("the peer's certificate does not have the fingerprint of its description")]
    FingerprintMismatch,
    /// The peer's certificate, or the lack of one, cannot be used here.
    #[error(
        "the peer has no certificate that can be verified here: use an ECDSA P-256 one; RSA of 2048 bits and more is \
         verified only of a peer that says hello first (a=setup:actpass or active)"
    )]
    UnsupportedCertificate,
    /// The peer does not do DTLS-SRTP, or has no profile in common with us.
    #[error("no SRTP profile in common")]
    NoSrtpProfile,
    /// The peer ended the handshake.
    #[error("the peer ended the handshake with alert {description}")]
    PeerAlert {
        /// Its number (RFC 5246, section 7.2).
        description: u8,
    },
    /// The peer broke the protocol, or has no cipher in common with us.
    #[error("DTLS failed: {detail}")]
    Protocol {
        /// What the library says.
        detail: String,
    },
}

/// `handshake_failure`: what a server without ECDSA certificate answers to our hello.
const HANDSHAKE_FAILURE: u8 = 40;
/// Object identifier 1.2.840.10045.2.1, id-ecPublicKey, in DER: in every certificate of an EC key.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Object identifier 1.2.840.113549.1.1.1, rsaEncryption, in DER: in every certificate of an RSA key.
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// First try for a buffer: any record, most certificates.
const OUTPUT_LEN: usize = 2048;
/// The longest certificate that is looked at.
const OUTPUT_LEN_MAX: usize = 1 << 16;

/// The keys of a finished handshake.
pub struct Keys {
    /// How both directions are sealed.
    pub profile: Profile,
    /// For what the peer sends.
    pub receive: MasterKey,
    /// For what we send.
    pub send: MasterKey,
}

/// What driving the library brought.
#[derive(Default)]
pub struct Progress {
    /// DTLS records to send.
    pub packets: Vec<Vec<u8>>,
    /// Told once, at the end of the handshake.
    pub keys: Option<Keys>,
    /// The peer said goodbye.
    pub is_closed: bool,
    /// When to call again; `None` once there are keys.
    pub timeout: Option<Instant>,
    /// Nothing more is to be expected; the packets may hold an alert for the peer.
    pub failure: Option<FailureReason>,
}

/// One DTLS association, without the ICE around it: [`crate::Handshake`] is for servers, this is also for clients.
pub struct Association {
    dtls: Dtls,
    role: DtlsRole,
    remote: Fingerprint,
    is_remote_known: bool,
    is_connected: bool,
    has_keys: bool,
}

impl Association {
    /// An association with the peer whose certificate has the fingerprint `remote`. As client, call
    /// [`Self::handle_timeout`] at once: it says hello.
    #[must_use]
    pub fn new(role: DtlsRole, remote: Fingerprint, certificate: &Certificate, now: Instant) -> Self {
        let mut dtls = Dtls::new_12(certificate.config.clone(), certificate.parts.clone(), now);
        dtls.set_active(role == DtlsRole::Client);
        Self { dtls, role, remote, is_remote_known: false, is_connected: false, has_keys: false }
    }

    /// Takes a datagram of DTLS records.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) -> Progress {
        let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.handle_packet(packet));
        self.progress(result)
    }

    /// Acts on what is due: repeats a lost flight.
    pub fn handle_timeout(&mut self, now: Instant) -> Progress {
        let result = self.dtls.handle_timeout(now);
        self.progress(result)
    }

    /// Says goodbye, if there is an authenticated channel to say it over.
    pub fn close(&mut self, now: Instant) -> Progress {
        let result = self.dtls.handle_timeout(now).and_then(|()| self.dtls.close());
        self.progress(result)
    }

    fn progress(&mut self, result: Result<(), Error>) -> Progress {
        let mut progress = Progress::default();
        // A certificate that cannot be used explains the library's error better than the error does.
        let failure = self.drain(&mut progress).err();
        progress.failure = failure.or_else(|| result.err().map(|error| self.reason(error)));
        progress
    }

    fn drain(&mut self, progress: &mut Progress) -> Result<(), FailureReason> {
        let mut buffer = vec![0; OUTPUT_LEN];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => progress.packets.push(packet.to_vec()),
                Output::PeerCert(certificate) => {
                    if !self.remote.is_of(certificate) {
                        return Err(FailureReason::FingerprintMismatch);
                    }
                    if !is_verifiable(certificate) {
                        return Err(FailureReason::UnsupportedCertificate);
                    }
                    self.is_remote_known = true;
                }
                Output::Connected => self.is_connected = true,
                Output::KeyingMaterial(material, profile) => {
                    if !self.is_remote_known {
                        return Err(FailureReason::UnsupportedCertificate);
                    }
                    progress.keys = Some(self.keys(profile, &material)?);
                    self.has_keys = true;
                }
                // Nothing but SRTP is agreed on: a data channel would be refused in signalling.
                Output::ApplicationData(_) => {}
                Output::CloseNotify => progress.is_closed = true,
                Output::Timeout(at) => {
                    progress.timeout = (!self.is_connected).then_some(at);
                    break;
                }
                Output::BufferTooSmall { needed } if needed <= OUTPUT_LEN_MAX => buffer.resize(needed, 0),
                _ => return Err(FailureReason::Protocol { detail: "an output too long".into() }),
            }
        }
        if self.is_connected && !self.has_keys {
            return Err(FailureReason::NoSrtpProfile);
        }
        Ok(())
    }

    fn keys(&self, profile: dimpl::SrtpProfile, material: &[u8]) -> Result<Keys, FailureReason> {
        let profile = match profile {
            dimpl::SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
            dimpl::SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
            dimpl::SrtpProfile::AES128_CM_SHA1_80 => Profile::AesCm128HmacSha1_80,
            _ => return Err(FailureReason::NoSrtpProfile),
        };
        let (client, server) = split_exporter(profile, material)
            .map_err(|error| FailureReason::Protocol { detail: error.to_string() })?;
        Ok(match self.role {
            DtlsRole::Client => Keys { profile, receive: server, send: client },
            DtlsRole::Server => Keys { profile, receive: client, send: server },
        })
    }

    fn reason(&self, error: Error) -> FailureReason {
        match error {
            // A peer that may only show an ECDSA certificate, and has none, shows an empty list.
            Error::CertificateError(
                CertificateError::NoClientCertificateReceived
                | CertificateError::NoServerCertificateReceived
                | CertificateError::UnsupportedHashAlgorithm(_)
                | CertificateError::UnsupportedEcCurve,
            )
            | Error::CryptoError(
                CryptoError::UnsupportedPublicKeyAlgorithm
                | CryptoError::RsaVerificationFailed { .. }
                | CryptoError::UnsupportedEcCurve
                | CryptoError::UnsupportedSignatureAlgorithm(_)
                | CryptoError::UnsupportedSignaturePair { .. }
                | CryptoError::UnsupportedSignatureVerification { .. }
                | CryptoError::SignatureAlgorithmMismatch { .. },
            ) => FailureReason::UnsupportedCertificate,
            Error::SecurityError(SecurityError::FatalAlert { description }) => match self.role {
                DtlsRole::Client if description == HANDSHAKE_FAILURE && !self.is_remote_known => {
                    FailureReason::UnsupportedCertificate
                }
                DtlsRole::Client | DtlsRole::Server => FailureReason::PeerAlert { description },
            },
            Error::Timeout(_) => FailureReason::DtlsTimedOut,
            other => FailureReason::Protocol { detail: other.to_string() },
        }
    }
}

/// Whether the library verifies what the key of this certificate signs. Two names are enough: it looks closer itself.
fn is_verifiable(certificate: &[u8]) -> bool {
    [EC_PUBLIC_KEY, RSA_ENCRYPTION].iter().any(|name| certificate.windows(name.len()).any(|at| at == *name))
}
