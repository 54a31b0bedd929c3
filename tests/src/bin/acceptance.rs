//! The long runs: each client streams for minutes; results go, dated, into `docs/acceptance.md`.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tests::program::{self, Program};
use tests::watching;

/// How long each picture is watched.
const LENGTH: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut report = Report::begin();
    for codec in ["h264", "vp8"] {
        let node = program::node("up").start().await?;
        report.run(&format!("one process, {codec}"), codec, &node, &node).await?;
        drop(node);
        let [injection, _relay, egress] = three().await?;
        report.run(&format!("injection, relay, egress, {codec}"), codec, &injection, &egress).await?;
    }
    report.write()?;
    ensure!(report.failures == 0, "{} runs were not clean", report.failures);
    Ok(())
}

/// Injection, relay and egress as processes of their own.
async fn three() -> anyhow::Result<[Program; 3]> {
    let injection = program::node("injection").start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let relay = program::node("relay").with(&["--parents", &parent]).start().await?;
    let parent = format!("127.0.0.1:{}", relay.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
    Ok([injection, relay, egress])
}

struct Report {
    text: String,
    failures: usize,
}

impl Report {
    fn begin() -> Self {
        let days = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
        let (year, month, day) = date(days);
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut text = String::new();
        let _ = writeln!(text, "# Acceptance runs\n\nWritten by `cargo xtask acceptance`; do not edit.\n");
        let _ = writeln!(
            text,
            "{year}-{month:02}-{day:02}, {cores} cores, {}, publisher, server and viewer on this one machine. Each \
             viewing takes {} s; *direct* is the same browser with no server between. Glass to glass is read off a time \
             code in the picture.\n",
            model.map_or("unknown processor", |(_, model)| model),
            LENGTH.as_secs()
        );
        let _ = writeln!(
            text,
            "| Run | Frames | Frames/s | Freezes (direct) | Frozen ms (direct) | Lost packets | Sound | First frame ms | \
             Glass to glass p50 / p95 ms |\n|---|---|---|---|---|---|---|---|---|"
        );
        Self { text, failures: 0 }
    }

    async fn run(
        &mut self,
        name: &str,
        codec: &str,
        injection: &Program,
        egress: &Program,
    ) -> anyhow::Result<()> {
        let (seen, direct) = watching::publish_and_watch(injection, egress, codec, LENGTH).await?;
        println!("{name}: {seen}");
        let millis = |share| seen.latency(share).map_or(0, |latency| latency.as_millis());
        let has_sound = seen.audio_energy > 0.0;
        let _ = writeln!(
            self.text,
            "| {name} | {} | {:.1} | {} ({}) | {} ({}) | {} | {} | {} | {} / {} |",
            seen.frames_decoded,
            seen.frames_per_second,
            seen.freeze_count,
            direct.freeze_count,
            seen.freezes.as_millis(),
            direct.freezes.as_millis(),
            seen.packets_lost,
            if has_sound { "yes" } else { "no" },
            seen.first_frame.as_millis(),
            millis(0.5),
            millis(0.95)
        );
        let is_clean = has_sound && seen.packets_lost == 0 && seen.freeze_count <= direct.freeze_count;
        self.failures += usize::from(!is_clean);
        Ok(())
    }

    fn write(&self) -> anyhow::Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/acceptance.md");
        std::fs::write(&path, &self.text).with_context(|| format!("write {}", path.display()))
    }
}

/// Year, month and day of a day since 1970 (proleptic Gregorian calendar).
fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    let mut rest = days;
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    while rest >= 365 + u64::from(is_leap(year)) {
        rest -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while rest >= months[month] {
        rest -= months[month];
        month += 1;
    }
    (year, month as u64 + 1, rest + 1)
}

#[cfg(test)]
mod tests_of_dates {
    use super::date;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(20_780), (2026, 11, 23));
    }
}
