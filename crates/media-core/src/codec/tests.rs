//! Behaviour of the module `codec`.

use model::SeqNo;
use proptest::prelude::*;

use super::h264::{ParseError, SequenceParameters, SliceType, sequence_parameters, slice_type};
use super::*;

/// x264, baseline 3.1, 1280x720 at 30 frames/s.
const SPS_BASELINE: [u8; 25] = [
    0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,
    0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x24, 0x80,
];
/// x264, high 4.2, 1920x1080 (cropped from 1088) at 60 frames/s, two B-frames deep.
const SPS_HIGH: [u8; 27] = [
    0x67, 0x64, 0x00, 0x2a, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
    0x04, 0x00, 0x00, 0x03, 0x01, 0xe0, 0x3c, 0x60, 0xc6, 0x58,
];
/// x264, high 4:4:4 1.3, 320x240 at 25 frames/s, tuned for zero latency.
const SPS_HIGH_444: [u8; 29] = [
    0x67, 0xf4, 0x00, 0x0d, 0x90, 0xd9, 0x64, 0x05, 0x07, 0xec, 0x05, 0xa8, 0x30, 0x30, 0x32, 0x00, 0x00,
    0x03, 0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x65, 0x1e, 0x28, 0x54, 0x90,
];

/// x264, high 3.0, 720x568 in fields (cropped from 576), with reference decoder parameters and two B-frames deep.
const SPS_FIELDS: [u8; 37] = [
    0x67, 0x64, 0x00, 0x1e, 0xac, 0xd9, 0x40, 0xb4, 0x24, 0xfd, 0xe0, 0x22, 0x00, 0x00, 0x03, 0x00, 0x02,
    0x00, 0x00, 0x03, 0x00, 0x64, 0xc0, 0x80, 0x01, 0xe8, 0x48, 0x00, 0x3d, 0x09, 0x49, 0x86, 0x01, 0xf1,
    0x42, 0x99, 0x60,
];

const H264_PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
const H264_IDR: [u8; 6] = [0x65, 0x88, 0x84, 0x27, 0xc4, 0x22];
const H264_DELTA: [u8; 6] = [0x41, 0x9a, 0x38, 0x4f, 0xe1, 0x98];

/// STAP-A (RFC 6184, section 5.7.1).
fn stap_a(units: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0x78];
    for unit in units {
        payload.extend((unit.len() as u16).to_be_bytes());
        payload.extend(*unit);
    }
    payload
}

/// First fragment and one from the middle (RFC 6184, section 5.8).
fn fu_a(unit: &[u8]) -> [Vec<u8>; 2] {
    [(0x80, &unit[1..]), (0x00, &[0x80, 0x11][..])]
        .map(|(flags, data)| [&[(unit[0] & 0xe0) | 28, flags | (unit[0] & 0x1f)], data].concat())
}

#[test]
fn a_baseline_sequence_parameter_set_of_x264_is_read() {
    let parameters = SequenceParameters::parse(&SPS_BASELINE).expect("a real one");
    assert_eq!((parameters.width, parameters.height), (1280, 720));
    assert_eq!((parameters.profile_idc, parameters.constraint_flags, parameters.level_idc), (66, 0xc0, 31));
    assert_eq!(parameters.frame_rate, Some(30.0));
    assert_eq!(parameters.profile_level_id(), "42c01f");
    assert!(!parameters.may_reorder());
}

#[test]
fn a_high_sequence_parameter_set_tells_of_cropping_and_b_frames() {
    let parameters = SequenceParameters::parse(&SPS_HIGH).expect("a real one");
    assert_eq!((parameters.width, parameters.height), (1920, 1080));
    assert_eq!(parameters.frame_rate, Some(60.0));
    assert_eq!(parameters.max_num_reorder_frames, Some(2));
    assert_eq!(parameters.profile_level_id(), "64002a");
    assert!(parameters.may_reorder());
}

#[test]
fn full_colour_and_zero_latency_are_read() {
    let parameters = SequenceParameters::parse(&SPS_HIGH_444).expect("a real one");
    assert_eq!((parameters.width, parameters.height, parameters.profile_idc), (320, 240, 244));
    assert_eq!((parameters.frame_rate, parameters.max_num_reorder_frames), (Some(25.0), Some(0)));
    assert_eq!(parameters.pic_order_cnt_type, 2);
    assert!(!parameters.may_reorder());
}

