//! Where settings come from, and how they are merged.

use std::path::{Path, PathBuf};

use crate::check::{Problem, Problems};
use crate::secret::Secret;
use crate::sections::{Config, Flags};

/// Every variable of the environment that is a setting begins so; the rest is the flag's name in capitals.
const VARIABLE_PREFIX: &str = "MEDIA_TREE_";

/// Everything that may say something about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that `--config` names; without it `MEDIA_TREE_CONFIG` may name one.
    pub file: Option<PathBuf>,
    /// The variables of the environment, of which only those with our prefix matter.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub flags: Flags,
}

impl Sources {
    /// `file` and `flags` with the environment of this process.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Flags) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { file, environment: std::env::vars_os().filter_map(text).collect(), flags }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or says something that no setting understands.
    #[error("{}: {message}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Line, key and reason.
        message: String,
    },
    /// A variable of the environment has a value that its setting does not understand.
    #[error("the environment variable {name}: {message}")]
    Variable {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// Everything can be read, but not all of it makes sense together.
    #[error("{}", Problems(.0))]
    Problems(Vec<Problem>),
}

impl Config {
    /// Merges the sources: defaults < file < environment < flags. Reads the file and the files of secrets.
    ///
    /// # Errors
    /// If a file cannot be read or a value cannot be understood. Whether the values make sense together is asked with
    /// [`Config::check`].
    pub fn resolve(sources: Sources) -> Result<Self, ConfigError> {
        let named = sources.variable("MEDIA_TREE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        let mut config = match sources.file.clone().or(named) {
            Some(path) => Self::parse(&read(&path)?)
                .map_err(|error| ConfigError::File { path, message: error.to_string() })?,
            None => Self::default(),
        };
        config.apply(of_environment(&sources.environment)?);
        config.apply(sources.flags);
        config.read_secrets()?;
        Ok(config)
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// With line, key and reason.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Secrets that stand in files of their own.
    fn read_secrets(&mut self) -> Result<(), ConfigError> {
        let (link, access, webhooks, ice) =
            (&mut self.link, &mut self.access, &mut self.webhooks, &mut self.ice);
        read_secret("link.cluster_key", &mut link.cluster_key, link.cluster_key_file.as_deref())?;
        read_secret("access.jwt_secret", &mut access.jwt_secret, access.jwt_secret_file.as_deref())?;
        read_secret("webhooks.secret", &mut webhooks.secret, webhooks.secret_file.as_deref())?;
        read_secret("ice.turn_secret", &mut ice.turn_secret, ice.turn_secret_file.as_deref())
    }

    /// The documented example file: every setting with its default.
    #[must_use]
    pub fn example() -> String {
        use std::fmt::Write as _;
        let mut text = String::from(
            "# Media-Tree: every setting with its default. Settings that have none are commented out and show what\n\
             # might stand there. A flag or a variable of the environment overrides the file:\n\
             #     [media] port = 50000     --media-port 50000     MEDIA_TREE_MEDIA_PORT=50000\n\
             # Several values in a variable are separated by commas; an empty variable counts as unset.\n",
        );
        for (table, lines, settings) in Self::documented() {
            let _ = writeln!(text, "\n#{}\n[{table}]", lines.join("\n#"));
            for setting in settings {
                let _ = writeln!(text, "\n#{}", setting.lines.join("\n#"));
                let _ = writeln!(text, "# Flag --{}, variable {}", setting.flag, variable_of(setting.flag));
                let (key, example) = (setting.key, setting.example);
                let _ = match setting.default {
                    Some(default) if default == "[]" => {
                        writeln!(text, "# For instance {example}\n{key} = {default}")
                    }
                    Some(default) => writeln!(text, "{key} = {default}"),
                    None => writeln!(text, "#{key} = {example}"),
                };
            }
        }
        text
    }
}

fn read_secret(
    setting: &'static str,
    secret: &mut Option<Secret>,
    file: Option<&Path>,
) -> Result<(), ConfigError> {
    let Some(path) = file else { return Ok(()) };
    if secret.is_some() {
        return Err(ConfigError::Problems(vec![Problem::SecretTwice { setting }]));
    }
    let read = read(path)?.trim().parse();
    let read = read.map_err(|error: crate::SecretError| ConfigError::File {
        path: path.into(),
        message: error.to_string(),
    })?;
    *secret = Some(read);
    Ok(())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })
}

/// `media-port` is `MEDIA_TREE_MEDIA_PORT`.
fn variable_of(flag: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// What the environment sets. Variables of ours that are no setting are left alone: Kubernetes and tools put their own
/// beside them.
fn of_environment(environment: &[(String, String)]) -> Result<Flags, ConfigError> {
    let mut flags = Flags::default();
    for (name, value) in environment {
        let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else { continue };
        if value.is_empty() || is_of_kubernetes_service(name, value) {
            continue;
        }
        let flag = rest.to_lowercase().replace('_', "-");
        if let Some(Err(message)) = flags.set(&flag, value) {
            return Err(ConfigError::Variable { name: name.clone(), message });
        }
    }
    Ok(flags)
}

/// Kubernetes tells every pod of every service: a service `media-tree-link` makes `MEDIA_TREE_LINK_PORT` be
/// `udp://10.0.0.9:51000`, which is no setting of ours.
fn is_of_kubernetes_service(name: &str, value: &str) -> bool {
    name.ends_with("_PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
}
