//! What a line is: its weight, where it comes from, how and when it is tried. [`crate::lines`] has them all.

use std::fmt;

use serde::Serialize;

use crate::checks::{PairCheck, SideCheck};
use crate::side::Protocol;

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// POST, GET, DELETE.
    Sessions,
    /// Offer and answer.
    Negotiation,
    /// Trickling and restarts.
    Patch,
    /// Consent and expiry.
    Life,
    /// CORS, Link headers, error documents.
    Browsers,
    /// Tokens and limits.
    Access,
    /// What WHEP adds.
    Viewers,
    /// Extensions of both.
    Extensions,
    /// Habits of encoders and players.
    Interop,
}

impl fmt::Display for Group {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sessions => "Sessions",
            Self::Negotiation => "Negotiation",
            Self::Patch => "PATCH",
            Self::Life => "Life of a session",
            Self::Browsers => "Browsers and errors",
            Self::Access => "Access and load",
            Self::Viewers => "Viewers",
            Self::Extensions => "Extensions",
            Self::Interop => "Clients in the wild",
        })
    }
}

/// How much weight a line has (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Demanded.
    Must,
    /// Recommended, or needed by clients in the wild.
    Should,
    /// Allowed; if it is done, it has a form.
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::May => "may",
        })
    }
}

/// When a line is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// While nobody publishes.
    Idle,
    /// In between.
    Usual,
    /// It waits for time to pass.
    Slow,
    /// It looks back, or strains the server's patience.
    Last,
}

/// How a line is tried.
#[derive(Clone, Copy)]
pub(crate) enum Check {
    /// On both endpoints.
    Each(SideCheck),
    /// On one of them.
    One(Protocol, SideCheck),
    /// With both at once.
    Pair(PairCheck),
    /// Not at all, and why.
    Unseen(&'static str),
}

impl Check {
    /// What is tried on one endpoint.
    pub(crate) fn of(&self, protocol: Protocol) -> Option<SideCheck> {
        match self {
            Self::Each(check) => Some(*check),
            Self::One(its, check) => (*its == protocol).then_some(*check),
            Self::Pair(_) | Self::Unseen(_) => None,
        }
    }
}

/// One line.
#[derive(Clone, Copy)]
pub struct Line {
    /// Its name: W of both protocols, E of WHEP alone, T of clients in the wild.
    pub id: &'static str,
    /// What it is about.
    pub group: Group,
    /// How much weight it has.
    pub level: Level,
    /// Where it comes from.
    pub source: &'static str,
    /// What a server does that keeps it.
    pub requires: &'static str,
    pub(crate) check: Check,
    pub(crate) stage: Stage,
}
