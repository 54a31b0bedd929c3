//! Publishing over a network in memory: what the tree gets of it.

#![allow(clippy::unwrap_used, reason = "a test that meets what cannot be may panic")]

mod harness;

use std::time::Duration;

use harness::{Media, Offer, VP8_DELTA, VP8_KEYFRAME, World};
use ingest::{CloseReason, Publisher};
use model::{Codec, NtpTime};
use str0m::RtcConfig;
use str0m::format::Codec as EngineCodec;
use str0m::media::{KeyframeRequestKind, Rid};
use str0m::rtp::ExtensionValues;

fn only(codecs: &[EngineCodec]) -> Offer {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
    for codec in codecs {
        match codec {
            EngineCodec::Opus => config.codec_config().enable_opus(true, false),
            EngineCodec::H264 => config.codec_config().enable_h264(true),
            EngineCodec::Vp8 => config.codec_config().enable_vp8(true),
            other => panic!("{other:?} not prepared"),
        }
    }
    Offer { config, ..Offer::new() }
}

/// 30 frames per second.
const FRAME: Duration = Duration::from_micros(33_333);

/// Publishes `frames` frames of VP8, three packets each, and Opus, 33 ms apart.
fn publish_vp8(world: &mut World, frames: u64, first_seq: u64) {
    let (video, audio) = (world.video.unwrap(), world.audio.unwrap());
    let (vp8, opus) = (world.payload_type(EngineCodec::Vp8), world.payload_type(EngineCodec::Opus));
    for frame in 0..frames {
        let timestamp = (frame * 3000) as u32;
        for part in 0..3 {
            let seq = first_seq + frame * 3 + part;
            let payload: &[u8] = if frame % 30 == 0 && part == 0 { &VP8_KEYFRAME } else { &VP8_DELTA };
            world.publish(&Media {
                mid: video,
                rid: None,
                payload_type: vp8,
                seq,
                timestamp,
                marker: part == 2,
                payload,
            });
        }
        world.publish(&Media {
            mid: audio,
            rid: None,
            payload_type: opus,
            seq: first_seq + frame,
            timestamp: (frame * 1600) as u32,
            marker: false,
            payload: &[0xfc, 1, 2, 3],
        });
        world.run(FRAME);
    }
}

fn video_ssrc(world: &World) -> model::Ssrc {
    world.tracks.last().unwrap().iter().find(|track| track.codec != Codec::Opus).unwrap().layers[0].ssrc
}

#[test]
fn vp8_and_opus_arrive_in_order_and_described() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 40, 700);
    world.run(Duration::from_millis(50));

    // One description with the first packet, another one when both have been heard.
    assert_eq!(world.tracks.len(), 2, "{:?}", world.tracks);
    let tracks = &world.tracks[1];
    assert!(tracks.iter().all(|track| track.was_heard), "{tracks:?}");
    assert_eq!(tracks.iter().map(|track| track.codec).collect::<Vec<_>>(), [Codec::Opus, Codec::Vp8]);
    assert!(tracks[0].fmtp.contains("minptime=10"), "{:?}", tracks[0].fmtp);
    let video = world.seq_nos(tracks[1].layers[0].ssrc);
    assert_eq!(video.len(), 120);
    assert!(video.windows(2).all(|pair| pair[1] == pair[0] + 1), "{video:?}");
    assert_eq!(world.seq_nos(tracks[0].layers[0].ssrc).len(), 40);
    let keyframes: Vec<_> = world.packets.iter().filter(|packet| packet.starts_keyframe).collect();
    assert_eq!(keyframes.len(), 2);
    assert_eq!(&keyframes[0].payload[..], VP8_KEYFRAME);
    let stats = world.server.as_ref().unwrap().stats();
    let layer = stats.layers.iter().find(|layer| layer.ssrc == tracks[1].layers[0].ssrc).unwrap();
    assert_eq!((layer.packets, layer.lost, layer.recovered), (120, 0, 0));
    let interval = layer.keyframe_interval.unwrap().as_millis();
    assert!((990..=1010).contains(&interval), "30 frames of 33.3 ms, not {interval} ms");
}

