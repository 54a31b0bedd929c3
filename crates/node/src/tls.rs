//! The certificate of the public listener.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_cert::der::Decode as _;

/// What the public listener speaks TLS with.
pub struct Tls {
    /// For its handshakes.
    pub server: Arc<rustls::ServerConfig>,
    /// When its certificate expires, since 1970; `None` if that cannot be read.
    pub expires: Option<Duration>,
}

/// What the configuration says; `None` for plain HTTP.
///
/// # Errors
/// As [`server_config`].
pub fn of_config(config: &config::Config) -> anyhow::Result<Option<Tls>> {
    match (&config.http.tls_certificate, &config.http.tls_key) {
        (Some(chain), Some(key)) => server_config(chain, key).map(Some),
        _ => Ok(None),
    }
}

/// Reads a PEM chain and its key.
///
/// # Errors
/// If a file cannot be read, is not PEM, or key and certificate do not belong together.
fn server_config(chain: &Path, key: &Path) -> anyhow::Result<Tls> {
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("read the certificate chain {}", chain.display()))?;
    let expires = certificates.first().and_then(|certificate| expiry(certificate));
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("read the key {}", key.display()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("use the certificate and its key")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Tls { server: Arc::new(config), expires })
}

/// When a certificate expires, since 1970.
fn expiry(certificate: &[u8]) -> Option<Duration> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read_from_it() {
        let certificate = ice_dtls::Certificate::generate().expect("a certificate");
        let year = Duration::from_secs(365 * 24 * 3600);
        let expires = expiry(certificate.certificate_der()).expect("an end");
        assert!(expires > 50 * year && expires < 2000 * year, "{expires:?}");
        assert_eq!(expiry(b"no certificate"), None);
    }
}
