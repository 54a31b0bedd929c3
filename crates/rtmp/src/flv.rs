//! FLV tag bodies (Adobe Flash Video File Format 10.1, annex E) with the extensions of Enhanced RTMP (v1, v2): what an
//! audio or video message has in it.
//!
//! Coded media is not looked into. Of several tracks in one connection only the first, number 0, is taken: encoders
//! put what everybody understands there. Metadata and commands within video are skipped.

use bytes::{Buf as _, Bytes};
use model::Codec;

mod enhanced;

pub use enhanced::{FourCc, MODIFIERS_MAX};

/// Audio format (`SoundFormat`).
const SOUND_MP3: u8 = 2;
const SOUND_ENHANCED: u8 = 9;
const SOUND_AAC: u8 = 10;
const SOUND_MP3_8_KHZ: u8 = 14;
/// Video codec (`CodecID`).
const CODEC_AVC: u8 = 7;
/// The bit that makes a video header an enhanced one.
const IS_ENHANCED: u8 = 0x80;
/// Frame types.
const FRAME_KEY: u8 = 1;
const FRAME_COMMAND: u8 = 5;

/// Why a tag cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The tag ends within its header.
    #[error("an FLV tag ends within its header")]
    Truncated,
    /// A sound format that browsers cannot be given.
    #[error("audio in FLV format {format} is not taken: set the encoder to AAC, MP3 or Opus")]
    SoundFormat {
        /// The number in the tag.
        format: u8,
    },
    /// A video codec that browsers cannot be given.
    #[error(
        "video in FLV codec {codec} is not taken: set the encoder to H.264, or to HEVC, AV1 or VP9 over Enhanced RTMP"
    )]
    VideoCodec {
        /// The number in the tag.
        codec: u8,
    },
    /// A codec of Enhanced RTMP that browsers cannot be given.
    #[error(
        "media in codec {four_cc} is not taken: set the encoder to H.264, HEVC, AV1 or VP9 with AAC, MP3 or Opus"
    )]
    FourCc {
        /// Its code.
        four_cc: FourCc,
    },
    /// A packet type that is not defined.
    #[error("an FLV packet of type {packet_type}, which is not understood here")]
    PacketType {
        /// The number in the tag.
        packet_type: u8,
    },
    /// More modifiers than a sane encoder sends.
    #[error("more than {MODIFIERS_MAX} modifiers in one Enhanced RTMP packet")]
    TooManyModifiers,
}

/// A codec of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioCodec {
    /// ISO/IEC 14496-3; which kind is in the configuration.
    Aac,
    /// MPEG-1 or MPEG-2 layer III.
    Mp3,
    /// RFC 6716.
    Opus,
}

/// What an audio message has in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioBody {
    /// What the decoder must know: the `AudioSpecificConfig` of AAC, the `OpusHead` of Opus (RFC 7845, section 5.1).
    Config(Bytes),
    /// Coded sound.
    Frame(Bytes),
    /// The sound ends.
    End,
}

/// What a video message has in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoBody {
    /// What the decoder must know: the codec's configuration record (`avcC`, `hvcC`, `av1C` or `vpcC`).
    Config(Bytes),
    /// A coded picture.
    Frame {
        /// How much later it is shown than decoded, in milliseconds.
        composition_millis: i32,
        /// Whether the tag calls it a keyframe.
        is_keyframe: bool,
        /// NAL units with their lengths before them; OBUs of AV1; a frame of VP9.
        data: Bytes,
    },
    /// The picture ends.
    End,
}

/// Audio of the first track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTag {
    /// How it is coded.
    pub codec: AudioCodec,
    /// To be added to the message's time, in nanoseconds, less than a millisecond.
    pub offset_nanos: u32,
    /// What is in it.
    pub body: AudioBody,
}

/// Video of the first track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTag {
    /// How it is coded.
    pub codec: Codec,
    /// To be added to the message's time, in nanoseconds, less than a millisecond.
    pub offset_nanos: u32,
    /// What is in it.
    pub body: VideoBody,
}

/// Reads an audio message. `None` if it has nothing for us: another track, or a description of channels.
///
/// # Errors
/// [`TagError`] if it is malformed or coded in a way that is not taken.
pub fn audio(mut tag: Bytes) -> Result<Option<AudioTag>, TagError> {
    // Encoders end their sound with an empty message.
    if tag.is_empty() {
        return Ok(None);
    }
    let header = take_u8(&mut tag)?;
    let plain = |codec, body| Ok(Some(AudioTag { codec, offset_nanos: 0, body }));
    match header >> 4 {
        SOUND_AAC => {
            let packet_type = take_u8(&mut tag)?;
            match packet_type {
                // ffmpeg begins so where it does not know it yet.
                0 if tag.is_empty() => Ok(None),
                0 => plain(AudioCodec::Aac, AudioBody::Config(tag)),
                1 => plain(AudioCodec::Aac, AudioBody::Frame(tag)),
                packet_type => Err(TagError::PacketType { packet_type }),
            }
        }
        SOUND_MP3 | SOUND_MP3_8_KHZ => plain(AudioCodec::Mp3, AudioBody::Frame(tag)),
        SOUND_ENHANCED => enhanced::audio(header & 0x0f, tag),
        format => Err(TagError::SoundFormat { format }),
    }
}

/// Reads a video message. `None` if it has nothing for us: a command, metadata or another track.
///
/// # Errors
/// [`TagError`] if it is malformed or coded in a way that is not taken.
pub fn video(mut tag: Bytes) -> Result<Option<VideoTag>, TagError> {
    if tag.is_empty() {
        return Ok(None);
    }
    let header = take_u8(&mut tag)?;
    let frame_type = header >> 4 & 0x07;
    let is_keyframe = frame_type == FRAME_KEY;
    if header & IS_ENHANCED != 0 {
        return enhanced::video(header & 0x0f, frame_type, tag);
    }
    if frame_type == FRAME_COMMAND {
        return Ok(None);
    }
    match header & 0x0f {
        CODEC_AVC => {
            let packet_type = take_u8(&mut tag)?;
            let composition_millis = take_i24(&mut tag)?;
            let body = match packet_type {
                0 if tag.is_empty() => return Ok(None),
                0 => VideoBody::Config(tag),
                1 => VideoBody::Frame { composition_millis, is_keyframe, data: tag },
                2 => VideoBody::End,
                packet_type => return Err(TagError::PacketType { packet_type }),
            };
            Ok(Some(VideoTag { codec: Codec::H264, offset_nanos: 0, body }))
        }
        codec => Err(TagError::VideoCodec { codec }),
    }
}

fn take_u8(bytes: &mut Bytes) -> Result<u8, TagError> {
    bytes.try_get_u8().map_err(|_| TagError::Truncated)
}

fn take_u24(bytes: &mut Bytes) -> Result<u32, TagError> {
    bytes.try_get_uint(3).map(|value| value as u32).map_err(|_| TagError::Truncated)
}

fn take_i24(bytes: &mut Bytes) -> Result<i32, TagError> {
    bytes.try_get_int(3).map(|value| value as i32).map_err(|_| TagError::Truncated)
}

fn take(bytes: &mut Bytes, count: usize) -> Result<Bytes, TagError> {
    if count > bytes.len() {
        return Err(TagError::Truncated);
    }
    Ok(bytes.split_to(count))
}

#[cfg(test)]
mod tests;
