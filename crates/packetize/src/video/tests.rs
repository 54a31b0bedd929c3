//! Tracks as encoders send them.

use media_core::codec::KeyframeDetector;
use model::SeqNo;
use proptest::prelude::*;

use super::*;

const RECORD: [u8; 18] = [1, 0x42, 0xc0, 31, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 31, 1, 0, 2, 0x68, 0xce, 0];

fn track() -> Video {
    let mut video = Video::new(1200);
    video.configure(Codec::H264, Bytes::from_static(&RECORD)).expect("a record");
    video
}

fn with_length(unit: &[u8]) -> Vec<u8> {
    [&(unit.len() as u32).to_be_bytes()[..], unit].concat()
}

fn at(decode: i64, composition_millis: i32, unit: &[u8]) -> Picture {
    Picture {
        decode_time: MediaTime::from_millis(decode),
        composition_millis,
        is_keyframe: false,
        data: with_length(unit).into(),
    }
}

#[test]
fn a_keyframe_begins_with_the_parameter_sets_of_the_record() {
    let mut video = track();
    let packets = video.picture(at(1000, 0, &[0x65; 3000])).expect("a picture");
    let first = &packets[0];
    // STAP-A with the lengths of both sets before them.
    assert_eq!(first.payload[..], [0x78, 0, 4, 0x67, 0x42, 0xc0, 31, 0, 2, 0x68, 0xce]);
    let marks: Vec<(bool, bool)> =
        packets.iter().map(|packet| (packet.starts_keyframe, packet.marker)).collect();
    assert_eq!(marks, [(true, false), (false, false), (false, false), (false, true)]);
    assert!(packets.iter().all(|packet| packet.timestamp == 90_000 && packet.payload.len() <= 1200));
    let packets = video.picture(at(1040, 0, &[0x41; 30])).expect("a picture");
    assert_eq!((packets.len(), packets[0].starts_keyframe, packets[0].marker), (1, false, true));
    assert_eq!(packets[0].timestamp, 93_600);
}

#[test]
fn the_tree_finds_the_keyframes_where_we_say_they_are() {
    let mut video = track();
    let mut detector = KeyframeDetector::new(Codec::H264);
    let mut seq_no = SeqNo::new(1);
    for number in 0..20 {
        let unit = if number % 5 == 0 { [0x65; 2500] } else { [0x41; 2500] };
        for packet in video.picture(at(number * 33, 0, &unit)).expect("a picture") {
            let found = detector.inspect(seq_no, packet.timestamp, &packet.payload);
            assert_eq!(found, packet.starts_keyframe);
            seq_no = seq_no.plus(1);
        }
    }
}

#[test]
fn b_frames_are_found_by_their_order() {
    let mut video = track();
    // I P B B: the P-frame is decoded before the two that are shown before it.
    video.picture(at(0, 80, &[0x65; 9])).expect("a picture");
    video.picture(at(40, 160, &[0x41; 9])).expect("a picture");
    assert_eq!(video.picture(at(80, 40, &[0x01; 9])), Err(PictureError::HasBFrames));
    assert_eq!(video.picture(at(120, 40, &[0x01; 9])), Err(PictureError::HasBFrames));
    assert!(PictureError::HasBFrames.to_string().contains("bf=0"));
}

#[test]
fn a_steady_composition_offset_and_its_rounding_are_no_b_frames() {
    let mut video = track();
    let mut before = None;
    for (decode, composition) in [(0, 80), (33, 81), (67, 80), (100, 80), (100, 80), (101, 78)] {
        let packets = video.picture(at(decode, composition, &[0x65; 9])).expect("a picture");
        assert!(before.is_none_or(|before| packets[0].timestamp > before), "pictures keep apart");
        before = Some(packets[0].timestamp);
    }
}

#[test]
fn a_clock_that_steps_back_is_no_b_frames_and_timestamps_do_not_follow_it() {
    let mut video = track();
    let mut before = None;
    for decode in [0, 500, 540, 100, 140, 600] {
        let packets = video.picture(at(decode, 0, &[0x65; 9])).expect("a picture");
        assert!(before.is_none_or(|before| packets[0].timestamp > before));
        before = Some(packets[0].timestamp);
    }
    assert_eq!(before, Some(54_000));
}

#[test]
fn timestamps_wrap_with_the_clock() {
    let mut video = track();
    let millis = (1i64 << 32) / 90 + 1;
    let packets = video.picture(at(millis, 0, &[0x65; 9])).expect("a picture");
    assert_eq!(packets[0].timestamp, (millis * 90) as u32);
    assert!(packets[0].timestamp < 200);
}

#[test]
fn nothing_goes_out_before_the_record() {
    let mut video = Video::new(1200);
    assert_eq!(video.picture(at(0, 0, &[0x65; 9])), Err(PictureError::NotConfigured));
    assert_eq!(video.configure(Codec::Opus, Bytes::new()), Err(RecordError::Codec { codec: Codec::Opus }));
    assert_eq!(video.codec(), None);
    assert_eq!(track().codec(), Some(Codec::H264));
    assert_eq!(track().picture(at(0, 0, &[])), Ok(Vec::new()));
}

#[test]
fn a_record_that_comes_again_goes_on_with_the_same_stream() {
    let mut video = Video::new(1200);
    let vp9 = || Picture { data: Bytes::from_static(&[0x86, 1, 2]), ..at(0, 0, &[]) };
    video.configure(Codec::Vp9, Bytes::new()).expect("a record");
    let id = |video: &mut Video| video.picture(vp9()).expect("a picture")[0].payload[2];
    assert_eq!(id(&mut video), 0);
    video.configure(Codec::Vp9, Bytes::new()).expect("a record");
    assert_eq!(id(&mut video), 1);
}

proptest! {
    #[test]
    fn no_pictures_panic(
        codec in prop_oneof![Just(Codec::H264), Just(Codec::H265), Just(Codec::Av1), Just(Codec::Vp9)],
        record in prop::collection::vec(0u8..4, 0..60),
        pictures in prop::collection::vec((any::<i32>(), any::<i32>(), any::<bool>(), prop::collection::vec(0u8..70, 0..300)), 0..9),
    ) {
        let mut video = Video::new(crate::PAYLOAD_BYTES_MIN);
        let _ = video.configure(codec, record.into());
        for (decode, composition_millis, is_keyframe, data) in pictures {
            let decode_time = MediaTime::from_millis(i64::from(decode));
            let picture = Picture { decode_time, composition_millis, is_keyframe, data: data.into() };
            for packet in video.picture(picture).unwrap_or_default() {
                prop_assert!((1..=crate::PAYLOAD_BYTES_MIN).contains(&packet.payload.len()));
            }
        }
    }
}
