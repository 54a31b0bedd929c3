//! Every packet reaches every viewer: loss, two parents, dying parents, new runs, new keys.

mod support;

use std::time::Duration;

use link::exchange::{self, DropReason, Event, ParentId};
use link::wire::message::Message;
use model::{JoinName, Role, SeqNo, Ssrc, TraceParent};
use support::network::{Conditions, Network};
use support::source::{KEYFRAME_PACKETS, Source, id, key};

/// injection 0, relays 1 and 2 in a row, egress 3.
fn chain(seed: u64, conditions: Conditions) -> Network {
    let mut network = Network::new(seed, conditions);
    for role in [Role::Injection, Role::Relay, Role::Relay, Role::Egress] {
        network.add(role);
    }
    for child in 1..4 {
        network.connect(child, child - 1);
    }
    network.run_millis(200);
    network
}

/// injection 0, relays 1 and 2 side by side, egress 3 with so many of them at once.
fn diamond(seed: u64, conditions: Conditions, parents_active: usize) -> Network {
    let mut network = Network::new(seed, conditions);
    for role in [Role::Injection, Role::Relay, Role::Relay] {
        network.add(role);
    }
    network.add_with(Role::Egress, |config| config.parents_active = parents_active);
    for (child, parent) in [(1, 0), (2, 0), (3, 1), (3, 2)] {
        network.connect(child, parent);
    }
    network.run_millis(200);
    network
}

fn both(source: &Source) -> [Ssrc; 2] {
    [source.audio, source.video]
}

#[test]
fn a_chain_without_loss_delivers_every_packet_once() {
    let mut network = chain(1, Conditions::PERFECT);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(3000);
    network.stop_publishing();
    network.run_millis(2000);
    for ssrc in both(&source) {
        assert_eq!(network.missing(3, ssrc), []);
        assert!(network.delivered(3, ssrc).len() >= 150);
    }
    let video = network.stats(3).broadcasts[&id("friday")].video;
    assert_eq!((video.lost, video.nacked, video.duplicates), (0, 0, 0));
    assert_eq!(network.stats(1).drops.total(), 0);
}

#[test]
fn who_made_a_node_join_is_told_all_the_way_up() {
    let mut network = chain(1, Conditions::PERFECT);
    network.publish(0, Source::new("friday", 1));
    let span = TraceParent::from_bytes(&[1; TraceParent::BYTES]);
    let cause = Some(JoinName { id: 7, span });
    network.with(3, |exchange, now| exchange.want_as(now, &id("friday"), cause));
    network.run_millis(3000);
    for parent in 0..3 {
        let mut answered_after = Vec::new();
        let events = network.nodes[parent].events.iter();
        let causes: Vec<_> = events
            .filter_map(|(_, event)| match event {
                Event::ChildJoined { child, cause, .. } => Some((child.is_some(), *cause)),
                Event::ChildAnswered { child, cause, after, .. } => {
                    answered_after.push(*after);
                    Some((child.is_some(), *cause))
                }
                _ => None,
            })
            .collect();
        assert_eq!(causes, [(true, cause); 2], "told once at node {parent}, whatever is refreshed");
        // Nodes below the origin wait for their own parents.
        let waits = answered_after.iter().any(|after| !after.is_zero());
        assert_eq!(waits, parent > 0, "node {parent}: {answered_after:?}");
    }
}

#[test]
fn five_percent_loss_on_each_hop_is_repaired_completely() {
    for seed in 0..8 {
        let mut network = chain(seed, Conditions::BAD);
        let source = Source::new("friday", 1);
        network.publish(0, source.clone());
        network.want(3, &id("friday"));
        network.run_millis(10_000);
        network.stop_publishing();
        network.run_millis(4000);
        for ssrc in both(&source) {
            assert_eq!(network.missing(3, ssrc), [], "seed {seed}");
        }
        let stats = network.stats(3);
        let video = stats.broadcasts[&id("friday")].video;
        assert!(video.recovered > 50, "seed {seed}: {video:?}");
        assert_eq!(video.lost, 0, "seed {seed}");
        assert!(
            stats.parents[&ParentId::new(2)].round_trip.is_some_and(|rtt| rtt >= Duration::from_millis(20))
        );
    }
}

