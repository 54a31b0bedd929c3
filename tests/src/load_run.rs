//! Runs of `media-tree load`, and its results.

use std::fmt;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::process::Command;

use crate::program;

/// What a run said of itself.
#[derive(Debug)]
pub struct Results(Value);

/// Runs the load generator with these arguments to its end.
///
/// # Errors
/// If it cannot be started, fails, or writes no results.
pub async fn load(arguments: &[&str]) -> anyhow::Result<Results> {
    let folder = tempfile::tempdir()?;
    load_into(&folder.path().join("results.json"), arguments).await
}

/// The same, with its results left in a file, whether it fails or not.
///
/// # Errors
/// If it cannot be started, fails, or writes no results.
pub async fn load_into(json: &Path, arguments: &[&str]) -> anyhow::Result<Results> {
    let mut command = Command::new(program::path()?);
    command.arg("load").args(arguments).arg("--json").arg(json).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the load generator failed: {said}");
    Results::read(json)
}

impl Results {
    /// Reads what a run has left.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn read(json: &Path) -> anyhow::Result<Self> {
        Ok(Self(serde_json::from_slice(&std::fs::read(json)?).context("its results are JSON")?))
    }

    /// A whole number, named by its path (RFC 6901).
    ///
    /// # Errors
    /// If there is none.
    pub fn count(&self, path: &str) -> anyhow::Result<u64> {
        self.0.pointer(path).and_then(Value::as_u64).with_context(|| format!("{path} in {:#}", self.0))
    }

    /// Any number, named by its path.
    ///
    /// # Errors
    /// If there is none.
    pub fn number(&self, path: &str) -> anyhow::Result<f64> {
        self.0.pointer(path).and_then(Value::as_f64).with_context(|| format!("{path} in {:#}", self.0))
    }

    /// All of them.
    #[must_use]
    pub const fn all(&self) -> &Value {
        &self.0
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
