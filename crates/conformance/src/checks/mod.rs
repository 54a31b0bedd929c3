//! How each line is tried. A check makes what it needs, looks, and says what it saw; the runner deletes sessions.

pub(crate) mod access;
pub(crate) mod browsers;
pub(crate) mod events;
pub(crate) mod interop;
pub(crate) mod layers;
pub(crate) mod life;
pub(crate) mod media;
pub(crate) mod negotiation;
pub(crate) mod patch;
pub(crate) mod restart;
pub(crate) mod sessions;
pub(crate) mod watching;

use std::error::Error as _;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::side::Side;

/// Why a line was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What was seen that must not be.
    Failed(String),
    /// Why nothing could be seen.
    Skipped(String),
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        let mut text = format!("no answer: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            text += &format!(": {cause}");
            source = cause.source();
        }
        Self::Failed(text)
    }
}

/// What was seen of a line that was kept.
pub(crate) type Verdict = Result<String, Trouble>;

/// Tries a line on one endpoint.
pub(crate) type SideCheck = for<'a> fn(&'a Side) -> BoxFuture<'a, Verdict>;

/// Tries a line that needs both endpoints.
pub(crate) type PairCheck = for<'a> fn(&'a Pair) -> BoxFuture<'a, Verdict>;

/// The endpoints of one broadcast.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) whip: Option<Arc<Side>>,
    pub(crate) whep: Option<Arc<Side>>,
}

impl Pair {
    pub(crate) fn whip(&self) -> Result<&Arc<Side>, Trouble> {
        self.whip.as_ref().ok_or_else(|| Trouble::Skipped("there is no WHIP endpoint to publish to".into()))
    }

    pub(crate) fn whep(&self) -> Result<&Arc<Side>, Trouble> {
        self.whep.as_ref().ok_or_else(|| Trouble::Skipped("there is no WHEP endpoint".into()))
    }
}

/// Fails the check with what was seen unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($seen:tt)+) => {{
        let holds: bool = $condition;
        if !holds {
            return Err($crate::checks::Trouble::Failed(format!($($seen)+)));
        }
    }};
}

/// Gives the check up with the reason unless a condition holds.
macro_rules! applies_if {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::checks::Trouble::Skipped(format!($($why)+)));
        }
    };
}

pub(crate) use {applies_if, ensure};
