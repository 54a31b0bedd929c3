//! A viewer whose connection carries no picture: its sound goes on, its picture comes back.

use std::time::Duration;

use egress::{Config, DropReason, Event, LayerSwitch, Selection};

use crate::harness::{AUDIO, RTX, Scene, VIDEO, check_video, receiver_report, ssrc};
use crate::layers::{Reporter, VIEWER, live_scene, select};

const HELD: Event = Event::SoundOnly { viewer: VIEWER, is_sound_only: true };
const BACK: Event = Event::SoundOnly { viewer: VIEWER, is_sound_only: false };

/// A viewer of one layer who is live.
fn scene() -> Scene {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    scene
}

/// Says each second that most of the picture is lost, until it is held.
fn starve(scene: &mut Scene) {
    let mut reporter = Reporter::new(scene);
    for _ in 0..20 {
        reporter.second(scene, 97, None);
        if scene.count(|event| *event == HELD) > scene.count(|event| *event == BACK) {
            return;
        }
    }
    panic!("it is still sent");
}

/// Says that the sound arrives well.
fn report_sound(scene: &mut Scene) {
    let highest = scene.player(1).stream(AUDIO).last().expect("sound").seq_no.get() as u32;
    let compound = receiver_report(ssrc(1, AUDIO), (0, 0), highest);
    let datagram = scene.player_mut(1).seal(&compound);
    scene.rtcp(1, datagram);
    scene.timeout();
}

/// Plays with reports of the sound until the picture comes back.
fn recover(scene: &mut Scene) {
    for _ in 0..20 {
        scene.play(Duration::from_secs(1));
        report_sound(scene);
        if scene.count(|event| *event == BACK) >= scene.count(|event| *event == HELD) {
            return;
        }
    }
    panic!("it is still held");
}

#[test]
fn nothing_of_a_held_picture_is_sent_whatever_is_asked_for_and_the_sound_goes_on() {
    let mut scene = scene();
    starve(&mut scene);
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::SoundOnly), 1);
    let count = |scene: &Scene, stream| scene.player(1).stream(stream).len();
    let (pictures, repeats, sounds) = (count(&scene, VIDEO), count(&scene, RTX), count(&scene, AUDIO));
    let newest = scene.player(1).stream(VIDEO).last().expect("packets").seq_no.seq();
    for _ in 0..6 {
        scene.play(Duration::from_secs(1));
        let nack = scene.player_mut(1).nack(&[newest, newest.wrapping_sub(1)]);
        scene.rtcp(1, nack);
        let pli = scene.player_mut(1).pli();
        scene.rtcp(1, pli);
        scene.timeout();
    }
    assert_eq!(
        (count(&scene, VIDEO), count(&scene, RTX)),
        (pictures, repeats),
        "three keyframes have passed"
    );
    assert_eq!(count(&scene, AUDIO) - sounds, 300);
    assert_eq!(scene.shard.stats().drops(DropReason::NackBudget), 12);
    assert_eq!(scene.shard.stats().viewers_sound_only, 1);
    assert_eq!(scene.shard.stats().viewers_waiting, 0);
}

#[test]
fn a_held_picture_comes_back_with_a_keyframe_as_it_comes_live() {
    let mut scene = scene();
    starve(&mut scene);
    let before = scene.player(1).stream(VIDEO).len();
    recover(&mut scene);
    scene.play(Duration::from_secs(2));
    check_video(scene.player(1));
    let video = scene.player(1).stream(VIDEO);
    let (last, first) = (video[before - 1], video[before]);
    let keyframe = video.iter().filter(|packet| packet.timestamp == first.timestamp).count();
    assert_eq!(keyframe, 10, "a whole keyframe");
    let frame = video[before..].iter().map(|packet| packet.at - first.at);
    let media = video[before..].iter().map(|packet| packet.timestamp.wrapping_sub(first.timestamp));
    for (real, media) in frame.zip(media) {
        assert!((real.as_secs_f64() - f64::from(media) / 90e3).abs() < 0.04, "at the pace of live");
    }
    let away = (first.at - last.at).as_secs_f64();
    assert!((f64::from(first.timestamp.wrapping_sub(last.timestamp)) / 90e3 - away).abs() < 0.05);
    assert_eq!(scene.shard.stats().viewers_sound_only, 0);
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Up), 1);
}

#[test]
fn of_several_layers_the_worst_one_comes_back() {
    let mut scene = live_scene();
    starve(&mut scene);
    let before = scene.player(1).stream(VIDEO).len();
    recover(&mut scene);
    assert_eq!(scene.player(1).stream(VIDEO)[before].layer(), 2);
    check_video(scene.player(1));
}

#[test]
fn who_chooses_a_layer_gets_it() {
    let mut scene = live_scene();
    starve(&mut scene);
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(5));
    let stream = scene.player(1).stream(VIDEO);
    let newest = stream.last().expect("packets");
    assert_eq!(newest.layer(), 1);
    assert!(scene.now - newest.at < Duration::from_millis(50));
    assert_eq!(scene.count(|event| *event == BACK), 1);
}

#[test]
fn who_chooses_a_layer_while_its_picture_waits_to_come_back_is_told_and_gets_it() {
    let mut scene = scene();
    starve(&mut scene);
    let gop = std::mem::replace(&mut scene.publisher.gop, 1_000_000);
    for _ in 0..15 {
        scene.play(Duration::from_secs(1));
        report_sound(&mut scene);
    }
    assert_eq!(scene.shard.stats().viewers_waiting, 1, "for a keyframe");
    assert_eq!(scene.count(|event| *event == BACK), 0);
    select(&mut scene, Selection::Layer(0));
    assert_eq!(scene.count(|event| *event == BACK), 1);
    select(&mut scene, Selection::Auto);
    scene.play(Duration::from_secs(6));
    assert_eq!(scene.count(|event| *event == HELD), 1, "nothing new was said against it");
    scene.publisher.gop = gop;
    scene.play(Duration::from_secs(3));
    let newest = scene.player(1).stream(VIDEO).last().expect("packets").at;
    assert!(scene.now - newest < Duration::from_millis(50), "the picture is back");
    assert_eq!(scene.count(|event| *event == BACK), 1);
}

#[test]
fn of_a_new_publishing_run_with_several_layers_the_worst_one_comes_back() {
    let mut scene = scene();
    starve(&mut scene);
    let before = scene.player(1).stream(VIDEO).len();
    let captured = crate::harness::capture_start().plus(scene.now - scene.start);
    let mut layers = crate::harness::layers(2, captured);
    let worse = layers.split_off(1);
    scene.publish_layers(layers.remove(0), worse);
    recover(&mut scene);
    assert_eq!(scene.player(1).stream(VIDEO)[before].layer(), 2);
}

#[test]
fn a_new_publishing_run_is_held_for_whom_the_one_before_was() {
    let mut scene = scene();
    starve(&mut scene);
    let before = scene.player(1).stream(VIDEO).len();
    let captured = crate::harness::capture_start().plus(scene.now - scene.start);
    scene.publish_anew(crate::harness::Publisher::new(model::Codec::H264, 2, captured));
    scene.play(Duration::from_secs(2));
    assert_eq!(scene.player(1).stream(VIDEO).len(), before);
    recover(&mut scene);
    check_video(scene.player(1));
    assert!(scene.player(1).stream(VIDEO).len() > before);
}
