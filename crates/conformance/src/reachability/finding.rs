//! What the self-test says: findings in plain words, and what to do about them.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use crate::side::Protocol;

/// How a finding is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Some clients are left out, or will be soon.
    Warning,
    /// It does not work.
    Bad,
    /// It could not be tried.
    Skipped,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Bad => "BAD",
            Self::Skipped => "skipped",
        }
    }
}

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The name and its addresses.
    Name,
    /// The TCP port of HTTP.
    Http,
    /// HTTPS.
    Certificate,
    /// What pages of other origins may do.
    Browsers,
    /// The answer to an offer.
    Session,
    /// The addresses in the answer.
    Addresses,
    /// Media over UDP.
    Udp,
    /// Media over TCP.
    Tcp,
    /// STUN and TURN servers that the server tells of.
    Turn,
    /// A whole connection: ICE and DTLS.
    Connection,
    /// Picture and sound.
    Media,
}

impl Check {
    const fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Http => "HTTP",
            Self::Certificate => "certificate",
            Self::Browsers => "browsers",
            Self::Session => "session",
            Self::Addresses => "addresses",
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Turn => "TURN",
            Self::Connection => "connection",
            Self::Media => "media",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// For viewers (WHEP) or publishers (WHIP); none where it is the same for both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Protocol>,
    /// How to take it.
    pub state: State,
    /// What was seen.
    pub said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn new(check: Check, state: State, said: impl Into<String>) -> Self {
        Self { check, side: None, state, said: said.into(), advice: None }
    }

    pub(super) fn good(check: Check, said: impl Into<String>) -> Self {
        Self::new(check, State::Good, said)
    }

    pub(super) fn note(check: Check, said: impl Into<String>) -> Self {
        Self::new(check, State::Note, said)
    }

    pub(super) fn warning(check: Check, said: impl Into<String>) -> Self {
        Self::new(check, State::Warning, said)
    }

    pub(super) fn bad(check: Check, said: impl Into<String>) -> Self {
        Self::new(check, State::Bad, said)
    }

    pub(super) fn skipped(check: Check, said: impl Into<String>) -> Self {
        Self::new(check, State::Skipped, said)
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// All of them.
#[derive(Debug, Clone, Serialize)]
pub struct Reachability {
    /// Who was asked.
    pub url: String,
    /// The address of this machine that faces it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Whether nothing is bad.
    pub is_good: bool,
    /// In the order in which they were made.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Reachability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.map(|from| format!(", seen from {from}")).unwrap_or_default();
        writeln!(formatter, "{}{from}\n", self.url)?;
        for finding in &self.findings {
            let who = match finding.side {
                Some(Protocol::Whep) => "viewers, ",
                Some(Protocol::Whip) => "publishers, ",
                None => "",
            };
            let what = format!("{who}{}", finding.check.word());
            writeln!(formatter, "{:<8} {what:<22} {}", finding.state.word(), finding.said)?;
            if let Some(advice) = &finding.advice {
                writeln!(formatter, "{:<8} {:<22} > {advice}", "", "")?;
            }
        }
        let count = |state| self.findings.iter().filter(|finding| finding.state == state).count();
        match (count(State::Bad), count(State::Warning)) {
            (0, 0) if self.is_good => writeln!(formatter, "\nall is well"),
            (0, _) if !self.is_good => writeln!(formatter, "\nno connection could be tried"),
            (0, 1) => writeln!(formatter, "\nit works, with one warning"),
            (0, warnings) => writeln!(formatter, "\nit works, with {warnings} warnings"),
            (1, _) => writeln!(formatter, "\none thing does not work"),
            (bad, _) => writeln!(formatter, "\n{bad} things do not work"),
        }
    }
}
