//! Payloads put together again.

use proptest::prelude::*;

use super::*;

const SPS: &[u8] = &[0x67, 1, 2];
const PPS: &[u8] = &[0x68, 3];

fn stream(syntax: Syntax, units: &[&[u8]]) -> NalStream {
    let units = units.iter().map(|unit| Bytes::copy_from_slice(unit)).collect();
    NalStream::new(syntax, NalRecord { length_bytes: 4, units })
}

fn picture(units: &[&[u8]]) -> Bytes {
    let with_length = |unit: &&[u8]| [&(unit.len() as u32).to_be_bytes()[..], unit].concat();
    units.iter().flat_map(with_length).collect::<Vec<u8>>().into()
}

/// What a receiver makes of payloads (RFC 6184, sections 5.6 to 5.8; RFC 7798, section 4.4).
pub(crate) fn reassemble(syntax: Syntax, payloads: &[Bytes]) -> Vec<Vec<u8>> {
    let header_bytes = syntax.header_bytes();
    let mut units: Vec<Vec<u8>> = Vec::new();
    for payload in payloads {
        let kind = match syntax {
            Syntax::H264 => payload[0] & 0x1f,
            Syntax::H265 => payload[0] >> 1 & 0x3f,
        };
        match (syntax, kind) {
            (Syntax::H264, 24) | (Syntax::H265, 48) => {
                let mut rest = &payload[header_bytes..];
                while let Some((length, after)) = rest.split_first_chunk::<2>() {
                    let (unit, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
                    units.push(unit.to_vec());
                    rest = after;
                }
            }
            (Syntax::H264, 28) | (Syntax::H265, 49) => {
                let fragment = payload[header_bytes];
                if fragment & 0x80 != 0 {
                    units.push(match syntax {
                        Syntax::H264 => vec![payload[0] & 0xe0 | fragment & 0x1f],
                        Syntax::H265 => vec![payload[0] & 0x81 | (fragment & 0x3f) << 1, payload[1]],
                    });
                }
                units.last_mut().expect("a fragment follows a start").extend(&payload[header_bytes + 1..]);
            }
            _ => units.push(payload.to_vec()),
        }
    }
    units
}

#[test]
fn parameter_sets_of_the_stream_replace_those_of_the_record_and_go_out_once() {
    let mut h264 = stream(Syntax::H264, &[SPS, PPS]);
    let (new_sps, idr) = ([0x67, 9], [0x65, 7]);
    let (payloads, is_keyframe) = h264
        .picture(picture(&[&[9, 0xf0], &new_sps, PPS, &idr, &[12, 0xff]]), false, 1200)
        .expect("a picture");
    assert!(is_keyframe, "whatever the container says");
    assert_eq!(reassemble(Syntax::H264, &payloads), [&new_sps[..], PPS, &idr]);
    let (payloads, _) = h264.picture(picture(&[&[0x41, 7]]), false, 1200).expect("a picture");
    assert_eq!(reassemble(Syntax::H264, &payloads), [[0x41, 7]]);
    let (payloads, _) = h264.picture(picture(&[&idr]), false, 1200).expect("a picture");
    assert_eq!(reassemble(Syntax::H264, &payloads), [&new_sps[..], PPS, &idr]);
}

#[test]
fn an_h265_keyframe_begins_with_all_three_sets() {
    let (vps, sps, pps) = (&[0x40, 1, 5][..], &[0x42, 1, 6][..], &[0x44, 1, 7][..]);
    let mut h265 = stream(Syntax::H265, &[pps, vps, sps]);
    let idr = [&[0x26, 1, 0x80][..], &[7; 2000]].concat();
    let (payloads, is_keyframe) =
        h265.picture(picture(&[&[0x46, 1, 0x50], &idr]), false, 1200).expect("a picture");
    assert!(is_keyframe);
    assert_eq!(payloads[0][..2], [0x60, 1], "an aggregation packet of layer 0, temporal id 1");
    assert_eq!(reassemble(Syntax::H265, &payloads), [vps, sps, pps, &idr]);
    assert!(media_core::codec::starts_keyframe(model::Codec::H265, &payloads[0]));
}

#[test]
fn a_keyframe_without_parameter_sets_is_refused() {
    let mut h264 = stream(Syntax::H264, &[SPS]);
    assert_eq!(h264.picture(picture(&[&[0x65, 7]]), true, 1200), Err(PictureError::NoParameterSets));
    let (payloads, _) = h264.picture(picture(&[PPS, &[0x65, 7]]), true, 1200).expect("a picture");
    assert_eq!(reassemble(Syntax::H264, &payloads), [SPS, PPS, &[0x65, 7]]);
}

#[test]
fn a_set_among_several_does_not_drive_out_the_others() {
    let other = [0x68, 4];
    let mut h264 = stream(Syntax::H264, &[SPS, PPS, &other]);
    let new = [0x68, 5];
    let (payloads, _) = h264.picture(picture(&[&new, &[0x41, 7]]), false, 1200).expect("a picture");
    assert_eq!(reassemble(Syntax::H264, &payloads), [SPS, PPS, &other, &new, &[0x41, 7]]);
    for number in 0..200 {
        let set = [0x68, 6, number];
        h264.picture(picture(&[&set, &[0x41, 7]]), false, 1200).expect("a picture");
    }
    assert_eq!(h264.sets.of(1).len(), SETS_MAX);
}

#[test]
fn lengths_beyond_the_end_are_refused() {
    let mut h264 = stream(Syntax::H264, &[SPS, PPS]);
    assert_eq!(h264.picture(Bytes::from_static(&[0, 0, 0, 9, 1]), false, 1200), Err(PictureError::Truncated));
    assert_eq!(h264.picture(Bytes::from_static(&[0, 0]), false, 1200), Err(PictureError::Truncated));
    let large = [&[0x67][..], &[0; SET_BYTES_MAX]].concat();
    assert_eq!(h264.picture(picture(&[&large]), false, 1200), Err(PictureError::ParameterSets));
}

proptest! {
    #[test]
    fn every_picture_comes_back_whole_from_its_payloads(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4000), 1..6),
        is_h264 in any::<bool>(),
        max in crate::PAYLOAD_BYTES_MIN..1500,
    ) {
        let (syntax, header) = if is_h264 { (Syntax::H264, &[0x41][..]) } else { (Syntax::H265, &[0x02, 1][..]) };
        let units: Vec<Vec<u8>> = bodies.iter().map(|body| [header, body].concat()).collect();
        let borrowed: Vec<&[u8]> = units.iter().map(Vec::as_slice).collect();
        let (payloads, _) = stream(syntax, &[]).picture(picture(&borrowed), false, max).expect("a picture");
        prop_assert!(payloads.iter().all(|payload| payload.len() <= max));
        prop_assert_eq!(reassemble(syntax, &payloads), units);
    }

    #[test]
    fn fragments_but_for_the_last_are_as_large_as_may_be(length in 2000usize..9000, max in 100usize..1500) {
        let unit = [&[0x41][..], &vec![7; length]].concat();
        let (payloads, _) = stream(Syntax::H264, &[]).picture(picture(&[&unit]), false, max).expect("a picture");
        let (_, full) = payloads.split_last().expect("payloads");
        prop_assert!(full.iter().all(|payload| payload.len() == max));
    }
}
