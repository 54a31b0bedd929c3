//! Those who come late: from the cached keyframe to live.

use std::time::Duration;

use egress::{Config, Event, ViewerId};
use model::Bitrate;
use proptest::prelude::*;

use crate::harness::{Scene, VIDEO, broadcast_id, check_video, setup};

/// How far a viewer's newest packet is from the newest one published, in packets.
fn behind(scene: &Scene, viewer: u64, newest: u64) -> u64 {
    newest - scene.player(viewer).stream(VIDEO).last().expect("packets").source()
}

#[test]
fn a_joiner_gets_the_keyframe_at_once_and_is_live_in_a_third_of_the_backlog() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    scene.play(Duration::from_secs(6));
    let joined = scene.now;
    scene.join(2);
    let first: Vec<_> = scene.player(2).stream(VIDEO).iter().map(|packet| packet.at - joined).collect();
    assert!(first.len() >= 10, "the keyframe has 10 packets, {} came", first.len());
    let first_frame = scene.events.iter().find_map(|(_, event)| match event {
        Event::FirstFrame { viewer, after } if *viewer == ViewerId::new(2) => Some(*after),
        _ => None,
    });
    assert_eq!(first_frame, Some(Duration::ZERO));
    // A backlog of 6 s at a gain of 3 s in each second.
    scene.play(Duration::from_millis(1900));
    assert!(behind_live(&scene) > 3, "still on the way");
    scene.play(Duration::from_millis(300));
    assert_eq!(behind_live(&scene), 0);
    check_video(scene.player(2));
    assert_eq!(scene.shard.stats().replays, 1);
}

/// How many packets the second viewer is behind the first, who is live.
fn behind_live(scene: &Scene) -> u64 {
    let newest = scene.player(1).stream(VIDEO).last().expect("packets").source();
    behind(scene, 2, newest)
}

#[test]
fn the_squeeze_ends_where_time_says() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    scene.play(Duration::from_millis(5010));
    scene.join(2);
    let joined = scene.now;
    scene.play(Duration::from_secs(4));
    check_video(scene.player(2));
    let video = scene.player(2).stream(VIDEO);
    let (first, last) = (video[0], video[video.len() - 1]);
    let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90e3;
    let real = (last.at - joined).as_secs_f64();
    // Every frame comes when its timestamp says, from the first to the last: no delay is left over.
    assert!((media - real).abs() < 0.04, "{media} {real}");
    for packet in &video {
        let media = f64::from(packet.timestamp.wrapping_sub(first.timestamp)) / 90e3;
        let real = (packet.at - joined).as_secs_f64();
        assert!((media - real).abs() < 0.04, "{media} {real}");
    }
}

#[test]
fn a_ring_that_a_parent_fills_while_a_viewer_waits_leaves_no_delay() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    let backlog: Vec<_> = (0..150).map(|_| scene.publisher.frame()).collect();
    scene.published_at = scene.now - scene.publisher.next_at() + Duration::from_millis(50);
    for frames in backlog.chunks(15) {
        scene.fan_out(&frames.concat());
        scene.pause(Duration::from_millis(5));
    }
    scene.play(Duration::from_secs(3));
    let player = scene.player(1);
    check_video(player);
    let video = player.stream(VIDEO);
    let (first, last) = (video[0], video[video.len() - 1]);
    assert!(scene.now - last.at < Duration::from_millis(40), "live");
    let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90e3;
    let real = (last.at - first.at).as_secs_f64();
    assert!((media - real).abs() < 0.11, "{media} {real}");
}

#[test]
fn a_short_backlog_goes_out_in_one_go() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_millis(250));
    scene.join(2);
    scene.play(Duration::from_millis(60));
    assert_eq!(behind_live(&scene), 0);
    check_video(scene.player(2));
}

#[test]
fn without_a_keyframe_one_is_asked_for_now_and_then_and_waited_for() {
    let mut scene = Scene::new(Config::default());
    scene.play_with(Duration::from_millis(500), |packet| !packet.starts_keyframe);
    for viewer in 1..=50 {
        scene.join(viewer);
    }
    let asked = |scene: &Scene| scene.count(|event| matches!(event, Event::KeyframeWanted { .. }));
    assert_eq!(asked(&scene), 1, "50 viewers share one request");
    scene.play(Duration::from_millis(1450));
    assert!(scene.player(7).stream(VIDEO).is_empty());
    assert_eq!(asked(&scene), 2, "one a second");
    assert!(!scene.player(7).received.is_empty(), "sound needs no keyframe");
    scene.play(Duration::from_millis(100));
    assert_eq!(scene.publisher.next_at().as_millis(), 2066);
    for viewer in 1..=50 {
        check_video(scene.player(viewer));
        assert!(!scene.player(viewer).stream(VIDEO).is_empty());
    }
    assert_eq!(scene.shard.stats().replays, 0, "they start with the keyframe, live");
}

#[test]
fn no_report_of_the_picture_before_it_is_live() {
    let mut scene = Scene::new(Config { report_interval: Duration::from_millis(100), ..Config::default() });
    scene.publisher.gop = 250;
    scene.play(Duration::from_secs(6));
    scene.join(2);
    scene.play(Duration::from_millis(1800));
    let video_ssrc = crate::harness::ssrc(2, VIDEO);
    let is_of_video = |compound: &[u8]| {
        media_core::rtcp::parse(compound).any(|packet| {
            matches!(packet, Ok(media_core::rtcp::Packet::SenderReport(report)) if report.info.ssrc == video_ssrc)
        })
    };
    assert!(scene.player(2).reports.len() > 10, "those of sound");
    assert!(!scene.player(2).reports.iter().any(|(_, compound)| is_of_video(compound)));
    scene.play(Duration::from_secs(1));
    assert!(scene.player(2).reports.iter().any(|(_, compound)| is_of_video(compound)));
}

