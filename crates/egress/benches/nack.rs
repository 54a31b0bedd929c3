//! What a lost packet costs: a NACK opened, the packet found in the ring, sealed once more on the RTX stream.

#[path = "../tests/egress/publisher.rs"]
#[allow(dead_code, reason = "shared with the tests at the boundary, which use all of it")]
mod publisher;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use egress::{Config, Path, SendBatch, Shard, ViewerId};
use media_core::{TreePacket, rtcp};
use model::{Codec, SeqNo, Ssrc};
use publisher::{Publisher, VIDEO, broadcast_id, capture_start, keys, setup, ssrc};
use srtp::{Profile, RtcpIndex, RtcpKey};

const VIEWER: u64 = 1;
const TRAIN: u64 = 8;

/// Counts what leaves, and remembers the sequence number of the last packet.
#[derive(Default)]
struct Wire {
    bytes: Vec<u8>,
    datagrams: u64,
    seq: u16,
}

impl SendBatch for Wire {
    fn datagram(&mut self, _path: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.bytes.resize(self.bytes.len().max(len_max), 0);
        if fill(&mut self.bytes[..len_max]) > 0 {
            self.datagrams += 1;
            self.seq = u16::from_be_bytes([self.bytes[2], self.bytes[3]]);
        }
    }
}

fn train(template: &TreePacket, index: u64) -> Vec<Arc<TreePacket>> {
    let packet = |place: u64| {
        Arc::new(TreePacket {
            seq_no: SeqNo::new(100_000 + index * TRAIN + place),
            timestamp: (index * 3000) as u32,
            marker: place == TRAIN - 1,
            starts_keyframe: index == 0 && place == 0,
            ..template.clone()
        })
    };
    (0..TRAIN).map(packet).collect()
}

/// A viewer's request, as it comes from the socket.
fn request(key: &RtcpKey, index: &mut RtcpIndex, seq: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    rtcp::write::nack(&mut bytes, Ssrc::new(1), ssrc(VIEWER, VIDEO), [seq]);
    let length = bytes.len();
    bytes.resize(length + Profile::AeadAes128Gcm.rtcp_overhead(), 0);
    key.seal_in_place(&mut bytes, length, *index).expect("sealed");
    *index = index.next().expect("an index");
    bytes
}

fn bench(criterion: &mut Criterion) {
    let mut now = Instant::now();
    let mut publisher = Publisher::new(Codec::H264, 1, capture_start());
    publisher.payload_bytes = 1200;
    let template = (*publisher.frame()[0]).clone();
    let mut shard = Shard::new(Config::default());
    shard.broadcast_changed(now, &publisher.broadcast());
    shard.add_viewer(now, &broadcast_id(), setup(VIEWER, now)).expect("added");
    let key = RtcpKey::derive(&keys(VIEWER).1).expect("a key");
    let (mut trains, mut requests, mut rtcp_index) = (0, 0, RtcpIndex::ZERO);
    // The ring as it is after a while on air.
    for _ in 0..500 {
        shard.fan_out(now, &train(&template, trains), &mut Wire::default());
        trains += 1;
        now += Duration::from_millis(20);
    }
    let mut repaired = Wire::default();
    criterion.bench_function("nack/one_packet", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let mut live = Wire::default();
                now += Duration::from_millis(20);
                shard.fan_out(now, &train(&template, trains), &mut live);
                trains += 1;
                requests += 1;
                let mut datagram = request(&key, &mut rtcp_index, live.seq);
                let started = Instant::now();
                let heard = shard.handle_rtcp(now, ViewerId::new(VIEWER), &mut datagram, &mut repaired);
                spent += started.elapsed();
                heard.expect("a viewer's own words");
            }
            spent
        });
    });
    assert_eq!(repaired.datagrams, requests, "each request brings its packet");
}

criterion_group!(benches, bench);
criterion_main!(benches);
