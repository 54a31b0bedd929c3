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
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    command(Command::new(cargo).args(arguments))
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