#[test]
fn fields_are_cropped_by_pairs_and_reference_decoder_parameters_are_passed() {
    let parameters = SequenceParameters::parse(&SPS_FIELDS).expect("a real one");
    assert_eq!((parameters.width, parameters.height), (720, 568));
    assert_eq!((parameters.frame_rate, parameters.max_num_reorder_frames), (Some(25.0), Some(2)));
}

#[test]
fn scaling_lists_are_passed() {
    let code = |bits: &str| bits.replace([' ', '|'], "");
    let ones = |count| "1".repeat(count);
    let bits = [
        code("01100100 00000000 00011111 1 | 010 1 1 0 1"), // high 3.1, id, 4:2:0, 8 bits, matrices
        code("1 000010001 0"), // list 0 ends with its first scale; list 1 is absent
        code("1") + &ones(16) + "000", // list 2 has 16 scales; 3 to 5 are absent
        code("1") + &ones(64) + "0", // list 6 has 64 scales; 7 is absent
        code("1 011 010 0"),   // frame numbers, order type 2, one reference, no gaps in them
        code("00110 00101 1 1 0 0 1"), // 6 by 5 macroblocks, frames, no cropping, no VUI, the end
    ]
    .concat();
    let mut unit = vec![0x67];
    unit.extend(bits.as_bytes().chunks(8).map(|byte| {
        byte.iter().enumerate().fold(0u8, |value, (index, bit)| value | ((bit - b'0') << (7 - index)))
    }));
    let parameters = SequenceParameters::parse(&unit).expect("as the standard has it");
    assert_eq!((parameters.width, parameters.height, parameters.pic_order_cnt_type), (96, 80, 2));
}

#[test]
fn sequence_parameters_are_found_in_single_and_aggregated_payloads_only_whole() {
    let expected = SequenceParameters::parse(&SPS_BASELINE).ok();
    assert_eq!(sequence_parameters(&SPS_BASELINE), expected);
    assert_eq!(sequence_parameters(&stap_a(&[&[0x09, 0xf0], &SPS_BASELINE, &H264_PPS])), expected);
    assert_eq!(sequence_parameters(&fu_a(&SPS_BASELINE)[0]), None);
    assert_eq!(sequence_parameters(&H264_IDR), None);
}

#[test]
fn what_is_no_sequence_parameter_set_is_refused() {
    assert_eq!(SequenceParameters::parse(&[]), Err(ParseError::Truncated));
    assert_eq!(SequenceParameters::parse(&H264_PPS), Err(ParseError::UnitType { unit_type: 8 }));
    assert_eq!(SequenceParameters::parse(&SPS_HIGH[..8]), Err(ParseError::Truncated));
    // profile 66, id 0, frame_num 0, order type 3
    let unknown_order = [0x67, 66, 0, 31, 0b1100_1001, 0xff];
    let error = ParseError::Value { field: "pic_order_cnt_type", value: 3 };
    assert_eq!(SequenceParameters::parse(&unknown_order), Err(error));
}

#[test]
fn cut_usability_information_costs_only_itself() {
    let parameters = SequenceParameters::parse(&SPS_HIGH[..20]).expect("the picture is whole");
    assert_eq!((parameters.width, parameters.height), (1920, 1080));
    assert_eq!((parameters.frame_rate, parameters.max_num_reorder_frames), (None, None));
    assert!(parameters.may_reorder(), "nothing denies it");
}

#[test]
fn slices_of_x264_have_their_types() {
    assert_eq!(slice_type(&H264_IDR), Some(SliceType::I));
    assert_eq!(slice_type(&[0x41, 0x9a, 0x24, 0x18]), Some(SliceType::P));
    assert_eq!(slice_type(&[0x01, 0x9e, 0x61, 0x44]), Some(SliceType::B));
    assert_eq!(slice_type(&fu_a(&[0x01, 0x9e, 0x61, 0x44])[0]), Some(SliceType::B));
    assert_eq!(slice_type(&fu_a(&[0x01, 0x9e, 0x61, 0x44])[1]), None, "the header is in the first fragment");
    assert_eq!(slice_type(&SPS_HIGH), None);
    assert_eq!(slice_type(&[]), None);
}

#[test]
fn h264_keyframes_start_with_parameter_sets_or_the_first_slice_of_an_idr_picture() {
    let starts = |payload: &[u8]| starts_keyframe(Codec::H264, payload);
    assert!(starts(&SPS_BASELINE) && starts(&H264_IDR));
    assert!(starts(&stap_a(&[&[0x09, 0xf0], &SPS_BASELINE, &H264_PPS])));
    assert!(starts(&fu_a(&H264_IDR)[0]));
    assert!(!starts(&fu_a(&H264_IDR)[1]), "a later fragment");
    assert!(!starts(&[0x65, 0x42, 0x00]), "a later slice: first_mb_in_slice is 1");
    assert!(!starts(&H264_DELTA) && !starts(&H264_PPS) && !starts(&stap_a(&[&H264_PPS])));
}

