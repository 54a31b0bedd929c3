//! Values that must never be shown.

use std::fmt;
use std::str::FromStr;

use model::BroadcastId;

/// Why a text cannot be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nothing in it.
    #[error("the secret is empty")]
    Empty,
    /// White space or control characters, which an HTTP header cannot carry.
    #[error("a secret has no spaces and no control characters")]
    Character,
}

/// A secret. `Debug` and `Display` show `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = SecretError;
    fn from_str(text: &str) -> Result<Self, SecretError> {
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(SecretError::Character);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a text is not a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The secret part is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Too short to keep anybody out.
    #[error("a token has at least {TOKEN_LENGTH_MIN} characters")]
    TooShort,
}

/// The shortest token that is taken, in characters.
const TOKEN_LENGTH_MIN: usize = 8;

/// Who may publish or watch: `SECRET` for every broadcast, or `BROADCAST=SECRET` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The only broadcast it opens; `None`: any.
    pub broadcast: Option<BroadcastId>,
    /// What the client sends as `Authorization: Bearer`.
    pub secret: Secret,
}

impl FromStr for Token {
    type Err = TokenError;
    fn from_str(text: &str) -> Result<Self, TokenError> {
        // A secret may itself end in the padding of base64 (RFC 6750, section 2.1), but nowhere else contain `=`.
        let (broadcast, secret) = match text.split_once('=') {
            Some((name, secret)) if !secret.bytes().all(|byte| byte == b'=') => {
                match BroadcastId::new(name) {
                    Ok(broadcast) => (Some(broadcast), secret),
                    Err(_) => (None, text),
                }
            }
            Some(_) | None => (None, text),
        };
        let secret: Secret = secret.parse()?;
        if secret.expose().len() < TOKEN_LENGTH_MIN {
            return Err(TokenError::TooShort);
        }
        Ok(Self { broadcast, secret })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.broadcast {
            Some(broadcast) => write!(f, "{broadcast}={}", self.secret),
            None => self.secret.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let token: Token = "demo=correct-horse".parse().expect("token");
        for shown in [format!("{token}"), format!("{token:?}")] {
            assert!(!shown.contains("horse") && shown.contains("***"), "{shown}");
        }
        assert_eq!(token.secret.expose(), "correct-horse");
    }

    #[test]
    fn a_token_opens_one_broadcast_or_all() {
        let parse = |text: &str| text.parse::<Token>().expect("token");
        assert_eq!(parse("demo=correct-horse").broadcast.expect("one").as_str(), "demo");
        assert_eq!(parse("correct-horse").broadcast, None);
        let padded = parse("c2VjcmV0c2VjcmV0cw==");
        assert_eq!((padded.broadcast, padded.secret.expose()), (None, "c2VjcmV0c2VjcmV0cw=="));
        let padded = parse("demo=c2VjcmV0c2VjcmV0cw==");
        assert_eq!(padded.secret.expose(), "c2VjcmV0c2VjcmV0cw==");
    }

    #[test]
    fn a_token_that_keeps_nobody_out_is_refused() {
        assert_eq!("".parse::<Token>(), Err(TokenError::Secret(SecretError::Empty)));
        assert_eq!("demo=short".parse::<Token>(), Err(TokenError::TooShort));
        assert_eq!("with a space".parse::<Token>(), Err(TokenError::Secret(SecretError::Character)));
    }
}
