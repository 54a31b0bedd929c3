//! Child processes: started in a namespace, looked at while they run, ended by their own handle.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::meter::Meter;
use crate::network::{Network, Side};
use crate::parts::READY;

/// How long anything may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much of a log is shown when something fails.
const TAIL_BYTES: usize = 2000;

/// Where children run and where their logs go.
pub struct Place {
    /// The hosts.
    pub network: Network,
    /// Folder for logs and configurations; gone with the value.
    pub folder: tempfile::TempDir,
    /// Folder of the programs under test.
    pub programs: PathBuf,
}

impl Place {
    /// Two hosts, and the programs that lie beside this one.
    ///
    /// # Errors
    /// If namespaces cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let programs = own.parent().context("this program lies nowhere")?.to_owned();
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        Ok(Self { network: Network::new()?, folder, programs })
    }

    /// Starts a program of this workspace.
    ///
    /// # Errors
    /// If it is not built or cannot be started.
    pub fn start(&self, side: Side, program: &str, arguments: &[&str]) -> anyhow::Result<Running> {
        let path = self.programs.join(program);
        ensure!(path.is_file(), "{program} is not built: run `cargo build --release -p {program}`");
        self.start_other(side, &path, arguments)
    }

    /// Starts any program.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_other(&self, side: Side, program: &Path, arguments: &[&str]) -> anyhow::Result<Running> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = tempfile::Builder::new().prefix(&name).suffix(".log").tempfile_in(self.folder.path())?;
        let log = log.into_temp_path().keep().context("make a log")?;
        let mut command = Command::from(self.network.command(side, program));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.kill_on_drop(true).spawn().with_context(|| format!("start {name}"))?;
        let process = child.id().context("a child has an id")?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("a child has an output")?;
        let lines = BufReader::new(stdout).lines();
        Ok(Running { child, stdin, lines, name, log, meter: Meter::of_process(process) })
    }

    /// Waits until a node of ours is ready whose operations listener is at `ops`.
    ///
    /// # Errors
    /// If it is not in time.
    pub async fn until_ready(&self, side: Side, ops: &str, node: &mut Running) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let asking = self.network.command(side, &self.programs.join("media-tree"));
            let mut asking = Command::from(asking);
            asking.args(["healthcheck", "--ready", "--ops", ops]).stderr(Stdio::null()).kill_on_drop(true);
            if asking.status().await?.success() {
                return Ok(());
            }
            let is_over = tokio::time::Instant::now() > deadline;
            if is_over || node.child.try_wait()?.is_some() {
                bail!("{} is not ready: {}", node.name, node.log());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A running child. Killed when dropped; [`Running::end`] also waits for its end.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    name: String,
    log: PathBuf,
    /// What it spends.
    pub meter: Meter,
}

impl Running {
    /// Waits until a part of this program says that it is at work.
    ///
    /// # Errors
    /// If it ends before, or is not in time.
    pub async fn until_ready(&mut self) -> anyhow::Result<()> {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.ok().and_then(Result::ok).flatten();
        ensure!(line.as_deref() == Some(READY), "{} does not start: {}", self.name, self.log());
        Ok(())
    }

    /// Its next line.
    ///
    /// # Errors
    /// If it ends before.
    pub async fn line(&mut self) -> anyhow::Result<String> {
        let line = self.lines.next_line().await?;
        line.with_context(|| format!("{} ended: {}", self.name, self.log()))
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end, which must be a good one.
    ///
    /// # Errors
    /// If it fails, or takes longer than `patience`.
    pub async fn finished(&mut self, patience: Duration) -> anyhow::Result<()> {
        let drained = async {
            while self.lines.next_line().await?.is_some() {}
            self.child.wait().await
        };
        let ended = tokio::time::timeout(patience, drained).await;
        let status = ended.with_context(|| format!("{} does not end: {}", self.name, tail(&self.log)))??;
        ensure!(status.success(), "{} failed ({status}): {}", self.name, self.log());
        Ok(())
    }

    /// Kills it and waits for its end.
    pub async fn end(mut self) {
        let _ = self.child.kill().await;
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The end of what it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log)
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut start = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim().to_owned()
}
