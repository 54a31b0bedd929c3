//! What happens to viewers when the publisher leaves, returns, or is replaced.

use std::time::Duration;

use egress::{Config, Event, ViewerId};
use model::{Codec, Kind};

use crate::harness::{AUDIO, Publisher, Scene, VIDEO, VIDEO_PT, broadcast_id, capture_start, check_video};

fn returned(scene: &Scene, codec: Codec) -> Publisher {
    Publisher::new(codec, 2, capture_start().plus(scene.now - scene.start))
}

#[test]
fn a_new_epoch_goes_on_with_the_viewers_numbers_and_time() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    let before = scene.player(1).stream(VIDEO).len();
    scene.pause(Duration::from_secs(20));
    scene.publish_anew(returned(&scene, Codec::H264));
    scene.play(Duration::from_secs(2));
    let player = scene.player(1);
    check_video(player);
    for (stream, clock_rate) in [(VIDEO, 90e3), (AUDIO, 48e3)] {
        let packets = player.stream(stream);
        assert!(packets.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
        let (first, last) = (packets[0], packets[packets.len() - 1]);
        let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / clock_rate;
        let real = (last.at - first.at).as_secs_f64();
        assert!((media - real).abs() < 0.003, "{media} {real}");
    }
    assert_eq!(player.stream(VIDEO)[before].source(), 65_014, "the new run's first keyframe");
}

#[test]
fn a_publisher_with_another_clock_moves_time_by_what_passed_here() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    scene.pause(Duration::from_secs(5));
    scene.publish_anew(Publisher::new(Codec::H264, 2, capture_start().minus(Duration::from_secs(86_400))));
    scene.play(Duration::from_secs(2));
    check_video(scene.player(1));
    let video = scene.player(1).stream(VIDEO);
    let (first, last) = (video[0], video[video.len() - 1]);
    let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90e3;
    assert!((media - (last.at - first.at).as_secs_f64()).abs() < 0.05, "{media}");
}

#[test]
fn a_new_epoch_starts_at_its_keyframe() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let before = scene.player(1).stream(VIDEO).len();
    scene.publish_anew(returned(&scene, Codec::H264));
    scene.play_with(Duration::from_millis(1900), |packet| !packet.starts_keyframe);
    assert_eq!(scene.player(1).stream(VIDEO).len(), before, "nothing that it could not decode");
    assert!(scene.count(|event| matches!(event, Event::KeyframeWanted { .. })) >= 1);
    scene.play(Duration::from_secs(1));
    assert!(scene.player(1).stream(VIDEO).len() > before);
    check_video(scene.player(1));
}

/// A publisher with long groups of pictures has been watched for a while, and falls silent.
fn watched_scene() -> Scene {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 400;
    scene.join(1);
    scene.play(Duration::from_secs(4));
    scene
}

fn ask_for_a_keyframe(scene: &mut Scene, viewer: u64) {
    let pli = scene.player_mut(viewer).pli();
    scene.rtcp(viewer, pli);
}

/// The same publishing run goes on after a pause of this length.
fn go_on_after(scene: &mut Scene, pause: Duration) {
    scene.published_at += pause;
    scene.play(Duration::from_millis(500));
}

#[test]
fn nobody_sees_the_past_again_while_the_publisher_is_silent() {
    let mut scene = watched_scene();
    let (seen, asked) = (scene.player(1).stream(VIDEO).len(), scene.shard.stats().keyframe_requests);
    // As browsers do after three seconds without a picture.
    scene.pause(Duration::from_secs(3));
    for _ in 0..2 {
        ask_for_a_keyframe(&mut scene, 1);
        scene.pause(Duration::from_secs(1));
    }
    assert_eq!(scene.player(1).stream(VIDEO).len(), seen);
    assert_eq!(scene.shard.stats().restarts, 0);
    assert!(scene.shard.stats().keyframe_requests > asked, "the publisher is asked all the same");
    go_on_after(&mut scene, Duration::from_secs(5));
    ask_for_a_keyframe(&mut scene, 1);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.stats().restarts, 1, "who asks once pictures come again starts again");
    check_video(scene.player(1));
}

#[test]
fn who_asks_a_publisher_that_has_returned_starts_again_from_its_new_run() {
    let mut scene = watched_scene();
    scene.pause(Duration::from_secs(3));
    ask_for_a_keyframe(&mut scene, 1);
    scene.pause(Duration::from_secs(2));
    let mut publisher = returned(&scene, Codec::H264);
    publisher.gop = 400;
    scene.publish_anew(publisher);
    scene.play(Duration::from_secs(1));
    assert_eq!(scene.shard.stats().restarts, 0);
    let seen = scene.player(1).stream(VIDEO).len();
    ask_for_a_keyframe(&mut scene, 1);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.stats().restarts, 1);
    let video = scene.player(1).stream(VIDEO);
    assert!(video[seen..].iter().any(|packet| packet.source() == 65_014), "the new run's first keyframe");
    check_video(scene.player(1));
}

