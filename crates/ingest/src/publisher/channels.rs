//! What a publisher's data channels may cost: datagrams in a second, streams, beginnings of associations.
//!
//! The engine's SCTP has no bounds of this kind. What is above them is dropped before the engine sees it, as a network would
//! lose it, and so is sent again, or not; media goes its own way beside it.

use std::time::{Duration, Instant};

/// Longest message, in bytes; the answer says so. A publisher that sends a longer one has its association ended, and with it
/// its session; so this is much more than a cue may have, which is refused without consequences.
pub(super) const MESSAGE_BYTES_MAX: u32 = 64 * 1024;
/// DTLS datagrams of a connected publisher that are taken in a second, and at once.
const DATAGRAMS_PER_SECOND: u32 = 200;
/// Streams of SCTP, two of which are one channel at most. Browsers count from 0 or 1 in steps of two.
const STREAMS_MAX: u16 = 64;
/// INIT chunks of one session: a lost one is sent again some times, and each makes the engine remember something.
const INITS_MAX: u8 = 16;

const COMMON_HEADER_BYTES: usize = 12;
const DATA: u8 = 0;
const INIT: u8 = 1;
/// RFC 8260.
const I_DATA: u8 = 64;

/// How many datagrams may still come.
#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self { left: DATAGRAMS_PER_SECOND, since: now }
    }

    /// Takes one, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.since).min(Duration::from_secs(1));
        let earned = (elapsed.as_millis() as u32 * DATAGRAMS_PER_SECOND) / 1000;
        if earned > 0 {
            self.left = (self.left + earned).min(DATAGRAMS_PER_SECOND);
            self.since = now;
        }
        let is_there = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there
    }
}

/// Looks at the SCTP packets (RFC 9260) of one session.
#[derive(Debug)]
pub(super) struct Filter {
    inits_left: u8,
}

impl Default for Filter {
    fn default() -> Self {
        Self { inits_left: INITS_MAX }
    }
}

impl Filter {
    /// Whether the engine may see a packet.
    pub(super) fn admits(&mut self, packet: &[u8]) -> bool {
        let Some(mut rest) = packet.get(COMMON_HEADER_BYTES..) else { return false };
        while !rest.is_empty() {
            let Some(&[kind, _, high, low]) = rest.first_chunk::<4>() else { return false };
            let length = usize::from(u16::from_be_bytes([high, low]));
            let Some(chunk) = rest.get(..length).filter(|chunk| chunk.len() >= 4) else { return false };
            let is_fine = match kind {
                DATA | I_DATA => is_near(chunk),
                INIT => self.takes_init(),
                _ => true,
            };
            if !is_fine {
                return false;
            }
            // Chunks are padded to words, but for the last one in practice.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        true
    }

    const fn takes_init(&mut self) -> bool {
        let is_left = self.inits_left > 0;
        self.inits_left = self.inits_left.saturating_sub(1);
        is_left
    }
}

/// Whether a chunk of data belongs to one of the first streams (RFC 9260, section 3.3.1).
fn is_near(chunk: &[u8]) -> bool {
    let stream = chunk.get(8..10).and_then(<[u8]>::first_chunk::<2>);
    stream.is_some_and(|stream| u16::from_be_bytes(*stream) < STREAMS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER_BYTES];
        for chunk in chunks {
            packet.extend_from_slice(chunk);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 3];
        chunk.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
        chunk.extend_from_slice(body);
        chunk
    }

    fn data(kind: u8, stream: u16) -> Vec<u8> {
        let [high, low] = stream.to_be_bytes();
        chunk(kind, &[0, 0, 0, 1, high, low, 0, 0, 0, 0, 0, 51, b'a', b'b', b'c'])
    }

    #[test]
    fn only_the_first_streams_are_heard() {
        let mut filter = Filter::default();
        for kind in [DATA, I_DATA] {
            assert!(filter.admits(&packet(&[data(kind, 0), data(kind, STREAMS_MAX - 1)])));
            assert!(!filter.admits(&packet(&[data(kind, 0), data(kind, STREAMS_MAX)])));
        }
        assert!(filter.admits(&packet(&[chunk(3, &[0; 12])])), "SACK");
        assert!(!filter.admits(&packet(&[chunk(DATA, &[0; 3])])), "cut");
    }

    #[test]
    fn an_association_begins_a_few_times_only() {
        let mut filter = Filter::default();
        let init = packet(&[chunk(INIT, &[0; 16])]);
        assert_eq!((0..100).filter(|_| filter.admits(&init)).count(), usize::from(INITS_MAX));
        assert!(filter.admits(&packet(&[data(DATA, 1)])));
    }

    #[test]
    fn a_budget_grants_its_rate_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let burst = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!(burst, DATAGRAMS_PER_SECOND as usize);
        let granted = (1..=2000).filter(|millis| budget.take(start + Duration::from_millis(*millis))).count();
        assert_eq!(granted, 2 * DATAGRAMS_PER_SECOND as usize);
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Filter::default().admits(&bytes);
        }
    }
}
