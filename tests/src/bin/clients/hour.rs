//! An encoder over RTMP for an hour: whether sound and picture part, and whether pictures grow old.

use std::fmt::Write as _;
use std::time::Duration;

use ::tests::network::Hosts;
use ::tests::probe::quantile;
use ::tests::program::until;
use anyhow::Context as _;

use crate::publishers::Publisher;
use crate::viewers::{Seen, Viewer};

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
    has_sound: bool,
}

/// All minutes, in their order.
pub struct Hour {
    minutes: Vec<Minute>,
}

/// Debian's ffmpeg publishes for `length`, with a whole minute at least; a Chromium watches.
pub async fn run(length: Duration) -> anyhow::Result<Hour> {
    let hosts = Hosts::new(65, &["in", "out"])?;
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]).start().await?;
    let publishing = Publisher::FfmpegRtmp.start(&injection).await.context("publish")?;
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
            has_sound,
        };
        println!("minute {number}: {minute:?}");
        minutes.push(minute);
    }
    let starts = publishing.starts();
    watching.close().await.context("the viewer's end")?;
    publishing.close().await.context("the publisher's end")?;
    anyhow::ensure!(starts == 1, "the encoder was started {starts} times");
    Ok(Hour { minutes })
}

impl Hour {
    /// In words, and what was not as it should be.
    pub fn words(&self) -> (String, Vec<String>) {
        let mut found = Vec::new();
        for (number, minute) in (1..).zip(&self.minutes) {
            if minute.pictures == 0 || !minute.has_sound {
                found.push(format!("rtmp-hour, minute {number}: no picture, or no sound"));
            }
        }
        let mut text = format!("\nffmpeg over RTMP, {} minutes\n", self.minutes.len());
        let ages: Vec<f64> = self.minutes.iter().filter_map(|minute| minute.age).collect();
        let offsets: Vec<f64> = self.minutes.iter().filter_map(|minute| minute.lip_sync).collect();
        for (what, values, most, is_signed) in [
            ("glass to glass", &ages, AGE_DRIFT_MAX, false),
            ("sound after its picture", &offsets, LIP_SYNC_DRIFT_MAX, true),
        ] {
            let [Some(first), Some(last)] = [values.first(), values.last()] else {
                found.push(format!("rtmp-hour: {what} could not be measured"));
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
                 at most"
            );
            if drift > most {
                found.push(format!("rtmp-hour: {what} moves by {drift:.0} ms"));
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
            has_sound: true,
        };
        Hour { minutes: values.iter().map(minute).collect() }
    }

    #[test]
    fn drift_in_any_minute_is_found() {
        let judge = |values: &[(f64, f64)]| hour(values).words().1;
        assert_eq!(judge(&[(300.0, 10.0), (320.0, -20.0), (100.0, 50.0)]), [""; 0]);
        assert_eq!(
            judge(&[(300.0, 10.0), (501.0, 10.0), (300.0, 10.0)]),
            ["rtmp-hour: glass to glass moves by 201 ms"]
        );
        assert_eq!(
            judge(&[(300.0, 10.0), (300.0, -40.0)]),
            ["rtmp-hour: sound after its picture moves by 50 ms"]
        );
    }

    #[test]
    fn what_is_missing_is_found() {
        let mut silent = hour(&[(300.0, 10.0), (300.0, 10.0)]);
        silent.minutes[1].has_sound = false;
        assert_eq!(silent.words().1, ["rtmp-hour, minute 2: no picture, or no sound"]);
        assert_eq!(Hour { minutes: Vec::new() }.words().1.len(), 2);
    }

    #[test]
    fn first_last_and_most_are_told() {
        let (text, _) = hour(&[(300.0, 10.0), (420.0, 12.0), (310.0, 11.0)]).words();
        assert!(
            text.contains("first 300 ms, last 310 ms, most 420 ms; away from the first by 120 ms"),
            "{text}"
        );
    }
}
