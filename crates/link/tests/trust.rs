//! Who is believed, and how little a mad peer can cost.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use link::exchange::*;
use link::wire::Version;
use link::wire::media::{GroupSealer, TAG_BYTES};
use link::wire::message::*;
use model::{Broadcast, Epoch, NodeId, Role, SeqNo, Ssrc};
use proptest::prelude::*;
use support::messages;
use support::network::{Conditions, Network, star};
use support::source::{Source, id, key};

fn is_join(message: &Message) -> bool {
    matches!(message, Message::Join(_))
}

fn destinations(network: &Network, node: usize) -> usize {
    network.destinations(node, &id("friday"))
}

#[test]
fn a_flood_of_joins_is_bounded_by_rate_and_answered_once() {
    let mut network = star(0);
    network.publish(0, Source::new("friday", 1));
    let child = network.add(Role::Egress);
    let (_, down) = network.connect(child, 1);
    network.run_millis(100);
    network.messages.clear();
    for _ in 0..10_000 {
        let join = Message::Join(Join {
            broadcast: id("friday"),
            resume: Vec::new(),
            cause: None,
            without: Vec::new(),
        });
        network.with(1, |exchange, now| exchange.message(now, down, join));
    }
    assert!(network.drops(1, DropReason::MessageRate) >= 8000);
    network.run_millis(500);
    assert_eq!(network.sent(1, child, |m| matches!(m, Message::JoinAnswer(_))), 1);
    assert_eq!(network.sent(1, 0, is_join), 1);
}

#[test]
fn unknown_broadcasts_are_refused_without_state() {
    let mut network = star(0);
    let child = network.add(Role::Egress);
    let (_, down) = network.connect(child, 1);
    network.run_millis(100);
    for n in 0..100 {
        let join = Message::Join(Join {
            broadcast: id(&format!("no-{n}")),
            resume: Vec::new(),
            cause: None,
            without: Vec::new(),
        });
        network.with(1, |exchange, now| exchange.message(now, down, join));
    }
    assert_eq!(network.sent(1, child, |m| matches!(m, Message::JoinRefused { .. })), 100);
    assert!(network.stats(1).broadcasts.is_empty());
}

#[test]
fn broadcasts_and_children_are_bounded() {
    let mut network = Network::new(1, Conditions::PERFECT);
    network.add(Role::Injection);
    network.add_with(Role::Relay, |config| {
        config.broadcasts_max = 3;
        config.children_max = 2;
    });
    network.connect(1, 0);
    network.run_millis(100);
    for n in 0..5 {
        network.publish(0, Source::new(&format!("b{n}"), 1));
    }
    network.run_millis(100);
    assert_eq!(network.stats(1).broadcasts.len(), 3);
    assert_eq!(network.drops(1, DropReason::BroadcastLimit), 2);
    let address = SocketAddr::from(([10, 9, 9, 9], 1));
    let connect = |exchange: &mut Exchange, now, n| exchange.child_connected(now, PeerId::new(n), address);
    assert_eq!(network.with(1, |exchange, now| connect(exchange, now, 901)), Ok(()));
    assert_eq!(network.with(1, |exchange, now| connect(exchange, now, 902)), Ok(()));
    assert_eq!(
        network.with(1, |exchange, now| connect(exchange, now, 903)),
        Err(TooManyChildren { children_max: 2 })
    );
}

