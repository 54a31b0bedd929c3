//! AV1 (RTP Payload Format For AV1, version 1.0, section 4): OBUs of a temporal unit into payloads.
//!
//! The sequence header stands in the configuration record and, with most encoders, in every keyframe; it is put into
//! those that lack it. Temporal delimiters, tile lists and padding are left out (section 5).

use bytes::{Buf as _, Bytes, BytesMut};

use crate::record::SET_BYTES_MAX;
use crate::video::PictureError;

/// OBU types (AV1 Bitstream & Decoding Process Specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// Bits of an OBU's header.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// Bits of the aggregation header (section 4.4): goes on from the packet before, goes on in the next, begins a coded
/// video sequence.
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
/// Elements that the aggregation header can count, which saves the length of the last one.
const ELEMENTS_MAX: usize = 3;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Av1Stream {
    /// Without its size.
    sequence_header: Option<Bytes>,
}

impl Av1Stream {
    /// Takes the OBUs of the configuration record.
    pub(crate) fn configure(&mut self, record: Bytes) {
        let elements = elements(record).unwrap_or_default();
        let sequence_header = elements.into_iter().find(|element| obu_type(element) == SEQUENCE_HEADER);
        self.sequence_header = sequence_header.or(self.sequence_header.take());
    }

    /// Payloads of one temporal unit, and whether it begins a coded video sequence.
    pub(crate) fn picture(
        &mut self,
        data: Bytes,
        is_keyframe: bool,
        payload_bytes_max: usize,
    ) -> Result<(Vec<Bytes>, bool), PictureError> {
        let mut elements = elements(data)?;
        elements.retain(|element| !matches!(obu_type(element), TEMPORAL_DELIMITER | TILE_LIST | PADDING));
        if elements.is_empty() {
            return Ok((Vec::new(), false));
        }
        let in_band = elements.iter().find(|element| obu_type(element) == SEQUENCE_HEADER);
        if let Some(header) = in_band {
            if header.len() > SET_BYTES_MAX {
                return Err(PictureError::ParameterSets);
            }
            self.sequence_header = Some(header.clone());
        } else if is_keyframe {
            let header = self.sequence_header.clone().ok_or(PictureError::NoParameterSets)?;
            elements.insert(0, header);
        }
        let whole = Ends { is_new_sequence: is_keyframe, ..Ends::default() };
        Ok((payloads(&elements, whole, payload_bytes_max), is_keyframe))
    }
}

const fn obu_type(element: &[u8]) -> u8 {
    (element[0] >> 3) & 0x0f
}

/// The OBUs, each without its size: the RTP payload says it.
fn elements(mut data: Bytes) -> Result<Vec<Bytes>, PictureError> {
    let mut elements = Vec::new();
    while data.has_remaining() {
        let header = data.get_u8();
        let extension = if header & HAS_EXTENSION == 0 {
            None
        } else {
            Some(data.try_get_u8().map_err(|_| PictureError::Truncated)?)
        };
        let size = if header & HAS_SIZE == 0 { data.len() } else { take_leb128(&mut data)? };
        if size > data.len() {
            return Err(PictureError::Truncated);
        }
        let mut element = BytesMut::with_capacity(2 + size);
        element.extend_from_slice(&[header & !HAS_SIZE]);
        element.extend(extension);
        element.extend_from_slice(&data.split_to(size));
        elements.push(element.freeze());
    }
    Ok(elements)
}

/// A number in seven-bit groups, the lowest first; at most 32 bits (section 4.10.5 of the bitstream specification).
fn take_leb128(data: &mut Bytes) -> Result<usize, PictureError> {
    let mut value = 0u64;
    for index in 0..8 {
        let byte = data.try_get_u8().map_err(|_| PictureError::Truncated)?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return u32::try_from(value).map(|value| value as usize).map_err(|_| PictureError::Truncated);
        }
    }
    Err(PictureError::Truncated)
}

fn put_leb128(mut value: usize, out: &mut BytesMut) {
    while value >= 0x80 {
        out.extend_from_slice(&[value as u8 | 0x80]);
        value >>= 7;
    }
    out.extend_from_slice(&[value as u8]);
}

const fn leb128_bytes(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// A payload of a sender cut into smaller ones. `None` if it is not of the format.
pub(crate) fn cut(mut payload: Bytes, max: usize) -> Option<Vec<Bytes>> {
    let aggregation = payload.try_get_u8().ok()?;
    let ends = Ends {
        is_new_sequence: aggregation & NEW_SEQUENCE != 0,
        continues: aggregation & CONTINUES != 0,
        is_continued: aggregation & CONTINUED != 0,
    };
    let count = usize::from(aggregation >> 4 & 0x03);
    let mut elements = Vec::new();
    for index in 1.. {
        if payload.is_empty() || count > 0 && index > count {
            break;
        }
        let has_length = count == 0 || index < count;
        let length = if has_length { take_leb128(&mut payload).ok()? } else { payload.len() };
        if length > payload.len() {
            return None;
        }
        let element = payload.split_to(length);
        if !element.is_empty() {
            elements.push(element);
        }
    }
    (!elements.is_empty()).then(|| payloads(&elements, ends, max))
}

/// How a row of elements begins and ends.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    is_new_sequence: bool,
    /// The first goes on from the packet before.
    continues: bool,
    /// The last goes on in the next packet.
    is_continued: bool,
}

