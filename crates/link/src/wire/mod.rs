//! The bytes between nodes.
//!
//! - [`media`]: one tree packet in one datagram, sealed under the group key.
//! - [`message`]: what parent and child tell each other over the link channel.
//! - [`frame`]: messages in the byte stream of that channel.
//!
//! Both layers carry a [`Version`]. Rule: another *major* version is refused with a typed error; another *minor*
//! version adds flag bits, fields and messages that an older node ignores. Bytes of every message and of sealed
//! packets are fixed by the files in `tests/golden`.

mod broadcast;
mod encoding;
mod fields;
pub mod frame;
mod key;
mod keyring;
pub mod media;
pub mod message;

use std::fmt;

pub use fields::DecodeError;
pub use key::{GroupKey, KEY_BYTES, SALT_BYTES};
pub use keyring::Keyring;

/// Version of the wire format, of media and of messages alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// Nodes with another one do not understand each other.
    pub major: u8,
    /// Grows with additions that others may ignore.
    pub minor: u8,
}

impl Version {
    /// What this program speaks.
    pub const CURRENT: Self = Self { major: 1, minor: 0 };

    /// Whether this program understands a peer that speaks `self`.
    #[must_use]
    pub const fn is_understood(self) -> bool {
        self.major == Self::CURRENT.major
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
