//! AV1 (RTP Payload Format For AV1, section 4.4; syntax of the AV1 bitstream specification): where keyframes start, and
//! the profile of a sequence.

use super::Profile;
use super::bits::BitReader;

/// The first element goes on from the packet before.
const CONTINUES: u8 = 0x80;
/// First packet of a coded video sequence.
const NEW_SEQUENCE: u8 = 0x08;
const TYPE_SEQUENCE_HEADER: u8 = 1;
/// Of the header of an open bitstream unit: one more byte of header follows, the size follows.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// Levels above this one, which is 3.3, come with a tier.
const LEVEL_WITHOUT_TIER_MAX: u8 = 7;

/// The packet begins a coded video sequence and has its sequence header.
pub(super) fn starts_keyframe(payload: &[u8]) -> bool {
    sequence_header(payload).is_some()
}

/// What the sequence header in this payload says.
pub(super) fn profile(payload: &[u8]) -> Option<Profile> {
    let (&header, mut body) = sequence_header(payload)?.split_first()?;
    if header & HAS_EXTENSION != 0 {
        body = body.get(1..)?;
    }
    if header & HAS_SIZE != 0 {
        body = leb128(body)?.1;
    }
    sequence_profile(&mut BitReader::plain(body))
}

/// From the beginning of a sequence header up to its first operating point, the whole of the stream (section 5.5.1).
fn sequence_profile(bits: &mut BitReader<'_>) -> Option<Profile> {
    let profile = bits.bits(3)? as u8;
    bits.flag()?; // still_picture
    if bits.flag()? {
        return Some(Profile::Av1 { profile, tier: 0, level: bits.bits(5)? as u8 });
    }
    let has_timing = bits.flag()?;
    if has_timing {
        bits.bits(32)?; // num_units_in_display_tick
        bits.bits(32)?; // time_scale
        if bits.flag()? {
            bits.exp_golomb()?; // num_ticks_per_picture_minus_1
        }
        if bits.flag()? {
            bits.bits(5)?; // buffer_delay_length_minus_1
            bits.bits(32)?; // num_units_in_decoding_tick
            bits.bits(10)?; // buffer_removal_time_length_minus_1, frame_presentation_time_length_minus_1
        }
    }
    bits.flag()?; // initial_display_delay_present_flag
    bits.bits(5)?; // operating_points_cnt_minus_1
    bits.bits(12)?; // operating_point_idc
    let level = bits.bits(5)? as u8;
    let tier = if level > LEVEL_WITHOUT_TIER_MAX { bits.bits(1)? as u8 } else { 0 };
    Some(Profile::Av1 { profile, tier, level })
}

/// The sequence header that a coded video sequence begins with here, as far as this packet has it.
fn sequence_header(payload: &[u8]) -> Option<&[u8]> {
    let (&aggregation, elements) = payload.split_first()?;
    if aggregation & (CONTINUES | NEW_SEQUENCE) != NEW_SEQUENCE {
        return None;
    }
    // Elements with a length before them: all where the count is 0, all but the last where it is 1 to 3.
    let count = aggregation >> 4 & 0x03;
    Elements { rest: elements, with_length: if count == 0 { u8::MAX } else { count - 1 } }
        .find(|element| element.first().is_some_and(|header| header >> 3 & 0x0f == TYPE_SEQUENCE_HEADER))
}

struct Elements<'a> {
    rest: &'a [u8],
    with_length: u8,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        if self.with_length == 0 {
            return Some(std::mem::take(&mut self.rest));
        }
        self.with_length -= 1;
        let (length, after) = leb128(self.rest)?;
        let (element, after) = after.split_at_checked(length)?;
        self.rest = after;
        Some(element)
    }
}

/// A number in seven-bit groups, the lowest first, and what follows it; at most 32 bits.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}