#[test]
fn a_publisher_that_falls_silent_after_a_request_leaves_the_viewer_its_last_picture() {
    let mut scene = watched_scene();
    let seen = scene.player(1).stream(VIDEO).len();
    scene.pause(Duration::from_millis(700));
    ask_for_a_keyframe(&mut scene, 1);
    scene.pause(Duration::from_millis(2300));
    assert_eq!(scene.player(1).stream(VIDEO).len(), seen);
    assert_eq!(scene.shard.stats().restarts, 0);
    go_on_after(&mut scene, Duration::from_secs(3));
    ask_for_a_keyframe(&mut scene, 1);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.stats().restarts, 1, "nothing is held against it");
}

#[test]
fn who_joins_while_the_publisher_is_silent_gets_what_is_there_whole_and_once() {
    let mut scene = watched_scene();
    scene.pause(Duration::from_secs(2));
    scene.join(2);
    // It lost the beginning, and asks as Firefox does.
    scene.pause(Duration::from_millis(200));
    ask_for_a_keyframe(&mut scene, 2);
    scene.pause(Duration::from_secs(4));
    assert_eq!(scene.shard.stats().restarts, 1);
    let seen = scene.player(2).stream(VIDEO).len();
    ask_for_a_keyframe(&mut scene, 2);
    scene.pause(Duration::from_secs(2));
    assert_eq!(scene.player(2).stream(VIDEO).len(), seen);
    assert_eq!(scene.shard.stats().restarts, 1);
    check_video(scene.player(2));
}

#[test]
fn a_codec_that_was_negotiated_changes_only_the_payload_type() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    scene.publish_anew(returned(&scene, Codec::Vp8));
    scene.play(Duration::from_secs(1));
    check_video(scene.player(1));
    let types: Vec<_> = scene.player(1).stream(VIDEO).iter().map(|packet| packet.payload_type).collect();
    assert_eq!((types[0], types[types.len() - 1]), (VIDEO_PT, VIDEO_PT + 4));
}

#[test]
fn a_codec_that_was_not_negotiated_is_told_once_and_nothing_is_sent() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let before = scene.player(1).stream(VIDEO).len();
    scene.publish_anew(returned(&scene, Codec::Av1));
    scene.play(Duration::from_secs(3));
    let wanted = Event::CodecNotNegotiated { viewer: ViewerId::new(1), kind: Kind::Video };
    assert_eq!(scene.count(|event| *event == wanted), 1);
    assert_eq!(scene.player(1).stream(VIDEO).len(), before);
    assert!(scene.player(1).stream(AUDIO).len() > 190, "sound goes on");
}

#[test]
fn a_viewer_may_come_before_the_broadcast() {
    let mut scene = Scene::new(Config::default());
    scene.shard.broadcast_removed(scene.now, &broadcast_id());
    scene.join(1);
    scene.pause(Duration::from_secs(2));
    assert!(scene.player(1).received.is_empty());
    scene.publish_anew(returned(&scene, Codec::H264));
    scene.play(Duration::from_secs(1));
    check_video(scene.player(1));
    assert!(scene.player(1).stream(VIDEO).len() > 90);
}

#[test]
fn viewers_are_told_when_their_broadcast_is_no_more() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    scene.shard.broadcast_removed(scene.now, &broadcast_id());
    assert_eq!(scene.shard.poll_event(), Some(Event::BroadcastEnded { viewer: ViewerId::new(1) }));
    let frame = scene.publisher.frame();
    let before = scene.player(1).received.len();
    scene.fan_out(&frame);
    assert_eq!(scene.player(1).received.len(), before);
}

#[test]
fn a_source_that_jumps_ahead_leaves_no_jump_for_the_viewer() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let jump = |packet: &std::sync::Arc<media_core::TreePacket>| {
        let mut packet = (**packet).clone();
        packet.seq_no = packet.seq_no.plus(1 << 20);
        std::sync::Arc::new(packet)
    };
    for _ in 0..60 {
        let frame: Vec<_> = scene.publisher.frame().iter().map(jump).collect();
        scene.now = scene.published_at + scene.publisher.next_at();
        scene.fan_out(&frame);
    }
    check_video(scene.player(1));
    assert!(scene.player(1).stream(VIDEO).len() > 150, "it goes on with the next keyframe");
}
