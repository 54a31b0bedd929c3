//! Viewers of a stream of several layers that get a part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use egress::{Config, DropReason, LayerSwitch, Selection, Shard, ViewerId};
use media_core::TreePacket;
use media_core::svc::{Frame, Layer, Structure};
use model::{Codec, Rid};
use proptest::prelude::*;

use crate::harness::{Network, Publisher, RTX, Received, Scene, VIDEO, broadcast_id, capture_start};
use crate::layers::{Reporter, VIEWER, select};

/// A keyframe now and then: what goes better than with one has to show it.
fn scene(spatial: u8, temporal: u8) -> Scene {
    let mut publisher = Publisher::new(Codec::H264, 1, capture_start()).divided(spatial, temporal);
    (publisher.gop, publisher.packets, publisher.switches) = (240, (12, 3), true);
    let mut scene = Scene::with(Config::default(), publisher);
    scene.join(1);
    scene.play(Duration::from_secs(2));
    scene
}

/// Spatial and temporal layer of what came.
fn layer(packet: &Received) -> (u8, u8) {
    (packet.layer() % 4, packet.layer() / 4)
}

/// What came of the picture after a packet that came before.
fn since(scene: &Scene, packets: usize) -> Vec<Received> {
    scene.player(1).stream(VIDEO).into_iter().skip(packets).cloned().collect()
}

fn count(scene: &Scene) -> usize {
    scene.player(1).stream(VIDEO).len()
}

/// Numbers go on one by one, times with the pictures, and each picture ends with a marker and nothing else does.
fn check(packets: &[Received]) {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].seq_no, pair[0].seq_no.plus(1), "a gap that is not in the tree");
        assert!(pair[1].source() > pair[0].source());
        let is_same = pair[0].timestamp == pair[1].timestamp;
        assert_eq!(pair[0].marker, !is_same, "{:?} and {:?}", layer(&pair[0]), layer(&pair[1]));
        assert!(is_same || pair[1].timestamp.wrapping_sub(pair[0].timestamp) < 90_000);
    }
}

#[test]
fn a_part_has_its_layers_only_and_no_gaps() {
    for (point, best) in [(0, (2, 2)), (1, (1, 2)), (2, (0, 2)), (3, (0, 0))] {
        let mut scene = scene(3, 3);
        let before = count(&scene);
        select(&mut scene, Selection::Layer(point));
        scene.play(Duration::from_secs(4));
        check(&since(&scene, 0));
        let came = since(&scene, before + 6);
        let is_in = |(spatial, temporal): (u8, u8)| spatial <= best.0 && temporal <= best.1;
        assert!(came.iter().all(|packet| is_in(layer(packet))), "point {point}");
        assert!(came.iter().any(|packet| layer(packet) == best), "point {point}");
        assert_eq!(scene.shard.layer(VIEWER), Some(point));
        let pictures = came.iter().filter(|packet| packet.marker).count();
        let expected = if best.1 == 2 { 120 } else { 30 };
        assert!((expected - 8..=expected + 1).contains(&pictures), "{pictures} pictures in 4 s");
        assert_eq!(scene.shard.stats().drops(DropReason::BeforeStart), 0);
    }
}

#[test]
fn less_begins_with_the_next_picture_and_a_higher_rate_where_the_publisher_says() {
    let mut scene = scene(1, 3);
    let asked = scene.shard.stats().keyframe_requests;
    for (selection, point) in [("s0t0", 2), ("s0t1", 1), ("s0t2", 0), ("s0t1", 1)] {
        let before = count(&scene);
        select(&mut scene, Selection::Rid(Rid::new(selection).expect("a rid")));
        // Four pictures make a round of the pattern.
        scene.play(Duration::from_millis(140));
        assert_eq!(scene.shard.layer(VIEWER), Some(point), "{selection}");
        scene.play(Duration::from_secs(1));
        let temporal = since(&scene, before + 12).iter().map(|packet| layer(packet).1).max();
        assert_eq!(temporal, Some(2 - point), "{selection}");
    }
    check(&since(&scene, 0));
    assert_eq!(scene.shard.stats().keyframe_requests, asked, "nobody needed one");
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Pinned), 4);
}

