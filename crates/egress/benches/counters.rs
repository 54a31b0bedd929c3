//! What a shard counts for metrics while it works: plain numbers of its own, copied elsewhere five times a second.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use egress::Stats;

fn counters(criterion: &mut Criterion) {
    let mut stats = Stats::default();
    let mut group = criterion.benchmark_group("metrics");
    group.throughput(Throughput::Elements(1));
    // Once for each packet and viewer.
    group.bench_function("core_packet_sent", |bencher| {
        bencher.iter(|| black_box(&mut stats).video.add(black_box(1200)));
    });
    // Once for each frame, whatever the number of its viewers.
    group.bench_function("core_frame_latency", |bencher| {
        bencher.iter(|| {
            black_box(&mut stats).latency.record(black_box(Duration::from_millis(20)), black_box(200));
        });
    });
    group.finish();
}

criterion_group!(benches, counters);
criterion_main!(benches);
