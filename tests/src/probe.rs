//! Looks at what a page shows and plays: how old its pictures are, and how well its sound goes with them.
//!
//! Pictures tell their time by the code of `web/timecode.js`, sound by a beep at every full second of that code. When a
//! picture is on screen the browser says; a beep is heard when the browser's sound card plays it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Deserialize;

use crate::browser::{Browser, Page};

const SCRIPT: &str = include_str!("probe.js");
/// The element of the player's page.
pub const PLAYER: &str = "document.querySelector('media-tree-player').video";
/// From one beep to the next, in ms.
const BEEP_INTERVAL: f64 = 1000.0;
/// Codes around a beep that tell how old the picture is at the time.
const CODES_AROUND: usize = 9;

/// What was seen and heard for a while; times in ms since 1970.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Samples {
    /// When a picture was on screen, and its code.
    pub codes: Vec<(f64, f64)>,
    /// When beeps were heard; none without a sound card.
    #[serde(skip)]
    pub beeps: Vec<f64>,
    /// Freezes, for browsers that do not count them.
    pub freezes: u64,
    /// How long they took together, in ms.
    pub frozen_ms: f64,
}

/// What the code of a picture says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clock {
    /// The time of its capture, in ms since 1970.
    Capture,
    /// Its place, in ms, in a recording of this length that began at this time and is played over and over.
    Recording {
        /// In ms since 1970.
        began: f64,
        /// One turn.
        length: Duration,
    },
}

impl Samples {
    /// How old the pictures were on screen, in ms, in the order in which they came.
    #[must_use]
    pub fn ages(&self, clock: Clock) -> Vec<f64> {
        let age = |&(shown, code): &(f64, f64)| match clock {
            Clock::Capture => shown - code,
            Clock::Recording { began, length } => {
                (shown - began - code).rem_euclid(length.as_secs_f64() * 1000.0)
            }
        };
        self.codes.iter().map(age).collect()
    }

    /// By how much each beep was heard after the picture that belongs to it was on screen, in ms; negative if before.
    #[must_use]
    pub fn lip_sync(&self) -> Vec<f64> {
        let offset = |&beep: &f64| {
            let middle = self.codes.partition_point(|&(shown, _)| shown < beep);
            let from = middle.saturating_sub(CODES_AROUND / 2 + 1);
            let to = (middle + CODES_AROUND / 2).min(self.codes.len());
            let around = self.codes[from..to].iter();
            // Whole seconds do not matter, and so it does not matter what the code counts from.
            let offsets = around.map(|(shown, code)| wrap(beep - (shown - code))).collect::<Vec<_>>();
            let first = *offsets.first()?;
            // Around the first one, so that those at both ends of the circle do not cancel out.
            quantile(&offsets.iter().map(|offset| wrap(offset - first)).collect::<Vec<_>>(), 0.5)
                .map(|middle| wrap(first + middle))
        };
        self.beeps.iter().filter_map(offset).collect()
    }
}

/// Between minus half and half an interval of beeps.
fn wrap(offset: f64) -> f64 {
    (offset + BEEP_INTERVAL / 2.0).rem_euclid(BEEP_INTERVAL) - BEEP_INTERVAL / 2.0
}

/// The value that `share` of the values do not exceed; `None` if there are none.
#[must_use]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

/// Begins to look at the element that the JavaScript expression `element` gives.
///
/// # Errors
/// If the page has no time code to read with.
pub async fn begin(page: &Page, element: &str) -> anyhow::Result<()> {
    page.evaluate(&format!("(async () => {{ {SCRIPT}\nawait probe.begin(() => {element}); }})()"))
        .await
        .map(drop)
}

/// What was seen on this page of a browser, and heard, since the last time.
///
/// # Errors
/// If the page breaks, or nobody hears the browser's sound card.
pub async fn take(browser: &Browser, page: &Page) -> anyhow::Result<Samples> {
    let seen: Samples = serde_json::from_value(page.evaluate("probe.take()").await?).context("samples")?;
    Ok(Samples { beeps: browser.beeps()?, ..seen })
}

/// From now on a picture is waited for.
///
/// # Errors
/// If the page breaks.
pub async fn arm(page: &Page) -> anyhow::Result<()> {
    page.evaluate("probe.arm()").await.map(drop)
}

/// Waits until so many pictures have come since [`arm`], and gives when the first of them did.
///
/// # Errors
/// If they do not come in time.
pub async fn until_playing(page: &Page, pictures: u32, patience: Duration) -> anyhow::Result<SystemTime> {
    page.wait_until(&format!("probe.isPlaying({pictures})"), patience).await?;
    let at = page.evaluate("probe.resumedAt").await?.as_f64().context("a time")?;
    Ok(UNIX_EPOCH + Duration::from_secs_f64(at / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures 60 ms old on screen, five a second for 20 s, and beeps that are heard `sound` ms after they were made.
    fn samples(sound: f64, code: impl Fn(f64) -> f64) -> Samples {
        let began = 1_700_000_000_400.0;
        let codes = (0..100).map(|index| began + 200.0 * f64::from(index));
        let beeps = (1..20).map(|second| 1_700_000_000_000.0 + 1000.0 * f64::from(second) + sound);
        Samples {
            codes: codes.map(|made| (made + 60.0, code(made))).collect(),
            beeps: beeps.collect(),
            ..Samples::default()
        }
    }

    fn is_about(found: &[f64], wanted: f64) -> bool {
        !found.is_empty() && found.iter().all(|value| (value - wanted).abs() < 0.01)
    }

    #[test]
    fn sound_is_before_or_after_its_picture() {
        for (sound, wanted) in [(60.0, 0.0), (95.0, 35.0), (20.0, -40.0), (460.0, 400.0)] {
            let found = samples(sound, |made| made).lip_sync();
            assert!(is_about(&found, wanted), "{sound}: {found:?}");
        }
    }

    #[test]
    fn a_recording_has_the_same_lip_sync_and_its_own_age() {
        let (began, length) = (1_699_999_999_000.0, Duration::from_secs(16));
        let seen = samples(95.0, |made| (made - began).rem_euclid(16_000.0));
        assert!(is_about(&seen.lip_sync(), 35.0), "{:?}", seen.lip_sync());
        let ages = seen.ages(Clock::Recording { began, length });
        assert!(is_about(&ages, 60.0), "{ages:?}");
        assert!(is_about(&samples(95.0, |made| made).ages(Clock::Capture), 60.0));
    }

    #[test]
    fn without_pictures_there_is_nothing_to_compare_with() {
        let seen = Samples { beeps: vec![1.0], ..Samples::default() };
        assert_eq!((seen.lip_sync(), seen.ages(Clock::Capture)), (Vec::new(), Vec::new()));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), Some(2.0));
    }
}
