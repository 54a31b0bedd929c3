//! What the ring costs for each packet: insertion with eviction, and look-up as for a retransmission.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use media_core::ring::{Limits, Ring};
use model::SeqNo;

fn full_ring(now: Instant) -> (Ring<Arc<[u8; 1200]>>, Arc<[u8; 1200]>) {
    let limits = Limits { bytes_max: 4096 * 1200, age_max: Duration::from_secs(3600), span_max: 16_384 };
    let mut ring = Ring::new(limits);
    let packet = Arc::new([0u8; 1200]);
    for index in 0..5000 {
        ring.insert(now, SeqNo::new(index), 1200, packet.clone());
    }
    (ring, packet)
}

fn ring(criterion: &mut Criterion) {
    #[allow(clippy::disallowed_methods, reason = "any moment will do")]
    let now = Instant::now();
    criterion.bench_function("ring/insert_and_evict", |bencher| {
        let (mut ring, packet) = full_ring(now);
        let mut index = 5000;
        bencher.iter(|| {
            index += 1;
            ring.insert(now, SeqNo::new(index), 1200, packet.clone())
        });
    });
    criterion.bench_function("ring/get", |bencher| {
        let (ring, _) = full_ring(now);
        let mut step = 0;
        bencher.iter(|| {
            step = (step + 17) % 4000;
            black_box(ring.get(SeqNo::new(1000 + step)).is_some())
        });
    });
    criterion.bench_function("ring/range_of_300", |bencher| {
        let (ring, _) = full_ring(now);
        bencher.iter(|| ring.range(SeqNo::new(4700)..).filter(|(_, packet)| packet.is_some()).count());
    });
}

criterion_group!(benches, ring);
criterion_main!(benches);
