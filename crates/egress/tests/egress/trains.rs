//! When packets leave, and which leave together.

use std::sync::Arc;
use std::time::Duration;

use egress::{Config, DropReason, Shard, ViewerId};
use media_core::TreePacket;

use crate::harness::*;

const HOLD: Duration = Duration::from_millis(3);
const MILLISECOND: Duration = Duration::from_millis(1);

/// A scene whose viewers are live, with frames of `packets` packets to come.
fn live(viewers: u64, packets: u64) -> Scene {
    let config = Config { train_hold: HOLD, train_viewers_min: 1, ..Config::default() };
    let mut scene = Scene::new(config);
    (1..=viewers).for_each(|viewer| scene.join(viewer));
    scene.play(Duration::from_secs(1));
    scene.publisher.packets.1 = packets;
    scene
}

impl Scene {
    /// Hands packets over; gives how many datagrams left for it, and in how many slices.
    fn gather(&mut self, packets: &[Arc<TreePacket>]) -> (usize, usize) {
        for packet in packets {
            self.shard.gather(self.now, self.now, packet.clone());
        }
        self.let_out()
    }

    fn let_out(&mut self) -> (usize, usize) {
        let mut slices = 1;
        while self.shard.fan_out_due(self.now, &mut self.network) {
            slices += 1;
        }
        let count = self.network.output.len();
        self.deliver();
        (count, slices)
    }

    /// Lets time pass and trains leave; gives the datagrams that left.
    fn wait(&mut self, time: Duration) -> usize {
        self.now += time;
        self.let_out().0
    }
}

#[test]
fn the_packets_of_a_frame_wait_for_each_other() {
    let mut scene = live(1, 4);
    let frame = scene.publisher.frame();
    assert_eq!(scene.gather(&frame[..3]).0, 0);
    assert_eq!(scene.gather(&frame[3..]).0, 4);
    check_video(scene.player(1));
}

#[test]
fn no_packet_waits_longer_than_the_hold() {
    let mut scene = live(1, 4);
    let frame = scene.publisher.frame();
    scene.gather(&frame[..1]);
    assert_eq!(scene.wait(2 * MILLISECOND), 0);
    assert_eq!(scene.gather(&frame[1..3]).0, 0);
    assert_eq!(scene.shard.poll_timeout(), Some(scene.now + MILLISECOND));
    assert_eq!(scene.wait(MILLISECOND), 3);
    assert_eq!(scene.gather(&frame[3..]).0, 1);
    check_video(scene.player(1));
}

#[test]
fn a_small_audience_waits_for_nothing() {
    let mut scene = live(1, 4);
    scene.shard = {
        let mut shard = egress::Shard::new(Config { train_viewers_min: 2, ..Config::default() });
        shard.broadcast_changed(scene.now, &scene.publisher.broadcast());
        let record = scene.shard.record(egress::ViewerId::new(1)).expect("a record");
        shard.resume_viewer(scene.now, record).expect("resumed");
        shard
    };
    let frame = scene.publisher.frame();
    assert_eq!(scene.gather(&frame[..1]).0, 1);
    assert_eq!(scene.gather(&frame[1..]).0, 3);
}

#[test]
fn a_large_frame_leaves_in_several_trains() {
    let mut scene = live(1, 40);
    let frame = scene.publisher.frame();
    assert_eq!(scene.gather(&frame).0, 16);
    assert_eq!(scene.gather(&[]).0, 0);
    assert_eq!(scene.wait(MILLISECOND), 16);
    assert_eq!(scene.wait(MILLISECOND), 8);
    check_video(scene.player(1));
}

#[test]
fn a_thread_that_is_behind_spreads_nothing() {
    let mut scene = live(1, 40);
    let frames: Vec<_> = (0..4).flat_map(|_| scene.publisher.frame()).collect();
    assert_eq!(scene.gather(&frames).0, 160);
    check_video(scene.player(1));
}

#[test]
fn sound_goes_at_once_unless_a_train_is_about_to_leave() {
    let mut scene = live(1, 3);
    let frame = scene.publisher.frame();
    assert_eq!(scene.gather(&[scene.publisher.sound(1000)]).0, 1);
    scene.gather(&frame[..1]);
    assert_eq!(scene.gather(&[scene.publisher.sound(1001)]).0, 0);
    assert_eq!(scene.gather(&frame[1..]).0, 4);
}

#[test]
fn what_was_repaired_goes_at_once() {
    let mut scene = live(1, 3);
    let mut frame = scene.publisher.frame();
    let late = frame.remove(1);
    assert_eq!(scene.gather(&frame).0, 2);
    let next = scene.publisher.frame();
    assert_eq!(scene.gather(&next[..1]).0, 0);
    assert_eq!(scene.gather(&[late]).0, 2, "with what waits anyway");
}

#[test]
fn a_train_to_many_viewers_is_cut_into_slices_and_reaches_everybody_once() {
    let mut scene = live(200, 8);
    let before = scene.player(1).received.len();
    let frame = scene.publisher.frame();
    let (count, slices) = scene.gather(&frame);
    assert_eq!(count, 1600);
    assert!(slices >= 8, "{slices}");
    for player in scene.players.values() {
        check_video(player);
        assert_eq!(player.received.len() - before, 8, "viewer {}", player.id);
    }
}

#[test]
fn a_viewer_is_heard_between_two_slices() {
    let mut scene = live(200, 8);
    let highest = scene.player(200).stream(VIDEO).last().expect("packets").seq_no;
    let frame = scene.publisher.frame();
    frame.iter().for_each(|packet| scene.shard.gather(scene.now, scene.now, packet.clone()));
    assert!(scene.shard.fan_out_due(scene.now, &mut scene.network));
    let nack = scene.player_mut(200).nack(&[highest.seq()]);
    scene.rtcp(200, nack);
    assert_eq!(scene.shard.stats().rtx.packets, 1);
    scene.let_out();
    check_video(scene.player(200));
}

