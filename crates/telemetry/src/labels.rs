//! The closed sets of label values.

use model::BroadcastId;
use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// A label whose values are all known.
pub trait Closed: Copy + 'static {
    /// The label.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];
    /// The word of the value.
    fn as_str(self) -> &'static str;
}

/// One label with one of its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Label<T>(pub T);

impl<T: Closed> EncodeLabelSet for Label<T> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        write_label(encoder, T::NAME, self.0.as_str())
    }
}

/// A counter for each value, all of which exist at once.
pub fn counters<T: Closed + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync>()
-> Family<Label<T>, Counter> {
    let family = Family::default();
    for value in T::ALL {
        let _: &Counter = &family.get_or_create(&Label(*value));
    }
    family
}

/// The broadcast that a series belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OfBroadcast(pub BroadcastId);

impl EncodeLabelSet for OfBroadcast {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        write_label(encoder, "broadcast", self.0.as_str())
    }
}

pub fn write_label(
    encoder: &mut LabelSetEncoder<'_>,
    name: &str,
    value: &str,
) -> Result<(), std::fmt::Error> {
    (name, value).encode(encoder.encode_label())
}

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident, $label:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl Closed for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

pub(crate) use closed;

closed! {
    /// How a POST to WHIP or WHEP ended; each ends in exactly one way.
    JoinResult, "result" {
        /// ICE and DTLS are done, media flows.
        Connected = "connected",
        /// The request was no valid offer, or came without permission.
        Refused = "refused",
        /// This node takes no more.
        Full = "full",
        /// All shards of this node were too busy.
        Overloaded = "overloaded",
        /// Answered, but ICE or DTLS failed or was never finished.
        NotConnected = "not_connected",
        /// The client deleted its session before it was connected.
        Deleted = "deleted",
    }
}

closed! {
    /// What became of a cue: a caption or other timed data of a publisher.
    CueResult, "result" {
        /// It goes to those who watch.
        Accepted = "accepted",
        /// It is longer than a cue may be.
        TooLarge = "too_large",
        /// It is not the JSON that it should be.
        Unreadable = "unreadable",
        /// There were too many, or too much of them.
        Rate = "rate",
        /// Whoever sent it does not publish the broadcast now.
        NotPublished = "not_published",
    }
}

closed! {
    /// How it went on with a publisher that found no place at once.
    WaitResult, "result" {
        /// There was a place in time.
        Served = "served",
        /// There was none.
        InVain = "in_vain",
        /// It hung up, or was refused for something else.
        Gone = "gone",
        /// So many waited already that it was told at once.
        TooMany = "too_many",
    }
}

closed! {
    /// Why a handshake failed.
    HandshakeFailure, "reason" {
        /// No connectivity check came: the peer cannot reach this node, or has given up.
        NoCheck = "no_check",
        /// Checks came, but the peer answered none of ours: its address is not proved.
        NoAnswer = "no_answer",
        /// Checks came, but DTLS did not finish in time.
        DtlsTimedOut = "dtls_timed_out",
        /// The certificate is not the one of the offer.
        FingerprintMismatch = "fingerprint_mismatch",
        /// The certificate cannot be used here: RSA, mostly.
        UnsupportedCertificate = "unsupported_certificate",
        /// No SRTP profile in common.
        NoSrtpProfile = "no_srtp_profile",
        /// The peer ended the handshake with an alert.
        PeerAlert = "peer_alert",
        /// The peer broke the protocol.
        Protocol = "protocol",
    }
}

closed! {
    /// What the runtime dropped because a queue was full or because it was nobody's.
    NodeDrop, "reason" {
        /// A tree packet found the queue to a shard full.
        MediaQueueFull = "media_queue_full",
        /// A datagram or command found the queue to a handshake worker full.
        HandshakeQueueFull = "handshake_queue_full",
        /// A datagram of a link channel found the queue to QUIC full.
        LinkQueueFull = "link_queue_full",
        /// A peer wanted to shake hands for a link channel while as many as may do so did, in all or of its address.
        LinkHandshakesFull = "link_handshakes_full",
        /// A message found the queue of the link channel to its peer full, or a caption found half of it taken.
        ChannelQueueFull = "channel_queue_full",
        /// A datagram found no room in the kernel's send buffer.
        SendBufferFull = "send_buffer_full",
        /// The kernel refused to send a datagram: no route, a firewall, a lost address.
        SendRefused = "send_refused",
        /// A datagram came from somebody who has no session.
        Stranger = "stranger",
    }
}

closed! {
    /// Why the public HTTP listener refused or ended a connection.
    ConnectionDrop, "reason" {
        /// There were as many as there may be.
        Full = "full",
        /// There were as many of this client address as there may be.
        ClientFull = "client_full",
        /// The TLS handshake failed.
        TlsFailed = "tls_failed",
        /// The client took too long to speak TLS, to ask, or to take the answer.
        TooSlow = "too_slow",
    }
}

closed! {
    /// Whether anybody publishes a broadcast.
    BroadcastState, "state" {
        /// Somebody does.
        Live = "live",
        /// Nobody does at the moment.
        Waiting = "waiting",
    }
}

closed! {
    /// What an HTTP request was for.
    Endpoint, "endpoint" {
        /// Publishing.
        Whip = "whip",
        /// Watching.
        Whep = "whep",
        /// `/api`.
        Api = "api",
        /// Pages and what they load.
        Page = "page",
        /// Metrics and health, on the listener for operators.
        Ops = "ops",
    }
}

closed! {
    /// How an HTTP request ended.
    HttpResult, "result" {
        /// 2xx and 304.
        Ok = "ok",
        /// Other 3xx: somebody else answers it.
        Redirect = "redirect",
        /// 401 and 403.
        Unauthorized = "unauthorized",
        /// 404 and 410.
        NotFound = "not_found",
        /// 409 and 412.
        Conflict = "conflict",
        /// 429.
        RateLimited = "rate_limited",
        /// Any other 4xx: the client's mistake.
        BadRequest = "bad_request",
        /// 503: this node takes no more, or is leaving.
        Unavailable = "unavailable",
        /// Any other 5xx: our mistake.
        Error = "error",
    }
}

impl HttpResult {
    /// From a status code.
    #[must_use]
    pub const fn of_status(status: u16) -> Self {
        match status {
            300..=303 | 305..=399 => Self::Redirect,
            401 | 403 => Self::Unauthorized,
            404 | 410 => Self::NotFound,
            409 | 412 => Self::Conflict,
            429 => Self::RateLimited,
            400..=499 => Self::BadRequest,
            503 => Self::Unavailable,
            500.. => Self::Error,
            0..=299 | 304 => Self::Ok,
        }
    }
}

closed! {
    /// Why the record of an earlier process's session was not resumed from.
    RecordRefusal, "reason" {
        /// The peer has given the session up by now.
        Stale = "stale",
        /// It was sealed with another key.
        Foreign = "foreign",
        /// It was torn or changed.
        Damaged = "damaged",
        /// It was written by a program that writes records differently.
        Version = "version",
        /// The node has no longer the socket that the session runs over.
        Moved = "moved",
        /// Another publisher had taken over already.
        Superseded = "superseded",
        /// What it says does not fit together.
        Unusable = "unusable",
        /// Processes that went on with the sessions died one after another.
        GivenUp = "given_up",
    }
}