#[test]
fn media_counts_only_from_a_parent_and_only_when_it_verifies() {
    let mut network = star(1);
    let mut source = Source::new("friday", 1);
    network
        .with(0, |exchange, now| exchange.publish_changed(now, source.broadcast.clone()))
        .expect("published");
    network.want(2, &id("friday"));
    network.run_millis(300);
    let packet = source.frame().into_iter().find(|packet| packet.ssrc == source.video).expect("picture");
    let wire = GroupSealer::new(&key(1)).seal(&packet).expect("sealable");
    let relay = network.nodes[1].address;
    let give = |network: &mut Network, from: SocketAddr, wire: &[u8]| {
        network.with(2, |exchange, now| exchange.media(now, from, wire));
    };

    give(&mut network, SocketAddr::from(([6, 6, 6, 6], 6)), &wire);
    assert_eq!(network.drops(2, DropReason::UnknownAddress), 1);
    let mut forged = wire.to_vec();
    let last = forged.len() - TAG_BYTES - 1;
    forged[last] ^= 1;
    give(&mut network, relay, &forged);
    assert_eq!(network.drops(2, DropReason::Forged), 1);
    // Far ahead: neither the ring nor the gaps believe it.
    let mut far = wire.to_vec();
    far[24..28].copy_from_slice(&[0x7f; 4]);
    give(&mut network, relay, &far);
    assert_eq!(network.drops(2, DropReason::Forged), 2);
    give(&mut network, relay, b"\x80hello");
    assert_eq!(network.drops(2, DropReason::Malformed), 1);
    let mut other_version = wire.to_vec();
    other_version[16] = 0x30;
    give(&mut network, relay, &other_version);
    assert_eq!(network.drops(2, DropReason::Version), 1);
    assert!(network.nodes[2].delivered.is_empty());

    give(&mut network, relay, &wire);
    assert_eq!(network.delivered(2, source.video).len(), 1, "the genuine copy is not blocked");
    give(&mut network, relay, &wire);
    give(&mut network, relay, &forged);
    let video = network.stats(2).broadcasts[&id("friday")].video;
    assert_eq!((video.packets_received, video.duplicates, video.nacked), (1, 2, 0));
}

#[test]
fn foreign_media_waits_a_bounded_time_in_bounded_room() {
    let mut network = star(1);
    let mut source = Source::new("friday", 1);
    network
        .with(0, |exchange, now| exchange.publish_changed(now, source.broadcast.clone()))
        .expect("published");
    network.want(2, &id("friday"));
    network.run_millis(300);
    let relay = network.nodes[1].address;
    let foreign = GroupSealer::new(&key(77));
    for _ in 0..2000 {
        for packet in source.frame() {
            let wire = foreign.seal(&packet).expect("sealable");
            network.with(2, |exchange, now| exchange.media(now, relay, &wire));
        }
    }
    assert!(
        (5000..9900).contains(&network.drops(2, DropReason::UnknownGeneration)),
        "some wait, most find no room"
    );
    network.run_millis(4000);
    assert_eq!(network.drops(2, DropReason::UnknownGeneration), 2000 * 5 + 40 * 8);
    assert!(network.nodes[2].delivered.is_empty());
}

#[test]
fn requests_count_only_from_children_that_have_joined() {
    let mut network = star(1);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    network.want(2, &id("friday"));
    network.run_millis(500);
    let stranger = network.add(Role::Egress);
    let (_, down) = network.connect(stranger, 1);
    network.run_millis(100);
    let sent = network.media.len();
    let nack = Message::Nack(Nack { ssrc: source.video, seq_nos: vec![SeqNo::new(65_500)] });
    network.with(1, |exchange, now| exchange.message(now, down, nack));
    network.with(1, |exchange, now| exchange.message(now, down, Message::KeyframeRequest(source.video)));
    assert_eq!(network.drops(1, DropReason::NotJoined), 2);
    assert_eq!((network.media.len(), network.nodes[0].keyframes_wanted.len()), (sent, 0));
    let announce = Message::Announce(Source::new("evil", 1).broadcast);
    network.with(1, |exchange, now| exchange.message(now, down, announce));
    assert_eq!(network.drops(1, DropReason::MessageUnexpected), 1);
    assert!(!network.nodes[1].exchange.known(&id("evil")));
}

#[test]
fn resends_are_bounded_per_child() {
    let mut network = star(0);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    let child = network.add(Role::Egress);
    let (_, down) = network.connect(child, 1);
    network.run_millis(100);
    network.want(child, &id("friday"));
    network.run_millis(1000);
    let before = network.stats(1).broadcasts[&id("friday")].video.resent;
    for _ in 0..100 {
        let seq_nos = (65_500..65_500 + 100).map(SeqNo::new).collect();
        let nack = Message::Nack(Nack { ssrc: source.video, seq_nos });
        network.with(1, |exchange, now| exchange.message(now, down, nack));
    }
    let resent = network.stats(1).broadcasts[&id("friday")].video.resent - before;
    assert!((4000..4010).contains(&resent), "{resent}");
    assert_eq!(network.drops(1, DropReason::ResendRate), 10_000 - resent);
}

