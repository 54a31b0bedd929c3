//! Bearer tokens (RFC 6750): reading the header, and what to say if it will not do.

use super::Problem;

const CHALLENGE: &str = "WWW-Authenticate";

/// The token of an `Authorization` header; `None` if there is none, or if another scheme is used.
///
/// # Errors
/// A 400 if the token cannot be one.
pub fn token(authorization: Option<&str>) -> Result<Option<&str>, Problem> {
    let Some((scheme, token)) = authorization.and_then(|value| value.trim().split_once(' ')) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    let token = token.trim();
    if token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(token).filter(|token| !token.is_empty()));
    }
    let detail = "The bearer token has spaces or characters that no token has.";
    Err(Problem::new(400, "token-malformed", detail)
        .with_header(CHALLENGE, r#"Bearer error="invalid_request""#))
}

/// A token is needed and there was none.
#[must_use]
pub fn missing() -> Problem {
    let detail = "A token is needed. Set it as the bearer token of the encoder or player.";
    // RFC 6750, section 3.1: no error code where nothing was tried.
    Problem::new(401, "token-missing", detail).with_header(CHALLENGE, "Bearer")
}

/// The token is not one of ours, has expired, or is for something else.
#[must_use]
pub fn rejected() -> Problem {
    let detail = "The token is not valid here: it is wrong, has expired, or belongs to another broadcast.";
    Problem::new(401, "token-rejected", detail).with_header(CHALLENGE, r#"Bearer error="invalid_token""#)
}

/// The token has expired, or is not valid yet.
#[must_use]
pub fn expired() -> Problem {
    let detail = "The token has expired, or is not valid yet. Get a new one.";
    let challenge = r#"Bearer error="invalid_token", error_description="expired""#;
    Problem::new(401, "token-expired", detail).with_header(CHALLENGE, challenge)
}

/// Whoever asks is known, but may not do this.
#[must_use]
pub fn insufficient() -> Problem {
    let detail = "The token does not let you do this with this broadcast.";
    Problem::new(403, "insufficient", detail).with_header(CHALLENGE, r#"Bearer error="insufficient_scope""#)
}

/// The ticket in the URL opens nothing.
#[must_use]
pub fn ticket_rejected() -> Problem {
    let detail =
        "This address was for one use, within a short time. Start again from the one you were given.";
    Problem::new(401, "ticket-rejected", detail).with_header(CHALLENGE, "Bearer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn w38_a_token_is_read_whatever_the_case_of_its_scheme() {
        assert_eq!(token(Some("Bearer abc.DEF-_~+/=")), Ok(Some("abc.DEF-_~+/=")));
        assert_eq!(token(Some("bearer  abc ")), Ok(Some("abc")));
        for none in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic dTpw")] {
            assert_eq!(token(none), Ok(None), "{none:?}");
        }
        assert_eq!(token(Some("Bearer a b")).expect_err("two words").status, 400);
    }

    #[test]
    fn w38_every_refusal_challenges_with_bearer() {
        for (problem, status) in [
            (missing(), 401),
            (rejected(), 401),
            (expired(), 401),
            (ticket_rejected(), 401),
            (insufficient(), 403),
        ] {
            assert_eq!(problem.status, status);
            let (name, value) = &problem.headers[0];
            assert!(*name == "WWW-Authenticate" && value.starts_with("Bearer"), "{problem:?}");
        }
        assert_eq!(missing().headers[0].1, "Bearer");
    }

    proptest! {
        #[test]
        fn a_token_never_has_spaces_or_controls(header in ".{0,60}") {
            if let Ok(Some(token)) = token(Some(&header)) {
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
