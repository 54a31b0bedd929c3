//! One track of sound, whatever it is coded in.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use model::{Bitrate, MediaTime};
use ropus::{Application, Channels, Encoder, FrameDuration};

use crate::aac::{AacConfig, AacError};
use crate::decode::Decoder;
use crate::mp3;
use crate::opus::{self, OpusClock, OpusError};
use crate::retime::{Frame, Placed, Retimer};
use crate::{PACKET_BYTES_MAX, SAMPLE_RATE};

/// Damaged frames in a row after which the sound is given up: about two seconds.
const DAMAGED_MAX: u32 = 100;
/// How hard the encoder tries, of 10. The steps above cost much and are hardly heard at 100 kbit/s and more.
const COMPLEXITY: u8 = 6;

/// Most sound of one message: whoever decodes it does nothing else meanwhile.
const MESSAGE_MICROS_MAX: i64 = 2_000_000;

/// What sound comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// AAC; its configuration is an `AudioSpecificConfig`.
    Aac,
    /// MP3; it needs no configuration.
    Mp3,
    /// Opus; its configuration is an `OpusHead`.
    Opus,
}

/// Why sound is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Of AAC.
    #[error(transparent)]
    Aac(#[from] AacError),
    /// Of Opus.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// A decoder or the encoder does not start.
    #[error("the sound cannot be coded anew")]
    Codec,
}

/// Why a frame of sound becomes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// There has been no configuration of this kind.
    #[error("sound comes before its configuration")]
    NotConfigured,
    /// Nothing can be decoded any more.
    #[error("{DAMAGED_MAX} frames of sound in a row cannot be decoded")]
    Damaged,
    /// More than an encoder sends at once.
    #[error("one message has more than two seconds of sound, or sound of several rates")]
    TooMuch,
    /// Of Opus.
    #[error(transparent)]
    Opus(#[from] OpusError),
    /// The encoder fails.
    #[error("the sound cannot be encoded")]
    Encoder,
}

/// One RTP packet to be: Opus, 20 ms if we encoded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Ticks of 48 kHz from the media clock's origin, modulo 2^32.
    pub timestamp: u32,
    /// When its first sample is heard.
    pub time: MediaTime,
    /// Sound begins here, or goes on after a gap (RFC 7587, section 4.2).
    pub marker: bool,
    /// At most [`PACKET_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Frames that were decoded and coded anew.
    pub recoded_frames: u64,
    /// Packets of Opus that went on as they came.
    pub passed_frames: u64,
    /// Frames of which all, or the beginning, had been played already and was left out.
    pub cut_frames: u64,
    /// Frames that could not be decoded, or not placed, and were left out.
    pub damaged_frames: u64,
    /// Gaps that were filled with silence.
    pub filled_gaps: u64,
    /// Gaps that are too long for that and stayed.
    pub left_gaps: u64,
}

enum Track {
    Coded { config: Coded, decoder: Decoder, retimer: Box<Retimer> },
    Opus(OpusClock),
}

/// What a decoder was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coded {
    Aac(AacConfig),
    Mp3 { rate: u32, channels: u8 },
}

impl Coded {
    const fn rate(self) -> u32 {
        match self {
            Self::Aac(config) => config.rate,
            Self::Mp3 { rate, .. } => rate,
        }
    }

    fn decoder(self) -> Result<Decoder, ConfigError> {
        let decoder = match self {
            Self::Aac(config) => Decoder::aac(config),
            Self::Mp3 { .. } => Decoder::mp3(),
        };
        decoder.ok_or(ConfigError::Codec)
    }
}

/// One track.
pub struct Audio {
    bitrate: Bitrate,
    encoder: Option<Encoder>,
    track: Option<Track>,
    damaged_in_a_row: u32,
    stats: Stats,
    packets: VecDeque<Packet>,
}

