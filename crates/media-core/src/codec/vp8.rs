//! VP8 (RFC 7741): where keyframes start.

/// The payload begins partition 0 of a frame whose header says that it is a keyframe.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    frame_header(payload).is_some_and(|first| first & 0x01 == 0)
}

/// First byte of the frame header (section 4.3), if the frame begins here.
fn frame_header(payload: &[u8]) -> Option<u8> {
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
    payload.get(length).copied()
}
