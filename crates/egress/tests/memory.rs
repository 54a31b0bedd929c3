//! What a viewer costs in memory, cipher contexts of the cryptographic library included: resident pages of a process of
//! its own.

#[path = "egress/publisher.rs"]
#[allow(dead_code, reason = "shared with the tests at the boundary, which use all of it")]
mod publisher;

use std::time::Duration;

use egress::{Config, Path, SendBatch, Shard};
use model::Codec;
use publisher::{Publisher, broadcast_id, capture_start, setup};

const VIEWERS: u64 = 10_000;
/// Of the 40 KB that a viewer may take in all, sockets, DTLS and HTTP included.
const BYTES_MAX: u64 = 8 * 1024;

/// Takes everything and keeps nothing.
struct Nowhere([u8; 2048]);

impl SendBatch for Nowhere {
    fn datagram(&mut self, _: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        fill(&mut self.0[..len_max]);
    }
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split_ascii_whitespace().nth(1).expect("a second field").parse::<u64>().expect("a number") * 4096
}

#[test]
fn a_viewer_takes_a_few_kilobytes() {
    let mut publisher = Publisher::new(Codec::H264, 1, capture_start());
    let mut now = std::time::Instant::now();
    let mut shard = Shard::new(Config::default());
    let mut network = Nowhere([0; 2048]);
    shard.broadcast_changed(now, &publisher.broadcast());
    let before = resident();
    for viewer in 0..VIEWERS {
        shard.add_viewer(now, &broadcast_id(), setup(viewer, now)).expect("added");
    }
    // Each has its sound, its picture and a report.
    for train in [publisher.frame(), vec![publisher.sound(0)], publisher.frame()] {
        shard.fan_out(now, &train, &mut network);
    }
    for _ in 0..50 {
        now += Duration::from_millis(20);
        shard.handle_timeout(now, &mut network);
    }
    assert_eq!(shard.stats().viewers, VIEWERS);
    let bytes = resident().saturating_sub(before) / VIEWERS;
    let record = shard.record(egress::ViewerId::new(1)).expect("a record");
    println!("{bytes} bytes for a viewer; its record takes {}", size_of_val(&record));
    assert!(bytes < BYTES_MAX, "{bytes} bytes for a viewer");
}
