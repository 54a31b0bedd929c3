//! What a node does in the tree.

use std::fmt;
use std::str::FromStr;

/// The role of a node, and the value of the `node_type` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Receives broadcasts and gives every RTP stream its tree-wide identity.
    Injection,
    /// Receives from parents, forwards to children.
    Relay,
    /// Serves viewers.
    Egress,
    /// All of them in one process.
    All,
    /// Decides who takes media from whom; carries none itself.
    Controller,
}

/// Why a text is not a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role is one of injection, relay, egress, all, controller")]
pub struct RoleError;

impl Role {
    /// The word used in configuration, labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Injection => "injection",
            Self::Relay => "relay",
            Self::Egress => "egress",
            Self::All => "all",
            Self::Controller => "controller",
        }
    }

    /// Every role.
    pub const EVERY: [Self; 5] = [Self::Injection, Self::Relay, Self::Egress, Self::All, Self::Controller];

    /// Takes publishers.
    #[must_use]
    pub const fn is_injection(self) -> bool {
        matches!(self, Self::Injection | Self::All)
    }

    /// Serves viewers.
    #[must_use]
    pub const fn is_egress(self) -> bool {
        matches!(self, Self::Egress | Self::All)
    }
}

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::EVERY.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
