//! VP8 (RFC 7741): payloads of a sender cut into smaller ones.

use bytes::Bytes;

/// Bits of the payload descriptor (section 4.2).
const EXTENDED: u8 = 0x80;
const BEGINS_PARTITION: u8 = 0x10;

/// A payload cut into smaller ones. `None` if it is not of the format.
pub(crate) fn cut(payload: &Bytes, max: usize) -> Option<Vec<Bytes>> {
    let (head, data) = payload.split_at_checked(descriptor_bytes(payload)?)?;
    let mut head = head.to_vec();
    let parts = data.chunks(max.checked_sub(head.len()).filter(|room| *room > 0)?);
    let part = |part: &[u8]| {
        let payload = [&head[..], part].concat();
        head[0] &= !BEGINS_PARTITION;
        payload.into()
    };
    Some(parts.map(part).collect())
}

fn descriptor_bytes(payload: &[u8]) -> Option<usize> {
    if payload.first()? & EXTENDED == 0 {
        return Some(1);
    }
    let extension = *payload.get(1)?;
    let mut length = 2;
    if extension & 0x80 != 0 {
        length += if payload.get(length)? & 0x80 != 0 { 2 } else { 1 };
    }
    // The index of the base layer; and one byte of layer and keyframe indices.
    length += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
    Some(length)
}

#[cfg(test)]
mod tests {
    use model::Codec;

    use super::*;

    #[test]
    fn parts_of_a_frame_have_its_descriptor_and_only_the_first_begins_it() {
        let head = [0x90, 0x80, 0x81, 0x02];
        let frame: Vec<u8> = std::iter::once(0).chain((0..2500).map(|byte| byte as u8)).collect();
        let payload = Bytes::from([&head[..], &frame].concat());
        let parts = cut(&payload, 1200).expect("cut");
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [1200, 1200, 113]);
        assert_eq!(parts.iter().flat_map(|part| part[4..].to_vec()).collect::<Vec<_>>(), frame);
        let starts = |part| media_core::codec::starts_keyframe(Codec::Vp8, part);
        assert_eq!(parts.iter().map(|part| starts(part)).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(cut(&Bytes::from_static(&[0x80]), 1200), None);
    }
}