#[test]
fn h264_is_described_by_its_parameter_sets_not_by_its_offer() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::H264]));
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::H264));
    let sps: &[u8] = &harness::H264_PARAMETER_SETS;
    let idr: &[u8] = &[0x65, 0x88, 0x84, 0x00, 0x33];
    for (seq, payload, marker) in [(1, sps, false), (2, idr, true)] {
        world.publish(&Media { mid, rid: None, payload_type, seq, timestamp: 90, marker, payload });
    }
    world.run(Duration::from_millis(50));
    let last = world.tracks.last().unwrap();
    assert_eq!(last[1].codec, Codec::H264);
    assert!(last[1].fmtp.contains("profile-level-id=42c01f"), "{:?}", last[1].fmtp);
    assert!(last[1].fmtp.contains("packetization-mode=1"), "{:?}", last[1].fmtp);
    assert_eq!(world.packets.iter().map(|p| p.starts_keyframe).collect::<Vec<_>>(), [true, false]);
    let stats = world.server.as_ref().unwrap().stats();
    assert_eq!(stats.layers[1].size, Some((1280, 720)));
}

#[test]
fn five_percent_loss_is_repaired_and_late_packets_keep_their_numbers() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    world.loss_percent = 5;
    publish_vp8(&mut world, 300, 100);
    world.loss_percent = 0;
    publish_vp8(&mut world, 10, 1000);
    world.run(Duration::from_millis(500));
    let mut video = world.seq_nos(video_ssrc(&world));
    let arrived_in_order = video.is_sorted();
    video.sort_unstable();
    video.dedup();
    assert!(!arrived_in_order, "repair comes late");
    assert_eq!(video.len(), 930, "every packet of video is there");
    assert!(video.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let stats = world.server.as_ref().unwrap().stats();
    let layer = &stats.layers[1];
    assert!(layer.recovered > 20 && layer.nacks > 0, "{layer:?}");
    assert_eq!(layer.lost, 0);
}

#[test]
fn a_packet_lost_early_in_a_burst_of_hundreds_is_repaired() {
    // A keyframe of 300 kB at once: the engine alone looks back 100 packets and would give it up.
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 3, 1);
    world.lose_next = 3;
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::Vp8));
    for seq in 10..260 {
        let payload = &VP8_DELTA;
        world.publish(&Media {
            mid,
            rid: None,
            payload_type,
            seq,
            timestamp: 9000,
            marker: seq == 259,
            payload,
        });
    }
    world.run(Duration::from_millis(200));
    let mut video = world.seq_nos(video_ssrc(&world));
    video.sort_unstable();
    assert_eq!(video.len(), 259);
    assert!(video.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_packet_that_comes_twice_is_published_once() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 3, 1);
    world.run(Duration::from_millis(50));
    let count = world.packets.len();
    let sent = world.sent_by_client.clone();
    for bytes in sent.iter().filter(|bytes| bytes[0] >= 128) {
        world.give_to_server(harness::CLIENT.parse().unwrap(), bytes);
    }
    assert_eq!(world.packets.len(), count);
}

#[test]
fn a_publisher_without_rtx_is_asked_too() {
    // OBS offers nack, and resends on the media SSRC; str0m answers NACK with RTX only, so the requests are counted.
    let mut offer = only(&[EngineCodec::Opus, EngineCodec::Vp8]);
    offer.rewrite = |text| {
        let kept = |line: &&str| {
            !line.contains("rtx/90000") && !line.contains("apt=") && !line.contains("ssrc-group:FID")
        };
        text.replace("SAVPF 96 97", "SAVPF 96")
            .lines()
            .filter(kept)
            .map(|line| format!("{line}\r\n"))
            .collect()
    };
    let mut world = World::connected(offer);
    world.loss_percent = 5;
    publish_vp8(&mut world, 100, 100);
    world.run(Duration::from_secs(2));
    let stats = world.server.as_ref().unwrap().stats();
    assert!(stats.layers[1].lost > 0 && stats.layers[1].nacks > 0, "{stats:?}");
    assert_eq!(stats.layers[1].given_up, stats.layers[1].lost, "after two seconds nothing is waited for");
    assert_eq!(stats.layers[0].nacks, 0, "audio was offered without nack");
}

