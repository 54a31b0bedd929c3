//! Requests with an end: each has a time-out, none follows a redirect by itself, who asks for patience gets it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, Url};

/// As long as OBS waits, and a little more.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause that a server is granted before it is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How often a server may ask for patience before its answer counts.
const PATIENCE_MAX: usize = 5;
/// Who asks beside everybody else, of a server on this machine.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// No answer of interest is longer.
const BODY_BYTES_MAX: usize = 1 << 20;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    /// Who answered, after redirects.
    pub(crate) url: Url,
    /// The Locations of these redirects, as they were written.
    pub(crate) redirects: Vec<String>,
}

impl Reply {
    /// A header's text; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Every value of a header.
    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// The media type of the body, in lower case and without parameters.
    pub(crate) fn media_type(&self) -> String {
        self.header("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    pub(crate) const fn is_success(&self) -> bool {
        self.status >= 200 && self.status < 300
    }

    pub(crate) const fn is_refusal(&self) -> bool {
        self.status >= 400 && self.status < 500
    }

    /// Whether what was asked for is not there, or no longer.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.status, 404 | 410)
    }

    /// Status, and the beginning of what was said with it.
    pub(crate) fn said(&self) -> String {
        let word: String = self.body.chars().filter(|character| !character.is_control()).take(160).collect();
        if word.is_empty() { self.status.to_string() } else { format!("{} ({word})", self.status) }
    }
}

/// Whose certificates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust<'a> {
    /// Those of the authorities that this machine trusts.
    System,
    /// Those of these authorities, PEM.
    Only(&'a [u8]),
    /// Any: where it was said before that clients refuse it.
    Anybody,
}

/// The requests of one run.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    /// Writes the names of headers as libcurl and others do over HTTP/1.1: `Content-Type`.
    titled: Client,
    /// Asks from another address of this machine, if the server is on it, too.
    neighbour: Option<Client>,
    /// Answers 301 and 302 to what must not become a GET.
    wrong_redirects: Mutex<Vec<String>>,
}

impl Http {
    /// `servers`: who will be asked.
    pub(crate) fn new(trust: Trust<'_>, servers: &[&Url]) -> Result<Self, reqwest::Error> {
        let trusted = match trust {
            Trust::Only(pem) => Some(Certificate::from_pem_bundle(pem)?),
            Trust::System | Trust::Anybody => None,
        };
        let is_tls = servers.iter().any(|url| url.scheme() == "https");
        let builder = || {
            // As OBS and ffmpeg, each request on a connection of its own: a server that hangs up on one harms no other.
            let builder = Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .timeout(TIMEOUT)
                .pool_max_idle_per_host(0);
            match &trusted {
                _ if trust == Trust::Anybody => builder.tls_danger_accept_invalid_certs(true),
                Some(certificates) => builder.tls_certs_only(certificates.clone()),
                None if is_tls => builder,
                // There is no need to read the system's certificates, nor for it to have any.
                None => builder.tls_certs_only([]),
            }
        };
        let is_here = servers.iter().all(|url| url.host_str().is_some_and(is_loopback));
        let neighbour = is_here.then(|| builder().local_address(IpAddr::V4(NEIGHBOUR)).build());
        Ok(Self {
            client: builder().build()?,
            titled: builder().http1_only().http1_title_case_headers().build()?,
            neighbour: neighbour.transpose()?,
            wrong_redirects: Mutex::default(),
        })
    }

    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
    }

    /// The same with names of headers in title case.
    pub(crate) fn titled_request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.titled.request(method, url.clone())
    }

    /// The same from another address than all other requests, if there is one.
    pub(crate) fn neighbours_request(&self, method: Method, url: &Url) -> Option<RequestBuilder> {
        Some(self.neighbour.as_ref()?.request(method, url.clone()))
    }

    /// Sends it, and again if the server says that it is asked too often.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, reqwest::Error> {
        for _ in 0..PATIENCE_MAX {
            let again = request.try_clone();
            let Some(again) = again else { break };
            let response = self.respond(again).await?;
            let Some(pause) = pause(&response) else { return read(response).await };
            tokio::time::sleep(pause).await;
        }
        self.send_once(request).await
    }

    /// Sends it, whatever the server says.
    pub(crate) async fn send_once(&self, request: RequestBuilder) -> Result<Reply, reqwest::Error> {
        read(self.respond(request).await?).await
    }

    /// Sends it and leaves the body unread.
    pub(crate) async fn open(&self, request: RequestBuilder) -> Result<Response, reqwest::Error> {
        self.respond(request).await
    }

    async fn respond(&self, request: RequestBuilder) -> Result<Response, reqwest::Error> {
        let (client, request) = request.build_split();
        let request = request?;
        let method = request.method().clone();
        let response = client.execute(request).await?;
        let status = response.status().as_u16();
        if matches!(status, 301 | 302) && matches!(method, Method::POST | Method::PATCH | Method::DELETE) {
            let mut seen = self.wrong_redirects.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(format!("{status} to {method} {}", response.url().path()));
        }
        Ok(response)
    }

    /// What was answered with 301 or 302 so far and must not be.
    pub(crate) fn wrong_redirects(&self) -> Vec<String> {
        self.wrong_redirects.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a host is reached over the IPv4 loopback.
fn is_loopback(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// How long the server wants to be left alone.
fn pause(response: &Response) -> Option<Duration> {
    let is_busy = matches!(response.status().as_u16(), 429 | 503);
    let asked = response.headers().get(RETRY_AFTER).filter(|_| is_busy)?;
    let seconds = asked.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(PAUSE_MAX))
}

async fn read(mut response: Response) -> Result<Reply, reqwest::Error> {
    let (status, headers, url) =
        (response.status().as_u16(), response.headers().clone(), response.url().clone());
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        body.extend_from_slice(&part);
        if body.len() > BODY_BYTES_MAX {
            break;
        }
    }
    Ok(Reply {
        status,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        url,
        redirects: Vec::new(),
    })
}
