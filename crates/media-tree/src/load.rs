//! `media-tree load`: the flags of the load generator, its progress and its results.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use ::load::publish::{self, Pacing};
use ::load::{Options, Phase, Progress, Summary};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use config::HumanDuration;
use model::Bitrate;

/// Threads for HTTP; viewers have their own.
const HTTP_THREADS: usize = 2;

/// Viewers (and publishers) that behave as browsers do, by the thousand, against any WHEP or WHIP server.
#[derive(Args)]
pub struct Arguments {
    /// WHEP endpoints; viewers are spread evenly over them.
    #[arg(value_name = "URL")]
    watch: Vec<String>,
    /// How many viewers.
    #[arg(long, default_value_t = 10)]
    viewers: usize,
    /// Joins begun in a second.
    #[arg(long, default_value_t = 50.0, value_name = "PER_SECOND")]
    join_rate: f64,
    /// How long to measure once every viewer has joined or failed.
    #[arg(long, default_value = "30s")]
    duration: HumanDuration,
    /// Bearer token for watching. [variable: MEDIA_TREE_LOAD_TOKEN]
    #[arg(long)]
    token: Option<String>,
    /// Share of viewers that decrypt and authenticate every packet; the others count by header.
    #[arg(long, default_value_t = 1.0, value_name = "SHARE")]
    verify_share: f64,
    /// Share of received RTP packets to drop.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    loss: f64,
    /// Mean life of a viewer; it leaves and another one joins.
    #[arg(long, value_name = "DURATION")]
    churn: Option<HumanDuration>,
    /// Of losses and churn: the same number, the same losses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads for viewers [default: one for each processor].
    #[arg(long)]
    threads: Option<usize>,
    /// Take trains of datagrams from the kernel whole (UDP GRO): cheaper here, and on one machine for the server too.
    #[arg(long)]
    coalesce: bool,
    /// Write the results as JSON to this file, or to standard output for `-`.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    publishing: Publishing,
}

#[derive(Args)]
struct Publishing {
    /// WHIP endpoint to publish synthetic media to while viewers watch; may be repeated.
    #[arg(long, value_name = "URL")]
    publish: Vec<String>,
    /// Bearer token for publishing. [variable: MEDIA_TREE_LOAD_PUBLISH_TOKEN]
    #[arg(long)]
    publish_token: Option<String>,
    /// Of the video, for instance `2500kbps` or `4mbps`.
    #[arg(long, default_value = "2500kbps", value_parser = bitrate)]
    bitrate: Bitrate,
    /// Frames a second.
    #[arg(long, default_value_t = 30.0)]
    fps: f64,
    /// How the packets of a frame leave: at once, or spread over most of the frame interval.
    #[arg(long, value_enum, default_value_t = PacingName::Burst)]
    pacing: PacingName,
    /// Video alone.
    #[arg(long)]
    no_audio: bool,
    /// From keyframe to keyframe.
    #[arg(long, default_value = "2s")]
    keyframe_interval: HumanDuration,
    /// Do not answer keyframe requests, as OBS does not.
    #[arg(long)]
    ignore_pli: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum PacingName {
    Burst,
    Paced,
}

fn bitrate(text: &str) -> Result<Bitrate, String> {
    let units = [("kbps", 1_000.0), ("mbps", 1_000_000.0), ("bps", 1.0)];
    let lower = text.to_ascii_lowercase();
    let found = units.iter().find_map(|(unit, factor)| Some((lower.strip_suffix(unit)?, factor)));
    let value = found.and_then(|(number, factor)| Some(number.trim().parse::<f64>().ok()? * factor));
    match value {
        Some(value) if (1_000.0..=1e9).contains(&value) => Ok(Bitrate::bps(value as u64)),
        _ => Err("write a bitrate from 1kbps to 1000mbps as 2500kbps or 2.5mbps".into()),
    }
}

impl Arguments {
    fn options(self) -> (Options, Option<PathBuf>) {
        let Publishing {
            publish,
            publish_token,
            bitrate,
            fps,
            pacing,
            no_audio,
            keyframe_interval,
            ignore_pli,
        } = self.publishing;
        let publish = (!publish.is_empty()).then(|| publish::Options {
            urls: publish,
            token: publish_token.or_else(|| std::env::var("MEDIA_TREE_LOAD_PUBLISH_TOKEN").ok()),
            bitrate,
            frame_rate: fps,
            pacing: match pacing {
                PacingName::Burst => Pacing::Burst,
                PacingName::Paced => Pacing::Paced,
            },
            has_audio: !no_audio,
            keyframe_interval: keyframe_interval.get(),
            ignores_keyframe_requests: ignore_pli,
        });
        let options = Options {
            watch: self.watch,
            viewers: self.viewers,
            join_rate: self.join_rate,
            duration: self.duration.get(),
            token: self.token.or_else(|| std::env::var("MEDIA_TREE_LOAD_TOKEN").ok()),
            verify_share: self.verify_share,
            loss: self.loss,
            seed: self.seed,
            churn: self.churn.map(HumanDuration::get),
            threads: self.threads,
            is_coalescing: self.coalesce,
            publish,
        };
        (options, self.json)
    }
}

/// Runs it: progress on standard error, the results in words on standard output, unless JSON goes there.
///
/// # Errors
/// If there was nothing to measure, nobody could join, or the results cannot be written.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (options, json) = arguments.options();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(HTTP_THREADS)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let stop = async {
        // Without a handler for it, Ctrl-C ends the program as it always does.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        eprintln!("stopping: sessions are being deleted");
    };
    let summary = runtime.block_on(::load::run(options, tell, stop))?;
    write(&summary, json)?;
    let viewers = &summary.viewers;
    anyhow::ensure!(viewers.wanted == 0 || viewers.joined > 0, "no viewer could join");
    Ok(())
}

fn tell(progress: &Progress) {
    let Progress { elapsed, phase, watching, failed, packets_per_second, mbps } = progress;
    let phase = match phase {
        Phase::Joining => "joining",
        Phase::Settling => "settling",
        Phase::Measuring => "measuring",
        Phase::Closing => "closing",
        Phase::Leaving => "leaving",
    };
    let (seconds, packets) = (Duration::as_secs(elapsed), packets_per_second);
    // Nobody is left to tell if the terminal is gone.
    let _ = writeln!(
        io::stderr(),
        "{seconds:4} s  {phase:<9}  {watching} watching, {failed} failed, {packets:.0} packets/s, {mbps:.1} Mbit/s"
    );
}

fn write(summary: &Summary, json: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(path) = json else {
        print!("{summary}");
        return Ok(());
    };
    let document = serde_json::to_string_pretty(summary)?;
    if path.as_os_str() == "-" {
        eprint!("{summary}");
        println!("{document}");
        return Ok(());
    }
    print!("{summary}");
    let mut file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    writeln!(file, "{document}").with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitrates_are_read_with_their_unit() {
        assert_eq!(bitrate("2500kbps"), Ok(Bitrate::kbps(2500)));
        assert_eq!(bitrate("2.5Mbps"), Ok(Bitrate::kbps(2500)));
        assert_eq!(bitrate("20000bps"), Ok(Bitrate::kbps(20)));
        for refused in ["2500", "kbps", "-3mbps", "10bps", "NaNkbps"] {
            assert!(bitrate(refused).is_err(), "{refused}");
        }
    }
}
