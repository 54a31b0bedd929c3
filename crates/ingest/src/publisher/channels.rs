//! What a publisher's data channels may cost: datagrams in a second, streams, beginnings of associations, and what is held
//! of messages that are not whole.
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
/// How far data may be ahead of what has come without a gap, in TSNs: the engine keeps, and sorts, all of it.
const AHEAD_MAX: u32 = 1024;
/// What the engine may hold of messages that are not whole or not their channel's turn, in bytes as [`cost`] counts them: a
/// few of the longest, or a thousand short chunks. It looks through all of them with each that comes.
const HELD_MAX: usize = 256 * 1024;
/// What a chunk costs beside its data, in bytes.
const CHUNK_COST: usize = 256;
/// More data than this is in no datagram of WebRTC, in bytes.
const CHUNK_BYTES: usize = 1200;

const COMMON_HEADER_BYTES: usize = 12;
const DATA: u8 = 0;
const DATA_HEADER_BYTES: usize = 16;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
/// RFC 8260.
const I_DATA: u8 = 64;
const I_DATA_HEADER_BYTES: usize = 20;

/// What so many bytes of data cost, in one chunk or in a message that is whole. Parts of something never cost less than the
/// whole.
pub(super) const fn cost(bytes: usize) -> usize {
    bytes + CHUNK_COST * bytes.div_ceil(CHUNK_BYTES)
}

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
#[derive(Debug, Clone)]
pub(super) struct Filter {
    inits_left: u8,
    /// The TSN up to which the engine has everything.
    acknowledged: Option<u32>,
    /// The window that the engine offers while it holds nothing, in bytes.
    window: u32,
    /// What it holds, at most; see [`cost`].
    held: usize,
}

impl Default for Filter {
    fn default() -> Self {
        Self { inits_left: INITS_MAX, acknowledged: None, window: 0, held: 0 }
    }
}

impl Filter {
    /// Whether the engine may see a packet.
    pub(super) fn admits(&mut self, packet: &[u8]) -> bool {
        let mut after = self.clone();
        let is_fine = chunks(packet).all(|chunk| chunk.is_some_and(|chunk| after.takes(chunk)));
        if is_fine {
            *self = after;
        }
        is_fine
    }

    /// What the engine says of itself in a packet that it sends.
    pub(super) fn sends(&mut self, packet: &[u8]) {
        for chunk in chunks(packet).flatten() {
            match chunk {
                [INIT | INIT_ACK, ..] => self.window = self.window.max(number(chunk, 8).unwrap_or(0)),
                [SACK, ..] => {
                    self.acknowledged = number(chunk, 4).or(self.acknowledged);
                    let has_gaps = chunk.get(12..14) != Some(&[0, 0]);
                    // What came twice is counted twice, until nothing is held.
                    if !has_gaps && number(chunk, 8).is_some_and(|window| window >= self.window) {
                        self.held = 0;
                    }
                }
                _ => {}
            }
        }
    }

    /// The engine has handed out messages that [`cost`] so much, and holds them no longer.
    pub(super) const fn delivered(&mut self, cost: usize) {
        self.held = self.held.saturating_sub(cost);
    }

    fn takes(&mut self, chunk: &[u8]) -> bool {
        match chunk {
            [DATA, ..] => self.takes_data(chunk, DATA_HEADER_BYTES),
            [I_DATA, ..] => self.takes_data(chunk, I_DATA_HEADER_BYTES),
            [INIT, ..] => {
                self.begins(chunk);
                let is_left = self.inits_left > 0;
                self.inits_left = self.inits_left.saturating_sub(1);
                is_left
            }
            [INIT_ACK, ..] => {
                self.begins(chunk);
                true
            }
            _ => true,
        }
    }

    /// Data of one of the first streams (RFC 9260, section 3.3.1), for which there is room.
    fn takes_data(&mut self, chunk: &[u8], header_bytes: usize) -> bool {
        let stream = chunk.get(8..10).and_then(<[u8]>::first_chunk::<2>);
        let is_near = stream.is_some_and(|stream| u16::from_be_bytes(*stream) < STREAMS_MAX);
        let bytes = chunk.len().saturating_sub(header_bytes);
        // Section 3.3.1: there is no chunk without data.
        if !is_near || bytes == 0 {
            return false;
        }
        let place = number(chunk, 4).zip(self.acknowledged);
        let ahead = place.map_or(1, |(tsn, acknowledged)| tsn.wrapping_sub(acknowledged));
        if ahead == 0 || ahead > u32::MAX / 2 {
            // It was there before; the engine holds nothing of it.
            return true;
        }
        self.held = self.held.saturating_add(cost(bytes));
        ahead <= AHEAD_MAX && self.held <= HELD_MAX
    }

    /// The publisher tells the TSN that it begins with.
    fn begins(&mut self, chunk: &[u8]) {
        self.acknowledged = number(chunk, 16).map(|first| first.wrapping_sub(1)).or(self.acknowledged);
    }
}

/// The chunks of a packet; `None` for one that is cut, which is the last.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    // Without its header, a packet is as good as one chunk that is cut.
    let mut rest = packet.get(COMMON_HEADER_BYTES..).unwrap_or(&[0]);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let all = rest;
        let chunk = first_chunk(all);
        // Chunks are padded to words, but for the last one in practice.
        let next = chunk.and_then(|chunk| all.get(chunk.len().next_multiple_of(4)..));
        rest = next.unwrap_or_default();
        Some(chunk)
    })
}