#[test]
fn sequence_numbers_go_on_across_a_wrap() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 40, 65_500);
    world.run(Duration::from_millis(50));
    let video = world.seq_nos(video_ssrc(&world));
    assert_eq!(video.len(), 120);
    assert!(video.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn three_layers_get_three_identities() {
    let offer = Offer { rids: vec!["q", "h", "f"], ..only(&[EngineCodec::Opus, EngineCodec::Vp8]) };
    let mut world = World::connected(offer);
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::Vp8));
    for frame in 0..60u64 {
        for (rid, size) in [("q", 100), ("h", 300), ("f", 900)] {
            let mut payload = VP8_DELTA.to_vec();
            payload.resize(size, 0);
            world.publish(&Media {
                mid,
                rid: Some(Rid::from(rid)),
                payload_type,
                seq: 5000 + frame,
                timestamp: (frame * 3000) as u32,
                marker: true,
                payload: &payload,
            });
        }
        world.run(Duration::from_millis(33));
    }
    world.run(Duration::from_millis(1100));
    let rids = |tracks: &[model::Track]| -> Vec<String> {
        tracks[1].layers.iter().map(|layer| layer.rid.as_ref().unwrap().to_string()).collect()
    };
    assert_eq!(rids(&world.tracks[0]), ["q", "h", "f"], "as offered");
    assert_eq!(rids(world.tracks.last().unwrap()), ["f", "h", "q"], "best first, as measured");
    for layer in &world.tracks[0][1].layers {
        assert_eq!(world.seq_nos(layer.ssrc).len(), 60);
    }
    let distinct: std::collections::BTreeSet<_> =
        world.tracks[0].iter().flat_map(|track| &track.layers).map(|layer| layer.ssrc).collect();
    assert_eq!(distinct.len(), 4);
}

/// A sequence parameter set of baseline profile for a picture of so many macroblocks (ITU-T H.264, section 7.3.2.1).
fn sequence_parameters([width, height]: [u32; 2]) -> Vec<u8> {
    let code = |value: u32| format!("{}{value:b}", "0".repeat(value.ilog2() as usize));
    let bits = ["1", "1", "011", "010", "0", &code(width), &code(height), "11001"].concat();
    let byte =
        |bits: &[u8]| bits.iter().zip((0..8).rev()).map(|(bit, place)| (bit - b'0') << place).sum::<u8>();
    [0x67, 0x42, 0xc0, 0x1f].into_iter().chain(bits.as_bytes().chunks(8).map(byte)).collect()
}

#[test]
fn layers_that_say_their_sizes_are_in_order_before_the_small_ones_have_sent_much() {
    let rids = ["0", "1", "2"];
    let offer = Offer { rids: rids.to_vec(), ..only(&[EngineCodec::Opus, EngineCodec::H264]) };
    let mut world = World::connected(offer);
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::H264));
    let sets = [[40, 22], [30, 16], [20, 11]].map(sequence_parameters);
    let mut sent = [0u64; 3];
    // 20 pictures in a second: the best layer has three packets for each, the others one.
    for frame in 0..24u32 {
        for (layer, rid) in rids.into_iter().enumerate() {
            for part in 0..[3, 1, 1][layer] {
                let payload: &[u8] = match (frame, part) {
                    (0, 0) => &sets[layer],
                    (1, 0) => &[0x65, 0x88, 0x84, 0x00, 0x33],
                    _ => &[0x41, 0x9a, 0x24, 0x6c, 0x41],
                };
                let (rid, seq) = (Some(Rid::from(rid)), 5000 + sent[layer]);
                let timestamp = frame * 4500;
                world.publish(&Media { mid, rid, payload_type, seq, timestamp, marker: true, payload });
                sent[layer] += 1;
            }
        }
        world.run(Duration::from_millis(50));
    }
    for tracks in &world.tracks {
        let told = tracks[1].layers.iter().map(|layer| layer.rid.as_ref().unwrap().as_str());
        assert_eq!(told.collect::<Vec<_>>(), rids);
    }
    let sizes: Vec<_> = world.server.as_ref().unwrap().stats().layers[1..].iter().map(|it| it.size).collect();
    assert_eq!(sizes, [Some((640, 352)), Some((480, 256)), Some((320, 176))]);
}

