//! The HTTP side of a session: POST of the offer, DELETE of the resource (RFC 9725, section 4).

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};

use crate::error::{CloseError, ConnectError};

/// Redirects followed before giving up.
const REDIRECTS_MAX: usize = 5;
/// As long as OBS waits.
const HTTP_TIMEOUT: Duration = Duration::from_secs(8);

/// The server's side of one session.
pub(crate) struct Resource {
    client: Client,
    url: Url,
    authorization: Option<String>,
}

/// A 201 and what it brought.
pub(crate) struct Accepted {
    pub(crate) resource: Resource,
    pub(crate) answer: String,
}

/// Parses the URL of an endpoint that is asked from here.
pub(crate) fn endpoint(url: &str) -> Result<Url, ConnectError> {
    let parsed = server(url)?;
    if parsed.scheme() == "http" { Ok(parsed) } else { Err(ConnectError::Url { url: url.to_owned() }) }
}

/// Parses the URL of a server that somebody asks, over HTTP or HTTPS.
pub(crate) fn server(url: &str) -> Result<Url, ConnectError> {
    let parsed = Url::parse(url).ok();
    let usable = parsed.filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    usable.ok_or_else(|| ConnectError::Url { url: url.to_owned() })
}

/// POSTs the offer; follows 307 and 308, taking the token along as OBS does.
pub(crate) async fn post_offer(
    mut url: Url,
    token: Option<&str>,
    offer: String,
) -> Result<Accepted, ConnectError> {
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        // Plain HTTP only: there is no need to read the system's certificates, nor for it to have any.
        .tls_certs_only([])
        // As OBS and ffmpeg: each request on a connection of its own.
        .pool_max_idle_per_host(0)
        .timeout(HTTP_TIMEOUT)
        .build()
        .map_err(ConnectError::Unreachable)?;
    let authorization = token.map(|token| format!("Bearer {token}"));
    for _ in 0..=REDIRECTS_MAX {
        let mut request = client
            .post(url.clone())
            .header(CONTENT_TYPE, "application/sdp")
            .header(ACCEPT, "application/sdp")
            .body(offer.clone());
        if let Some(authorization) = &authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(ConnectError::Unreachable)?;
        match response.status() {
            StatusCode::CREATED => {
                let url = location(&url, &response).ok_or(ConnectError::Location)?;
                let answer = response.text().await.map_err(ConnectError::Unreachable)?;
                return Ok(Accepted { resource: Resource { client, url, authorization }, answer });
            }
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                url = location(&url, &response).ok_or(ConnectError::Location)?;
            }
            _ => return Err(refusal(response).await),
        }
    }
    Err(ConnectError::Redirects { maximum: REDIRECTS_MAX })
}

fn location(base: &Url, response: &Response) -> Option<Url> {
    base.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

async fn refusal(response: Response) -> ConnectError {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    ConnectError::Refused {
        status: response.status().as_u16(),
        retry_after: seconds.map(Duration::from_secs),
        detail: response.text().await.unwrap_or_default(),
    }
}

impl Resource {
    /// Where it lives.
    pub(crate) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Ends the session on the server.
    pub(crate) async fn delete(&self) -> Result<(), CloseError> {
        let mut request = self.client.delete(self.url.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(CloseError::Unreachable)?;
        match response.status() {
            StatusCode::OK => Ok(()),
            status => Err(CloseError::Refused { status: status.as_u16() }),
        }
    }
}
