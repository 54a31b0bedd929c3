//! H264: access units out of an Annex B byte stream, and their way into RTP payloads (RFC 6184).

use bytes::Bytes;

/// Largest RTP payload: fits 1280-byte IPv6 paths with every header of ours.
pub const PAYLOAD_BYTES_MAX: usize = 1200;

/// NAL unit types (ITU-T H.264, table 7-1; RFC 6184, section 5.2).
const NAL_IDR: u8 = 5;
const NAL_ACCESS_UNIT_DELIMITER: u8 = 9;
const NAL_FU_A: u8 = 28;

/// One picture: its NAL units in order, without start codes and without the delimiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units, each with its header byte.
    pub nal_units: Vec<Bytes>,
}

impl AccessUnit {
    /// Decodes without any other picture.
    #[must_use]
    pub fn is_keyframe(&self) -> bool {
        self.nal_units.iter().any(|nal| nal.first().is_some_and(|header| header & 0x1f == NAL_IDR))
    }

    /// RTP payloads of the picture: one per NAL unit (section 5.6), or FU-A fragments (section 5.8) of those larger
    /// than [`PAYLOAD_BYTES_MAX`]. The last one carries the marker.
    #[must_use]
    pub fn payloads(&self) -> Vec<Bytes> {
        self.nal_units.iter().flat_map(payloads_of).collect()
    }
}

fn payloads_of(nal: &Bytes) -> Vec<Bytes> {
    if nal.len() <= PAYLOAD_BYTES_MAX {
        return vec![nal.clone()];
    }
    let header = nal[0];
    let indicator = (header & 0xe0) | NAL_FU_A;
    let fragments: Vec<&[u8]> = nal[1..].chunks(PAYLOAD_BYTES_MAX - 2).collect();
    let last = fragments.len() - 1;
    let fragment = |(index, bytes): (usize, &&[u8])| {
        let start = if index == 0 { 0x80 } else { 0 };
        let end = if index == last { 0x40 } else { 0 };
        let mut payload = Vec::with_capacity(bytes.len() + 2);
        payload.extend_from_slice(&[indicator, start | end | (header & 0x1f)]);
        payload.extend_from_slice(bytes);
        Bytes::from(payload)
    };
    fragments.iter().enumerate().map(fragment).collect()
}

/// The access units of an Annex B byte stream whose pictures each start with an access unit delimiter. What stands
/// before the first delimiter is skipped.
#[must_use]
pub fn access_units(stream: &Bytes) -> Vec<AccessUnit> {
    let mut units: Vec<AccessUnit> = Vec::new();
    for nal in nal_units(stream) {
        if nal[0] & 0x1f == NAL_ACCESS_UNIT_DELIMITER {
            units.push(AccessUnit { nal_units: Vec::new() });
        } else if let Some(unit) = units.last_mut() {
            unit.nal_units.push(nal);
        }
    }
    units.retain(|unit| !unit.nal_units.is_empty());
    units
}

/// NAL units between start codes (ITU-T H.264, annex B), without trailing zeros; empty ones are skipped.
fn nal_units(stream: &Bytes) -> Vec<Bytes> {
    let starts: Vec<usize> = stream
        .windows(3)
        .enumerate()
        .filter(|(_, window)| *window == [0, 0, 1])
        .map(|(at, _)| at + 3)
        .collect();
    let ends = starts.iter().skip(1).map(|start| start - 3).chain([stream.len()]);
    let trimmed = |(start, end): (&usize, usize)| {
        let nal = &stream[*start..end];
        let length = nal.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        stream.slice(*start..*start + length)
    };
    starts.iter().zip(ends).map(trimmed).filter(|nal| !nal.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn annex_b(nals: &[&[u8]]) -> Bytes {
        let mut stream = Vec::new();
        for (index, nal) in nals.iter().enumerate() {
            stream.extend_from_slice(if index % 2 == 0 { &[0, 0, 0, 1] } else { &[0, 0, 1] });
            stream.extend_from_slice(nal);
        }
        stream.into()
    }

    /// What a receiver makes of the payloads (RFC 6184, sections 5.6 and 5.8).
    fn reassemble(payloads: &[Bytes]) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            if payload[0] & 0x1f != NAL_FU_A {
                nals.push(payload.to_vec());
                continue;
            }
            if payload[1] & 0x80 != 0 {
                nals.push(vec![(payload[0] & 0xe0) | (payload[1] & 0x1f)]);
            }
            nals.last_mut().expect("a fragment follows a start").extend_from_slice(&payload[2..]);
        }
        nals
    }

    #[test]
    fn a_stream_is_cut_at_its_delimiters() {
        let stream = annex_b(&[&[9, 0xf0], &[0x67, 1], &[0x68, 2], &[0x65, 3, 4], &[9, 0xf0], &[0x41, 5]]);
        let units = access_units(&stream);
        assert_eq!(units.len(), 2);
        assert_eq!(units[0].nal_units, [&[0x67, 1][..], &[0x68, 2], &[0x65, 3, 4]]);
        assert!(units[0].is_keyframe());
        assert_eq!(units[1].nal_units, [&[0x41, 5][..]]);
        assert!(!units[1].is_keyframe());
    }

    #[test]
    fn only_the_last_fragment_ends_a_large_nal_unit() {
        let nal = Bytes::from([&[0x65][..], &[7; 3 * PAYLOAD_BYTES_MAX]].concat());
        let payloads = AccessUnit { nal_units: vec![nal] }.payloads();
        assert_eq!(payloads.len(), 4);
        let flags: Vec<u8> = payloads.iter().map(|payload| payload[1] & 0xc0).collect();
        assert_eq!(flags, [0x80, 0, 0, 0x40]);
        assert!(payloads.iter().all(|payload| payload[0] == 0x7c));
    }

    proptest! {
        #[test]
        fn every_access_unit_comes_back_whole_from_its_payloads(
            nals in prop::collection::vec(prop::collection::vec(1u8..=255, 1..4000), 1..5),
        ) {
            let nal_units: Vec<Bytes> = nals.into_iter().map(|mut nal| {
                nal[0] = 0x41;
                nal.into()
            }).collect();
            let payloads = AccessUnit { nal_units: nal_units.clone() }.payloads();
            prop_assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
            prop_assert_eq!(reassemble(&payloads), nal_units);
        }

        #[test]
        fn no_byte_stream_panics(stream in prop::collection::vec(0u8..4, 0..200)) {
            for unit in access_units(&stream.into()) {
                prop_assert!(!unit.payloads().is_empty());
            }
        }
    }
}
