//! Decoded sound onto the publisher's clock: frames of 20 ms without a break, each with the time of its first sample.
//!
//! Every piece of sound comes with a time. Counting samples says when it would be played; the difference tells what to
//! do. Time stamps are rounded and sound cards are inexact, so small differences are smoothed and made up for by pitch,
//! by less than anybody hears. The state is one position and one count, so errors do not add up.

use std::collections::VecDeque;

use model::MediaTime;

use crate::resample::{Kernel, REACH};
use crate::{FRAME_SAMPLES, SAMPLE_RATE, Sample};

/// Differences below it are made up for by pitch; 40 ms, twice what encoders jitter. In ticks.
const STEADY_TICKS: f64 = 0.040 * SAMPLE_RATE as f64;
/// The same while sound that was played already is being cut; 5 ms. In ticks.
const EXACT_TICKS: f64 = 0.005 * SAMPLE_RATE as f64;
/// Gaps below it are filled with silence, longer ones stay gaps of the timestamps; 200 ms. In ticks.
const FILLED_TICKS: f64 = 0.200 * SAMPLE_RATE as f64;
/// A difference is made up for in about this time; seconds. With 100 ppm of drift 0.5 ms remain.
const CATCH_UP_SECONDS: f64 = 5.0;
/// Largest change of pitch: a twelfth of a semitone.
const PITCH_MAX: f64 = 0.005;
/// How much of a difference is believed at once.
const BELIEF: f64 = 1.0 / 16.0;
/// Sound that begins after silence is faded in over so many samples, or it clicks.
const FADE_SAMPLES: usize = 240;
/// Longest piece of sound that is taken, in samples: no frame of AAC or MP3 comes near it.
const PIECE_SAMPLES_MAX: usize = 8192;

/// 20 ms of sound.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// Time of its first sample, in ticks of 48 kHz from the media clock's origin.
    pub(crate) ticks: i64,
    /// The first one, or the first one after a gap.
    pub(crate) begins: bool,
    /// [`FRAME_SAMPLES`] of them, left and right in turn.
    pub(crate) samples: Vec<f32>,
}

/// Where a piece of sound went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// After the one before, or at the beginning.
    Next,
    /// After silence that fills a short gap.
    AfterSilence,
    /// After a gap of the timestamps.
    AfterGap,
    /// All of it, or the beginning, had been played already and was cut.
    Cut,
}

/// The clock of one track.
pub(crate) struct Retimer {
    kernel: Kernel,
    /// Samples in a second of what comes in.
    rate: u32,
    /// What has come; what lies [`REACH`] before the position is dropped.
    input: Vec<Sample>,
    /// Where in it the next outgoing sample lies.
    position: f64,
    /// When that is played; `None` before the first piece.
    next: Option<i64>,
    begins: bool,
    /// The latest piece was cut altogether.
    is_cutting: bool,
    /// Smoothed difference between the times that are said and those that are counted, in ticks.
    deviation: f64,
    frames: VecDeque<Frame>,
}

impl Retimer {
    /// For sound of this rate. `next` goes on with the clock of an earlier one.
    pub(crate) fn new(rate: u32, next: Option<i64>) -> Self {
        Self {
            kernel: Kernel::new(rate),
            rate,
            input: vec![[0.0; 2]; REACH],
            position: REACH as f64,
            next,
            begins: true,
            is_cutting: false,
            deviation: 0.0,
            frames: VecDeque::new(),
        }
    }

    /// When the next outgoing sample is played.
    pub(crate) const fn next(&self) -> Option<i64> {
        self.next
    }

    /// Takes a piece of sound whose first sample has this time.
    pub(crate) fn push(&mut self, time: MediaTime, piece: &[Sample]) -> Placed {
        let piece = &piece[..piece.len().min(PIECE_SAMPLES_MAX)];
        let ticks = time.ticks(SAMPLE_RATE);
        let Some(next) = self.next else {
            self.next = Some(ticks);
            self.append(0, piece);
            return Placed::Next;
        };
        let per_sample = f64::from(SAMPLE_RATE) / f64::from(self.rate);
        let waiting = (self.input.len() as f64 - self.position) * per_sample;
        let difference = (ticks - next) as f64 - waiting;
        let back = if self.is_cutting { EXACT_TICKS } else { STEADY_TICKS };
        if difference > FILLED_TICKS {
            self.finish();
            self.next = Some(ticks.max(self.next.unwrap_or(ticks)));
            self.append(0, piece);
            Placed::AfterGap
        } else if difference > STEADY_TICKS {
            self.deviation = 0.0;
            self.append((difference / per_sample).round() as usize, piece);
            Placed::AfterSilence
        } else if difference < -back {
            // Time has stepped back: this has been played, or silence in its place.
            self.deviation = 0.0;
            let cut = (-difference / per_sample).round() as usize;
            let rest = piece.get(cut..).unwrap_or_default();
            self.is_cutting = rest.is_empty();
            self.append(0, rest);
            Placed::Cut
        } else {
            self.is_cutting = false;
            self.deviation += (difference - self.deviation) * BELIEF;
            self.append(0, piece);
            Placed::Next
        }
    }

    /// The next whole frame.
    pub(crate) fn poll(&mut self) -> Option<Frame> {
        self.frames.pop_front()
    }

    /// Plays out what waits, with silence up to a whole frame, and begins anew.
    pub(crate) fn finish(&mut self) {
        if (self.input.len() as f64) > self.position {
            let whole = (FRAME_SAMPLES as f64 * self.step()).ceil() as usize;
            let waiting = self.input.len() - self.position as usize;
            let silence = waiting.next_multiple_of(whole) - waiting + REACH + 1;
            self.input.resize(self.input.len() + silence, [0.0; 2]);
            self.play();
        }
        self.input.clear();
        self.input.resize(REACH, [0.0; 2]);
        self.position = REACH as f64;
        self.deviation = 0.0;
        self.begins = true;
    }

    fn append(&mut self, silence: usize, piece: &[Sample]) {
        self.input.resize(self.input.len() + silence, [0.0; 2]);
        let start = self.input.len();
        self.input.extend_from_slice(piece);
        if silence > 0 || start == REACH {
            for (index, sample) in self.input[start..].iter_mut().take(FADE_SAMPLES).enumerate() {
                *sample = sample.map(|value| value * index as f32 / FADE_SAMPLES as f32);
            }
        }
        self.play();
    }

    /// Incoming samples for an outgoing one.
    fn step(&self) -> f64 {
        let pitch = self.deviation / (CATCH_UP_SECONDS * f64::from(SAMPLE_RATE));
        f64::from(self.rate) / f64::from(SAMPLE_RATE) * (1.0 - pitch.clamp(-PITCH_MAX, PITCH_MAX))
    }

    /// Makes all frames that there is sound for.
    fn play(&mut self) {
        let step = self.step();
        while let Some(next) = self.next
            && self.position + FRAME_SAMPLES as f64 * step + (REACH as f64) < self.input.len() as f64
        {
            let mut samples = Vec::with_capacity(2 * FRAME_SAMPLES);
            for index in 0..FRAME_SAMPLES {
                samples.extend(self.kernel.at(&self.input, self.position + index as f64 * step));
            }
            self.position += FRAME_SAMPLES as f64 * step;
            let past = (self.position as usize).saturating_sub(REACH);
            self.input.drain(..past);
            self.position -= past as f64;
            self.frames.push_back(Frame { ticks: next, begins: std::mem::take(&mut self.begins), samples });
            self.next = Some(next + FRAME_SAMPLES as i64);
        }
    }
}

#[cfg(test)]
mod tests;
