//! The keys that JWTs are verified with: a shared secret, or the public keys of a JWK set (RFC 7517).

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// The longest JWK set that is read, in bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Usable keys of a set beyond which it is refused: a token that names no key is tried with all of them.
const KEYS_MAX: usize = 32;

/// Why a text gives no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// Not JSON, or not an object with `keys`.
    #[error("this is no JWK set: {0}")]
    Format(String),
    /// Longer than [`JWKS_BYTES_MAX`].
    #[error("the JWK set has more than {JWKS_BYTES_MAX} bytes")]
    TooLong,
    /// None of the keys can verify tokens.
    #[error("the JWK set has no key for RS256, ES256 or EdDSA")]
    NoneUsable,
    /// Too many that can.
    #[error("the JWK set has more than {KEYS_MAX} usable keys")]
    TooMany,
}

/// Keys of one origin.
#[derive(Clone, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
pub(crate) struct Key {
    id: Option<String>,
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

impl Keys {
    /// One shared secret, for HS256. `None` if it is empty.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Option<Self> {
        let key = DecodingKey::from_secret(secret).ok()?;
        Some(Self(vec![Key { id: None, algorithm: Algorithm::HS256, key }]))
    }

    /// Reads a JWK set. Keys of other kinds and for other uses are left out, as RFC 7517, section 5, asks for; shared
    /// secrets too, since such a set is public.
    ///
    /// # Errors
    /// [`KeysError`] if nothing is left.
    pub fn of_jwks(text: &[u8]) -> Result<Self, KeysError> {
        if text.len() > JWKS_BYTES_MAX {
            return Err(KeysError::TooLong);
        }
        let set: Set = serde_json::from_slice(text).map_err(|error| KeysError::Format(error.to_string()))?;
        let keys: Vec<Key> = set.keys.into_iter().filter_map(Key::read).collect();
        match keys.len() {
            0 => Err(KeysError::NoneUsable),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(KeysError::TooMany),
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that may have signed a token with this header.
    pub(crate) fn candidates(&self, algorithm: Algorithm, id: Option<&str>) -> impl Iterator<Item = &Key> {
        let is_named = move |key: &&Key| key.id.is_none() || id.is_none() || key.id.as_deref() == id;
        self.0.iter().filter(move |key| key.algorithm == algorithm).filter(is_named)
    }
}

/// How many, never which: a secret may be among them.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(curve) if curve.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            _ => return None,
        };
        let common = &jwk.common;
        let is_for_signatures = match &common.public_key_use {
            Some(purpose) => *purpose == PublicKeyUse::Signature,
            None => common.key_operations.as_ref().is_none_or(|them| them.contains(&KeyOperations::Verify)),
        };
        let is_for_algorithm = common.key_algorithm.is_none_or(|named| named == algorithm.into());
        if !is_for_signatures || !is_for_algorithm {
            return None;
        }
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self { id: jwk.common.key_id, algorithm, key })
    }
}
