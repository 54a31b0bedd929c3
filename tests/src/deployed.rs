//! `deploy/` as an operator has it who has run `setup.sh`, and its files read.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::docker::run;

/// What reads YAML.
pub const PARTS: [&str; 2] = [PYTHON, "/usr/share/doc/python3-yaml"];
const PYTHON: &str = "/usr/bin/python3";

/// A copy with secrets of its own. Ends with its value.
#[derive(Debug)]
pub struct Deployed {
    folder: tempfile::TempDir,
}

impl Deployed {
    /// Copies it. `setup` has not run yet.
    ///
    /// # Errors
    /// If there is no room for it.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        run(Command::new("cp").arg("-r").arg(shipped).arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// Runs `setup.sh`: what is there already is left alone.
    ///
    /// # Errors
    /// If it fails.
    pub fn setup(&self) -> anyhow::Result<()> {
        run(Command::new("sh").arg(self.path("setup.sh"))).map(|_| ())
    }

    /// A file or folder, as Compose would find it: relative to the Compose file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("deploy/compose").join(name)
    }

    /// The text of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn text(&self, name: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| format!("read {name}"))
    }

    /// A YAML file, with all that it refers to put in place.
    ///
    /// # Errors
    /// If it cannot be read, or is none.
    pub fn yaml(&self, name: &str) -> anyhow::Result<Value> {
        yaml(&self.text(name)?).with_context(|| name.to_owned())
    }
}

/// What a YAML document says, anchors and merges resolved.
///
/// # Errors
/// If it is none, or Python is not there.
pub fn yaml(text: &str) -> anyhow::Result<Value> {
    const READ: &str = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let mut child = Command::new(PYTHON)
        .args(["-c", READ])
        .env("PYTHONIOENCODING", "utf-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start Python")?;
    child.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "no YAML:\n{text}");
    Ok(serde_json::from_slice(&output.stdout)?)
}
