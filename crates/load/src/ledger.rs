//! What each viewer was owed in the window, and what it got.
//!
//! A viewer's own sequence numbers tell the gaps between the first and the last packet it saw, but not that a stream
//! went silent. For that, it is compared with the viewer of the same broadcast that saw most.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Kind;
use serde::Serialize;

use crate::frames::Stalls;

/// Silence before the first or after the last packet that is no loss: streams have pauses between packets, and threads
/// open the window one after the other.
const SILENCE_MIN: Duration = Duration::from_millis(400);

/// One track of one viewer. Times count from the start of the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Account {
    pub(crate) broadcast: usize,
    pub(crate) kind: Kind,
    /// From when the viewer should have been served: zero for one that was there before.
    pub(crate) present_from: Duration,
    /// When it left, or the end of the window.
    pub(crate) present_to: Duration,
    /// First and last packet in the window.
    pub(crate) seen: Option<(Duration, Duration)>,
    /// By sequence numbers.
    pub(crate) expected: u64,
    pub(crate) lost_before_repair: u64,
    pub(crate) lost_after_repair: u64,
}

/// What a thread knows at the end.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) tracks: Vec<Account>,
    pub(crate) stalls: StallCount,
}

/// Stalls of all viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct StallCount {
    pub(crate) viewers: u64,
    pub(crate) count: u64,
    pub(crate) longest: Duration,
}

impl StallCount {
    pub(crate) fn add(&mut self, of_viewer: Stalls) {
        self.viewers += u64::from(of_viewer.count > 0);
        self.count += of_viewer.count;
        self.longest = self.longest.max(of_viewer.longest);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.viewers += other.viewers;
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }
}

/// Packets of all viewers in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Delivery {
    /// Packets owed: by sequence numbers, and by comparison where a stream went silent.
    pub expected: u64,
    /// Of them, here at the end.
    pub delivered: u64,
    /// Packets that had to be repaired or were silence.
    pub lost_before_repair: u64,
    /// Packets that never came.
    pub lost_after_repair: u64,
}

/// Adds everything up.
pub(crate) fn settle(accounts: &[Account]) -> Delivery {
    let mut best: BTreeMap<(usize, Kind), Pace> = BTreeMap::new();
    for account in accounts {
        let pace = Pace::of(account);
        let entry = best.entry((account.broadcast, account.kind)).or_default();
        *entry = entry.better(pace);
    }
    let mut sum = Delivery::default();
    for account in accounts {
        let silent = best.get(&(account.broadcast, account.kind)).map_or(0, |best| best.missed_by(account));
        sum.expected += account.expected + silent;
        sum.delivered += account.expected - account.lost_after_repair.min(account.expected);
        sum.lost_before_repair += account.lost_before_repair + silent;
        sum.lost_after_repair += account.lost_after_repair + silent;
    }
    sum
}

/// How a broadcast's track went where it went best.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Pace {
    packets_per_second: f64,
    from: Duration,
    to: Duration,
    /// What any one viewer was owed at most: a rate taken while a server catches up is too high.
    packets_max: u64,
}

impl Pace {
    fn of(account: &Account) -> Self {
        let Some((from, to)) = account.seen else { return Self::default() };
        let seconds = (to - from).as_secs_f64();
        // Between n packets lie n - 1 intervals.
        let packets_per_second =
            if seconds > 0.0 { account.expected.saturating_sub(1) as f64 / seconds } else { 0.0 };
        Self { packets_per_second, from, to, packets_max: account.expected }
    }

    /// The rate of whoever watched longest, the reach of all.
    fn better(self, other: Self) -> Self {
        let longer = if other.to - other.from > self.to - self.from { other } else { self };
        let from = if self == Self::default() { other.from } else { self.from.min(other.from) };
        let packets_max = self.packets_max.max(other.packets_max);
        Self { packets_per_second: longer.packets_per_second, from, to: self.to.max(other.to), packets_max }
    }

