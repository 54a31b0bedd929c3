//! Layers that do not come because no viewer needs them: chosen all the same, asked for, and gone to without a break.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use egress::{Config, Event, LayerSwitch, Selection};
use media_core::TreePacket;
use model::{Bitrate, Ssrc};

use crate::harness::{Scene, VIDEO, broadcast_id, check_video};
use crate::layers::{VIEWER, check, course, live_scene, select};

const RATES: [Bitrate; 3] = [Bitrate::kbps(2500), Bitrate::kbps(800), Bitrate::kbps(200)];
/// How often the parent looks at what is asked for.
const STEP: Duration = Duration::from_millis(10);

/// The node above: has all layers, from their newest keyframe on, and sends those that are asked for.
struct Parent {
    left_out: BTreeSet<Ssrc>,
    kept: BTreeMap<Ssrc, Vec<Arc<TreePacket>>>,
    rates: [Bitrate; 3],
    steps: u32,
    events: usize,
}

impl Parent {
    fn new() -> Self {
        let (left_out, kept) = (BTreeSet::new(), BTreeMap::new());
        Self { left_out, kept, rates: RATES, steps: 0, events: 0 }
    }

    fn ssrcs(scene: &Scene) -> Vec<Ssrc> {
        std::iter::once(&scene.publisher).chain(&scene.worse).map(|layer| layer.video_ssrc()).collect()
    }

    fn leave_out(&mut self, scene: &mut Scene, places: &[usize]) {
        let ssrcs = Self::ssrcs(scene);
        self.left_out = places.iter().map(|place| ssrcs[*place]).collect();
        self.tell(scene);
    }

    fn tell(&self, scene: &mut Scene) {
        let rates = Self::ssrcs(scene).into_iter().zip(self.rates);
        let told: Vec<_> = rates.filter(|(ssrc, _)| self.left_out.contains(ssrc)).collect();
        if !told.is_empty() {
            scene.shard.left_out(scene.now, &told);
        }
    }

    fn play(&mut self, scene: &mut Scene, length: Duration) {
        let end = scene.now + length;
        while scene.now < end {
            self.steps += 1;
            if self.steps.is_multiple_of(100) {
                self.tell(scene);
            }
            let Self { left_out, kept, .. } = self;
            scene.play_with(STEP, |packet| {
                let kept = kept.entry(packet.ssrc).or_default();
                if packet.starts_keyframe {
                    kept.clear();
                }
                kept.push(Arc::new(packet.clone()));
                !left_out.contains(&packet.ssrc)
            });
            let wanted = scene.events[self.events..].iter().filter_map(|(_, event)| match event {
                Event::StreamNeeded { ssrc } => Some(*ssrc),
                _ => None,
            });
            let wanted: BTreeSet<_> = wanted.collect();
            self.events = scene.events.len();
            for ssrc in wanted {
                if self.left_out.remove(&ssrc) {
                    self.kept[&ssrc].chunks(16).for_each(|train| scene.fan_out(train));
                }
            }
        }
    }
}

/// A viewer on the worst layer, and nothing else comes.
fn low_scene() -> (Scene, Parent) {
    let (mut scene, mut parent) = (live_scene(), Parent::new());
    select(&mut scene, Selection::Layer(2));
    parent.play(&mut scene, Duration::from_secs(3));
    assert_eq!(course(&scene), [0, 2]);
    parent.leave_out(&mut scene, &[0, 1]);
    parent.play(&mut scene, Duration::from_secs(5));
    (scene, parent)
}

/// Until the best layer's keyframe was a second ago: nobody could take it for a live one.
fn until_within_a_group(scene: &mut Scene, parent: &mut Parent) {
    while !scene.publisher.is_keyframe_next() {
        parent.play(scene, STEP);
    }
    parent.play(scene, Duration::from_secs(1));
}

#[test]
fn a_layer_that_is_left_out_counts_as_if_it_came() {
    let (mut scene, _) = low_scene();
    let states = scene.shard.layers(scene.now, &broadcast_id());
    assert!(states.iter().all(|state| state.is_active), "{states:?}");
    assert_eq!(states[..2].iter().map(|state| state.rate).collect::<Vec<_>>(), RATES[..2]);
    assert_eq!(course(&scene), [0, 2], "nobody went anywhere");
}

