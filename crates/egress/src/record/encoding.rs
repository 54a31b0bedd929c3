//! The bytes of a viewer's record. They hold keys: sealing them, and the file, are the business of crate `records`.
//!
//! The layout is fixed by [`VERSION`]. Those before it are read too, so that an upgrade loses no session; any other is
//! refused, since a session is better lost than misread.

use media_core::svc::POINTS_MAX;
use model::{BroadcastId, Codec, Mid, NtpTime, Rid, SeqNo, Ssrc};
use octets::{Reader, Writer};
use srtp::{MasterKey, Profile};
use zeroize::Zeroizing;

use super::{Extensions, OutTrack, Path, Selection, TrackRecord, ViewerId, ViewerRecord};
use crate::counter::CounterBlock;
use crate::format::Format;
use crate::mapping::{Line, SEGMENTS_MAX, Scale, Segment};
use crate::part::Part;

/// Layout of the bytes.
const VERSION: u8 = 4;
/// The layout in which nobody told when packets arrived.
const VERSION_WITHOUT_TRANSPORT_SEQUENCE: u8 = 3;
/// The layout in which streams came whole.
const VERSION_WITHOUT_PARTS: u8 = 2;
/// The layout in which viewers could not choose a layer.
const VERSION_WITHOUT_SELECTION: u8 = 1;
/// No sequence number or index reaches it (RFC 3711, section 3.3.1).
const INDEX_END: u64 = 1 << 48;
const BROADCAST_BYTES_MAX: usize = 63;
const CNAME_BYTES_MAX: usize = 255;
const MID_BYTES_MAX: usize = 16;
const RID_BYTES_MAX: usize = 16;
const CODEC_BYTES_MAX: usize = 16;
const FORMATS_MAX: usize = 64;
/// Longest format parameters, in bytes: far above what any browser offers.
const FMTP_BYTES_MAX: usize = 1024;
const PAYLOAD_TYPE_MAX: u8 = 127;

/// Why bytes are no viewer's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Written by another version of this program.
    #[error("layout {version} of a viewer's record is unknown")]
    Version {
        /// The one it says it has.
        version: u8,
    },
    /// The bytes end too early, go on too long, or say what cannot be.
    #[error("a viewer's record is broken")]
    Malformed,
}

impl ViewerRecord {
    /// Its bytes. They hold keys.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u64(self.id.get());
        out.bytes(self.broadcast.as_str().as_bytes());
        out.ip(self.path.local);
        out.address(self.path.remote);
        write_key(&mut out, &self.send);
        write_key(&mut out, &self.receive);
        out.bytes(self.cname.as_bytes());
        write_counter(&mut out, self.srtcp_index);
        out.option(self.srtcp_received, Writer::u64);
        out.option(self.audio.as_ref(), write_track);
        out.option(self.video.as_ref(), write_track);
        out.finish()
    }

    /// Reads what [`ViewerRecord::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] for anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let version = input.u8().ok_or(DecodeError::Malformed)?;
        if !(VERSION_WITHOUT_SELECTION..=VERSION).contains(&version) {
            return Err(DecodeError::Version { version });
        }
        let record = read(&mut input, version).filter(|_| input.is_empty());
        record.ok_or(DecodeError::Malformed)
    }
}

fn read(input: &mut Reader<'_>, version: u8) -> Option<ViewerRecord> {
    let read_track = |input: &mut Reader<'_>| read_track(input, version);
    Some(ViewerRecord {
        id: ViewerId::new(input.u64()?),
        broadcast: BroadcastId::new(&input.text(BROADCAST_BYTES_MAX)?).ok()?,
        path: Path { local: input.ip()?, remote: input.address()? },
        send: read_key(input)?,
        receive: read_key(input)?,
        cname: input.text(CNAME_BYTES_MAX)?,
        srtcp_index: read_counter(input)?,
        srtcp_received: input.option(read_index)?,
        audio: input.option(read_track)?,
        video: input.option(read_track)?,
    })
}

fn write_key(out: &mut Writer, key: &MasterKey) {
    out.u16(key.profile().id());
    out.bytes(key.key());
    out.bytes(key.salt());
}

fn read_key(input: &mut Reader<'_>) -> Option<MasterKey> {
    let profile = Profile::from_id(input.u16()?)?;
    let (key, salt) = (input.bytes(profile.key_len())?, input.bytes(profile.salt_len())?);
    MasterKey::new(profile, key, salt).ok()
}

fn write_counter(out: &mut Writer, counter: CounterBlock) {
    out.u64(counter.next);
    out.u64(counter.reserved_until);
}

fn read_counter(input: &mut Reader<'_>) -> Option<CounterBlock> {
    let counter = CounterBlock { next: read_index(input)?, reserved_until: read_index(input)? };
    (counter.next <= counter.reserved_until).then_some(counter)
}

fn read_index(input: &mut Reader<'_>) -> Option<u64> {
    input.u64().filter(|index| *index < INDEX_END)
}

fn write_track(out: &mut Writer, track: &TrackRecord) {
    write_out_track(out, &track.out);
    out.u8(track.layer);
    write_selection(out, &track.selection);
    out.list(&track.segments, write_segment);
    out.option(track.line, |out, line| {
        out.u64(line.capture_time.to_bits());
        out.u32(line.timestamp);
    });
    out.u32(track.first_timestamp);
    write_counter(out, track.sent);
    write_counter(out, track.rtx);
    out.option(track.out.extensions.transport_sequence, Writer::u8);
}

