//! What is known of this machine: clock, load, processor, versions.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Milliseconds of the wall clock.
#[must_use]
pub fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// The day and the minute, in UTC.
#[must_use]
pub fn date() -> String {
    said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// Load average of the last minute.
#[must_use]
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

/// CPU seconds that the whole machine has spent on anything, all cores together.
#[must_use]
pub fn busy_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|value| value.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal: proc(5).
    let busy = ticks.iter().take(8).enumerate().filter(|(place, _)| *place != 3 && *place != 4);
    busy.map(|(_, ticks)| ticks).sum::<f64>() / crate::meter::TICKS_PER_SECOND
}

/// What stands at the head of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Kernel.
    pub kernel: String,
    /// Version of Debian.
    pub debian: String,
    /// Version of Janus' package.
    pub janus: String,
    /// Commit that was measured, with a mark if files differ from it.
    pub commit: String,
    /// Compiler.
    pub rustc: String,
}

impl Machine {
    /// Looks around.
    #[must_use]
    pub fn here() -> Self {
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let debian = std::fs::read_to_string("/etc/debian_version").unwrap_or_default();
        Self {
            processor: model.map_or("unknown", |(_, model)| model).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: said("uname", &["-r"]),
            debian: debian.trim().to_owned(),
            janus: said("dpkg-query", &["-W", "-f", "${Version}", "janus"]),
            commit: said("git", &["describe", "--always", "--dirty"]),
            rustc: said("rustc", &["--version"]),
        }
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}
