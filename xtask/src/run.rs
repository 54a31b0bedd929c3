//! Running other programs from the repository's root.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root").to_path_buf()
}

/// Runs cargo with `arguments`, output shown as it comes.
///
/// # Errors
/// If cargo cannot be started or reports a failure.
pub fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    command(cargo_command().args(arguments))
}

/// The cargo that runs us. In CI nobody builds twice, so nothing is kept for a second build: that costs a tenth of the first.
#[must_use]
pub fn cargo_command() -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    if is_ci() {
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// A machine that runs this once.
#[must_use]
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Runs `command` in the repository's root, output shown as it comes.
///
/// # Errors
/// If it cannot be started or reports a failure.
pub fn command(command: &mut Command) -> anyhow::Result<()> {
    let shown = format!("{command:?}");
    let status = command.current_dir(root()).status().with_context(|| format!("start {shown}"))?;
    ensure!(status.success(), "{shown} failed: {status}");
    Ok(())
}