#[test]
fn h265_keyframes_start_with_parameter_sets_or_random_access_pictures() {
    let starts = |payload: &[u8]| starts_keyframe(Codec::H265, payload);
    let vps = [0x40, 0x01, 0x0c, 0x01];
    assert!(starts(&vps) && starts(&[0x42, 0x01, 0x01]), "VPS, SPS");
    assert!(starts(&[0x26, 0x01, 0xaf]) && starts(&[0x2a, 0x01, 0xac]), "IDR_W_RADL, CRA");
    assert!(starts(&[0x62, 0x01, 0x95, 0xac, 0x50]), "CRA in a first fragment, of x265");
    assert!(!starts(&[0x62, 0x01, 0x15, 0xac, 0x50]), "a later fragment");
    assert!(!starts(&[0x62, 0x01, 0x95, 0x2c, 0x50]), "a later slice segment");
    assert!(starts(&[0x60, 0x01, 0, 4, 0x40, 0x01, 0x0c, 0x01, 0, 3, 0x44, 0x01, 0xc1]), "VPS aggregated");
    assert!(
        !starts(&[0x60, 0x01, 0, 3, 0x44, 0x01, 0xc1, 0, 3, 0x02, 0x01, 0xd0]),
        "PPS and delta aggregated"
    );
    assert!(!starts(&[0x02, 0x01, 0xd0, 0x38]), "TRAIL_R");
}

#[test]
fn vp8_keyframes_start_with_the_first_partition_of_an_intra_frame() {
    let starts = |payload: &[u8]| starts_keyframe(Codec::Vp8, payload);
    let keyframe = [0x90, 0x80, 0xb5, 0x32, 0x50, 0x90, 0x00, 0x9d, 0x01, 0x2a]; // libvpx, long picture id
    assert!(starts(&keyframe));
    assert!(!starts(&[0x80, 0x80, 0xb5, 0x32, 0x50]), "not the start of a partition");
    assert!(!starts(&[0x91, 0x80, 0xb5, 0x32, 0x50]), "partition 1");
    assert!(!starts(&[0x90, 0x80, 0xb5, 0x33, 0x51]), "inter frame");
    assert!(starts(&[0x10, 0x50]), "no extension");
    assert!(starts(&[0x90, 0xe0, 0x35, 0x01, 0x20, 0x50]), "short picture id, TL0PICIDX, TID");
    assert!(!starts(&keyframe[..4]), "the frame header is missing");
}

#[test]
fn vp8_and_h264_keyframes_say_how_large_they_are() {
    let vp8 = [0x90, 0x80, 0xb5, 0x32, 0x50, 0x90, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x42, 0x00];
    assert_eq!(picture_size(Codec::Vp8, &vp8), Some((1280, 720)), "scaling is not size");
    assert_eq!(picture_size(Codec::Vp8, &vp8[..13]), None, "cut");
    let inter = [0x90, 0x80, 0xb5, 0x32, 0x51, 0x90, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x42];
    assert_eq!(picture_size(Codec::Vp8, &inter), None, "no keyframe");
    assert_eq!(picture_size(Codec::H264, &H264_IDR), None, "no parameters");
    assert_eq!(picture_size(Codec::Av1, &[0x18, 0x08]), None);
}

#[test]
fn vp9_keyframes_start_with_an_intra_frame_of_the_lowest_layer() {
    let starts = |payload: &[u8]| starts_keyframe(Codec::Vp9, payload);
    assert!(starts(&[0x8a, 0xa8, 0x56, 0x18, 0x01, 0x40, 0x00]), "libvpx, with scalability structure");
    assert!(!starts(&[0xc8, 0xa8, 0x56, 0x86]), "inter predicted");
    assert!(!starts(&[0x80, 0xa8, 0x56, 0x86]), "not the beginning of the frame");
    assert!(starts(&[0xa8, 0x56, 0x00, 0x00, 0x82]), "lowest spatial layer, short picture id");
    assert!(!starts(&[0xa8, 0x56, 0x03, 0x00, 0x82]), "spatial layer 1");
    assert!(!starts(&[0xa8, 0x56]), "layer indices are missing");
}