/// Fills one payload after the other.
fn payloads(elements: &[Bytes], ends: Ends, max: usize) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let (mut index, mut offset) = (0, 0);
    while index < elements.len() {
        let continues = offset > 0 || ends.continues && payloads.is_empty();
        let mut room = max - 1;
        let mut parts: Vec<Bytes> = Vec::new();
        while index < elements.len() && parts.len() < ELEMENTS_MAX {
            // Whoever is no longer the last gets a length.
            let length_bytes = parts.last().map_or(0, |before| leb128_bytes(before.len()));
            let rest = elements[index].len() - offset;
            let taken = rest.min(room.saturating_sub(length_bytes));
            if taken == 0 {
                break;
            }
            parts.push(elements[index].slice(offset..offset + taken));
            room -= length_bytes + taken;
            if taken < rest {
                offset += taken;
                break;
            }
            (index, offset) = (index + 1, 0);
        }
        let mut aggregation = (parts.len() as u8) << 4;
        aggregation |= if continues { CONTINUES } else { 0 };
        let is_continued = offset > 0 || ends.is_continued && index == elements.len();
        aggregation |= if is_continued { CONTINUED } else { 0 };
        aggregation |= if ends.is_new_sequence && payloads.is_empty() { NEW_SEQUENCE } else { 0 };
        payloads.push(join(aggregation, &parts, max));
    }
    payloads
}

fn join(aggregation: u8, parts: &[Bytes], max: usize) -> Bytes {
    let mut payload = BytesMut::with_capacity(max);
    payload.extend_from_slice(&[aggregation]);
    for (index, part) in parts.iter().enumerate() {
        if index + 1 < parts.len() {
            put_leb128(part.len(), &mut payload);
        }
        payload.extend_from_slice(part);
    }
    payload.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn obu(obu_type: u8, body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::from(&[obu_type << 3 | HAS_SIZE][..]);
        put_leb128(body.len(), &mut out);
        out.extend_from_slice(body);
        out.to_vec()
    }

    /// What a receiver makes of the payloads of a temporal unit.
    fn reassemble(payloads: &[Bytes]) -> Vec<Vec<u8>> {
        let mut elements: Vec<Vec<u8>> = Vec::new();
        let mut is_open = false;
        for payload in payloads {
            let (aggregation, mut rest) = (payload[0], payload.slice(1..));
            assert_eq!(aggregation & CONTINUES != 0, is_open);
            let count = usize::from(aggregation >> 4 & 3);
            for index in 0..count {
                let length =
                    if index + 1 < count { take_leb128(&mut rest).expect("a length") } else { rest.len() };
                let part = rest.split_to(length);
                match elements.last_mut() {
                    Some(element) if index == 0 && is_open => element.extend_from_slice(&part),
                    _ => elements.push(part.to_vec()),
                }
            }
            assert!(rest.is_empty());
            is_open = aggregation & CONTINUED != 0;
        }
        assert!(!is_open);
        elements
    }

    #[test]
    fn a_keyframe_without_sequence_header_gets_that_of_the_record() {
        let mut stream = Av1Stream::default();
        let frame = [obu(TEMPORAL_DELIMITER, &[]), obu(6, &[7; 40]), obu(PADDING, &[0; 9])].concat();
        assert_eq!(stream.picture(frame.clone().into(), true, 1200), Err(PictureError::NoParameterSets));
        stream.configure(obu(SEQUENCE_HEADER, &[1, 2, 3]).into());
        let (payloads, is_keyframe) = stream.picture(frame.clone().into(), true, 1200).expect("a picture");
        assert!(is_keyframe);
        let picture = [&[6 << 3][..], &[7; 40]].concat();
        assert_eq!(reassemble(&payloads), [vec![SEQUENCE_HEADER << 3, 1, 2, 3], picture.clone()]);
        assert_eq!(payloads[0][0], 0x20 | NEW_SEQUENCE);
        assert!(media_core::codec::starts_keyframe(model::Codec::Av1, &payloads[0]));
        let (payloads, _) = stream.picture(frame.into(), false, 1200).expect("a picture");
        assert_eq!(reassemble(&payloads), [picture]);
        assert!(!media_core::codec::starts_keyframe(model::Codec::Av1, &payloads[0]));
    }

    proptest! {
        #[test]
        fn every_temporal_unit_comes_back_from_its_payloads(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
            max in crate::PAYLOAD_BYTES_MIN..1500,
        ) {
            let unit: Vec<u8> = bodies.iter().flat_map(|body| obu(6, body)).collect();
            let (payloads, _) = Av1Stream::default().picture(unit.into(), false, max).expect("a picture");
            prop_assert!(payloads.iter().all(|payload| payload.len() <= max));
            let expected: Vec<Vec<u8>> = bodies.iter().map(|body| [&[6 << 3][..], body].concat()).collect();
            prop_assert_eq!(reassemble(&payloads), expected);
        }

        #[test]
        fn payloads_that_are_cut_anew_hold_the_same(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 1..8),
            (large, small) in (1000usize..1500, crate::PAYLOAD_BYTES_MIN..1000),
        ) {
            let coded = bodies.iter().flat_map(|body| obu(6, body));
            let unit: Vec<u8> = obu(SEQUENCE_HEADER, &[1]).into_iter().chain(coded).collect();
            let (payloads, _) = Av1Stream::default().picture(unit.into(), true, large).expect("a picture");
            let expected = reassemble(&payloads);
            let cut: Vec<Bytes> =
                payloads.iter().flat_map(|payload| cut(payload.clone(), small).expect("of the format")).collect();
            prop_assert!(cut.iter().all(|payload| payload.len() <= small));
            prop_assert_eq!(reassemble(&cut), expected);
            prop_assert_eq!(cut.iter().filter(|payload| payload[0] & NEW_SEQUENCE != 0).count(), 1);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), is_keyframe in any::<bool>()) {
            let mut stream = Av1Stream::default();
            let _ = cut(bytes.clone().into(), 64);
            let _ = stream.picture(bytes.into(), is_keyframe, 64);
        }
    }
}
