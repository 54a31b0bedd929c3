//! ICE user fragment and password (RFC 8445, section 5.3).

use std::fmt;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const UFRAG_LEN: usize = 8;
const RANDOM_LEN: usize = 32;

/// Why texts are not ICE credentials (RFC 8839, section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The user fragment is too short, too long or has a character outside the grammar.
    #[error("an ICE user fragment has 4 to 256 characters a-z, A-Z, 0-9, '+' or '/'")]
    Ufrag,
    /// The password is too short, too long or has a character outside the grammar.
    #[error("an ICE password has 22 to 256 characters a-z, A-Z, 0-9, '+' or '/'")]
    Pwd,
}

/// What a peer's connectivity checks are addressed to and authenticated with. The password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    ufrag: String,
    pwd: String,
}

impl IceCredentials {
    /// Makes credentials from random bytes: 48 bits go into the user fragment, 144 into the password.
    #[must_use]
    pub fn from_random(random: &[u8; RANDOM_LEN]) -> Self {
        let text =
            |bytes: &[u8]| bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
        let (ufrag, pwd) = random.split_at(UFRAG_LEN);
        Self { ufrag: text(ufrag), pwd: text(pwd) }
    }

    /// Takes credentials that were made before, for instance from a session record.
    ///
    /// # Errors
    /// [`CredentialsError`] names the half that breaks the grammar.
    pub fn new(ufrag: &str, pwd: &str) -> Result<Self, CredentialsError> {
        let is_text = |text: &str| text.bytes().all(|byte| ALPHABET.contains(&byte));
        if !(4..=256).contains(&ufrag.len()) || !is_text(ufrag) {
            return Err(CredentialsError::Ufrag);
        }
        if !(22..=256).contains(&pwd.len()) || !is_text(pwd) {
            return Err(CredentialsError::Pwd);
        }
        Ok(Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
    }

    /// `a=ice-ufrag`: not secret, unique on this node.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// `a=ice-pwd`: secret.
    #[must_use]
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The peer's own, as its description told them: what our checks are addressed to and authenticated with. Of any
/// characters, since some encoders use more than the grammar has. The password is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PeerCredentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`: secret.
    pub pwd: String,
}

impl fmt::Debug for PeerCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_bytes_make_credentials_within_the_grammar(random: [u8; 32]) {
            let made = IceCredentials::from_random(&random);
            prop_assert_eq!((made.ufrag().len(), made.pwd().len()), (8, 24));
            prop_assert_eq!(IceCredentials::new(made.ufrag(), made.pwd()), Ok(made));
        }
    }

    #[test]
    fn credentials_outside_the_grammar_are_refused() {
        let pwd = "x".repeat(22);
        assert_eq!(IceCredentials::new("abc", &pwd), Err(CredentialsError::Ufrag));
        assert_eq!(IceCredentials::new("ab:c", &pwd), Err(CredentialsError::Ufrag));
        assert_eq!(IceCredentials::new("abcd", &pwd[1..]), Err(CredentialsError::Pwd));
    }

    #[test]
    fn the_password_is_not_printed() {
        let printed = format!("{:?}", IceCredentials::new("abcd", "secretsecretsecretsecret"));
        assert!(printed.contains("abcd") && !printed.contains("secret"), "{printed}");
        let printed = format!("{:?}", PeerCredentials { ufrag: "abcd".to_owned(), pwd: "secret".to_owned() });
        assert!(printed.contains("abcd") && !printed.contains("secret"), "{printed}");
    }
}
