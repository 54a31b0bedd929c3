//! RTP packets of viewers and publishers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media_core::rtp::Packet;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(packet) = Packet::parse(bytes) {
        for id in 0..=15 {
            let _ = packet.extension(id);
        }
        assert!(packet.payload.len() <= bytes.len());
        assert!(packet.csrcs().count() <= 15);
    }
});
