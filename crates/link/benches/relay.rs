//! What a relay spends on one packet of 1200 bytes: verify, keep, hand on. Sending is not in it.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use link::exchange::{Config, Exchange, Output, ParentId, PeerId};
use link::wire::media::GroupSealer;
use link::wire::message::{Hello, Incarnation, Join, JoinAnswer, Message};
use link::wire::{GroupKey, Version};
use media_core::TreePacket;
use model::{
    Broadcast, BroadcastId, BroadcastState, Codec, KeyGeneration, Layer, NodeId, NtpTime, Role, SeqNo, Ssrc,
    Track,
};

const PARENT: PeerId = PeerId::new(0);
/// Packets per iteration.
const PACKETS: u64 = 1000;

fn key() -> GroupKey {
    GroupKey { generation: KeyGeneration { counter: 1, random: 1 }, key: [1; 16], salt: [2; 12] }
}

fn incarnation() -> Incarnation {
    Incarnation { counter: 1, random: 1 }
}

fn hello(name: &str, role: Role) -> Message {
    let node = NodeId::new(name).expect("good id");
    Message::Hello(Hello { version: Version::CURRENT, node, role, incarnation: incarnation() })
}

fn broadcast() -> Broadcast {
    let layers = vec![Layer { ssrc: Ssrc::new(1), rid: None }];
    let track = Track { codec: Codec::H264, fmtp: "".into(), layers, was_heard: true };
    let id = BroadcastId::new("friday").expect("good id");
    Broadcast { id, state: BroadcastState::Live, epoch: None, tracks: vec![track] }
}

fn parent_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 51000))
}

fn drain(exchange: &mut Exchange) {
    while let Some(output) = exchange.poll_output() {
        if let Output::Media { wire, to } = output {
            black_box((wire, to.as_slice().len()));
        }
    }
}

fn relay(now: Instant, children: u64) -> Exchange {
    let name = NodeId::new("relay").expect("good id");
    let mut exchange = Exchange::new(now, Config::new(name, Role::Relay, incarnation()));
    let parent = ParentId::new(0);
    exchange.add_parent(parent, 0);
    exchange.parent_connected(now, parent, PARENT, parent_address());
    exchange.message(now, PARENT, hello("injection", Role::Injection));
    exchange.message(now, PARENT, Message::Announce(broadcast()));
    for child in 1..=children {
        let peer = PeerId::new(child);
        let address = SocketAddr::from(([10, 0, 1, child as u8], 51000));
        exchange.child_connected(now, peer, address).expect("few children");
        exchange.message(now, peer, hello(&format!("egress-{child}"), Role::Egress));
        let join = Join { broadcast: broadcast().id, resume: Vec::new(), cause: None, without: Vec::new() };
        exchange.message(now, peer, Message::Join(join));
    }
    let answer = JoinAnswer { broadcast: broadcast(), keys: vec![key()], streams: Vec::new() };
    exchange.message(now, PARENT, Message::JoinAnswer(answer));
    drain(&mut exchange);
    exchange
}

fn packets() -> Vec<Bytes> {
    let sealer = GroupSealer::new(&key());
    let seal = |index| {
        let packet = TreePacket {
            ssrc: Ssrc::new(1),
            seq_no: SeqNo::new(1000 + index),
            timestamp: 0,
            marker: false,
            starts_keyframe: false,
            capture_time: NtpTime::from_bits(1 << 40),
            audio_level: None,
            orientation: 0,
            svc: None,
            payload: Bytes::from(vec![7; 1136]),
        };
        sealer.seal(&packet).expect("sealable")
    };
    (0..PACKETS).map(seal).collect()
}

fn relay_packets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Elements(PACKETS)).measurement_time(Duration::from_secs(3)).sample_size(20);
    let packets = packets();
    let now = Instant::now();
    for children in [1, 8, 64] {
        group.bench_function(format!("{children} children"), |bencher| {
            let pass = |mut exchange: Exchange| {
                for packet in &packets {
                    exchange.media(now, parent_address(), packet);
                    drain(&mut exchange);
                }
                exchange
            };
            bencher.iter_batched(|| relay(now, children), pass, BatchSize::LargeInput);
        });
    }
    let stats = {
        let mut exchange = relay(now, 64);
        packets.iter().for_each(|packet| exchange.media(now, parent_address(), packet));
        exchange.stats()
    };
    let video = stats.broadcasts.values().next().expect("one").video;
    assert_eq!((video.packets_received, video.packets_sent), (PACKETS, 64 * PACKETS), "the relay relays");
    group.finish();
}

criterion_group!(benches, relay_packets);
criterion_main!(benches);
