//! H.264 (RFC 6184; syntax of ITU-T H.264): NAL units in RTP payloads, sequence parameter sets, slice types.

mod sequence;

pub use sequence::{ParseError, SequenceParameters};

use super::KeyframePart;
use super::bits::BitReader;

const TYPE_SLICE: u8 = 1;
const TYPE_SLICE_PARTITION_A: u8 = 2;
const TYPE_IDR: u8 = 5;
const TYPE_SPS: u8 = 7;
const TYPE_STAP_A: u8 = 24;
const TYPE_FU_A: u8 = 28;

/// How a picture's slice is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceType {
    /// From itself only.
    I,
    /// From one picture for each block.
    P,
    /// From two, usually of the past and of the future: browsers show such streams jerkily or not at all.
    B,
}

/// Type of the first slice that begins in this payload. `None` if none does, or if it is of the switching kinds.
#[must_use]
pub fn slice_type(payload: &[u8]) -> Option<SliceType> {
    let slice = NalUnits::new(payload)
        .find(|unit| matches!(unit.unit_type, TYPE_SLICE | TYPE_SLICE_PARTITION_A | TYPE_IDR))?;
    let mut bits = BitReader::new(slice.body);
    let _first_macroblock = bits.exp_golomb()?;
    // Types 5 to 9 promise that all slices of the picture are alike.
    match bits.exp_golomb()? % 5 {
        0 => Some(SliceType::P),
        1 => Some(SliceType::B),
        2 => Some(SliceType::I),
        _ => None,
    }
}

/// The sequence parameter set in this payload, if there is a whole and valid one.
#[must_use]
pub fn sequence_parameters(payload: &[u8]) -> Option<SequenceParameters> {
    let unit = NalUnits::new(payload).find(|unit| unit.unit_type == TYPE_SPS && !unit.is_fragment)?;
    SequenceParameters::parse_body(unit.body).ok()
}

pub(super) fn keyframe_part(payload: &[u8]) -> Option<KeyframePart> {
    NalUnits::new(payload).find_map(|unit| match unit.unit_type {
        TYPE_SPS => Some(KeyframePart::Leading),
        // first_mb_in_slice is zero, which is coded as one set bit: not a later slice of the same picture.
        TYPE_IDR if unit.body.first().is_some_and(|byte| byte & 0x80 != 0) => Some(KeyframePart::Following),
        _ => None,
    })
}

struct NalUnit<'a> {
    unit_type: u8,
    /// After the NAL unit header; what this packet has of it.
    body: &'a [u8],
    is_fragment: bool,
}

/// The NAL units that begin in one RTP payload.
enum NalUnits<'a> {
    One(Option<NalUnit<'a>>),
    /// Each with 16 bits of length before it.
    Aggregate(&'a [u8]),
}

impl<'a> NalUnits<'a> {
    fn new(payload: &'a [u8]) -> Self {
        let Some((&header, body)) = payload.split_first() else { return Self::One(None) };
        match header & 0x1f {
            TYPE_STAP_A => Self::Aggregate(body),
            TYPE_FU_A => {
                Self::One(
                    body.split_first()
                        .filter(|(header, _)| *header & 0x80 != 0)
                        .map(|(header, body)| NalUnit { unit_type: header & 0x1f, body, is_fragment: true }),
                )
            }
            unit_type => Self::One(Some(NalUnit { unit_type, body, is_fragment: false })),
        }
    }
}

impl<'a> Iterator for NalUnits<'a> {
    type Item = NalUnit<'a>;

    fn next(&mut self) -> Option<NalUnit<'a>> {
        match self {
            Self::One(unit) => unit.take(),
            Self::Aggregate(rest) => {
                let (length, after) = rest.split_first_chunk::<2>()?;
                let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                *rest = after;
                let (header, body) = unit.split_first()?;
                Some(NalUnit { unit_type: header & 0x1f, body, is_fragment: false })
            }
        }
    }
}
