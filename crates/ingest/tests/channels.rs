//! Data channels of a publisher: what comes over them, and that nothing disturbs the media beside them.

#![allow(clippy::unwrap_used, reason = "a test that meets what cannot be may panic")]

mod harness;

use std::time::Duration;

use harness::{Media, Offer, VP8_DELTA, VP8_KEYFRAME, World};
use str0m::format::Codec;

/// 30 frames per second.
const FRAME: Duration = Duration::from_micros(33_333);

/// A publisher whose data channel is open, and which has said `hello` over it.
fn talking() -> World {
    let mut world = World::connected(Offer { data: true, ..Offer::new() });
    for _ in 0..200 {
        if world.say(b"hello") {
            world.run_until(|world| !world.cues.is_empty());
            return world;
        }
        world.run(Duration::from_millis(5));
    }
    panic!("the data channel does not open: {:?}", world.closed);
}

/// Publishes a frame of one packet and lets its time pass.
fn publish_frame(world: &mut World, number: u64) {
    let (mid, payload_type) = (world.video.unwrap(), world.payload_type(Codec::Vp8));
    let payload: &[u8] = if number.is_multiple_of(30) { &VP8_KEYFRAME } else { &VP8_DELTA };
    let timestamp = (number * 3000) as u32;
    world.publish(&Media {
        mid,
        rid: None,
        payload_type,
        seq: 100 + number,
        timestamp,
        marker: true,
        payload,
    });
    world.run(FRAME);
}

#[test]
fn what_a_publisher_says_arrives_with_its_time() {
    let mut world = talking();
    let sent = world.wallclock();
    assert!(world.say("Grüezi".as_bytes()));
    world.run_until(|world| world.cues.len() == 2);
    let texts: Vec<&[u8]> = world.cues.iter().map(|(_, document)| &**document).collect();
    assert_eq!(texts, [&b"hello"[..], "Grüezi".as_bytes()]);
    let late = world.cues[1].0.saturating_since(sent);
    assert!(late <= 2 * harness::LATENCY, "{late:?}");
}

#[test]
fn a_long_message_arrives_whole() {
    let mut world = talking();
    assert!(world.say(&[b'a'; 60_000]));
    world.run_until(|world| world.cues.len() == 2);
    assert_eq!(world.cues[1].1.len(), 60_000);
}

#[test]
fn a_flood_over_the_channel_is_cut_and_no_packet_of_the_media_is_missing() {
    let mut world = talking();
    for number in 0..120 {
        while world.say(&[b'a'; 10_000]) {}
        publish_frame(&mut world, number);
    }
    world.run(Duration::from_millis(100));
    assert_eq!(world.closed, None);
    let ssrc = world.packets[0].ssrc;
    let seq_nos = world.seq_nos(ssrc);
    assert_eq!(seq_nos.len(), 120);
    assert!(seq_nos.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seq_nos:?}");
    let drops = world.server.as_ref().unwrap().stats().drops;
    assert!(drops.channel_rate > 0, "{drops:?}");
}

#[test]
fn a_publisher_with_a_channel_says_goodbye() {
    let mut world = talking();
    let now = world.now;
    world.server.as_mut().unwrap().close(now);
    world.run_until(|world| world.client_closed);
}

#[test]
fn a_resumed_session_keeps_its_media_and_loses_its_channel() {
    let mut world = talking();
    (0..30).for_each(|number| publish_frame(&mut world, number));
    let record = world.kill();
    world.resume(&record);
    let _ = world.say(b"is anybody there?");
    (30..60).for_each(|number| publish_frame(&mut world, number));
    world.run(Duration::from_millis(100));
    assert_eq!(world.closed, None);
    assert_eq!(world.seq_nos(world.packets[0].ssrc).len(), 60);
    assert_eq!(world.cues.len(), 1, "the keys of DTLS have died with the process");
}
