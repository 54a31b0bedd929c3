//! One endpoint under test: a WHIP or a WHEP URL, the token for it, and the sessions that checks have made there.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use client::IceDescription;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use reqwest::{Method, RequestBuilder, Url};
use serde::Serialize;
use tokio::sync::OnceCell;

use crate::checks::Trouble;
use crate::fragment;
use crate::http::{Http, Reply};
use crate::link::Link;
use crate::offer::{Offer, random};

/// Redirects followed before giving up.
const REDIRECTS_MAX: usize = 5;
/// Media type of offers and answers.
pub(crate) const SDP: &str = "application/sdp";

/// Which of the two an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Publishing, RFC 9725.
    Whip,
    /// Watching, draft-ietf-wish-whep.
    Whep,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Whip => "WHIP",
            Self::Whep => "WHEP",
        })
    }
}

/// What a server makes of PATCH.
#[derive(Debug, Clone)]
pub(crate) struct PatchSupport {
    pub(crate) trickle: Support,
    pub(crate) restart: Support,
}

/// How a server answered something that it may leave out.
#[derive(Debug, Clone)]
pub(crate) struct Support {
    pub(crate) is_there: bool,
    pub(crate) status: u16,
}

/// An endpoint.
pub(crate) struct Side {
    pub(crate) protocol: Protocol,
    pub(crate) url: Url,
    pub(crate) token: Option<String>,
    pub(crate) http: Arc<Http>,
    sessions: Mutex<Vec<Url>>,
    support: OnceCell<PatchSupport>,
    silence: OnceLock<String>,
}

/// A session that a POST made.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) url: Url,
    pub(crate) offer: String,
    pub(crate) reply: Reply,
}

impl Session {
    pub(crate) fn answer(&self) -> &str {
        &self.reply.body
    }

    /// The value of `ETag`, if there is one.
    pub(crate) fn entity_tag(&self) -> Option<&str> {
        Some(self.reply.header("etag")).filter(|tag| !tag.is_empty())
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        self.reply.headers_named("link").into_iter().flat_map(Link::all_of).collect()
    }

    /// The client's ICE as offered.
    pub(crate) fn own_ice(&self) -> Result<IceDescription, Trouble> {
        fragment::ice_of(&self.offer)
            .ok_or_else(|| Trouble::Failed("the offer of the suite has no ICE".into()))
    }

    /// The server's ICE as answered.
    pub(crate) fn server_ice(&self) -> Result<IceDescription, Trouble> {
        fragment::ice_of(self.answer())
            .ok_or_else(|| Trouble::Failed("the answer has no ICE credentials".into()))
    }

    /// A link's target as a URL.
    pub(crate) fn resolve(&self, target: &str) -> Result<Url, Trouble> {
        self.url.join(target).map_err(|_| Trouble::Failed(format!("{target} is no URL")))
    }
}

impl Side {
    pub(crate) fn new(protocol: Protocol, url: Url, token: Option<String>, http: Arc<Http>) -> Self {
        Self {
            protocol,
            url,
            token,
            http,
            sessions: Mutex::default(),
            support: OnceCell::new(),
            silence: OnceLock::new(),
        }
    }

    /// A peer fell silent, and this became of its session.
    pub(crate) fn silence_ended(&self, seen: &str) {
        let _ = self.silence.set(seen.to_owned());
    }

    /// What became of the session of a peer that fell silent, if that was seen already.
    pub(crate) fn end_of_silence(&self) -> Option<String> {
        self.silence.get().cloned()
    }

    /// An offer that fits.
    pub(crate) fn offer(&self) -> String {
        Offer::plain(self.protocol).text()
    }

