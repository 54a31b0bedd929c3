//! Joins, announcements and keyframe requests: who gets what, and for how long.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use link::exchange::*;
use link::wire::message::*;
use model::{Broadcast, BroadcastState, Role, SeqNo, Ssrc};
use support::network::{Conditions, Network, star};
use support::source::{Source, id, key};

fn is_join(message: &Message) -> bool {
    matches!(message, Message::Join(_))
}

fn is_leave(message: &Message) -> bool {
    matches!(message, Message::Leave(_))
}

fn destinations(network: &Network, node: usize) -> usize {
    network.destinations(node, &id("friday"))
}

#[test]
fn everybody_knows_a_broadcast_and_nobody_carries_it_unasked() {
    let mut network = star(2);
    network.publish(0, Source::new("friday", 1));
    network.run_millis(500);
    for node in 0..4 {
        assert!(network.nodes[node].exchange.known(&id("friday")));
        assert!(!network.nodes[node].exchange.known(&id("monday")));
    }
    assert!(network.media.is_empty());
    assert_eq!(network.messages.iter().filter(|sent| is_join(&sent.message)).count(), 0);
}

#[test]
fn a_node_that_connects_later_learns_what_is_known() {
    let mut network = star(0);
    network.publish(0, Source::new("friday", 1));
    network.run_millis(100);
    let late = network.add(Role::Egress);
    network.connect(late, 1);
    network.run_millis(100);
    assert!(network.nodes[late].exchange.known(&id("friday")));
    assert_eq!(network.nodes[late].changed, [Source::new("friday", 1).broadcast]);
}

#[test]
fn a_viewer_may_wait_for_a_broadcast_that_does_not_exist_yet() {
    let mut network = star(1);
    network.want(2, &id("friday"));
    network.run_millis(500);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.run_millis(500);
    assert!(network.delivered(2, source.video).len() > 50);
    assert_eq!(network.missing(2, source.video).iter().filter(|seq_no| seq_no.get() < 65_510).count(), 0);
}

#[test]
fn a_node_says_which_packets_are_to_come_and_whether_anybody_could_send_them() {
    let mut network = star(2);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.run_millis(200);
    let states = |network: &Network| {
        [0, 1, 2, 3].map(|node| {
            let stats = network.stats(node).broadcasts[&id("friday")];
            (stats.is_due, stats.is_offered)
        })
    };
    let idle = (false, true);
    assert_eq!(states(&network), [(true, true), (true, true), (true, true), idle]);

    network.kill(1);
    network.run_millis(1000);
    assert_eq!(states(&network)[2..], [(true, false), (false, false)], "their only parent is silent");

    let waiting = Broadcast { state: BroadcastState::Waiting, ..source.broadcast };
    network.with(0, |exchange, now| exchange.publish_changed(now, waiting)).expect("published");
    assert_eq!(states(&network)[0], idle, "nobody publishes it");
}

#[test]
fn the_last_leave_goes_all_the_way_up() {
    let mut network = star(2);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.want(3, &id("friday"));
    network.run_millis(500);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (1, 2));
    network.with(2, |exchange, now| exchange.want(now, &id("friday"), false));
    network.run_millis(100);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (1, 1));
    network.with(3, |exchange, now| exchange.want(now, &id("friday"), false));
    network.run_millis(100);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (0, 0));
    assert_eq!(network.sent(1, 0, is_leave), 1);
    let sent = network.media.len();
    network.run_millis(500);
    assert_eq!(network.media.len(), sent);
    assert_eq!(network.stats(1).broadcasts[&id("friday")].video.ring_packets, 0);

    network.want(2, &id("friday"));
    network.run_millis(200);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (1, 1));
}

#[test]
fn a_silent_child_is_forgotten_after_five_seconds_and_a_refreshing_one_is_not() {
    let mut network = star(2);
    network.publish(0, Source::new("friday", 1));
    network.want(2, &id("friday"));
    network.want(3, &id("friday"));
    network.run_millis(500);
    network.kill(2);
    network.run_millis(4000);
    assert_eq!(destinations(&network, 1), 2);
    network.run_millis(3000);
    assert_eq!(destinations(&network, 1), 1);
    network.kill(3);
    network.run_millis(7000);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (0, 0));
}