#[test]
fn capture_times_of_audio_and_video_agree_after_reports() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 300, 100);
    let video = video_ssrc(&world);
    // Audio and video of one frame were captured at the same moment.
    let of = |ssrc_is_video: bool, ticks_per_frame: u32| -> NtpTime {
        let timestamp = 290 * ticks_per_frame;
        let packet = world
            .packets
            .iter()
            .find(|packet| (packet.ssrc == video) == ssrc_is_video && packet.timestamp == timestamp)
            .unwrap();
        packet.capture_time
    };
    let (picture, sound) = (of(true, 3000), of(false, 1600));
    let apart = picture.saturating_since(sound).max(sound.saturating_since(picture));
    assert!(apart < Duration::from_millis(5), "{apart:?} apart");
}

#[test]
fn a_picture_that_comes_later_than_its_sound_is_told() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    assert_eq!(world.payload_type(EngineCodec::Vp8), 96.into());
    world.late = |bytes| Duration::from_millis(if bytes[1] & 0x7f == 96 { 120 } else { 0 });
    assert_eq!(world.server.as_ref().unwrap().stats().picture_delay, None, "no clock is known yet");
    publish_vp8(&mut world, 300, 100);
    let delay = world.server.as_ref().unwrap().stats().picture_delay.unwrap();
    assert!((0.1..0.14).contains(&delay), "{delay} s");
}

#[test]
fn a_picture_tells_when_its_newest_keyframe_came() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let keyframe_at = |world: &World| world.server.as_ref().unwrap().stats().layers[1].keyframe_at;
    assert_eq!(keyframe_at(&world), None);
    let begun = world.now;
    // The keyframe comes first; 29 frames follow it.
    publish_vp8(&mut world, 30, 1);
    let at = keyframe_at(&world).unwrap();
    assert!(at >= begun && at <= begun + FRAME, "{:?}", at - begun);
    assert_eq!(world.server.as_ref().unwrap().stats().layers[0].keyframe_at, None, "sound has none");
}

#[test]
fn padding_keeps_its_number_and_has_no_payload() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::Vp8));
    let payloads: [&[u8]; 3] = [&VP8_KEYFRAME, &[], &VP8_DELTA];
    for (seq, payload) in (10..).zip(payloads) {
        world.publish(&Media { mid, rid: None, payload_type, seq, timestamp: 9, marker: false, payload });
    }
    world.run(Duration::from_millis(50));
    assert_eq!(world.packets.len(), 3);
    assert!(world.packets[1].payload.is_empty() && !world.packets[1].starts_keyframe);
    assert_eq!(world.packets[2].seq_no.get() - world.packets[0].seq_no.get(), 2, "no phantom gap");
}

