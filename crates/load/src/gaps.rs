//! Which packets of one RTP stream are missing, when a browser asks for them, and what became of each.
//!
//! `media_core::GapTracker` is made for links: it does not tell which packets were given up, and this is what the
//! figures are about.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::SeqNo;

/// From a gap to the first request: packets may only have changed places.
pub(crate) const ASK_AFTER: Duration = Duration::from_millis(20);
/// Requests for one packet at most, as in browsers.
const ASKS_MAX: u8 = 10;
/// A gap that nobody is asked about (audio) is lost after so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// A jump over more packets than this is a new start of the sequence, not a loss.
const JUMP_MAX: u64 = 3000;
/// Requests are repeated after one round trip, but not faster than this.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// What a packet means to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The newest so far.
    New,
    /// It fills a gap; the packet was asked for before.
    Repaired,
    /// It fills a gap in time: no loss.
    Reordered,
    /// It has been here before, or was given up.
    Duplicate,
    /// The sequence begins anew with it; open gaps are forgotten.
    Restart,
}

#[derive(Debug, Clone, Copy)]
struct Gap {
    since: Instant,
    ask_at: Instant,
    asks: u8,
}

/// Follows the sequence numbers of one stream.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    newest: Option<SeqNo>,
    open: BTreeMap<SeqNo, Gap>,
}

impl Gaps {
    pub(crate) const fn newest(&self) -> Option<SeqNo> {
        self.newest
    }

    /// The last packet up to which nothing is open.
    pub(crate) fn frontier(&self) -> Option<SeqNo> {
        match self.open.first_key_value() {
            Some((first, _)) => Some(SeqNo::new(first.get() - 1)),
            None => self.newest,
        }
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = SeqNo> {
        self.open.keys().copied()
    }

    pub(crate) fn received(&mut self, now: Instant, seq_no: SeqNo) -> Arrival {
        let Some(newest) = self.newest else {
            self.newest = Some(seq_no);
            return Arrival::New;
        };
        if seq_no > newest {
            if seq_no.get() - newest.get() > JUMP_MAX {
                self.open.clear();
                self.newest = Some(seq_no);
                return Arrival::Restart;
            }
            for missing in newest.get() + 1..seq_no.get() {
                let gap = Gap { since: now, ask_at: now + ASK_AFTER, asks: 0 };
                self.open.insert(SeqNo::new(missing), gap);
            }
            self.newest = Some(seq_no);
            return Arrival::New;
        }
        match self.open.remove(&seq_no) {
            Some(gap) if gap.asks > 0 => Arrival::Repaired,
            Some(_) => Arrival::Reordered,
            None => Arrival::Duplicate,
        }
    }

    /// Appends what to ask for now to `asks` and what is given up to `lost`, both ascending. Without `is_asking` the
    /// stream has no retransmissions, and gaps only grow old.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        round_trip: Duration,
        is_asking: bool,
        (asks, lost): (&mut Vec<SeqNo>, &mut Vec<SeqNo>),
    ) {
        let interval = round_trip.max(ASK_INTERVAL_MIN);
        self.open.retain(|seq_no, gap| {
            let is_hopeless = if is_asking {
                gap.asks >= ASKS_MAX && now >= gap.ask_at
            } else {
                now >= gap.since + PATIENCE
            };
            if is_hopeless {
                lost.push(*seq_no);
                return false;
            }
            if is_asking && now >= gap.ask_at {
                gap.asks += 1;
                gap.ask_at = now + interval;
                asks.push(*seq_no);
            }
            true
        });
    }

    pub(crate) fn poll_timeout(&self, is_asking: bool) -> Option<Instant> {
        let due = |gap: &Gap| if is_asking { gap.ask_at } else { gap.since + PATIENCE };
        self.open.values().map(due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Stream {
        gaps: Gaps,
        now: Instant,
    }

    impl Stream {
        fn of(seq_nos: &[u64]) -> Self {
            let mut stream = Self { gaps: Gaps::default(), now: Instant::now() };
            for seq_no in seq_nos {
                stream.receive(*seq_no);
            }
            stream
        }

        fn receive(&mut self, seq_no: u64) -> Arrival {
            self.gaps.received(self.now, SeqNo::new(seq_no))
        }

        fn after(&mut self, milliseconds: u64, is_asking: bool) -> (Vec<u64>, Vec<u64>) {
            self.now += Duration::from_millis(milliseconds);
            let (mut asks, mut lost) = (Vec::new(), Vec::new());
            self.gaps.poll(self.now, Duration::from_millis(50), is_asking, (&mut asks, &mut lost));
            let numbers = |seq_nos: Vec<SeqNo>| seq_nos.into_iter().map(SeqNo::get).collect();
            (numbers(asks), numbers(lost))
        }
    }

    #[test]
    fn a_gap_is_asked_for_after_twenty_milliseconds_and_again_after_each_round_trip() {
        let mut stream = Stream::of(&[10, 13]);
        assert_eq!(stream.after(19, true), (vec![], vec![]));
        assert_eq!(stream.after(1, true), (vec![11, 12], vec![]));
        assert_eq!(stream.receive(12), Arrival::Repaired);
        assert_eq!(stream.after(49, true), (vec![], vec![]));
        assert_eq!(stream.after(1, true), (vec![11], vec![]));
        assert_eq!(stream.gaps.frontier(), Some(SeqNo::new(10)));
        assert_eq!(stream.receive(11), Arrival::Repaired);
        assert_eq!(stream.gaps.frontier(), Some(SeqNo::new(13)));
        assert_eq!(stream.gaps.poll_timeout(true), None);
    }

    #[test]
    fn what_never_comes_is_given_up_after_ten_requests() {
        let mut stream = Stream::of(&[1, 3]);
        stream.after(20, true);
        for _ in 1..10 {
            assert_eq!(stream.after(50, true), (vec![2], vec![]));
        }
        assert_eq!(stream.after(50, true), (vec![], vec![2]));
        assert_eq!(stream.receive(2), Arrival::Duplicate);
    }

    #[test]
    fn without_retransmissions_gaps_grow_old() {
        let mut stream = Stream::of(&[1, 3]);
        assert_eq!(stream.after(499, false), (vec![], vec![]));
        assert_eq!(stream.after(1, false), (vec![], vec![2]));
    }

    #[test]
    fn packets_that_changed_places_are_no_loss() {
        let mut stream = Stream::of(&[1, 3]);
        assert_eq!(stream.receive(2), Arrival::Reordered);
        assert_eq!(stream.receive(2), Arrival::Duplicate);
        assert_eq!(stream.receive(3 + JUMP_MAX + 1), Arrival::Restart);
        assert_eq!(stream.gaps.open().count(), 0);
    }
}
