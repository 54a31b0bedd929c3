//! Viewers that go from one layer of a picture to another.

use std::time::Duration;

use egress::{Config, DropReason, Event, LayerSwitch, Selection, Shard, ViewerId};
use media_core::rtcp;
use model::{Bitrate, Codec, Ssrc};

use crate::harness::{
    Network, Publisher, RTX, Received, Scene, VIDEO, broadcast_id, capture_start, check_video, layers,
    receiver_report, setup, ssrc,
};

pub const VIEWER: ViewerId = ViewerId::new(1);

pub fn live_scene() -> Scene {
    let mut scene = Scene::layered(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    scene
}

pub fn select(scene: &mut Scene, selection: Selection) {
    assert!(scene.shard.select_layer(scene.now, VIEWER, selection));
    scene.timeout();
}

/// Says what the viewer got: of every hundred packets `lost` did not come.
pub struct Reporter {
    lost: i32,
    highest: u32,
}

impl Reporter {
    pub fn new(scene: &Scene) -> Self {
        let highest = scene.player(1).stream(VIDEO).last().map_or(0, |packet| packet.seq_no.get() as u32);
        Self { lost: 0, highest }
    }

    /// Plays for a second and reports.
    pub fn second(&mut self, scene: &mut Scene, lost_percent: i32, estimate: Option<u64>) {
        scene.play(Duration::from_secs(1));
        let highest = scene.player(1).stream(VIDEO).last().expect("packets").seq_no.get() as u32;
        self.lost += (highest - self.highest) as i32 * lost_percent / 100;
        self.highest = highest;
        let fraction_lost = (lost_percent * 256 / 100) as u8;
        let mut compound = receiver_report(ssrc(1, VIDEO), (fraction_lost, self.lost), highest);
        if let Some(kbps) = estimate {
            let media = [ssrc(1, VIDEO)];
            rtcp::write::receiver_estimate(&mut compound, Ssrc::new(1), Bitrate::kbps(kbps), &media);
        }
        let datagram = scene.player_mut(1).seal(&compound);
        scene.rtcp(1, datagram);
        scene.timeout();
    }

    /// Plays with enough loss to end on the worst layer.
    fn sink(&mut self, scene: &mut Scene) {
        for _ in 0..20 {
            self.second(scene, 95, None);
            if scene.shard.layer(VIEWER) == Some(2) {
                return;
            }
        }
        panic!("still on a better layer");
    }
}

/// Layers in the order in which they came, each once.
pub fn course(scene: &Scene) -> Vec<u8> {
    let mut layers: Vec<u8> = scene.player(1).stream(VIDEO).iter().map(|packet| packet.layer()).collect();
    layers.dedup();
    layers
}

/// Sequence numbers go on, timestamps keep the pace of time, and each layer begins with a keyframe.
pub fn check(scene: &Scene) {
    check_video(scene.player(1));
    let video = scene.player(1).stream(VIDEO);
    let first = video[0];
    for packet in &video {
        let media = f64::from(packet.timestamp.wrapping_sub(first.timestamp)) / 90e3;
        let real = (packet.at - first.at).as_secs_f64();
        assert!((media - real).abs() < 0.04, "{media} {real}");
    }
    let begins = |pair: &[&Received]| pair[0].layer() != pair[1].layer();
    for pair in video.windows(2).filter(|pair| begins(pair)) {
        assert!(pair[0].marker, "a frame cut short");
        let packets = [40, 16, 5][usize::from(pair[1].layer())];
        let begun = video.iter().filter(|packet| packet.timestamp == pair[1].timestamp);
        assert_eq!(begun.count(), packets, "no keyframe of layer {}", pair[1].layer());
    }
}

#[test]
fn a_switch_waits_for_a_keyframe_and_the_old_layer_goes_on_until_then() {
    let mut scene = live_scene();
    select(&mut scene, Selection::Layer(2));
    let selected = scene.now;
    scene.play(Duration::from_secs(3));
    check(&scene);
    assert_eq!(course(&scene), [0, 2]);
    let video = scene.player(1).stream(VIDEO);
    let switch = video.iter().find(|packet| packet.layer() == 2).expect("switched").at;
    assert!(switch > selected + Duration::from_millis(200), "keyframes are 2 s apart");
    let gaps = video.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(gaps.max().expect("packets") < Duration::from_millis(40), "nothing stood still");
    assert_eq!(scene.shard.layer(VIEWER), Some(2));
    let stats = scene.shard.stats();
    assert_eq!(LayerSwitch::ALL.map(|reason| stats.layer_switches(reason)), [0, 0, 1, 0, 0, 0]);
    let wanted = scene.worse[1].video_ssrc();
    let asked = scene.count(|event| *event == Event::KeyframeWanted { ssrc: wanted });
    assert!((1..=3).contains(&asked), "{asked} requests");
}

#[test]
fn a_layer_is_chosen_by_its_name_and_the_choice_given_back() {
    let mut scene = live_scene();
    for (selection, layer) in [
        (Selection::Rid(scene.worse[0].rid()), 1),
        (Selection::Rid(scene.worse[1].rid()), 2),
        (Selection::Layer(77), 2),
        (Selection::Auto, 0),
    ] {
        select(&mut scene, selection);
        scene.play(Duration::from_secs(3));
        assert_eq!(scene.shard.layer(VIEWER), Some(layer));
    }
    check(&scene);
    assert_eq!(course(&scene), [0, 1, 2, 0]);
    assert!(!scene.shard.select_layer(scene.now, ViewerId::new(9), Selection::Auto), "nobody there");
    let unknown = model::Rid::new("other").expect("a rid");
    select(&mut scene, Selection::Rid(unknown));
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0), "as if nothing had been chosen");
}