#[test]
fn the_audio_level_travels_along_and_pictures_come_upright() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let is_told = |sdp: &str| sdp.contains("urn:3gpp:video-orientation");
    assert!(is_told(&world.offer) && !is_told(&world.answer), "{}", world.answer);
    let (mid, payload_type) = (world.audio.unwrap(), world.payload_type(EngineCodec::Opus));
    let extensions =
        ExtensionValues { audio_level: Some(-42), voice_activity: Some(true), ..ExtensionValues::default() };
    let media =
        Media { mid, rid: None, payload_type, seq: 5, timestamp: 9, marker: true, payload: &[0xfc, 0] };
    world.publish_with(&media, extensions);
    world.run(Duration::from_millis(50));
    assert_eq!(world.packets[0].audio_level, Some(0x80 | 42));
}

#[test]
fn a_keyframe_request_reaches_the_publisher() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 3, 1);
    let ssrc = video_ssrc(&world);
    world.server.as_mut().unwrap().request_keyframe(ssrc);
    world.run(Duration::from_millis(50));
    assert_eq!(world.keyframe_requests.len(), 1);
    assert_eq!(world.keyframe_requests[0].kind, KeyframeRequestKind::Pli);
    assert_eq!(world.server.as_ref().unwrap().stats().layers[1].keyframe_requests, 1);
}

#[test]
fn a_session_that_never_connects_ends_after_15_seconds() {
    let mut world = World::new(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    world.loses = |_| true;
    world.run(Duration::from_millis(14_900));
    assert_eq!(world.closed, None);
    world.run(Duration::from_millis(200));
    assert_eq!(world.closed, Some(CloseReason::NeverConnected { handshake: None }));
    assert_eq!(world.server.as_ref().unwrap().poll_timeout(), None);
}

#[test]
fn silence_ends_a_session_after_30_seconds() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 3, 1);
    world.loses = |_| true;
    world.run(Duration::from_secs(29));
    assert_eq!(world.closed, None);
    world.run(Duration::from_millis(1100));
    assert_eq!(world.closed, Some(CloseReason::ConsentExpired));
}

#[test]
fn media_alone_keeps_a_session_alive_and_its_feedback_flowing() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    // As ffmpeg 8: no connectivity checks once media flows.
    world.loses = |bytes| bytes[0] < 2;
    publish_vp8(&mut world, 2000, 1);
    assert_eq!(world.closed, None);
    assert!(world.now - world.start > Duration::from_secs(60));
    let ssrc = video_ssrc(&world);
    world.server.as_mut().unwrap().request_keyframe(ssrc);
    world.run(Duration::from_millis(50));
    assert_eq!(world.keyframe_requests.len(), 1, "RTCP still has a way back");
}

#[test]
fn feedback_follows_media_to_another_address() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 300, 1);
    let ssrc = video_ssrc(&world);
    for (address, first_seq) in [("192.0.2.7:9", 2000), ("192.0.2.8:9", 2100), (harness::CLIENT, 2200)] {
        world.client_address = address.parse().unwrap();
        world.run(Duration::from_secs(3)); // Its checks come first.
        publish_vp8(&mut world, 3, first_seq);
        world.sent_to.clear();
        world.server.as_mut().unwrap().request_keyframe(ssrc);
        world.run(Duration::from_millis(50));
        let strays = world.sent_to.iter().filter(|to| **to != world.client_address).count();
        assert!(strays == 0 && !world.sent_to.is_empty(), "{address}: {:?}", world.sent_to);
    }
}

#[test]
fn a_check_is_for_the_session_that_it_names_wherever_it_comes_from() {
    let world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let is_check = |bytes: &&Vec<u8>| bytes.starts_with(&[0, 1]);
    let own = world.sent_by_client.iter().find(is_check).expect("a Binding request");
    let ufrag = own.windows(4).position(|bytes| bytes == b"srvr").expect("the session's name");
    let mut of_another = own.clone();
    of_another[ufrag] = b'x';
    let (client, stranger) = (harness::CLIENT.parse().unwrap(), "203.0.113.9:9".parse().unwrap());
    let server = world.server.as_ref().unwrap();
    // As of a publisher who has begun anew from the same port.
    assert!(
        server.accepts(client, own) && server.accepts(stranger, own) && !server.accepts(client, &of_another)
    );
    assert!(server.accepts(client, &[0x80; 12]) && !server.accepts(stranger, &[0x80; 12]));
}

