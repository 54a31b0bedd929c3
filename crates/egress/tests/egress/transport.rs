//! Viewers that tell when each packet of their picture arrives.

use std::time::Duration;

use egress::{Config, DropReason, Shard, ViewerId};
use media_core::rtcp;
use model::{Bitrate, Ssrc};

use crate::harness::{
    AUDIO, Network, RTX, Received, Scene, VIDEO, check_video, setup, ssrc, telling_arrivals, ticks,
    transport_feedback,
};

const VIEWER: ViewerId = ViewerId::new(1);

fn scene() -> Scene {
    let mut scene = Scene::layered(Config::default());
    let viewer = telling_arrivals(setup(1, scene.now));
    scene.join_as(viewer);
    scene
}

/// Plays for so many tenths of a second; after each of them the viewer tells when packets arrived: so much after they were
/// sent. What it has told of is forgotten.
fn play_and_tell(scene: &mut Scene, tenths: u32, late: impl Fn(&Received) -> Duration) {
    for count in 0..tenths {
        scene.play(Duration::from_millis(100));
        let start = scene.start;
        let arrived: Vec<(u16, u32)> = scene
            .player(1)
            .stream(VIDEO)
            .into_iter()
            .filter_map(|packet| Some((packet.transport?, ticks(packet.at - start + late(packet)))))
            .collect();
        scene.player_mut(1).received.clear();
        if !arrived.is_empty() {
            let compound = transport_feedback(ssrc(1, VIDEO), count as u8, &arrived);
            let datagram = scene.player_mut(1).seal(&compound);
            scene.rtcp(1, datagram);
        }
    }
}

#[test]
fn packets_of_the_picture_have_their_own_number_and_repeats_and_sound_have_none() {
    let mut scene = scene();
    scene.join(2);
    scene.play(Duration::from_secs(3));
    let seqs: Vec<u16> =
        scene.player(1).stream(VIDEO)[100..103].iter().map(|packet| packet.seq_no.seq()).collect();
    let nack = scene.player_mut(1).nack(&seqs);
    scene.rtcp(1, nack);
    check_video(scene.player(1));
    let [video, audio, repeats] = [VIDEO, AUDIO, RTX].map(|stream| scene.player(1).stream(stream));
    assert!(video.iter().all(|packet| packet.transport == Some(packet.seq_no.seq())));
    assert_eq!((video.len() > 500, audio.len() > 100, repeats.len()), (true, true, 3));
    assert!(audio.iter().chain(&repeats).all(|packet| packet.transport.is_none()));
    assert!(
        scene.player(2).received.iter().all(|packet| packet.transport.is_none()),
        "it did not ask for it"
    );
}

#[test]
fn two_processes_with_one_record_send_the_same() {
    let mut scene = scene();
    play_and_tell(&mut scene, 30, |_| Duration::from_millis(20));
    let record = scene.shard.record(VIEWER).expect("a record");
    let mut twin = Shard::new(Config::default());
    twin.broadcast_changed(scene.now, &scene.broadcast());
    twin.resume_viewer(scene.now, record).expect("resumed");
    twin.handle_timeout(scene.now, &mut Network::default());
    let frame = scene.publisher.frame();
    let (mut first, mut second) = (Network::default(), Network::default());
    scene.shard.fan_out(scene.now, &frame, &mut first);
    twin.fan_out(scene.now, &frame, &mut second);
    let (first, second) = (first.take(), second.take());
    assert_eq!(first.len(), frame.len());
    assert!(first == second);
    let sizes: Vec<usize> = first.iter().map(|(_, bytes)| bytes.len()).collect();
    let grain = sizes.windows(2).take(frame.len() - 2).filter(|pair| pair[0].abs_diff(pair[1]) % 16 != 0);
    assert_eq!(grain.count(), 0, "one header for all, so that trains stay trains: {sizes:?}");
}

#[test]
fn a_queue_that_grows_is_seen_whatever_the_numbers() {
    // In the second round numbers have begun anew.
    for tenths in [30, 2200] {
        let mut scene = scene();
        play_and_tell(&mut scene, tenths, |_| Duration::from_millis(20));
        assert_eq!(scene.shard.estimate(VIEWER), None, "nothing is known to be short");
        let since = scene.now;
        // Of three seconds' packets two arrive in three.
        let mut estimate = None;
        for _ in 0..20 {
            play_and_tell(&mut scene, 1, |packet| (packet.at - since) / 2);
            // Of the layer that it then gets there is another one.
            estimate = estimate.or(scene.shard.estimate(VIEWER));
        }
        let estimate = estimate.expect("an estimate").as_bps() / 1000;
        assert!((1000..2100).contains(&estimate), "{estimate} kbit/s of 2500");
        assert!(scene.shard.layer(VIEWER) > Some(0), "and believed");
        let stats = scene.shard.stats();
        assert_eq!(stats.transport_feedback, u64::from(tenths) + 20);
        assert_eq!(stats.drops(DropReason::RtcpMalformed), 0);
    }
}

#[test]
fn packets_of_a_replay_say_nothing_of_the_connection() {
    let mut scene = Scene::layered(Config::default());
    scene.publisher.gop = 400;
    scene.play(Duration::from_secs(8));
    let viewer = telling_arrivals(setup(1, scene.now));
    scene.join_as(viewer);
    let since = scene.now;
    // It takes two seconds and a half.
    play_and_tell(&mut scene, 20, |packet| (packet.at - since) / 2);
    assert_eq!(scene.shard.estimate(VIEWER), None);
    assert_eq!(scene.shard.stats().transport_feedback, 20);
}

#[test]
fn who_tells_arrivals_is_not_heard_on_what_it_makes_of_its_repeats() {
    let mut scene = scene();
    scene.join(2);
    scene.play(Duration::from_secs(3));
    for viewer in [1, 2] {
        let mut compound = Vec::new();
        rtcp::write::receiver_estimate(&mut compound, Ssrc::new(1), Bitrate::kbps(50), &[]);
        let datagram = scene.player_mut(viewer).seal(&compound);
        scene.rtcp(viewer, datagram);
    }
    let estimates = [1, 2].map(|viewer| scene.shard.estimate(ViewerId::new(viewer)));
    assert_eq!(estimates, [None, Some(Bitrate::kbps(50))]);
}

#[test]
fn broken_feedback_is_counted_and_that_of_others_is_not_listened_to() {
    let mut scene = scene();
    scene.join(2);
    scene.play(Duration::from_secs(3));
    // One packet, of which nothing is said.
    let broken = [0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 12, 0, 7, 0, 1, 0, 0, 0, 0];
    let datagram = scene.player_mut(1).seal(&broken);
    scene.rtcp(1, datagram);
    let stats = scene.shard.stats();
    assert_eq!((stats.drops(DropReason::RtcpMalformed), stats.transport_feedback), (1, 0));
    for viewer in [1, 2] {
        // Packets that were never sent.
        let compound = transport_feedback(ssrc(viewer, VIDEO), 0, &[(40_000, 5), (40_001, 4)]);
        let datagram = scene.player_mut(viewer).seal(&compound);
        scene.rtcp(viewer, datagram);
    }
    assert_eq!(scene.shard.stats().transport_feedback, 1);
    assert_eq!(scene.shard.estimate(VIEWER), None);
}
