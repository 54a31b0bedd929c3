//! Encoders over RTMP for an hour: whether sound and picture part, and whether pictures grow old. What was seen goes, dated, into
//! `docs/rtmp-hour-….md`.

use std::fmt::{self, Write as _};
use std::time::Duration;

use ::tests::host;
use ::tests::network::Hosts;
use ::tests::probe::quantile;
use ::tests::program::until;
use anyhow::Context as _;

use crate::publishers::Publisher;
use crate::report;
use crate::stage;
use crate::versions;
use crate::viewers::{Seen, Viewer};

/// Who publishes, and how the command line and the page call it. One after another: both at once are more than two cores carry
/// for an hour.
pub const ENCODERS: [(&str, Publisher); 2] =
    [("rtmp-hour-ffmpeg", Publisher::FfmpegRtmp), ("rtmp-hour-obs", Publisher::ObsStudioRtmp)];

/// It is looked at in pieces of this length.
const MINUTE: Duration = Duration::from_secs(60);
/// What drifts does so for longer: a minute by itself may be a restless one of this machine's. So many in a row are judged
/// together.
const STRETCH: usize = 5;
/// Sound and picture may be so far from each other, in ms, and move by so much from the first stretch to any other.
const LIP_SYNC_MAX: f64 = 45.0;
/// Pictures may grow older by so much, in ms.
const AGE_DRIFT_MAX: f64 = 200.0;
/// All encoders have so many pictures a minute to send; of them at least so much is shown.
const PICTURES_A_MINUTE: f64 = 1800.0;
const PICTURES_SHOWN_MIN: f64 = 0.9;
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
    let prepared = Viewer::Chromium.prepare().await?;
    let publishing = publisher.start(&injection).await.context("publish")?;
    until("the broadcast is live", async || Ok(egress.metric("pipeline_up{").await? == 1.0)).await?;
    let watching = prepared.watch(&egress).await.context("watch")?;
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
    let sessions = stage::sessions(&injection, &egress).await?;
    watching.close().await.context("the viewer's end")?;
    publishing.close().await.context("the publisher's end")?;
    anyhow::ensure!(starts == 1, "{} was started {starts} times", publisher.name());
    anyhow::ensure!(sessions == (1.0, 1.0), "{}: {sessions:?} sessions in and out", publisher.name());
    Ok(Hour { publisher, minutes })
}

impl Hour {
    /// Writes its page.
    pub fn write(&self, name: &str) -> anyhow::Result<()> {
        let path = report::docs().join(name).with_extension("md");
        std::fs::write(&path, self.page(name)).with_context(|| format!("write {}", path.display()))
    }

    fn page(&self, name: &str) -> String {
        let (words, found) = self.words();
        let verdict = if found.is_empty() {
            "All of it is as it should be.".to_owned()
        } else {
            format!("Not as it should be: {}.", found.join("; "))
        };
        let mut text = format!(
            "# An hour of RTMP: {}\n\nWritten by `cargo xtask clients {name}`; do not edit.\n\n{}; Media-Tree {}; encoder, nodes and \
             viewer all on this one machine. It publishes H264 and AAC over RTMP to an injection node, with settings for low latency, in \
             one session; a Chromium watches at an egress node, in one session, too. {verdict}\n\n{words}\nOf each minute: pictures, the \
             browser's count of freezes, how old pictures were on screen and how much later than its picture a beep was heard, both in \
             ms and in the middle of the minute.\n\n\
             | Minute | Pictures | Freezes | Glass to glass ms | Lip sync ms |\n|---|---|---|---|---|\n",
            self.publisher.name(),
            host::today_and_here(),
            versions::media_tree()
        );
        let or_dash =
            |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        for (number, minute) in (1..).zip(&self.minutes) {
            let Minute { age, lip_sync, pictures, freezes, .. } = *minute;
            let _ = writeln!(
                text,
                "| {number} | {pictures} | {freezes} | {} | {} |",
                or_dash(age),
                or_dash(lip_sync)
            );
        }
        text
    }

    /// In words, and what was not as it should be.
    pub fn words(&self) -> (String, Vec<String>) {
        let name = self.publisher.name();
        let mut found = Vec::new();
        for (number, minute) in (1..).zip(&self.minutes) {
            if minute.pictures == 0 || !minute.has_sound {
                found.push(format!("{name}, minute {number}: no picture, or no sound"));
            }
        }
        let count = self.minutes.len();
        let pictures: u64 = self.minutes.iter().map(|minute| minute.pictures).sum();
        let freezes: u64 = self.minutes.iter().map(|minute| minute.freezes).sum();
        let mut text = format!("{count} minutes, {pictures} pictures, {freezes} freezes.\n");
        if (pictures as f64) < PICTURES_A_MINUTE * PICTURES_SHOWN_MIN * count as f64 {
            found.push(format!("{name}: {pictures} pictures in {count} minutes"));
        }
        if freezes > count as u64 {
            found.push(format!("{name}: {freezes} freezes in {count} minutes"));
        }
        match Course::of(self.minutes.iter().filter_map(|minute| minute.age)) {
            Some(course) => {
                let _ = writeln!(text, "Glass to glass: {course}.");
                // Pictures that get younger are no harm.
                let drift = course.most - course.first;
                if drift > AGE_DRIFT_MAX {
                    found.push(format!("{name}: pictures get older by {drift:.0} ms"));
                }
            }
            None => found.push(format!("{name}: glass to glass could not be measured")),
        }
        match Course::of(self.minutes.iter().filter_map(|minute| minute.lip_sync)) {
            Some(course) => {
                let _ = writeln!(text, "Sound after its picture: {course}.");
                let drift = (course.most - course.first).max(course.first - course.least);
                if drift > LIP_SYNC_MAX {
                    found.push(format!("{name}: sound and picture part by {drift:.0} ms"));
                }
                if course.middle.abs() > LIP_SYNC_MAX {
                    found.push(format!("{name}: sound {:+.0} ms off", course.middle));
                }
            }
            None => found.push(format!("{name}: lip sync could not be measured")),
        }
        (text, found)
    }
}