#[test]
fn a_clean_stop_says_goodbye_in_both_directions() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let now = world.now;
    world.server.as_mut().unwrap().close(now);
    world.run(Duration::from_millis(50));
    assert_eq!(world.closed, Some(CloseReason::Requested));
    assert!(world.client_closed, "DTLS close_notify makes OBS reconnect");

    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    world.client.close().unwrap();
    world.run(Duration::from_millis(50));
    assert_eq!(world.closed, Some(CloseReason::PeerClosed));
}

#[test]
fn a_forged_packet_cannot_take_a_stream_from_its_owner() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    publish_vp8(&mut world, 3, 1);
    let seen = world.packets.len();
    let genuine =
        world.sent_by_client.iter().rfind(|bytes| bytes[0] >= 128 && bytes[1] & 0x7f == 96).unwrap().clone();
    let mut forged = genuine;
    forged[8] ^= 0x55; // another SSRC, with the header extension that names the section
    world.give_to_server(harness::CLIENT.parse().unwrap(), &forged);
    assert_eq!(world.server.as_ref().unwrap().stats().drops.unauthentic, 1);
    publish_vp8(&mut world, 3, 10);
    world.run(Duration::from_millis(50));
    assert_eq!(world.packets.len(), seen + 3 * 4);
}

#[test]
fn strangers_are_not_heard() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let stranger = "203.0.113.9:9".parse().unwrap();
    let server = world.server.as_mut().unwrap();
    assert!(!server.accepts(stranger, &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]));
    let path = (stranger, harness::SERVER.parse().unwrap());
    server.handle_datagram(world.now, NtpTime::from_bits(1), path, &[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]);
    server.handle_datagram(world.now, NtpTime::from_bits(1), path, &[255; 30]);
    let drops = server.stats().drops;
    assert_eq!((drops.unknown_source, drops.malformed), (1, 1));
}

#[test]
fn a_publisher_that_comes_from_ever_new_addresses_is_heard_from_few() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let is_check = |bytes: &&Vec<u8>| bytes.starts_with(&[0, 1]);
    let check = world.sent_by_client.iter().find(is_check).expect("a Binding request").clone();
    let destination = harness::SERVER.parse().unwrap();
    for port in 1..=1000 {
        let source = std::net::SocketAddr::from(([203, 0, 113, 9], port));
        let server = world.server.as_mut().unwrap();
        server.handle_datagram(world.now, NtpTime::from_bits(1), (source, destination), &check);
        while server.poll_output().is_some() {}
    }
    let drops = world.server.as_ref().unwrap().stats().drops;
    assert!((900..1000).contains(&drops.unknown_source), "{drops:?}");
    world.run(Duration::from_secs(1));
    assert!(world.closed.is_none(), "the path in use stays");
}

