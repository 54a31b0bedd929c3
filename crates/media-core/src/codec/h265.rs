//! H.265 (RFC 7798; syntax of ITU-T H.265): where keyframes start, and the profile of a sequence.

use super::bits::BitReader;
use super::{KeyframePart, Profile};

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

/// What the whole sequence parameter set in this payload says, if there is one.
pub(super) fn profile(payload: &[u8]) -> Option<Profile> {
    let (header, body) = payload.split_at_checked(HEADER_BYTES)?;
    let set = match unit_type(header[0]) {
        TYPE_SPS => body,
        TYPE_AGGREGATE => {
            units(body).find_map(|(unit_type, unit)| (unit_type == TYPE_SPS).then_some(unit))?
        }
        _ => return None,
    };
    general_profile(&mut BitReader::new(set))
}

/// From the beginning of a sequence parameter set (sections 7.3.2.2.1 and 7.3.3).
fn general_profile(bits: &mut BitReader<'_>) -> Option<Profile> {
    bits.bits(8)?; // sps_video_parameter_set_id, sps_max_sub_layers_minus1, sps_temporal_id_nesting_flag
    bits.bits(2)?; // general_profile_space
    let tier = bits.bits(1)? as u8;
    let coded_for = bits.bits(5)? as u8;
    let compatible = bits.bits(32)?;
    bits.bits(32)?; // general_progressive_source_flag to
    bits.bits(16)?; // general_inbld_flag
    let level = bits.bits(8)? as u8;
    // What is coded for more may still be what decoders of less are made for, and then says so.
    let plays_as = |profile: u8| compatible >> (31 - u32::from(profile)) & 1 == 1;
    let profile = [1, 2].into_iter().find(|profile| *profile == coded_for || plays_as(*profile));
    Some(Profile::H265 { profile: profile.unwrap_or(coded_for), tier, level })
}

fn aggregate(rest: &[u8]) -> Option<KeyframePart> {
    units(rest).find_map(|(unit_type, body)| unit_part(unit_type, body))
}

/// Type and body of the units of an aggregate, which have 16 bits of length before each; decoding order numbers are not
/// negotiated (sprop-max-don-diff is 0).
fn units(mut rest: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        rest = after;
        let (header, body) = unit.split_at_checked(HEADER_BYTES)?;
        Some((unit_type(header[0]), body))
    })
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
