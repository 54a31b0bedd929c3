//! What lints cannot see: module documentation, arrows between crates, sizes.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::run;

/// A source file longer than this holds more than one idea.
const FILE_LINES_MAX: usize = 600;

/// Crates that never touch a socket, a clock or a task, with the words that would betray it.
const CORES: &[&str] = &[
    "model",
    "octets",
    "srtp",
    "ice-dtls",
    "media-core",
    "egress",
    "link",
    "signaling",
    "ingest",
    "config",
    "access",
    "tree",
    "rtmp",
    "rtp-in",
    "packetize",
    "transcode",
    "doctor",
];
const FORBIDDEN_IN_CORES: &[&str] =
    &["Instant::now()", "SystemTime::now()", "std::net::UdpSocket", "tokio::"];

/// Looks at every source file of the repository.
///
/// # Errors
/// Lists every finding.
pub fn run() -> anyhow::Result<()> {
    let root = run::root();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "xtask"] {
        collect(&root.join(folder), &mut files)?;
    }
    let mut findings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let name = file.strip_prefix(&root).unwrap_or(&file).display().to_string();
        if !text.starts_with("//!") {
            findings.push(format!("{name}: opens without saying what it is for (//!)"));
        }
        let lines = text.lines().count();
        if lines > FILE_LINES_MAX {
            findings.push(format!("{name}: {lines} lines, more than {FILE_LINES_MAX}"));
        }
        let is_core_source = CORES.iter().any(|core| name.starts_with(&format!("crates/{core}/src/")));
        if is_core_source && !name.ends_with("/tests.rs") {
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let found = FORBIDDEN_IN_CORES.iter().filter(|word| code.contains(**word));
            findings.extend(found.map(|word| format!("{name}: a core does not use {word}")));
        }
    }
    for core in CORES {
        let manifest = std::fs::read_to_string(root.join("crates").join(core).join("Cargo.toml"))?;
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        if dependencies.lines().any(|line| line.starts_with("node.") || line.starts_with("tokio.")) {
            findings.push(format!("crates/{core}/Cargo.toml: a core depends neither on node nor on tokio"));
        }
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
