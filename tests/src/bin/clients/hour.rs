//! Encoders over RTMP for an hour: whether sound and picture part, and whether pictures grow old. What was seen goes, dated, into
//! `docs/rtmp-hour.md`.

use std::fmt::Write as _;
use std::time::Duration;

use ::tests::host;
use ::tests::network::Hosts;
use ::tests::probe::quantile;
use ::tests::program::until;
use anyhow::Context as _;

use crate::publishers::Publisher;
use crate::report;
use crate::versions;
use crate::viewers::{Seen, Viewer};

/// Who publishes, side by side.
pub const ENCODERS: [Publisher; 2] = [Publisher::FfmpegRtmp, Publisher::ObsStudio];

/// It is looked at in pieces of this length.
const MINUTE: Duration = Duration::from_secs(60);
/// Sound and picture may part by so much from the first minute to any other, in ms.
const LIP_SYNC_DRIFT_MAX: f64 = 45.0;
/// Pictures may grow older by so much, in ms.
const AGE_DRIFT_MAX: f64 = 200.0;
/// What a browser does in its first seconds, while it looks for the right size of its buffer, is not looked at.
const SETTLING: Duration = Duration::from_secs(15);

/// What came of a minute, in its middle: how old pictures were and how much later than its picture sound was heard, in ms.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Minute {
    age: Option<f64>,
    lip_sync: Option<f64>,
    pictures: u64,
    freezes: u64,
    has_sound: bool,
}

/// All minutes of one encoder, in their order.
pub struct Hour {
    publisher: Publisher,
    minutes: Vec<Minute>,
}