#[test]
fn a_viewer_that_wants_no_better_layer_gets_the_best_it_allows_and_all_of_them_again() {
    let mut scene = live_scene();
    let half = scene.worse[0].rid();
    select(&mut scene, Selection::UpTo(half));
    scene.play(Duration::from_secs(5));
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
    select(&mut scene, Selection::Auto);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
    select(&mut scene, Selection::UpTo(model::Rid::new("other").expect("a rid")));
    scene.play(Duration::from_secs(3));
    check(&scene);
    assert_eq!(course(&scene), [0, 1, 0], "an unknown name limits nothing");
}

#[test]
fn a_keyframe_that_has_just_passed_is_as_good_as_one_that_comes() {
    let mut scene = live_scene();
    // The keyframe of the worst layer is 18 frames into each GOP.
    scene.play(Duration::from_millis(1600 + 40));
    let before = scene.player(1).stream(VIDEO).len();
    select(&mut scene, Selection::Layer(2));
    let video = scene.player(1).stream(VIDEO);
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "at once");
    assert!(video.len() > before && video[before..].iter().all(|packet| packet.layer() == 2));
    scene.play(Duration::from_secs(1));
    check(&scene);
}

#[test]
fn a_frame_that_is_on_its_way_is_finished_before_a_switch() {
    let mut scene = live_scene();
    while !scene.worse[0].is_keyframe_next() {
        scene.play(Duration::from_millis(5));
    }
    select(&mut scene, Selection::Layer(1));
    scene.now = scene.published_at + scene.publisher.next_at();
    let (old, keyframe) = (scene.publisher.frame(), scene.worse[0].frame());
    scene.fan_out(&old[..5]);
    scene.fan_out(&keyframe);
    assert_eq!(scene.shard.layer(VIEWER), Some(0), "its frame is not out");
    // Whatever makes the shard look at the viewer in between.
    let half = scene.worse[0].rid();
    select(&mut scene, Selection::Rid(half));
    scene.fan_out(&old[5..]);
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
    scene.worse[1].frame();
    scene.play(Duration::from_secs(1));
    check(&scene);
}

#[test]
fn a_deaf_publisher_is_waited_for() {
    let mut scene = Scene::layered(Config::default());
    scene.publisher.gop = 250;
    for layer in &mut scene.worse {
        (layer.gop, layer.phase) = (250, 50);
    }
    scene.join(1);
    scene.play(Duration::from_secs(1));
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_millis(5500));
    assert_eq!(course(&scene), [0]);
    let asked = scene.shard.stats().keyframe_requests;
    assert!(asked <= 8, "{asked} requests in 6 s");
    scene.play(Duration::from_secs(2));
    assert_eq!(course(&scene), [0, 1]);
    check(&scene);
}

