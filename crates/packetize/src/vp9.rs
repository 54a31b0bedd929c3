//! VP9 (RFC 9628): frames into payloads, in flexible mode without layers.

use bytes::{Bytes, BytesMut};

/// Bits of the payload descriptor's first byte (section 4.2).
const PICTURE_ID: u8 = 0x80;
const INTER_PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS_FRAME: u8 = 0x08;
const ENDS_FRAME: u8 = 0x04;
const SCALABILITY: u8 = 0x02;
/// The picture id has 15 bits.
const LONG_ID: u16 = 0x8000;
/// Reference to the picture before, and to no other.
const REFERENCE_BEFORE: u8 = 1 << 1;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Vp9Stream {
    picture_id: u16,
}

impl Vp9Stream {
    /// Payloads of one frame, or of a frame with hidden ones before it, and whether it is a keyframe.
    pub(crate) fn picture(&mut self, data: &Bytes, payload_bytes_max: usize) -> (Vec<Bytes>, bool) {
        let is_keyframe = is_keyframe(data);
        let mut descriptor = vec![PICTURE_ID | FLEXIBLE | if is_keyframe { 0 } else { INTER_PREDICTED }];
        descriptor.extend_from_slice(&(LONG_ID | self.picture_id).to_be_bytes());
        if !is_keyframe {
            descriptor.push(REFERENCE_BEFORE);
        }
        self.picture_id = (self.picture_id + 1) & !LONG_ID;
        let part_bytes = payload_bytes_max - descriptor.len();
        let count = data.len().div_ceil(part_bytes);
        let payload = |(index, part): (usize, &[u8])| {
            let mut payload = BytesMut::with_capacity(descriptor.len() + part.len());
            payload.extend_from_slice(&descriptor);
            payload[0] |= if index == 0 { BEGINS_FRAME } else { 0 };
            payload[0] |= if index + 1 == count { ENDS_FRAME } else { 0 };
            payload.extend_from_slice(part);
            payload.freeze()
        };
        (data.chunks(part_bytes).enumerate().map(payload).collect(), is_keyframe)
    }
}

/// A payload of a sender cut into smaller ones. `None` if it is not of the format.
pub(crate) fn cut(payload: &Bytes, max: usize) -> Option<Vec<Bytes>> {
    let (before_structure, length) = descriptor(payload)?;
    let first = *payload.first()?;
    let (head, data) = payload.split_at_checked(length)?;
    if head.len() >= max {
        return None;
    }
    let (begin, rest) = data.split_at_checked(max - head.len())?;
    let mut parts = vec![[head, begin].concat()];
    parts[0][0] &= !ENDS_FRAME;
    // The structure of layers stands at the beginning only.
    let mut following = head[..before_structure].to_vec();
    following[0] &= !(BEGINS_FRAME | ENDS_FRAME | SCALABILITY);
    parts.extend(rest.chunks(max - following.len()).map(|part| [&following[..], part].concat()));
    if let Some(last) = parts.last_mut() {
        last[0] |= first & ENDS_FRAME;
    }
    Some(parts.into_iter().map(Bytes::from).collect())
}

/// Bytes of the payload descriptor (section 4.2) without its scalability structure, and with it.
fn descriptor(payload: &[u8]) -> Option<(usize, usize)> {
    let first = *payload.first()?;
    let mut length = 1;
    if first & PICTURE_ID != 0 {
        length += if payload.get(length)? & 0x80 != 0 { 2 } else { 1 };
    }
    if first & LAYER_INDICES != 0 {
        length += if first & FLEXIBLE == 0 { 2 } else { 1 };
    }
    if first & FLEXIBLE != 0 && first & INTER_PREDICTED != 0 {
        for _ in 0..3 {
            let has_more = payload.get(length)? & 1 != 0;
            length += 1;
            if !has_more {
                break;
            }
        }
    }
    let before_structure = length;
    if first & SCALABILITY != 0 {
        let structure = *payload.get(length)?;
        length += 1;
        if structure & 0x10 != 0 {
            length += 4 * (usize::from(structure >> 5) + 1);
        }
        if structure & 0x08 != 0 {
            let pictures = *payload.get(length)?;
            length += 1;
            for _ in 0..pictures {
                length += 1 + usize::from(*payload.get(length)? >> 2 & 0x03);
            }
        }
    }
    (before_structure <= payload.len() && length <= payload.len()).then_some((before_structure, length))
}

/// From the first bits of the uncompressed header (VP9 Bitstream & Decoding Process Specification, section 6.2).
fn is_keyframe(data: &[u8]) -> bool {
    const FRAME_MARKER: u8 = 2;
    let Some(&first) = data.first() else { return false };
    let is_profile_3 = first & 0x30 == 0x30;
    // show_existing_frame and frame_type, behind a reserved bit in profile 3.
    let bits = if is_profile_3 { first >> 1 } else { first >> 2 } & 0x03;
    first >> 6 == FRAME_MARKER && bits == 0
}

#[cfg(test)]
mod tests {
    use model::Codec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keyframes_are_known_by_their_header() {
        assert!(is_keyframe(&[0x82]));
        assert!(!is_keyframe(&[0x86]), "predicted");
        assert!(!is_keyframe(&[0x8a]), "shows an earlier frame");
        assert!(is_keyframe(&[0xb0]) && !is_keyframe(&[0xb2]), "profile 3");
        assert!(!is_keyframe(&[0x02]) && !is_keyframe(&[]));
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_from_its_payloads(
            body in prop::collection::vec(any::<u8>(), 1..5000),
            is_key in any::<bool>(),
            max in crate::PAYLOAD_BYTES_MIN..1500,
        ) {
            let mut frame = body;
            frame[0] = if is_key { 0x82 } else { 0x86 };
            let mut stream = Vp9Stream { picture_id: 0x7fff };
            let (payloads, is_keyframe) = stream.picture(&frame.clone().into(), max);
            prop_assert_eq!((is_keyframe, stream.picture_id), (is_key, 0));
            let descriptor_bytes = if is_key { 3 } else { 4 };
            let last = payloads.len() - 1;
            let mut again = Vec::new();
            for (index, payload) in payloads.iter().enumerate() {
                prop_assert!(payload.len() <= max);
                let ends = (payload[0] & BEGINS_FRAME != 0, payload[0] & ENDS_FRAME != 0);
                prop_assert_eq!(ends, (index == 0, index == last));
                prop_assert_eq!(&payload[1..3], &[0xff, 0xff]);
                let starts = media_core::codec::starts_keyframe(Codec::Vp9, payload);
                prop_assert_eq!(starts, is_key && index == 0);
                again.extend_from_slice(&payload[descriptor_bytes..]);
            }
            prop_assert_eq!(again, frame);
        }
    }
}