fn read_track(input: &mut Reader<'_>, version: u8) -> Option<TrackRecord> {
    let mut track = TrackRecord {
        out: read_out_track(input)?,
        layer: input.u8()?,
        selection: match version {
            VERSION_WITHOUT_SELECTION => Selection::Auto,
            _ => read_selection(input)?,
        },
        segments: input.list(SEGMENTS_MAX, |input| read_segment(input, version))?,
        line: input.option(|input| {
            Some(Line { capture_time: NtpTime::from_bits(input.u64()?), timestamp: input.u32()? })
        })?,
        first_timestamp: input.u32()?,
        sent: read_counter(input)?,
        rtx: read_counter(input)?,
    };
    if version > VERSION_WITHOUT_TRANSPORT_SEQUENCE {
        track.out.extensions.transport_sequence = input.option(read_extension_id)?;
    }
    Some(track)
}

fn write_selection(out: &mut Writer, selection: &Selection) {
    match selection {
        Selection::Auto => out.u8(0),
        Selection::Layer(layer) => {
            out.u8(1);
            out.u8(*layer);
        }
        Selection::Rid(rid) => {
            out.u8(2);
            out.bytes(rid.as_str().as_bytes());
        }
        Selection::UpTo(rid) => {
            out.u8(3);
            out.bytes(rid.as_str().as_bytes());
        }
    }
}

fn read_selection(input: &mut Reader<'_>) -> Option<Selection> {
    match input.u8()? {
        0 => Some(Selection::Auto),
        1 => input.u8().map(Selection::Layer),
        2 => Some(Selection::Rid(Rid::new(&input.text(RID_BYTES_MAX)?).ok()?)),
        3 => Some(Selection::UpTo(Rid::new(&input.text(RID_BYTES_MAX)?).ok()?)),
        _ => None,
    }
}

fn write_out_track(out: &mut Writer, track: &OutTrack) {
    out.bytes(track.mid.as_str().as_bytes());
    out.u32(track.ssrc.get());
    out.option(track.rtx_ssrc, |out, ssrc| out.u32(ssrc.get()));
    out.list(&track.formats, write_format);
    // The one that came later stands behind the track.
    let Extensions { mid, abs_capture_time, audio_level, video_orientation, transport_sequence: _ } =
        track.extensions;
    for id in [mid, abs_capture_time, audio_level, video_orientation] {
        out.option(id, Writer::u8);
    }
    out.u8(u8::from(track.nack));
}

fn read_out_track(input: &mut Reader<'_>) -> Option<OutTrack> {
    let extension_id = |input: &mut Reader<'_>| input.option(read_extension_id);
    Some(OutTrack {
        mid: Mid::new(&input.text(MID_BYTES_MAX)?).ok()?,
        ssrc: Ssrc::new(input.u32()?),
        rtx_ssrc: input.option(|input| input.u32().map(Ssrc::new))?,
        formats: input.list(FORMATS_MAX, read_format)?,
        extensions: Extensions {
            mid: extension_id(input)?,
            abs_capture_time: extension_id(input)?,
            audio_level: extension_id(input)?,
            video_orientation: extension_id(input)?,
            transport_sequence: None,
        },
        nack: input.flag()?,
    })
}

fn read_extension_id(input: &mut Reader<'_>) -> Option<u8> {
    input.u8().filter(|id| (1..=14).contains(id))
}

fn write_format(out: &mut Writer, format: &Format) {
    out.bytes(format.codec.encoding_name().as_bytes());
    out.bytes(format.fmtp.as_bytes());
    out.u8(format.payload_type);
    out.option(format.rtx_payload_type, Writer::u8);
}

fn read_format(input: &mut Reader<'_>) -> Option<Format> {
    Some(Format {
        codec: Codec::from_encoding_name(&input.text(CODEC_BYTES_MAX)?)?,
        fmtp: input.text(FMTP_BYTES_MAX)?.into(),
        payload_type: read_payload_type(input)?,
        rtx_payload_type: input.option(read_payload_type)?,
    })
}

fn read_payload_type(input: &mut Reader<'_>) -> Option<u8> {
    input.u8().filter(|payload_type| *payload_type <= PAYLOAD_TYPE_MAX)
}

fn write_segment(out: &mut Writer, segment: &Segment) {
    out.u64(segment.first_out.get());
    out.u32(segment.source.get());
    out.u64(segment.source_base.get());
    out.u32(segment.source_timestamp);
    out.u32(segment.out_timestamp);
    out.u16(segment.scale.numerator);
    out.u16(segment.scale.denominator);
    out.u8(segment.payload_type);
    out.option(segment.part, |out, part| {
        out.u8(part.point);
        out.u8(part.generation);
        out.u16(part.count);
    });
}

fn read_segment(input: &mut Reader<'_>, version: u8) -> Option<Segment> {
    Some(Segment {
        first_out: SeqNo::new(read_index(input)?),
        source: Ssrc::new(input.u32()?),
        source_base: SeqNo::new(read_index(input)?),
        source_timestamp: input.u32()?,
        out_timestamp: input.u32()?,
        scale: Scale {
            numerator: input.u16()?,
            denominator: input.u16().filter(|denominator| *denominator > 0)?,
        },
        payload_type: read_payload_type(input)?,
        part: match version {
            VERSION_WITHOUT_SELECTION | VERSION_WITHOUT_PARTS => None,
            _ => input.option(read_part)?,
        },
    })
}

fn read_part(input: &mut Reader<'_>) -> Option<Part> {
    let point = input.u8().filter(|point| (1..POINTS_MAX as u8).contains(point))?;
    Some(Part { point, generation: input.u8()?, count: input.u16()? })
}

#[cfg(test)]
mod tests;