#[test]
fn packets_from_before_a_switch_are_repeated() {
    let mut scene = live_scene();
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(2));
    let video = scene.player(1).stream(VIDEO);
    let last = video.iter().rposition(|packet| packet.layer() == 0).expect("the old layer");
    let asked: Vec<_> = video[last - 1..last + 3].iter().map(|packet| (*packet).clone()).collect();
    let seqs: Vec<_> = asked.iter().map(|packet| packet.seq_no.seq()).collect();
    let nack = scene.player_mut(1).nack(&seqs);
    scene.rtcp(1, nack);
    let repeated = scene.player(1).stream(RTX);
    assert_eq!(repeated.len(), 4);
    for (repeated, original) in repeated.iter().zip(&asked) {
        assert_eq!(repeated.payload[2..], original.payload[..]);
        assert_eq!(repeated.timestamp, original.timestamp);
    }
}

#[test]
fn loss_in_two_reports_brings_a_worse_layer() {
    let mut scene = live_scene();
    let mut reporter = Reporter::new(&scene);
    reporter.second(&mut scene, 0, None);
    reporter.second(&mut scene, 60, None);
    reporter.second(&mut scene, 0, None);
    scene.play(Duration::from_secs(2));
    assert_eq!(course(&scene), [0], "one report is an accident");
    reporter.second(&mut scene, 60, None);
    reporter.second(&mut scene, 60, None);
    reporter.second(&mut scene, 60, None);
    reporter.second(&mut scene, 0, None);
    assert_eq!(course(&scene), [0, 1], "40 % of 2.5 Mbit/s carry the one in the middle");
    check(&scene);
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Down), 1);
}

/// A viewer of a publisher whose keyframes are far apart, for whom the best layer has just been found to be too much.
/// Who `has_asked` for keyframes is due to start again 0.4 s later.
fn short_scene(has_asked: bool) -> Scene {
    let mut scene = Scene::layered(Config::default());
    scene.publisher.gop = 400;
    scene.worse.iter_mut().for_each(|layer| (layer.gop, layer.phase) = (400, 0));
    scene.join(1);
    for millis in [900, 1100] {
        scene.play(Duration::from_millis(millis));
        if has_asked {
            ask(&mut scene);
        }
    }
    scene.play(Duration::from_secs(1));
    let mut reporter = Reporter::new(&scene);
    for lost in [0, 60, 60] {
        reporter.second(&mut scene, lost, None);
    }
    assert_eq!(scene.shard.layer(VIEWER), Some(0), "it waits for a keyframe");
    scene
}

fn ask(scene: &mut Scene) {
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
}

#[test]
fn who_has_no_room_for_a_layer_gets_the_worse_one_from_the_cache_if_no_keyframe_comes() {
    let mut scene = short_scene(false);
    let short = scene.now;
    scene.play(Duration::from_secs(3));
    assert_eq!(course(&scene), [0, 1]);
    let video = scene.player(1).stream(VIDEO);
    let begun = video.iter().find(|packet| packet.layer() == 1).expect("the worse layer").at - short;
    assert!((Duration::from_millis(800)..Duration::from_secs(2)).contains(&begun), "{begun:?}");
    check_video(scene.player(1));
    // What was before has no room; what came with the keyframe and after it may be lost, too.
    let last = video.iter().rposition(|packet| packet.layer() == 0).expect("the old layer");
    let seqs: Vec<_> = video[last - 1..last + 3].iter().map(|packet| packet.seq_no.seq()).collect();
    let nack = scene.player_mut(1).nack(&seqs);
    scene.rtcp(1, nack);
    assert_eq!(scene.shard.stats().drops(DropReason::NackOutdated), 2);
    assert_eq!(scene.player(1).stream(RTX).len(), 2);
}

#[test]
fn who_asks_for_a_keyframe_on_the_way_to_a_worse_layer_gets_the_one_of_that() {
    for has_asked in [true, false] {
        let mut scene = short_scene(has_asked);
        let best = scene.publisher.video_ssrc();
        let told = |scene: &Scene| {
            let wanted = scene.count(|event| *event == Event::KeyframeWanted { ssrc: best });
            (scene.shard.stats().restarts, wanted)
        };
        let (before, sent) = (told(&scene), scene.player(1).stream(VIDEO).len());
        assert_eq!(before.0, u64::from(has_asked));
        for _ in 0..7 {
            if !has_asked {
                ask(&mut scene);
            }
            scene.play(Duration::from_millis(100));
        }
        scene.play(Duration::from_secs(2));
        assert_eq!((told(&scene), course(&scene)), (before, vec![0, 1]));
        let mut old = scene.player(1).stream(VIDEO);
        old.retain(|packet| packet.layer() == 0);
        assert!(old[sent..].is_sorted_by_key(|packet| packet.source()), "nothing of it came again");
    }
}