/// How something went that was measured each minute: the middle of all, and of stretches, in ms.
struct Course {
    middle: f64,
    first: f64,
    last: f64,
    least: f64,
    most: f64,
}

impl Course {
    /// `None` of nothing.
    fn of(minutes: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = minutes.collect();
        let middle = quantile(&values, 0.5)?;
        let stretches: Vec<f64> =
            values.windows(STRETCH.min(values.len())).filter_map(|stretch| quantile(stretch, 0.5)).collect();
        Some(Self {
            middle,
            first: *stretches.first()?,
            last: *stretches.last()?,
            least: quantile(&stretches, 0.0)?,
            most: quantile(&stretches, 1.0)?,
        })
    }
}

impl fmt::Display for Course {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { middle, first, last, least, most } = self;
        write!(
            formatter,
            "{middle:.0} ms; in the first {STRETCH} minutes {first:.0} ms, in the last ones {last:.0} ms, in any {STRETCH} in a row \
             from {least:.0} to {most:.0} ms"
        )
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

    /// So many minutes of `first`, and as many of `then`.
    fn halves(count: usize, first: (f64, f64), then: (f64, f64)) -> Hour {
        hour(&[vec![first; count], vec![then; count]].concat())
    }

    #[test]
    fn drift_is_found_and_a_restless_minute_is_none() {
        let judge = |hour: Hour| hour.words().1;
        assert_eq!(judge(halves(10, (300.0, 10.0), (320.0, -20.0))), [""; 0]);
        assert_eq!(
            judge(halves(10, (300.0, 10.0), (501.0, 10.0))),
            ["ffmpeg, RTMP, zerolatency: pictures get older by 201 ms"]
        );
        assert_eq!(judge(halves(10, (501.0, 10.0), (300.0, 10.0))), [""; 0], "that is no harm");
        for (first, then) in [(10.0, -40.0), (-40.0, 10.0)] {
            assert_eq!(
                judge(halves(10, (300.0, first), (300.0, then))),
                ["ffmpeg, RTMP, zerolatency: sound and picture part by 50 ms"]
            );
        }
        let mut restless = halves(10, (300.0, 10.0), (300.0, 10.0));
        restless.minutes[12] = hour(&[(900.0, 90.0)]).minutes[0];
        assert_eq!(judge(restless), [""; 0]);
        assert_eq!(judge(hour(&[(300.0, 10.0), (600.0, 10.0)])), [""; 0], "too short to say so");
    }

    #[test]
    fn what_is_wrong_all_the_time_is_found_too() {
        let judge = |change: fn(&mut Minute)| {
            let mut hour = halves(5, (300.0, 10.0), (300.0, 10.0));
            hour.minutes.iter_mut().for_each(change);
            hour.words().1
        };
        assert_eq!(
            judge(|minute| minute.lip_sync = Some(-60.0)),
            ["ffmpeg, RTMP, zerolatency: sound -60 ms off"]
        );
        assert_eq!(
            judge(|minute| minute.pictures = 900),
            ["ffmpeg, RTMP, zerolatency: 9000 pictures in 10 minutes"]
        );
        assert_eq!(
            judge(|minute| minute.freezes = 2),
            ["ffmpeg, RTMP, zerolatency: 20 freezes in 10 minutes"]
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
    fn first_last_and_bounds_are_told() {
        let (text, _) = halves(5, (300.0, 10.0), (310.0, 11.0)).words();
        let words = "310 ms; in the first 5 minutes 300 ms, in the last ones 310 ms, in any 5 in a row from 300 to 310 ms.";
        assert!(text.contains(&format!("Glass to glass: {words}\n")), "{text}");
    }

    #[test]
    fn the_page_has_each_minute() {
        let page = hour(&[(300.0, 10.0), (420.0, 12.4)]).page("rtmp-hour-ffmpeg");
        assert!(page.contains("| 2 | 1800 | 0 | 420 | 12 |\n"), "{page}");
        assert!(
            page.contains("All of it is as it should be.\n\n2 minutes, 3600 pictures, 0 freezes.\n"),
            "{page}"
        );
    }
}
