//! Layers of a picture cross a link only where somebody below needs them.

mod support;

use std::time::{Duration, Instant};

use link::exchange::{DropReason, Event, PeerId, UNWATCHED_MAX};
use link::wire::media::Header;
use link::wire::message::{Join, JoinAnswer, Message, Nack};
use model::{Role, Ssrc};
use support::network::{Conditions, Network, star};
use support::source::{Source, id};

/// After this everything that nobody needs is left out, all the way up.
const SETTLED: Duration = UNWATCHED_MAX.saturating_add(Duration::from_secs(3));

/// Viewers at a node need these layers, by place.
fn needs(network: &mut Network, node: usize, source: &Source, places: &[usize]) {
    network.needs.insert(node, places.iter().map(|place| source.layers()[*place]).collect());
}

/// Viewers come to a node.
fn watch(network: &mut Network, node: usize, source: &Source, places: &[usize]) {
    needs(network, node, source, places);
    network.want(node, &id("friday"));
}

/// Injection node, relay, and an egress node whose viewers need one layer; with what the relay calls that egress node.
fn below_the_relay(place: usize) -> (Network, usize, PeerId, Source) {
    let mut network = star(0);
    let egress = network.add(Role::Egress);
    let (_, down) = network.connect(egress, 1);
    network.run_millis(100);
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, egress, &source, &[place]);
    (network, egress, down, source)
}

/// Which layers went from one node to another since `from`, by place, and whether there was sound.
fn crossed(network: &Network, link: (usize, usize), source: &Source, from: usize) -> (Vec<usize>, bool) {
    let address = network.nodes[link.1].address;
    let sent = network.media[from..].iter().filter(|sent| sent.from == link.0);
    let sent = sent.filter(|sent| sent.to.as_slice().contains(&address));
    let ssrcs: Vec<_> = sent.map(|sent| Header::parse(&sent.wire).expect("a header").ssrc).collect();
    let layers = source.layers();
    let places = (0..layers.len()).filter(|place| ssrcs.contains(&layers[*place]));
    (places.collect(), ssrcs.contains(&source.audio))
}

/// What crosses a link from now on for a while.
fn crossing(network: &mut Network, link: (usize, usize), source: &Source) -> (Vec<usize>, bool) {
    let from = network.media.len();
    network.run_millis(1500);
    crossed(network, link, source, from)
}

fn without(network: &Network, child: usize, parent: usize) -> Option<Vec<Ssrc>> {
    let sent = network.messages.iter().filter(|sent| (sent.from, sent.to) == (child, parent));
    let mut joins = sent.filter_map(|sent| match &sent.message {
        Message::Join(join) => Some(join.without.clone()),
        _ => None,
    });
    joins.next_back()
}

fn streams(network: &Network, node: usize) -> usize {
    network.stats(node).broadcasts[&id("friday")].streams
}

/// A stream that a node delivers again since a moment began with a keyframe, and all that followed has come.
fn check_begun(network: &Network, node: usize, ssrc: Ssrc, since: Instant) {
    let delivered = network.delivered(node, ssrc);
    let late = || delivered.iter().filter(|(_, (at, _))| *at >= since);
    let (first, (_, packet)) = late().next().expect("it has come");
    assert!(packet.starts_keyframe, "it begins with {first:?}, within a picture");
    let (last, _) = late().next_back().expect("it has come");
    let published = network.published.iter().filter(|packet| packet.ssrc == ssrc);
    let numbers = published.map(|packet| packet.seq_no).filter(|seq_no| (first..=last).contains(&seq_no));
    let missing: Vec<_> = numbers.filter(|seq_no| !delivered.contains_key(seq_no)).collect();
    assert_eq!(missing, []);
}

