//! The test tiers: what `test`, `e2e`, `sim`, `dev` and `acceptance` run.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::{encoders, packages, run};

/// Tests append a line `name: reason` here when a part of this machine is missing.
const SKIPPED_VARIABLE: &str = "MEDIA_TREE_SKIPPED";

/// The first tier: what is to fit 40 minutes on two cores. From an empty target folder it takes some 45 today.
///
/// # Errors
/// If a test fails, or with `CI` set if one could not run.
pub fn test(install: bool) -> anyhow::Result<()> {
    if install || run::is_ci() {
        packages::install(packages::TESTS)?;
        encoders::install()?;
    }
    let mut missing = packages::missing(packages::TESTS);
    missing.extend(encoders::missing());
    if !missing.is_empty() {
        println!("not on this machine: {} (cargo xtask test --install brings them)", missing.join(", "));
    }
    cargo_test(&["--workspace"])
}

/// Only the end-to-end tests.
///
/// # Errors
/// If a test fails.
pub fn e2e(filter: Option<&str>) -> anyhow::Result<()> {
    let mut arguments = vec!["--package", "tests"];
    arguments.extend(filter);
    cargo_test(&arguments)
}

/// Runs the tests, then prints one line with all counts.
///
/// A few that fail are run once more, by themselves: many of them play whole installations on whatever machine there is,
/// and a minute of somebody else's load is no fault of theirs. They are named at the end, so that nobody overlooks them.
fn cargo_test(arguments: &[&str]) -> anyhow::Result<()> {
    // The end-to-end tests start the program itself. Built in one go with the tests, so that nothing is built twice with
    // other features.
    run::cargo(&["build", "--workspace", "--bins", "--tests"])?;
    let skipped_file = run::root().join("target").join("skipped-tests.txt");
    std::fs::write(&skipped_file, "").context("empty the list of skipped tests")?;
    let first = Outcome::of(arguments, &skipped_file)?;
    let is_few = (1..=AGAIN_MAX).contains(&first.failed.len());
    let again = if is_few {
        println!("once more, by themselves: {}", first.failed.join(" "));
        let named = ["--", "--exact"].into_iter().chain(first.failed.iter().map(String::as_str));
        let arguments: Vec<&str> = arguments.iter().copied().chain(named).collect();
        Some(Outcome::of(&arguments, &skipped_file)?)
    } else {
        None
    };
    let failed = again.as_ref().map_or(&first.failed, |again| &again.failed);
    for name in first.failed.iter().filter(|name| !failed.contains(name)) {
        println!("passed only when it was run again: {name}");
    }
    let skipped = std::fs::read_to_string(&skipped_file).context("read the list of skipped tests")?;
    for line in skipped.lines() {
        println!("did not run: {line}");
    }
    let (skipped, again_passed) = (skipped.lines().count(), first.failed.len() - failed.len());
    let passed = (first.passed + again_passed).saturating_sub(skipped);
    println!(
        "{passed} passed, {again_passed} of them when run again, {} failed, {skipped} skipped",
        failed.len()
    );
    ensure!(again.as_ref().unwrap_or(&first).is_success, "tests failed");
    ensure!(first.passed > 0, "no test ran");
    if run::is_ci() && skipped > 0 {
        bail!("{skipped} tests could not run, and CI allows none");
    }
    Ok(())
}

/// More failures than this are no accident.
const AGAIN_MAX: usize = 5;

/// How a run of `cargo test` went.
#[derive(Default)]
struct Outcome {
    passed: usize,
    /// Names of tests.
    failed: Vec<String>,
    is_success: bool,
}

impl Outcome {
    fn of(arguments: &[&str], skipped_file: &Path) -> anyhow::Result<Self> {
        let mut child = run::cargo_command()
            .args(["test", "--no-fail-fast", "--tests"])
            .args(arguments)
            .current_dir(run::root())
            .env(SKIPPED_VARIABLE, skipped_file)
            .stdout(Stdio::piped())
            .spawn()
            .context("start cargo test")?;
        let mut outcome = Self::default();
        for line in BufReader::new(child.stdout.take().expect("stdout is piped")).lines() {
            let line = line.context("read cargo test")?;
            println!("{line}");
            outcome.add(&line);
        }
        outcome.is_success = child.wait().context("wait for cargo test")?.success();
        Ok(outcome)
    }

    /// Adds a line such as `test name ... FAILED`, or a closing one such as `test result: ok. 6 passed; 0 failed; ...`.
    fn add(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            let number = result.split([';', '.']).find_map(|part| part.trim().strip_suffix("passed"));
            self.passed += number.and_then(|number| number.trim().parse().ok()).unwrap_or(0);
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failed.push(name.to_owned());
        }
    }
}

/// More seeds of the simulation than the first tier plays.
///
/// # Errors
/// If an invariant breaks; the output names the seed.
pub fn sim(seeds: u64, seed: Option<u64>) -> anyhow::Result<()> {
    let mut command = run::cargo_command();
    command.args(["test", "--package", "sim", "--release"]).env("SIM_SEEDS", seeds.to_string());
    if let Some(seed) = seed {
        command.env("SIM_SEED", seed.to_string());
    }
    run::command(&mut command)
}

/// Three nodes on this machine until Ctrl-C.
///
/// # Errors
/// If a node does not start.
pub fn dev() -> anyhow::Result<()> {
    run::cargo(&["build", "--release", "--package", "media-tree"])?;
    let program = run::root().join("target/release/media-tree");
    let nodes: [&[&str]; 3] = [
        &[
            "injection",
            "--demo",
            "--http",
            "127.0.0.1:8080",
            "--ops",
            "127.0.0.1:9600",
            "--link-port",
            "51000",
        ],
        &["relay", "--parents", "127.0.0.1:51000", "--ops", "127.0.0.1:9601", "--link-port", "51001"],
        &[
            "egress",
            "--parents",
            "127.0.0.1:51001",
            "--http",
            "127.0.0.1:8081",
            "--ops",
            "127.0.0.1:9602",
            "--link-port",
            "51002",
        ],
    ];
    let mut children = Vec::new();
    for arguments in nodes {
        children.push(Command::new(&program).args(arguments).spawn().context("start a node")?);
    }
    println!("publish on http://127.0.0.1:8080/publish/demo2, watch on http://127.0.0.1:8081/watch/demo");
    for mut child in children {
        child.wait().context("wait for a node")?;
    }
    Ok(())
}

/// The long runs.
///
/// # Errors
/// If a run fails.
pub fn acceptance() -> anyhow::Result<()> {
    run::cargo(&["build", "--release", "--package", "media-tree"])?;
    run::cargo(&["run", "--release", "--package", "tests", "--bin", "acceptance"])
}

/// Real clients, all or those that are named, each for so many minutes if any are said.
///
/// # Errors
/// If one of them is not served as it should be.
pub fn clients(minutes: Option<f64>, names: &[String]) -> anyhow::Result<()> {
    run::cargo(&["build", "--release", "--package", "media-tree"])?;
    let minutes = minutes.map(|minutes| minutes.to_string());
    let mut arguments = vec!["run", "--release", "--package", "tests", "--bin", "clients", "--"];
    if let Some(minutes) = &minutes {
        arguments.extend(["--minutes", minutes]);
    }
    arguments.extend(names.iter().map(String::as_str));
    run::cargo(&arguments)
}

/// The pictures of the documentation.
///
/// # Errors
/// If a page does not show what it should.
pub fn screenshots() -> anyhow::Result<()> {
    run::cargo(&["build", "--package", "media-tree"])?;
    run::cargo(&["run", "--package", "tests", "--bin", "screenshots"])
}
