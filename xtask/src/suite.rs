//! The test tiers: what `test`, `e2e`, `sim`, `dev` and `acceptance` run.

use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::test_binaries::{self, Outcome, TestBinary};
use crate::{encoders, packages, run};

/// Tests append a line `name: reason` here when a part of this machine is missing.
const SKIPPED_VARIABLE: &str = "MEDIA_TREE_SKIPPED";

/// The first tier: what is to fit 40 minutes on two cores. From an empty target folder it takes some 35 today, 20 of them
/// the tests themselves.
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
    run_tests(test_binaries::build()?, None)
}

/// Only the end-to-end tests.
///
/// # Errors
/// If a test fails.
pub fn e2e(filter: Option<&str>) -> anyhow::Result<()> {
    let mut binaries = test_binaries::build()?;
    binaries.retain(|binary| binary.is_of("tests"));
    run_tests(binaries, filter)
}

/// Runs the tests, then prints one line with all counts.
///
/// A few that fail are run once more, by themselves: many of them play whole installations on whatever machine there is,
/// and a minute of somebody else's load is no fault of theirs. They are named at the end, so that nobody overlooks them.
fn run_tests(binaries: Vec<TestBinary>, filter: Option<&str>) -> anyhow::Result<()> {
    let skipped_file = run::root().join("target").join("skipped-tests.txt");
    std::fs::write(&skipped_file, "").context("empty the list of skipped tests")?;
    let environment = (SKIPPED_VARIABLE, skipped_file.as_path());
    let outcomes = test_binaries::run_all(binaries, filter, environment)?;
    let mut passed: usize = outcomes.iter().map(|outcome| outcome.passed).sum();
    let (mut failed, mut again_passed) = (Vec::new(), 0);
    let broken: Vec<&Outcome> = outcomes.iter().filter(|outcome| !outcome.is_success).collect();
    let is_few = broken.iter().map(|outcome| outcome.names().len()).sum::<usize>() <= AGAIN_MAX;
    for outcome in broken {
        if !is_few {
            failed.extend(outcome.names());
            continue;
        }
        println!("once more, by themselves: {}", outcome.names().join(" "));
        let again = outcome.again(environment)?;
        let names = if again.is_success { Vec::new() } else { again.names() };
        for name in outcome.names().into_iter().filter(|name| !names.contains(name)) {
            println!("passed only when it was run again: {name}");
        }
        passed += again.passed;
        again_passed += again.passed;
        failed.extend(names);
    }
    for name in &failed {
        println!("failed: {name}");
    }
    let skipped = std::fs::read_to_string(&skipped_file).context("read the list of skipped tests")?;
    for line in skipped.lines() {
        println!("did not run: {line}");
    }
    let skipped = skipped.lines().count();
    println!(
        "{} passed, {again_passed} of them when run again, {} failed, {skipped} skipped",
        passed.saturating_sub(skipped),
        failed.len()
    );
    ensure!(failed.is_empty(), "tests failed");
    ensure!(passed > 0, "no test ran");
    if run::is_ci() && skipped > 0 {
        bail!("{skipped} tests could not run, and CI allows none");
    }
    Ok(())
}

/// More failures than this are no accident.
const AGAIN_MAX: usize = 8;

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
pub fn clients(minutes: Option<f64>, install: bool, names: &[String]) -> anyhow::Result<()> {
    if install {
        packages::install(packages::TESTS)?;
        packages::install(packages::CLIENTS)?;
        encoders::install()?;
        encoders::install_obs_studio()?;
    }
    let missing = [packages::missing(packages::TESTS), packages::missing(packages::CLIENTS)].concat();
    if !missing.is_empty() {
        println!("not on this machine: {} (cargo xtask clients --install brings them)", missing.join(", "));
    }
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
