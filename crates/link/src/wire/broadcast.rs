//! The description of a broadcast as fields of a message.

use model::{Broadcast, BroadcastState, Codec, Epoch, Layer, Rid, Track};

use super::DecodeError;
use super::fields::{Field, Fields, Writer, push, required};
use super::message::{FMTP_BYTES_MAX, LAYERS_MAX, TRACKS_MAX};

/// Longest rid, bytes; its grammar is checked by its type.
const RID_BYTES_MAX: usize = 16;

pub(super) fn encode(broadcast: &Broadcast, writer: &mut Writer<'_>) {
    let state = match broadcast.state {
        BroadcastState::Waiting => 0,
        BroadcastState::Live => 1,
    };
    writer.bytes(1, broadcast.id.as_str().as_bytes()).u8(2, state);
    if let Some(epoch) = broadcast.epoch {
        writer.two_u64(3, epoch.counter, epoch.random);
    }
    for track in broadcast.tracks.iter().take(TRACKS_MAX) {
        writer.nested(4, |inner| encode_track(track, inner));
    }
}

fn encode_track(track: &Track, writer: &mut Writer<'_>) {
    writer.u8(1, codec_number(track.codec));
    // Parameters that do not fit are left out whole: half of them would be a lie.
    if !track.fmtp.is_empty() && track.fmtp.len() <= FMTP_BYTES_MAX {
        writer.bytes(2, track.fmtp.as_bytes());
    }
    for layer in track.layers.iter().take(LAYERS_MAX) {
        writer.nested(3, |inner| {
            inner.u32(1, layer.ssrc.get());
            if let Some(rid) = &layer.rid {
                inner.bytes(2, rid.as_str().as_bytes());
            }
        });
    }
    // Earlier versions do not say it, so what is not said is that it was.
    if !track.was_heard {
        writer.u8(4, 0);
    }
}

pub(super) fn decode(mut fields: Fields<'_>) -> Result<Broadcast, DecodeError> {
    let (mut id, mut state, mut epoch, mut tracks) = (None, None, None, Vec::new());
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => id = Some(field.broadcast_id()?),
            2 => {
                state = Some(match field.u8()? {
                    0 => BroadcastState::Waiting,
                    1 => BroadcastState::Live,
                    _ => return Err(field.outside()),
                });
            }
            3 => epoch = Some(field.two_u64().map(|(counter, random)| Epoch { counter, random })?),
            4 => push(&mut tracks, TRACKS_MAX, 4, decode_track(Fields::new(field.value))?)?,
            _later_version => {}
        }
    }
    Ok(Broadcast {
        id: required(id, "broadcast", "id")?,
        state: required(state, "broadcast", "state")?,
        epoch,
        tracks,
    })
}

fn decode_track(mut fields: Fields<'_>) -> Result<Track, DecodeError> {
    let (mut codec, mut fmtp, mut layers, mut was_heard) = (None, "", Vec::new(), true);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => codec = Some(decode_codec(field)?),
            2 => fmtp = field.text(FMTP_BYTES_MAX)?,
            3 => push(&mut layers, LAYERS_MAX, 3, decode_layer(Fields::new(field.value))?)?,
            4 => was_heard = field.u8()? != 0,
            _later_version => {}
        }
    }
    Ok(Track { codec: required(codec, "track", "codec")?, fmtp: fmtp.into(), layers, was_heard })
}

fn decode_layer(mut fields: Fields<'_>) -> Result<Layer, DecodeError> {
    let (mut ssrc, mut rid) = (None, None);
    while let Some(field) = fields.pop()? {
        match field.tag {
            1 => ssrc = Some(field.ssrc()?),
            2 => {
                let text = field.text(RID_BYTES_MAX)?;
                rid = Some(Rid::new(text).map_err(|_| field.outside())?);
            }
            _later_version => {}
        }
    }
    Ok(Layer { ssrc: required(ssrc, "layer", "ssrc")?, rid })
}

const fn codec_number(codec: Codec) -> u8 {
    match codec {
        Codec::Opus => 1,
        Codec::H264 => 2,
        Codec::H265 => 3,
        Codec::Vp8 => 4,
        Codec::Vp9 => 5,
        Codec::Av1 => 6,
    }
}

fn decode_codec(field: Field<'_>) -> Result<Codec, DecodeError> {
    let number = field.u8()?;
    Codec::ALL.into_iter().find(|codec| codec_number(*codec) == number).ok_or(field.outside())
}
