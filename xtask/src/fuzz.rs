//! `cargo xtask fuzz`: the parsers of outside bytes under libFuzzer.
//!
//! Inputs that reach something new are gathered below `fuzz/target/`; `--keep` takes the smallest set that reaches the
//! same code into `fuzz/corpus/`, which `cargo xtask test` plays again.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::run;

/// Longest kept input, in bytes: all targets together have 200 KB.
const KEPT_BYTES_MAX: &str = "4096";

/// What to fuzz.
#[derive(clap::Args)]
pub struct Arguments {
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// This target only.
    #[arg(long)]
    target: Option<String>,
    /// Then keep the inputs that reach new code, for `cargo xtask test`.
    #[arg(long)]
    keep: bool,
    /// Install what is missing first: cargo-fuzz with cargo, a C++ compiler with apt-get (as root).
    #[arg(long)]
    install: bool,
}

/// Fuzzes one target after another.
///
/// # Errors
/// If something is missing or a target finds something.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    for part in PARTS {
        if is_there(part.probe) {
            continue;
        }
        if !arguments.install {
            bail!("{} is missing; --install runs: {}", part.what, part.install.join(" "));
        }
        let (program, rest) = part.install.split_first().context("a command")?;
        run::command(Command::new(program).args(rest))?;
    }
    for target in targets(arguments.target.as_deref())? {
        explore(&target, arguments.seconds)?;
        if arguments.keep {
            keep(&target)?;
        }
    }
    Ok(())
}

/// Something that fuzzing needs beside the repository.
struct Part {
    what: &'static str,
    /// Succeeds where it is there.
    probe: &'static [&'static str],
    install: &'static [&'static str],
}

const PARTS: &[Part] = &[
    Part {
        what: "cargo-fuzz",
        probe: &["cargo", "fuzz", "--version"],
        install: &["cargo", "install", "--locked", "cargo-fuzz"],
    },
    Part {
        what: "a C++ compiler, which libFuzzer is built with,",
        probe: &["c++", "--version"],
        install: &["apt-get", "install", "-y", "-qq", "--no-install-recommends", "g++"],
    },
];

fn is_there(probe: &[&str]) -> bool {
    let mut command = Command::new(probe[0]);
    command.args(&probe[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn targets(wanted: Option<&str>) -> anyhow::Result<Vec<String>> {
    let folder = run::root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .with_context(|| format!("list {}", folder.display()))?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(String::from))
        .collect();
    names.sort();
    let Some(wanted) = wanted else { return Ok(names) };
    ensure!(names.iter().any(|name| name == wanted), "no such target; there are: {}", names.join(", "));
    Ok(vec![wanted.to_owned()])
}

/// Where libFuzzer gathers what reaches something new, and where the kept inputs are.
fn folders(target: &str) -> anyhow::Result<(PathBuf, PathBuf)> {
    let fuzz = run::root().join("fuzz");
    let (gathered, kept) = (fuzz.join("target/corpus").join(target), fuzz.join("corpus").join(target));
    for folder in [&gathered, &kept] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    Ok((gathered, kept))
}

fn explore(target: &str, seconds: u64) -> anyhow::Result<()> {
    let (gathered, kept) = folders(target)?;
    let limit = format!("-max_total_time={seconds}");
    run::command(cargo_fuzz(target).args([gathered, kept]).args(["--", &limit, "-timeout=10"]))
}

fn keep(target: &str) -> anyhow::Result<()> {
    let (gathered, kept) = folders(target)?;
    let smaller = kept.with_extension("new");
    fs::create_dir_all(&smaller).context("make a folder for the smaller corpus")?;
    // Edges without counts: the corpus is to reach the code, not to repeat it.
    let longest = format!("-max_len={KEPT_BYTES_MAX}");
    let merge = ["--", "-set_cover_merge=1", "-use_counters=0", &longest];
    run::command(cargo_fuzz(target).args([&smaller, &gathered, &kept]).args(merge))?;
    fs::remove_dir_all(&kept).context("remove the old corpus")?;
    fs::rename(&smaller, &kept).context("put the smaller corpus in its place")
}

/// cargo-fuzz instruments the code with flags that only a nightly or this variable allows.
fn cargo_fuzz(target: &str) -> Command {
    let mut command = Command::new("cargo");
    command.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", target]);
    command
}