#[test]
fn a_disconnected_child_is_forgotten_at_once() {
    let mut network = star(0);
    let egress = network.add(Role::Egress);
    let channel = network.connect(egress, 1);
    network.publish(0, Source::new("friday", 1));
    network.want(egress, &id("friday"));
    network.run_millis(500);
    assert_eq!(destinations(&network, 1), 1);
    network.disconnect(channel);
    network.run_millis(100);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (0, 0));
    // And it comes back by itself when the channel does.
    network.connect(egress, 1);
    network.run_millis(200);
    assert_eq!((destinations(&network, 0), destinations(&network, 1)), (1, 1));
}

#[test]
fn sixty_four_children_get_the_same_ciphertext_from_one_list() {
    let mut network = star(64);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    for child in 2..66 {
        network.want(child, &id("friday"));
    }
    network.run_millis(1000);
    let from = network.media.len();
    network.run_millis(200);
    let sealed: Vec<_> =
        network.media[from..].iter().filter(|sent| sent.from == 0).map(|sent| &sent.wire).collect();
    let forwarded: Vec<_> = network.media[from..].iter().filter(|sent| sent.from == 1).collect();
    assert!(forwarded.len() > 40);
    let mut lists: Vec<_> = Vec::new();
    for sent in forwarded {
        assert_eq!(sent.to.as_slice().len(), 64);
        let Destinations::Many(list) = &sent.to else { panic!("one list for all") };
        lists.push(list.clone());
        assert!(
            sealed.contains(&&sent.wire)
                || network.media[..from].iter().any(|earlier| earlier.wire == sent.wire)
        );
    }
    lists.dedup_by(|a, b| Arc::ptr_eq(a, b));
    assert!(lists.len() < 90, "consecutive packets of a stream share one list");
    for child in [2, 40, 65] {
        assert_eq!(
            network.missing(child, source.video).iter().filter(|seq_no| seq_no.get() < 65_700).count(),
            0
        );
    }
    assert_eq!(network.sent(1, 0, is_join), 1 + 1, "64 joins below are one join above, and its refresh");
}

