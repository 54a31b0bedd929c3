//! Receiver side of hop-by-hop repair (RFC 4585, section 6.2.1): which packets of one RTP stream are missing, and when
//! to ask for them.
//!
//! Keeps no packets and writes no NACKs; it only says which sequence numbers to ask for now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::SeqNo;

/// How patiently and how often a [`GapTracker`] asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Least wait before the first request, in case the packet is only late; the wait is a quarter of the round trip
    /// where that is longer.
    pub reorder_delay_min: Duration,
    /// Least wait between requests for the same packet; the wait is 1.2 round trips where that is longer.
    pub ask_interval_min: Duration,
    /// Requests for one packet before it is given up.
    pub asks_max: u32,
    /// Age of a gap at which it is given up.
    pub age_max: Duration,
    /// Gaps kept at once. More of them push out the oldest; a jump over more numbers than this is a new start.
    pub outstanding_max: usize,
}

impl Default for Config {
    /// 5 ms, 20 ms, 10 requests, 1 s, 1024 gaps: a burst of 3 s at 361 packets/s, or a quarter of a second at 40 Mbit/s.
    fn default() -> Self {
        Self {
            reorder_delay_min: Duration::from_millis(5),
            ask_interval_min: Duration::from_millis(20),
            asks_max: 10,
            age_max: Duration::from_secs(1),
            outstanding_max: 1024,
        }
    }
}

/// What a packet means to the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far.
    New,
    /// It has been here before.
    Duplicate,
    /// It fills a gap.
    Recovered {
        /// Time since the gap was seen.
        after: Duration,
    },
    /// Its gap was given up, it came before the first packet, or before a new start; nobody can tell whether it has been
    /// here before.
    TooOld,
}

/// Counts since the tracker began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Packets that were new or filled a gap.
    pub received: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets that filled a gap, asked for or only late.
    pub recovered: u64,
    /// Packets that had been here before.
    pub duplicates: u64,
    /// Requests made: one for each sequence number each time.
    pub asked: u64,
    /// Jumps too wide to be gaps.
    pub resets: u64,
    /// Gaps open now.
    pub outstanding: u64,
}

#[derive(Debug)]
struct Gap {
    since: Instant,
    ask_at: Instant,
    asks: u32,
}

/// Follows the sequence numbers of one RTP stream.
#[derive(Debug)]
pub struct GapTracker {
    config: Config,
    round_trip: Duration,
    newest: Option<SeqNo>,
    /// Where the stream begins as far as is known.
    first: SeqNo,
    gaps: BTreeMap<SeqNo, Gap>,
    /// Below it, what is not a gap is forgotten: never seen, or given up.
    horizon: SeqNo,
    /// Not later than the first deadline of all gaps.
    wake_at: Option<Instant>,
    stats: Stats,
}

