//! Captions and other timed data: who gets them, how often, and how little comes after the fact.

mod support;

use std::time::Duration;

use link::exchange::*;
use link::wire::message::*;
use model::{Broadcast, BroadcastState, Epoch, NtpTime, Role};
use support::network::{Conditions, Network, star};
use support::source::{Source, id};

fn is_cue(message: &Message) -> bool {
    matches!(message, Message::Cue(_))
}

fn captured(network: &Network) -> NtpTime {
    // The network has no wallclock; its beginning is as good as any.
    NtpTime::from_unix(
        Duration::from_secs(1_800_000_000) + Duration::from_millis(network.messages.len() as u64),
    )
}

/// Publishes a cue at node 0.
fn say(network: &mut Network, text: &str) -> bool {
    let at = captured(network);
    network.with(0, |exchange, now| exchange.publish_cue(now, &id("friday"), at, text.into()))
}

fn heard(network: &Network, node: usize) -> Vec<&str> {
    network.nodes[node].cues.iter().map(|cue| &*cue.body).collect()
}

/// Injection 0, relay 1, egress 2, and both ends of the last channel, the child's first.
fn line() -> (Network, PeerId, PeerId) {
    let mut network = star(0);
    let egress = network.add(Role::Egress);
    let (up, down) = network.connect(egress, 1);
    network.run_millis(200);
    (network, up, down)
}

#[test]
fn cues_go_to_those_who_watch_and_to_nobody_else() {
    let mut network = star(3);
    network.publish(0, Source::new("friday", 1));
    network.publish(0, Source::new("monday", 1));
    network.want(2, &id("friday"));
    network.want(3, &id("monday"));
    network.run_millis(200);
    assert!(say(&mut network, "one") && say(&mut network, "two"));
    network.run_millis(100);
    assert_eq!(heard(&network, 2), ["one", "two"]);
    assert!(heard(&network, 3).is_empty() && heard(&network, 4).is_empty());
    assert!(heard(&network, 1).is_empty(), "a relay has no viewers");
    assert_eq!(network.sent(0, 1, is_cue), 2);
    assert_eq!(network.sent(1, 3, is_cue) + network.sent(1, 4, is_cue), 0);
    let numbers: Vec<u64> = network.nodes[2].cues.iter().map(|cue| cue.number).collect();
    assert!(numbers[0] < numbers[1]);
}

#[test]
fn what_comes_from_two_parents_is_told_once() {
    let mut network = Network::new(3, Conditions::BAD);
    network.add(Role::Injection);
    for _ in 0..2 {
        let relay = network.add(Role::Relay);
        network.connect(relay, 0);
    }
    let egress = network.add_with(Role::Egress, |config| config.parents_active = 2);
    network.connect(egress, 1);
    network.connect(egress, 2);
    network.publish(0, Source::new("friday", 1));
    network.want(egress, &id("friday"));
    network.run_millis(1000);
    let words: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for word in &words {
        assert!(say(&mut network, word));
        network.run_millis(20);
    }
    network.run_millis(1000);
    let copies = network.sent(1, egress, is_cue) + network.sent(2, egress, is_cue);
    assert!(copies > words.len(), "{copies}: both parents send them");
    assert_eq!(heard(&network, egress), words);
}

#[test]
fn who_comes_late_gets_the_latest_few_that_are_fresh() {
    let mut network = star(2);
    network.publish(0, Source::new("friday", 1));
    network.want(2, &id("friday"));
    network.run_millis(200);
    assert!(say(&mut network, "old"));
    network.run(CUE_AGE_MAX);
    for number in 0..20 {
        assert!(say(&mut network, &number.to_string()));
    }
    network.run_millis(100);
    network.want(3, &id("friday"));
    network.run_millis(200);
    let latest: Vec<String> = (20 - CUES_KEPT..20).map(|number| number.to_string()).collect();
    assert_eq!(heard(&network, 3), latest);
    network.run(2 * REFRESH_INTERVAL);
    assert_eq!(heard(&network, 3).len(), CUES_KEPT, "a refresh brings nothing again");
}

#[test]
fn cues_belong_to_a_publishing_run() {
    let (mut network, up, _) = line();
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.run_millis(200);
    let waiting = Broadcast { state: BroadcastState::Waiting, ..source.broadcast.clone() };
    network.with(0, |exchange, now| exchange.publish_changed(now, waiting)).expect("published");
    assert!(!say(&mut network, "nobody publishes"));
    network
        .with(0, |exchange, now| exchange.publish_changed(now, Source::new("friday", 2).broadcast))
        .expect("published");
    network.run_millis(200);
    let late = Cue {
        broadcast: id("friday"),
        epoch: Epoch { counter: 1, random: 7 },
        number: u64::MAX,
        captured: NtpTime::from_bits(0),
        body: "of the run before".into(),
    };
    let old = network.drops(2, DropReason::OldEpoch);
    network.with(2, |exchange, now| exchange.message(now, up, Message::Cue(late)));
    assert_eq!(network.drops(2, DropReason::OldEpoch), old + 1);
    assert!(say(&mut network, "of this one"));
    network.run_millis(100);
    assert_eq!(heard(&network, 2), ["of this one"]);
}

#[test]
fn a_child_tells_its_parent_nothing_and_a_parent_that_was_not_asked_is_not_believed() {
    let (mut network, up, down) = line();
    network.publish(0, Source::new("friday", 1));
    network.run_millis(200);
    let cue = || {
        Message::Cue(Cue {
            broadcast: id("friday"),
            epoch: Epoch { counter: 1, random: 7 },
            number: 1,
            captured: NtpTime::from_bits(0),
            body: "made up".into(),
        })
    };
    let unexpected = network.drops(1, DropReason::MessageUnexpected);
    network.with(1, |exchange, now| exchange.message(now, down, cue()));
    assert_eq!(network.drops(1, DropReason::MessageUnexpected), unexpected + 1);
    network.with(2, |exchange, now| exchange.message(now, up, cue()));
    assert_eq!(network.drops(2, DropReason::NotJoined), 1);
    assert!(heard(&network, 2).is_empty());
}
