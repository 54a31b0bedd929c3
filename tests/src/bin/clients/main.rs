//! Real clients, minutes of each: who publishes, who watches, what comes of it, and what comes of cuts and narrow links. What
//! was seen in five minutes and more goes, dated, into `docs/compatibility.md`; of an hour of RTMP into a page of its own.
//!
//! Needs root, for network namespaces.

mod abr;
mod direct;
mod hour;
mod plot;
mod publishers;
mod report;
mod stage;
mod trials;
mod versions;
mod viewers;

use std::time::{Duration, Instant};

use ::tests::tools;
use anyhow::{Context as _, bail, ensure};
use futures_util::future::join_all;
use publishers::Publisher;
use report::Report;
use stage::Stage;
use viewers::Viewer;

/// How long each pair streams, in minutes, unless the command line says otherwise, and an encoder of [`hour::ENCODERS`].
const MINUTES: f64 = 5.0;
const MINUTES_OF_HOUR: f64 = 60.0;
/// In these a browser sends to another one without a server, to compare with.
const DIRECT_CODECS: [&str; 4] = ["h264", "vp8", "vp9", "av1"];
/// What freezes are compared with needs no longer than this, in each of them.
const DIRECT_MAX: Duration = Duration::from_secs(60);
/// A step of the narrow link is this part of a pair's length, but never too short for a player to act.
const STEPS_A_PAIR: u32 = 10;
const STEP_MIN: Duration = Duration::from_secs(10);

/// Those of one line are played side by side: two cores carry so much.
const STAGES: [&[Stage]; 10] = [
    &[stage("chromium-h264", Publisher::Chromium("h264"), &[Viewer::Chromium, Viewer::GStreamer])],
    &[stage("chromium-vp8", Publisher::Chromium("vp8"), &[Viewer::Chromium])],
    &[
        stage("obs", Publisher::Obs, &[Viewer::Chromium]),
        stage("ffmpeg-rtmp", Publisher::FfmpegRtmp, &[Viewer::Chromium]),
    ],
    &[
        stage("chromium-vp9", Publisher::Chromium("vp9"), &[Viewer::Chromium]),
        stage("ffmpeg-whip", Publisher::FfmpegWhip, &[Viewer::Chromium]),
    ],
    &[
        stage("chromium-av1", Publisher::Chromium("av1"), &[Viewer::Chromium]),
        stage("gstreamer", Publisher::GStreamer, &[Viewer::Chromium]),
    ],
    &[stage("firefox-watches", Publisher::Chromium("vp8"), &[Viewer::Firefox])],
    &[stage("firefox", Publisher::Firefox("vp8"), &[Viewer::Chromium])],
    &[stage("obs29", Publisher::ObsStudioRtmp, &[Viewer::Chromium])],
    &[stage("obs30", Publisher::ObsStudioWhip, &[Viewer::Chromium])],
    &[stage("obs32", Publisher::ObsStudioLayers, &[Viewer::Chromium])],
];

const fn stage(name: &'static str, publisher: Publisher, viewers: &'static [Viewer]) -> Stage {
    Stage { name, publisher, viewers }
}

/// Of all that goes into the page, in its order.
fn stage_names() -> Vec<&'static str> {
    let stages = STAGES.iter().flat_map(|line| line.iter()).map(|stage| stage.name);
    std::iter::once("direct").chain(stages).chain(["abr"]).collect()
}

/// What the command line wants.
#[derive(Debug, PartialEq)]
struct Wanted {
    length: Duration,
    /// Of those that take an hour.
    hour: Duration,
    /// All if there are none.
    names: Vec<String>,
}

