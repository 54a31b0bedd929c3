//! Calls of the operator API over HTTP or HTTPS: one connection for each, bounded in time and size.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Connecting, asking and reading the answer: a controller that takes longer is not there for people.
const CALL_MAX: Duration = Duration::from_secs(10);
/// A thousand nodes that list all that they may are far smaller.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// `--api` names nothing that can be asked.
    #[error("--api {text}: write http://HOST:PORT or https://HOST, without ? and user name")]
    Api {
        /// What was written.
        text: String,
    },
    /// `--token` cannot be sent.
    #[error("the operator token has characters that no token has")]
    Token,
    /// `--ca-file` has no certificates.
    #[error("--ca-file {}: {reason}", file.display())]
    CaFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `--template-file` has no template.
    #[error("--template-file {}: {reason}", file.display())]
    TemplateFile {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be used: {0}")]
    Tls(String),
    /// Nobody there.
    #[error("no answer from {api}: {reason}")]
    Unreachable {
        /// Who was asked.
        api: String,
        /// What happened.
        reason: String,
    },
    /// It takes too long.
    #[error("{api} did not answer within {} s", CALL_MAX.as_secs())]
    TooSlow {
        /// Who was asked.
        api: String,
    },
    /// It was understood and not done.
    #[error("{0}")]
    Refused(String),
    /// The answer is not what this program expects.
    #[error("the answer of {api} is not understood: {reason}")]
    Answer {
        /// Who was asked.
        api: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// Whether the command line is at fault.
    pub const fn is_usage(&self) -> bool {
        matches!(self, Self::Api { .. } | Self::Token | Self::CaFile { .. } | Self::TemplateFile { .. })
    }
}

/// Whom to ask, and as whom.
pub struct Client {
    /// Without a slash at its end.
    api: String,
    host: String,
    port: u16,
    is_tls: bool,
    authorization: Option<header::HeaderValue>,
    ca_file: Option<PathBuf>,
}

impl Client {
    /// A client of the API at `api`; nothing is sent yet.
    pub fn new(api: &str, token: Option<&str>, ca_file: Option<PathBuf>) -> Result<Self, CallError> {
        let malformed = || CallError::Api { text: api.to_owned() };
        let uri: Uri = api.parse().map_err(|_| malformed())?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(malformed()),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        if uri.query().is_some() || authority.as_str().contains('@') {
            return Err(malformed());
        }
        let authorization = token.map(|token| {
            let mut value =
                header::HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| CallError::Token)?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            api: api.trim_end_matches('/').to_owned(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            is_tls,
            authorization: authorization.transpose()?,
            ca_file,
        })
    }

    /// What is at `path`, which begins with a slash.
    pub async fn get(&self, path: &str) -> Result<Bytes, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// Has something done; `body` is JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<String>) -> Result<Bytes, CallError> {
        let request = self.request(method, path, body)?;
        let answered = tokio::time::timeout(CALL_MAX, self.exchange(request)).await;
        let (status, body) = answered.map_err(|_| CallError::TooSlow { api: self.api.clone() })??;
        if status.is_success() { Ok(body) } else { Err(self.refusal(status, &body)) }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, CallError> {
        let uri: Uri =
            format!("{}{path}", self.api).parse().map_err(|_| CallError::Api { text: self.api.clone() })?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        // The connection goes to the server itself: the target is the path alone.
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("media-tree/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        request.body(body).map_err(|_| CallError::Api { text: self.api.clone() })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), CallError> {
        let tls = if self.is_tls { Some(tls(self.ca_file.as_deref())?) } else { None };
        let connected = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = connected.map_err(|error| self.unreachable(&error))?;
        let Some(connector) = tls else { return self.ask(stream, request).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| self.unreachable(&error))?;
        let stream = connector.connect(name, stream).await.map_err(|error| self.unreachable(&error))?;
        self.ask(stream, request).await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|error| self.unreachable(&error))?;
        // Ends with the answer; what goes wrong with it is told by the answer.
        let driver = tokio::spawn(connection);
        let answered = async {
            let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| self.answer(error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let answered = answered.await;
        driver.abort();
        answered
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> CallError {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason = format!("{reason}: {inner}");
            cause = inner.source();
        }
        CallError::Unreachable { api: self.api.clone(), reason }
    }

    /// An answer that is not understood.
    pub fn answer(&self, reason: String) -> CallError {
        CallError::Answer { api: self.api.clone(), reason }
    }

    /// What a refusal says, in one line.
    fn refusal(&self, status: StatusCode, body: &[u8]) -> CallError {
        let told =
            serde_json::from_slice::<Problem>(body).ok().and_then(|problem| problem.detail.or(problem.title));
        let api = &self.api;
        let message = match (told, status) {
            (Some(told), StatusCode::UNAUTHORIZED) => {
                format!("{told} (operator token: --token or MEDIA_TREE_OPERATOR_TOKEN)")
            }
            (Some(told), _) => told,
            (None, StatusCode::UNAUTHORIZED) => {
                format!("{api} wants an operator token: --token or MEDIA_TREE_OPERATOR_TOKEN")
            }
            (None, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
                format!("{api} has no operator API: ask a controller or `up`")
            }
            (None, _) => format!("{api} answered {status}"),
        };
        CallError::Refused(super::table::one_line(&message))
    }
}

/// What a refusal carries (RFC 9457).
#[derive(serde::Deserialize)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
}

/// TLS that trusts what this machine trusts, or the certificates of a file instead.
fn tls(ca_file: Option<&Path>) -> Result<tokio_rustls::TlsConnector, CallError> {
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(file) => {
            let bad = |reason: String| CallError::CaFile { file: file.into(), reason };
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| bad(error.to_string()))? {
                let certificate = certificate.map_err(|error| bad(error.to_string()))?;
                roots.add(certificate).map_err(|error| bad(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("there is no certificate in it".into()));
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(CallError::Tls(
                    "this machine trusts nobody; name certificates by --ca-file".into(),
                ));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CallError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_a_host_with_or_without_port_and_path() {
        let places = [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080),
            ("http://[::1]:8080/", "::1", 8080),
            ("https://control.example.net", "control.example.net", 443),
            ("http://control.example.net/media-tree/", "control.example.net", 80),
        ];
        for (api, host, port) in places {
            let client = Client::new(api, None, None).expect(api);
            assert_eq!((client.host.as_str(), client.port), (host, port), "{api}");
        }
        let behind_a_path = Client::new("http://control.example.net/media-tree/", None, None).expect("good");
        let request = behind_a_path.request(Method::GET, "/api/v1/nodes", None).expect("a request");
        assert_eq!(request.uri(), "/media-tree/api/v1/nodes");
        assert_eq!(request.headers()[header::HOST], "control.example.net");
    }

    #[test]
    fn what_cannot_be_asked_is_the_fault_of_the_command_line() {
        for api in ["", "controller", "redis://host", "http://", "http://me:secret@host", "http://host?x=1"] {
            let error = Client::new(api, None, None).err().expect(api);
            assert!(error.is_usage(), "{api}: {error}");
        }
        assert!(Client::new("http://host", Some("two\nlines"), None).is_err_and(|error| error.is_usage()));
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words_and_on_one_line() {
        let client = Client::new("http://host:1", None, None).expect("good");
        let refusal = |status, body: &str| client.refusal(status, body.as_bytes()).to_string();
        let problem = r#"{"title":"not found","status":404,"detail":"There is no\nnode named x."}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, problem), "There is no node named x.");
        assert!(refusal(StatusCode::UNAUTHORIZED, "").contains("MEDIA_TREE_OPERATOR_TOKEN"));
        assert!(refusal(StatusCode::NOT_FOUND, "").contains("no operator API"));
        assert_eq!(refusal(StatusCode::BAD_GATEWAY, "<html>"), "http://host:1 answered 502 Bad Gateway");
    }
}