#[test]
fn av1_keyframes_start_with_a_new_sequence_and_its_header() {
    let starts = |payload: &[u8]| starts_keyframe(Codec::Av1, payload);
    assert!(starts(&[0x18, 0x08, 0x00, 0x01]), "one element");
    assert!(starts(&[0x28, 0x02, 0x08, 0x00, 0x30, 0x01]), "two elements, the first with its length");
    assert!(starts(&[0x08, 0x01, 0x10, 0x02, 0x08, 0x00]), "all with lengths, a temporal delimiter first");
    assert!(!starts(&[0x10, 0x08, 0x00]), "not a new sequence");
    assert!(!starts(&[0x98, 0x08, 0x00]), "continues an element");
    assert!(!starts(&[0x18, 0x30, 0x01]), "no sequence header");
    assert!(!starts(&[0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0x08]), "a length without end");
}

/// Beginnings of sequence parameter sets of x265, 320x240, level 2: Main, Main 10, Main 4:4:4.
const SPS_H265: [[u8; 18]; 3] = [
    [0x42, 1, 1, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c],
    [0x42, 1, 1, 0x02, 0x20, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c],
    [0x42, 1, 1, 0x04, 0x08, 0, 0, 3, 0, 0x9e, 0x08, 0, 0, 3, 0, 0, 0x3c, 0x90],
];

#[test]
fn h265_says_its_profile() {
    let read = |payload: &[u8]| Profile::read(Codec::H265, payload);
    for (set, profile) in SPS_H265.iter().zip([1, 2, 4]) {
        let expected = Some(Profile::H265 { profile, tier: 0, level: 60 });
        assert_eq!(read(set), expected);
        let aggregate = [&[0x60, 1, 0, 3, 0x44, 1, 0xc1, 0, set.len() as u8], &set[..]].concat();
        assert_eq!(read(&aggregate), expected, "behind a picture parameter set");
        assert_eq!(read(&set[..16]), None, "cut");
    }
    let mut set = SPS_H265[2];
    set[4] = 0x28;
    assert_eq!(
        read(&set),
        Some(Profile::H265 { profile: 2, tier: 0, level: 60 }),
        "coded for more, and a decoder of Main 10 is told to be enough"
    );
    assert_eq!(read(&[0x40, 1, 0x0c, 1, 0xff, 0xff, 1, 0x60]), None, "VPS");
    let parameters = Profile::H265 { profile: 2, tier: 1, level: 153 }.parameters();
    assert_eq!(parameters, [("profile-id", 2), ("tier-flag", 1), ("level-id", 153)]);
}

#[test]
fn vp9_says_its_profile() {
    let read = |payload: &[u8]| Profile::read(Codec::Vp9, payload);
    // libvpx: 4:2:0 in 8 and in 10 bits.
    assert_eq!(read(&[0x08, 0x82, 0x49, 0x83, 0x42]), Some(Profile::Vp9 { profile: 0 }));
    assert_eq!(read(&[0x08, 0x92, 0x49, 0x83, 0x42]), Some(Profile::Vp9 { profile: 2 }));
    let described = |descriptor: &[u8]| read(&[descriptor, &[0x92, 0x49, 0x83, 0x42]].concat());
    let expected = Some(Profile::Vp9 { profile: 2 });
    // Of Chromium: one layer of 320x180, one group with three pictures.
    let structure = [0x18, 0x01, 0x40, 0x00, 0xb4, 3, 0x00, 0x04, 1, 0x08, 1, 2];
    assert_eq!(described(&[&[0x8a, 0xa8, 0x56][..], &structure].concat()), expected);
    assert_eq!(described(&[0xa8, 0x56, 0x00, 0x00]), expected, "layer indices with TL0PICIDX");
    assert_eq!(described(&[0xb8, 0x56, 0x00]), expected, "in flexible mode without it");
    assert_eq!(read(&[0x8a, 0xa8, 0x56, 0x18, 0x01]), None, "cut in the structure");
    assert_eq!(read(&[0x0a, 0x08, 0xff]), None, "more pictures than there are bytes");
    assert_eq!(read(&[0x48, 0x92]), None, "inter predicted");
    assert_eq!(read(&[0x08, 0x12]), None, "no frame");
    assert_eq!(
        read(&[0x08, 0xb1, 0x24, 0xc1, 0xa1, 0x00]),
        Some(Profile::Vp9 { profile: 3 }),
        "a reserved bit"
    );
    assert_eq!(read(&[0x08, 0x80]), None, "cut in the header");
    assert_eq!(read(&[0x08, 0x82, 0x49, 0x83, 0x43]), None, "no sync code");
    assert_eq!(read(&[0x08, 0x86, 0x49, 0x83, 0x42]), None, "not a keyframe");
    assert_eq!(read(&[0x08, 0x8a, 0x49, 0x83, 0x42]), None, "an earlier frame shown again");
}

