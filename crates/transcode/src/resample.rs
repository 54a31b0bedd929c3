//! Samples at places between samples: band-limited interpolation with a windowed sinc.
//!
//! The rate may change with every sample, which is what following a clock needs, and at a ratio of one the samples come
//! out as they went in. No delay to account for: the kernel is symmetric about the place asked for.

use crate::{SAMPLE_RATE, Sample};

/// Samples on each side of a place that count.
pub(crate) const REACH: usize = 32;
const TAPS: usize = 2 * REACH;
/// Sums that are kept apart; divides [`TAPS`].
const LANES: usize = 4;
/// Places between two samples for which the kernel is tabled; between these it is interpolated.
const PHASES: usize = 256;
/// Of the Kaiser window: about 90 dB below.
const WINDOW_SHAPE: f64 = 9.0;

/// A kernel for one sampling rate.
pub(crate) struct Kernel {
    /// By phase, one more than there are so that each has a next one.
    taps: Box<[[f32; TAPS]]>,
}

impl Kernel {
    /// For sound of this rate, in samples per second.
    pub(crate) fn new(rate: u32) -> Self {
        // What would not fit below half of the outgoing rate is taken out.
        let cutoff = (f64::from(SAMPLE_RATE) / f64::from(rate)).min(1.0);
        let taps = (0..=PHASES).map(|phase| row(phase as f64 / PHASES as f64, cutoff)).collect();
        Self { taps }
    }

    /// The sample at a place in `input`, which must have [`REACH`] samples on each side of it.
    pub(crate) fn at(&self, input: &[Sample], place: f64) -> Sample {
        let whole = place.floor();
        let phase = (place - whole) * PHASES as f64;
        let (row, blend) = (phase as usize, (phase - phase.floor()) as f32);
        let first = whole as usize + 1 - REACH;
        let (low, high) = (&self.taps[row], &self.taps[row + 1]);
        // Sums of their own for neighbouring samples: the compiler keeps them in one vector register.
        let mut sums = [[0.0; 2]; LANES];
        let groups = input[first..first + TAPS].chunks_exact(LANES);
        for (group, (low, high)) in groups.zip(low.chunks_exact(LANES).zip(high.chunks_exact(LANES))) {
            for lane in 0..LANES {
                let weight = low[lane] + (high[lane] - low[lane]) * blend;
                sums[lane][0] += group[lane][0] * weight;
                sums[lane][1] += group[lane][1] * weight;
            }
        }
        sums.into_iter().fold([0.0; 2], |sum, lane| [sum[0] + lane[0], sum[1] + lane[1]])
    }
}

/// Weights for a place this far behind a sample.
fn row(fraction: f64, cutoff: f64) -> [f32; TAPS] {
    let weight = |tap: usize| {
        let distance = tap as f64 - (REACH - 1) as f64 - fraction;
        sinc(distance * cutoff) * window(distance / REACH as f64)
    };
    let weights: [f64; TAPS] = std::array::from_fn(weight);
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| (weight / sum) as f32)
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

/// The Kaiser window, from -1 to 1.
fn window(x: f64) -> f64 {
    bessel(WINDOW_SHAPE * (1.0 - x * x).max(0.0).sqrt()) / bessel(WINDOW_SHAPE)
}

/// The modified Bessel function of the first kind and order zero.
fn bessel(x: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 1.0;
    for step in 1..40 {
        term *= (x / (2.0 * f64::from(step))).powi(2);
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, hertz: f64, samples: usize) -> Vec<Sample> {
        let step = hertz * std::f64::consts::TAU / f64::from(rate);
        (0..samples)
            .map(|index| [(index as f64 * step).sin() as f32, (index as f64 * step).cos() as f32])
            .collect()
    }

    /// How far the resampled tone is below the true one, in decibels.
    fn error_decibels(rate: u32, hertz: f64) -> f64 {
        let input = tone(rate, hertz, 4000);
        let kernel = Kernel::new(rate);
        let ratio = f64::from(rate) / f64::from(SAMPLE_RATE);
        let (mut error, mut signal) = (0.0, 0.0);
        for index in 0..1500 {
            let place = 100.0 + index as f64 * ratio;
            let truth = (place * hertz * std::f64::consts::TAU / f64::from(rate)).sin();
            let found = f64::from(kernel.at(&input, place)[0]);
            error += (found - truth).powi(2);
            signal += truth.powi(2);
        }
        10.0 * (error / signal).log10()
    }

    #[test]
    fn tones_come_out_as_they_went_in() {
        for (rate, hertz) in
            [(44_100, 440.0), (44_100, 1000.0), (44_100, 15_000.0), (22_050, 5000.0), (96_000, 10_000.0)]
        {
            let decibels = error_decibels(rate, hertz);
            assert!(decibels < -75.0, "{hertz} Hz at {rate}: {decibels:.1} dB");
        }
    }

    #[test]
    fn what_browsers_cannot_hear_does_not_come_back_as_something_else() {
        let input = tone(96_000, 30_000.0, 4000);
        let kernel = Kernel::new(96_000);
        let loudest = (0..1000)
            .map(|index| kernel.at(&input, 100.0 + 2.0 * f64::from(index))[0].abs())
            .fold(0.0, f32::max);
        assert!(loudest < 0.001, "{loudest}");
    }

    #[test]
    fn samples_at_whole_places_are_left_alone() {
        let input = tone(48_000, 5000.0, 200);
        let kernel = Kernel::new(48_000);
        for place in 40..150 {
            let found = kernel.at(&input, place as f64);
            assert!((found[0] - input[place][0]).abs() < 1e-6, "{place}");
        }
    }
}
