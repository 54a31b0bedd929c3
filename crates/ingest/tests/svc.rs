//! Layers within one stream: what a publisher's packets carry into the tree.

#![allow(clippy::unwrap_used, reason = "a test that meets what cannot be may panic")]

mod harness;

use std::time::Duration;

use harness::{Media, Offer, World};
use media_core::svc::{Structure, Svc, dependency};
use model::Kind;
use str0m::RtcConfig;
use str0m::format::Codec as EngineCodec;

/// 30 frames per second.
const FRAME: Duration = Duration::from_micros(33_333);

fn offer() -> Offer {
    let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
    config.codec_config().enable_opus(true, false);
    config.codec_config().enable_vp9(true);
    Offer { config, ..Offer::new() }
}

/// Publishes frames of VP9 of three frame rates, one packet each; the first of each sixty is a keyframe.
fn publish(world: &mut World, frames: std::ops::Range<u64>) {
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(EngineCodec::Vp9));
    for frame in frames {
        let temporal = [0, 2, 1, 2][frame as usize % 4];
        let is_key = frame.is_multiple_of(60);
        // I, P, L, B, E, and V with a group of four pictures.
        let mut payload =
            vec![0xac | if is_key { 0x02 } else { 0x40 }, frame as u8 & 0x7f, temporal << 5 | 0x10, 0];
        if is_key {
            payload.extend([0x08, 4, 0x14, 4, 0x54, 1, 0x34, 2, 0x54, 1]);
        }
        payload.extend([0x82, 0x49, 0x83, frame as u8]);
        let timestamp = (frame * 3000) as u32;
        world.publish(&Media {
            mid,
            rid: None,
            payload_type,
            seq: 1000 + frame,
            timestamp,
            marker: true,
            payload: &payload,
        });
        world.run(FRAME);
    }
}

/// What is said of the packets of picture.
fn said(world: &World) -> Vec<(u64, Svc)> {
    let ssrc =
        world.tracks.last().unwrap().iter().find(|track| track.kind() == Kind::Video).unwrap().layers[0].ssrc;
    let packets = world.packets.iter().filter(|packet| packet.ssrc == ssrc);
    packets.filter_map(|packet| Some((packet.seq_no.get(), packet.svc?))).collect()
}

#[test]
fn packets_of_three_frame_rates_are_counted() {
    let mut world = World::connected(offer());
    publish(&mut world, 0..90);
    let said = said(&world);
    assert_eq!(said.len(), 90, "from the first keyframe on");
    assert!(said.iter().all(|(_, svc)| svc.structure == Structure::new(1, 3)));
    assert!(said.iter().all(|(_, svc)| svc.begins_picture && svc.ends_frame && svc.is_switch));
    let (_, last) = said.last().unwrap();
    // Of 89 before it: 45 of the lower two rates, 23 of the lowest.
    assert_eq!([last.count(1), last.count(2)], [45, 23]);
}

#[test]
fn who_goes_on_with_a_session_counts_anew() {
    let mut world = World::connected(offer());
    publish(&mut world, 0..30);
    let first = said(&world).last().unwrap().1.generation;
    for life in 1..3u8 {
        let record = world.kill();
        world.resume(&record);
        let from = u64::from(life) * 30;
        publish(&mut world, from..from + 30);
        let (_, newest) = *said(&world).last().unwrap();
        assert_eq!(newest.generation, first + life);
    }
}

#[test]
fn the_dependency_descriptor_is_answered_where_it_is_offered() {
    let rewrite = |offer: String| {
        let (head, video) = offer.split_once("m=video").unwrap();
        let line = format!("a=extmap:12 {}\r\na=rtcp-mux", dependency::URI);
        format!("{head}m=video{}", video.replacen("a=rtcp-mux", &line, 1))
    };
    let with = World::connected(Offer { rewrite, ..offer() });
    assert!(with.answer.contains(&format!("a=extmap:12 {}", dependency::URI)), "{}", with.answer);
    assert!(!World::connected(offer()).answer.contains(dependency::URI));
}
