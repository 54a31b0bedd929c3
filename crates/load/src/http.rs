//! The HTTP side of a viewer: POST of the offer with redirects, the PATCH that answers a counter-offer, DELETE
//! (draft-ietf-wish-whep, RFC 9725).

use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};
use signaling::sdp;

use crate::description::{self, DescriptionError, Local, Remote};

/// Redirects followed before giving up.
const REDIRECTS_MAX: usize = 5;
/// For one request, answer included.
const TIMEOUT: Duration = Duration::from_secs(10);
const SDP: &str = "application/sdp";

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum JoinError {
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    #[error("no HTTP answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("HTTP {}", .0.as_u16())]
    Refused(StatusCode),
    #[error("the answer to the counter-offer was refused: HTTP {}", .0.as_u16())]
    AnswerRefused(StatusCode),
    #[error("a redirect or counter-offer without Location")]
    Location,
    #[error("more than {REDIRECTS_MAX} redirects")]
    Redirects,
    #[error("unusable SDP: {0}")]
    Description(#[from] DescriptionError),
    #[error("an answer longer than {} bytes", sdp::BYTES_MAX)]
    TooLong,
}

impl From<reqwest::Error> for JoinError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        // The innermost cause is the one that tells something, and names no address.
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |cause| cause.source());
        Self::Unreachable(causes.last().map_or_else(String::new, ToString::to_string))
    }
}

/// What all viewers share.
#[derive(Debug, Clone)]
pub(crate) struct Signalling {
    client: Client,
    token: Option<String>,
}

/// The server's side of one session.
#[derive(Debug)]
pub(crate) struct Resource {
    url: Url,
    has_token: bool,
}

/// A session as agreed on.
#[derive(Debug)]
pub(crate) struct Agreed {
    pub(crate) remote: Remote,
    /// `None` where the server named none: it cannot be deleted.
    pub(crate) resource: Option<Resource>,
}

impl Signalling {
    /// # Errors
    /// If the HTTP client cannot be set up.
    pub(crate) fn new(token: Option<String>) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            // Plain HTTP only: the system need not have certificates.
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { client, token })
    }

    /// Opens a session at `endpoint`. Follows 307 and 308 with the body; the token goes to the endpoint's own origin
    /// only.
    ///
    /// # Errors
    /// [`JoinError`] names the step that failed. A session that came about nevertheless has been deleted.
    pub(crate) async fn join(&self, endpoint: &Url, local: &Local) -> Result<Agreed, JoinError> {
        let offer = description::offer(local);
        let mut url = endpoint.clone();
        for _ in 0..=REDIRECTS_MAX {
            let has_token = url.origin() == endpoint.origin();
            let request = self.client.post(url.clone()).header(ACCEPT, SDP).header(CONTENT_TYPE, SDP);
            let response = self.authorized(request, has_token).body(offer.clone()).send().await?;
            let location = location(&url, &response);
            let has_token =
                has_token && location.as_ref().is_none_or(|url| url.origin() == endpoint.origin());
            let resource = location.clone().map(|url| Resource { url, has_token });
            match response.status() {
                StatusCode::CREATED => return self.answered(response, resource).await,
                StatusCode::NOT_ACCEPTABLE => {
                    let resource = resource.ok_or(JoinError::Refused(StatusCode::NOT_ACCEPTABLE))?;
                    return self.counter_offered(response, resource, local).await;
                }
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    url = location.ok_or(JoinError::Location)?;
                }
                refusal => return Err(JoinError::Refused(refusal)),
            }
        }
        Err(JoinError::Redirects)
    }

    async fn answered(&self, response: Response, resource: Option<Resource>) -> Result<Agreed, JoinError> {
        let read = text(response).await.and_then(|answer| Ok(Remote::of_answer(&answer)?));
        match read {
            Ok(remote) => Ok(Agreed { remote, resource }),
            Err(error) => Err(self.give_up(resource, error).await),
        }
    }

    async fn counter_offered(
        &self,
        response: Response,
        resource: Resource,
        local: &Local,
    ) -> Result<Agreed, JoinError> {
        let read = text(response).await.and_then(|offer| Ok(Remote::of_counter_offer(&offer, local)?));
        let (remote, answer) = match read {
            Ok(read) => read,
            Err(error) => return Err(self.give_up(Some(resource), error).await),
        };
        let request = self.client.patch(resource.url.clone()).header(CONTENT_TYPE, SDP).body(answer);
        let failure = match self.authorized(request, resource.has_token).send().await {
            Ok(response) if response.status().is_success() => {
                return Ok(Agreed { remote, resource: Some(resource) });
            }
            Ok(response) => JoinError::AnswerRefused(response.status()),
            Err(error) => error.into(),
        };
        Err(self.give_up(Some(resource), failure).await)
    }

    async fn give_up(&self, resource: Option<Resource>, error: JoinError) -> JoinError {
        if let Some(resource) = resource {
            self.delete(&resource).await;
        }
        error
    }

    /// Ends a session; tells whether the server agreed. One that it does not know any more is as good as ended.
    pub(crate) async fn delete(&self, resource: &Resource) -> bool {
        let request = self.authorized(self.client.delete(resource.url.clone()), resource.has_token);
        let is_gone = |status: StatusCode| matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        match request.send().await {
            Ok(response) => response.status().is_success() || is_gone(response.status()),
            Err(_) => false,
        }
    }

    fn authorized(&self, request: RequestBuilder, has_token: bool) -> RequestBuilder {
        match &self.token {
            Some(token) if has_token => request.header(AUTHORIZATION, format!("Bearer {token}")),
            _ => request,
        }
    }
}

fn location(base: &Url, response: &Response) -> Option<Url> {
    base.join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
}

/// The body, if it is not endless.
async fn text(mut response: Response) -> Result<String, JoinError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > sdp::BYTES_MAX {
            return Err(JoinError::TooLong);
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}
