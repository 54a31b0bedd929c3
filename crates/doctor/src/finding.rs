//! From what is true at each look to what is told: hysteresis, and causes before what follows from them.

use std::collections::BTreeMap;
use std::time::Instant;

use ingest::{Connection, Stats};
use model::ObsVersion;

use crate::code::{Code, Entry};
use crate::history::History;
use crate::keyframes::Keyframes;
use crate::sign::{Figures, Sign};
use crate::{encoder, keyframes, presence, uplink};

/// Something that could be better.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// What.
    pub code: Code,
    /// What it is at present, in a sentence with figures.
    pub what: String,
    /// The figures.
    pub figures: Figures,
    /// Since when it is told.
    pub since: Instant,
}

/// Looks after one publisher. There are at most as many findings as codes.
#[derive(Debug, Default)]
pub struct Doctor {
    history: History,
    keyframes: Keyframes,
    watches: BTreeMap<Code, Watch>,
    obs: Option<ObsVersion>,
}

/// What is true at one look, with the figures.
pub(crate) type Signs = BTreeMap<Code, Sign>;

#[derive(Debug, Default)]
struct Watch {
    /// True without a break since then.
    true_since: Option<Instant>,
    /// Untrue without a break since then.
    untrue_since: Option<Instant>,
    told: Option<(Instant, Sign)>,
}

/// The cause, and what is not told while it is: it follows from it, or the same remedy helps.
const CAUSES: [(Code, &[Code]); 9] = [
    (
        Code::NoMedia,
        &[Code::NoPicture, Code::NoAudio, Code::NoAudioTrack, Code::NoKeyframe, Code::KeyframeInterval],
    ),
    (Code::NoPicture, &[Code::NoKeyframe, Code::KeyframeInterval]),
    (Code::NoKeyframe, &[Code::KeyframeInterval]),
    (
        Code::FallsBehind,
        &[
            Code::BitrateBeyondLink,
            Code::FrameRateUnsteady,
            Code::KeyframeInterval,
            Code::UplinkJitter,
            Code::AvSkew,
        ],
    ),
    (Code::AheadOfTime, &[Code::UplinkJitter, Code::AvSkew, Code::BitrateHigh]),
    (
        Code::BitrateBeyondLink,
        &[
            Code::UplinkDamage,
            Code::UplinkLoss,
            Code::UplinkJitter,
            Code::RoundTripLong,
            Code::FrameRateUnsteady,
            Code::AvSkew,
            Code::KeyframeInterval,
            Code::NoKeyframe,
        ],
    ),
    (
        Code::UplinkDamage,
        &[Code::UplinkLoss, Code::FrameRateUnsteady, Code::KeyframeInterval, Code::NoKeyframe],
    ),
    (Code::UplinkLoss, &[Code::FrameRateUnsteady]),
    (Code::BFrames, &[Code::AvSkew]),
];

impl Doctor {
    /// The publisher says that it is this version of OBS, or nothing of the kind.
    pub const fn publishes_with(&mut self, obs: Option<ObsVersion>) {
        self.obs = obs;
    }

    /// Looks at the publisher; to be called about once a second.
    pub fn observe(&mut self, now: Instant, stats: &Stats) {
        self.history.push(now, stats);
        let mut signs = Signs::new();
        match stats.connection {
            Connection::Awaited | Connection::Heard => {
                presence::unconnected(&self.history, now, &mut signs);
            }
            Connection::Connected | Connection::Reliable => {
                self.keyframes.observe(now, stats);
                presence::check(&self.history, now, &mut signs);
                encoder::check(&self.history, &mut signs);
                encoder::version(self.obs, &mut signs);
                keyframes::check(&self.keyframes, &self.history, now, &mut signs);
                uplink::check(&self.history, &mut signs);
            }
        }
        for entry in &Entry::ALL {
            let sign = signs.remove(&entry.code);
            if sign.is_some() || self.watches.contains_key(&entry.code) {
                self.watches.entry(entry.code).or_default().follow(now, entry, sign);
            }
        }
        self.watches.retain(|_, watch| watch.true_since.is_some() || watch.told.is_some());
    }

    /// What is to be told now, the gravest first.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let is_told = |code: &Code| self.watches.get(code).is_some_and(|watch| watch.told.is_some());
        let follows =
            |code: &Code| CAUSES.iter().any(|(cause, effects)| effects.contains(code) && is_told(cause));
        let told = self.watches.iter().filter(|(code, _)| !follows(code)).filter_map(|(code, watch)| {
            let (since, Sign { what, figures }) = watch.told.clone()?;
            Some(Finding { code: *code, what, figures, since })
        });
        let mut findings: Vec<Finding> = told.collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.code.entry().severity));
        findings
    }
}

impl Watch {
    fn follow(&mut self, now: Instant, entry: &Entry, sign: Option<Sign>) {
        let Some(sign) = sign else {
            self.true_since = None;
            let untrue_since = *self.untrue_since.get_or_insert(now);
            if now.saturating_duration_since(untrue_since) >= entry.ends_after {
                self.told = None;
            }
            return;
        };
        self.untrue_since = None;
        let true_since = *self.true_since.get_or_insert(now);
        match &mut self.told {
            Some((_, told)) => *told = sign,
            None if now.saturating_duration_since(true_since) >= entry.begins_after => {
                self.told = Some((now, sign));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "a test begins now")]

    use std::time::Duration;

    use super::*;

    /// What is told after each second, for a sign that is there in the seconds marked with an x.
    fn told(entry: &Entry, signs: &str) -> String {
        let (start, mut watch) = (Instant::now(), Watch::default());
        let look = |(second, sign): (usize, char)| {
            let now = start + Duration::from_secs(second as u64);
            watch.follow(now, entry, (sign == 'x').then(Sign::default));
            if watch.told.is_some() { 'x' } else { '.' }
        };
        signs.chars().enumerate().map(look).collect()
    }

    #[test]
    fn what_flaps_is_told_once_or_never() {
        // Begins after 3 s, ends after 10 s.
        let entry = Code::BFrames.entry();
        assert_eq!(told(entry, "xxx.xxx.xxx."), "............");
        assert_eq!(told(entry, "xxxxxxx"), "...xxxx");
        assert_eq!(told(entry, "xxxx....x.........x..........."), "...xxxxxxxxxxxxxxxxxxxxxxxxxx.");
    }
}