#[test]
fn with_two_parents_the_death_of_one_costs_no_packet_and_no_time() {
    for seed in 0..4 {
        let mut network = diamond(seed, Conditions::PERFECT, 2);
        let source = Source::new("friday", 1);
        network.publish(0, source.clone());
        network.want(3, &id("friday"));
        network.run_millis(1000 + 7 * seed);
        network.kill(1);
        network.run_millis(2000);
        network.stop_publishing();
        network.run_millis(2000);
        for ssrc in both(&source) {
            assert_eq!(network.missing(3, ssrc), []);
            let arrivals: Vec<_> = network.delivered(3, ssrc).into_values().map(|(at, _)| at).collect();
            let pause = arrivals.windows(2).map(|pair| pair[1].saturating_duration_since(pair[0])).max();
            assert!(pause.expect("packets") <= Duration::from_millis(25), "{pause:?}");
        }
        assert_eq!(network.stats(3).broadcasts[&id("friday")].video.lost, 0);
    }
}

#[test]
fn a_parent_whose_media_flows_needs_no_heartbeats_and_is_missed_as_soon_without_media() {
    let mut network = chain(1, Conditions::PERFECT);
    network.publish(0, Source::new("friday", 1));
    network.want(3, &id("friday"));
    network.run_millis(2000);
    let heartbeats =
        |network: &Network, from, to| network.sent(from, to, |m| matches!(m, Message::Heartbeat(_)));
    let before = [heartbeats(&network, 2, 3), heartbeats(&network, 3, 2)];
    network.run_millis(10_000);
    let after = [heartbeats(&network, 2, 3), heartbeats(&network, 3, 2)];
    assert!(after.iter().zip(before).all(|(after, before)| (9..=11).contains(&(after - before))));

    // The publisher pauses: now it speaks up again, and nobody takes it for silent.
    network.stop_publishing();
    network.run_millis(5000);
    assert!(heartbeats(&network, 2, 3) - after[0] >= 48);
    assert!(!network.nodes[3].events.iter().any(|(_, event)| matches!(event, Event::ParentSilent(_))));
}

#[test]
fn a_parent_whose_copies_always_come_second_is_not_silent_and_its_death_is_noticed() {
    let mut network = diamond(1, Conditions::PERFECT, 2);
    // Media by way of node 2 is always a hop later.
    let late = network.add(Role::Relay);
    network.connect(late, 2);
    let egress = network.add_with(Role::Egress, |config| config.parents_active = 2);
    network.connect(egress, 1);
    network.connect(egress, late);
    network.publish(0, Source::new("friday", 1));
    network.run_millis(200);
    network.want(egress, &id("friday"));
    network.run_millis(5000);
    let silent = |network: &Network| {
        let events = network.nodes[egress].events.iter();
        events.filter(|(_, event)| matches!(event, Event::ParentSilent(_))).count()
    };
    assert_eq!(silent(&network), 0);
    network.kill(late);
    network.run_millis(400);
    assert_eq!(silent(&network), 1);
}

#[test]
fn two_lossy_parents_repair_each_other() {
    let mut network = diamond(3, Conditions::BAD, 2);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(5000);
    network.stop_publishing();
    network.run_millis(3000);
    for ssrc in both(&source) {
        assert_eq!(network.missing(3, ssrc), []);
    }
    let video = network.stats(3).broadcasts[&id("friday")].video;
    assert!(video.duplicates as usize > network.delivered(3, source.video).len() / 2, "{video:?}");
    assert!(network.sent(3, 1, |m| matches!(m, Message::Nack(_))) > 0);
    assert!(network.sent(3, 2, |m| matches!(m, Message::Nack(_))) > 0);
    let stats = network.stats(3);
    let broadcast = &stats.broadcasts[&id("friday")];
    let both_kinds = |of: fn(&exchange::StreamStats) -> u64| of(&broadcast.audio) + of(&broadcast.video);
    let all_parents = |of: fn(&exchange::ParentStats) -> u64| stats.parents.values().map(of).sum::<u64>();
    assert!(stats.parents.values().all(|parent| parent.duplicates > 0 && parent.recovered > 0), "{stats:?}");
    assert_eq!(all_parents(|parent| parent.packets_received), both_kinds(|stream| stream.packets_received));
    assert_eq!(all_parents(|parent| parent.duplicates), both_kinds(|stream| stream.duplicates));
    assert_eq!(all_parents(|parent| parent.recovered), both_kinds(|stream| stream.recovered));
    assert_eq!(all_parents(|parent| parent.nacked), both_kinds(|stream| stream.nacked));
    let ring_since = broadcast.video.ring_since.expect("the ring holds packets");
    assert!(network.now >= ring_since + Duration::from_secs(3), "nothing has come for so long");
}

