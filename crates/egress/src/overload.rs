//! What a shard leaves out when it cannot keep up: first repeats and probes, then the best layer, then the next, while
//! sound goes on longest.
//!
//! Being a little behind costs repeats and probes alone, see [`Shard::gather`](crate::Shard::gather). This is about a shard
//! for which packets wait far too long, again and again: then its viewers get a worse layer, where there is one, and a
//! better one only after it has been well for a while. A shard that is relieved and falls behind again waits longer.

use std::time::{Duration, Instant};

/// Packets that wait longer wait far too long: half of what they may at most.
const FAR: Duration = Duration::from_millis(125);
/// Waits that come so close after each other are one shortage.
const APART_MAX: Duration = Duration::from_secs(1);
/// A shortage of this length costs a layer, and each further one of it another.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long it has to be well to be given a layer back, and after relapses up to the second.
const WELL_MIN: Duration = Duration::from_secs(10);
const WELL_MAX: Duration = Duration::from_secs(160);
/// A shortage so soon after a layer was given back is a relapse.
const RELAPSE: Duration = Duration::from_secs(30);
/// There are not more to leave out: the worst of them stays.
const LAYERS_MAX: u8 = crate::controller::LAYERS_MAX as u8 - 1;

/// How far it has come.
#[derive(Debug)]
pub struct Overload {
    /// So many of the best layers are left out.
    layers: u8,
    /// The first and the latest wait of a shortage.
    shortage: Option<(Instant, Instant)>,
    /// When a layer was given back.
    relieved_at: Option<Instant>,
    well: Duration,
}

impl Overload {
    /// All is well.
    pub const fn new() -> Self {
        Self { layers: 0, shortage: None, relieved_at: None, well: WELL_MIN }
    }

    /// So many of the best layers are left out.
    pub const fn layers(&self) -> u8 {
        self.layers
    }

    /// A packet has waited for the shard.
    pub fn waited(&mut self, now: Instant, time: Duration) {
        if time < FAR {
            return;
        }
        let is_same = |(_, latest): &(Instant, Instant)| now.saturating_duration_since(*latest) <= APART_MAX;
        let first = self.shortage.filter(is_same).map_or(now, |(first, _)| first);
        self.shortage = Some((first, now));
    }

    /// Looks at how it stands; true if another number of layers is left out from now on.
    pub fn look(&mut self, now: Instant) -> bool {
        let Some((first, latest)) = self.shortage else { return false };
        let before = self.layers;
        if now.saturating_duration_since(latest) <= APART_MAX {
            if latest.saturating_duration_since(first) < PATIENCE || self.layers == LAYERS_MAX {
                return false;
            }
            let relieved_at = self.relieved_at.take();
            if relieved_at.is_some_and(|at| latest.saturating_duration_since(at) < RELAPSE) {
                self.well = (self.well * 2).min(WELL_MAX);
            } else if self.layers == 0 {
                self.well = WELL_MIN;
            }
            self.layers += 1;
            self.shortage = Some((latest, latest));
        } else {
            let since = self.relieved_at.map_or(latest, |at| at.max(latest));
            if self.layers > 0 && now.saturating_duration_since(since) >= self.well {
                self.layers -= 1;
                self.relieved_at = Some(now);
            }
        }
        self.layers != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shard {
        overload: Overload,
        now: Instant,
    }

    impl Shard {
        fn new() -> Self {
            Self { overload: Overload::new(), now: Instant::now() }
        }

        /// So many seconds in which packets wait for so long.
        fn seconds(&mut self, seconds: u64, wait: Duration) -> u8 {
            for _ in 0..seconds * 4 {
                self.now += Duration::from_millis(250);
                self.overload.waited(self.now, wait);
                self.overload.look(self.now);
            }
            self.overload.layers()
        }
    }

    const LONG: Duration = Duration::from_millis(200);
    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn layers_go_one_by_one_while_packets_wait_far_too_long() {
        let mut shard = Shard::new();
        assert_eq!(shard.seconds(60, SHORT), 0, "a little behind");
        assert_eq!(shard.seconds(2, LONG), 0);
        assert_eq!(shard.seconds(1, LONG), 1);
        assert_eq!(shard.seconds(2, LONG), 2);
        assert_eq!(shard.seconds(100, LONG), LAYERS_MAX, "the worst stays");
    }

    #[test]
    fn a_machine_that_stood_still_for_a_moment_costs_nothing() {
        let mut shard = Shard::new();
        for _ in 0..20 {
            assert_eq!(shard.seconds(1, LONG), 0);
            assert_eq!(shard.seconds(3, SHORT), 0);
        }
    }

    #[test]
    fn they_come_back_one_by_one_and_after_a_relapse_later() {
        let mut shard = Shard::new();
        shard.seconds(5, LONG);
        assert_eq!(shard.seconds(9, SHORT), 2);
        assert_eq!(shard.seconds(2, SHORT), 1);
        assert_eq!(shard.seconds(10, SHORT), 0);
        assert_eq!(shard.seconds(3, LONG), 1, "a relapse");
        assert_eq!(shard.seconds(15, SHORT), 1);
        assert_eq!(shard.seconds(10, SHORT), 0);
        shard.seconds(200, SHORT);
        assert_eq!(shard.seconds(3, LONG), 1);
        assert_eq!(shard.seconds(12, SHORT), 0, "a new one");
    }
}