fn first_chunk(bytes: &[u8]) -> Option<&[u8]> {
    let [_, _, high, low] = bytes.first_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    bytes.get(..length).filter(|chunk| chunk.len() >= 4)
}

fn number(chunk: &[u8], at: usize) -> Option<u32> {
    chunk.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
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

    fn data(kind: u8, stream: u16, tsn: u32, bytes: usize) -> Vec<u8> {
        let mut body = tsn.to_be_bytes().to_vec();
        body.extend_from_slice(&stream.to_be_bytes());
        let header_bytes = if kind == DATA { DATA_HEADER_BYTES } else { I_DATA_HEADER_BYTES };
        body.resize(header_bytes - 4 + bytes, b'a');
        chunk(kind, &body)
    }

    /// A packet with one chunk of data on stream 0.
    fn said(tsn: u32, bytes: usize) -> Vec<u8> {
        packet(&[data(DATA, 0, tsn, bytes)])
    }

    /// INIT or INIT ACK: tag, window, streams, first TSN.
    fn begin(kind: u8, window: u32, first_tsn: u32) -> Vec<u8> {
        packet(&[chunk(kind, &[[0; 4], window.to_be_bytes(), [0; 4], first_tsn.to_be_bytes()].concat())])
    }

    fn sack(tsn: u32, window: u32, gaps: u8) -> Vec<u8> {
        packet(&[chunk(SACK, &[tsn.to_be_bytes(), window.to_be_bytes(), [0, gaps, 0, 0]].concat())])
    }

    /// A filter whose association has begun, with TSN 1, and a window of a million bytes.
    fn begun() -> Filter {
        let mut filter = Filter::default();
        assert!(filter.admits(&begin(INIT, 1000, 1)));
        filter.sends(&begin(INIT_ACK, 1_000_000, 77));
        filter
    }

    #[test]
    fn only_the_first_streams_are_heard() {
        let mut filter = Filter::default();
        for kind in [DATA, I_DATA] {
            assert!(filter.admits(&packet(&[data(kind, 0, 1, 3), data(kind, STREAMS_MAX - 1, 2, 3)])));
            assert!(!filter.admits(&packet(&[data(kind, 0, 3, 3), data(kind, STREAMS_MAX, 4, 3)])));
            assert!(!filter.admits(&packet(&[data(kind, 0, 3, 0)])), "no data");
        }
        assert!(filter.admits(&packet(&[chunk(SACK, &[0; 12])])));
        assert!(!filter.admits(&packet(&[chunk(DATA, &[0; 3])])), "cut");
        assert!(!filter.admits(&[0; COMMON_HEADER_BYTES - 1]), "no packet");
    }

    #[test]
    fn an_association_begins_a_few_times_only() {
        let mut filter = Filter::default();
        let init = begin(INIT, 1000, 1);
        assert_eq!((0..100).filter(|_| filter.admits(&init)).count(), usize::from(INITS_MAX));
        assert!(filter.admits(&said(1, 3)));
    }

    #[test]
    fn what_is_far_ahead_of_a_gap_is_not_heard() {
        let mut filter = begun();
        assert!(filter.admits(&said(AHEAD_MAX, 1)));
        assert!(!filter.admits(&said(AHEAD_MAX + 1, 1)));
        filter.sends(&sack(10, 999_000, 1));
        assert!(filter.admits(&said(AHEAD_MAX + 10, 1)));
        assert!(!filter.admits(&said(AHEAD_MAX + 11, 1)));
        filter.sends(&sack(u32::MAX, 999_000, 1));
        assert!(filter.admits(&said(AHEAD_MAX - 1, 1)), "TSNs begin anew");
    }

    #[test]
    fn so_much_is_held_of_messages_that_do_not_become_whole_and_no_more() {
        let mut filter = begun();
        let mut tsn = 0;
        let mut admitted = |filter: &mut Filter| {
            (0..10_000)
                .filter(|_| {
                    filter.sends(&sack(tsn, 900_000, 0));
                    let is_admitted = filter.admits(&said(tsn + 1, 1));
                    tsn += u32::from(is_admitted);
                    is_admitted
                })
                .count()
        };
        let room = HELD_MAX / cost(1);
        assert_eq!(admitted(&mut filter), room);
        filter.delivered(10 * cost(1));
        assert_eq!(admitted(&mut filter), 10);
        filter.sends(&sack(0, 1_000_000, 1));
        assert_eq!(admitted(&mut filter), 0, "there is a gap");
        filter.sends(&sack(0, 1_000_000, 0));
        assert_eq!(admitted(&mut filter), room, "nothing was held any more");
    }

    #[test]
    fn messages_that_become_whole_are_taken_without_end() {
        let mut filter = begun();
        let mut tsn = 0;
        for _ in 0..1000 {
            for _ in 0..50 {
                tsn += 1;
                assert!(filter.admits(&said(tsn, CHUNK_BYTES)));
                // What comes again and was acknowledged costs nothing.
                assert!(filter.admits(&said(tsn - 1, CHUNK_BYTES)));
                filter.sends(&sack(tsn, 900_000, 0));
            }
            filter.delivered(cost(50 * CHUNK_BYTES));
        }
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
            let mut filter = Filter::default();
            let _ = filter.admits(&bytes);
            filter.sends(&bytes);
        }

        #[test]
        fn parts_never_cost_less_than_the_whole(parts in prop::collection::vec(1..5000usize, 1..50)) {
            prop_assert!(parts.iter().map(|bytes| cost(*bytes)).sum::<usize>() >= cost(parts.iter().sum()));
        }
    }
}
