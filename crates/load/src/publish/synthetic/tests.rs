//! The shape of what is published.

use super::*;
use media_core::codec::{KeyframeDetector, h264};
use model::{Codec, SeqNo};

fn seconds(encoder: &mut Encoder, seconds: usize, frame_rate: usize) -> Vec<(bool, Vec<Vec<u8>>)> {
    (0..seconds * frame_rate).map(|_| encoder.frame()).collect()
}

fn encoder(kilobits: u64, frame_rate: f64) -> Encoder {
    Encoder::new(Bitrate::kbps(kilobits), frame_rate, Duration::from_secs(2), 0)
}

#[test]
fn a_720p_stream_has_311_packets_a_second_and_its_bitrate() {
    let frames = seconds(&mut encoder(2500, 30.0), 20, 30);
    let packets: usize = frames.iter().map(|(_, packets)| packets.len()).sum();
    assert!((300 * 20..=320 * 20).contains(&packets), "{packets} in 20 s");
    let bytes: usize = frames.iter().flat_map(|(_, packets)| packets).map(Vec::len).sum();
    let kilobits = bytes * 8 / 20 / 1000;
    assert!((2400..=2600).contains(&kilobits), "{kilobits} kbit/s");
    assert!(frames.iter().flat_map(|(_, packets)| packets).all(|packet| packet.len() <= PAYLOAD_MAX));
}

#[test]
fn a_thin_stream_has_one_packet_a_frame() {
    let frames = seconds(&mut encoder(20, 10.0), 20, 10);
    assert!(frames.iter().all(|(_, packets)| packets.len() == 1));
}

#[test]
fn keyframes_come_with_their_parameters_at_their_interval_and_when_asked_for() {
    for (kilobits, frame_rate) in [(2500, 30.0), (20, 10.0)] {
        let mut encoder = encoder(kilobits, frame_rate);
        let mut detector = KeyframeDetector::new(Codec::H264);
        let mut seq_no = SeqNo::new(0);
        let mut keyframes = Vec::new();
        for frame in 0..frame_rate as u32 * 4 {
            if frame == 5 {
                encoder.force_keyframe();
            }
            for packet in encoder.frame().1 {
                seq_no = seq_no.plus(1);
                if detector.inspect(seq_no, frame, &packet) {
                    keyframes.push(frame);
                    let parameters = h264::sequence_parameters(&packet).expect("parameters");
                    assert_eq!((parameters.width, parameters.height), (1280, 720));
                    assert!(!parameters.may_reorder());
                }
            }
        }
        assert_eq!(keyframes, [0, 5, 5 + frame_rate as u32 * 2]);
    }
}

#[test]
fn slices_say_what_they_are() {
    let mut encoder = encoder(2500, 30.0);
    let (is_keyframe, packets) = encoder.frame();
    assert!(is_keyframe);
    assert_eq!(h264::slice_type(&packets[1]), Some(h264::SliceType::I));
    let (is_keyframe, packets) = encoder.frame();
    assert!(!is_keyframe);
    assert_eq!(h264::slice_type(&packets[0]), Some(h264::SliceType::P));
}

#[test]
fn stamps_are_in_every_packet_that_has_room_and_harm_no_header() {
    let at = NtpTime::from_bits(0x0123_4567_89ab_cdef);
    for (is_keyframe, packets) in seconds(&mut encoder(2500, 30.0), 1, 30) {
        for mut packet in packets.into_iter().filter(|packet| packet.len() > 100) {
            let before = packet[..STAMP_OFFSET].to_vec();
            stamp(&mut packet, at);
            assert_eq!(crate::stamp::find(&packet), Some(at), "keyframe: {is_keyframe}");
            assert_eq!(packet[..STAMP_OFFSET], before);
        }
    }
    assert_eq!(crate::stamp::find(&sound(at)), Some(at));
}