#[test]
fn a_larger_picture_waits_for_a_keyframe_and_asks_for_it() {
    let mut scene = scene(3, 1);
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(2));
    assert_eq!(scene.shard.layer(VIEWER), Some(2));
    let (before, asked) = (count(&scene), scene.shard.stats().keyframe_requests);
    select(&mut scene, Selection::Layer(0));
    scene.play(Duration::from_secs(2));
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "the smaller one goes on");
    assert!(scene.shard.stats().keyframe_requests > asked);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
    check(&since(&scene, 0));
    let came = since(&scene, before);
    let larger = came.iter().find(|packet| layer(packet).0 > 0).expect("it grew").timestamp;
    let first = came.iter().filter(|packet| packet.timestamp == larger);
    assert_eq!(first.count(), 12, "with all of a keyframe");
}

#[test]
fn what_a_viewer_says_of_its_connection_counts_with_the_next_picture() {
    let mut scene = scene(1, 3);
    let mut reporter = Reporter::new(&scene);
    (0..2).for_each(|_| reporter.second(&mut scene, 60, None));
    scene.play(Duration::from_millis(70));
    assert!(scene.shard.layer(VIEWER) > Some(0));
}

#[test]
fn a_part_grows_again_after_the_publisher_had_one_layer_for_a_while() {
    let mut scene = scene(3, 1);
    scene.publisher.gop = 60;
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(1));
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
    let became = |scene: &mut Scene, spatial: u8| {
        if let Some((structure, _)) = &mut scene.publisher.parts {
            *structure = Structure::new(spatial, 1);
        }
        // A keyframe tells of it.
        scene.play(Duration::from_secs(5));
    };
    became(&mut scene, 1);
    select(&mut scene, Selection::Auto);
    assert_eq!(scene.shard.layers(scene.now, &broadcast_id()).len(), 1);
    became(&mut scene, 3);
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
    check(&since(&scene, 0));
    let end = since(&scene, count(&scene) - 6);
    assert!(end.iter().any(|packet| layer(packet) == (2, 0)), "all of it");
}

#[test]
fn without_a_word_from_the_publisher_a_higher_rate_waits_for_a_keyframe() {
    let mut scene = scene(1, 2);
    scene.publisher.switches = false;
    let asked = scene.shard.stats().keyframe_requests;
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(1));
    select(&mut scene, Selection::Auto);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
    assert!(scene.shard.stats().keyframe_requests > asked, "it has waited for a second");
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
    check(&since(&scene, 0));
}

#[test]
fn what_is_asked_for_again_is_what_was_sent() {
    let mut scene = scene(2, 3);
    // Longer than a segment of a part lasts, which is 4096 packets of the source; within what viewers' consent lasts.
    scene.publisher.packets = (200, 30);
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(8));
    let came = since(&scene, 0);
    check(&came);
    for packets in came.chunks(16).rev().take(20) {
        let before = scene.player(1).stream(RTX).len();
        let seqs: Vec<u16> = packets.iter().map(|packet| packet.seq_no.seq()).collect();
        let nack = scene.player_mut(1).nack(&seqs);
        scene.rtcp(1, nack);
        let again: Vec<Received> = scene.player(1).stream(RTX).into_iter().skip(before).cloned().collect();
        let expected: Vec<_> =
            packets.iter().map(|packet| (&packet.payload[..], packet.marker, packet.timestamp)).collect();
        let got: Vec<_> =
            again.iter().map(|packet| (&packet.payload[2..], packet.marker, packet.timestamp)).collect();
        assert_eq!(got, expected[..got.len()], "all of it, or as much as the budget has");
        scene.play(Duration::from_millis(100));
    }
    assert!(scene.player(1).stream(RTX).len() > 200);
    let record = scene.shard.record(VIEWER).expect("a record").video.expect("a picture");
    assert!(record.segments.len() > 2, "{} segments", record.segments.len());
}

