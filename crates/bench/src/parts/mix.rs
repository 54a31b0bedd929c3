//! What a publisher sends in a few seconds: when, and how many bytes; recorded once, played by the floor.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

/// Packets that go out together: a picture, the part of one that came within some time, or a piece of sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// When its first packet came, in microseconds since the recording began.
    pub at_micros: u64,
    /// Sound, not picture.
    pub is_audio: bool,
    /// Bytes of each RTP packet: header and payload, no extensions, no tag.
    pub packet_bytes: Vec<u16>,
}

/// A recording, played over and over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    /// After this many microseconds it begins anew.
    pub period_micros: u64,
    /// In order of time.
    pub frames: Vec<Frame>,
}

impl Mix {
    /// Reads a recording.
    ///
    /// # Errors
    /// If the file is not one, or an empty one.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let mix: Self = serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        ensure!(mix.period_micros > 0 && !mix.frames.is_empty(), "{} holds no packets", path.display());
        Ok(mix)
    }

    /// Packets in one period.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.frames.iter().map(|frame| frame.packet_bytes.len()).sum()
    }

    /// Packets each second.
    #[must_use]
    pub fn packets_per_second(&self) -> f64 {
        self.packets() as f64 / Duration::from_micros(self.period_micros).as_secs_f64()
    }
}

/// Takes packets down as they come.
#[derive(Debug, Default)]
pub struct Recorder {
    /// A frame whose packets take longer goes out in parts, none of which waits longer.
    hold: Option<Duration>,
    frames: Vec<(u32, Frame)>,
    begun_at_micros: Option<u64>,
}

impl Recorder {
    /// One that cuts frames so that no packet waits longer than this for the others.
    #[must_use]
    pub fn holding(hold: Option<Duration>) -> Self {
        Self { hold, ..Self::default() }
    }

    /// A packet that came `at_micros` after any fixed moment. Those of one frame share its RTP timestamp.
    pub fn take(&mut self, at_micros: u64, is_audio: bool, timestamp: u32, bytes: u16) {
        let begun = *self.begun_at_micros.get_or_insert(at_micros);
        let open = self.frames.iter_mut().rev().take(8);
        let latest = self.hold.map_or(u64::MAX, |hold| hold.as_micros() as u64);
        let same = |(own, frame): &&mut (u32, Frame)| {
            let is_in_time = at_micros.saturating_sub(begun + frame.at_micros) <= latest;
            *own == timestamp && frame.is_audio == is_audio && is_in_time
        };
        match open.into_iter().find(same) {
            Some((_, frame)) => frame.packet_bytes.push(bytes),
            None => {
                let at_micros = at_micros.saturating_sub(begun);
                self.frames.push((timestamp, Frame { at_micros, is_audio, packet_bytes: vec![bytes] }));
            }
        }
    }

    /// The recording, once it is `length` long. The frame that ends it is not in it: it may not be whole.
    #[must_use]
    pub fn finished(&self, length: Duration) -> Option<Mix> {
        let period_micros = length.as_micros() as u64;
        let is_over = self.frames.last().is_some_and(|(_, last)| last.at_micros >= period_micros);
        let within = self.frames.iter().filter(|(_, frame)| frame.at_micros < period_micros);
        is_over.then(|| Mix { period_micros, frames: within.map(|(_, frame)| frame.clone()).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_one_timestamp_are_one_frame_even_if_sound_comes_between() {
        let mut recorder = Recorder::default();
        recorder.take(1_000_000, false, 3000, 1200);
        recorder.take(1_000_010, true, 960, 160);
        recorder.take(1_000_020, false, 3000, 500);
        assert_eq!(recorder.finished(Duration::from_millis(33)), None);
        recorder.take(1_033_000, false, 6000, 1200);
        let mix = recorder.finished(Duration::from_millis(33)).expect("long enough");
        let frame = |is_audio, at_micros, packet_bytes| Frame { at_micros, is_audio, packet_bytes };
        assert_eq!(mix.frames, [frame(false, 0, vec![1200, 500]), frame(true, 10, vec![160])]);
        assert_eq!(mix.packets(), 3);
    }

    #[test]
    fn a_paced_frame_goes_out_in_parts() {
        let mut recorder = Recorder::holding(Some(Duration::from_millis(3)));
        for at_micros in [0, 2000, 4000, 6000, 8000, 40_000] {
            recorder.take(at_micros, false, if at_micros < 33_000 { 0 } else { 3000 }, 1200);
        }
        let mix = recorder.finished(Duration::from_millis(33)).expect("long enough");
        let parts: Vec<usize> = mix.frames.iter().map(|frame| frame.packet_bytes.len()).collect();
        assert_eq!(parts, [2, 2, 1]);
    }
}
