//! What can go wrong with a peer, and why it ended.

use std::io;
use std::time::Duration;

/// Why no session came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL is not one, or has no host.
    #[error("{url} is not an http URL with a host")]
    Url {
        /// What was given.
        url: String,
    },
    /// No HTTP answer.
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The server said no.
    #[error("the server answered {status}: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// `Retry-After`, where it was given in seconds.
        retry_after: Option<Duration>,
        /// Body of the answer.
        detail: String,
    },
    /// Redirected in circles.
    #[error("redirected more than {maximum} times")]
    Redirects {
        /// How many were followed.
        maximum: usize,
    },
    /// 201 without a usable `Location` (RFC 9725, section 4.2).
    #[error("the server names no session URL")]
    Location,
    /// The SDP answer cannot be used.
    #[error("the SDP answer cannot be used: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// The server's own offer cannot be used.
    #[error("the server's offer cannot be used: {reason}")]
    Offer {
        /// What is wrong with it.
        reason: String,
    },
    /// No UDP socket.
    #[error("no UDP socket")]
    Socket(#[source] io::Error),
    /// ICE or DTLS did not come through in time.
    #[error("not connected after {waited:?}")]
    Timeout {
        /// How long it was tried.
        waited: Duration,
    },
    /// The session ended before it was connected.
    #[error("ended while connecting: {0}")]
    Ended(Ending),
}

/// Why a clean end was not one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// No HTTP answer to DELETE.
    #[error("the server cannot be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Anything but 200, which OBS takes for a failure.
    #[error("the server answered {status} to DELETE")]
    Refused {
        /// HTTP status.
        status: u16,
    },
}

/// Why an ICE restart did not come about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// This side cannot begin one now.
    #[error("no restart can begin")]
    Impossible,
    /// The server's side without this one's.
    #[error("no restart has begun")]
    NotBegun,
    /// What the server said cannot be used.
    #[error("the server's ICE cannot be used: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// The new ICE session did not come through in time.
    #[error("not connected again after {waited:?}")]
    Timeout {
        /// How long it was tried.
        waited: Duration,
    },
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ending {
    /// The server closed DTLS (close_notify).
    #[error("the server closed the session")]
    ServerClosed,
    /// The server stopped answering ICE checks (RFC 7675).
    #[error("the server fell silent")]
    ConsentLost,
    /// This side closed it.
    #[error("closed here")]
    ClosedHere,
    /// The local socket or the peer's state broke.
    #[error("the peer failed")]
    Failed,
}