/// The encoder publishes for `length`, with a whole minute at least; a Chromium watches.
pub async fn run(publisher: Publisher, length: Duration) -> anyhow::Result<Hour> {
    let hosts = Hosts::new(65, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let publishing = publisher.start(&injection).await.context("publish")?;
    until("the broadcast is live", async || Ok(egress.metric("pipeline_up{").await? == 1.0)).await?;
    let mut watching = Viewer::Chromium.start(&egress).await.context("watch")?;
    watching.watch(SETTLING, publishing.clock).await?;
    let mut minutes = Vec::new();
    for number in 1..=(length.as_secs() / MINUTE.as_secs()).max(1) {
        let Seen { viewing, ages, lip_sync, has_sound, .. } =
            watching.watch(MINUTE, publishing.clock).await?;
        let minute = Minute {
            age: quantile(&ages, 0.5),
            lip_sync: quantile(&lip_sync, 0.5),
            pictures: viewing.frames_decoded,
            freezes: viewing.freeze_count,
            has_sound,
        };
        println!("{}, minute {number}: {minute:?}", publisher.name());
        minutes.push(minute);
    }
    let starts = publishing.starts();
    watching.close().await.context("the viewer's end")?;
    publishing.close().await.context("the publisher's end")?;
    anyhow::ensure!(starts == 1, "{} was started {starts} times", publisher.name());
    Ok(Hour { publisher, minutes })
}

/// Writes the page.
pub fn write(hours: &[Hour]) -> anyhow::Result<()> {
    let path = report::docs().join("rtmp-hour.md");
    std::fs::write(&path, page(hours)).with_context(|| format!("write {}", path.display()))
}

fn page(hours: &[Hour]) -> String {
    let mut text = format!(
        "# An hour of RTMP\n\nWritten by `cargo xtask clients rtmp-hour`; do not edit.\n\n{}; Media-Tree {}; encoders, nodes and viewers all on \
         this one machine, at the same time. Each encoder publishes over RTMP to an injection node of its own, H264 and AAC, with \
         settings for low latency; a Chromium watches at an egress node. Of each minute: pictures, the browser's count of \
         freezes, how old pictures were on screen and how much later than its picture a beep was heard, both in ms and in the middle of \
         the minute.\n",
        host::today_and_here(),
        versions::media_tree()
    );
    for hour in hours {
        let (words, found) = hour.words();
        let verdict = if found.is_empty() { "As it should be.".to_owned() } else { found.join("; ") };
        let _ = write!(
            text,
            "\n## {}\n\n{words}\n{verdict}\n\n| Minute | Pictures | Freezes | Glass to glass ms | Lip sync ms |\n\
             |---|---|---|---|---|\n",
            hour.publisher.name()
        );
        let or_dash =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        for (number, minute) in (1..).zip(&hour.minutes) {
            let Minute { age, lip_sync, pictures, freezes, .. } = *minute;
            let _ = writeln!(
                text,
                "| {number} | {pictures} | {freezes} | {} | {} |",
                or_dash(age),
                or_dash(lip_sync)
            );
        }
    }
    text
}

impl Hour {
    /// In words, and what was not as it should be.
    pub fn words(&self) -> (String, Vec<String>) {
        let name = self.publisher.name();
        let mut found = Vec::new();
        for (number, minute) in (1..).zip(&self.minutes) {
            if minute.pictures == 0 || !minute.has_sound {
                found.push(format!("{name}, minute {number}: no picture, or no sound"));
            }
        }
        let pictures: u64 = self.minutes.iter().map(|minute| minute.pictures).sum();
        let freezes: u64 = self.minutes.iter().map(|minute| minute.freezes).sum();
        let mut text = format!("{} minutes, {pictures} pictures, {freezes} freezes.\n", self.minutes.len());
        let ages: Vec<f64> = self.minutes.iter().filter_map(|minute| minute.age).collect();
        let offsets: Vec<f64> = self.minutes.iter().filter_map(|minute| minute.lip_sync).collect();
        for (what, values, most, is_signed) in [
            ("Glass to glass", &ages, AGE_DRIFT_MAX, false),
            ("Sound after its picture", &offsets, LIP_SYNC_DRIFT_MAX, true),
        ] {
            let [Some(first), Some(last)] = [values.first(), values.last()] else {
                found.push(format!("{name}: {what} could not be measured"));
                continue;
            };
            // Pictures that get younger are no harm.
            let drifts =
                values.iter().map(|value| if is_signed { (value - first).abs() } else { value - first });
            let drift = drifts.fold(0.0, f64::max);
            let worst = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let _ = writeln!(
                text,
                "{what}: first {first:.0} ms, last {last:.0} ms, most {worst:.0} ms; away from the first by {drift:.0} ms \
                 at most."
            );
            if drift > most {
                found.push(format!("{name}: {what} moves by {drift:.0} ms"));
            }
        }
        (text, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(values: &[(f64, f64)]) -> Hour {
        let minute = |(age, lip_sync): &(f64, f64)| Minute {
            age: Some(*age),
            lip_sync: Some(*lip_sync),
            pictures: 1800,
            freezes: 0,
            has_sound: true,
        };
        Hour { publisher: Publisher::FfmpegRtmp, minutes: values.iter().map(minute).collect() }
    }

    #[test]
    fn drift_in_any_minute_is_found() {
        let judge = |values: &[(f64, f64)]| hour(values).words().1;
        assert_eq!(judge(&[(300.0, 10.0), (320.0, -20.0), (100.0, 50.0)]), [""; 0]);
        assert_eq!(
            judge(&[(300.0, 10.0), (501.0, 10.0), (300.0, 10.0)]),
            ["ffmpeg, RTMP, zerolatency: Glass to glass moves by 201 ms"]
        );
        assert_eq!(
            judge(&[(300.0, 10.0), (300.0, -40.0)]),
            ["ffmpeg, RTMP, zerolatency: Sound after its picture moves by 50 ms"]
        );
    }

    #[test]
    fn what_is_missing_is_found() {
        let mut silent = hour(&[(300.0, 10.0), (300.0, 10.0)]);
        silent.minutes[1].has_sound = false;
        assert_eq!(silent.words().1, ["ffmpeg, RTMP, zerolatency, minute 2: no picture, or no sound"]);
        assert_eq!(hour(&[]).words().1.len(), 2);
    }

    #[test]
    fn first_last_and_most_are_told() {
        let (text, _) = hour(&[(300.0, 10.0), (420.0, 12.0), (310.0, 11.0)]).words();
        assert!(
            text.contains("first 300 ms, last 310 ms, most 420 ms; away from the first by 120 ms"),
            "{text}"
        );
    }

    #[test]
    fn the_page_has_each_minute() {
        let page = page(&[hour(&[(300.0, 10.0), (420.0, 12.4)])]);
        assert!(page.contains("| 2 | 1800 | 0 | 420 | 12 |\n"), "{page}");
        assert!(page.contains("2 minutes, 3600 pictures, 0 freezes.\n"), "{page}");
    }
}