#[test]
fn a_thousand_keyframe_requests_cost_one_upstream() {
    let mut network = star(10);
    let source = Source { keyframe_interval: 10_000, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    for child in 2..12 {
        network.want(child, &id("friday"));
    }
    network.run_millis(1000);
    for _ in 0..100 {
        for child in 2..12 {
            network.with(child, |exchange, now| exchange.request_keyframe(now, source.video));
        }
    }
    network.run_millis(100);
    assert_eq!(network.nodes[0].keyframes_wanted, [source.video]);
    assert_eq!(network.sent(1, 0, |m| matches!(m, Message::KeyframeRequest(_))), 1);
    let relay = network.stats(1).broadcasts[&id("friday")].video;
    assert_eq!((relay.keyframe_requests_received, relay.keyframe_requests_forwarded), (10, 1));
    let requested: u64 =
        (2..12).map(|n| network.stats(n).broadcasts[&id("friday")].video.keyframe_requests_received).sum();
    assert_eq!(requested, 1000);
    // No keyframe came: what waited is asked once more after the interval, not a thousand times.
    network.run_millis(600);
    assert!(network.nodes[0].keyframes_wanted.len() <= 2, "{:?}", network.nodes[0].keyframes_wanted);
}

#[test]
fn a_parent_that_is_full_sends_the_child_to_the_next_one() {
    let mut network = Network::new(1, Conditions::PERFECT);
    network.add(Role::Injection);
    network.add_with(Role::Relay, |config| config.joins_max = 1);
    network.add(Role::Relay);
    network.connect(1, 0);
    network.connect(2, 0);
    let egress = [network.add(Role::Egress), network.add(Role::Egress)];
    for child in egress {
        network.connect(child, 1);
        network.connect(child, 2);
    }
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.run_millis(100);
    for child in egress {
        network.want(child, &id("friday"));
        network.run_millis(500);
        assert!(network.delivered(child, source.video).len() > 50);
    }
    assert_eq!((destinations(&network, 1), destinations(&network, 2)), (1, 1));
}

#[test]
fn a_packet_that_one_parent_cannot_give_is_asked_from_the_other() {
    let mut network = Network::new(1, Conditions::PERFECT);
    for role in [Role::Injection, Role::Relay, Role::Relay] {
        network.add(role);
    }
    let egress = network.add_with(Role::Egress, |config| config.parents_active = 2);
    for (child, parent) in [(1, 0), (2, 0), (egress, 1), (egress, 2)] {
        network.connect(child, parent);
    }
    let mut source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(egress, &id("friday"));
    network.run_millis(1000);
    // The publisher has lost some: nobody in the tree can give them.
    network.stop_publishing();
    source.next = source.next.map(|seq_no| seq_no.plus(300));
    network.publish(0, source.clone());
    network.run_millis(3000);
    let video = network.stats(egress).broadcasts[&id("friday")].video;
    assert!(video.lost > 50, "given up in the end: {video:?}");
    let mut asked = std::collections::BTreeMap::<SeqNo, Vec<usize>>::new();
    for sent in network.messages.iter().filter(|sent| sent.from == egress) {
        if let Message::Nack(nack) = &sent.message {
            nack.seq_nos.iter().for_each(|seq_no| asked.entry(*seq_no).or_default().push(sent.to));
        }
    }
    let again: Vec<_> = asked.values().filter(|parents| parents.len() > 1).collect();
    assert!(!again.is_empty());
    assert!(again.iter().all(|parents| parents.windows(2).all(|pair| pair[0] != pair[1])), "{again:?}");
    let first: Vec<_> = asked.values().map(|parents| parents[0]).collect();
    assert!(first.contains(&1) && first.contains(&2), "the first question goes to both in turn");
}

#[test]
fn a_node_that_is_told_to_take_from_more_or_fewer_parents_does_so_at_once_and_misses_nothing() {
    let mut network = Network::new(1, Conditions::PERFECT);
    for role in [Role::Injection, Role::Relay, Role::Relay, Role::Egress] {
        network.add(role);
    }
    for (child, parent) in [(1, 0), (2, 0), (3, 1), (3, 2)] {
        network.connect(child, parent);
    }
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(1000);
    for (count, parents) in [(2, 2), (1, 1), (2, 2), (0, 1)] {
        network.with(3, |exchange, now| exchange.set_parents_active(now, count));
        assert_eq!(network.stats(3).broadcasts[&id("friday")].parents, parents, "{count}");
        network.run_millis(500);
    }
    network.stop_publishing();
    network.run_millis(500);
    assert_eq!(network.missing(3, source.video), []);
}

#[test]
fn a_description_of_an_older_run_is_ignored() {
    let mut network = star(1);
    let new = Source::new("friday", 2).broadcast;
    network.with(0, |exchange, now| exchange.publish_changed(now, new.clone())).expect("published");
    let old = Source::new("friday", 1).broadcast;
    let refused = network.with(0, |exchange, now| exchange.publish_changed(now, old.clone()));
    let (known, published) = (new.epoch, old.epoch);
    assert_eq!(refused, Err(PublishError::Stale { broadcast: id("friday"), published, known }));
    network.run_millis(100);
    assert_eq!(network.nodes[2].exchange.broadcast(&id("friday")), Some(&new));
}

#[test]
fn the_later_run_wins_wherever_it_is_published() {
    let mut network = Network::new(1, Conditions::PERFECT);
    for role in [Role::Injection, Role::Injection] {
        network.add(role);
    }
    network.add(Role::Egress);
    network.connect(2, 0);
    network.connect(2, 1);
    let old = Source::new("friday", 1);
    network.publish(0, old.clone());
    network.want(2, &id("friday"));
    network.run_millis(1000);
    assert!(network.delivered(2, old.video).len() > 100);
    // The backup takes over with a key of its own while the first one goes on.
    network.with(1, |exchange, now| exchange.begin_generation(now, key(9)));
    let new = Source::new("friday", 2);
    network.publish(1, new.clone());
    network.run_millis(2000);
    assert!(
        network.delivered(2, new.video).len() > 200,
        "the child moves to the parent that has the later run"
    );
    assert!(network.delivered(2, old.video).len() < 330);
    assert_eq!(network.nodes[2].exchange.broadcast(&id("friday")), Some(&new.broadcast));
}

#[test]
fn a_retired_broadcast_is_gone_everywhere() {
    let mut network = star(1);
    network.publish(0, Source::new("friday", 1));
    network.want(2, &id("friday"));
    network.run_millis(500);
    network.stop_publishing();
    network.with(0, |exchange, _| exchange.publish_retired(&id("friday")));
    network.run_millis(100);
    for node in 0..3 {
        assert!(!network.nodes[node].exchange.known(&id("friday")));
        assert_eq!(network.nodes[node].retired, [id("friday")]);
        assert!(network.stats(node).broadcasts.is_empty());
    }
    // The viewer still waits; a later run finds it.
    let again = Source::new("friday", 2);
    network.publish(0, again.clone());
    network.run_millis(300);
    assert!(!network.delivered(2, again.video).is_empty());
}

#[test]
fn a_broadcast_without_parents_stays_known_for_a_while() {
    let mut network = star(0);
    let egress = network.add_with(Role::Egress, |config| config.orphan_age_max = Duration::from_secs(10));
    let channel = network.connect(egress, 1);
    network.publish(0, Source::new("friday", 1));
    network.run_millis(500);
    network.disconnect(channel);
    network.run_millis(9000);
    assert!(network.nodes[egress].exchange.known(&id("friday")));
    network.run_millis(3000);
    assert!(!network.nodes[egress].exchange.known(&id("friday")));
}

#[test]
fn a_silent_publisher_is_not_a_dead_parent() {
    let mut network = star(1);
    network.publish(0, Source::new("friday", 1));
    network.want(2, &id("friday"));
    network.run_millis(500);
    network.stop_publishing();
    network.run_millis(5000);
    assert!(!network.nodes[2].events.iter().any(|(_, event)| matches!(event, Event::ParentSilent(_))));
    assert!(network.stats(2).parents[&ParentId::new(1)].is_alive);
}

#[test]
fn a_change_of_state_reaches_everybody() {
    let mut network = star(1);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.run_millis(100);
    let waiting = Broadcast { state: BroadcastState::Waiting, ..source.broadcast.clone() };
    network.with(0, |exchange, now| exchange.publish_changed(now, waiting.clone())).expect("published");
    network.run_millis(100);
    assert_eq!(network.nodes[2].changed, [source.broadcast, waiting]);
}

#[test]
fn a_child_that_moves_gets_its_media_at_the_new_address() {
    let mut network = star(0);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    let child = network.add(Role::Egress);
    let (_, down) = network.connect(child, 1);
    network.run_millis(100);
    network.want(child, &id("friday"));
    network.run_millis(500);
    let moved = SocketAddr::from(([10, 9, 9, 9], 1));
    network.nodes[child].address = moved;
    network.with(1, |exchange, _| exchange.peer_moved(down, moved));
    let before = network.delivered(child, source.video).len();
    network.run_millis(500);
    assert!(network.delivered(child, source.video).len() > before + 90);
}

#[test]
fn reports_tell_the_parent_how_the_link_does() {
    let mut network = star(1);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.run_millis(3500);
    let child = network.stats(1).children.into_values().next().expect("a child");
    assert_eq!((child.joined, child.node.map(|node| node.to_string())), (1, Some("egress-2".into())));
    assert!(child.report.received > 500, "{:?}", child.report);
    assert_eq!(child.report.lost, 0);
    assert!(child.round_trip.is_some_and(|rtt| rtt >= Duration::from_millis(10)));
    let unknown = Ssrc::new(1);
    network.with(2, |exchange, now| exchange.request_keyframe(now, unknown));
    assert_eq!(network.drops(2, DropReason::UnknownStream), 1);
}

#[test]
fn a_parent_taken_out_of_the_configuration_is_left_for_the_next_one() {
    let mut network = star(0);
    let second = network.add(Role::Relay);
    network.connect(second, 0);
    let egress = network.add(Role::Egress);
    network.connect(egress, 1);
    network.connect(egress, second);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(egress, &id("friday"));
    network.run_millis(1000);
    assert_eq!((destinations(&network, 1), destinations(&network, second)), (1, 0));
    network.with(egress, |exchange, now| exchange.remove_parent(now, ParentId::new(1)));
    network.run_millis(1000);
    assert_eq!(network.nodes[egress].disconnects, [DisconnectReason::Removed]);
    assert_eq!((destinations(&network, 1), destinations(&network, second)), (0, 1));
    network.stop_publishing();
    network.run_millis(2000);
    assert_eq!(network.missing(egress, source.video), []);
}

#[test]
fn a_node_without_local_delivery_keeps_and_forwards_only() {
    let mut network = star(0);
    let egress = network.add(Role::Egress);
    network.connect(egress, 1);
    network.with(egress, |exchange, _| exchange.set_local_delivery(false));
    network.publish(0, Source::new("friday", 1));
    network.want(egress, &id("friday"));
    network.run_millis(500);
    assert!(network.nodes[egress].delivered.is_empty());
    assert!(network.stats(egress).broadcasts[&id("friday")].video.ring_packets > 50);
}