#[test]
fn a_joiner_of_a_part_starts_from_the_cached_keyframe_and_catches_up() {
    let mut scene = scene(2, 3);
    scene.play(Duration::from_secs(3));
    scene.join(2);
    scene.shard.select_layer(scene.now, ViewerId::new(2), Selection::Layer(3));
    scene.play(Duration::from_secs(4));
    let video: Vec<Received> = scene.player(2).stream(VIDEO).into_iter().cloned().collect();
    for pair in video.windows(2) {
        assert_eq!(pair[1].seq_no, pair[0].seq_no.plus(1));
    }
    let last = video.last().expect("a picture");
    assert_eq!(layer(last), (0, 0));
    assert!(scene.now - last.at < Duration::from_millis(150), "it is live");
    // Whoever gets a part already starts from it, too.
    let pli = scene.player_mut(2).pli();
    scene.rtcp(2, pli);
    scene.play(Duration::from_millis(3500));
    let again: Vec<Received> = scene.player(2).stream(VIDEO).into_iter().skip(video.len()).cloned().collect();
    assert!(scene.shard.stats().restarts > 0);
    assert!(again.iter().all(|packet| layer(packet) == (0, 0)), "nothing but its part");
    for pair in again.windows(2) {
        assert_eq!(pair[1].seq_no, pair[0].seq_no.plus(1));
    }
}

#[test]
fn a_packet_that_came_too_late_to_be_known_as_needless_is_sent_empty() {
    let mut scene = scene(1, 2);
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(1));
    // The publisher's packets as injection gets them: one of a picture that nobody here needs comes after the next.
    let (structure, mut stamper) = scene.publisher.parts.take().expect("parts");
    let mut train = Vec::new();
    let mut late = Vec::new();
    let last = scene.player(1).stream(VIDEO).last().map(|packet| packet.timestamp).expect("a picture");
    for index in 0..4 {
        for packet in scene.publisher.frame() {
            let temporal = u8::from(index % 2 == 1);
            let frame = Frame {
                layer: Layer { spatial: 0, temporal },
                begins: true,
                ends: true,
                is_switch: false,
                is_entry: false,
                structure: Some(structure),
            };
            let is_late = index == 1 && packet.marker;
            if is_late {
                late.push((packet, frame));
                continue;
            }
            let svc = stamper.stamp(packet.seq_no, Some(&frame), true);
            train.push(Arc::new(TreePacket { svc, ..(*packet).clone() }));
        }
    }
    for (packet, frame) in late {
        let svc = stamper.stamp(packet.seq_no, Some(&frame), true);
        assert!(svc.is_some_and(|svc| svc.is_late && !svc.needs(1)));
        train.push(Arc::new(TreePacket { svc, ..(*packet).clone() }));
    }
    let before = count(&scene);
    scene.now += Duration::from_millis(33);
    scene.fan_out(&train);
    let came = since(&scene, before);
    let empty: Vec<_> = came.iter().filter(|packet| packet.payload.is_empty()).collect();
    assert_eq!(empty.len(), 1);
    assert!(!empty[0].marker && empty[0].timestamp != last);
    let numbers: BTreeSet<u64> = came.iter().map(|packet| packet.seq_no.get()).collect();
    let (first, end) = (numbers.first().expect("one"), numbers.last().expect("one"));
    assert_eq!((numbers.len() as u64, came.len()), (end - first + 1, numbers.len()), "no hole is left");
    // And again, where it was lost on the way.
    let nack = scene.player_mut(1).nack(&[empty[0].seq_no.seq()]);
    scene.rtcp(1, nack);
    let again = scene.player(1).stream(RTX).last().map(|packet| packet.payload.len());
    assert_eq!(again, Some(2), "its number and nothing behind it");
}

#[test]
fn a_publisher_that_counts_anew_costs_a_start_from_the_cache() {
    let mut scene = scene(1, 3);
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(1));
    scene.publisher.count_anew();
    scene.play(Duration::from_secs(4));
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "it is back on its part");
    let came = since(&scene, 0);
    for pair in came.windows(2) {
        assert_eq!(pair[1].seq_no, pair[0].seq_no.plus(1));
    }
    let end = &came[came.len() - 10..];
    assert!(end.iter().all(|packet| layer(packet) == (0, 0)));
}

