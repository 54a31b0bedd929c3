//! Payloads of senders, put together again after they were made to fit.

use proptest::prelude::*;

use super::*;
use crate::nal::tests::reassemble;

const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1e];
const PPS: &[u8] = &[0x68, 0xce, 0x38, 0x80];
const IDR: &[u8] = &[0x65, 0x88, 0x84];
const SLICE: &[u8] = &[0x41, 0x9a, 0x01];

fn payload(timestamp: u32, marker: bool, bytes: &[u8]) -> Payload {
    Payload { timestamp, marker, bytes: Bytes::copy_from_slice(bytes) }
}

fn take(received: &mut Received, payload: Payload) -> Vec<Payload> {
    let mut out = Vec::new();
    received.payload(payload, &mut out).expect("taken");
    out
}

fn units(payloads: &[Payload]) -> Vec<Vec<u8>> {
    let bytes: Vec<Bytes> = payloads.iter().map(|payload| payload.bytes.clone()).collect();
    reassemble(Syntax::H264, &bytes)
}

#[test]
fn parameter_sets_of_the_description_go_before_every_keyframe_that_lacks_them() {
    let mut received = Received::new(Codec::H264, 1200);
    received.learn([SPS, PPS].map(Bytes::copy_from_slice));
    for timestamp in [0, 3000] {
        let out = take(&mut received, payload(timestamp, true, IDR));
        assert_eq!(units(&out), [SPS, PPS, IDR]);
        assert_eq!(
            out.iter().map(|it| (it.timestamp, it.marker)).collect::<Vec<_>>(),
            [(timestamp, false), (timestamp, true)]
        );
        assert!(media_core::codec::starts_keyframe(Codec::H264, &out[0].bytes));
    }
    assert_eq!(take(&mut received, payload(6000, true, SLICE)), [payload(6000, true, SLICE)]);
    // The second slice of a keyframe is not its beginning.
    let second = [0x65, 0x41, 0x10];
    assert_eq!(take(&mut received, payload(9000, true, &second)), [payload(9000, true, &second)]);
}

#[test]
fn parameter_sets_of_the_stream_count_and_are_not_sent_twice() {
    let mut received = Received::new(Codec::H264, 1200);
    received.learn([SPS, PPS].map(Bytes::copy_from_slice));
    let new_pps = [0x68, 0xee, 1];
    assert_eq!(take(&mut received, payload(0, false, SPS)).len(), 1);
    assert_eq!(take(&mut received, payload(0, false, &new_pps)).len(), 1);
    assert_eq!(take(&mut received, payload(0, true, IDR)).len(), 1);
    let fragment = [0x7c, 0x85, 0x88, 0x84];
    let out = take(&mut received, payload(3000, false, &fragment));
    assert_eq!(reassemble(Syntax::H264, &[out[0].bytes.clone()]), [SPS, &new_pps]);
    assert_eq!(out[1].bytes[..], fragment);
}

