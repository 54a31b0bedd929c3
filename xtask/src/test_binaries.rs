//! The binaries of the tests: found by cargo, run several at a time.
//!
//! Most tests play whole installations and wait: for a keyframe, a lease, a browser. One after the other they leave a machine
//! of two cores idle for more than half of the time.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::run;

/// How many run at a time, each with one test at a time. What a test of them needs for itself it takes turns for.
const AT_A_TIME: usize = 3;
/// They take longest by far and begin first, so that nobody waits for one of them at the end.
const LONGEST: [&str; 5] = ["faults", "conformance", "layers", "compose", "catch_up"];

/// One of them.
#[derive(Debug, Clone)]
pub struct TestBinary {
    /// The name of its target: `layers`, or the crate's for its unit tests.
    name: String,
    file: PathBuf,
    /// Where its package lies, which is where cargo runs it.
    folder: PathBuf,
}

/// How one of them went.
#[derive(Debug)]
pub struct Outcome {
    pub binary: TestBinary,
    pub passed: usize,
    /// Names of tests.
    pub failed: Vec<String>,
    pub is_success: bool,
}

/// Builds the tests of all packages, and tells where they lie. The program itself is built with them, in one go, so that
/// nothing is built twice with other features: the end-to-end tests start it.
///
/// # Errors
/// If it cannot be built.
pub fn build() -> anyhow::Result<Vec<TestBinary>> {
    run::cargo(&["build", "--workspace", "--bins", "--tests"])?;
    let built = run::cargo_command()
        .args(["test", "--workspace", "--no-run", "--tests", "--message-format", "json"])
        .current_dir(run::root())
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo test")?;
    ensure!(built.status.success(), "the tests could not be built");
    let messages = String::from_utf8(built.stdout).context("read cargo's messages")?;
    let mut binaries = Vec::new();
    for line in messages.lines() {
        let message: Value = serde_json::from_str(line).context("read a message of cargo's")?;
        binaries.extend(TestBinary::of(&message)?);
    }
    let rank = |binary: &TestBinary| LONGEST.iter().position(|name| *name == binary.name);
    // The end-to-end tests next: they wait most.
    let is_unit = |binary: &TestBinary| !binary.folder.ends_with("tests");
    binaries.sort_by_key(|binary| (rank(binary).unwrap_or(LONGEST.len()), is_unit(binary)));
    Ok(binaries)
}

impl TestBinary {
    fn of(message: &Value) -> anyhow::Result<Option<Self>> {
        let Some(file) = message["executable"].as_str().filter(|_| message["profile"]["test"] == true) else {
            return Ok(None);
        };
        let manifest = message["manifest_path"].as_str().context("an artifact has a manifest")?;
        let name = message["target"]["name"].as_str().context("a target has a name")?;
        let folder = Path::new(manifest).parent().context("a manifest lies in a folder")?;
        Ok(Some(Self { name: name.to_owned(), file: file.into(), folder: folder.to_owned() }))
    }

    /// True for those of this package.
    #[must_use]
    pub fn is_of(&self, package: &str) -> bool {
        self.folder.ends_with(package)
    }

    /// Runs it with these arguments and shows what it said once it has ended.
    fn run(&self, arguments: &[&str], environment: (&str, &Path)) -> anyhow::Result<Outcome> {
        println!("begins: {}", self.name);
        let started = Instant::now();
        let said = self.file.with_extension("said");
        let output = File::create(&said).context("make a file for what tests say")?;
        let status = Command::new(&self.file)
            .args(arguments)
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder)
            .env(environment.0, environment.1)
            .stdin(Stdio::null())
            .stderr(output.try_clone().context("share a file")?)
            .stdout(output)
            .status()
            .with_context(|| format!("start {}", self.file.display()))?;
        let text = std::fs::read(&said).context("read what tests said")?;
        std::fs::remove_file(&said).context("remove what tests said")?;
        let text = String::from_utf8_lossy(&text);
        println!("\n{} ({} s):\n{text}", self.file.display(), started.elapsed().as_secs());
        let mut outcome =
            Outcome { binary: self.clone(), passed: 0, failed: Vec::new(), is_success: status.success() };
        text.lines().for_each(|line| outcome.add(line));
        if !status.success() && outcome.failed.is_empty() {
            println!("{} ended early: {status}", self.name);
        }
        Ok(outcome)
    }
}

impl Outcome {
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

    /// What did not pass: tests, or the binary itself if it ended early.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let is_early = !self.is_success && self.failed.is_empty();
        if is_early { vec![self.binary.name.clone()] } else { self.failed.clone() }
    }

    /// Runs once more what failed, by itself: all of it if it ended early.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn again(&self, environment: (&str, &Path)) -> anyhow::Result<Self> {
        let names = self.failed.iter().map(String::as_str);
        let exact = (!self.failed.is_empty()).then_some("--exact");
        let arguments: Vec<&str> = ["--test-threads=1"].into_iter().chain(exact).chain(names).collect();
        self.binary.run(&arguments, environment)
    }
}

/// Runs all `binaries` with those of their tests whose names contain `filter`.
///
/// # Errors
/// If one cannot be started.
pub fn run_all(
    binaries: Vec<TestBinary>,
    filter: Option<&str>,
    environment: (&str, &Path),
) -> anyhow::Result<Vec<Outcome>> {
    let arguments: Vec<&str> = ["--test-threads=1"].into_iter().chain(filter).collect();
    let waiting = Mutex::new(VecDeque::from(binaries));
    let next = || waiting.lock().expect("nobody panics with it").pop_front();
    let worker = || -> anyhow::Result<Vec<Outcome>> {
        std::iter::from_fn(next).map(|binary| binary.run(&arguments, environment)).collect()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        let outcomes = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        Ok(outcomes.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect())
    })
}