#[test]
fn a_layer_that_nobody_needs_leaves_the_whole_tree() {
    let mut network = star(2);
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 2, &source, &[2]);
    watch(&mut network, 3, &source, &[2]);
    network.run_millis(2000);
    let all = (vec![0, 1, 2], true);
    assert_eq!(crossing(&mut network, (0, 1), &source), all, "viewers may still choose");
    network.run(SETTLED);
    let from = network.media.len();
    network.run_millis(1500);
    for link in [(0, 1), (1, 2), (1, 3)] {
        assert_eq!(crossed(&network, link, &source, from), (vec![2], true), "{link:?}");
    }
    assert_eq!([1, 2, 3].map(|node| streams(&network, node)), [2; 3]);
    assert_eq!(streams(&network, 0), 4, "the publisher sends them");
    assert_eq!(network.stats(1).broadcasts[&id("friday")].video.lost, 0);
    // Viewers are told how much there would be.
    let told = &network.nodes[2].left_out;
    let layers: Vec<_> = told.iter().map(|(ssrc, _)| *ssrc).collect();
    assert_eq!(layers, source.layers()[..2]);
    let megabits = [1.79, 0.79].map(|megabits: f64| megabits * 1e6);
    for ((_, rate), expected) in told.iter().zip(megabits) {
        let off = (rate.as_bps() as f64 / expected - 1.0).abs();
        assert!(off < 0.1, "{rate} of {expected}");
    }
}

#[test]
fn a_layer_comes_back_from_its_newest_keyframe_on_and_goes_again() {
    let mut network = star(2);
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 2, &source, &[2]);
    watch(&mut network, 3, &source, &[1]);
    network.run(SETTLED);
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![1, 2], true), "what one of the two needs");
    assert_eq!(crossing(&mut network, (1, 3), &source), (vec![1], true));

    let since = network.now;
    network.with(2, |exchange, now| exchange.need(now, source.video));
    needs(&mut network, 2, &source, &[0]);
    network.run_millis(100);
    let begun = network.delivered(2, source.video).values().filter(|(at, _)| *at >= since).count();
    assert!(begun > 12, "a ring had a keyframe: {begun}");
    network.run(SETTLED);
    check_begun(&network, 2, source.video, since);
    let video = network.stats(2).broadcasts[&id("friday")].video;
    assert_eq!((video.lost, video.nacked), (0, 0), "what came before was never missing");
    assert_eq!(crossing(&mut network, (1, 2), &source).0, [0]);

    needs(&mut network, 2, &source, &[2]);
    network.run(SETTLED);
    assert_eq!(crossing(&mut network, (1, 2), &source), (vec![2], true));
    assert_eq!(crossing(&mut network, (0, 1), &source).0, [1, 2]);
}

#[test]
fn a_layer_that_comes_back_is_whole_whatever_the_links_lose() {
    for seed in 0..30 {
        let mut network = Network::new(seed, Conditions::BAD);
        network.allows_repeats = true;
        for role in [Role::Injection, Role::Relay, Role::Relay, Role::Egress] {
            network.add(role);
        }
        (1..4).for_each(|child| _ = network.connect(child, child - 1));
        // Media comes before the messages that explain it.
        network.reliable_lag = Duration::from_millis(20 * (seed % 3));
        let source = Source::layered("friday", 1);
        network.publish(0, source.clone());
        watch(&mut network, 3, &source, &[2]);
        network.run(SETTLED);
        assert_eq!(streams(&network, 3), 2, "seed {seed}");
        let before = network.stats(3).broadcasts[&id("friday")].video.lost;
        let since = network.now;
        needs(&mut network, 3, &source, &[0, 2]);
        network.run_millis(5000);
        network.stop_publishing();
        network.run_millis(3000);
        check_begun(&network, 3, source.video, since);
        assert_eq!(network.missing(3, source.layers()[2]), [], "seed {seed}");
        assert_eq!(network.stats(3).broadcasts[&id("friday")].video.lost, before, "seed {seed}");
    }
}

#[test]
fn who_changes_his_mind_each_second_changes_nothing_in_the_tree() {
    let mut network = star(1);
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 2, &source, &[0]);
    network.run(SETTLED);
    let joins = |network: &Network| network.sent(2, 1, |message| matches!(message, Message::Join(_)));
    let before = joins(&network);
    for second in 0..30 {
        needs(&mut network, 2, &source, &[second % 2]);
        network.run_millis(1000);
    }
    let said = joins(&network) - before;
    assert!((29..=32).contains(&said), "one for the second layer, beside those of each second: {said}");
    assert_eq!(streams(&network, 2), 3);
}