#[test]
fn what_is_missing_leaves_its_unit_open() {
    let mut received = Received::new(Codec::H264, 100);
    let first = [&[0x7c, 0x85][..], &[0x80; 150]].concat();
    assert_eq!(take(&mut received, payload(0, false, &first)).len(), 1);
    let mut out = Vec::new();
    received.lost(&mut out);
    assert_eq!((out.len(), out[0].bytes[1] & 0xc0, out[0].bytes.len()), (1, 0, 2 + 150 - 98));
    received.lost(&mut out);
    assert_eq!(out.len(), 1);
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let mut out = Vec::new();
    let sound = payload(0, false, &[0xfc; 1300]);
    let refused = Received::new(Codec::Opus, 1200).payload(sound, &mut out);
    assert_eq!(refused, Err(PayloadError::TooLarge { bytes: 1300, max: 1200 }));
    // Interleaved units (packetization-mode 2).
    let interleaved = payload(0, false, &[0x19; 1300]);
    assert!(Received::new(Codec::H264, 1200).payload(interleaved, &mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn parts_of_a_vp9_frame_begin_and_end_once() {
    // Picture id of 15 bits, layer indices, a structure of one layer with its size.
    let head = [0x80 | 0x20 | 0x08 | 0x04 | 0x02, 0x81, 0x02, 0x00, 0x07, 0x10, 2, 0x80, 1, 0x68];
    let data: Vec<u8> = (0..2000).map(|byte| byte as u8).collect();
    let out = take(&mut Received::new(Codec::Vp9, 1200), payload(0, true, &[&head[..], &data].concat()));
    assert_eq!(
        out.iter().map(|it| (it.bytes.len(), it.marker)).collect::<Vec<_>>(),
        [(1200, false), (5 + 2000 - 1190, true)]
    );
    assert_eq!(out[0].bytes[..10], [&[0xaa][..], &head[1..]].concat());
    assert_eq!(out[1].bytes[..5], [0xa4, 0x81, 0x02, 0x00, 0x07]);
    assert_eq!([&out[0].bytes[10..], &out[1].bytes[5..]].concat(), data);
}

fn coded(syntax: Syntax) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 3..4000).prop_map(move |mut unit| {
        match syntax {
            Syntax::H264 => unit[0] = 0x41,
            Syntax::H265 => (unit[0], unit[1]) = (0x02, 0x01),
        }
        unit
    })
}

fn holds_the_same(codec: Codec, syntax: Syntax, pictures: Vec<Vec<Vec<u8>>>, (large, small): (usize, usize)) {
    let mut received = Received::new(codec, small);
    for (index, units) in pictures.into_iter().enumerate() {
        let timestamp = index as u32 * 3000;
        let bytes: Vec<Bytes> = units.iter().cloned().map(Bytes::from).collect();
        let payloads = syntax.payloads(&bytes, large);
        let (last, before) = (payloads.len() - 1, payloads.len());
        let mut out = Vec::new();
        for (index, bytes) in payloads.into_iter().enumerate() {
            received.payload(Payload { timestamp, marker: index == last, bytes }, &mut out).expect("taken");
        }
        let bytes: Vec<Bytes> = out.iter().map(|payload| payload.bytes.clone()).collect();
        assert_eq!(reassemble(syntax, &bytes), units);
        assert!(bytes.iter().all(|bytes| bytes.len() <= small));
        assert!(out.iter().all(|payload| payload.timestamp == timestamp));
        let markers: Vec<bool> = out.iter().map(|payload| payload.marker).collect();
        assert_eq!(markers.iter().position(|marker| *marker), Some(markers.len() - 1));
        assert!(small < large || out.len() == before, "what fits passes as it is");
    }
}

proptest! {
    #[test]
    fn pictures_hold_the_same_however_they_were_cut(
        pictures in prop::collection::vec(prop::collection::vec(coded(Syntax::H264), 1..4), 1..4),
        sizes in (crate::PAYLOAD_BYTES_MIN..3000, crate::PAYLOAD_BYTES_MIN..1500),
    ) {
        holds_the_same(Codec::H264, Syntax::H264, pictures, sizes);
    }

    #[test]
    fn pictures_of_h265_too(
        pictures in prop::collection::vec(prop::collection::vec(coded(Syntax::H265), 1..4), 1..4),
        sizes in (crate::PAYLOAD_BYTES_MIN..3000, crate::PAYLOAD_BYTES_MIN..1500),
    ) {
        holds_the_same(Codec::H265, Syntax::H265, pictures, sizes);
    }

    #[test]
    fn no_payloads_panic_and_none_is_too_large(
        codec in prop::sample::select(Codec::ALL.to_vec()),
        payloads in prop::collection::vec((0u32..3, any::<bool>(), prop::collection::vec(any::<u8>(), 0..200)), 0..30),
    ) {
        let mut received = Received::new(codec, 100);
        for (timestamp, marker, bytes) in payloads {
            let mut out = Vec::new();
            if bytes.first() == Some(&0) {
                received.lost(&mut out);
            }
            let _ = received.payload(payload(timestamp, marker, &bytes), &mut out);
            prop_assert!(out.iter().all(|payload| payload.bytes.len() <= 100), "{out:?}");
        }
    }
}