#[test]
fn an_estimate_that_falls_far_brings_the_layer_that_fits() {
    let mut scene = live_scene();
    let mut reporter = Reporter::new(&scene);
    reporter.second(&mut scene, 0, Some(3500));
    reporter.second(&mut scene, 0, Some(2300));
    reporter.second(&mut scene, 0, Some(2100));
    scene.play(Duration::from_secs(2));
    assert_eq!(course(&scene), [0], "receivers see overuse in keyframes, too");
    reporter.second(&mut scene, 1, Some(400));
    scene.play(Duration::from_secs(2));
    assert_eq!(course(&scene), [0, 2]);
    check(&scene);
}

#[test]
fn a_better_layer_is_tried_with_repeats_first() {
    let mut scene = live_scene();
    let mut reporter = Reporter::new(&scene);
    reporter.sink(&mut scene);
    let before = scene.player(1).stream(RTX).len();
    assert_eq!(scene.shard.stats().probe.packets, 0);
    for _ in 0..40 {
        reporter.second(&mut scene, 0, None);
    }
    check(&scene);
    assert_eq!(course(&scene), [0, 2, 1, 0]);
    let stats = scene.shard.stats();
    assert_eq!((stats.probes, stats.probes_failed, stats.rtx.packets), (2, 0, 0));
    assert_eq!(stats.layer_switches(LayerSwitch::Up), 2);
    let video = scene.player(1).stream(VIDEO);
    let repeats = &scene.player(1).stream(RTX)[before..];
    assert_eq!(repeats.len() as u64, stats.probe.packets);
    for repeat in repeats {
        let seq = u16::from_be_bytes(repeat.payload[..2].try_into().expect("2 bytes"));
        let original = video.iter().rev().find(|packet| packet.seq_no.seq() == seq).expect("was sent");
        assert_eq!(repeat.payload[2..], original.payload[..]);
        assert_eq!(repeat.at, original.at, "only what was sent just now");
    }
    // Three seconds and some at 0.7 and at 1.9 Mbit/s.
    assert!((600_000..1_500_000).contains(&stats.probe.bytes), "{} bytes", stats.probe.bytes);
}

#[test]
fn a_probe_that_fails_ends_at_once_and_the_next_waits_longer() {
    let mut scene = live_scene();
    let mut reporter = Reporter::new(&scene);
    reporter.sink(&mut scene);
    let (mut begun, mut starts) = (0, Vec::new());
    for second in 0..100 {
        let is_probing = scene.shard.stats().probes > scene.shard.stats().probes_failed;
        reporter.second(&mut scene, if is_probing { 30 } else { 0 }, None);
        let probes = scene.shard.stats().probes;
        if probes > begun {
            starts.push(second);
        }
        begun = probes;
    }
    assert_eq!(course(&scene), [0, 2], "nothing but repeats was lost");
    let waits: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.is_sorted() && waits[0] < waits[1] && waits.len() >= 4, "{starts:?}");
    assert!(waits.iter().all(|wait| *wait < 25), "{starts:?}");
    check(&scene);
}

#[test]
fn without_repeats_a_better_layer_is_tried_as_it_is() {
    let mut scene = Scene::layered(Config::default());
    let mut viewer = setup(1, scene.now);
    if let Some(video) = &mut viewer.video {
        video.rtx_ssrc = None;
    }
    scene.shard.add_viewer(scene.now, &broadcast_id(), viewer).expect("added");
    scene.players.insert(1, crate::harness::Player::new(1));
    scene.play(Duration::from_secs(3));
    let mut reporter = Reporter::new(&scene);
    reporter.sink(&mut scene);
    for _ in 0..30 {
        reporter.second(&mut scene, 0, None);
    }
    assert_eq!(course(&scene), [0, 2, 1, 0]);
    assert_eq!(scene.shard.stats().probe.packets, 0);
    check(&scene);
}