#[test]
fn av1_says_its_profile() {
    let read = |payload: &[u8]| Profile::read(Codec::Av1, payload);
    // SVT-AV1, 1280x720; libaom, 4:4:4, with its size.
    let expected = Some(Profile::Av1 { profile: 0, tier: 0, level: 5 });
    assert_eq!(read(&[0x18, 0x08, 0x00, 0x00, 0x00, 0x2d, 0x4c]), expected);
    let expected = Some(Profile::Av1 { profile: 1, tier: 0, level: 0 });
    assert_eq!(read(&[0x28, 0x06, 0x0a, 0x0a, 0x20, 0x00, 0x00, 0x04, 0x30, 0x01]), expected);
    let expected = Some(Profile::Av1 { profile: 0, tier: 1, level: 8 });
    assert_eq!(read(&[0x18, 0x08, 0x00, 0x00, 0x00, 0x44]), expected, "level 4 has tiers");
    let expected = Some(Profile::Av1 { profile: 0, tier: 0, level: 9 });
    assert_eq!(read(&[0x18, 0x08, 0x1a, 0x40]), expected, "reduced header");
    // 1/30 s a tick: nothing is taken out of its zeros.
    let timing = [0x18, 0x08, 0x04, 0, 0, 0, 0x04, 0, 0, 0, 0x78, 0, 0, 0x0a];
    let expected = Some(Profile::Av1 { profile: 0, tier: 0, level: 5 });
    assert_eq!(read(&timing), expected, "with timing");
    assert_eq!(read(&[0x18, 0x08, 0x00, 0x00]), None, "cut");
    assert_eq!(read(&[0x10, 0x08, 0x00, 0x00, 0x00, 0x2d]), None, "not a new sequence");
}

#[test]
fn profiles_and_levels_have_the_names_of_their_standards() {
    let h265 = |profile, level| Profile::H265 { profile, tier: 0, level };
    let av1 = |profile, level| Profile::Av1 { profile, tier: 0, level };
    for (profile, name, level) in [
        (h265(1, 93), "main", Some("3.1")),
        (h265(2, 186), "main_10", Some("6.2")),
        (h265(4, 60), "range_extensions", Some("2.0")),
        (h265(31, 255), "other", None),
        (Profile::Vp9 { profile: 0 }, "profile_0", None),
        (Profile::Vp9 { profile: 2 }, "profile_2", None),
        (av1(0, 5), "main", Some("3.1")),
        (av1(1, 0), "high", Some("2.0")),
        (av1(2, 19), "professional", Some("6.3")),
        (av1(0, 31), "main", None),
    ] {
        assert_eq!((profile.name(), profile.level().as_deref()), (name, level), "{profile:?}");
    }
}

#[test]
fn every_audio_packet_stands_alone() {
    assert!(!starts_keyframe(Codec::Opus, &H264_IDR));
}

/// Feeds (sequence number, timestamp, payload) and returns the numbers that were marked.
fn marks(codec: Codec, packets: &[(u64, u32, &[u8])]) -> Vec<u64> {
    let mut detector = KeyframeDetector::new(codec);
    let inspect = |(index, timestamp, payload): &(u64, u32, &[u8])| {
        detector.inspect(SeqNo::new(*index), *timestamp, payload).then_some(*index)
    };
    packets.iter().filter_map(inspect).collect()
}

#[test]
fn the_first_of_several_packets_before_a_picture_is_marked_and_no_other() {
    let idr = fu_a(&H264_IDR);
    let packets: [(u64, u32, &[u8]); 9] = [
        (9, 0, &H264_DELTA),
        (10, 3000, &SPS_BASELINE),
        (11, 3000, &H264_PPS),
        (12, 3000, &idr[0]),
        (13, 3000, &idr[1]),
        (14, 6000, &H264_DELTA),
        (15, 9000, &SPS_BASELINE),
        (16, 9000, &H264_PPS),
        (17, 9000, &H264_IDR),
    ];
    assert_eq!(marks(Codec::H264, &packets), [10, 15]);
}