impl fmt::Debug for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audio").field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl Audio {
    /// A track that is encoded at this bitrate, where it has to be.
    #[must_use]
    pub const fn new(bitrate: Bitrate) -> Self {
        Self {
            bitrate,
            encoder: None,
            track: None,
            damaged_in_a_row: 0,
            stats: Stats {
                recoded_frames: 0,
                passed_frames: 0,
                cut_frames: 0,
                damaged_frames: 0,
                filled_gaps: 0,
                left_gaps: 0,
            },
            packets: VecDeque::new(),
        }
    }

    /// Takes a configuration; it may come again, and another one may follow.
    ///
    /// # Errors
    /// [`ConfigError`] if there is no use for it; the one before goes on to count.
    pub fn configure(&mut self, source: Source, config: &[u8]) -> Result<(), ConfigError> {
        match source {
            Source::Aac => self.begin(Coded::Aac(AacConfig::parse(config)?)),
            // What matters stands in every frame.
            Source::Mp3 => Ok(()),
            Source::Opus => {
                opus::check_head(config)?;
                if !matches!(self.track, Some(Track::Opus(_))) {
                    let next = self.end_track();
                    self.track = Some(Track::Opus(OpusClock::new(next)));
                }
                Ok(())
            }
        }
    }

    /// Takes coded sound whose first sample is heard at `time`.
    ///
    /// # Errors
    /// [`PacketError`] if there is nothing to be done with it.
    pub fn push(&mut self, source: Source, time: MediaTime, data: Bytes) -> Result<(), PacketError> {
        match source {
            Source::Opus => {
                let Some(Track::Opus(clock)) = &mut self.track else {
                    return Err(PacketError::NotConfigured);
                };
                let has_begun = clock.next().is_some();
                match clock.place(time, data)? {
                    Some((ticks, begins, payload)) => {
                        self.stats.passed_frames += 1;
                        self.stats.left_gaps += u64::from(begins && has_begun);
                        self.give(ticks, begins, payload);
                    }
                    None => self.damaged()?,
                }
                Ok(())
            }
            Source::Aac => {
                if !matches!(self.track, Some(Track::Coded { config: Coded::Aac(_), .. })) {
                    return Err(PacketError::NotConfigured);
                }
                self.decode(time, &data)
            }
            Source::Mp3 => self.push_mp3(time, &data),
        }
    }

    /// The next packet; call until `None` after every change.
    pub fn poll(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }

    /// What has come so far.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }

    fn push_mp3(&mut self, time: MediaTime, data: &[u8]) -> Result<(), PacketError> {
        let mut first = None;
        let mut micros = 0;
        for (header, frame) in mp3::frames(data) {
            let coded = Coded::Mp3 { rate: header.rate, channels: header.channels };
            if *first.get_or_insert(coded) != coded || micros > MESSAGE_MICROS_MAX {
                return Err(PacketError::TooMuch);
            }
            self.begin(coded).map_err(|_| PacketError::NotConfigured)?;
            self.decode(time.plus_micros(micros), frame)?;
            let samples = if header.rate >= 32_000 { 1152 } else { 576 };
            micros += samples * 1_000_000 / i64::from(header.rate);
        }
        if first.is_some() { Ok(()) } else { self.damaged() }
    }

    /// Makes a decoder, unless there is one of the kind.
    fn begin(&mut self, coded: Coded) -> Result<(), ConfigError> {
        if matches!(&self.track, Some(Track::Coded { config, .. }) if *config == coded) {
            return Ok(());
        }
        let decoder = coded.decoder()?;
        if self.encoder.is_none() {
            let encoder = Encoder::builder(SAMPLE_RATE, Channels::Stereo, Application::Audio)
                .bitrate(ropus::Bitrate::Bits(self.bitrate.as_bps() as u32))
                .complexity(COMPLEXITY)
                .vbr(true)
                .vbr_constraint(true)
                .frame_duration(FrameDuration::Ms20)
                .build();
            self.encoder = Some(encoder.map_err(|_| ConfigError::Codec)?);
        }
        let next = self.end_track();
        let retimer = Box::new(Retimer::new(coded.rate(), next));
        self.track = Some(Track::Coded { config: coded, decoder, retimer });
        Ok(())
    }

    /// Plays out what the track so far has; gives when that ends.
    fn end_track(&mut self) -> Option<i64> {
        match self.track.take()? {
            Track::Opus(clock) => clock.next(),
            Track::Coded { mut retimer, .. } => {
                retimer.finish();
                while let Some(frame) = retimer.poll() {
                    if self.encode(&frame).is_err() {
                        break;
                    }
                }
                retimer.next()
            }
        }
    }

    fn decode(&mut self, time: MediaTime, frame: &[u8]) -> Result<(), PacketError> {
        let Some(Track::Coded { decoder, retimer, .. }) = &mut self.track else {
            return Err(PacketError::NotConfigured);
        };
        let Some(samples) = decoder.decode(frame) else { return self.damaged() };
        self.damaged_in_a_row = 0;
        match retimer.push(time, &samples) {
            Placed::Next => self.stats.recoded_frames += 1,
            Placed::AfterSilence => {
                self.stats.recoded_frames += 1;
                self.stats.filled_gaps += 1;
            }
            Placed::AfterGap => {
                self.stats.recoded_frames += 1;
                self.stats.left_gaps += 1;
            }
            Placed::Cut => self.stats.cut_frames += 1,
        }
        let frames: Vec<Frame> = std::iter::from_fn(|| retimer.poll()).collect();
        frames.iter().try_for_each(|frame| self.encode(frame))
    }

    fn encode(&mut self, frame: &Frame) -> Result<(), PacketError> {
        let encoder = self.encoder.as_mut().ok_or(PacketError::Encoder)?;
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let length = encoder.encode_float(&frame.samples, &mut packet).map_err(|_| PacketError::Encoder)?;
        packet.truncate(length);
        // The decoder gives the sound this much later than it went into the encoder.
        let ticks = frame.ticks - i64::from(encoder.lookahead());
        self.give(ticks, frame.begins, packet.into());
        Ok(())
    }

    fn give(&mut self, ticks: i64, marker: bool, payload: Bytes) {
        self.damaged_in_a_row = 0;
        let time = MediaTime::from_micros((ticks * 1000).div_euclid(i64::from(SAMPLE_RATE / 1000)));
        self.packets.push_back(Packet { timestamp: ticks as u32, time, marker, payload });
    }

    fn damaged(&mut self) -> Result<(), PacketError> {
        self.stats.damaged_frames += 1;
        self.damaged_in_a_row += 1;
        if self.damaged_in_a_row >= DAMAGED_MAX { Err(PacketError::Damaged) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