#[test]
fn what_waited_too_long_for_a_busy_thread_is_dropped_and_counted() {
    let mut scene = live(1, 3);
    let came_at = scene.now;
    scene.now += Duration::from_millis(251);
    for packet in scene.publisher.frame() {
        scene.shard.gather(scene.now, came_at, packet);
    }
    assert_eq!(scene.let_out().0, 0);
    assert_eq!(scene.shard.stats().drops(DropReason::Behind), 3);
}

#[test]
fn what_a_busy_thread_did_not_send_is_there_for_who_asks_and_for_who_joins() {
    let mut scene = live(1, 3);
    let came_at = scene.now;
    scene.now += Duration::from_millis(251);
    let frame = scene.publisher.frame();
    let missed: Vec<u64> = frame.iter().map(|packet| packet.seq_no.get()).collect();
    let newest = scene.player(1).stream(VIDEO).last().expect("packets").seq_no;
    let wanted: Vec<u16> = (1..=3).map(|ahead| newest.seq().wrapping_add(ahead)).collect();
    frame.into_iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet));
    let nack = scene.player_mut(1).nack(&wanted);
    scene.rtcp(1, nack);
    assert_eq!(scene.shard.stats().rtx.packets, 0, "its numbers are not taken yet");
    let next = scene.publisher.frame();
    assert_eq!(scene.gather(&next).0, 3);
    let nack = scene.player_mut(1).nack(&wanted);
    scene.rtcp(1, nack);
    // Two bytes of original sequence number come first.
    let repeated: Vec<u64> = scene
        .player(1)
        .stream(RTX)
        .iter()
        .map(|packet| u64::from_be_bytes(packet.payload[2..10].try_into().expect("8 bytes")))
        .collect();
    assert_eq!(repeated, missed);
    scene.join(2);
    scene.pause(Duration::from_secs(1));
    check_video(scene.player(2));
    let replayed: Vec<u64> = scene.player(2).stream(VIDEO).iter().map(|packet| packet.source()).collect();
    assert!(missed.iter().all(|missed| replayed.contains(missed)), "{missed:?} in {replayed:?}");
}

#[test]
fn what_came_while_no_process_was_there_is_sent_though_it_waits() {
    let mut scene = live(1, 3);
    let record = scene.shard.record(ViewerId::new(1)).expect("a record");
    let config = Config { train_hold: HOLD, train_viewers_min: 1, ..Config::default() };
    scene.shard = Shard::new(config);
    scene.shard.resume_viewer(scene.now, record).expect("taken");
    scene.shard.broadcast_changed(scene.now, &scene.publisher.broadcast());
    scene.timeout();
    let seen = scene.player(1).stream(VIDEO).len();
    // The frames of half a second come in one moment, and the thread needs more than another for them.
    let frames: Vec<_> = (0..15).flat_map(|_| scene.publisher.frame()).collect();
    let came_at = scene.now;
    scene.now += Duration::from_millis(700);
    frames.iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet.clone()));
    (0..20).for_each(|_| {
        scene.wait(MILLISECOND);
    });
    assert_eq!(scene.player(1).stream(VIDEO).len() - seen, frames.len());
    // Later it is as strict as any other.
    scene.pause(Duration::from_secs(5));
    let came_at = scene.now;
    scene.now += Duration::from_millis(251);
    let frame = scene.publisher.frame();
    frame.into_iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet));
    assert_eq!(scene.let_out().0, 0);
    assert_eq!(scene.shard.stats().drops(DropReason::Behind), 3);
}

#[test]
fn sound_is_dropped_last() {
    for (waited, dropped) in [(250, [0, 0]), (300, [3, 0]), (750, [3, 0]), (751, [3, 1])] {
        let mut scene = live(1, 3);
        let came_at = scene.now;
        scene.now += Duration::from_millis(waited);
        let drops = |scene: &Scene| scene.shard.stats().drops(DropReason::Behind);
        let frame = scene.publisher.frame();
        frame.into_iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet));
        let pictures = drops(&scene);
        let sound = scene.publisher.sound(10_000);
        scene.shard.gather(scene.now, came_at, sound);
        assert_eq!([pictures, drops(&scene) - pictures], dropped, "after {waited} ms");
    }
}

#[test]
fn a_shard_that_is_behind_repeats_less() {
    let repeated = |waited: Duration| {
        let mut scene = live(1, 3);
        let frame = scene.publisher.frame();
        let came_at = scene.now;
        scene.now += waited;
        frame.iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet.clone()));
        scene.let_out();
        let newest = scene.player(1).stream(VIDEO).last().expect("packets").seq_no;
        let wanted: Vec<u16> = (0..95).map(|back| newest.seq().wrapping_sub(back)).collect();
        let nack = scene.player_mut(1).nack(&wanted);
        scene.rtcp(1, nack);
        scene.shard.stats().rtx.packets
    };
    let (busy, behind) = (repeated(Duration::from_millis(20)), repeated(Duration::from_millis(21)));
    assert!(behind * 3 < busy, "{behind} of {busy}");
    assert!(behind > 0);
}

#[test]
fn what_is_held_leaves_before_the_broadcast_changes() {
    let mut scene = live(1, 3);
    let frame = scene.publisher.frame();
    scene.gather(&frame[..2]);
    scene.shard.fan_out_held(scene.now, &mut scene.network);
    assert_eq!(scene.network.output.len(), 2);
}
