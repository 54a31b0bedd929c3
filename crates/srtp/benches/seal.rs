//! What sealing costs: one RTP packet of 1200 bytes (12 of them header) under each profile.
//!
//! `seal` encrypts from a shared payload into a send buffer, as the fan-out to viewers does; `open` verifies and
//! decrypts into another buffer, as a relay does.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use model::SeqNo;
use srtp::{MasterKey, Profile, RtpKey};
use std::hint::black_box;

const PACKET_LEN: usize = 1200;

fn packet(seq_no: SeqNo) -> [u8; PACKET_LEN] {
    let mut packet = [0x5a; PACKET_LEN];
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet[2..4].copy_from_slice(&seq_no.seq().to_be_bytes());
    packet
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("1200-byte packet");
    group.throughput(Throughput::Elements(1));
    let seq_no = SeqNo::new(0x0123_4567);
    for profile in Profile::ALL {
        let master = MasterKey::new(profile, &[7; 32][..profile.key_len()], &[9; 14][..profile.salt_len()]);
        let key = RtpKey::derive(&master.expect("fitting lengths")).expect("a cipher");
        let plain = packet(seq_no);
        let mut sealed = [0; PACKET_LEN + 16];
        let mut length = 0;
        group.bench_function(format!("seal {profile}"), |bencher| {
            bencher.iter(|| {
                let (header, payload) = black_box(&plain).split_at(12);
                length = key.seal(header, payload, black_box(seq_no), &mut sealed).expect("room");
            });
        });
        let mut payload = Vec::with_capacity(PACKET_LEN);
        group.bench_function(format!("open {profile}"), |bencher| {
            bencher.iter(|| {
                key.open_into(black_box(&sealed[..length]), 12, seq_no, &mut payload).expect("authentic")
            });
        });
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
