//! Credentials for a TURN server that shares a secret with us: good until a time that stands in the user name
//! (draft-uberti-behave-turn-rest-00, which coturn calls `use-auth-secret`).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// What a client shows to the TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// When they end, in seconds since 1970, and whose they are.
    pub username: String,
    /// The password.
    pub credential: String,
}

impl fmt::Debug for TurnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Makes them.
#[derive(Clone)]
pub struct TurnSecret {
    key: hmac::Key,
    lifetime: Duration,
}

impl fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TurnSecret(***)")
    }
}

impl TurnSecret {
    /// Of this secret, for credentials that are good for so long.
    #[must_use]
    pub fn new(secret: &str, lifetime: Duration) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        Self { key, lifetime }
    }

    /// Credentials from `wallclock`, since 1970, on, for a client that is called `name`.
    #[must_use]
    pub fn credentials(&self, wallclock: Duration, name: &str) -> TurnCredentials {
        let username = format!("{}:{name}", (wallclock + self.lifetime).as_secs());
        let credential = BASE64.encode(hmac::sign(&self.key, username.as_bytes()));
        TurnCredentials { username, credential }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_what_a_turn_server_computes() {
        // By `openssl dgst -sha1 -hmac north | base64` of the user name.
        let secret = TurnSecret::new("north", Duration::from_secs(3600));
        let made = secret.credentials(Duration::from_secs(1_433_895_918 - 3600), "viewer");
        assert_eq!(made.username, "1433895918:viewer");
        assert_eq!(made.credential, "kSveLHtHMpq3z2TmTh8v/zqtCoM=");
        assert!(!format!("{made:?} {secret:?}").contains(&made.credential));
    }
}
