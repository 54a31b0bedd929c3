//! Who may publish and who may watch: static tokens, compared in constant time.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use config::{Config, Token};
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

/// The tokens for publishing: those of the configuration. Where there are none and others than this machine can reach the
/// HTTP listener, one is made and told: on the terminal, or in a file of the state directory.
///
/// # Errors
/// If there is no way to tell it.
pub fn for_publishing(config: &Config, random: [u8; 16]) -> anyhow::Result<Vec<Token>> {
    let is_local = config.http.listen.ip().to_canonical().is_loopback();
    if is_local || !config.access.publish_tokens.is_empty() {
        return Ok(config.access.publish_tokens.clone());
    }
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token: Token = secret.parse().context("make a token")?;
    if std::io::stdout().is_terminal() {
        println!("Key for publishing, made for this run: {secret}");
    } else {
        let directory = config.node.state_dir.as_deref().context(
            "others can reach the HTTP listener, and nobody has said who may publish: set access.publish_tokens \
             (--publish-tokens), or node.state_dir (--state-dir) for a file with a token made by the program",
        )?;
        write_private(&directory.join("publish-token"), &secret)?;
    }
    Ok(vec![token])
}

fn write_private(path: &Path, secret: &str) -> anyhow::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("write {}", path.display()))?;
    writeln!(file, "{secret}").with_context(|| format!("write {}", path.display()))?;
    tracing::info!(path = %path.display(), "made a token for publishing");
    Ok(())
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

    #[test]
    fn a_reachable_node_never_lets_everybody_publish() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("directory");
        let mut config = Config::default();
        assert!(for_publishing(&config, [7; 16]).expect("loopback needs none").is_empty());
        config.http.listen = "0.0.0.0:8080".parse().expect("address");
        config.node.state_dir = Some(directory.path().to_owned());
        let tokens = for_publishing(&config, [7; 16]).expect("one is made");
        assert_eq!(tokens[0].secret.expose(), "07".repeat(16));
        if !std::io::stdout().is_terminal() {
            let path = directory.path().join("publish-token");
            assert_eq!(std::fs::read_to_string(&path).expect("told").trim(), "07".repeat(16));
            assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
            config.node.state_dir = None;
            assert!(for_publishing(&config, [7; 16]).is_err(), "nowhere to tell it");
        }
        config.access.publish_tokens = vec!["given-by-me".parse().expect("token")];
        assert_eq!(for_publishing(&config, [7; 16]).expect("given").len(), 1);
    }
}
