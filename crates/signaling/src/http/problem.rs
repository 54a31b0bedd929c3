//! Problem documents (RFC 9457): what went wrong, for people and for programs.

use std::fmt::Display;

use super::BODY_BYTES_MAX;
use crate::OfferError;
use crate::coding::Coding;
use crate::whip::AnswerError;

/// Media type of a problem document.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// A refusal, with what the person at the other end can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// The kind of problem, for programs: a fixed word that never changes.
    pub code: &'static str,
    /// Plain language, one or two sentences.
    pub detail: String,
    /// Names and values of the headers that belong to it.
    pub headers: Vec<(&'static str, String)>,
    /// Names and values of further members of the document, for programs (RFC 9457, section 3.2).
    pub members: Vec<(&'static str, String)>,
}

impl Problem {
    /// A problem without headers.
    #[must_use]
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), headers: Vec::new(), members: Vec::new() }
    }

    /// The same problem with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The same problem with one more member.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// What is on air is nothing for this player.
    fn not_played(code: &'static str, error: &OfferError, on_air: &Coding) -> Self {
        let problem =
            Self::new(406, code, error.to_string()).with_member("codec", on_air.codec().encoding_name());
        match on_air.profile_name() {
            Some(profile) => problem.with_member("profile", profile),
            None => problem,
        }
    }

    /// The body is longer than [`BODY_BYTES_MAX`].
    #[must_use]
    pub fn too_large() -> Self {
        let detail = format!("The request is too large: at most {BODY_BYTES_MAX} bytes are read.");
        Self::new(413, "too-large", detail)
    }

    /// No session has this URL, or it has ended.
    #[must_use]
    pub fn session_not_found() -> Self {
        Self::new(404, "session-not-found", "This session does not exist, or it has ended.")
    }

    /// Viewers of a broadcast that waits for its publisher are to come back (WHEP, section 4.2).
    #[must_use]
    pub fn not_live(retry_after_seconds: u32) -> Self {
        Self::new(409, "not-live", "This broadcast is not live at the moment. Try again soon.")
            .with_header("Retry-After", retry_after_seconds)
    }

    /// The node is full.
    #[must_use]
    pub fn overloaded(retry_after_seconds: u32) -> Self {
        Self::new(503, "overloaded", "This server is full at the moment. Try again soon.")
            .with_header("Retry-After", retry_after_seconds)
    }

    /// One client asks too often.
    #[must_use]
    pub fn rate_limited(retry_after_seconds: u32) -> Self {
        let detail = format!("Too many requests. Wait {retry_after_seconds} s and try again.");
        Self::new(429, "rate-limited", detail).with_header("Retry-After", retry_after_seconds)
    }

    /// The short name of the status. With type `about:blank` it is the title (RFC 9457, section 4.2.1).
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            408 => "Request Timeout",
            409 => "Conflict",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            428 => "Precondition Required",
            429 => "Too Many Requests",
            500 => "Internal Server Error",
            503 => "Service Unavailable",
            _ => "Error",
        }
    }

    /// The document, of type [`PROBLEM_JSON`].
    #[must_use]
    pub fn body(&self) -> String {
        let mut body = serde_json::json!({
            "type": "about:blank",
            "title": self.title(),
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        });
        for (name, value) in &self.members {
            body[*name] = value.as_str().into();
        }
        body.to_string()
    }
}

impl From<OfferError> for Problem {
    fn from(error: OfferError) -> Self {
        let (status, code) = match &error {
            OfferError::Parse(_) => (400, "offer-unreadable"),
            OfferError::Empty => (400, "offer-empty"),
            OfferError::Mid { .. } => (400, "offer-mid"),
            OfferError::IceCredentials => (400, "offer-ice-credentials"),
            OfferError::FingerprintMissing => (400, "offer-fingerprint"),
            OfferError::FingerprintUnsupported => (422, "offer-fingerprint"),
            OfferError::IceLite => (422, "offer-ice-lite"),
            OfferError::Bundle => (422, "offer-bundle"),
            OfferError::RtcpMux { .. } => (422, "offer-rtcp-mux"),
            OfferError::Protocol { .. } => (422, "offer-protocol"),
            OfferError::NotSending { .. } | OfferError::NotReceiving { .. } => (422, "offer-direction"),
            OfferError::TooMany { .. } => (422, "offer-too-many-media"),
            OfferError::Unusable { .. } => (422, "offer-unusable-media"),
            OfferError::NoUsableCodec { .. } => (422, "no-usable-codec"),
            OfferError::NoCommonCodec { .. } => (406, "no-common-codec"),
            OfferError::CodecNotPlayed { on_air, .. } => {
                return Self::not_played("no-common-codec", &error, on_air);
            }
            OfferError::ProfileNotPlayed { on_air, .. } => {
                return Self::not_played("no-common-profile", &error, on_air);
            }
            OfferError::TooManyLayers { .. } | OfferError::Rid { .. } | OfferError::SimulcastBySsrc => {
                (422, "offer-simulcast")
            }
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<AnswerError> for Problem {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Refused { mid } => {
                let detail =
                    format!("Section '{mid}' of the offer has no codec in a form that this server takes.");
                Self::new(422, "no-usable-codec", detail)
            }
            AnswerError::TooLong { .. } => Self::new(
                422,
                "offer-too-rich",
                "The offer lists too much to be answered. Offer fewer codecs.",
            ),
            AnswerError::Parse(_) | AnswerError::Sections | AnswerError::Transport => {
                let detail =
                    "The server could not answer this offer. The fault is on its side, not in the offer.";
                Self::new(500, "answer-failed", detail)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Codec, Kind};

    #[test]
    fn w45_a_refused_offer_is_told_in_plain_language() {
        let problem = Problem::from(OfferError::NoCommonCodec {
            kind: Kind::Video,
            wanted: vec![Codec::H264, Codec::Vp8],
            offered: vec!["AV1\"x".to_owned(), "rtx".to_owned()],
        });
        assert_eq!(problem.status, 406);
        let body: serde_json::Value = serde_json::from_str(&problem.body()).expect("JSON");
        assert_eq!(body["type"], "about:blank");
        assert_eq!(body["title"], "Not Acceptable");
        assert_eq!(body["status"], 406);
        assert_eq!(body["code"], "no-common-codec");
        assert_eq!(
            body["detail"],
            "No common video codec: the broadcast has H.264, VP8, the player has AV1\"x, rtx."
        );
    }

    #[test]
    fn e03_a_viewer_of_a_waiting_broadcast_is_told_when_to_come_back() {
        let problem = Problem::not_live(2);
        assert_eq!((problem.status, problem.headers), (409, vec![("Retry-After", "2".to_owned())]));
    }
}
