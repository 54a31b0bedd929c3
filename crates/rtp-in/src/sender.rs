//! Which sender of a track is the right one.
//!
//! Plain RTP is not authenticated, so whoever was there first is stayed with: nobody else is taken until it has been
//! silent for [`HOLD`] or has said goodbye. A newcomer, and a sender whose numbers jump, must show two packets in
//! sequence first (RFC 3550, appendix A.1); the first of them is kept, since parameter sets may stand in it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use model::{SeqNo, Ssrc};

/// A sender that is silent for so long may be replaced by another.
pub(crate) const HOLD: Duration = Duration::from_secs(1);
/// A wider step of sequence numbers is another beginning, in either direction (RFC 3550, appendix A.1: MAX_DROPOUT).
const STEP_MAX: i64 = 3000;
/// Newcomers that are looked at together; the oldest makes room.
const CANDIDATES_MAX: usize = 8;

/// What a packet's header says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) from: SocketAddr,
    pub(crate) ssrc: Ssrc,
    pub(crate) seq: u16,
}

/// A sender that is stayed with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    pub(crate) from: SocketAddr,
    pub(crate) ssrc: Ssrc,
    newest: SeqNo,
    heard_at: Instant,
    is_gone: bool,
}

impl Sender {
    fn is(&self, header: &Header) -> bool {
        (self.from, self.ssrc) == (header.from, header.ssrc)
    }

    /// Nobody else may take its place.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        !self.is_gone && now < self.heard_at + HOLD
    }
}

/// One that has shown one packet.
#[derive(Debug)]
struct Candidate {
    from: SocketAddr,
    ssrc: Ssrc,
    next: u16,
    came_at: Instant,
    first: Vec<u8>,
}

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the sender's, with this number.
    Taken(SeqNo),
    /// A sender begins: it is the second packet, with this number, and `first` came then.
    Begun {
        /// Its number.
        number: SeqNo,
        /// The one before.
        first: (Instant, Vec<u8>),
    },
    /// The sender may be right; its next packet shows it.
    Waits,
    /// From another address than the sender's.
    Foreign,
    /// From the sender's address, of another stream.
    OtherStream,
}

/// The sender of one track.
#[derive(Debug, Default)]
pub(crate) struct Lock {
    present: Option<Sender>,
    candidates: Vec<Candidate>,
}

impl Lock {
    /// Judges a packet that came now.
    pub(crate) fn judge(&mut self, now: Instant, header: Header, bytes: &[u8]) -> Verdict {
        if let Some(present) = &mut self.present {
            if present.is_gone {
                // What was under way when it said goodbye is no beginning.
                if present.is(&header) && now < present.heard_at + HOLD {
                    return Verdict::Waits;
                }
            } else if present.is(&header) {
                let number = present.newest.nearest(header.seq);
                let step = number.get() as i64 - present.newest.get() as i64;
                if step.abs() <= STEP_MAX {
                    present.newest = present.newest.max(number);
                    present.heard_at = now;
                    return Verdict::Taken(number);
                }
            } else if present.holds(now) {
                return if present.from == header.from { Verdict::OtherStream } else { Verdict::Foreign };
            }
        }
        self.consider(now, header, bytes)
    }

    fn consider(&mut self, now: Instant, header: Header, bytes: &[u8]) -> Verdict {
        let Header { from, ssrc, seq } = header;
        let is_it = |it: &Candidate| (it.from, it.ssrc) == (from, ssrc);
        let known = self.candidates.iter().position(is_it).map(|index| self.candidates.remove(index));
        if let Some(known) = known.filter(|known| known.next == seq && now < known.came_at + HOLD) {
            // The first cycle stays free for packets from before the first one.
            let number = SeqNo::from_parts(1, seq.wrapping_sub(1)).plus(1);
            self.present = Some(Sender { from, ssrc, newest: number, heard_at: now, is_gone: false });
            self.candidates.clear();
            return Verdict::Begun { number, first: (known.came_at, known.first) };
        }
        if self.candidates.len() == CANDIDATES_MAX {
            self.candidates.remove(0);
        }
        let next = seq.wrapping_add(1);
        self.candidates.push(Candidate { from, ssrc, next, came_at: now, first: bytes.to_vec() });
        Verdict::Waits
    }

