//! Headers of Enhanced RTMP: four-character codes, modifiers, several tracks.

use std::fmt;

use bytes::{Buf as _, Bytes};
use model::Codec;

use super::{
    AudioBody, AudioCodec, AudioTag, FRAME_COMMAND, FRAME_KEY, TagError, VideoBody, VideoTag, take, take_i24,
    take_u8, take_u24,
};

/// Modifiers before one packet; each may have 64 KiB.
pub const MODIFIERS_MAX: usize = 8;
/// The modifier with nanoseconds (`TimestampOffsetNano`).
const MODIFIER_NANOS: u8 = 0;
const NANOS_PER_MILLI: u32 = 1_000_000;
/// The track that is taken.
const FIRST_TRACK: u8 = 0;

/// Packet types. Those of sound and picture agree as far as both have them.
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
const SEQUENCE_END: u8 = 2;
const CODED_FRAMES_X: u8 = 3;
const MODIFIER: u8 = 7;
/// `Metadata` of video, `MultichannelConfig` of audio.
const DESCRIPTION: u8 = 4;
/// Of video.
const MPEG2_TS_START: u8 = 5;
const AUDIO_MULTITRACK: u8 = 5;
const VIDEO_MULTITRACK: u8 = 6;

/// A four-character code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FourCc(pub [u8; 4]);

impl FourCc {
    /// The codecs that are taken, as the answer to `connect` lists them.
    pub(crate) const TAKEN: [&'static str; 7] = ["avc1", "hvc1", "av01", "vp09", "mp4a", "Opus", ".mp3"];

    fn video(self) -> Result<Codec, TagError> {
        match &self.0 {
            b"avc1" => Ok(Codec::H264),
            b"hvc1" => Ok(Codec::H265),
            b"av01" => Ok(Codec::Av1),
            b"vp09" => Ok(Codec::Vp9),
            _ => Err(TagError::FourCc { four_cc: self }),
        }
    }

    fn audio(self) -> Result<AudioCodec, TagError> {
        match &self.0 {
            b"mp4a" => Ok(AudioCodec::Aac),
            b"Opus" => Ok(AudioCodec::Opus),
            b".mp3" => Ok(AudioCodec::Mp3),
            _ => Err(TagError::FourCc { four_cc: self }),
        }
    }
}

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One packet after its headers.
struct Packet {
    packet_type: u8,
    offset_nanos: u32,
    four_cc: FourCc,
    body: Bytes,
}

pub(super) fn audio(packet_type: u8, tag: Bytes) -> Result<Option<AudioTag>, TagError> {
    let Some(packet) = packet(packet_type, AUDIO_MULTITRACK, tag)? else { return Ok(None) };
    let codec = packet.four_cc.audio()?;
    let body = match packet.packet_type {
        SEQUENCE_START if packet.body.is_empty() => return Ok(None),
        SEQUENCE_START => AudioBody::Config(packet.body),
        CODED_FRAMES => AudioBody::Frame(packet.body),
        SEQUENCE_END => AudioBody::End,
        DESCRIPTION => return Ok(None),
        packet_type => return Err(TagError::PacketType { packet_type }),
    };
    Ok(Some(AudioTag { codec, offset_nanos: packet.offset_nanos, body }))
}

pub(super) fn video(packet_type: u8, frame_type: u8, tag: Bytes) -> Result<Option<VideoTag>, TagError> {
    // A command has one more byte and no code, whatever the packet type but for metadata.
    if frame_type == FRAME_COMMAND && packet_type != DESCRIPTION {
        return Ok(None);
    }
    let Some(mut packet) = packet(packet_type, VIDEO_MULTITRACK, tag)? else { return Ok(None) };
    let codec = packet.four_cc.video()?;
    let is_keyframe = frame_type == FRAME_KEY;
    let body = match packet.packet_type {
        SEQUENCE_START if packet.body.is_empty() => return Ok(None),
        SEQUENCE_START => VideoBody::Config(packet.body),
        CODED_FRAMES => {
            let has_composition = matches!(codec, Codec::H264 | Codec::H265);
            let composition_millis = if has_composition { take_i24(&mut packet.body)? } else { 0 };
            VideoBody::Frame { composition_millis, is_keyframe, data: packet.body }
        }
        CODED_FRAMES_X => VideoBody::Frame { composition_millis: 0, is_keyframe, data: packet.body },
        SEQUENCE_END => VideoBody::End,
        DESCRIPTION | MPEG2_TS_START => return Ok(None),
        packet_type => return Err(TagError::PacketType { packet_type }),
    };
    Ok(Some(VideoTag { codec, offset_nanos: packet.offset_nanos, body }))
}

/// Takes modifiers, code and tracks off. `None` if the first track is not in it.
fn packet(packet_type: u8, multitrack: u8, mut tag: Bytes) -> Result<Option<Packet>, TagError> {
    let (packet_type, offset_nanos) = modifiers(packet_type, &mut tag)?;
    if packet_type != multitrack {
        let four_cc = take_four_cc(&mut tag)?;
        return Ok(Some(Packet { packet_type, offset_nanos, four_cc, body: tag }));
    }
    let kinds = take_u8(&mut tag)?;
    let packet_type = kinds & 0x0f;
    let (is_one, is_one_codec) = match kinds >> 4 {
        0 => (true, true),
        1 => (false, true),
        2 => (false, false),
        kind => return Err(TagError::PacketType { packet_type: kind }),
    };
    let mut four_cc = if is_one_codec { Some(take_four_cc(&mut tag)?) } else { None };
    while tag.has_remaining() {
        if !is_one_codec {
            four_cc = Some(take_four_cc(&mut tag)?);
        }
        let track = take_u8(&mut tag)?;
        let length = if is_one { tag.len() } else { take_u24(&mut tag)? as usize };
        let body = take(&mut tag, length)?;
        if let Some(four_cc) = four_cc.filter(|_| track == FIRST_TRACK) {
            return Ok(Some(Packet { packet_type, offset_nanos, four_cc, body }));
        }
    }
    Ok(None)
}

/// Takes modifiers off (`ModEx`); gives the type of what follows and its nanoseconds.
fn modifiers(mut packet_type: u8, tag: &mut Bytes) -> Result<(u8, u32), TagError> {
    let mut offset_nanos = 0;
    let mut count = 0;
    while packet_type == MODIFIER {
        count += 1;
        if count > MODIFIERS_MAX {
            return Err(TagError::TooManyModifiers);
        }
        let mut length = usize::from(take_u8(tag)?) + 1;
        if length == 256 {
            length = usize::from(tag.try_get_u16().map_err(|_| TagError::Truncated)?) + 1;
        }
        let mut data = take(tag, length)?;
        let kinds = take_u8(tag)?;
        packet_type = kinds & 0x0f;
        if kinds >> 4 == MODIFIER_NANOS {
            offset_nanos = take_u24(&mut data)?.min(NANOS_PER_MILLI - 1);
        }
    }
    Ok((packet_type, offset_nanos))
}

fn take_four_cc(tag: &mut Bytes) -> Result<FourCc, TagError> {
    let code = tag.try_get_u32().map_err(|_| TagError::Truncated)?;
    Ok(FourCc(code.to_be_bytes()))
}
