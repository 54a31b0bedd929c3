//! Who may hold a link: every node that knows the cluster key.
//!
//! The cluster key is stretched into one Ed25519 key pair that all nodes share. A link channel is mutual TLS 1.3
//! with that key as raw public key (RFC 7250) on both sides, so a node proves that it holds the cluster key, and
//! learns the same of the other, before the first message. Members are not told apart from one another.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// ALPN of the link channel; the number is the major version of the wire.
const ALPN: &[u8] = b"media-tree-link/1";

/// Any name: members are pinned by key, not by name.
pub const SERVER_NAME: &str = "media-tree";

/// The key pair of the cluster, ready for both directions of a link channel.
#[derive(Debug, Clone)]
pub struct LinkIdentity {
    certified: Arc<rustls::sign::CertifiedKey>,
    provider: Arc<CryptoProvider>,
    /// What a node that starts again shares with its earlier run.
    reset_seed: [u8; 32],
}

impl LinkIdentity {
    /// Stretches `cluster_key` (any length) into the cluster's key pair.
    ///
    /// # Errors
    /// Only if the cryptographic library refuses its own output.
    pub fn new(cluster_key: &[u8]) -> anyhow::Result<Self> {
        use aws_lc_rs::{hkdf, signature::Ed25519KeyPair};
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"media-tree link identity 1");
        let stretched = salt.extract(cluster_key);
        let draw = |purpose: &[u8]| -> anyhow::Result<[u8; 32]> {
            let mut seed = [0u8; 32];
            stretched
                .expand(&[purpose], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut seed))
                .map_err(|_| anyhow::anyhow!("the cluster key cannot be stretched"))?;
            Ok(seed)
        };
        let (seed, reset_seed) = (draw(b"ed25519 seed")?, draw(b"reset seed")?);
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|e| anyhow::anyhow!("seed: {e}"))?;
        let pkcs8 = pair.to_pkcs8().map_err(|_| anyhow::anyhow!("the cluster key cannot be encoded"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let private = PrivateKeyDer::Pkcs8(pkcs8.as_ref().to_vec().into());
        let signing =
            provider.key_provider.load_private_key(private).context("load the cluster's key pair")?;
        let public = signing.public_key().context("the cluster's key pair has no public key")?;
        let chain = vec![CertificateDer::from(public.to_vec())];
        let certified = Arc::new(rustls::sign::CertifiedKey::new(chain, signing));
        Ok(Self { certified, provider, reset_seed })
    }

    /// TLS for the child, which dials.
    ///
    /// # Errors
    /// If the library lacks TLS 1.3.
    pub fn client(&self) -> anyhow::Result<rustls::ClientConfig> {
        let mut config = rustls::ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.pinned()))
            .with_client_cert_resolver(Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// TLS for the parent, which listens.
    ///
    /// # Errors
    /// If the library lacks TLS 1.3.
    pub fn server(&self) -> anyhow::Result<rustls::ServerConfig> {
        let mut config = rustls::ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(self.pinned()))
            .with_cert_resolver(Arc::new(rustls::server::AlwaysResolvesServerRawPublicKeys::new(
                self.certified.clone(),
            )));
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(config)
    }

    /// QUIC that shares its port with media, and that knows connections of an earlier run of its node: it tells their
    /// other ends that they are void (RFC 9000, section 10.3), so that these dial again at once.
    ///
    /// # Errors
    /// Only if there is no randomness.
    pub fn endpoint(&self) -> anyhow::Result<quinn::EndpointConfig> {
        use aws_lc_rs::{hmac, rand::SystemRandom};
        let resets = hmac::Key::new(hmac::HMAC_SHA256, &self.reset_seed);
        let ids = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        let ids = ids.map_err(|_| anyhow::anyhow!("no randomness"))?;
        let mut config = quinn::EndpointConfig::new(Arc::new(resets));
        config.cid_generator(move || Box::new(ConnectionIds { key: ids.clone(), count: 0 }));
        // Greased packets (RFC 9287) lack the bit by which the port tells QUIC from media: half of them would be lost.
        config.grease_quic_bit(false);
        Ok(config)
    }

    fn pinned(&self) -> Pinned {
        Pinned {
            public: self.certified.cert[0].as_ref().to_vec(),
            algorithms: self.provider.signature_verification_algorithms,
        }
    }
}

/// Connection ids without a mark of this run of the process: QUIC's own ones let the next run ignore them silently.
struct ConnectionIds {
    key: aws_lc_rs::hmac::Key,
    count: u64,
}

/// Long enough that nobody guesses one.
const CONNECTION_ID_BYTES: usize = 8;

impl quinn::ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        self.count += 1;
        let tag = aws_lc_rs::hmac::sign(&self.key, &self.count.to_be_bytes());
        quinn::ConnectionId::new(&tag.as_ref()[..CONNECTION_ID_BYTES])
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Accepts exactly one public key.
#[derive(Debug)]
struct Pinned {
    public: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn check(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        if presented.as_ref() == self.public {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("links speak TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("links speak TLS 1.3 only".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
