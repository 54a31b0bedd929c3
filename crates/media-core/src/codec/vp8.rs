//! VP8 (RFC 7741): where keyframes start, and how large they are.

/// The payload begins partition 0 of a frame whose header says that it is a keyframe.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    frame(payload).and_then(|frame| frame.first()).is_some_and(|first| first & 0x01 == 0)
}

/// Width and height of a keyframe, without the scaling that players are asked for (RFC 6386, section 9.1).
pub(super) fn picture_size(payload: &[u8]) -> Option<(u32, u32)> {
    let [first, _, _, 0x9d, 0x01, 0x2a, size @ ..] = frame(payload)? else { return None };
    let (size, _) = size.split_first_chunk::<4>().filter(|_| first & 0x01 == 0)?;
    let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    Some((side(size[0], size[1]), side(size[2], size[3])))
}

/// The frame from its header on (section 4.3), if it begins here.
fn frame(payload: &[u8]) -> Option<&[u8]> {
    let descriptor = *payload.first()?;
    let starts_frame = descriptor & 0x10 != 0 && descriptor & 0x07 == 0;
    if !starts_frame {
        return None;
    }
    let mut length = 1;
    if descriptor & 0x80 != 0 {
        let extension = *payload.get(1)?;
        length += 1;
        if extension & 0x80 != 0 {
            let is_long = payload.get(length)? & 0x80 != 0;
            length += if is_long { 2 } else { 1 };
        }
        length += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
    }
    payload.get(length..)
}