impl Wanted {
    fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let (mut minutes, mut names) = (None, Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--minutes" => minutes = Some(arguments.next().context("--minutes NUMBER")?.parse()?),
                option if option.starts_with('-') => bail!("{option} is not known; there is --minutes"),
                _ => names.push(argument),
            }
        }
        ensure!((0.1..=600.0).contains(&minutes.unwrap_or(MINUTES)), "from 0.1 to 600 minutes");
        let hours = hour::ENCODERS.map(|(name, _)| name);
        let known: Vec<&str> = stage_names().into_iter().chain(hours).collect();
        for name in &names {
            ensure!(known.contains(&name.as_str()), "{name} is none of {}", known.join(", "));
        }
        let in_minutes = |minutes: f64| Duration::from_secs_f64(minutes * 60.0);
        Ok(Self {
            length: in_minutes(minutes.unwrap_or(MINUTES)),
            hour: in_minutes(minutes.unwrap_or(MINUTES_OF_HOUR)),
            names,
        })
    }

    fn is(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }

    /// Whether what is seen is worth to be written down.
    fn is_kept(&self) -> bool {
        self.length >= Duration::from_secs_f64(MINUTES * 60.0)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted = Wanted::parse(std::env::args().skip(1))?;
    ensure!(tools::is_root("clients"), "clients live in network namespaces, which need root");
    let begun = Instant::now();
    let versions = versions::all().await?;
    let firefox = versions::codecs_of_firefox().await?;
    let mut report = Report::new();
    let length = wanted.length;
    // Whoever is tried alone is judged by what a perfect machine would do.
    let mut freezes = (0, DIRECT_MAX);
    if wanted.is("direct") {
        let length = length.min(DIRECT_MAX);
        freezes = (0, length * DIRECT_CODECS.len() as u32);
        for codec in DIRECT_CODECS {
            match direct::run(codec, length).await {
                Ok(seen) => {
                    freezes.0 += seen.viewing.freeze_count;
                    report.add_direct(&seen, length);
                }
                Err(error) => report.add_failure("direct", &error, length),
            }
        }
    }
    for line in STAGES {
        let chosen = line.iter().copied().filter(|stage| wanted.is(stage.name));
        let (there, missing): (Vec<Stage>, Vec<Stage>) = chosen.partition(Stage::can_run);
        missing.iter().for_each(|stage| report.add_left_out(stage.name, stage.publisher.name()));
        let played =
            there.into_iter().map(|stage| async move { (stage.name, stage::run(stage, length).await) });
        for (name, played) in join_all(played).await {
            match played {
                Ok(played) => {
                    played.outcomes.iter().for_each(|outcome| report.add(name, outcome, length, freezes));
                    played.end.unwrap_or_else(|error| report.add_bad_end(name, &error, length));
                }
                Err(error) => report.add_failure(name, &error, length),
            }
        }
        if wanted.is_kept() {
            // So that what was seen stands there if the rest is not.
            report.keep(&versions, &firefox, &stage_names())?;
        }
    }
    if wanted.is("abr") {
        match abr::run((length / STEPS_A_PAIR).max(STEP_MIN), wanted.is_kept()).await {
            Ok(narrowing) => report.add_narrowing(&narrowing, length),
            Err(error) => report.add_failure("abr", &error, length),
        }
    }
    for (name, publisher) in hour::ENCODERS {
        // Only if it is named.
        if wanted.names.is_empty() || !wanted.is(name) || !stage(name, publisher, &[]).can_run() {
            continue;
        }
        match hour::run(publisher, wanted.hour).await {
            Ok(hour) => {
                report.add_hour(name, &hour, wanted.hour);
                if wanted.hour >= Duration::from_secs(3600) {
                    hour.write(name)?;
                }
            }
            Err(error) => report.add_failure(name, &error, wanted.hour),
        }
    }
    println!("\nall of it took {:.0?}", begun.elapsed());
    if wanted.is_kept() {
        report.keep(&versions, &firefox, &stage_names())?;
    } else {
        println!("{}", report.text(&versions, &firefox));
    }
    ensure!(report.failures().is_empty(), "not as it should be: {}", report.failures().join("; "));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Wanted> {
        Wanted::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_names_stages_and_their_length() {
        let whole = parse("").expect("nothing is needed");
        assert_eq!((whole.length, whole.is_kept()), (Duration::from_secs(300), true));
        let short = parse("--minutes 0.5 obs abr").expect("two of them");
        assert!(!short.is("obs29") && parse("obs29").expect("one").is("obs29"));
        assert_eq!((short.length, short.is_kept()), (Duration::from_secs(30), false));
        assert_eq!((short.is("obs"), short.is("abr"), short.is("firefox")), (true, true, false));
        assert_eq!(whole.hour, Duration::from_secs(3600));
        assert_eq!(parse("--minutes 2 rtmp-hour-obs").expect("shorter").hour, Duration::from_secs(120));
        for wrong in ["--minutes", "--minutes 0", "--minutes x", "--hours 1", "safari"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
