//! VP9 (RFC 9628): where keyframes start.

const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const BEGINS_FRAME: u8 = 0x08;

/// The payload begins a frame of the lowest spatial layer that no other picture is needed for.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    lowest_intra_start(payload).is_some()
}

fn lowest_intra_start(payload: &[u8]) -> Option<()> {
    let descriptor = *payload.first()?;
    if descriptor & (INTER_PREDICTED | BEGINS_FRAME) != BEGINS_FRAME {
        return None;
    }
    let mut length = 1;
    if descriptor & PICTURE_ID != 0 {
        let is_long = payload.get(1)? & 0x80 != 0;
        length += if is_long { 2 } else { 1 };
    }
    if descriptor & LAYER_INDICES != 0 {
        let spatial_layer = payload.get(length)? >> 1 & 0x07;
        if spatial_layer != 0 {
            return None;
        }
    }
    Some(())
}
