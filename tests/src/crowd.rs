//! A crowd of the load generator that watches a node of a test, and one viewer that writes down what it gets.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use model::Kind;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::exclusive::{Exclusive, Taken};
use crate::program::{self, PATIENCE, Program, until};
use crate::recording::Recording;

/// Viewers of a crowd: what a busy machine of two cores carries beside a publisher and a debug build. Two hundred are for
/// the long runs.
pub const CROWD: usize = 40;
/// For the node: all clients of a test have the same address.
pub const ANY_RATE: [&str; 4] = ["--request-rate", "100000", "--request-burst", "100000"];

/// Viewers that came together.
pub struct Crowd {
    viewers: usize,
    child: Child,
    results: PathBuf,
    _folder: tempfile::TempDir,
    _turn: Taken,
}

/// What a crowd missed.
#[derive(Debug, Clone, Copy)]
pub struct Missed {
    /// Packets that were to come.
    pub expected: u64,
    /// Packets that did not come at first.
    pub before_repair: u64,
    /// Packets that never came.
    pub after_repair: u64,
    /// The longest time without a picture.
    pub longest_stall: Duration,
}

impl Crowd {
    /// Lets [`CROWD`] viewers join the broadcast `show` and watch for `length` from then on.
    ///
    /// # Errors
    /// If not all of them come.
    pub async fn gather(node: &Program, length: &str) -> anyhow::Result<Self> {
        Self::of(CROWD, node, length).await
    }

    /// The same with so many viewers.
    ///
    /// # Errors
    /// If not all of them come.
    pub async fn of(viewers: usize, node: &Program, length: &str) -> anyhow::Result<Self> {
        let turn = Exclusive::Crowd.take().await?;
        let folder = tempfile::tempdir()?;
        let results = folder.path().join("results.json");
        let before = node.metric("media_tree_viewers{").await?;
        let child = Command::new(program::path()?)
            .args(["load", &node.url("/whep/show"), "--viewers", &viewers.to_string()])
            .args(["--join-rate", "100", "--duration", length, "--threads", "1", "--json"])
            .arg(&results)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let wanted = before + viewers as f64;
        until("the crowd is there", || async { Ok(node.metric("media_tree_viewers{").await? >= wanted) })
            .await?;
        Ok(Self { viewers, child, results, _folder: folder, _turn: turn })
    }

    /// Waits for the end of its measurement, and tells it.
    ///
    /// # Errors
    /// If one of them left, got what does not verify, or has no URL any more.
    pub async fn judge(self, what: &str) -> anyhow::Result<Missed> {
        let output = self.child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the crowd failed: {said}");
        let results: Value = serde_json::from_slice(&std::fs::read(&self.results)?)?;
        let number = |path: &str| {
            let value = results.pointer(path).and_then(Value::as_u64);
            value.with_context(|| format!("{path} in {results:#}"))
        };
        let missed = Missed {
            expected: number("/packets/expected")?,
            before_repair: number("/packets/lost_before_repair")?,
            after_repair: number("/packets/lost_after_repair")?,
            longest_stall: Duration::from_millis(number("/stalls/longest_ms")?),
        };
        println!(
            "{what}: {} viewers expected {} packets, {} lost before repair, {} after; {} stalls of {} of them, the \
             longest of {} ms",
            self.viewers,
            missed.expected,
            missed.before_repair,
            missed.after_repair,
            number("/stalls/count")?,
            number("/stalls/viewers")?,
            missed.longest_stall.as_millis(),
        );
        ensure!(number("/viewers/joined")? == self.viewers as u64, "{results:#}");
        ensure!(number("/viewers/left_early")? == 0, "{results:#}");
        ensure!(number("/viewers/delete_failed")? == 0, "every URL is still one: {results:#}");
        ensure!(number("/packets/failed_verification")? == 0, "{results:#}");
        Ok(missed)
    }
}

/// A viewer that writes down what it gets.
pub struct Watching {
    stop: Arc<AtomicBool>,
    task: JoinHandle<anyhow::Result<(Recording, WhepSession)>>,
}

impl Watching {
    /// Joins the broadcast `show`.
    ///
    /// # Errors
    /// If the node refuses.
    pub async fn begin(node: &Program) -> anyhow::Result<Self> {
        let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        let task = tokio::spawn(async move {
            let mut recording = Recording::default();
            while !is_over.load(Ordering::Relaxed) {
                recording.receive(&mut viewer, PATIENCE).await?;
            }
            Ok((recording, viewer))
        });
        Ok(Self { stop, task })
    }

    /// Ends the session by the URL of its POST, and tells what it got.
    ///
    /// # Errors
    /// If its streams changed, timestamps went back, the picture stood still for `freeze_max`, or the URL is none.
    pub async fn judge(self, what: &str, freeze_max: Duration) -> anyhow::Result<Recording> {
        self.stop.store(true, Ordering::Relaxed);
        let (recording, viewer) = self.task.await??;
        let stats = viewer.stats().video;
        println!("{what}, one viewer: {}; {} repaired", recording.summary(), stats.via_rtx);
        for kind in [Kind::Audio, Kind::Video] {
            let track = recording.track(kind);
            ensure!(track.ssrcs.len() == 1, "{kind} is another stream now");
            ensure!(
                track.backward_steps().is_empty(),
                "{kind} timestamps go back: {:?}",
                track.backward_steps()
            );
        }
        ensure!(recording.track(Kind::Video).fluency().longest_pause < freeze_max, "{}", recording.summary());
        // Not with a goodbye over DTLS, which a process that went on with the session does not understand.
        let deleted = reqwest::Client::new().delete(viewer.url()).send().await?;
        ensure!(deleted.status() == 200, "its URL is none any more: {}", deleted.status());
        Ok(recording)
    }
}