#[test]
fn a_new_publishing_run_comes_whole_until_it_is_known_who_needs_what() {
    let mut network = star(1);
    let old = Source::layered("friday", 1);
    network.publish(0, old.clone());
    watch(&mut network, 2, &old, &[2]);
    network.run(SETTLED);
    network.stop_publishing();
    let new = Source::layered("friday", 2);
    let since = network.now;
    network.publish(0, new.clone());
    needs(&mut network, 2, &new, &[2]);
    network.run_millis(1000);
    for ssrc in new.layers() {
        let first = network.delivered(2, ssrc).into_values().map(|(at, _)| at).min().expect("it comes");
        assert!(first < since + Duration::from_millis(40), "nobody was asked first");
    }
    network.run(SETTLED);
    assert_eq!(crossing(&mut network, (0, 1), &new), (vec![2], true));
}

#[test]
fn a_parent_that_tells_no_rates_is_asked_for_everything() {
    let mut network = star(1);
    network.tells_no_rates = true;
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 2, &source, &[2]);
    network.run(SETTLED);
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![0, 1, 2], true));
    assert_eq!(without(&network, 2, 1), Some(Vec::new()));
    // One that is upgraded tells them, and one that is downgraded does not any more.
    network.tells_no_rates = false;
    network.run_millis(4000);
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![2], true));
    network.tells_no_rates = true;
    network.run_millis(8000);
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![0, 1, 2], true));
}

/// A child of an earlier version: it joins without a word about layers.
#[test]
fn a_child_that_names_no_layers_gets_all_and_others_still_only_theirs() {
    let mut network = star(2);
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 2, &source, &[2]);
    network.run(SETTLED);
    // It needs everything, from the first moment on.
    watch(&mut network, 3, &source, &[0, 1, 2]);
    let since = network.now;
    network.run_millis(3000);
    assert_eq!(without(&network, 3, 1), Some(Vec::new()));
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![0, 1, 2], true));
    assert_eq!(crossing(&mut network, (1, 2), &source), (vec![2], true));
    network.stop_publishing();
    network.run_millis(1000);
    for ssrc in source.layers() {
        check_begun(&network, 3, ssrc, since);
    }
}

#[test]
fn another_parent_is_told_at_once_what_is_needed() {
    let mut network = Network::new(1, Conditions::PERFECT);
    network.allows_repeats = true;
    for role in [Role::Injection, Role::Relay, Role::Relay, Role::Egress] {
        network.add(role);
    }
    for (child, parent) in [(1, 0), (2, 0), (3, 1), (3, 2)] {
        network.connect(child, parent);
    }
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 3, &source, &[2]);
    network.run(SETTLED);
    network.kill(1);
    let from = network.media.len();
    network.run_millis(3000);
    let has_moved = |(_, event): &(_, Event)| matches!(event, Event::ParentSilent(_));
    assert!(network.nodes[3].events.iter().any(has_moved));
    assert_eq!(crossed(&network, (2, 3), &source, from), (vec![2], true), "the set went with the join");
    network.stop_publishing();
    network.run_millis(2000);
    assert_eq!(network.missing(3, source.layers()[2]), []);
}

#[test]
fn two_parents_send_the_same_layers_and_losing_one_costs_no_packet() {
    let mut network = Network::new(1, Conditions::PERFECT);
    for role in [Role::Injection, Role::Relay, Role::Relay] {
        network.add(role);
    }
    network.add_with(Role::Egress, |config| config.parents_active = 2);
    for (child, parent) in [(1, 0), (2, 0), (3, 1), (3, 2)] {
        network.connect(child, parent);
    }
    let source = Source::layered("friday", 1);
    network.publish(0, source.clone());
    watch(&mut network, 3, &source, &[2]);
    network.run(SETTLED);
    for link in [(1, 3), (2, 3)] {
        assert_eq!(crossing(&mut network, link, &source), (vec![2], true), "{link:?}");
    }
    let since = network.now;
    needs(&mut network, 3, &source, &[0]);
    network.run_millis(3000);
    network.kill(2);
    network.run_millis(3000);
    network.stop_publishing();
    network.run_millis(2000);
    check_begun(&network, 3, source.video, since);
    assert_eq!(network.stats(3).broadcasts[&id("friday")].video.lost, 0);
}

