//! What has to be seen over time: join rate, what holds steadily, how calm it has been.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use model::NodeId;

use super::Places;

/// What does not hold for so long is noise.
const STEADY: Duration = Duration::from_secs(5);
/// The join rate is that of this time.
const RATE: Duration = Duration::from_secs(60);
/// The budget is one of this time.
const HOUR: Duration = Duration::from_secs(3600);
/// A longer pause between two looks was not observed: it counts neither as steady nor as calm.
const GAP: Duration = Duration::from_secs(5);
/// Looks kept. The shell looks each second, [`RATE`] is a minute.
const LOOKS_MAX: usize = 128;
/// Parts of the cool-down of which the peak is kept.
const PARTS: u32 = 60;

/// What holds for some seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steady {
    /// The least viewers that there were.
    pub viewers: u64,
    /// The most places that there were.
    pub places: u64,
    /// Viewers that became more within the last minute.
    pub joins_per_minute: u64,
}

/// What a whole cool-down did not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calm {
    /// The most viewers.
    pub viewers: u64,
    /// The least that nodes took of what they are configured for, in permille.
    pub yield_permille: u64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Measured {
    /// `None` until it was looked at for long enough.
    pub steady: Option<Steady>,
    /// `None` until a whole cool-down was looked at.
    pub calm: Option<Calm>,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    viewers: u64,
    places: u64,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    begins: Instant,
    calm: Calm,
}

/// Looks at the places of one tree each second.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    looks: VecDeque<Look>,
    parts: VecDeque<Part>,
    /// Since when it was looked at without a gap.
    since: Option<Instant>,
    /// Nodes that are not well, and since when.
    unwell: BTreeMap<NodeId, Instant>,
}

impl Meter {
    /// Has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One look. Looks at which some load is not known leave a gap.
    pub fn look(&mut self, now: Instant, places: Places, cool_down: Duration) {
        let last = self.looks.back().map(|look| look.at);
        if last.is_some_and(|last| now.saturating_duration_since(last) > GAP) {
            (self.looks, self.parts, self.since) = Default::default();
        }
        let Some(yield_permille) = places.yield_permille().filter(|_| places.unknown == 0) else { return };
        self.since.get_or_insert(now);
        self.looks.push_back(Look { at: now, viewers: places.viewers, places: places.places });
        while self.looks.len() > LOOKS_MAX || self.looks.front().is_some_and(|look| look.at + RATE < now) {
            self.looks.pop_front();
        }
        let width = cool_down / PARTS;
        match self.parts.back_mut() {
            Some(part) if now < part.begins + width => {
                part.calm.viewers = part.calm.viewers.max(places.viewers);
                part.calm.yield_permille = part.calm.yield_permille.min(yield_permille);
            }
            _ => {
                let calm = Calm { viewers: places.viewers, yield_permille };
                self.parts.push_back(Part { begins: now, calm });
            }
        }
        while self.parts.front().is_some_and(|part| part.begins + width + cool_down < now) {
            self.parts.pop_front();
        }
    }

    /// What the looks until now say.
    #[must_use]
    pub fn measured(&self, now: Instant, cool_down: Duration) -> Measured {
        let seen = self.since.map(|since| now.saturating_duration_since(since));
        let is_current = self.looks.back().is_some_and(|look| look.at + GAP >= now);
        let is_steady = is_current && seen.is_some_and(|seen| seen >= STEADY);
        let is_calm = is_current && seen.is_some_and(|seen| seen >= cool_down);
        Measured {
            steady: is_steady.then(|| self.steady(now)),
            calm: self.parts.iter().map(|part| part.calm).filter(|_| is_calm).reduce(|one, other| Calm {
                viewers: one.viewers.max(other.viewers),
                yield_permille: one.yield_permille.min(other.yield_permille),
            }),
        }
    }

    fn steady(&self, now: Instant) -> Steady {
        let recent = || self.looks.iter().filter(|look| look.at + STEADY >= now);
        Steady {
            viewers: recent().map(|look| look.viewers).min().unwrap_or(0),
            places: recent().map(|look| look.places).max().unwrap_or(0),
            joins_per_minute: self.joins(now),
        }
    }

    /// Who has left is subtracted: only who stays needs a place. The most of the first seconds is compared with the least of
    /// the last ones, so that noise is no crowd.
    fn joins(&self, now: Instant) -> u64 {
        let Some(first) = self.looks.front().map(|look| look.at) else { return 0 };
        let early = self.looks.iter().take_while(|look| look.at <= first + STEADY);
        let before = early.map(|look| look.viewers).max().unwrap_or(0);
        let late = self.looks.iter().filter(|look| look.at + STEADY >= now);
        late.map(|look| look.viewers).min().unwrap_or(0).saturating_sub(before)
    }

    /// These nodes are well, and those are not, of all that are to be kept an eye on.
    pub fn health(&mut self, now: Instant, unwell: &BTreeSet<NodeId>) {
        self.unwell.retain(|node, _| unwell.contains(node));
        for node in unwell {
            self.unwell.entry(node.clone()).or_insert(now);
        }
    }

    /// Since when a node is not well.
    #[must_use]
    pub fn unwell_since(&self, node: &NodeId) -> Option<Instant> {
        self.unwell.get(node).copied()
    }
}

