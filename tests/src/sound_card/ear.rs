//! Hears the beeps of what a sound card plays, and when.

use std::collections::VecDeque;
use std::f64::consts::TAU;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use super::{SAMPLE_RATE, SINK};

/// A beep is a tone of so many Hz that begins at every full second of a test picture's time code.
const BEEP_FREQUENCY: f64 = 880.0;
/// Of the amplitude that a beep has, and the tones beside it lack once they are filtered.
const LOUD: f64 = 0.08;
/// A beep begins after so much silence, in ms.
const QUIET: f64 = 300.0;
/// How sharply the filter parts a beep from other tones.
const QUALITY: f64 = 5.0;
/// What a recorder may collect before it hands it over, in ms.
const RECORDER_LATENCY: &str = "--latency-msec=10";
/// The quickest block of so many ms tells how long a block takes from the card to here.
const QUICKEST_OF: f64 = 5000.0;
const BLOCK_BYTES_MAX: usize = 1 << 16;

/// Listens as long as it lives.
pub(super) struct Ear {
    _recorder: Child,
    listening: JoinHandle<()>,
    beeps: Arc<Mutex<Vec<f64>>>,
}

impl Ear {
    /// Listens to the card of the server at `socket`.
    ///
    /// # Errors
    /// If PulseAudio's recorder is not on this machine.
    pub fn listen(socket: &Path) -> anyhow::Result<Self> {
        let mut recorder = Command::new("parec")
            .args(["--raw", "--format=float32le", "--channels=1", RECORDER_LATENCY])
            .arg(format!("--rate={SAMPLE_RATE}"))
            .arg(format!("--device={SINK}.monitor"))
            .arg(format!("--server=unix:{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start parec")?;
        let sound = recorder.stdout.take().context("stdout is piped")?;
        let beeps = Arc::default();
        let listening = tokio::spawn(follow(sound, Arc::clone(&beeps)));
        Ok(Self { _recorder: recorder, listening, beeps })
    }

    /// When beeps began since the last time, in ms since 1970.
    ///
    /// # Errors
    /// If nobody listens any more.
    pub fn take(&self) -> anyhow::Result<Vec<f64>> {
        ensure!(!self.listening.is_finished(), "parec has ended");
        Ok(std::mem::take(&mut self.beeps.lock().expect("no panic while it is held")))
    }
}

/// Ends with the recorder.
async fn follow(mut sound: ChildStdout, beeps: Arc<Mutex<Vec<f64>>>) {
    let mut listener = Listener::default();
    let mut bytes = Vec::with_capacity(BLOCK_BYTES_MAX);
    while sound.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0;
        let (samples, _) = bytes.as_chunks::<4>();
        let whole = samples.as_flattened().len();
        let samples = samples.iter().map(|sample| f64::from(f32::from_le_bytes(*sample)));
        beeps.lock().expect("no panic while it is held").extend(listener.hear(now, samples));
        bytes.drain(..whole);
    }
}

/// Finds beeps in sound that comes in blocks.
#[derive(Debug, Default)]
struct Listener {
    filter: BandPass,
    /// Samples heard until now.
    heard: u64,
    /// When each block came, and by how much that was after its end by the count of samples; in ms. In order of the latter.
    ways: VecDeque<(f64, f64)>,
    loud_at: Option<f64>,
}

impl Listener {
    /// When beeps began in a block that came at `now`, in ms as that.
    fn hear(&mut self, now: f64, samples: impl ExactSizeIterator<Item = f64>) -> Vec<f64> {
        let begin = self.heard;
        self.heard += samples.len() as u64;
        let way = now - length(self.heard);
        self.ways.retain(|(at, _)| now - at <= QUICKEST_OF);
        while self.ways.back().is_some_and(|(_, slower)| *slower >= way) {
            self.ways.pop_back();
        }
        self.ways.push_back((now, way));
        // Blocks that came later have waited.
        let quickest = self.ways.front().map_or(way, |(_, way)| *way);
        let mut beeps = Vec::new();
        for (index, sample) in (begin..).zip(samples) {
            if self.filter.pass(sample).abs() < LOUD {
                continue;
            }
            let at = quickest + length(index);
            if self.loud_at.replace(at).is_none_or(|before| at - before > QUIET) {
                beeps.push(at);
            }
        }
        beeps
    }
}

/// Of so many samples, in ms.
fn length(samples: u64) -> f64 {
    samples as f64 * 1000.0 / f64::from(SAMPLE_RATE)
}

/// Lets through what is about as high as a beep: a filter of second order, as the Audio EQ Cookbook has it.
#[derive(Debug, Default)]
struct BandPass {
    inputs: [f64; 2],
    outputs: [f64; 2],
}

impl BandPass {
    fn pass(&mut self, input: f64) -> f64 {
        let angle = TAU * BEEP_FREQUENCY / f64::from(SAMPLE_RATE);
        let alpha = angle.sin() / (2.0 * QUALITY);
        let [x1, x2] = self.inputs;
        let [y1, y2] = self.outputs;
        let output = (alpha * (input - x2) + 2.0 * angle.cos() * y1 - (1.0 - alpha) * y2) / (1.0 + alpha);
        self.inputs = [input, x1];
        self.outputs = [output, y1];
        output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 480;

    /// What the test picture sounds like: two lower tones, and a beep of 80 ms at every full second.
    fn sample(index: u64) -> f64 {
        let seconds = length(index) / 1000.0;
        let tone = |frequency: f64, volume: f64| volume * (TAU * frequency * seconds).sin();
        let beep = if seconds.fract() < 0.08 { tone(BEEP_FREQUENCY, 0.2) } else { 0.0 };
        tone(220.0, 0.06) + tone(330.0, 0.06) + beep
    }

    /// Beeps of sound that began at 10 s and comes in blocks, each of which takes as long as `way` says.
    fn beeps(blocks: u64, way: impl Fn(u64) -> f64) -> Vec<f64> {
        let mut listener = Listener::default();
        let block = |number: u64| (number * BLOCK as u64..).take(BLOCK).map(sample).collect::<Vec<_>>();
        (0..blocks)
            .flat_map(|number| {
                let now = 10_000.0 + length((number + 1) * BLOCK as u64) + way(number);
                listener.hear(now, block(number).into_iter())
            })
            .collect()
    }

    #[test]
    fn a_beep_is_heard_once_and_when_it_began() {
        let found = beeps(1000, |_| 0.0);
        assert_eq!(found.len(), 10);
        for (second, at) in (10_u32..).zip(found) {
            assert!((0.0..5.0).contains(&(at - f64::from(second) * 1000.0)), "{second}: {at}");
        }
    }

    #[test]
    fn blocks_that_wait_do_not_make_beeps_later() {
        let prompt = beeps(1000, |_| 2.0);
        let waiting = beeps(1000, |number| if number % 10 == 3 { 2.0 } else { 40.0 });
        let is_same = |(one, other): (&f64, &f64)| (one - other).abs() < 0.01;
        assert_eq!(prompt.len(), waiting.len());
        // Before the first quick one there is nothing to tell by.
        assert!(prompt.iter().zip(&waiting).skip(1).all(is_same), "{prompt:?} {waiting:?}");
    }

    #[test]
    fn a_way_that_gets_longer_for_good_is_found_out() {
        let found = beeps(2000, |number| if number < 1000 { 0.0 } else { 30.0 });
        let last = found.last().expect("beeps");
        assert!((30.0..35.0).contains(&last.rem_euclid(1000.0)), "{found:?}");
    }
}