#[test]
fn probes_of_all_viewers_keep_to_the_budget_of_the_shard() {
    let config = Config { probe_rate: Bitrate::kbps(100), ..Config::default() };
    let mut scene = Scene::layered(config);
    scene.join(1);
    scene.play(Duration::from_secs(3));
    let mut reporter = Reporter::new(&scene);
    reporter.sink(&mut scene);
    let started = scene.now;
    for _ in 0..40 {
        reporter.second(&mut scene, 0, None);
    }
    let stats = scene.shard.stats();
    assert!(stats.probe.bytes <= Bitrate::kbps(100).bytes_in(scene.now - started) + 2000);
    assert_eq!(course(&scene), [0, 2], "so little shows nothing");
    assert_eq!(stats.probes_failed, 0);
}

#[test]
fn a_layer_that_dries_up_is_left_and_gone_back_to() {
    let mut scene = live_scene();
    let best = scene.publisher.video_ssrc();
    scene.play_with(Duration::from_secs(5), |packet| packet.ssrc != best);
    let video = scene.player(1).stream(VIDEO);
    let switch = video.iter().position(|packet| packet.layer() == 1).expect("switched");
    let silence = video[switch].at - video[switch - 1].at;
    assert!(silence < Duration::from_millis(1400), "{silence:?}");
    assert_eq!(course(&scene), [0, 1]);
    let states = scene.shard.layers(scene.now, &broadcast_id());
    assert_eq!(states.iter().map(|state| state.is_active).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(states.iter().map(|state| state.viewers).collect::<Vec<_>>(), [0, 1, 0]);
    scene.play(Duration::from_secs(6));
    assert_eq!(course(&scene), [0, 1, 0], "its connection has never been short");
    let stats = scene.shard.stats();
    assert_eq!(LayerSwitch::ALL.map(|reason| stats.layer_switches(reason)), [1, 0, 0, 1, 0, 0]);
}

#[test]
fn who_has_chosen_a_layer_that_dries_up_gets_the_next_one_and_it_back() {
    let mut scene = live_scene();
    select(&mut scene, Selection::Layer(1));
    scene.play(Duration::from_secs(3));
    let middle = scene.worse[0].video_ssrc();
    scene.play_with(Duration::from_secs(4), |packet| packet.ssrc != middle);
    assert_eq!(scene.shard.layer(VIEWER), Some(2));
    scene.play(Duration::from_secs(4));
    assert_eq!(course(&scene), [0, 1, 2, 1]);
}

#[test]
fn silence_of_all_layers_moves_nobody_nor_back_to_one_that_had_dried_up() {
    let mut scene = live_scene();
    let best = scene.publisher.video_ssrc();
    for dried_up in [None, Some(best)] {
        scene.play_with(Duration::from_secs(4), |packet| Some(packet.ssrc) != dried_up);
        let before = scene.shard.layer(VIEWER);
        scene.play_with(Duration::from_secs(5), |packet| packet.audio_level.is_some());
        assert_eq!(scene.shard.layer(VIEWER), before);
    }
    scene.play_with(Duration::from_secs(3), |packet| packet.ssrc != best);
    assert_eq!(course(&scene), [0, 1]);
}

#[test]
fn runs_with_other_layers_are_followed() {
    let mut scene = live_scene();
    let worst = scene.worse[1].rid();
    select(&mut scene, Selection::Rid(worst));
    scene.play(Duration::from_secs(3));
    let captured = capture_start().plus(scene.now - scene.start);
    scene.publish_anew(Publisher::new(Codec::H264, 2, captured));
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0), "there is one only");
    let captured = capture_start().plus(scene.now - scene.start);
    let mut publishers = layers(3, captured);
    let worse = publishers.split_off(1);
    scene.publish_layers(publishers.remove(0), worse);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "the name is there again");
    check_video(scene.player(1));
}

#[test]
fn layers_that_change_places_break_nothing() {
    let mut scene = Scene::layered(Config::default());
    // As a browser lists them before their sizes are known.
    let mut broadcast = scene.broadcast();
    broadcast.tracks[1].layers.reverse();
    scene.shard.broadcast_changed(scene.now, &broadcast);
    scene.join(1);
    scene.play(Duration::from_millis(1500));
    assert_eq!(course(&scene), [2], "the first of the list");
    scene.shard.broadcast_changed(scene.now, &scene.broadcast());
    scene.timeout();
    assert_eq!(scene.shard.layer(VIEWER), Some(2), "the same stream, in another place");
    scene.play(Duration::from_secs(4));
    assert_eq!(course(&scene), [2, 0]);
    check(&scene);
}

