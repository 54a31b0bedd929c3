//! Who may publish and who may watch: static tokens, compared in constant time.

use config::Token;
use model::BroadcastId;

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// WHIP.
    Publish,
    /// WHEP.
    View,
}

/// The tokens of this node.
#[derive(Debug, Default)]
pub struct Tokens {
    publish: Vec<Token>,
    view: Vec<Token>,
}

impl Tokens {
    /// From the configuration.
    #[must_use]
    pub const fn new(publish: Vec<Token>, view: Vec<Token>) -> Self {
        Self { publish, view }
    }

    /// Whether `token` opens this `access` to `broadcast`. With no rule for the kind of access, everybody may.
    #[must_use]
    pub fn allow(&self, access: Access, broadcast: &BroadcastId, token: Option<&str>) -> bool {
        let rules = match access {
            Access::Publish => &self.publish,
            Access::View => &self.view,
        };
        if rules.is_empty() {
            return true;
        }
        let Some(token) = token else { return false };
        rules
            .iter()
            .filter(|rule| rule.broadcast.as_ref().is_none_or(|name| name == broadcast))
            .any(|rule| is_equal(rule.secret.expose().as_bytes(), token.as_bytes()))
    }
}

fn is_equal(ours: &[u8], theirs: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(ours, theirs).is_ok()
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
        assert!(tokens.allow(Access::Publish, &demo, Some("s3cret-of-demo")));
        assert!(!tokens.allow(Access::Publish, &other, Some("s3cret-of-demo")));
        assert!(tokens.allow(Access::Publish, &other, Some("master-key")));
        assert!(!tokens.allow(Access::Publish, &demo, None));
        assert!(tokens.allow(Access::View, &other, None));
    }
}
