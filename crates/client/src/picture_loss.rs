//! When a viewer asks for a keyframe: as browsers do, where there is no picture to start from or a gap stayed open.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A gap that retransmission has not closed by then is a loss.
const GAP_AGE_MAX: Duration = Duration::from_millis(500);
/// Without a keyframe for this long after the first packet, one is asked for.
const FIRST_KEYFRAME_PATIENCE: Duration = Duration::from_millis(200);
/// And again so often.
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// Gaps remembered; a larger hole is a loss at once.
const GAPS_MAX: u64 = 1000;

/// Follows one video stream's sequence numbers.
#[derive(Debug, Default)]
pub(crate) struct PictureLoss {
    highest: Option<u64>,
    open: BTreeMap<u64, Instant>,
    request_at: Option<Instant>,
    lost: u64,
}

impl PictureLoss {
    /// Packets that never came.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    pub(crate) fn handle_packet(&mut self, now: Instant, seq_no: u64, starts_keyframe: bool) {
        match self.highest {
            None => {
                self.highest = Some(seq_no);
                self.request_at = Some(now + FIRST_KEYFRAME_PATIENCE);
            }
            Some(highest) if seq_no > highest => {
                let missing = seq_no - highest - 1;
                if missing > GAPS_MAX {
                    self.lost += missing;
                    self.open.clear();
                    self.request_at = Some(now);
                } else {
                    self.open.extend((highest + 1..seq_no).map(|missing| (missing, now)));
                }
                self.highest = Some(seq_no);
            }
            Some(_) => {
                self.open.remove(&seq_no);
            }
        }
        if starts_keyframe {
            self.request_at = None;
        }
    }

    /// Whether a keyframe is to be asked for now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let overdue: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, since)| now >= **since + GAP_AGE_MAX)
            .map(|(seq_no, _)| *seq_no)
            .collect();
        for seq_no in &overdue {
            self.open.remove(seq_no);
        }
        self.lost += overdue.len() as u64;
        if !overdue.is_empty() && self.request_at.is_none() {
            self.request_at = Some(now);
        }
        let is_due = self.request_at.is_some_and(|at| at <= now);
        if is_due {
            self.request_at = Some(now + REQUEST_INTERVAL);
        }
        is_due
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let gap = self.open.values().min().map(|since| *since + GAP_AGE_MAX);
        [gap, self.request_at].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_starts_with_a_keyframe_asks_for_nothing() {
        let now = Instant::now();
        let mut loss = PictureLoss::default();
        loss.handle_packet(now, 10, true);
        loss.handle_packet(now, 11, false);
        assert_eq!(loss.poll_timeout(), None);
    }

    #[test]
    fn a_stream_that_starts_with_a_delta_asks_once_a_second_until_a_keyframe_comes() {
        let now = Instant::now();
        let mut loss = PictureLoss::default();
        loss.handle_packet(now, 10, false);
        let first = loss.poll_timeout().expect("a request is planned");
        assert_eq!(first - now, FIRST_KEYFRAME_PATIENCE);
        assert!(loss.handle_timeout(first));
        assert!(!loss.handle_timeout(first + Duration::from_millis(999)));
        assert!(loss.handle_timeout(first + REQUEST_INTERVAL));
        loss.handle_packet(first, 11, true);
        assert_eq!(loss.poll_timeout(), None);
    }

    #[test]
    fn a_repaired_gap_is_no_loss_and_an_open_one_asks_for_a_keyframe() {
        let now = Instant::now();
        let mut loss = PictureLoss::default();
        loss.handle_packet(now, 10, true);
        loss.handle_packet(now, 13, false);
        loss.handle_packet(now, 11, false);
        loss.handle_packet(now, 12, false);
        assert!(!loss.handle_timeout(now + GAP_AGE_MAX));
        loss.handle_packet(now, 15, false);
        assert_eq!(loss.poll_timeout(), Some(now + GAP_AGE_MAX));
        assert!(loss.handle_timeout(now + GAP_AGE_MAX));
        assert_eq!(loss.lost(), 1);
    }
}
