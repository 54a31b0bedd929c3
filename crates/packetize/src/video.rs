//! One track of pictures: payloads with their RTP timestamps, and the verdict on B-frames.

use bytes::Bytes;
use model::{Codec, MediaTime};

use crate::av1::Av1Stream;
use crate::nal::{NalStream, Syntax};
use crate::record::{self, RecordError};
use crate::vp9::Vp9Stream;

/// How much earlier than the one before a picture may be shown, in microseconds: time stamps are rounded to
/// milliseconds, and pictures that really change places are at least 4 ms apart.
const ROUNDING_MICROS: i64 = 2000;

/// Why a picture does not become packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// Pictures come in another order than they are shown.
    #[error(
        "the video has B-frames, which browsers cannot show over WebRTC: set the encoder to 0 B-frames (x264: bf=0 or \
         tune=zerolatency; NVENC and others: \"Max B-frames\" 0)"
    )]
    HasBFrames,
    /// There has been no configuration record.
    #[error("a picture comes before the codec's configuration record")]
    NotConfigured,
    /// A picture or a part of it ends too early.
    #[error("a coded picture ends too early")]
    Truncated,
    /// A keyframe, but no parameter sets to begin with.
    #[error("a keyframe comes without parameter sets, in the stream or in the configuration record")]
    NoParameterSets,
    /// More, or larger, parameter sets than a sane stream has.
    #[error("too many or too large parameter sets in the stream")]
    ParameterSets,
}

/// One coded picture, with all that is shown at its moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// When it is decoded.
    pub decode_time: MediaTime,
    /// How much later it is shown, in milliseconds.
    pub composition_millis: i32,
    /// Whether the container calls it a keyframe. Where the codec itself says so, that counts.
    pub is_keyframe: bool,
    /// H.264, H.265: NAL units with their lengths before them. AV1: OBUs of one temporal unit. VP9: a frame.
    pub data: Bytes,
}

/// One RTP packet to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Ticks of 90 kHz from the media clock's origin, modulo 2^32.
    pub timestamp: u32,
    /// Last packet of the picture.
    pub marker: bool,
    /// First packet of a keyframe with all that a decoder needs to begin.
    pub starts_keyframe: bool,
    /// At most as long as [`Video::new`] was told.
    pub payload: Bytes,
}

#[derive(Debug)]
enum Stream {
    Nal(Codec, NalStream),
    Av1(Av1Stream),
    Vp9(Vp9Stream),
}

/// One track.
#[derive(Debug)]
pub struct Video {
    payload_bytes_max: usize,
    stream: Option<Stream>,
    /// When the latest picture is decoded.
    decoded: Option<MediaTime>,
    /// When the latest picture to be shown is, of those so far.
    shown: Option<MediaTime>,
    /// Its RTP timestamp.
    ticks: Option<i64>,
}

impl Video {
    /// A track whose payloads have at most so many bytes.
    ///
    /// # Panics
    /// If that is less than [`crate::PAYLOAD_BYTES_MIN`].
    #[must_use]
    pub fn new(payload_bytes_max: usize) -> Self {
        assert!(payload_bytes_max >= crate::PAYLOAD_BYTES_MIN, "{payload_bytes_max} bytes leave no room");
        Self { payload_bytes_max, stream: None, decoded: None, shown: None, ticks: None }
    }

    /// The codec of the latest configuration record.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        Some(match self.stream.as_ref()? {
            Stream::Nal(codec, _) => *codec,
            Stream::Av1(_) => Codec::Av1,
            Stream::Vp9(_) => Codec::Vp9,
        })
    }

    /// Takes a configuration record; it may come again, with other parameter sets or for another codec.
    ///
    /// # Errors
    /// [`RecordError`] if it cannot be used; the one before goes on to count.
    pub fn configure(&mut self, codec: Codec, record: Bytes) -> Result<(), RecordError> {
        let next = match codec {
            Codec::H264 => Stream::Nal(codec, NalStream::new(Syntax::H264, record::avc(record)?)),
            Codec::H265 => Stream::Nal(codec, NalStream::new(Syntax::H265, record::hevc(record)?)),
            Codec::Av1 => {
                let obus = record::av1(record)?;
                let mut stream = match self.stream.take() {
                    Some(Stream::Av1(stream)) => stream,
                    _ => Av1Stream::default(),
                };
                stream.configure(obus);
                Stream::Av1(stream)
            }
            // The record of VP9 says nothing that its frames do not, and its picture ids go on.
            Codec::Vp9 => match self.stream.take() {
                Some(Stream::Vp9(stream)) => Stream::Vp9(stream),
                _ => Stream::Vp9(Vp9Stream::default()),
            },
            Codec::Opus | Codec::Vp8 => return Err(RecordError::Codec { codec }),
        };
        self.stream = Some(next);
        Ok(())
    }

    /// Packets of one picture, in their order; none if there is nothing in it to show.
    ///
    /// # Errors
    /// [`PictureError`] says what is wrong with it. The next picture may be right.
    pub fn picture(&mut self, picture: Picture) -> Result<Vec<Packet>, PictureError> {
        let Picture { decode_time, composition_millis, is_keyframe, data } = picture;
        let stream = self.stream.as_mut().ok_or(PictureError::NotConfigured)?;
        let shown = decode_time.plus_micros(i64::from(composition_millis) * 1000);
        if self.decoded.replace(decode_time).is_some_and(|before| decode_time < before) {
            // The clock itself has stepped back, which says nothing of the order.
            self.shown = None;
        }
        if self.shown.is_some_and(|before| shown.plus_micros(ROUNDING_MICROS) < before) {
            return Err(PictureError::HasBFrames);
        }
        let max = self.payload_bytes_max;
        let (payloads, is_keyframe) = match stream {
            Stream::Nal(_, stream) => stream.picture(data, is_keyframe, max)?,
            Stream::Av1(stream) => stream.picture(data, is_keyframe, max)?,
            Stream::Vp9(stream) => stream.picture(&data, max),
        };
        if payloads.is_empty() {
            return Ok(Vec::new());
        }
        self.shown = Some(self.shown.map_or(shown, |before| before.max(shown)));
        // Packets of one timestamp are one picture to a receiver, so no two pictures may share one.
        let ticks = shown.ticks(Codec::H264.clock_rate());
        let ticks = self.ticks.map_or(ticks, |before| ticks.max(before + 1));
        self.ticks = Some(ticks);
        let last = payloads.len() - 1;
        let packet = |(index, payload)| Packet {
            timestamp: ticks as u32,
            marker: index == last,
            starts_keyframe: is_keyframe && index == 0,
            payload,
        };
        Ok(payloads.into_iter().enumerate().map(packet).collect())
    }
}

#[cfg(test)]
mod tests;