    pub(crate) const fn present(&self) -> Option<&Sender> {
        self.present.as_ref()
    }

    /// It has said goodbye.
    pub(crate) const fn gone(&mut self) {
        if let Some(present) = &mut self.present {
            present.is_gone = true;
        }
    }

    /// Whether there is none, or it has said goodbye.
    pub(crate) fn is_gone(&self) -> bool {
        self.present.is_none_or(|present| present.is_gone)
    }

    /// Whoever comes next may be the sender.
    pub(crate) fn release(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(host: u8, ssrc: u32, seq: u16) -> Header {
        Header { from: ([192, 0, 2, host], 5004).into(), ssrc: Ssrc::new(ssrc), seq }
    }

    fn number(cycle: u32, seq: u16) -> SeqNo {
        SeqNo::from_parts(cycle, seq)
    }

    fn begun(now: Instant) -> Lock {
        let mut lock = Lock::default();
        assert_eq!(lock.judge(now, header(1, 7, 65_534), &[1]), Verdict::Waits);
        let begun = Verdict::Begun { number: number(1, 65_535), first: (now, vec![1]) };
        assert_eq!(lock.judge(now, header(1, 7, 65_535), &[2]), begun);
        lock
    }

    #[test]
    fn two_packets_in_sequence_begin_and_numbers_go_on_over_a_wrap() {
        let now = Instant::now();
        let mut lock = begun(now);
        assert_eq!(lock.judge(now, header(1, 7, 1), &[]), Verdict::Taken(number(2, 1)));
        assert_eq!(lock.judge(now, header(1, 7, 0), &[]), Verdict::Taken(number(2, 0)));
        assert_eq!(lock.judge(now, header(1, 7, 65_533), &[]), Verdict::Taken(number(1, 65_533)));
    }

    #[test]
    fn nobody_takes_the_place_of_a_sender_that_is_heard() {
        let now = Instant::now();
        let mut lock = begun(now);
        for seq in 0..10 {
            assert_eq!(lock.judge(now, header(2, 7, seq), &[]), Verdict::Foreign);
            assert_eq!(lock.judge(now, header(1, 8, seq), &[]), Verdict::OtherStream);
        }
        let later = now + HOLD;
        assert_eq!(lock.judge(later, header(2, 7, 10), &[]), Verdict::Waits);
        assert_eq!(
            lock.judge(later, header(1, 7, 0), &[]),
            Verdict::Taken(number(2, 0)),
            "it is back in time"
        );
        assert_eq!(lock.judge(later, header(2, 7, 11), &[]), Verdict::Foreign);
        lock.gone();
        for seq in 1..4 {
            assert_eq!(lock.judge(later, header(1, 7, seq), &[]), Verdict::Waits, "it was under way");
        }
        assert_eq!(lock.judge(later, header(2, 7, 12), &[]), Verdict::Waits);
        assert!(matches!(lock.judge(later, header(2, 7, 13), &[]), Verdict::Begun { .. }));
    }

    #[test]
    fn a_jump_of_numbers_is_another_beginning_once_it_goes_on() {
        let now = Instant::now();
        let mut lock = begun(now);
        assert_eq!(lock.judge(now, header(1, 7, 30_000), &[]), Verdict::Waits);
        assert_eq!(lock.judge(now, header(1, 7, 0), &[]), Verdict::Taken(number(2, 0)), "it was a stray one");
        assert!(matches!(lock.judge(now, header(1, 7, 30_001), &[]), Verdict::Begun { .. }));
    }

    #[test]
    fn a_flood_of_streams_takes_no_memory_and_no_place() {
        let now = Instant::now();
        let mut lock = Lock::default();
        for ssrc in 0..10_000 {
            assert_eq!(lock.judge(now, header(3, ssrc, 1), &[0; 100]), Verdict::Waits);
        }
        assert_eq!(lock.candidates.len(), CANDIDATES_MAX);
        let mut lock = begun(now);
        for ssrc in 8..10_000 {
            assert_eq!(lock.judge(now, header(1, ssrc, 1), &[0; 100]), Verdict::OtherStream);
        }
        assert!(lock.candidates.is_empty());
    }
}