/// When nodes were first seen to be wanted: what the budget is spent on.
#[derive(Debug, Clone, Default)]
pub struct Ledger(BTreeMap<NodeId, Instant>);

impl Ledger {
    /// Nothing was spent.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// These are all nodes of slots. A name counts once, however often its node is started again.
    pub fn seen<'a>(&mut self, now: Instant, nodes: impl Iterator<Item = &'a NodeId>) {
        let nodes: BTreeSet<&NodeId> = nodes.collect();
        // One that is still there stays known, so that it does not count anew.
        self.0.retain(|node, at| nodes.contains(node) || *at + HOUR > now);
        for node in nodes {
            self.0.entry(node.clone()).or_insert(now);
        }
    }

    /// Nodes that came within the last hour.
    #[must_use]
    pub fn started_lately(&self, now: Instant) -> u32 {
        self.0.values().filter(|at| **at + HOUR > now).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COOL_DOWN: Duration = Duration::from_secs(120);

    fn places(viewers: u64) -> Places {
        Places { viewers, places: 1000, nominal: 1000, known: 2, unknown: 0 }
    }

    /// Looks each second from `from`; gives the next second.
    fn watch(meter: &mut Meter, from: Instant, viewers: impl IntoIterator<Item = u64>) -> Instant {
        let mut at = from;
        for count in viewers {
            meter.look(at, places(count), COOL_DOWN);
            at += Duration::from_secs(1);
        }
        at - Duration::from_secs(1)
    }

    #[test]
    fn a_meter_that_has_just_begun_says_nothing() {
        let begun = Instant::now();
        let mut meter = Meter::new();
        let now = watch(&mut meter, begun, [500; 4]);
        assert_eq!(meter.measured(now, COOL_DOWN), Measured::default());
        let now = watch(&mut meter, now, [500; 10]);
        assert_eq!(meter.measured(now, COOL_DOWN).steady.expect("steady").viewers, 500);
        assert_eq!(meter.measured(now, COOL_DOWN).calm, None);
    }

    #[test]
    fn the_join_rate_is_that_of_those_who_stay_and_noise_is_none() {
        let joins = |viewers: fn(u64) -> u64| {
            let mut meter = Meter::new();
            let now = watch(&mut meter, Instant::now(), (0..=60).map(viewers));
            meter.measured(now, COOL_DOWN).steady.expect("steady").joins_per_minute
        };
        assert_eq!(joins(|second| second * 10), 500);
        assert_eq!(joins(|second| 700 - second * 10), 0);
        assert_eq!(joins(|second| 300 + second * 7919 % 60), 0);
    }

    #[test]
    fn a_name_counts_once_and_for_an_hour() {
        let (begun, mut ledger) = (Instant::now(), Ledger::new());
        let nodes: Vec<NodeId> = ["a", "b"].iter().map(|name| NodeId::new(name).expect("a name")).collect();
        ledger.seen(begun, nodes.iter());
        ledger.seen(begun + Duration::from_secs(60), nodes[1..].iter());
        assert_eq!(ledger.started_lately(begun + Duration::from_secs(60)), 2);
        ledger.seen(begun + HOUR, nodes[1..].iter());
        assert_eq!(ledger.started_lately(begun + HOUR), 0);
        assert_eq!(ledger.0.len(), 1, "the one that is gone is forgotten");
    }

    #[test]
    fn one_second_of_noise_is_not_steady_and_one_peak_is_not_calm() {
        let mut meter = Meter::new();
        let noisy = (0..200).map(|second| if second == 150 { 900 } else { 100 });
        let now = watch(&mut meter, Instant::now(), noisy);
        let measured = meter.measured(now, COOL_DOWN);
        assert_eq!(measured.steady.expect("steady").viewers, 100);
        assert_eq!(measured.calm.expect("seen").viewers, 900);
        let now = watch(&mut meter, now, [100; 125]);
        assert_eq!(meter.measured(now, COOL_DOWN).calm.expect("seen").viewers, 100);
    }

    #[test]
    fn what_was_not_seen_was_not_calm() {
        let mut meter = Meter::new();
        let now = watch(&mut meter, Instant::now(), [100; 130]);
        assert!(meter.measured(now, COOL_DOWN).calm.is_some());
        let blind = Places { unknown: 1, ..places(0) };
        for second in 1..=8 {
            meter.look(now + Duration::from_secs(second), blind, COOL_DOWN);
        }
        let later = now + Duration::from_secs(8);
        assert_eq!(meter.measured(later, COOL_DOWN), Measured::default());
        let now = watch(&mut meter, later, [100; 30]);
        assert_eq!(meter.measured(now, COOL_DOWN).calm, None);
        assert!(meter.measured(now, COOL_DOWN).steady.is_some());
    }

    #[test]
    fn a_node_is_unwell_since_it_was_first_seen_so() {
        let (begun, mut meter) = (Instant::now(), Meter::new());
        let node = NodeId::new("e1").expect("a name");
        let unwell = BTreeSet::from([node.clone()]);
        meter.health(begun, &unwell);
        meter.health(begun + Duration::from_secs(9), &unwell);
        assert_eq!(meter.unwell_since(&node), Some(begun));
        meter.health(begun + Duration::from_secs(10), &BTreeSet::new());
        assert_eq!(meter.unwell_since(&node), None);
    }
}
