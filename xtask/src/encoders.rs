//! Foreign encoders that Debian 12 does not have: libdatachannel, which is the WebRTC of OBS, ffmpeg 8 with its WHIP muxer, and
//! OBS 30. They come from npm, PyPI and Debian 13 and go below `target/encoders`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// One of them.
pub struct Library {
    /// What is there, below the folder, once it is installed.
    file: &'static str,
    /// Name and version in its registry, as its installer wants them.
    package: &'static str,
    registry: Registry,
}

enum Registry {
    Npm,
    PyPi,
}

/// What the tests use; pinned, because they stand for what broadcasters have.
pub const ALL: [Library; 2] = [
    Library {
        file: "node_modules/node-datachannel",
        package: "node-datachannel@0.33.4",
        registry: Registry::Npm,
    },
    Library { file: "python/bin/pyav", package: "av==18.1.0", registry: Registry::PyPi },
];

fn folder() -> PathBuf {
    run::root().join("target/encoders")
}

/// Libraries that are not on this machine.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let is_missing = |library: &&Library| !folder().join(library.file).exists();
    ALL.iter().filter(is_missing).map(|library| library.package).collect()
}

/// Installs what is missing.
///
/// # Errors
/// If npm or Python is not there, or a registry does not answer.
pub fn install() -> anyhow::Result<()> {
    let folder = folder();
    std::fs::create_dir_all(&folder)?;
    for library in ALL.iter().filter(|library| !folder.join(library.file).exists()) {
        println!("installing: {}", library.package);
        match library.registry {
            Registry::Npm => npm(&folder, library.package)?,
            Registry::PyPi => pypi(&folder.join("python"), library.package)?,
        }
    }
    Ok(())
}

/// Makes OBS Studio with WHIP, if it is not there. As root.
///
/// # Errors
/// If its script fails, which says why.
pub fn install_obs_studio() -> anyhow::Result<()> {
    let folder = folder().join("obs-studio");
    if folder.exists() {
        return Ok(());
    }
    println!("making OBS Studio with WHIP, which takes five minutes");
    let script = run::root().join("tests/encoders/obs-studio/debian13.sh");
    run::command(Command::new(script).arg(folder))
}

/// Its native part is a package of its own: no script of it is run.
fn npm(folder: &Path, package: &str) -> anyhow::Result<()> {
    let flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"];
    run::command(Command::new("npm").arg("install").args(flags).arg("--prefix").arg(folder).arg(package))
}

fn pypi(environment: &Path, package: &str) -> anyhow::Result<()> {
    run::command(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(environment))?;
    let pip = environment.join("bin/pip");
    run::command(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", package]))
}
