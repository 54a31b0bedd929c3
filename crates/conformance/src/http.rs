//! Requests with an end: each has a time-out, none follows a redirect by itself, who asks for patience gets it.

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

/// The requests of one run.
#[derive(Debug)]
pub(crate) struct Http {
    client: Client,
    /// Answers 301 and 302 to what must not become a GET.
    wrong_redirects: Mutex<Vec<String>>,
}

impl Http {
    /// `trusted`: certificates of authorities, PEM, in place of the system's.
    pub(crate) fn new(trusted: Option<&[u8]>, is_tls: bool) -> Result<Self, reqwest::Error> {
        // As OBS and ffmpeg, each request on a connection of its own: a server that hangs up on one harms no other.
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0);
        builder = match trusted {
            Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem)?),
            None if is_tls => builder,
            // There is no need to read the system's certificates, nor for it to have any.
            None => builder.tls_certs_only([]),
        };
        Ok(Self { client: builder.build()?, wrong_redirects: Mutex::default() })
    }

    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        self.client.request(method, url.clone())
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
        let request = request.build()?;
        let method = request.method().clone();
        let response = self.client.execute(request).await?;
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
    Ok(Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned(), url })
}
