//! Names of WHIP/WHEP session resources, and single-use tickets: both unguessable.

use std::fmt;
use std::str::FromStr;

/// The last part of a session URL: a random UUID (RFC 9562, version 4), 122 random bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// A text is no session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session id: a UUID in lower case is expected")]
pub struct SessionIdError;

impl SessionId {
    /// From 16 bytes of a cryptographically secure generator.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// Whoever knows a session's URL may end it, so a log shows only the beginning.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({}...)", &self.to_string()[..8])
    }
}

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let digits: String = text.chars().filter(|character| *character != '-').collect();
        let value = u128::from_str_radix(&digits, 16).map_err(|_| SessionIdError)?;
        let id = Self(value.to_be_bytes());
        // One id, one spelling: what is not written as we write it is not ours.
        if id.to_string() == text { Ok(id) } else { Err(SessionIdError) }
    }
}

/// A secret that is used once, for clients that can only carry it in a URL: 128 random bits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(String);

impl Ticket {
    /// From 16 bytes of a cryptographically secure generator.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)))
    }

    /// The text: 32 hexadecimal digits. Never log it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn w44_a_session_id_is_a_random_uuid(bytes: [u8; 16], other: [u8; 16]) {
            let id = SessionId::from_random(bytes);
            let text = id.to_string();
            prop_assert_eq!(text.len(), 36);
            prop_assert_eq!(&text[14..15], "4");
            prop_assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"));
            prop_assert_eq!(text.parse(), Ok(id));
            prop_assert_eq!(SessionId::from_random(other) == id, SessionId::from_random(other).to_string() == text);
        }

        #[test]
        fn no_text_panics_and_only_our_spelling_is_an_id(text in "[0-9a-fA-F+-]{0,40}|.{0,40}") {
            if let Ok(id) = text.parse::<SessionId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn neither_a_ticket_nor_a_session_id_is_shown_whole_in_a_log() {
        let ticket = Ticket::from_random([0xab; 16]);
        assert_eq!(ticket.reveal(), "ab".repeat(16));
        assert!(!format!("{ticket:?}").contains("ab"));
        assert_eq!(format!("{:?}", SessionId::from_random([0xab; 16])), "SessionId(abababab...)");
    }
}
