//! How often keyframes come, and whether the encoder sends one when it is asked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ingest::{LayerStats, Stats};
use model::{Codec, Kind, Ssrc};

use crate::code::Code;
use crate::finding::Signs;
use crate::history::History;
use crate::sign::Sign;

/// Keyframes farther apart than this are worth a word: 2 s are recommended, and encoders round.
const INTERVAL_MAX: Duration = Duration::from_millis(3200);
/// Without a keyframe for so long, newcomers are served from memory no more.
const AGE_MAX: Duration = Duration::from_secs(10);
/// A request that was not answered within this time was not heard.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Requests that tell whether a publisher answers; of the latest eight.
const VERDICTS_MIN: u32 = 3;
/// Keyframes in a row without parameter sets.
const BARE_KEYFRAMES_MIN: u64 = 3;

/// What is remembered of the keyframes of each layer.
#[derive(Debug, Default)]
pub(crate) struct Keyframes {
    layers: BTreeMap<Ssrc, Layer>,
}

#[derive(Debug, Default)]
struct Layer {
    requests: u64,
    keyframes: u64,
    /// When a request was seen, and the keyframes before it.
    asked: Option<(Instant, u64)>,
    /// The latest answers, the newest in the lowest bit: 1 where none came.
    unanswered: u8,
    verdicts: u32,
    sets: u64,
    /// Keyframes when the latest parameter set came.
    keyframes_with_sets: u64,
    /// The longest interval of the latest two.
    intervals: [Option<Duration>; 2],
}

impl Layer {
    fn observe(&mut self, now: Instant, layer: &LayerStats) {
        if let Some((at, before)) = self.asked {
            let is_answered = layer.facts.keyframes > before;
            if is_answered || now.saturating_duration_since(at) >= ANSWER_MAX {
                self.unanswered = self.unanswered << 1 | u8::from(!is_answered);
                self.verdicts = (self.verdicts + 1).min(u8::BITS);
                self.asked = None;
            }
        } else if layer.keyframe_requests > self.requests {
            self.asked = Some((now, self.keyframes));
        }
        self.requests = layer.keyframe_requests;
        if layer.facts.keyframes > self.keyframes {
            self.intervals = [layer.keyframe_interval, self.intervals[0]];
        }
        self.keyframes = layer.facts.keyframes;
        if layer.facts.parameter_sets > self.sets {
            self.keyframes_with_sets = layer.facts.keyframes;
        }
        self.sets = layer.facts.parameter_sets;
    }

    /// Whether the publisher sends a keyframe when it is asked. Browsers do; a publisher that claims it and cannot even
    /// send again in a stream of its own is no browser (OBS), and one that was seen not to do it does not either.
    fn answers(&self, layer: &LayerStats) -> bool {
        let is_deaf = self.verdicts >= VERDICTS_MIN && 2 * self.unanswered.count_ones() > self.verdicts;
        layer.facts.takes_keyframe_requests && layer.facts.has_retransmissions && !is_deaf
    }

    fn interval(&self) -> Option<Duration> {
        self.intervals.into_iter().flatten().max()
    }
}

impl Keyframes {
    pub(crate) fn observe(&mut self, now: Instant, stats: &Stats) {
        let pictures = || stats.layers.iter().filter(|layer| layer.kind == Kind::Video);
        self.layers.retain(|ssrc, _| pictures().any(|layer| layer.ssrc == *ssrc));
        for layer in pictures() {
            self.layers.entry(layer.ssrc).or_default().observe(now, layer);
        }
    }
}

pub(crate) fn check(keyframes: &Keyframes, history: &History, now: Instant, signs: &mut Signs) {
    for change in history.changes_of(Kind::Video, 2).filter(|change| change.is_flowing()) {
        let layer = change.now;
        let Some(known) = keyframes.layers.get(&layer.ssrc) else { continue };
        let bare = known.keyframes.saturating_sub(known.keyframes_with_sets);
        if layer.codec == Some(Codec::H264) && bare >= BARE_KEYFRAMES_MIN {
            let what = format!("The last {bare} keyframes came without parameter sets.");
            signs.insert(Code::ParameterSets, Sign::from(what).number("keyframes", bare as f64));
        }
        let Some(age) = layer.keyframe_at.map(|at| now.saturating_duration_since(at)) else { continue };
        if known.answers(layer) {
            continue;
        }
        let interval = known.interval();
        if age > AGE_MAX.max(interval.unwrap_or_default() * 2) {
            let what = format!("There was no keyframe for {} s.", age.as_secs());
            signs.insert(Code::NoKeyframe, Sign::from(what).number("age", age.as_secs() as f64));
        }
        let apart = interval.unwrap_or_default().max(age);
        if apart > INTERVAL_MAX {
            let sign = match interval.filter(|interval| *interval >= age) {
                Some(interval) => {
                    let seconds = interval.as_secs_f64();
                    Sign::from(format!("Keyframes are {seconds:.1} s apart.")).number("interval", seconds)
                }
                None => {
                    let seconds = age.as_secs();
                    let what = format!("The latest keyframe is {seconds} s old.");
                    Sign::from(what).number("age", seconds as f64)
                }
            };
            signs.insert(Code::KeyframeInterval, sign);
        }
    }
}