#[test]
fn a_number_is_never_sealed_twice() {
    let mut network = Network::new(1, Conditions::PERFECT);
    network.add_with(Role::Injection, |config| config.ring.span_max = 20);
    let mut source = Source::new("friday", 1);
    network
        .with(0, |exchange, now| exchange.publish_changed(now, source.broadcast.clone()))
        .expect("published");
    let video = source.video;
    let packets: Vec<_> =
        (0..20).flat_map(|_| source.frame()).filter(|packet| packet.ssrc == video).collect();
    for packet in &packets {
        network.with(0, |exchange, now| exchange.published(now, packet.clone()));
    }
    let sealed = network.stats(0).broadcasts[&id("friday")].video.packets_received;
    for index in [0, packets.len() - 1] {
        let other =
            media_core::TreePacket { payload: Bytes::from_static(b"other"), ..packets[index].clone() };
        network.with(0, |exchange, now| exchange.published(now, other));
    }
    let video = network.stats(0).broadcasts[&id("friday")].video;
    assert_eq!((video.packets_received, video.duplicates), (sealed, 1));
    assert_eq!(network.drops(0, DropReason::TooOld), 1);
}

fn hello(node: &str, version: Version) -> Message {
    let incarnation = Incarnation { counter: 1, random: 1 };
    Message::Hello(Hello {
        version,
        node: NodeId::new(node).expect("good id"),
        role: Role::Egress,
        incarnation,
    })
}

#[test]
fn another_major_version_this_node_itself_and_loops_are_disconnected() {
    let mut network = star(1);
    let address = SocketAddr::from(([10, 9, 9, 9], 1));
    let mut connect = |peer: u64, message: Message| {
        network.with(1, |exchange, now| {
            exchange.child_connected(now, PeerId::new(peer), address).expect("few children");
            exchange.message(now, PeerId::new(peer), message);
        });
        network.nodes[1].disconnects.pop()
    };
    let future = Version { major: 9, minor: 0 };
    assert_eq!(connect(901, hello("egress-9", future)), Some(DisconnectReason::Version(future)));
    assert_eq!(connect(902, hello("relay-1", Version::CURRENT)), Some(DisconnectReason::Itself));
    assert_eq!(connect(903, hello("egress-9", Version::CURRENT)), None);
    let replaced = NodeId::new("egress-9").expect("good id");
    assert_eq!(connect(904, hello("egress-9", Version::CURRENT)), Some(DisconnectReason::Replaced(replaced)));
    let parent = NodeId::new("injection-0").expect("good id");
    // It says that it is an egress; the link to it as a parent must go, the one as a child may stay.
    assert_eq!(connect(905, hello("injection-0", Version::CURRENT)), Some(DisconnectReason::Loop(parent)));
}

#[test]
fn of_two_opposite_links_both_sides_keep_the_one_away_from_the_origin() {
    let mut network = star(0);
    let source = Source::new("friday", 1);
    network.publish(0, source.clone());
    let egress = network.add(Role::Egress);
    network.connect(egress, 1);
    network.run_millis(100);
    network.connect(0, 1);
    network.connect(1, egress);
    network.run_millis(500);
    let refused: Vec<_> = network.nodes.iter().flat_map(|node| &node.disconnects).collect();
    assert!(matches!(refused[..], [DisconnectReason::Loop(_), DisconnectReason::Loop(_)]), "{refused:?}");
    network.want(egress, &id("friday"));
    network.run_millis(500);
    assert!(network.delivered(egress, source.video).len() > 50, "the links that carry media are not hurt");
}

#[test]
fn nothing_is_taken_before_the_hello() {
    let mut network = star(0);
    network.publish(0, Source::new("friday", 1));
    network.run_millis(100);
    let address = SocketAddr::from(([10, 9, 9, 9], 1));
    network.with(1, |exchange, now| {
        exchange.child_connected(now, PeerId::new(901), address).expect("few children");
        let join = Message::Join(Join {
            broadcast: id("friday"),
            resume: Vec::new(),
            cause: None,
            without: Vec::new(),
        });
        exchange.message(now, PeerId::new(901), join);
    });
    assert_eq!(network.drops(1, DropReason::MessageUnexpected), 1);
    assert_eq!(destinations(&network, 1), 0);
}

