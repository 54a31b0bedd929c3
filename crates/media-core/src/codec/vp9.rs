//! VP9 (RFC 9628; frames of the VP9 bitstream specification): where keyframes start, and their profile.

use super::Profile;
use super::bits::BitReader;
use crate::vp9_descriptor::{
    BEGINS_FRAME, FLEXIBLE, INTER_PREDICTED, LAYER_INDICES, LONG_ID, PICTURE_ID, STRUCTURE, STRUCTURE_GROUPS,
    STRUCTURE_SIZES,
};

/// `frame_marker` of every frame.
const FRAME_MARKER: u32 = 2;

/// `frame_sync_code` of every keyframe.
const SYNC_CODE: u32 = 0x49_83_42;

/// The one profile whose headers have a reserved bit.
const LAST_PROFILE: u32 = 3;

/// The payload begins a frame of the lowest spatial layer that no other picture is needed for.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    lowest_intra_start(payload).is_some()
}

/// The profile of a keyframe that begins here (section 6.2, `uncompressed_header`).
pub(super) fn profile(payload: &[u8]) -> Option<Profile> {
    let layers_at = lowest_intra_start(payload)?;
    let frame = payload.get(layers_at..)?;
    let mut bits = BitReader::plain(after_descriptor(payload[0], frame)?);
    if bits.bits(2)? != FRAME_MARKER {
        return None;
    }
    let (low, high) = (bits.bits(1)?, bits.bits(1)?);
    let profile = high << 1 | low;
    if profile == LAST_PROFILE {
        bits.bits(1)?;
    }
    let (shows_existing, is_inter) = (bits.bits(1)? == 1, bits.bits(1)? == 1);
    if shows_existing || is_inter {
        return None;
    }
    // show_frame and error_resilient_mode
    bits.bits(2)?;
    (bits.bits(24)? == SYNC_CODE).then_some(Profile::Vp9 { profile: profile as u8 })
}

/// Where the layer indices stand, or would.
fn lowest_intra_start(payload: &[u8]) -> Option<usize> {
    let descriptor = *payload.first()?;
    if descriptor & (INTER_PREDICTED | BEGINS_FRAME) != BEGINS_FRAME {
        return None;
    }
    let mut length = 1;
    if descriptor & PICTURE_ID != 0 {
        let is_long = payload.get(1)? & LONG_ID != 0;
        length += if is_long { 2 } else { 1 };
    }
    if descriptor & LAYER_INDICES != 0 {
        let spatial_layer = payload.get(length)? >> 1 & 0x07;
        if spatial_layer != 0 {
            return None;
        }
    }
    Some(length)
}

/// What follows the layer indices and the structure, of a picture without references.
fn after_descriptor(descriptor: u8, mut rest: &[u8]) -> Option<&[u8]> {
    if descriptor & LAYER_INDICES != 0 {
        // TL0PICIDX, where references are not listed.
        rest = rest.get(if descriptor & FLEXIBLE == 0 { 2 } else { 1 }..)?;
    }
    if descriptor & STRUCTURE == 0 {
        return Some(rest);
    }
    let (&structure, after) = rest.split_first()?;
    rest = after;
    if structure & STRUCTURE_SIZES != 0 {
        rest = rest.get(4 * (usize::from(structure >> 5) + 1)..)?;
    }
    if structure & STRUCTURE_GROUPS != 0 {
        let (&pictures, mut after) = rest.split_first()?;
        for _ in 0..pictures {
            let (&picture, references) = after.split_first()?;
            after = references.get(usize::from(picture >> 2 & 0x03)..)?;
        }
        rest = after;
    }
    Some(rest)
}
