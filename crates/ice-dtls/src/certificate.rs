//! The certificate that this node shows to every peer.

use crate::{Fingerprint, HashFunction};
use aws_lc_rs::digest;
use dimpl::{Config, DtlsCertificate};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// First repetition of a lost flight. A fifth of the library's default: paths are proven before DTLS
/// starts, and what is lost delays the first frame.
const RETRANSMIT_AFTER: Duration = Duration::from_millis(200);
/// Repetitions of one flight: 0.2 s doubled seven times is past [`crate::HANDSHAKE_DURATION_MAX`], which ends first.
const RETRANSMITS_MAX: usize = 7;

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// No key or certificate could be made.
    #[error("no self-signed certificate could be made")]
    Generation,
    /// The private key is not an ECDSA key in DER.
    #[error("the private key is not an ECDSA P-256 or P-384 key in PKCS#8 or SEC1 DER")]
    PrivateKey,
    /// The certificate is empty.
    #[error("the certificate is empty")]
    Empty,
    /// The DTLS library refused its own settings.
    #[error("DTLS cannot be set up: {0}")]
    SetUp(String),
}

/// Self-signed ECDSA P-256 certificate with its key, and the DTLS settings that go with it. Made once for a node:
/// peers know it by its fingerprint alone, so its validity and names mean nothing. But there must be names: mbedTLS, which
/// OBS has on Windows and macOS, answers a certificate whose issuer is empty with the alert `bad_certificate`.
///
/// Randomness of keys and hellos is drawn by the cryptographic library itself.
pub struct Certificate {
    pub(crate) parts: DtlsCertificate,
    pub(crate) config: Arc<Config>,
}

impl Certificate {
    /// Makes a new key and certificate.
    ///
    /// # Errors
    /// [`CertificateError`] if the cryptographic library fails.
    pub fn generate() -> Result<Self, CertificateError> {
        let parts = dimpl::certificate::generate_self_signed_certificate();
        Self::with(parts.map_err(|_| CertificateError::Generation)?)
    }

    /// Takes a certificate and its private key that were made before.
    ///
    /// # Errors
    /// [`CertificateError`] if one of them cannot be used.
    pub fn from_der(certificate: &[u8], private_key: &[u8]) -> Result<Self, CertificateError> {
        Self::with(DtlsCertificate { certificate: certificate.to_vec(), private_key: private_key.to_vec() })
    }

    fn with(parts: DtlsCertificate) -> Result<Self, CertificateError> {
        if parts.certificate.is_empty() {
            return Err(CertificateError::Empty);
        }
        let config = Config::builder()
            .use_server_cookie(false)
            .require_client_certificate(true)
            .flight_start_rto(RETRANSMIT_AFTER)
            .flight_retries(RETRANSMITS_MAX)
            .handshake_timeout(crate::HANDSHAKE_DURATION_MAX)
            .build()
            .map_err(|error| CertificateError::SetUp(error.to_string()))?;
        // The library panics later on a key that it cannot load.
        let loaded = config.crypto_provider().key_provider.load_private_key(&parts.private_key);
        loaded.map_err(|_| CertificateError::PrivateKey)?;
        Ok(Self { parts, config: Arc::new(config) })
    }

    /// The certificate in DER.
    #[must_use]
    pub fn certificate_der(&self) -> &[u8] {
        &self.parts.certificate
    }

    /// The private key in DER, to be stored sealed.
    #[must_use]
    pub fn private_key_der(&self) -> &[u8] {
        &self.parts.private_key
    }

    /// The SHA-256 fingerprint for `a=fingerprint`.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = digest::digest(&digest::SHA256, &self.parts.certificate);
        Fingerprint::new(HashFunction::Sha256, hash.as_ref())
            .expect("SHA-256 yields as many bytes as it does")
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_certificate_keeps_its_fingerprint() {
        let made = Certificate::generate().unwrap();
        let read = Certificate::from_der(made.certificate_der(), made.private_key_der()).unwrap();
        assert_eq!(read.fingerprint(), made.fingerprint());
        assert!(read.fingerprint().is_of(made.certificate_der()));
        assert_ne!(Certificate::generate().unwrap().fingerprint(), made.fingerprint());
    }

    #[test]
    fn unusable_parts_are_refused() {
        let made = Certificate::generate().unwrap();
        let refused = |certificate: &[u8], key: &[u8]| Certificate::from_der(certificate, key).unwrap_err();
        assert_eq!(refused(made.certificate_der(), b"no key"), CertificateError::PrivateKey);
        assert_eq!(refused(b"", made.private_key_der()), CertificateError::Empty);
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let printed = format!("{:?}", Certificate::generate().unwrap());
        assert!(printed.starts_with("Certificate { fingerprint: Fingerprint(sha-256 "), "{printed}");
    }
}
