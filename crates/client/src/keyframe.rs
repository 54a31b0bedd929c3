//! Where a keyframe starts, read from RTP payloads. Independent of `media-core` on purpose: tests judge the tree with it.

use model::Codec;

/// H264 NAL unit types (RFC 6184, section 5.2; ITU-T H.264, table 7-1).
const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;

/// Whether `payload` is the first packet of a keyframe. Codecs whose payload is not looked into count as keyframes,
/// so that nothing is ever asked of their publisher.
pub(crate) fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264(payload).unwrap_or(false),
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::Opus | Codec::Vp9 | Codec::Av1 | Codec::H265 => true,
    }
}

fn h264(payload: &[u8]) -> Option<bool> {
    let is_key = |nal: u8| matches!(nal & 0x1f, NAL_IDR | NAL_SPS);
    match payload.first()? & 0x1f {
        NAL_STAP_A => Some(aggregated(payload.get(1..)?).any(is_key)),
        NAL_FU_A => {
            let header = *payload.get(1)?;
            Some(header & 0x80 != 0 && is_key(header))
        }
        nal => Some(is_key(nal)),
    }
}

/// Headers of the NAL units of a STAP-A (RFC 6184, section 5.7.1): encoders put a delimiter or other information before
/// the parameter sets.
fn aggregated(mut units: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (size, rest) = units.split_first_chunk()?;
        let (unit, rest) = rest.split_at_checked(u16::from_be_bytes(*size).into())?;
        units = rest;
        unit.first().copied()
    })
}

/// RFC 7741, section 4.2: the payload header follows the descriptor; its lowest bit is 0 in a keyframe.
fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let starts_first_partition = first & 0x10 != 0 && first & 0x07 == 0;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extensions = *payload.get(at)?;
        at += 1;
        if extensions & 0x80 != 0 {
            at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extensions & 0x40 != 0);
        at += usize::from(extensions & 0x30 != 0);
    }
    Some(starts_first_partition && payload.get(at)? & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keyframes_are_told_from_deltas() {
        let after_delimiter = [0x78, 0, 2, 0x09, 0x10, 0, 2, 0x67, 0x42];
        for key in
            [&[0x67, 0x42][..], &[0x65, 0x88], &[0x78, 0, 2, 0x67, 0x42], &after_delimiter, &[0x7c, 0x85, 1]]
        {
            assert!(starts_keyframe(Codec::H264, key), "{key:02x?}");
        }
        let delta_after_delimiter = [0x78, 0, 2, 0x09, 0x30, 0, 2, 0x41, 0x9a];
        for delta in [
            &[0x41, 0x9a][..],
            &[0x09, 0xf0],
            &[0x7c, 0x05, 1],
            &[0x7c, 0x81, 1],
            &delta_after_delimiter,
            &[0x78, 0, 9, 0x67],
            &[],
        ] {
            assert!(!starts_keyframe(Codec::H264, delta), "{delta:02x?}");
        }
        for key in [&[0x10, 0x10][..], &[0x90, 0x80, 0x81, 0x22, 0x10], &[0x90, 0xe0, 0x11, 5, 0x40, 0x10]] {
            assert!(starts_keyframe(Codec::Vp8, key), "{key:02x?}");
        }
        for delta in
            [&[0x10, 0x11][..], &[0x00, 0x10], &[0x11, 0x10], &[0x90, 0x80, 0x81, 0x22, 0x11], &[0x90]]
        {
            assert!(!starts_keyframe(Codec::Vp8, delta), "{delta:02x?}");
        }
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            for codec in Codec::ALL {
                let _ = starts_keyframe(codec, &payload);
            }
        }
    }
}