#[test]
fn who_loses_count_of_its_part_does_not_wait_for_its_next_turn() {
    let mut scene = scene(1, 3);
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(1));
    let just_came = |scene: &Scene| {
        let (player, now) = (scene.player(1), scene.now);
        let picture = player.stream(VIDEO).last().map(|packet| now - packet.at);
        let report = player.reports.last().map(|(at, _)| now - *at);
        picture.is_some_and(|age| age < Duration::from_millis(33))
            && report.is_some_and(|age| age < Duration::from_millis(400))
    };
    // Its next turn is far off, and the picture that comes next shows all layers, as the ones before it did.
    while !just_came(&scene) {
        scene.play(Duration::from_millis(33));
    }
    scene.publisher.count_anew();
    let before = count(&scene);
    scene.play(Duration::from_millis(500));
    assert!(count(&scene) > before, "the picture stands still");
    scene.play(Duration::from_secs(4));
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "it is back on its part");
    let came = since(&scene, 0);
    assert!(came.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
}

#[test]
fn what_a_replay_lacks_is_repeated_though_a_smaller_part_is_to_follow() {
    let mut scene = scene(2, 3);
    scene.publisher.gop = 2400;
    scene.play(Duration::from_secs(6));
    let mut reporter = Reporter::new(&scene);
    reporter.second(&mut scene, 0, Some(1400));
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    scene.play(Duration::from_millis(600));
    assert_eq!(scene.shard.stats().restarts, 1);
    reporter.second(&mut scene, 1, Some(300));
    assert_eq!(scene.shard.stats().viewers_replaying, 1, "it waits for the end of its replay");
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
    let video = scene.player(1).stream(VIDEO);
    let seqs: Vec<u16> = video[video.len() - 3..].iter().map(|packet| packet.seq_no.seq()).collect();
    let nack = scene.player_mut(1).nack(&seqs);
    scene.rtcp(1, nack);
    assert_eq!(scene.player(1).stream(RTX).len(), 3);
}

#[test]
fn a_replay_in_whose_midst_the_publisher_counts_anew_begins_again() {
    let mut scene = scene(1, 3);
    // No other keyframe comes to its help.
    scene.publisher.gop = 2400;
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(1));
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    scene.play(Duration::from_millis(600));
    assert_eq!(scene.shard.stats().restarts, 1);
    // The last pictures before that have no end.
    scene.play_with(Duration::from_millis(200), |packet| !packet.marker);
    scene.publisher.count_anew();
    scene.play(Duration::from_secs(5));
    let newest = scene.player(1).stream(VIDEO).last().expect("a picture").at;
    assert!(scene.now - newest < Duration::from_millis(150), "it is live");
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "and back on its part");
}

#[test]
fn another_process_with_the_record_sends_the_same_bytes() {
    let mut scene = scene(3, 3);
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(1));
    let record = scene.shard.record(VIEWER).expect("a record");
    let mut other = Shard::new(Config::default());
    other.broadcast_changed(scene.now, &scene.broadcast());
    other.resume_viewer(scene.now, record).expect("resumed");
    let (mut ours, mut theirs) = (Network::default(), Network::default());
    for _ in 0..60 {
        scene.now += Duration::from_millis(33);
        let train = scene.publisher.frame();
        scene.shard.fan_out(scene.now, &train, &mut ours);
        other.fan_out(scene.now, &train, &mut theirs);
    }
    let (ours, theirs) = (ours.take(), theirs.take());
    assert!(ours.len() > 30);
    assert_eq!(ours, theirs);
}

#[test]
fn points_are_told_as_layers() {
    let mut scene = scene(3, 3);
    let layers = scene.shard.layers(scene.now, &broadcast_id());
    let names: Vec<_> = layers.iter().filter_map(|layer| layer.rid.as_ref().map(Rid::as_str)).collect();
    assert_eq!(names, ["s2t2", "s1t2", "s0t2", "s0t0"]);
    let points: Vec<_> =
        layers.iter().filter_map(|layer| layer.point).map(|point| (point.spatial, point.temporal)).collect();
    assert_eq!(points, [(2, 2), (1, 2), (0, 2), (0, 0)]);
    assert!(layers.iter().all(|layer| layer.is_active));
    let rates: Vec<u64> = layers.iter().map(|layer| layer.rate.as_bps()).collect();
    assert!(rates.is_sorted_by(|better, worse| better > worse), "{rates:?}");
    assert_eq!(layers.iter().map(|layer| layer.viewers).collect::<Vec<_>>(), [1, 0, 0, 0]);
}

