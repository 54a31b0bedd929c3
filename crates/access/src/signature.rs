//! Signatures of what a node POSTs to an operator's server, as <https://www.standardwebhooks.com> has them.
//!
//! The receiver computes HMAC-SHA256 over `{webhook-id}.{webhook-timestamp}.{body}` and compares it with what stands
//! behind `v1,` in `webhook-signature`, in base64; it refuses old timestamps and, if it likes, ids that it has seen.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Says in a secret that base64 follows.
const PREFIX: &str = "whsec_";

/// Signs.
#[derive(Clone)]
pub struct Signer(hmac::Key);

/// The headers of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// `webhook-id`: the same at every attempt.
    pub id: String,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
}

impl Signer {
    /// With a secret: `whsec_` and base64, or any text, whose bytes are the key.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let decoded = secret.strip_prefix(PREFIX).and_then(|encoded| STANDARD.decode(encoded).ok());
        let key = decoded.as_deref().unwrap_or(secret.as_bytes());
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The headers of a message that is sent at `wallclock` (since 1970).
    #[must_use]
    pub fn sign(&self, id: &str, wallclock: Duration, body: &str) -> Headers {
        let timestamp = wallclock.as_secs().to_string();
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id, ".", &timestamp, ".", body] {
            context.update(part.as_bytes());
        }
        let signature = format!("v1,{}", STANDARD.encode(context.sign()));
        Headers { id: id.to_owned(), timestamp, signature }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_comes_out() {
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let headers = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            Duration::from_secs(1_614_265_330),
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(headers.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers.timestamp, "1614265330");
    }

    #[test]
    fn a_secret_may_be_any_text_and_is_shown_to_nobody() {
        let plain = Signer::new("plain-secret");
        let encoded = Signer::new(&format!("{PREFIX}{}", STANDARD.encode("plain-secret")));
        let sign = |signer: &Signer| signer.sign("1", Duration::from_secs(7), "{}").signature;
        assert_eq!(sign(&plain), sign(&encoded));
        assert_ne!(sign(&plain), sign(&Signer::new("another-secret")));
        assert_eq!(format!("{plain:?}"), "Signer(***)");
    }
}