#[test]
fn a_switch_to_a_layer_that_is_left_out_waits_for_its_live_keyframe() {
    let (mut scene, mut parent) = low_scene();
    until_within_a_group(&mut scene, &mut parent);
    select(&mut scene, Selection::Layer(0));
    let selected = scene.now;
    parent.play(&mut scene, Duration::from_secs(4));
    check(&scene);
    assert_eq!(course(&scene), [0, 2, 0]);
    let video = scene.player(1).stream(VIDEO);
    let switched = video.iter().rev().take_while(|packet| packet.layer() == 0).last().expect("it has").at;
    assert!(switched > selected + Duration::from_millis(300), "not at the keyframe that the ring held");
    let gaps = video.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(gaps.max().expect("packets") < Duration::from_millis(60), "nothing stood still");
    assert_eq!(scene.shard.stats().layer_switches(LayerSwitch::Inactive), 0);
    let best = scene.publisher.video_ssrc();
    assert!(scene.count(|event| *event == Event::KeyframeWanted { ssrc: best }) >= 1);
}

#[test]
fn who_joins_on_a_layer_that_is_left_out_starts_from_what_the_parent_has_and_ends_live() {
    let (mut scene, mut parent) = low_scene();
    until_within_a_group(&mut scene, &mut parent);
    scene.join(2);
    let joined = scene.now;
    parent.play(&mut scene, Duration::from_secs(4));
    let player = scene.player(2);
    check_video(player);
    let video = player.stream(VIDEO);
    assert!(video[0].at < joined + Duration::from_millis(500), "{:?}", video[0].at - joined);
    assert!(video.iter().all(|packet| packet.layer() == 0));
    let newest = scene.publisher.next_seq() - 1;
    assert_eq!(video.last().expect("packets").source(), newest, "it is live");
    // Its picture keeps the pace of time, once it has caught up.
    let live: Vec<_> = video.iter().filter(|packet| packet.at > joined + Duration::from_secs(2)).collect();
    let (first, last) = (live[0], live[live.len() - 1]);
    let media = f64::from(last.timestamp.wrapping_sub(first.timestamp)) / 90e3;
    assert!((media - (last.at - first.at).as_secs_f64()).abs() < 0.04, "{media}");
    // And it was never a group of pictures ahead of the sound: what was old was squeezed.
    let whole = f64::from(last.timestamp.wrapping_sub(video[0].timestamp)) / 90e3;
    let real = (last.at - video[0].at).as_secs_f64();
    assert!((whole - real).abs() < 0.3, "{whole} s of picture in {real} s");
}

/// How often each layer was said to be needed since there were so many events.
fn said(scene: &Scene, from: usize) -> Vec<usize> {
    let count = |ssrc: Ssrc| {
        scene.events[from..].iter().filter(|(_, event)| *event == Event::StreamNeeded { ssrc }).count()
    };
    Parent::ssrcs(scene).into_iter().map(count).collect()
}

#[test]
fn it_is_said_each_second_which_layers_are_needed() {
    let (mut scene, mut parent) = low_scene();
    let before = scene.events.len();
    parent.play(&mut scene, Duration::from_secs(10));
    let times = said(&scene, before);
    assert!(times[..2] == [0, 0] && (8..=11).contains(&times[2]), "{times:?}");
    // What a viewer waits for is needed, too.
    scene.publisher.gop = 10_000;
    select(&mut scene, Selection::Layer(0));
    let before = scene.events.len();
    parent.play(&mut scene, Duration::from_secs(5));
    let times = said(&scene, before);
    assert!(times[0] >= 3 && times[1] == 0 && times[2] >= 3, "{times:?}");
    assert_eq!(scene.shard.layer(VIEWER), Some(2));
}

#[test]
fn a_layer_that_is_told_to_be_silent_is_not_gone_to() {
    let (mut scene, mut parent) = low_scene();
    parent.rates = [Bitrate::default(); 3];
    parent.play(&mut scene, Duration::from_secs(5));
    select(&mut scene, Selection::Layer(0));
    parent.play(&mut scene, Duration::from_secs(3));
    assert_eq!(course(&scene), [0, 2]);
    let before = scene.events.len();
    // It is there again: what was chosen is got.
    parent.rates = RATES;
    parent.play(&mut scene, Duration::from_secs(8));
    assert_eq!(course(&scene), [0, 2, 0]);
    assert_eq!(said(&scene, before)[1], 0);
    check(&scene);
}

#[test]
fn viewers_of_the_only_layer_say_nothing() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.count(|event| matches!(event, Event::StreamNeeded { .. })), 0);
}
