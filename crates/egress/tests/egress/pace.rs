//! Large frames for a viewer whose connection carries little.

use std::time::Duration;

use egress::{Selection, ViewerId};

use crate::harness::VIDEO;
use crate::link::{Says, World};

fn until_a_keyframe_is_partly_out(world: &mut World) {
    let is_partly_out = |world: &World| {
        let video = world.scene.player(1).stream(VIDEO);
        video.last().is_some_and(|last| !last.marker)
    };
    for _ in 0..400 {
        world.step();
        if is_partly_out(world) {
            return;
        }
    }
    panic!("a keyframe takes its time");
}

#[test]
fn a_narrow_link_is_given_large_frames_bit_by_bit() {
    // Its queue has no room for a keyframe of the worst layer and the sound, and what that takes of a second is almost all.
    let mut world = World::new(Says::Arrivals, 300, Duration::from_millis(150));
    world.play(20);
    world.settled(Duration::ZERO, 2);
    let (dropped, shown) = (world.link.dropped, world.scene.player(1).stream(VIDEO).len());
    world.play(60);
    world.tell("bit by bit");
    // Three times as many if they are sent at once. Those that are left are of tries for a better layer.
    let dropped = world.link.dropped - dropped;
    assert!(dropped <= 15, "{dropped} packets dropped");
    let video = &world.scene.player(1).stream(VIDEO)[shown..];
    let keyframes =
        video.chunk_by(|a, b| a.timestamp == b.timestamp).filter(|frame| frame.len() == 5).count();
    assert!(keyframes >= 28, "{keyframes} keyframes in a minute");
    for pair in video.windows(2) {
        assert_eq!(pair[0].seq_no.get() + 1, pair[1].seq_no.get(), "in their order, and each once");
    }
    assert!(world.lateness() < 0.25, "{} s after its time", world.lateness());
}

#[test]
fn what_is_repaired_while_it_would_have_to_wait_goes_out_once() {
    let mut world = World::new(Says::Arrivals, 300, Duration::from_millis(300));
    world.play(20);
    world.settled(Duration::ZERO, 2);
    let (dropped, shown) = (world.link.dropped, world.scene.player(1).stream(VIDEO).len());
    world.has_repairs = true;
    world.play(20);
    let video = &world.scene.player(1).stream(VIDEO)[shown..];
    let mut numbers: Vec<u64> = video.iter().map(|packet| packet.seq_no.get()).collect();
    let in_order = numbers.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(in_order + 10 > numbers.len(), "most of it in its turn");
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "none of it twice");
    let missing = numbers[numbers.len() - 1] - numbers[0] + 1 - numbers.len() as u64;
    assert!(missing <= world.link.dropped - dropped, "{missing} were never sent");
}

#[test]
fn what_waits_of_one_layer_is_not_looked_for_in_another() {
    for (layer, frames) in [0, 1].into_iter().flat_map(|layer| (1..12).map(move |frames| (layer, frames))) {
        let mut world = World::new(Says::Arrivals, 300, Duration::from_millis(300));
        // Its keyframe comes so many frames after that of the worst one.
        let phase = world.scene.worse[1].phase - frames;
        match layer {
            0 => world.scene.publisher.phase = phase,
            _ => world.scene.worse[0].phase = phase,
        }
        world.play(20);
        world.settled(Duration::ZERO, 2);
        until_a_keyframe_is_partly_out(&mut world);
        let shown = world.scene.player(1).stream(VIDEO).len();
        let now = world.scene.now;
        world.scene.shard.select_layer(now, ViewerId::new(1), Selection::Layer(layer));
        world.play(10);
        assert_eq!(world.scene.shard.layer(ViewerId::new(1)), Some(layer));
        let video = &world.scene.player(1).stream(VIDEO)[shown..];
        assert!(video.windows(2).all(|pair| pair[0].seq_no < pair[1].seq_no), "in order, and each once");
    }
}

#[test]
fn what_waits_leaves_before_another_process_takes_over() {
    let mut world = World::new(Says::Arrivals, 300, Duration::from_millis(300));
    world.play(20);
    world.settled(Duration::ZERO, 2);
    until_a_keyframe_is_partly_out(&mut world);
    let now = world.scene.now;
    world.scene.shard.hand_over(now, &mut world.scene.network);
    let left = world.scene.network.take();
    let player = world.scene.player_mut(1);
    left.into_iter().for_each(|(_, bytes)| player.receive(now, bytes));
    assert!(world.scene.player(1).stream(VIDEO).last().is_some_and(|last| last.marker), "to its end");
}