    /// Packets that fell into the viewer's silence.
    fn missed_by(self, account: &Account) -> u64 {
        let from = self.from.max(account.present_from);
        let to = self.to.min(account.present_to);
        let silence = match account.seen {
            None => to.saturating_sub(from),
            Some((first, last)) => {
                // One who joins in the window waits for its first packet; that is a matter of its first frame.
                let head =
                    if account.present_from.is_zero() { first.saturating_sub(from) } else { Duration::ZERO };
                let long = |silence: Duration| if silence > SILENCE_MIN { silence } else { Duration::ZERO };
                long(head) + long(to.saturating_sub(last))
            }
        };
        let missed = (silence.as_secs_f64() * self.packets_per_second).round() as u64;
        missed.min(self.packets_max.saturating_sub(account.expected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    /// A viewer of a stream with 100 packets a second, served from and to these seconds.
    fn served(from: f64, to: f64) -> Account {
        let seen = (Duration::from_secs_f64(from), Duration::from_secs_f64(to));
        Account {
            broadcast: 0,
            kind: Kind::Video,
            present_from: Duration::ZERO,
            present_to: WINDOW,
            seen: Some(seen),
            expected: ((to - from) * 100.0) as u64 + 1,
            lost_before_repair: 0,
            lost_after_repair: 0,
        }
    }

    #[test]
    fn repaired_packets_are_delivered_and_the_others_are_not() {
        let account = Account { lost_before_repair: 20, lost_after_repair: 3, ..served(0.0, 9.99) };
        let expected =
            Delivery { expected: 1000, delivered: 997, lost_before_repair: 20, lost_after_repair: 3 };
        assert_eq!(settle(&[account]), expected);
    }

    #[test]
    fn silence_at_the_end_is_loss_compared_with_the_best_viewer() {
        let sum = settle(&[served(0.0, 10.0), served(0.0, 6.0)]);
        assert_eq!((sum.expected, sum.delivered, sum.lost_after_repair), (2002, 1602, 400));
        let sum = settle(&[served(0.0, 10.0), served(0.01, 9.8)]);
        assert_eq!(sum.lost_after_repair, 0, "a pause between frames is no loss");
    }

    #[test]
    fn nobody_is_owed_more_than_the_best_got() {
        let late = Account { seen: Some((Duration::from_secs(5), WINDOW)), ..served(0.0, 10.0) };
        let sum = settle(&[served(0.0, 10.0), late]);
        assert_eq!((sum.expected, sum.lost_after_repair), (2002, 0), "late, but all of it");
    }

    #[test]
    fn a_viewer_that_saw_nothing_missed_everything() {
        let nothing = Account { seen: None, expected: 0, ..served(0.0, 0.0) };
        let sum = settle(&[nothing, served(0.0, 10.0)]);
        assert_eq!((sum.expected, sum.delivered, sum.lost_after_repair), (2001, 1001, 1000));
        assert_eq!(settle(&[nothing]), Delivery::default(), "nobody knows of anything");
    }

    #[test]
    fn who_comes_or_goes_in_the_window_is_owed_its_own_time_only() {
        let came = Account { present_from: Duration::from_secs(3), ..served(4.0, 10.0) };
        let left = Account { present_to: Duration::from_secs(5), ..served(0.0, 4.98) };
        let sum = settle(&[served(0.0, 10.0), came, left]);
        assert_eq!(sum.lost_after_repair, 0);
        let late =
            Account { seen: Some((Duration::from_secs(4), WINDOW)), expected: 601, ..served(0.0, 10.0) };
        assert_eq!(settle(&[served(0.0, 10.0), late]).lost_after_repair, 400);
    }

    #[test]
    fn broadcasts_and_tracks_are_compared_with_their_own_kind() {
        let other = Account { broadcast: 1, ..served(0.0, 5.0) };
        let audio = Account { kind: Kind::Audio, ..served(0.0, 2.0) };
        assert_eq!(settle(&[served(0.0, 10.0), other, audio]).lost_after_repair, 0);
    }
}
