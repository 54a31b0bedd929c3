//! Trees with a purpose: what the architecture promises, each promise by itself.

use std::time::Duration;

use egress::ViewerId;
use model::{BroadcastId, Codec, Kind, Role};
use sim::{Conditions, NodeIndex, Setup, Tree, publisher, viewer};

fn id() -> BroadcastId {
    BroadcastId::new("friday").expect("a good id")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An injection node and a publisher; time for links to come up is up to the caller.
fn published(seed: u64, conditions: Conditions, style: publisher::Style) -> (Tree, NodeIndex) {
    let mut tree = Tree::new(seed, conditions);
    let injection = tree.add(Setup::new(Role::Injection));
    tree.publish(injection, &id(), style);
    (tree, injection)
}

/// Injection, two relays side by side, one egress that takes from so many of them.
fn diamond(seed: u64, conditions: Conditions, parents_active: usize) -> (Tree, [NodeIndex; 2], NodeIndex) {
    let (mut tree, injection) = published(seed, conditions, publisher::Style::default());
    let relays = [0; 2].map(|_| tree.add(Setup::new(Role::Relay)));
    let egress = tree.add(Setup { parents_active, ..Setup::new(Role::Egress) });
    for relay in relays {
        tree.link(relay, injection);
        tree.link(egress, relay);
    }
    (tree, relays, egress)
}

/// Injection, a few relays, and so many egress nodes below each.
fn wide(
    seed: u64,
    relays: usize,
    egress_per_relay: usize,
    style: publisher::Style,
) -> (Tree, Vec<NodeIndex>) {
    let (mut tree, injection) = published(seed, Conditions::PERFECT, style);
    let mut egress = Vec::new();
    for _ in 0..relays {
        let relay = tree.add(Setup::new(Role::Relay));
        tree.link(relay, injection);
        for _ in 0..egress_per_relay {
            let node = tree.add(Setup::new(Role::Egress));
            tree.link(node, relay);
            egress.push(node);
        }
    }
    (tree, egress)
}

fn join(tree: &mut Tree, node: NodeIndex) -> ViewerId {
    tree.join(node, &id(), viewer::Style::default()).expect("the node is up")
}

/// Nothing of the present run that an egress should have is missing there.
fn assert_nothing_missing(tree: &Tree, node: NodeIndex, seed: u64) {
    let tracks = &tree.broadcast(&id()).expect("published").tracks;
    for ssrc in tracks.iter().flat_map(|track| &track.layers).map(|layer| layer.ssrc) {
        assert_eq!(tree.missing(node, ssrc), [], "seed {seed}: {ssrc} at {node:?}");
        let count = tree.node(node).came.get(&ssrc).expect("some came").count();
        assert!(count > 150, "seed {seed}: only {count} of {ssrc} came");
    }
}

#[test]
fn with_two_parents_the_death_of_one_costs_no_packet_at_the_egress() {
    for (seed, conditions) in (0..8).zip([Conditions::PERFECT, Conditions::LOSSY].into_iter().cycle()) {
        let (mut tree, relays, egress) = diamond(seed, conditions, 2);
        join(&mut tree, egress);
        tree.run(Duration::from_millis(2000 + 13 * seed)).expect("invariants hold");
        tree.crash(relays[seed as usize % 2]);
        tree.run(seconds(3)).expect("invariants hold");
        tree.set_conditions(Conditions::PERFECT);
        tree.run(seconds(2)).expect("invariants hold");
        assert_nothing_missing(&tree, egress, seed);
        tree.check_to_the_end().expect("everything is explained");
        tree.check_everybody_is_live().expect("nobody waits");
    }
}

#[test]
fn with_one_parent_at_a_time_the_other_one_takes_over_within_a_second() {
    for seed in 0..4 {
        let (mut tree, relays, egress) = diamond(seed, Conditions::PERFECT, 1);
        let viewer = join(&mut tree, egress);
        tree.run(seconds(3)).expect("invariants hold");
        tree.crash(relays[0]);
        tree.run(Duration::from_millis(50)).expect("invariants hold");
        let waited = tree.run_until_everybody_is_live(seconds(1)).expect("live again within a second");
        tree.run(seconds(3)).expect("invariants hold");
        assert!(waited <= seconds(1), "{waited:?}");
        assert_nothing_missing(&tree, egress, seed);
        let given_up = tree.viewer(viewer).map(|viewer| viewer.given_up(Kind::Video));
        assert_eq!(given_up, Some(0), "the new parent's ring filled the gap");
    }
}

#[test]
fn a_thousand_wishes_for_a_keyframe_reach_the_publisher_once_per_interval() {
    let style = publisher::Style { answers_requests: false, gop: 10_000, ..publisher::Style::default() };
    let (mut tree, egress) = wide(5, 2, 2, style);
    tree.run(Duration::from_millis(300)).expect("invariants hold");
    for node in &egress {
        (0..50).for_each(|_| assert!(tree.join(*node, &id(), viewer::Style::default()).is_some()));
    }
    tree.run(seconds(2)).expect("invariants hold");
    let injection = tree.nodes()[0].index;
    let before = tree.keyframe_requests(injection);
    let viewers = tree.watching();
    assert_eq!(viewers.len(), 200);
    for _ in 0..5 {
        viewers.iter().for_each(|viewer| tree.wish_keyframe(*viewer));
        tree.run(Duration::from_millis(100)).expect("invariants hold");
    }
    let asked = tree.keyframe_requests(injection) - before;
    assert!((1..=2).contains(&asked), "1000 wishes in half a second became {asked}");
    for node in &egress {
        let upstream = tree.keyframe_requests(*node);
        assert!(upstream <= 3, "{node:?} asked its parent {upstream} times");
    }
}

#[test]
fn a_tree_without_viewers_is_silent_and_wakes_with_the_first() {
    let (mut tree, egress) = wide(6, 2, 2, publisher::Style::default());
    tree.run(seconds(4)).expect("invariants hold");
    let joins = |tree: &Tree| -> usize {
        let stats = tree.nodes().iter().map(|node| node.exchange.stats());
        stats.flat_map(|stats| stats.broadcasts.into_values()).map(|stats| stats.parents).sum()
    };
    assert_eq!(joins(&tree), 0, "nobody asks for what nobody watches");
    let viewer = join(&mut tree, egress[0]);
    tree.run(seconds(1)).expect("invariants hold");
    assert_eq!(joins(&tree), 2, "one way from the injection to the viewer");
    tree.check_everybody_is_live().expect("the first viewer sees it within a second");
    tree.leave(viewer, true);
    tree.run(seconds(4)).expect("invariants hold");
    assert_eq!(joins(&tree), 0);
    for _ in 0..15 {
        tree.run(seconds(1)).expect("invariants hold");
        tree.check().expect("silence");
    }
}

#[test]
fn viewers_go_on_in_their_sessions_when_their_egress_is_killed_amid_its_work() {
    for seed in 0..12 {
        let (mut tree, injection) = published(seed, Conditions::PERFECT, publisher::Style::default());
        let egress = tree.add(Setup::new(Role::Egress));
        tree.link(egress, injection);
        tree.run(seconds(1)).expect("invariants hold");
        let viewers: Vec<_> = (0..5).map(|_| join(&mut tree, egress)).collect();
        tree.run(seconds(3)).expect("invariants hold");
        tree.doom(egress, 3 + 7 * seed as usize);
        tree.run(seconds(1)).expect("invariants hold");
        assert!(!tree.node(egress).is_alive, "it died at output {}", 3 + 7 * seed);
        tree.revive(egress);
        tree.run(Duration::from_millis(1000)).expect("invariants hold");
        tree.run_until_everybody_is_live(seconds(2)).expect("live again");
        tree.run(seconds(2)).expect("invariants hold");
        tree.check_to_the_end().expect("everything is explained");
        assert_eq!(tree.watching(), viewers, "nobody had to join anew");
    }
}

#[test]
fn a_publisher_comes_back_with_the_same_codec_and_with_another() {
    let (mut tree, egress) = wide(8, 1, 2, publisher::Style::default());
    for node in egress {
        join(&mut tree, node);
    }
    tree.run(seconds(2)).expect("invariants hold");
    for codec in [Codec::H264, Codec::Vp8, Codec::Av1, Codec::H264] {
        tree.unpublish(&id());
        tree.run(seconds(3)).expect("invariants hold");
        tree.publish_again(&id(), codec);
        tree.run(seconds(1)).expect("invariants hold");
        tree.check_everybody_is_live().expect("everybody who can decode it sees the new run");
        tree.check_to_the_end().expect("everything is explained");
    }
}

#[test]
fn late_joiners_start_at_once_and_end_live() {
    let style = publisher::Style { gop: 240, ..publisher::Style::default() };
    let (mut tree, egress) = wide(9, 1, 1, style);
    join(&mut tree, egress[0]);
    tree.run(seconds(6)).expect("invariants hold");
    let late = join(&mut tree, egress[0]);
    tree.run(Duration::from_millis(100)).expect("invariants hold");
    let played = tree.viewer(late).expect("joined").played_count(Kind::Video);
    assert!(played >= 1, "a picture at once, six seconds into a group of eight");
    let waited = tree.run_until_everybody_is_live(seconds(3)).expect("caught up at four times the pace");
    assert!(waited > Duration::from_millis(500), "a group of six seconds takes a while: {waited:?}");
    assert_eq!(tree.keyframe_requests(tree.nodes()[0].index), 0, "the cache served it");
}

#[test]
fn twenty_egress_nodes_with_fifty_viewers_each_serve_everybody() {
    let style = publisher::Style { delta_packets_max: 2, ..publisher::Style::default() };
    let (mut tree, egress) = wide(10, 4, 5, style);
    tree.run(Duration::from_millis(300)).expect("invariants hold");
    for (index, node) in (0..50).flat_map(|_| egress.iter().enumerate()) {
        let conditions = if index % 4 == 0 { Conditions::HOME } else { Conditions::PERFECT };
        let style = viewer::Style { conditions, ..viewer::Style::default() };
        tree.join(*node, &id(), style).expect("the node is up");
    }
    for _ in 0..4 {
        tree.run(seconds(1)).expect("invariants hold");
        tree.check().expect("invariants hold");
    }
    assert_eq!(tree.watching().len(), 1000);
    tree.heal();
    tree.run_until_everybody_is_live(seconds(4)).expect("everybody sees it");
    tree.check_to_the_end().expect("everything is explained");
    let injection = &tree.nodes()[0];
    let children = injection.exchange.stats().broadcasts[&id()].destinations;
    assert_eq!(children, 4, "the injection sends each packet once to each relay, whoever watches");
}
