//! What reading and writing an RTP header with the extensions of a viewer costs.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use media_core::rtp::{HeaderFields, Packet, write_header};
use model::Ssrc;

fn rtp(criterion: &mut Criterion) {
    let extensions: [(u8, &[u8]); 3] = [(1, b"0"), (3, &[0; 8]), (4, &[0x80])];
    let fields = HeaderFields {
        marker: true,
        padding: false,
        payload_type: 96,
        seq: 1,
        timestamp: 90_000,
        ssrc: Ssrc::new(7),
        extensions: &extensions,
    };
    let mut packet = [0u8; 1200];
    criterion.bench_function("rtp/write_header", |bencher| {
        bencher.iter(|| write_header(black_box(&mut packet), black_box(&fields)));
    });
    criterion.bench_function("rtp/parse_and_find_extension", |bencher| {
        bencher.iter(|| {
            let packet = Packet::parse(black_box(&packet)).expect("own header");
            (packet.seq, packet.extension(4).map(<[u8]>::len))
        });
    });
}

criterion_group!(benches, rtp);
criterion_main!(benches);
