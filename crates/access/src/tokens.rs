//! Static tokens: passwords of the configuration, compared in constant time.

use aws_lc_rs::constant_time;
use config::Token;
use model::{BroadcastId, Right};

/// The static tokens of a node.
#[derive(Debug, Default)]
pub struct Tokens {
    publish: Vec<Token>,
    view: Vec<Token>,
}

impl Tokens {
    /// Those that let publish, and those that let view.
    #[must_use]
    pub const fn new(publish: Vec<Token>, view: Vec<Token>) -> Self {
        Self { publish, view }
    }

    /// Whether there is none for this right.
    #[must_use]
    pub const fn is_empty(&self, right: Right) -> bool {
        self.of(right).is_empty()
    }

    /// Whether `token` opens `broadcast` for `right`.
    #[must_use]
    pub fn allow(&self, right: Right, broadcast: &BroadcastId, token: &str) -> bool {
        let is_equal = |ours: &[u8]| constant_time::verify_slices_are_equal(ours, token.as_bytes()).is_ok();
        self.of(right)
            .iter()
            .filter(|rule| rule.broadcast.as_ref().is_none_or(|name| name == broadcast))
            .any(|rule| is_equal(rule.secret.expose().as_bytes()))
    }

    const fn of(&self, right: Right) -> &Vec<Token> {
        match right {
            Right::Publish => &self.publish,
            Right::View => &self.view,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_what_it_was_made_for_and_nothing_else() {
        let tokens = Tokens::new(
            vec!["demo=s3cret-of-demo".parse().expect("token"), "master-key".parse().expect("token")],
            vec![],
        );
        let (demo, other) = (BroadcastId::new("demo").expect("id"), BroadcastId::new("other").expect("id"));
        assert!(tokens.allow(Right::Publish, &demo, "s3cret-of-demo"));
        assert!(!tokens.allow(Right::Publish, &other, "s3cret-of-demo"));
        assert!(tokens.allow(Right::Publish, &other, "master-key"));
        assert!(!tokens.allow(Right::View, &demo, "master-key"));
        assert!(tokens.is_empty(Right::View) && !tokens.is_empty(Right::Publish));
    }
}