#[test]
fn a_picture_without_parameter_sets_is_marked_where_none_can_be_missing() {
    let packets: [(u64, u32, &[u8]); 4] =
        [(1, 0, &H264_DELTA), (2, 3000, &[0x09, 0xf0]), (3, 3000, &H264_IDR), (4, 3000, &H264_IDR)];
    assert_eq!(marks(Codec::H264, &packets), [3]);
    let after_loss: [(u64, u32, &[u8]); 2] = [(1, 0, &H264_DELTA), (3, 3000, &H264_IDR)];
    assert!(marks(Codec::H264, &after_loss).is_empty());
    let first_of_all: [(u64, u32, &[u8]); 1] = [(1, 0, &H264_IDR)];
    assert!(marks(Codec::H264, &first_of_all).is_empty());
}

#[test]
fn repaired_parameter_sets_are_marked_and_the_picture_after_them_is_not() {
    let packets: [(u64, u32, &[u8]); 5] = [
        (1, 0, &H264_DELTA),
        (3, 3000, &H264_PPS),
        (4, 3000, &H264_IDR),
        (2, 3000, &SPS_BASELINE),
        (5, 6000, &H264_DELTA),
    ];
    assert_eq!(marks(Codec::H264, &packets), [2]);
    let two_sets: [(u64, u32, &[u8]); 4] =
        [(1, 0, &H264_DELTA), (3, 3000, &SPS_HIGH), (4, 3000, &H264_IDR), (2, 3000, &SPS_BASELINE)];
    assert_eq!(marks(Codec::H264, &two_sets), [3, 2], "the first packet was the late one");
}

#[test]
fn h265_sets_in_packets_of_their_own_make_one_mark() {
    let packets: [(u64, u32, &[u8]); 6] = [
        (1, 0, &[0x02, 0x01, 0xd0]),
        (2, 3000, &[0x40, 0x01, 0x0c]),
        (3, 3000, &[0x42, 0x01, 0x01]),
        (4, 3000, &[0x44, 0x01, 0xc1]),
        (5, 3000, &[0x62, 0x01, 0x93, 0xaf]),
        (6, 3000, &[0x62, 0x01, 0x13, 0xaf]),
    ];
    assert_eq!(marks(Codec::H265, &packets), [2]);
}

#[test]
fn every_keyframe_of_the_other_codecs_is_marked_once() {
    let packets: [(u64, u32, &[u8]); 4] =
        [(1, 0, &[0x10, 0x50]), (2, 0, &[0x00, 0x50]), (3, 3000, &[0x10, 0x51]), (5, 6000, &[0x10, 0x50])];
    assert_eq!(marks(Codec::Vp8, &packets), [1, 5]);
}

proptest! {
    #[test]
    fn no_payload_panics(
        mut payload in prop::collection::vec(any::<u8>(), 0..60),
        first in prop::sample::select(vec![0x67u8, 0x78, 0x7c, 0x65, 0x60, 0x62, 0x40, 0x90, 0xaa, 0x28, 0x08]),
        timestamp in any::<u32>(),
    ) {
        if let Some(byte) = payload.first_mut() {
            *byte = first;
        }
        for codec in Codec::ALL {
            let starts = starts_keyframe(codec, &payload);
            let mut detector = KeyframeDetector::new(codec);
            detector.inspect(SeqNo::new(0), timestamp.wrapping_add(1), &[]);
            prop_assert_eq!(detector.inspect(SeqNo::new(1), timestamp, &payload), starts, "{}", codec);
            prop_assert!(Profile::read(codec, &payload).is_none() || payload.len() > 2);
        }
        prop_assert!(slice_type(&payload).is_none() || payload.len() > 1);
        if let Some(parameters) = sequence_parameters(&payload) {
            prop_assert!(parameters.width > 0 && parameters.height > 0);
        }
    }

    #[test]
    fn a_damaged_sequence_parameter_set_never_panics(index in 1usize..37, byte in any::<u8>(), length in 0usize..38) {
        for original in [&SPS_BASELINE[..], &SPS_HIGH, &SPS_HIGH_444, &SPS_FIELDS] {
            let mut unit = original.to_vec();
            if let Some(damaged) = unit.get_mut(index) {
                *damaged = byte;
            }
            unit.truncate(length);
            if let Ok(parameters) = SequenceParameters::parse(&unit) {
                prop_assert!((1..=16_384).contains(&parameters.width) && (1..=16_384).contains(&parameters.height));
                prop_assert_eq!(parameters.profile_level_id().len(), 6);
            }
        }
    }
}