#[test]
fn payload_types_that_carry_no_media_are_counted() {
    let mut world = World::connected(only(&[EngineCodec::Opus, EngineCodec::Vp8]));
    let telephone_event = [0x80, 126, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    world.give_to_server(harness::CLIENT.parse().unwrap(), &telephone_event);
    assert_eq!(world.server.as_ref().unwrap().stats().drops.payload_type, 1);
}

#[test]
fn an_offer_like_ffmpegs_is_answered_by_a_dtls_client() {
    let offer = "v=0\r\no=FFmpeg 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=setup:passive\r\na=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:7 cname:a\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 106\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=setup:passive\r\na=mid:1\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:106 H264/90000\r\n\
        a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f\r\na=ssrc:8 cname:a\r\n";
    let (_, answer) = Publisher::accept(offer, harness::setup(std::time::Instant::now())).unwrap();
    assert!(answer.contains("a=setup:active"), "{answer}");
    assert!(
        answer.contains("a=rtpmap:106 H264/90000") && answer.contains("a=rtpmap:111 opus/48000/2"),
        "{answer}"
    );
    assert!(!answer.contains("rtcp-fb:106 nack"), "no more feedback than was offered: {answer}");
}

/// A world whose publisher shows a certificate of this algorithm, but signs with an ECDSA key.
fn with_certificate_of(algorithm: &'static rcgen::SignatureAlgorithm) -> World {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let theirs = rcgen::CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut offer = only(&[EngineCodec::Opus, EngineCodec::Vp8]);
    let ours = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate().unwrap();
    let certificate =
        str0m::config::DtlsCert { certificate: theirs.der().to_vec(), private_key: ours.private_key };
    offer.config = offer.config.set_dtls_cert(certificate);
    World::new(offer)
}

#[test]
fn a_certificate_that_cannot_be_verified_is_refused_with_a_remedy() {
    let mut world = with_certificate_of(&rcgen::PKCS_ECDSA_P521_SHA512);
    world.run(Duration::from_secs(1));
    assert_eq!(world.closed, Some(CloseReason::UnsupportedCertificate));
    let remedy = CloseReason::UnsupportedCertificate.to_string();
    assert!(remedy.contains("P-256") && remedy.contains("cert_file"), "{remedy}");
}

#[test]
fn whoever_shows_an_rsa_certificate_has_to_sign_with_its_key() {
    let mut world = with_certificate_of(&rcgen::PKCS_RSA_SHA256);
    world.run(Duration::from_secs(16));
    assert_eq!(world.connected, 0);
    let Some(CloseReason::NeverConnected { handshake: Some(error) }) = world.closed else {
        panic!("{:?}", world.closed)
    };
    assert!(error.contains("public key algorithm"), "{error}");
}

#[test]
fn a_certificate_that_is_not_the_offers_ends_the_session() {
    let mut offer = only(&[EngineCodec::Opus, EngineCodec::Vp8]);
    offer.rewrite = |text| {
        let replaced = |line: &str| match line.split_once("sha-256 ") {
            Some((before, print)) => format!("{before}sha-256 00:00{}", &print[5..]),
            None => line.to_owned(),
        };
        text.lines().map(|line| replaced(line) + "\r\n").collect()
    };
    let mut world = World::new(offer);
    world.run(Duration::from_secs(1));
    assert_eq!(world.closed, Some(CloseReason::FingerprintMismatch));
}

#[test]
fn streams_that_nothing_names_are_found_by_their_payload_type() {
    let mut offer = only(&[EngineCodec::Opus, EngineCodec::Vp8]);
    offer.rewrite = |text| {
        let kept = |line: &&str| !line.starts_with("a=ssrc") && !line.contains("sdes:mid");
        text.lines().filter(kept).map(|line| format!("{line}\r\n")).collect()
    };
    let mut world = World::connected(offer);
    publish_vp8(&mut world, 10, 1);
    assert_eq!(world.packets.len(), 40);
}

#[test]
fn offers_that_cannot_be_received_are_refused() {
    let setup = || harness::setup(std::time::Instant::now());
    let accept = |offer: &str| Publisher::accept(offer, setup()).map(|(_, answer)| answer);
    assert_eq!(accept("").unwrap_err(), ingest::AcceptError::NothingToReceive);
    let pcma = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 8\r\na=mid:0\r\na=rtpmap:8 PCMA/8000\r\n";
    assert_eq!(accept(pcma).unwrap_err(), ingest::AcceptError::NothingToReceive);
    let opus = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 8\r\na=mid:0\r\na=rtpmap:8 opus/48000/2\r\n";
    assert!(matches!(accept(opus).unwrap_err(), ingest::AcceptError::Engine { .. }));
    let none = ingest::Setup { local_addresses: Vec::new(), ..setup() };
    assert_eq!(Publisher::accept(opus, none).unwrap_err(), ingest::AcceptError::LocalAddress);
}
