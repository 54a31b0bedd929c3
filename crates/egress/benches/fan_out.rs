//! What a viewer packet costs: mapping, header and seal into the send buffer, without any system call.
//!
//! Trains of 8 packets of 1200 bytes to 1, 100 and 1000 viewers; the figure is the time of an iteration divided by
//! viewers × 8, which is what the throughput in elements per second is the inverse of.

#[path = "../tests/egress/publisher.rs"]
#[allow(dead_code, reason = "shared with the tests at the boundary, which use all of it")]
mod publisher;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use egress::{Config, Path, SendBatch, Shard, ViewerSetup};
use media_core::TreePacket;
use model::{Codec, SeqNo};
use publisher::{Publisher, broadcast_id, capture_start, setup};
use srtp::{MasterKey, Profile};

const TRAIN: u64 = 8;
const PAYLOAD_BYTES: usize = 1200;

/// A send buffer as the shell has it: reused before it falls out of the cache.
struct Arena {
    bytes: Vec<u8>,
    used: usize,
}

impl SendBatch for Arena {
    fn datagram(&mut self, path: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        if self.used + len_max > self.bytes.len() {
            self.used = 0;
        }
        let length = fill(&mut self.bytes[self.used..self.used + len_max]);
        self.used += length;
        black_box(path);
    }
}

/// The train `index`, made of frames of 8 packets.
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

fn viewer(id: u64, now: Instant, profile: Profile) -> ViewerSetup {
    let key = MasterKey::new(profile, &vec![id as u8; profile.key_len()], &vec![7; profile.salt_len()]);
    ViewerSetup { send: key.expect("a key"), ..setup(id, now) }
}

fn bench(criterion: &mut Criterion) {
    for (name, profile) in [("gcm", Profile::AeadAes128Gcm), ("sha1", Profile::AesCm128HmacSha1_80)] {
        let mut group = criterion.benchmark_group(format!("fan_out_{name}"));
        for viewers in [1, 100, 1000] {
            let mut now = Instant::now();
            let mut publisher = Publisher::new(Codec::H264, 1, capture_start());
            publisher.payload_bytes = PAYLOAD_BYTES;
            let template = (*publisher.frame()[0]).clone();
            let mut shard = Shard::new(Config::default());
            shard.broadcast_changed(now, &publisher.broadcast());
            for id in 0..viewers {
                shard.add_viewer(now, &broadcast_id(), viewer(id, now, profile)).expect("added");
            }
            let mut arena = Arena { bytes: vec![0; 512 << 10], used: 0 };
            let mut index = 0;
            shard.fan_out(now, &train(&template, index), &mut arena);
            group.throughput(Throughput::Elements(viewers * TRAIN));
            group.bench_function(BenchmarkId::from_parameter(viewers), |bencher| {
                bencher.iter_batched(
                    || {
                        index += 1;
                        train(&template, index)
                    },
                    |train| {
                        now += Duration::from_millis(33);
                        shard.fan_out(now, &train, &mut arena);
                        train
                    },
                    criterion::BatchSize::SmallInput,
                );
            });
            assert_eq!(
                shard.stats().video.packets,
                viewers * TRAIN * (index + 1),
                "every viewer gets every packet"
            );
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
