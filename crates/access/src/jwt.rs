//! JSON Web Tokens (RFC 7519): whether one opens a broadcast.
//!
//! | Claim | Meaning |
//! |---|---|
//! | `broadcast` | a name or pattern (`friday-*`, `*`), or a list of them |
//! | `right` | `publish`, `view`, or a list of both |
//! | `exp` | needed: a token without an end is a password, and there are better ways to give one |
//! | `nbf`, `iss`, `aud` | as RFC 7519 has them; issuer and audience matter if they are configured |
//!
//! Which algorithm verifies is decided by the key, never by the token: a public key is never taken for a secret.

use std::time::Duration;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use model::{BroadcastId, Right};
use serde::Deserialize;

use crate::keys::Keys;
use crate::pattern::Pattern;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Patterns of one token that are looked at.
const PATTERNS_MAX: usize = 64;

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No JWT, or one with claims of wrong types.
    #[error("this is no JWT that can be read")]
    Malformed,
    /// Signed with an algorithm that no key here verifies.
    #[error("the algorithm of the token is not accepted here")]
    Algorithm,
    /// None of the keys has the id that the token names.
    #[error("the token is signed with a key that is not known here")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// There is no `exp`.
    #[error("the token has no expiry (exp)")]
    NoExpiry,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// `iss` is another one than configured.
    #[error("the token has another issuer")]
    Issuer,
    /// `aud` does not name us.
    #[error("the token is for another audience")]
    Audience,
    /// It is good, but not for this broadcast or not for this right.
    #[error("the token is not for this")]
    Insufficient,
}

/// What a token is asked to open.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// For what.
    pub right: Right,
    /// Which broadcast.
    pub broadcast: &'a BroadcastId,
    /// When, since 1970.
    pub wallclock: Duration,
}

/// What is demanded of every token.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must be, or list, this.
    pub audience: Option<String>,
    /// How far the clock of the issuer may be off.
    pub leeway: Duration,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    broadcast: Option<OneOrMany>,
    right: Option<OneOrMany>,
}

/// Whether a token might be a JWT: three parts in the alphabet of base64url.
#[must_use]
pub fn looks_like_one(token: &str) -> bool {
    let mut parts = token.split('.');
    let is_part = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let good = parts.by_ref().take(3).filter(|part| !part.is_empty() && is_part(part)).count();
    good == 3 && parts.next().is_none()
}

/// Whether `token`, signed with one of `keys`, opens what is asked for.
///
/// # Errors
/// [`Refusal`] says why not; [`Refusal::UnknownKey`] may change when keys are fetched again.
pub fn verify(rules: &Rules, keys: &[&Keys], token: &str, ask: &Ask<'_>) -> Result<(), Refusal> {
    let claims = verified_claims(keys, token)?;
    rules.check(&claims, ask.wallclock)?;
    let opens_right = listed(&claims.right).iter().any(|right| right == ask.right.as_str());
    let mut patterns =
        listed(&claims.broadcast).iter().take(PATTERNS_MAX).filter_map(|text| Pattern::new(text));
    let opens_broadcast = patterns.any(|pattern| pattern.covers(ask.broadcast));
    if opens_right && opens_broadcast { Ok(()) } else { Err(Refusal::Insufficient) }
}

fn verified_claims(keys: &[&Keys], token: &str) -> Result<Claims, Refusal> {
    if token.len() > TOKEN_BYTES_MAX || !looks_like_one(token) {
        return Err(Refusal::Malformed);
    }
    let header = decode_header(token).map_err(|_| Refusal::Malformed)?;
    if !matches!(header.alg, Algorithm::HS256 | Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA) {
        return Err(Refusal::Algorithm);
    }
    let mut refusal = Refusal::UnknownKey;
    for key in keys.iter().flat_map(|keys| keys.candidates(header.alg, header.kid.as_deref())) {
        let mut validation = Validation::new(key.algorithm);
        // Time is a parameter here, and the rest needs our own words.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        match decode::<Claims>(token, &key.key, &validation) {
            Ok(decoded) => return Ok(decoded.claims),
            Err(error) => refusal = refusal_of(&error),
        }
        if refusal == Refusal::Malformed {
            break;
        }
    }
    Err(refusal)
}

fn refusal_of(error: &jsonwebtoken::errors::Error) -> Refusal {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::InvalidToken => Refusal::Malformed,
        _ => Refusal::Signature,
    }
}

fn listed(claim: &Option<OneOrMany>) -> &[String] {
    claim.as_ref().map_or(&[], OneOrMany::as_slice)
}

impl Rules {
    fn check(&self, claims: &Claims, wallclock: Duration) -> Result<(), Refusal> {
        let (now, leeway) = (wallclock.as_secs_f64(), self.leeway.as_secs_f64());
        let expires = claims.exp.ok_or(Refusal::NoExpiry)?;
        if expires + leeway <= now {
            return Err(Refusal::Expired);
        }
        if claims.nbf.is_some_and(|begins| begins - leeway > now) {
            return Err(Refusal::NotYet);
        }
        if self.issuer.is_some() && self.issuer != claims.iss {
            return Err(Refusal::Issuer);
        }
        match &self.audience {
            Some(ours) if !listed(&claims.aud).contains(ours) => Err(Refusal::Audience),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
