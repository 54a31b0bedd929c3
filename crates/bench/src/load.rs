//! The load generator as another process: what it is told, what it tells.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::network::Side;
use crate::process::{Place, Running};

/// Opens publishing on servers that ask for it.
pub const TOKEN: &str = "publish-secret-of-benches";

/// How a publisher spreads the packets of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pacing {
    /// All at once, as OBS and ffmpeg do.
    Burst,
    /// Over the frame interval, as browsers do.
    Paced,
}

impl Pacing {
    /// As the load generator and the report call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Paced => "paced",
        }
    }
}

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// Video, in kbit/s.
    pub bitrate_kbps: u32,
    /// Pictures each second.
    pub fps: u32,
    /// How a picture's packets are spread.
    pub pacing: Pacing,
    /// Opus beside it, 50 packets each second.
    pub has_audio: bool,
}

impl Media {
    /// 720p30 at 2.5 Mbit/s with Opus: what everything is compared with.
    #[must_use]
    pub const fn usual(pacing: Pacing) -> Self {
        Self { bitrate_kbps: 2500, fps: 30, pacing, has_audio: true }
    }
}

/// Who watches.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Audience {
    /// Viewers.
    pub viewers: u32,
    /// Joins started each second.
    pub join_rate: u32,
    /// Seconds measured once all have joined.
    pub seconds: u32,
    /// They take trains whole from the kernel (UDP GRO), as if the network cut them apart.
    pub takes_trains: bool,
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "they are what they are called")]
pub struct Percentiles {
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

/// What the load generator saw, as far as it is used here.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the load generator documents them")]
pub struct Seen {
    pub window: Window,
    pub viewers: Viewers,
    pub join_ms: Option<Percentiles>,
    pub first_frame_ms: Option<Percentiles>,
    pub packets: Packets,
    pub packets_per_second: f64,
    pub mbps: f64,
    pub stalls: Stalls,
    pub latency_frame_ms: Option<Percentiles>,
    pub transit_ms: Option<Percentiles>,
    pub receive_buffer_overflows: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Window {
    pub start_unix_ms: f64,
    pub end_unix_ms: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Viewers {
    pub wanted: u64,
    pub joined: u64,
    pub failed: BTreeMap<String, u64>,
    pub left_early: u64,
    pub without_keyframe: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Packets {
    pub expected: u64,
    pub delivered: u64,
    pub lost_before_repair: u64,
    pub lost_after_repair: u64,
    pub verified: u64,
    pub unverified: u64,
    pub failed_verification: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Stalls {
    pub viewers: u64,
    pub count: u64,
    pub longest_ms: f64,
}

/// Publishes until dropped.
///
/// # Errors
/// If the load generator cannot be started.
pub fn publish(place: &Place, url: &str, media: Media) -> anyhow::Result<Running> {
    let bitrate = format!("{}kbps", media.bitrate_kbps);
    let mut arguments = vec!["load", "--publish", url, "--publish-token", TOKEN, "--bitrate", &bitrate];
    let fps = media.fps.to_string();
    arguments.extend(["--fps", &fps, "--pacing", media.pacing.name()]);
    arguments.extend(["--viewers", "0", "--duration", "3600s"]);
    if !media.has_audio {
        arguments.push("--no-audio");
    }
    place.start(Side::Viewers, "media-tree", &arguments)
}

/// Viewers at work.
pub struct Watching {
    running: Running,
    report: PathBuf,
    patience: Duration,
}

/// Sends viewers to `urls`, in turn.
///
/// # Errors
/// If the load generator cannot be started.
pub fn watch(place: &Place, urls: &[String], audience: Audience) -> anyhow::Result<Watching> {
    let report = tempfile::Builder::new().suffix(".json").tempfile_in(place.folder.path())?;
    let report = report.into_temp_path().keep().context("make a report")?;
    let mut arguments = vec!["load".to_owned()];
    arguments.extend(urls.iter().cloned());
    let numbers = [
        ("--viewers", audience.viewers.to_string()),
        ("--join-rate", audience.join_rate.to_string()),
        ("--duration", format!("{}s", audience.seconds)),
        ("--verify-share", "1.0".to_owned()),
        ("--json", report.display().to_string()),
    ];
    arguments.extend(numbers.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    if audience.takes_trains {
        arguments.push("--coalesce".to_owned());
    }
    let joining = audience.viewers / audience.join_rate.max(1);
    let patience = Duration::from_secs(u64::from(audience.seconds + joining) + 90);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(Watching { running: place.start(Side::Viewers, "media-tree", &arguments)?, report, patience })
}

impl Watching {
    /// Waits until they have seen enough; what they saw, and CPU seconds that this cost in the window.
    ///
    /// # Errors
    /// If the load generator fails or does not come to an end.
    pub async fn finished(mut self) -> anyhow::Result<(Seen, f64)> {
        self.running.finished(self.patience).await?;
        let text = std::fs::read_to_string(&self.report).context("read what the viewers saw")?;
        let seen: Seen = serde_json::from_str(&text).context("parse what the viewers saw")?;
        let spent = self.running.meter.cpu_seconds((seen.window.start_unix_ms, seen.window.end_unix_ms));
        Ok((seen, spent))
    }
}
