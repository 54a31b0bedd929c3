//! What a node remembers of a token that it has let in: enough to know it again, not enough to use it.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};

/// Bytes of a [`Credential`].
pub const BYTES: usize = 16;

/// A token, made unrecognisable. Two of one [`CredentialKey`] are equal if the tokens are.
#[derive(Clone, Copy)]
pub struct Credential([u8; BYTES]);

impl Credential {
    pub(crate) const fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl PartialEq for Credential {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Credential {}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(***)")
    }
}

/// The secret without which nobody can try tokens against a [`Credential`].
#[derive(Clone)]
pub struct CredentialKey(hmac::Key);

impl CredentialKey {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// What is remembered of `token`.
    #[must_use]
    pub fn credential(&self, token: &str) -> Credential {
        let tag = hmac::sign(&self.0, token.as_bytes());
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(&tag.as_ref()[..BYTES]);
        Credential(bytes)
    }
}

impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialKey(***)")
    }
}
