//! A tap on the engine's DTLS: takes a copy of the SRTP keying material, bounds what data channels may do, and lets a
//! resumed session begin with the material.
//!
//! The engine makes its DTLS instance itself, from a provider without state. What a session needs of its instance is
//! handed over through a thread-local that is filled for the duration of [`build`] only.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use srtp::Profile;
use str0m::config::KeyingMaterial;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
    SrtpProfile,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};
use str0m::{Rtc, RtcConfig};
use zeroize::Zeroizing;

use super::channels::Filter;

/// Contents of the curve OID `secp256r1`, 1.2.840.10045.3.1.7 (RFC 5480, section 2.1.1.1).
const OID_P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Contents of the curve OID `secp384r1`, 1.3.132.0.34.
const OID_P384: [u8; 5] = [0x2b, 0x81, 0x04, 0x00, 0x22];
/// Contents of the algorithm OID `rsaEncryption`, 1.2.840.113549.1.1.1 (RFC 8017, appendix A.1).
const OID_RSA: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What DTLS-SRTP agreed on.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) profile: Profile,
    /// Of both directions, as exported (RFC 5764, section 4.2).
    pub(super) material: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What became visible of a handshake.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) keys: Option<Keys>,
    /// The peer's certificate cannot be verified: its key is of another kind or curve, it is RSA and the peer waits for
    /// our hello, or it was withheld because the like was not asked for.
    pub(super) unsupported_certificate: bool,
    /// The last error of the handshake, for people.
    pub(super) error: Option<String>,
    /// Messages of data channels that the engine has handed out since a packet of them was looked at, as
    /// [`super::channels::cost`] counts them.
    pub(super) delivered: usize,
}

/// Shared between a session and its DTLS instance; never contended, both live on one thread.
#[derive(Debug, Clone, Default)]
pub(super) struct Tap(Arc<Mutex<Seen>>);

impl Tap {
    /// Reads or changes what was seen.
    pub(super) fn with<T>(&self, action: impl FnOnce(&mut Seen) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Wiring {
    tap: Tap,
    resumed: Option<Keys>,
}

thread_local! {
    static NEXT: RefCell<Option<Wiring>> = const { RefCell::new(None) };
}

/// Makes an engine whose DTLS is tapped, or, with keys, is past its handshake from the beginning.
pub(super) fn build(config: RtcConfig, now: Instant, resumed: Option<Keys>) -> (Rtc, Tap) {
    static PROVIDER: Provider = Provider;
    let tap = Tap::default();
    NEXT.set(Some(Wiring { tap: tap.clone(), resumed }));
    let provider = CryptoProvider { dtls_provider: &PROVIDER, ..from_feature_flags() };
    let rtc = config.set_crypto_provider(Arc::new(provider)).build(now);
    NEXT.take();
    (rtc, tap)
}

#[derive(Debug)]
struct Provider;

impl DtlsProvider for Provider {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        from_feature_flags().dtls_provider.generate_certificate()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let wiring = NEXT.take();
        if let Some(Wiring { tap, resumed: Some(keys) }) = wiring {
            tap.with(|seen| seen.keys = Some(keys.clone()));
            return Ok(Box::new(Resumed { keys: Some(keys), connected: false, closed: false, now }));
        }
        let inner = from_feature_flags().dtls_provider.new_dtls(certificate, now, version, mtu)?;
        let tap = wiring.map(|wiring| wiring.tap).unwrap_or_default();
        Ok(Box::new(Tapped { inner, tap, filter: Filter::default() }))
    }
}

#[derive(Debug)]
struct Tapped {
    inner: Box<dyn DtlsInstance>,
    tap: Tap,
    filter: Filter,
}

impl Tapped {
    /// Takes down why a handshake fails. An established session's errors come from strays.
    fn note(&self, error: &DtlsImplError, is_refusal: bool) {
        // Seen with OpenSSL: a client whose certificate is neither ECDSA nor RSA sends none; a server with an RSA
        // certificate finds no cipher suite and answers the ClientHello with handshake_failure.
        let is_certificate = is_refusal || matches!(error, DtlsImplError::CertificateError(_));
        self.tap.with(|seen| {
            if seen.keys.is_none() {
                seen.unsupported_certificate |= is_certificate;
                seen.error = Some(error.to_string());
            }
        });
    }
}

/// A fatal handshake_failure alert in the clear (RFC 5246, section 7.2; RFC 6347, section 4.1).
fn is_handshake_failure(packet: &[u8]) -> bool {
    const ALERT: u8 = 21;
    packet.first() == Some(&ALERT)
        && packet.get(3..5) == Some(&[0, 0])
        && packet.get(13..15) == Some(&[2, 40])
}

impl DtlsInstance for Tapped {
    fn set_active(&mut self, active: bool) {
        self.inner.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let is_refusal = self.inner.is_active() && is_handshake_failure(packet);
        self.inner.handle_packet(packet).inspect_err(|error| self.note(error, is_refusal))
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.inner.poll_output(buffer);
        match &output {
            DtlsOutput::KeyingMaterial(material, profile) => {
                let keys = profile_of(*profile)
                    .map(|profile| Keys { profile, material: Zeroizing::new(material.to_vec()) });
                self.tap.with(|seen| seen.keys = keys);
            }
            DtlsOutput::PeerCert(certificate) if !is_verifiable(certificate) => {
                self.tap.with(|seen| seen.unsupported_certificate = true);
            }
            DtlsOutput::ApplicationData(packet) => {
                self.filter.delivered(self.tap.with(|seen| std::mem::take(&mut seen.delivered)));
                if !self.filter.admits(packet) {
                    // What is too short to be a packet is skipped by the engine.
                    return DtlsOutput::ApplicationData(&[]);
                }
            }
            _ => {}
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.inner.handle_timeout(now).inspect_err(|error| self.note(error, false))
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.filter.sends(data);
        self.inner.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.inner.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.inner.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.inner.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.inner.close()
    }
}

/// DTLS of a session that an earlier process established. Its record keys are gone with that process: it cannot say
/// goodbye, nor understand one.
struct Resumed {
    /// Until they are handed out.
    keys: Option<Keys>,
    connected: bool,
    closed: bool,
    now: Instant,
}

impl fmt::Debug for Resumed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resumed")
    }
}

