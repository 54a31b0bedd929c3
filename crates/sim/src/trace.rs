//! A fingerprint of everything that happened, to tell whether two runs were the same.

/// FNV-1a over 64-bit words.
#[derive(Debug, Clone, Copy)]
pub struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    /// Adds what happened.
    pub fn note(&mut self, words: &[u64]) {
        for word in words {
            self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
            self.0 ^= self.0 >> 29;
        }
    }

    /// The fingerprint so far.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.0
    }
}

/// Fingerprint of some bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let mut trace = Trace::default();
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        trace.note(&[u64::from_le_bytes(word)]);
    }
    trace.note(&[bytes.len() as u64]);
    trace.hash()
}

/// The last eight bytes of a sealed packet. They are part of its authentication tag, which depends on every bit of it.
#[must_use]
pub fn tag(sealed: &[u8]) -> u64 {
    let tail: Option<&[u8; 8]> = sealed.last_chunk();
    tail.map_or(0, |tail| u64::from_be_bytes(*tail))
}
