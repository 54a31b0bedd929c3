//! The token for publishing that the program makes where nobody has said who may publish.

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use config::{Config, Token};
use model::{Right, Role};
use records::SealingKey;

use crate::random;

/// The tokens for publishing: those of the configuration. Where there are none and others than this machine can reach the
/// HTTP listener of an injection node, one is made and told: on the terminal, or in a file of the state directory. Where there is a key of
/// session records it is made of that, so that it is the same when the process starts again.
///
/// # Errors
/// If there is no way to tell it.
pub fn for_publishing(role: Role, config: &Config, key: Option<&SealingKey>) -> anyhow::Result<Vec<Token>> {
    let is_local = config.http.listen.ip().to_canonical().is_loopback();
    let (access, webhooks) = (&config.access, &config.webhooks);
    let has_keys = access.jwt_secret.is_some() || access.jwt_jwks.is_some();
    let is_guarded = has_keys && access.jwt_for.contains(&Right::Publish)
        || webhooks.access.is_some() && webhooks.access_for.contains(&Right::Publish);
    // Who only leads publishers on has to know the tokens, and makes none.
    if !role.is_injection() || is_local || is_guarded || !access.publish_tokens.is_empty() {
        return Ok(config.access.publish_tokens.clone());
    }
    let random: [u8; 16] = match key {
        Some(key) => key.secret(b"media-tree publish token 1"),
        None => random::bytes()?,
    };
    let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let token: Token = secret.parse().context("make a token")?;
    if std::io::stdout().is_terminal() {
        let until = if key.is_some() { "" } else { ", made for this run" };
        println!("Key for publishing{until}: {secret}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reachable_node_never_lets_everybody_publish() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("directory");
        let mut config = Config::default();
        assert!(for_publishing(Role::All, &config, None).expect("loopback needs none").is_empty());
        config.http.listen = "0.0.0.0:8080".parse().expect("address");
        config.node.state_dir = Some(directory.path().to_owned());
        let key = SealingKey::generate([7; 32]);
        let secret =
            |key| for_publishing(Role::All, &config, key).expect("one is made")[0].secret.expose().to_owned();
        let made = secret(Some(&key));
        assert_eq!((made.len(), &made), (32, &secret(Some(&key))), "the same after a restart");
        assert!(made != secret(None) && secret(None) != secret(None));
        assert_eq!(secret(Some(&key)), made);
        if !std::io::stdout().is_terminal() {
            let path = directory.path().join("publish-token");
            assert_eq!(std::fs::read_to_string(&path).expect("told").trim(), made);
            assert_eq!(std::fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
            config.node.state_dir = None;
            assert!(for_publishing(Role::All, &config, None).is_err(), "nowhere to tell it");
        }
        config.access.publish_tokens = vec!["given-by-me".parse().expect("token")];
        assert_eq!(for_publishing(Role::All, &config, None).expect("given").len(), 1);
        config.access.publish_tokens = Vec::new();
        config.access.jwt_secret = Some("a-secret-of-thirty-two-characters".parse().expect("secret"));
        assert!(for_publishing(Role::All, &config, None).expect("JSON Web Tokens guard it").is_empty());
        config.access.jwt_for = vec![Right::View];
        assert!(for_publishing(Role::All, &config, None).is_err(), "they guard something else");
    }
}
