//! H.265 (RFC 7798): where keyframes start.

use super::KeyframePart;

/// First and last type of pictures that nothing before them is needed for: BLA, IDR, CRA.
const TYPE_RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=21;
const TYPE_VPS: u8 = 32;
const TYPE_SPS: u8 = 33;
const TYPE_AGGREGATE: u8 = 48;
const TYPE_FRAGMENT: u8 = 49;

/// Bytes of a NAL unit header, and of the payload header which has the same form.
const HEADER_BYTES: usize = 2;

pub(super) fn keyframe_part(payload: &[u8]) -> Option<KeyframePart> {
    let (header, body) = payload.split_at_checked(HEADER_BYTES)?;
    match unit_type(header[0]) {
        TYPE_AGGREGATE => aggregate(body),
        TYPE_FRAGMENT => {
            let (&header, body) = body.split_first()?;
            if header & 0x80 == 0 { None } else { unit_part(header & 0x3f, body) }
        }
        unit_type => unit_part(unit_type, body),
    }
}

/// Units with 16 bits of length before each; decoding order numbers are not negotiated (sprop-max-don-diff is 0).
fn aggregate(mut rest: &[u8]) -> Option<KeyframePart> {
    loop {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = after;
        let (header, body) = unit.split_at_checked(HEADER_BYTES)?;
        if let Some(part) = unit_part(unit_type(header[0]), body) {
            return Some(part);
        }
    }
}

const fn unit_type(first: u8) -> u8 {
    (first >> 1) & 0x3f
}

fn unit_part(unit_type: u8, body: &[u8]) -> Option<KeyframePart> {
    let first_slice = body.first().is_some_and(|byte| byte & 0x80 != 0);
    match unit_type {
        TYPE_VPS => Some(KeyframePart::Leading),
        TYPE_SPS => Some(KeyframePart::Following),
        picture if TYPE_RANDOM_ACCESS.contains(&picture) && first_slice => Some(KeyframePart::Following),
        _ => None,
    }
}
