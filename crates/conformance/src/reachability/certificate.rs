//! The certificate of a server: who vouches for it, for which name, until when.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode as _;

use super::PATIENCE;
use super::finding::{Check, Finding};

/// A certificate that ends sooner is to be renewed: those that renew themselves do so a month before.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY_SECS: u64 = 24 * 3600;

/// What a handshake shows of a server, trusted or not.
#[derive(Debug)]
struct Seen {
    verdict: Result<(), Error>,
    /// When its certificate ends: as seconds since 1970, and in words.
    ends: Option<(u64, String)>,
}

/// Judges the certificate that `address` shows for `host`, with the system's authorities or those in `trusted` (PEM).
pub(super) async fn judge(host: &str, address: SocketAddr, trusted: Option<&[u8]>) -> Finding {
    match look(host, address, trusted).await {
        Ok(seen) => told(host, &seen),
        Err(why) => Finding::bad(Check::Certificate, format!("no TLS with {address}: {why}")).advise(
            "Is this the port of HTTPS? Give the node --tls-certificate and --tls-key, or let a proxy in front speak TLS.",
        ),
    }
}

fn told(host: &str, seen: &Seen) -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let until = seen.ends.as_ref().map(|(_, until)| format!("valid until {until}"));
    let until = until.unwrap_or_else(|| "of unreadable validity".to_owned());
    if let Err(error) = &seen.verdict {
        let (why, advice) = reason(host, error);
        return Finding::bad(Check::Certificate, format!("clients refuse it: {why} ({until})"))
            .advise(advice);
    }
    let left = seen.ends.as_ref().map(|(ends, _)| ends.saturating_sub(now));
    let days = left.map(|left| format!("{until}, {} days from now", left / DAY_SECS)).unwrap_or(until);
    if left.is_some_and(|left| left < SOON.as_secs()) {
        return Finding::warning(Check::Certificate, format!("good for {host}, {days}")).advise(
            "Renew it, and have the node take the new files: media-tree upgrade costs nobody the picture.",
        );
    }
    Finding::good(Check::Certificate, format!("good for {host}, {days}"))
}

/// Why it is refused, and what to do.
fn reason(host: &str, error: &Error) -> (String, String) {
    let Error::InvalidCertificate(error) = error else {
        return (error.to_string(), "Look at what the port serves.".to_owned());
    };
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("it has expired".into(), "Renew it, and see why that did not happen by itself.".into())
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("it is not valid yet".into(), "Set the clocks of the server and of this machine.".into())
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("it is not for {host}"),
            format!("Get one that names {host}, or use the name that is in it."),
        ),
        CertificateError::UnknownIssuer => (
            "nobody whom this machine trusts has signed it".into(),
            "Get one of an authority (Let's Encrypt costs nothing), with the whole chain in the file; for an authority \
             of your own, name its certificate with --ca."
                .into(),
        ),
        other => (other.to_string(), "Get a new one of an authority that browsers trust.".into()),
    }
}

async fn look(host: &str, address: SocketAddr, trusted: Option<&[u8]>) -> Result<Seen, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Witness::new(&provider, trusted)?);
    let stream = connect(host, address, config(&provider, verifier.clone())?).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let ends = certificates.first().and_then(ends);
    let verdict = verifier.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Without a verdict no certificate was shown.
    let verdict = verdict.ok_or("the server shows no certificate")?;
    Ok(Seen { verdict, ends })
}

fn config(provider: &Arc<CryptoProvider>, verifier: Arc<Witness>) -> Result<ClientConfig, String> {
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

async fn connect(
    host: &str,
    address: SocketAddr,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} is no name for TLS"))?;
    let connecting = async {
        let stream = TcpStream::connect(address).await?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    };
    let connected = timeout(PATIENCE, connecting).await;
    connected.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())
}

/// TLS with a TURN server; the error says why clients do not connect.
pub(super) async fn tls(host: &str, address: SocketAddr) -> Result<TlsStream<TcpStream>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Witness::new(&provider, None)?);
    let stream = connect(host, address, config(&provider, verifier.clone())?).await?;
    let verdict = verifier.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    match verdict {
        Some(Err(error)) => Err(reason(host, &error).0),
        Some(Ok(())) | None => Ok(stream),
    }
}

/// When a certificate ends.
fn ends(certificate: &CertificateDer<'_>) -> Option<(u64, String)> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let ends = certificate.tbs_certificate().validity().not_after;
    Some((ends.to_unix_duration().as_secs(), ends.to_date_time().to_string()))
}

/// Judges as clients do, remembers the verdict, and goes on whatever it is.
#[derive(Debug)]
struct Witness {
    judge: Arc<WebPkiServerVerifier>,
    verdict: Mutex<Option<Result<(), Error>>>,
}

impl Witness {
    fn new(provider: &Arc<CryptoProvider>, trusted: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        match trusted {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|error| error.to_string())?;
                    roots.add(certificate).map_err(|error| error.to_string())?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let judge = judge.map_err(|error| format!("this machine trusts nobody ({error}); use --ca"))?;
        Ok(Self { judge, verdict: Mutex::default() })
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict =
            self.judge.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict.map(drop));
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reachability::State;

    #[test]
    fn a_certificate_that_ends_soon_is_told_before_it_has() {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let seen =
            |days: u64, verdict| Seen { verdict, ends: Some((now + days * DAY_SECS + 60, "then".into())) };
        assert_eq!(told("a.example", &seen(40, Ok(()))).state, State::Good);
        let soon = told("a.example", &seen(3, Ok(())));
        assert_eq!((soon.state, soon.advice.is_some()), (State::Warning, true));
        let wrong = Error::InvalidCertificate(CertificateError::NotValidForName);
        let wrong = told("a.example", &seen(40, Err(wrong)));
        assert_eq!(wrong.state, State::Bad);
        assert!(wrong.said.contains("not for a.example") && wrong.said.contains("then"), "{}", wrong.said);
    }
}
