//! Nodes under their supervisors: killed, upgraded, and seen to go on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use crate::encoders::{self, Encoder};
use crate::program::{self, Program, until};
use crate::tools;

/// Whether a process is there and no zombie.
#[must_use]
pub fn is_there(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Waits until it is not.
///
/// # Errors
/// If it stays.
pub async fn until_gone(pid: u32) -> anyhow::Result<()> {
    until("the process is gone", || async { Ok(!is_there(pid)) }).await
}

/// The program that a process runs.
///
/// # Errors
/// If there is no such process.
pub fn program_of(pid: u32) -> anyhow::Result<PathBuf> {
    Ok(std::fs::read_link(format!("/proc/{pid}/exe"))?)
}

/// The process that works under the supervisor, once it is ready.
///
/// # Errors
/// If it does not come to be ready.
pub async fn worker(program: &Program) -> anyhow::Result<u32> {
    program.until_ready().await?;
    program.worker_id().context("a process that works")
}

/// Kills the process that works, and waits for the next one; gives how long it took to serve.
///
/// # Errors
/// If no other one goes on with its sessions.
pub async fn kill(program: &Program) -> anyhow::Result<Duration> {
    let before = worker(program).await?;
    let begun = Instant::now();
    let killed = std::process::Command::new("kill").args(["-KILL", &before.to_string()]).status()?;
    ensure!(killed.success(), "not killed");
    until("another process serves", || async {
        let is_another = program.worker_id().is_some_and(|now| now != before);
        Ok(is_another && program.metric("pipeline_up{").await.is_ok())
    })
    .await?;
    program.until_ready().await?;
    Ok(begun.elapsed())
}

/// What `media-tree upgrade` to this program says.
///
/// # Errors
/// If it cannot be started.
pub async fn upgrade(program: &Program, to: &Path) -> anyhow::Result<std::process::Output> {
    let mut command = Command::new(program::path()?);
    command.args(["upgrade", "--ops", &program.ops.to_string(), "--program"]).arg(to);
    Ok(command.output().await?)
}

/// Waits until so many more packets went to viewers.
///
/// # Errors
/// If they do not.
pub async fn media_flows(program: &Program, packets: f64) -> anyhow::Result<()> {
    let sent = || program.metric("media_tree_viewer_rtp_packets_total{");
    let before = sent().await?;
    until("viewers get media", || async { Ok(sent().await? > before + packets) }).await
}

/// Whether an encoder like OBS can be had; says so if not.
#[must_use]
pub fn has_libdatachannel(name: &str) -> bool {
    encoders::parts_of_libdatachannel().iter().all(|part| tools::has(name, &part.to_string_lossy()))
}

/// An encoder like OBS that publishes `show` at this node.
///
/// # Errors
/// If it does not come on the air.
pub async fn on_air(program: &Program) -> anyhow::Result<Encoder> {
    let mut encoder = Encoder::libdatachannel(&program.url("/whip/show"), None)?;
    encoder.until("state connected").await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    Ok(encoder)
}