#[test]
fn a_dead_relay_is_replaced_by_the_standby_whose_ring_fills_the_gap() {
    for (seed, conditions) in [(1, Conditions::PERFECT), (2, Conditions::BAD)] {
        let mut network = diamond(seed, conditions, 1);
        let source = Source::new("friday", 1);
        network.publish(0, source.clone());
        network.want(3, &id("friday"));
        // Somebody else keeps the standby supplied, as in a real tree.
        let other = network.add(Role::Egress);
        network.connect(other, 2);
        network.run_millis(100);
        network.want(other, &id("friday"));
        network.run_millis(2000);
        assert_eq!(network.stats(3).broadcasts[&id("friday")].parents, 1);
        let killed = network.now;
        network.kill(1);
        network.run_millis(2000);
        network.stop_publishing();
        network.run_millis(3000);
        for ssrc in both(&source) {
            assert_eq!(network.missing(3, ssrc), []);
            let arrivals = network.delivered(3, ssrc);
            let first = arrivals
                .values()
                .map(|(at, _)| *at)
                .filter(|at| *at > killed + Duration::from_millis(20))
                .min();
            let pause = first.expect("packets") - killed;
            assert!(pause <= Duration::from_millis(450), "{pause:?}");
        }
        let silent =
            network.nodes[3].events.iter().find(|(_, event)| matches!(event, Event::ParentSilent(_)));
        let (at, _) = silent.expect("noticed");
        assert!(*at - killed <= Duration::from_millis(300 + 20));
    }
}

#[test]
fn a_standby_without_the_broadcast_gets_it_first_and_the_gap_is_still_bounded() {
    let mut network = diamond(5, Conditions::PERFECT, 1);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(2000);
    network.kill(1);
    network.run_millis(2000);
    network.stop_publishing();
    network.run_millis(2000);
    assert_eq!(network.missing(3, source.video), [], "the current group of pictures closes the gap");
}