#[test]
fn nothing_is_repaired_that_was_not_asked_for() {
    let (mut network, _egress, down, source) = below_the_relay(2);
    network.run(SETTLED);
    // The relay has all layers, because of somebody else.
    let other = network.add(Role::Egress);
    network.connect(other, 1);
    network.run_millis(100);
    watch(&mut network, other, &source, &[0, 1, 2]);
    network.run_millis(1000);
    let held = *network.delivered(other, source.video).keys().last().expect("it comes");
    let refused = network.drops(1, DropReason::NotJoined);
    let resent = |network: &Network| network.stats(1).broadcasts[&id("friday")].video.resent;
    let before = resent(&network);
    let nack = Message::Nack(Nack { ssrc: source.video, seq_nos: vec![held] });
    network.with(1, |exchange, now| exchange.message(now, down, nack));
    assert_eq!(network.drops(1, DropReason::NotJoined), refused + 1);
    network.run_millis(3000);
    assert_eq!(resent(&network), before, "no refresh brings the tail of what the child does without");
    // A keyframe may be asked for a moment before the layer itself.
    network.with(1, |exchange, now| exchange.message(now, down, Message::KeyframeRequest(source.video)));
    network.run_millis(100);
    assert_eq!(network.nodes[0].keyframes_wanted, [source.video]);
}

/// A child that turns its mind around with every message costs what its budget of messages allows, and nobody else anything.
#[test]
fn a_child_that_asks_to_and_fro_gets_what_it_asked_for_last() {
    let (mut network, egress, down, source) = below_the_relay(0);
    network.run_millis(1000);
    let join =
        |without| Message::Join(Join { broadcast: id("friday"), resume: vec![], cause: None, without });
    for turn in 0..500 {
        let named = if turn % 2 == 0 { source.layers() } else { vec![Ssrc::new(7); turn % 32] };
        network.with(1, |exchange, now| exchange.message(now, down, join(named)));
    }
    let answers = network.sent(1, egress, |m| matches!(m, Message::JoinAnswer(JoinAnswer { .. })));
    assert!(answers <= 251, "{answers}");
    network.allows_repeats = true;
    let from = network.media.len();
    network.run_millis(500);
    assert_eq!(crossed(&network, (1, egress), &source, from), (vec![0, 1, 2], true));
}

#[test]
fn a_child_gets_nothing_of_a_broadcast_that_it_has_not_joined() {
    let mut network = star(1);
    let (friday, monday) = (Source::layered("friday", 1), Source::layered("monday", 1));
    network.publish(0, friday.clone());
    network.publish(0, monday.clone());
    network.want(2, &id("monday"));
    let child = network.add(Role::Egress);
    let (_, down) = network.connect(child, 1);
    network.run_millis(100);
    network.want(child, &id("friday"));
    network.run_millis(1000);
    let join =
        |without| Message::Join(Join { broadcast: id("friday"), resume: vec![], cause: None, without });
    for without in [monday.layers(), Vec::new()] {
        network.with(1, |exchange, now| exchange.message(now, down, join(without)));
    }
    network.run_millis(1000);
    assert_eq!(crossed(&network, (1, child), &friday, 0), (vec![0, 1, 2], true));
    assert_eq!(crossed(&network, (1, child), &monday, 0), (Vec::new(), false));
}

#[test]
fn a_picture_of_one_layer_always_comes() {
    let mut network = star(1);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.run(SETTLED);
    assert_eq!(crossing(&mut network, (0, 1), &source), (vec![0], true));
    assert_eq!(network.sent(1, 2, |message| matches!(message, Message::Rates(_))), 0);
}