/// A deadline that is never reached while it is polled.
const IDLE: Duration = Duration::from_secs(3600);

impl DtlsInstance for Resumed {
    fn set_active(&mut self, _active: bool) {}

    fn handle_packet(&mut self, _packet: &[u8]) -> Result<(), DtlsImplError> {
        Ok(())
    }

    fn poll_output<'a>(&mut self, _buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        if let Some(keys) = self.keys.take() {
            return DtlsOutput::KeyingMaterial(
                KeyingMaterial::new(&keys.material),
                engine_profile(keys.profile),
            );
        }
        if !self.connected {
            self.connected = true;
            return DtlsOutput::Connected;
        }
        DtlsOutput::Timeout(self.now + IDLE)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        Ok(())
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        Ok(data.len())
    }

    fn is_active(&self) -> bool {
        false
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        None
    }

    fn is_closed(&self) -> bool {
        self.closed
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.closed = true;
        Ok(())
    }
}

/// Whether DTLS here verifies the key: on one of two curves, or RSA.
fn is_verifiable(certificate: &[u8]) -> bool {
    let names = |oid: &[u8]| certificate.windows(oid.len()).any(|window| window == oid);
    names(&OID_P256) || names(&OID_P384) || names(&OID_RSA)
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    match profile {
        SrtpProfile::AEAD_AES_128_GCM => Some(Profile::AeadAes128Gcm),
        SrtpProfile::AEAD_AES_256_GCM => Some(Profile::AeadAes256Gcm),
        SrtpProfile::AES128_CM_SHA1_80 => Some(Profile::AesCm128HmacSha1_80),
        _ => None,
    }
}

const fn engine_profile(profile: Profile) -> SrtpProfile {
    match profile {
        Profile::AeadAes128Gcm => SrtpProfile::AEAD_AES_128_GCM,
        Profile::AeadAes256Gcm => SrtpProfile::AEAD_AES_256_GCM,
        Profile::AesCm128HmacSha1_80 => SrtpProfile::AES128_CM_SHA1_80,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_fatal_handshake_failure_is_one() {
        // As OpenSSL 3 sends it where it has but an RSA certificate.
        let alert = [21, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, 40];
        assert!(is_handshake_failure(&alert));
        let mut encrypted = alert;
        encrypted[4] = 1;
        assert!(!is_handshake_failure(&encrypted));
        assert!(!is_handshake_failure(&alert[..14]));
    }
}