#[test]
fn a_hundred_joins_at_once_stay_within_the_budget_and_hurt_nobody() {
    let rate = Bitrate::kbps(80_000);
    let mut scene = Scene::new(Config { replay_rate: rate, ..Config::default() });
    scene.publisher.gop = 250;
    scene.publisher.packets = (150, 8);
    for viewer in 1..=20 {
        scene.join(viewer);
    }
    scene.play(Duration::from_secs(5));
    let joined = scene.now;
    for viewer in 101..=200 {
        scene.shard.add_viewer(scene.now, &broadcast_id(), setup(viewer, scene.now)).expect("added");
        scene.players.insert(viewer, crate::harness::Player::new(viewer));
    }
    scene.play(Duration::from_secs(1));
    let replay = scene.shard.stats().replay;
    let allowed = rate.bytes_in(Duration::from_millis(1020)) + 32 * 1024;
    assert!(replay.bytes <= allowed, "{} of {allowed} bytes", replay.bytes);
    assert!(replay.bytes > allowed * 9 / 10, "what is there is used: {} of {allowed}", replay.bytes);
    // Keyframes come first, in the order of arrival: 155 kB each, 10 MB in a second.
    let with_keyframe = (101..=200).filter(|viewer| scene.player(*viewer).stream(VIDEO).len() >= 150).count();
    assert!((60..=68).contains(&with_keyframe), "{with_keyframe}");
    for viewer in 1..=20 {
        let player = scene.player(viewer);
        check_video(player);
        let late = player.stream(VIDEO).iter().filter(|packet| packet.at > joined).count();
        assert_eq!(late, 30 * 8, "viewer {viewer} misses something");
    }
    scene.play(Duration::from_secs(9));
    let newest = scene.player(1).stream(VIDEO).last().expect("packets").source();
    for viewer in 101..=200 {
        check_video(scene.player(viewer));
        assert_eq!(behind(&scene, viewer, newest), 0, "viewer {viewer} is live after the next keyframe");
    }
}

#[test]
fn a_replay_that_the_ring_overtakes_waits_for_the_next_keyframe() {
    let mut config = Config { replay_rate: Bitrate::kbps(2000), ..Config::default() };
    config.ring.age_max = Duration::from_secs(3);
    let mut scene = Scene::new(config);
    scene.publisher.gop = 150;
    scene.publisher.packets = (100, 12);
    scene.join(1);
    scene.play(Duration::from_millis(2900));
    scene.join(2);
    scene.play(Duration::from_secs(8));
    let player = scene.player(2);
    let video = player.stream(VIDEO);
    assert_eq!(behind_live(&scene), 0);
    assert!(video.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
}

#[test]
fn gaps_of_the_tree_stay_gaps_in_a_replay_and_are_filled_when_repaired() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let mut frame = scene.publisher.frame();
    let late = frame.remove(1);
    scene.now = scene.published_at + scene.publisher.next_at();
    scene.fan_out(&frame);
    scene.play(Duration::from_secs(3));
    scene.join(2);
    scene.play(Duration::from_secs(3));
    let sources = |scene: &Scene| -> Vec<u64> {
        scene.player(2).stream(VIDEO).iter().map(|packet| packet.source()).collect()
    };
    assert!(!sources(&scene).contains(&late.seq_no.get()));
    scene.fan_out(std::slice::from_ref(&late));
    assert_eq!(sources(&scene).last(), Some(&late.seq_no.get()));
    let player = scene.player(2);
    let mut video = player.stream(VIDEO);
    video.sort_by_key(|packet| packet.seq_no);
    assert!(video.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
    assert!(video.windows(2).all(|pair| pair[1].source() == pair[0].source() + 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_replay_ends_at_live_without_a_gap(
        fps in 5u64..61,
        gop_seconds in 1u64..9,
        keyframe_packets in 1u64..60,
        delta_packets in 1u64..6,
        payload_bytes in 60usize..1200,
        join_millis in 0u64..9000,
        replay_kbps in 4000u64..100_000,
        factor in 2u16..6,
    ) {
        let config = Config { replay_rate: Bitrate::kbps(replay_kbps), replay_factor: factor, ..Config::default() };
        let mut scene = Scene::new(config);
        scene.publisher.fps = fps;
        scene.publisher.gop = gop_seconds * fps;
        scene.publisher.packets = (keyframe_packets, delta_packets);
        scene.publisher.payload_bytes = payload_bytes;
        scene.join(1);
        scene.play(Duration::from_millis(join_millis));
        scene.join(2);
        scene.play(Duration::from_secs(14));
        check_video(scene.player(1));
        check_video(scene.player(2));
        prop_assert_eq!(behind_live(&scene), 0);
        // Live means: on time, not only complete.
        let video = scene.player(2).stream(VIDEO);
        let (first, last) = (video[0], video[video.len() - 1]);
        let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90e3;
        let real = (last.at - first.at).as_secs_f64();
        prop_assert!((media - real).abs() < 1.1 / fps as f64 + 0.01, "{} {}", media, real);
    }
}