#[test]
fn resuming_at_another_parent_sends_only_what_is_missing() {
    let mut network = diamond(5, Conditions::PERFECT, 1);
    let source = Source { keyframe_interval: 1000, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    let other = network.add(Role::Egress);
    network.connect(other, 2);
    network.run_millis(100);
    network.want(other, &id("friday"));
    network.run_millis(5000);
    network.kill(1);
    network.run_millis(310);
    let before = network.stats(3).broadcasts[&id("friday")].video.duplicates;
    network.run_millis(1000);
    let after = network.stats(3).broadcasts[&id("friday")].video.duplicates;
    assert_eq!(network.missing(3, source.video).iter().filter(|s| s.get() < 66_500).count(), 0);
    assert!(after - before < 20, "{} packets came twice", after - before);
}

#[test]
fn the_next_process_has_the_rings_of_the_one_before() {
    let mut network = chain(6, Conditions::PERFECT);
    let source = Source { keyframe_interval: 1000, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    network.run_millis(1000);
    network.stop_publishing();
    network.run_millis(100);
    let mut handover = network.nodes[0].exchange.hand_over().expect("it has a key");
    let whole = handover.packets.len();
    // One that somebody has changed.
    let mut changed = handover.packets[whole / 2].to_vec();
    *changed.last_mut().expect("bytes") ^= 1;
    handover.packets[whole / 2] = changed.into();

    let next = network.add_with(Role::All, |_| {});
    let egress = network.add(Role::Egress);
    network.connect(egress, next);
    network.run_millis(200);
    let broadcast = network.nodes[0].exchange.broadcast(&id("friday")).expect("known").clone();
    network.with(next, |exchange, now| {
        exchange.begin_generation(now, key(2));
        exchange.publish_changed(now, broadcast).expect("taken");
        exchange.take_over(now, handover.clone());
    });
    let kept = &network.nodes[next].delivered;
    assert_eq!(kept.len(), whole - 1, "all but the changed one");
    network.want(egress, &id("friday"));
    network.run_millis(500);
    let video = network.delivered(egress, source.video);
    let first = video.values().next().expect("pictures");
    assert!(first.1.starts_keyframe, "a viewer starts with what the process before had published");
    let sound = network.delivered(egress, source.audio);
    assert_eq!(video.len() + sound.len(), whole - 1);
}

#[test]
fn a_relay_that_begins_anew_gets_what_its_children_lack() {
    let mut network = chain(7, Conditions::PERFECT);
    // A keyframe each 200 ms: the outage has some.
    let source = Source { keyframe_interval: 10, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(2000);
    network.kill(2);
    network.run_millis(700);
    let again = network.add(Role::Relay);
    network.connect(again, 1);
    network.connect(3, again);
    network.run_millis(2000);
    network.stop_publishing();
    network.run_millis(2000);
    for ssrc in both(&source) {
        assert_eq!(network.missing(3, ssrc), [], "from before the newest keyframe, too");
    }
}

#[test]
fn an_egress_that_begins_anew_gets_what_its_viewers_lack() {
    let mut network = chain(8, Conditions::PERFECT);
    let source = Source { keyframe_interval: 10, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(2000);
    let newest =
        both(&source).map(|ssrc| (ssrc, *network.delivered(3, ssrc).keys().next_back().expect("packets")));
    network.kill(3);
    network.run_millis(700);
    let again = network.add(Role::Egress);
    network.with(again, |exchange, _| {
        newest.iter().for_each(|(ssrc, newest)| exchange.viewers_have(*ssrc, *newest));
    });
    network.connect(again, 2);
    network.run_millis(200);
    network.want(again, &id("friday"));
    network.run_millis(1000);
    network.stop_publishing();
    network.run_millis(2000);
    for (ssrc, newest) in newest {
        let first = *network.delivered(again, ssrc).keys().next().expect("packets");
        assert_eq!(first, newest.plus(1), "from before the newest keyframe, too");
        assert_eq!(network.missing(again, ssrc), []);
    }
}

#[test]
fn what_viewers_lacked_once_is_not_asked_for_again() {
    let mut network = chain(9, Conditions::PERFECT);
    network.allows_repeats = true;
    let source = Source { keyframe_interval: 10, ..Source::new("friday", 1) };
    network.publish(0, source.clone());
    // Somebody else keeps the ring of the parent full.
    let other = network.add(Role::Egress);
    network.connect(other, 2);
    network.run_millis(200);
    network.want(other, &id("friday"));
    network.run_millis(1000);
    let newest = *network.delivered(other, source.video).keys().next_back().expect("pictures");
    let held = SeqNo::new(newest.get() - 70);
    network.with(3, |exchange, _| exchange.viewers_have(source.video, held));
    network.want(3, &id("friday"));
    network.run_millis(500);
    assert_eq!(network.delivered(3, source.video).keys().next(), Some(&held.plus(1)));
    network.with(3, |exchange, now| exchange.want(now, &id("friday"), false));
    network.run_millis(500);
    network.nodes[3].delivered.clear();
    network.want(3, &id("friday"));
    network.run_millis(500);
    let video = network.delivered(3, source.video);
    let (_, first) = video.values().next().expect("pictures");
    assert!(first.starts_keyframe, "whoever comes later begins with a keyframe, not at {:?}", first.seq_no);
}

#[test]
fn a_new_child_starts_with_the_current_group_of_pictures() {
    let mut network = chain(4, Conditions::PERFECT);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.run_millis(1900);
    network.want(3, &id("friday"));
    network.run_millis(150);
    let video = network.delivered(3, source.video);
    let (_, first) = video.values().next().expect("pictures");
    assert!(first.starts_keyframe);
    let (_, sound) = network.delivered(3, source.audio).into_values().next().expect("sound");
    assert_eq!(sound.capture_time, first.capture_time);
    network.run_millis(500);
    network.stop_publishing();
    network.run_millis(2000);
    assert_eq!(network.missing(3, source.video), []);
    let in_order: Vec<_> =
        network.nodes[3].delivered.iter().map(|(_, p)| p).filter(|p| p.ssrc == source.video).collect();
    assert!(in_order.is_sorted_by_key(|packet| packet.seq_no), "replay and live do not overtake each other");
}

#[test]
fn the_first_packets_of_a_replay_may_be_lost_and_are_asked_for() {
    for seed in 0..20 {
        let mut network = chain(seed, Conditions { loss: 0.3, ..Conditions::BAD });
        let source = Source { keyframe_interval: 1000, ..Source::new("friday", 1) };
        network.publish(0, source.clone());
        network.run_millis(1000);
        network.want(3, &id("friday"));
        network.run_millis(3000);
        let first = network.delivered(3, source.video).into_values().next().expect("pictures").1;
        assert!(first.starts_keyframe, "seed {seed}: starts at {:?}", first.seq_no);
    }
}

#[test]
fn the_last_packets_before_a_pause_are_repaired_at_the_next_refresh() {
    let mut network = chain(9, Conditions::PERFECT);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(3, &id("friday"));
    network.run_millis(1000);
    network.conditions.loss = 1.0;
    network.run_millis(40);
    network.conditions.loss = 0.0;
    network.stop_publishing();
    assert!(!network.missing(3, source.video).is_empty());
    network.run_millis(6000);
    assert_eq!(network.missing(3, source.video), []);
}

#[test]
fn a_new_publishing_run_takes_over_and_packets_of_the_old_one_are_dropped() {
    let mut network = chain(11, Conditions::PERFECT);
    let old = Source::new("friday", 1);
    network.publish(0, old.clone());
    network.want(3, &id("friday"));
    network.run_millis(1000);
    network.stop_publishing();
    let new = Source::new("friday", 2);
    network.publish(0, new.clone());
    network.run_millis(1000);
    assert_eq!(network.missing(3, new.video).iter().filter(|seq_no| seq_no.get() < 65_600).count(), 0);
    let first = network.delivered(3, new.video).into_values().next().expect("pictures").1;
    assert!(first.starts_keyframe, "the first keyframe waits for the announcement that it overtook");
    assert_eq!(network.nodes[3].changed.last(), Some(&new.broadcast));

    let late = network.published.iter().find(|packet| packet.ssrc == old.video).expect("published").clone();
    network.with(0, |exchange, now| exchange.published(now, late));
    assert_eq!(network.drops(0, DropReason::OldEpoch), 1);
    let wire = network.media.iter().find(|media| media.from == 2).expect("sent").wire.clone();
    let relay = network.nodes[2].address;
    network.with(3, |exchange, now| exchange.media(now, relay, &wire));
    assert_eq!(network.drops(3, DropReason::OldEpoch), 1);
}

#[test]
fn a_new_key_generation_costs_no_packet_and_late_joiners_open_the_older_one_too() {
    for conditions in [Conditions::PERFECT, Conditions::BAD] {
        let mut network = chain(12, conditions);
        let source = Source { keyframe_interval: 1000, ..Source::new("friday", 1) };
        network.publish(0, source.clone());
        network.want(3, &id("friday"));
        network.run_millis(1000);
        network.with(0, |exchange, now| exchange.begin_generation(now, key(2)));
        network.run_millis(1000);
        let late = network.add(Role::Egress);
        network.connect(late, 2);
        network.run_millis(200);
        network.want(late, &id("friday"));
        network.run_millis(2000);
        network.stop_publishing();
        network.run_millis(3000);
        for egress in [3, late] {
            assert_eq!(network.missing(egress, source.video), []);
            let first = network.delivered(egress, source.video).into_values().next().expect("pictures").1;
            assert!(first.starts_keyframe);
        }
        assert_eq!(network.delivered(3, source.video).len(), network.delivered(late, source.video).len());
    }
}

#[test]
fn media_that_overtakes_its_join_answer_announcement_or_key_waits_for_it() {
    let mut network = chain(13, Conditions::PERFECT);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.run_millis(500);
    network.reliable_lag = Duration::from_millis(40);
    network.want(3, &id("friday"));
    network.run_millis(1000);
    assert!(network.delivered(3, source.video).into_values().next().expect("pictures").1.starts_keyframe);
    network.with(0, |exchange, now| exchange.begin_generation(now, key(2)));
    network.run_millis(500);
    network.stop_publishing();
    let next = Source::new("friday", 2);
    network.publish(0, next.clone());
    network.run_millis(500);
    network.stop_publishing();
    network.run_millis(500);
    for ssrc in [source.audio, source.video, next.audio, next.video] {
        assert_eq!(network.missing(3, ssrc), []);
    }
    assert!(network.delivered(3, next.video).into_values().next().expect("pictures").1.starts_keyframe);
    for node in 1..4 {
        let stats = network.stats(node);
        assert_eq!(
            (stats.broadcasts[&id("friday")].video.nacked, stats.drops.total()),
            (0, 0),
            "node {node}"
        );
    }
}

#[test]
fn one_process_with_all_roles_delivers_to_itself() {
    let mut network = Network::new(1, Conditions::PERFECT);
    let all = network.add(Role::All);
    let source = Source::new("friday", 1);
    network.publish(all, source.clone());
    network.run_millis(100);
    assert!(network.delivered(all, source.video).len() >= KEYFRAME_PACKETS);
    assert_eq!(network.missing(all, source.audio), []);
    assert!(network.media.is_empty());
}
