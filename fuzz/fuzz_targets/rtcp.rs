//! RTCP compound packets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media_core::rtcp::{self, Packet};

fuzz_target!(|bytes: &[u8]| {
    for packet in rtcp::parse(bytes) {
        match packet {
            Ok(Packet::Nack(nack)) => assert!(nack.seqs().count() <= bytes.len() / 4 * 17),
            Ok(Packet::ReceiverReport(report)) => assert!(report.blocks().count() <= 31),
            Ok(_) => {}
            Err(_) => break,
        }
    }
});