    /// A request with the token, if there is one.
    pub(crate) fn request(&self, method: Method, url: &Url) -> RequestBuilder {
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        }
    }

    /// Sends a request; no answer is a failure.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, Trouble> {
        Ok(self.http.send(request).await?)
    }

    /// POSTs an offer.
    pub(crate) async fn post(&self, offer: &str) -> Result<Reply, Trouble> {
        self.post_as(Some(SDP), offer).await
    }

    /// POSTs a body of this type; follows 307 and 308 as encoders do; remembers the session that comes of it.
    pub(crate) async fn post_as(&self, content_type: Option<&str>, body: &str) -> Result<Reply, Trouble> {
        let request = |url: &Url| {
            let request = self.request(Method::POST, url).body(body.to_owned());
            match content_type {
                Some(content_type) => request.header(CONTENT_TYPE, content_type),
                None => request,
            }
        };
        self.follow(request).await
    }

    /// Sends a POST to the endpoint and to where it is sent on.
    pub(crate) async fn follow(&self, request: impl Fn(&Url) -> RequestBuilder) -> Result<Reply, Trouble> {
        let (mut url, mut redirects) = (self.url.clone(), Vec::new());
        for _ in 0..REDIRECTS_MAX {
            let mut reply = self.http.send(request(&url)).await?;
            self.remember(&reply);
            let location = reply.header("location").to_owned();
            match reply.url.join(&location) {
                Ok(next) if matches!(reply.status, 307 | 308) => {
                    url = next;
                    redirects.push(location);
                }
                Ok(_) | Err(_) => {
                    reply.redirects = redirects;
                    return Ok(reply);
                }
            }
        }
        Err(Trouble::Failed(format!("redirected more than {REDIRECTS_MAX} times")))
    }

    /// A POST of an offer that fits, with names of headers in title case.
    pub(crate) fn titled_post(&self, url: &Url) -> RequestBuilder {
        let request = self.http.titled_request(Method::POST, url).header(CONTENT_TYPE, SDP);
        let request = match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        request.body(self.offer())
    }

    /// The session of an answer is deleted at the end of the check, whatever becomes of it.
    pub(crate) fn remember(&self, reply: &Reply) {
        let location = reply.header("location");
        if matches!(reply.status, 201 | 406)
            && !location.is_empty()
            && let Ok(url) = reply.url.join(location)
        {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).push(url);
        }
    }

    /// A session with an offer that fits, not connected.
    pub(crate) async fn session(&self) -> Result<Session, Trouble> {
        self.session_with(self.offer()).await
    }

    /// A session with this offer.
    pub(crate) async fn session_with(&self, offer: String) -> Result<Session, Trouble> {
        let reply = self.post(&offer).await?;
        self.session_of(reply, offer)
    }

    /// The session that a reply tells of.
    pub(crate) fn session_of(&self, reply: Reply, offer: String) -> Result<Session, Trouble> {
        if reply.status != 201 {
            return Err(Trouble::Failed(format!("a good offer was answered {}", reply.said())));
        }
        let location = reply.header("location");
        if location.is_empty() {
            return Err(Trouble::Failed("the 201 has no Location".into()));
        }
        let url = reply.url.join(location);
        let url = url.map_err(|_| Trouble::Failed(format!("the Location {location:?} is no URL")))?;
        Ok(Session { url, offer, reply })
    }

    /// PATCHes a session.
    pub(crate) async fn patch(
        &self,
        url: &Url,
        if_match: Option<&str>,
        (content_type, body): (&str, String),
    ) -> Result<Reply, Trouble> {
        let mut request = self.request(Method::PATCH, url).header(CONTENT_TYPE, content_type).body(body);
        if let Some(if_match) = if_match {
            request = request.header(IF_MATCH, if_match);
        }
        self.send(request).await
    }

    /// PATCHes a session with a fragment.
    pub(crate) async fn patch_fragment(
        &self,
        session: &Session,
        if_match: Option<&str>,
        fragment: String,
    ) -> Result<Reply, Trouble> {
        self.patch(&session.url, if_match, (fragment::MEDIA_TYPE, fragment)).await
    }

    pub(crate) async fn get(&self, url: &Url) -> Result<Reply, Trouble> {
        self.send(self.request(Method::GET, url)).await
    }

    pub(crate) async fn delete(&self, url: &Url) -> Result<Reply, Trouble> {
        self.send(self.request(Method::DELETE, url)).await
    }

    /// What the server makes of PATCH; asked once.
    pub(crate) async fn support(&self) -> Result<&PatchSupport, Trouble> {
        self.support
            .get_or_try_init(|| async {
                let session = self.session().await?;
                let tag = session.entity_tag();
                let own = session.own_ice()?;
                let trickle =
                    self.patch_fragment(&session, tag, fragment::of(&session.offer, &trickled(own))).await?;
                let restart = fragment::of(&session.offer, &new_ice());
                let restart = self.patch_fragment(&session, Some("*"), restart).await?;
                let trickle = Support { is_there: trickle.is_success(), status: trickle.status };
                // A restart that is answered like a candidate was taken for one.
                let restart = Support { is_there: restart.status == 200, status: restart.status };
                Ok(PatchSupport { trickle, restart })
            })
            .await
    }

    /// Deletes every session that checks have left.
    pub(crate) async fn end_sessions(&self) {
        let left = std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner));
        for url in left {
            // One that has ended already says so.
            let _ = self.http.send(self.request(Method::DELETE, &url)).await;
        }
    }
}

/// The same credentials with a candidate that leads nowhere (RFC 5737).
pub(crate) fn trickled(own: IceDescription) -> IceDescription {
    let candidates = vec!["1387637174 1 udp 2122260223 192.0.2.1 61764 typ host".to_owned()];
    IceDescription { candidates, ..own }
}

/// New credentials of the client, with a candidate that leads nowhere.
pub(crate) fn new_ice() -> IceDescription {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    trickled(IceDescription { ufrag: hex(&random::<4>()), pwd: hex(&random::<16>()), candidates: Vec::new() })
}