#[test]
fn who_is_resumed_stays_on_its_layer() {
    let mut scene = live_scene();
    let mut reporter = Reporter::new(&scene);
    reporter.sink(&mut scene);
    scene.play(Duration::from_secs(2));
    let record = scene.shard.record(VIEWER).expect("a record");
    let mut twin = Shard::new(Config::default());
    twin.broadcast_changed(scene.now, &scene.broadcast());
    twin.resume_viewer(scene.now, record).expect("resumed");
    twin.handle_timeout(scene.now, &mut Network::default());
    assert_eq!(twin.layer(VIEWER), Some(2));
    let frame: Vec<_> = scene.worse[1].frame();
    let (mut first, mut second) = (Network::default(), Network::default());
    scene.shard.fan_out(scene.now, &frame, &mut first);
    twin.fan_out(scene.now, &frame, &mut second);
    let (first, second) = (first.take(), second.take());
    assert!(!first.is_empty() && first == second);
}

#[test]
fn a_choice_outlives_the_process() {
    let mut scene = live_scene();
    select(&mut scene, Selection::Layer(1));
    // Before its keyframe has come.
    let record = scene.shard.record(VIEWER).expect("a record");
    assert_eq!(record.video.as_ref().map(|track| track.layer), Some(0));
    scene.shard = Shard::new(Config::default());
    scene.shard.broadcast_changed(scene.now, &scene.broadcast());
    scene.shard.resume_viewer(scene.now, record).expect("resumed");
    scene.play(Duration::from_secs(3));
    assert_eq!(course(&scene), [0, 1]);
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
}

#[test]
fn latency_is_measured_once_for_each_frame_of_the_layer_that_a_viewer_gets() {
    let mut scene = live_scene();
    scene.shard.set_wallclock(scene.now, capture_start().plus(scene.now - scene.start));
    let before = scene.shard.stats().latency.counts.iter().sum::<u64>();
    scene.play(Duration::from_secs(1));
    let frames = scene.shard.stats().latency.counts.iter().sum::<u64>() - before;
    assert!((29..=31).contains(&frames), "{frames}");
}

#[test]
fn viewers_of_one_layer_are_left_alone() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    let mut reporter = Reporter::new(&scene);
    (0..10).for_each(|_| reporter.second(&mut scene, 20, None));
    select(&mut scene, Selection::Layer(2));
    scene.play(Duration::from_secs(5));
    let stats = scene.shard.stats();
    assert_eq!((stats.probes, LayerSwitch::ALL.map(|reason| stats.layer_switches(reason))), (0, [0; 6]));
    let states = scene.shard.layers(scene.now, &broadcast_id());
    assert_eq!((states.len(), states[0].rid.clone(), states[0].viewers), (1, None, 1));
    check_video(scene.player(1));
}

/// With a shard that was far behind for seconds, and has left out the best layer.
fn relieved_scene() -> Scene {
    let mut scene = live_scene();
    let late = scene.publisher.sound(0);
    for _ in 0..14 {
        scene.play(Duration::from_millis(250));
        scene.shard.gather(scene.now, scene.now - Duration::from_millis(800), late.clone());
    }
    scene.play(Duration::from_secs(2));
    scene
}

#[test]
fn what_a_shard_left_out_of_one_broadcast_it_does_not_leave_out_of_a_later_one() {
    let mut scene = relieved_scene();
    assert_eq!(scene.shard.layer(VIEWER), Some(1));
    let captured = |scene: &Scene| capture_start().plus(scene.now - scene.start);
    let single = Publisher::new(Codec::H264, 2, captured(&scene));
    scene.publish_anew(single);
    scene.play(Duration::from_secs(3));
    let mut worse = layers(3, captured(&scene));
    let best = worse.remove(0);
    scene.publish_layers(best, worse);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.layer(VIEWER), Some(0));
}

#[test]
fn a_shard_far_behind_leaves_the_best_layer_out_until_it_has_been_well_for_a_while() {
    let mut scene = relieved_scene();
    check(&scene);
    assert_eq!(course(&scene), [0, 1]);
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Overload), 1);
    scene.play(Duration::from_secs(12));
    check(&scene);
    assert_eq!(course(&scene), [0, 1, 0], "its connection was never short");
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Up), 1);
}
