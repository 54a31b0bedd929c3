//! `cargo xtask bench`: measures speeds and writes `docs/benchmarks.md` by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{packages, run};

/// Arguments of criterion: the benches are many, and their medians settle soon.
const CRITERION: [&str; 4] = ["--warm-up-time", "0.5", "--measurement-time", "2"];

/// What is measured.
#[derive(clap::Args)]
pub struct Arguments {
    /// A few minutes: 200 viewers on this program and on Janus, and the floor. Prints, writes nothing.
    #[arg(long)]
    quick: bool,
    /// Seconds of each window.
    #[arg(long)]
    seconds: Option<u32>,
    /// Measure this part anew and keep the rest of the last report: `servers`, `storm`, `relay`, `profiles`, `micro`.
    #[arg(long)]
    only: Vec<String>,
    /// Install missing Debian packages first (as root).
    #[arg(long)]
    install: bool,
}

/// Benches beside the hot paths, then whole processes.
///
/// # Errors
/// If a bench cannot be built or run.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.install {
        packages::install(packages::BENCHES)?;
    }
    let missing = packages::missing(packages::BENCHES);
    if !missing.is_empty() {
        println!("not on this machine: {} (cargo xtask bench --install brings them)", missing.join(", "));
    }
    run::cargo(&["build", "--release", "--package", "media-tree", "--package", "bench"])?;
    if !arguments.quick && (arguments.only.is_empty() || arguments.only.iter().any(|part| part == "micro")) {
        beside_hot_paths()?;
    }
    let root = run::root();
    let mut command = Command::new(target(&root).join("release/bench"));
    command.arg("run").arg("--folder").arg(root.join("docs"));
    if arguments.quick {
        command.arg("--quick");
    }
    if let Some(seconds) = arguments.seconds {
        command.args(["--seconds", &seconds.to_string()]);
    }
    command.args(arguments.only.iter().flat_map(|part| ["--only", part]));
    run::command(&mut command)
}

/// All benches of all crates. They are named one by one: the harness of unit tests, which cargo would run too, knows
/// no arguments of criterion.
fn beside_hot_paths() -> anyhow::Result<()> {
    let crates = run::root().join("crates");
    let mut arguments = vec!["bench".to_owned()];
    for member in entries(&crates)? {
        let benches = entries(&member.join("benches")).unwrap_or_default();
        let benches =
            benches.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
        let names: Vec<String> = benches.filter_map(|file| name(file)).collect();
        if let (Some(package), false) = (name(&member), names.is_empty()) {
            arguments.extend(["--package".to_owned(), package]);
            arguments.extend(names.into_iter().flat_map(|bench| ["--bench".to_owned(), bench]));
        }
    }
    arguments.push("--".to_owned());
    arguments.extend(CRITERION.map(str::to_owned));
    run::cargo(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut entries: Vec<PathBuf> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    Ok(entries)
}

fn name(path: &Path) -> Option<String> {
    path.file_stem()?.to_str().map(str::to_owned)
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}