#[test]
fn a_busy_shard_learns_of_layers_from_what_it_does_not_send() {
    let mut scene =
        Scene::with(Config::default(), Publisher::new(Codec::H264, 1, capture_start()).divided(1, 3));
    let came_at = scene.now;
    scene.pause(Duration::from_millis(900));
    let frames: Vec<_> = (0..4).flat_map(|_| scene.publisher.frame()).collect();
    frames.into_iter().for_each(|packet| scene.shard.gather(scene.now, came_at, packet));
    scene.timeout();
    let next = scene.shard.poll_timeout().expect("a deadline");
    assert!(next > scene.now, "it is not looked at all the time");
    scene.pause(next - scene.now);
    assert!(scene.shard.poll_timeout().is_some_and(|at| at <= next + Duration::from_millis(250)));
    assert_eq!(scene.shard.layers(scene.now, &broadcast_id()).len(), 3);
}

#[test]
fn simulcast_streams_are_not_divided() {
    let best = Publisher::new(Codec::H264, 1, capture_start()).divided(1, 3);
    let mut scene = Scene::with(Config::default(), best);
    let mut worse = Publisher::new(Codec::H264, 1, capture_start()).divided(1, 3);
    worse.layer = 1;
    scene.worse = vec![worse];
    scene.shard.broadcast_changed(scene.now, &scene.broadcast());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    assert_eq!(scene.shard.layers(scene.now, &broadcast_id()).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the links lose or bring late, and whatever is chosen: a number is of one packet, packets are in their order,
    /// and what is missing at the end is what was lost of the part.
    #[test]
    fn numbers_are_a_function_of_the_packet(
        steps in proptest::collection::vec((proptest::option::weighted(0.1, 0u8..5), 0u16..512), 1..150),
    ) {
        let mut publisher = Publisher::new(Codec::H264, 1, capture_start()).divided(2, 3);
        (publisher.gop, publisher.packets, publisher.switches) = (30, (9, 4), true);
        let mut scene = Scene::with(Config::default(), publisher);
        scene.join(1);
        let (mut late, mut never) = (Vec::new(), Vec::new());
        for (selection, fates) in steps {
            if let Some(layer) = selection {
                select(&mut scene, Selection::Layer(layer));
            }
            scene.pause(Duration::from_millis(33));
            let mut train = std::mem::take(&mut late);
            for (index, packet) in scene.publisher.frame().into_iter().enumerate() {
                match fates >> (2 * index.min(4)) & 7 {
                    0 => late.push(packet),
                    1 => never.push(packet),
                    _ => train.push(packet),
                }
            }
            scene.fan_out(&train);
        }
        scene.fan_out(&late);
        let mut by_number = BTreeMap::new();
        for packet in scene.player(1).stream(VIDEO) {
            prop_assert_eq!(by_number.insert(packet.seq_no, packet.source()), None);
        }
        let sources: Vec<u64> = by_number.values().copied().collect();
        prop_assert!(sources.is_sorted_by(|before, after| before < after));
        let (Some((first, _)), Some((last, _))) = (by_number.first_key_value(), by_number.last_key_value()) else {
            return Ok(());
        };
        let holes = last.get() - first.get() + 1 - by_number.len() as u64;
        prop_assert!(holes <= never.len() as u64, "{} holes, {} lost", holes, never.len());
    }
}

#[test]
fn a_part_of_one_viewer_is_no_other_ones() {
    let mut scene = scene(1, 2);
    scene.join(2);
    scene.play(Duration::from_secs(1));
    let before = scene.player(2).stream(VIDEO).len();
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(2));
    let other = scene.player(2).stream(VIDEO).into_iter().skip(before);
    let pictures = other.filter(|packet| packet.marker).count();
    assert!((58..=61).contains(&pictures), "{pictures} pictures in 2 s");
}
