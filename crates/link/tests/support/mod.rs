//! What the tests of this crate share: a seeded generator, strategies for messages, hex files, a network in memory.
#![allow(dead_code, reason = "each test binary uses its part of it")]

pub mod golden;
pub mod messages;
pub mod network;
pub mod source;

/// SplitMix64: small, seeded, the same on every machine.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub fn happens(&mut self, probability: f64) -> bool {
        (self.draw() as f64 / u64::MAX as f64) < probability
    }
}