#[test]
fn a_stream_number_of_another_broadcast_is_refused() {
    let mut network = star(0);
    network.publish(0, Source::new("friday", 1));
    let mut other = Source::new("monday", 1).broadcast;
    other.tracks[0].layers[0].ssrc = Source::new("friday", 1).audio;
    network.with(0, |exchange, now| exchange.publish_changed(now, other)).expect("published");
    assert_eq!(network.drops(0, DropReason::StreamLimit), 1);
    network.with(0, |exchange, _| exchange.publish_retired(&id("monday")));
    network.run_millis(100);
    assert!(network.stats(0).broadcasts[&id("friday")].audio.packets_received > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A member may go mad; it never costs more than bounds say, and never a panic.
    #[test]
    fn any_sequence_of_messages_is_survived(
        sent in prop::collection::vec((any::<bool>(), messages::message(), 0u64..300), 1..80),
        known in any::<bool>(),
    ) {
        let mut network = star(0);
        network.publish(0, Source::layered("friday", 1));
        let child = network.add(Role::Egress);
        let (_, down) = network.connect(child, 1);
        network.run_millis(100);
        network.want(child, &id("friday"));
        network.run_millis(100);
        let up = network.messages.iter().any(|m| m.from == 1 && m.to == 0);
        prop_assert!(up);
        for (from_parent, message, millis) in sent {
            let message = if known { about_friday(message) } else { message };
            let peer = if from_parent { PeerId::new(0) } else { down };
            network.with(1, |exchange, now| exchange.message(now, peer, message));
            network.nodes[1].exchange.handle_timeout(network.now);
            while network.nodes[1].exchange.poll_output().is_some() {}
            network.now += Duration::from_millis(millis);
        }
        let stats = network.stats(1);
        prop_assert!(stats.broadcasts.len() <= 256);
    }
}

/// The same message, about a broadcast and streams that exist.
fn about_friday(message: Message) -> Message {
    let source = Source::layered("friday", 1);
    let layer = |ssrc: Ssrc| source.layers()[ssrc.get() as usize % 3];
    match message {
        Message::Announce(broadcast) => {
            let epoch = broadcast.epoch.map(|epoch| Epoch { counter: epoch.counter % 3, ..epoch });
            Message::Announce(Broadcast { id: id("friday"), epoch, ..broadcast })
        }
        Message::Retire(_) => Message::Retire(id("friday")),
        Message::Leave(_) => Message::Leave(id("friday")),
        Message::Join(join) => {
            let resume = join.resume.into_iter().map(|held| Held { ssrc: source.video, ..held }).collect();
            let without = join.without.into_iter().map(layer).collect();
            Message::Join(Join { broadcast: id("friday"), resume, cause: None, without })
        }
        Message::JoinAnswer(answer) => {
            let broadcast = source.broadcast.clone();
            let streams = answer.streams.into_iter();
            let streams = streams.map(|range| StreamRange { ssrc: layer(range.ssrc), ..range }).collect();
            Message::JoinAnswer(JoinAnswer { broadcast, streams, ..answer })
        }
        Message::JoinRefused { reason, .. } => Message::JoinRefused { broadcast: id("friday"), reason },
        Message::Keys(keys) => {
            Message::Keys(Keys { broadcast: id("friday"), epoch: source.broadcast.epoch, ..keys })
        }
        Message::Nack(nack) => Message::Nack(Nack { ssrc: source.video, ..nack }),
        Message::KeyframeRequest(_) => Message::KeyframeRequest(source.video),
        Message::Rates(rates) => {
            let streams = rates.streams.into_iter();
            let streams = streams.map(|stream| StreamRate { ssrc: layer(stream.ssrc), ..stream }).collect();
            Message::Rates(Rates { broadcast: id("friday"), streams })
        }
        Message::Cue(cue) => {
            let epoch = source.broadcast.epoch.unwrap_or(cue.epoch);
            Message::Cue(Cue { broadcast: id("friday"), epoch, ..cue })
        }
        Message::Hello(_) | Message::Heartbeat(_) | Message::Report(_) => message,
    }
}