impl GapTracker {
    /// A tracker that has seen nothing; the round trip counts as zero until it is set.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            round_trip: Duration::ZERO,
            newest: None,
            first: SeqNo::new(0),
            gaps: BTreeMap::new(),
            horizon: SeqNo::new(0),
            wake_at: None,
            stats: Stats::default(),
        }
    }

    /// Sets the round trip to the parent; requests from now on are spaced by it.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.round_trip = round_trip;
    }

    /// Takes note of a packet.
    pub fn received(&mut self, now: Instant, seq_no: SeqNo) -> Arrival {
        let arrival = match self.newest {
            None => {
                self.horizon = seq_no;
                self.first = seq_no;
                self.newest = Some(seq_no);
                Arrival::New
            }
            Some(newest) if seq_no > newest => {
                self.open_gaps(now, newest, seq_no);
                self.newest = Some(seq_no);
                Arrival::New
            }
            Some(_) => match self.gaps.remove(&seq_no) {
                Some(gap) => Arrival::Recovered { after: now.saturating_duration_since(gap.since) },
                None if seq_no < self.horizon => Arrival::TooOld,
                None => Arrival::Duplicate,
            },
        };
        match arrival {
            Arrival::New => self.stats.received += 1,
            Arrival::Recovered { .. } => {
                self.stats.received += 1;
                self.stats.recovered += 1;
            }
            Arrival::Duplicate => self.stats.duplicates += 1,
            Arrival::TooOld => {}
        }
        if self.gaps.is_empty() {
            self.wake_at = None;
        }
        arrival
    }

    /// The stream will begin with `first`, so that its loss is noticed too. For a tracker that has seen nothing.
    pub fn expect(&mut self, first: SeqNo) {
        if self.newest.is_none()
            && let Some(before) = first.get().checked_sub(1)
        {
            self.newest = Some(SeqNo::new(before));
            self.first = first;
            self.horizon = first;
        }
    }

    /// A packet that was too old belongs to the stream after all: whatever lies between it and the first one is missing.
    /// Nothing changes for one that is not from before the first, or so far before it that the gaps would be too many.
    pub fn begin_earlier(&mut self, now: Instant, seq_no: SeqNo) {
        let Some(distance) = self.first.get().checked_sub(seq_no.get()).filter(|distance| *distance > 0)
        else {
            return;
        };
        let missing = distance as usize - 1;
        if self.newest.is_none() || self.gaps.len() + missing > self.config.outstanding_max {
            return;
        }
        let after_first = self.first;
        self.first = seq_no;
        self.stats.received += 1;
        self.insert_gaps(now, seq_no, after_first);
    }

    /// The stream began with `first`, before the first packet that came: both it and what lies between are missing. Nothing
    /// changes where nothing has come, where `first` is no earlier, or where the gaps would be too many.
    pub fn begins_with(&mut self, now: Instant, first: SeqNo) {
        let missing = self.first.get().saturating_sub(first.get()) as usize;
        let Some(before) = first.get().checked_sub(1).filter(|_| missing > 0) else { return };
        if self.newest.is_none() || self.gaps.len() + missing > self.config.outstanding_max {
            return;
        }
        let after = std::mem::replace(&mut self.first, first);
        self.insert_gaps(now, SeqNo::new(before), after);
    }

    /// Appends the numbers to ask for now, ascending, and gives up what is hopeless.
    pub fn poll_nack(&mut self, now: Instant, out: &mut Vec<SeqNo>) {
        if self.wake_at.is_none_or(|wake_at| now < wake_at) {
            return;
        }
        let interval = self.round_trip.mul_f32(1.2).max(self.config.ask_interval_min);
        let config = self.config;
        let stats = &mut self.stats;
        let horizon = &mut self.horizon;
        let mut wake_at: Option<Instant> = None;
        self.gaps.retain(|seq_no, gap| {
            let give_up_at = gap.since + config.age_max;
            if now >= give_up_at || (gap.asks >= config.asks_max && now >= gap.ask_at) {
                stats.lost += 1;
                *horizon = (*horizon).max(seq_no.plus(1));
                return false;
            }
            if now >= gap.ask_at {
                out.push(*seq_no);
                stats.asked += 1;
                gap.asks += 1;
                gap.ask_at = now + interval;
            }
            let deadline = gap.ask_at.min(give_up_at);
            wake_at = Some(wake_at.map_or(deadline, |earliest| earliest.min(deadline)));
            true
        });
        self.wake_at = wake_at;
    }

    /// When [`poll_nack`](Self::poll_nack) has something to do.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.wake_at
    }

    /// The highest sequence number so far.
    #[must_use]
    pub const fn newest(&self) -> Option<SeqNo> {
        self.newest
    }

    /// Counts since the beginning.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { outstanding: self.gaps.len() as u64, ..self.stats }
    }

    fn open_gaps(&mut self, now: Instant, newest: SeqNo, seq_no: SeqNo) {
        let missing = (seq_no.get() - newest.get() - 1) as usize;
        if missing > self.config.outstanding_max {
            self.stats.lost += self.gaps.len() as u64;
            self.stats.resets += 1;
            self.gaps.clear();
            self.horizon = seq_no;
            self.first = seq_no;
            return;
        }
        while self.gaps.len() + missing > self.config.outstanding_max {
            if let Some((oldest, _)) = self.gaps.pop_first() {
                self.stats.lost += 1;
                self.horizon = self.horizon.max(oldest.plus(1));
            }
        }
        self.insert_gaps(now, newest, seq_no);
    }

    /// Opens a gap for each number between the two.
    fn insert_gaps(&mut self, now: Instant, before: SeqNo, after: SeqNo) {
        if before.plus(1) == after {
            return;
        }
        let ask_at = now + (self.round_trip / 4).max(self.config.reorder_delay_min);
        for index in before.get() + 1..after.get() {
            self.gaps.insert(SeqNo::new(index), Gap { since: now, ask_at, asks: 0 });
        }
        let deadline = ask_at.min(now + self.config.age_max);
        self.wake_at = Some(self.wake_at.map_or(deadline, |earliest| earliest.min(deadline)));
    }
}

#[cfg(test)]
mod tests;
