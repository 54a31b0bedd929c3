//! What there is to tell an operator's server of broadcasts: the difference between what it heard last and what is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{BroadcastId, BroadcastState, Epoch};

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A publishing run began here.
    Published(Epoch),
    /// It is over.
    Unpublished(Epoch),
    /// So many watch it on this node.
    Viewers(u64),
    /// So many watch it in the whole installation.
    Audience(u64),
    /// Its publisher could do better in these ways; in none, if there are none.
    Advice(Vec<&'static str>),
}

/// One broadcast, as it is now.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub id: BroadcastId,
    /// Live, or waiting.
    pub state: BroadcastState,
    /// The latest publishing run.
    pub epoch: Option<Epoch>,
    /// Viewers on this node.
    pub viewers: u64,
    /// Viewers in the whole installation, if this node is to tell: it is the one that is published to.
    pub audience: Option<u64>,
    /// Codes of what its publisher could do better, if it publishes here or tries to.
    pub advice: Vec<&'static str>,
    /// Whether its publisher is connected to this node.
    pub is_published_here: bool,
}

/// What was told.
#[derive(Debug)]
pub struct Changes {
    viewers_interval: Duration,
    told: BTreeMap<BroadcastId, Told>,
}

#[derive(Debug, Default)]
struct Told {
    run: Option<Epoch>,
    viewers: Count,
    audience: Count,
    advice: Vec<&'static str>,
    /// When advice may be told again.
    advice_due: Option<Instant>,
}

/// A number that was told.
#[derive(Debug, Default)]
struct Count {
    told: u64,
    /// When it may be told again.
    due: Option<Instant>,
}

impl Count {
    /// What to tell now, and when to look again if that is not yet.
    fn follow(&mut self, now: Instant, count: u64, interval: Duration) -> (Option<u64>, Option<Instant>) {
        if count == self.told {
            return (None, None);
        }
        if let Some(due) = self.due.filter(|due| now < *due) {
            return (None, Some(due));
        }
        *self = Self { told: count, due: Some(now + interval) };
        (Some(count), None)
    }
}

impl Changes {
    /// Tells the viewers of one broadcast no more often than this.
    pub const fn new(viewers_interval: Duration) -> Self {
        Self { viewers_interval, told: BTreeMap::new() }
    }

    /// Whether a run was told whose end was not.
    pub fn is_any_running(&self) -> bool {
        self.told.values().any(|told| told.run.is_some())
    }

    /// What is new, and when to look again if nothing changes.
    pub fn observe(&mut self, now: Instant, seen: &[Seen]) -> (Vec<(BroadcastId, Change)>, Option<Instant>) {
        let mut changes = Vec::new();
        let mut next = None;
        for one in seen {
            let told = self.told.entry(one.id.clone()).or_default();
            told.follow_run(one, &mut changes);
            let (viewers, viewers_due) = told.viewers.follow(now, one.viewers, self.viewers_interval);
            // Whoever takes over the publisher tells from what was told here: nothing is told of what is not ours.
            let audience = one.audience.unwrap_or(told.audience.told);
            let (audience, audience_due) = told.audience.follow(now, audience, self.viewers_interval);
            let counts = [viewers.map(Change::Viewers), audience.map(Change::Audience)];
            changes.extend(counts.into_iter().flatten().map(|change| (one.id.clone(), change)));
            let advice_due = told.follow_advice(now, one, self.viewers_interval, &mut changes);
            next = [next, viewers_due, audience_due, advice_due].into_iter().flatten().min();
        }
        self.told.retain(|id, told| {
            let is_known = seen.iter().any(|one| one.id == *id);
            if !is_known {
                changes.extend(told.run.map(|run| (id.clone(), Change::Unpublished(run))));
                let is_watched =
                    [(told.viewers.told, Change::Viewers(0)), (told.audience.told, Change::Audience(0))];
                let over = is_watched.into_iter().filter(|(told, _)| *told > 0);
                changes.extend(over.map(|(_, change)| (id.clone(), change)));
                if !told.advice.is_empty() {
                    changes.push((id.clone(), Change::Advice(Vec::new())));
                }
            }
            is_known
        });
        (changes, next)
    }
}

impl Told {
    /// Tells advice that is not as it was told, no more often than the interval; gives when to look again.
    fn follow_advice(
        &mut self,
        now: Instant,
        seen: &Seen,
        interval: Duration,
        changes: &mut Vec<(BroadcastId, Change)>,
    ) -> Option<Instant> {
        if seen.advice == self.advice {
            return None;
        }
        if let Some(due) = self.advice_due.filter(|due| now < *due) {
            return Some(due);
        }
        self.advice.clone_from(&seen.advice);
        self.advice_due = Some(now + interval);
        changes.push((seen.id.clone(), Change::Advice(seen.advice.clone())));
        None
    }

    fn follow_run(&mut self, seen: &Seen, changes: &mut Vec<(BroadcastId, Change)>) {
        let is_over = |run: &Epoch| seen.state == BroadcastState::Waiting || seen.epoch != Some(*run);
        if let Some(run) = self.run.take_if(|run| is_over(run)) {
            changes.push((seen.id.clone(), Change::Unpublished(run)));
        }
        let begun = seen.epoch.filter(|_| seen.state == BroadcastState::Live && seen.is_published_here);
        if let (None, Some(run)) = (self.run, begun) {
            self.run = Some(run);
            changes.push((seen.id.clone(), Change::Published(run)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn epoch(counter: u64) -> Epoch {
        Epoch { counter, random: 7 }
    }

    fn seen(state: BroadcastState, counter: u64, viewers: u64) -> Seen {
        let id = BroadcastId::new("show").expect("id");
        Seen {
            id,
            state,
            epoch: Some(epoch(counter)),
            viewers,
            audience: None,
            advice: Vec::new(),
            is_published_here: true,
        }
    }

    fn told(changes: &mut Changes, now: Instant, seen: &[Seen]) -> Vec<Change> {
        changes.observe(now, seen).0.into_iter().map(|(_, change)| change).collect()
    }

    #[test]
    fn each_run_begins_once_and_ends_once() {
        use BroadcastState::{Live, Waiting};
        let (now, mut changes) = (Instant::now(), Changes::new(INTERVAL));
        let mut look = |seen: Seen| told(&mut changes, now, &[seen]);
        assert_eq!(look(Seen { epoch: None, ..seen(Waiting, 0, 0) }), []);
        assert_eq!(look(seen(Live, 1, 0)), [Change::Published(epoch(1))]);
        assert_eq!(look(seen(Live, 1, 0)), []);
        assert_eq!(
            look(seen(Live, 2, 0)),
            [Change::Unpublished(epoch(1)), Change::Published(epoch(2))],
            "another publisher took over"
        );
        assert_eq!(look(seen(Waiting, 2, 0)), [Change::Unpublished(epoch(2))]);
        assert_eq!(look(seen(Live, 3, 0)), [Change::Published(epoch(3))]);
        assert!(changes.is_any_running());
        assert_eq!(told(&mut changes, now, &[]), [Change::Unpublished(epoch(3))], "the broadcast is no more");
        assert_eq!(told(&mut changes, now, &[]), []);
        assert!(!changes.is_any_running());
    }

    #[test]
    fn what_others_publish_is_theirs_to_tell() {
        let (now, mut changes) = (Instant::now(), Changes::new(INTERVAL));
        let elsewhere = Seen { is_published_here: false, ..seen(BroadcastState::Live, 1, 0) };
        assert_eq!(told(&mut changes, now, &[elsewhere]), []);
    }

    #[test]
    fn viewers_are_told_now_and_then_and_the_last_number_always() {
        let (start, mut changes) = (Instant::now(), Changes::new(INTERVAL));
        let waiting = |viewers| [Seen { is_published_here: false, ..seen(BroadcastState::Live, 1, viewers) }];
        assert_eq!(told(&mut changes, start, &waiting(3)), [Change::Viewers(3)]);
        let soon = start + Duration::from_secs(1);
        let (nothing, next) = changes.observe(soon, &waiting(5));
        assert_eq!((nothing.len(), next), (0, Some(start + INTERVAL)));
        assert_eq!(told(&mut changes, start + INTERVAL, &waiting(4)), [Change::Viewers(4)]);
        let (nothing, next) = changes.observe(start + INTERVAL, &waiting(4));
        assert_eq!((nothing.len(), next), (0, None));
        assert_eq!(told(&mut changes, start + INTERVAL, &[]), [Change::Viewers(0)], "it is no more, at once");
    }

    #[test]
    fn advice_is_told_when_it_changes_and_not_more_often_than_agreed() {
        let (start, mut changes) = (Instant::now(), Changes::new(INTERVAL));
        let mut look = |after: u64, advice: &[&'static str]| {
            let seen = Seen { epoch: None, advice: advice.to_vec(), ..seen(BroadcastState::Waiting, 0, 0) };
            changes.observe(start + Duration::from_secs(after), &[seen])
        };
        let told = |codes: &[&'static str]| Change::Advice(codes.to_vec());
        let only = |(changes, _): (Vec<(BroadcastId, Change)>, Option<Instant>)| -> Vec<Change> {
            changes.into_iter().map(|(_, change)| change).collect()
        };
        assert_eq!(only(look(0, &[])), [], "all is well");
        assert_eq!(only(look(1, &["b-frames"])), [told(&["b-frames"])]);
        assert_eq!(only(look(2, &["b-frames"])), []);
        let (nothing, due) = look(3, &["b-frames", "silence"]);
        assert_eq!((nothing.len(), due), (0, Some(start + Duration::from_secs(11))));
        assert_eq!(only(look(11, &["silence"])), [told(&["silence"])]);
        assert_eq!(only(look(30, &[])), [told(&[])]);
        assert_eq!(only(look(50, &["silence"])), [told(&["silence"])]);
        assert_eq!(only(changes.observe(start, &[])), [told(&[])], "it is no more");
    }

    #[test]
    fn the_audience_is_told_apart_from_the_viewers_here_and_its_end_too() {
        let (start, mut changes) = (Instant::now(), Changes::new(INTERVAL));
        let mut look = |after: u64, viewers, audience| {
            let seen = Seen { epoch: None, audience, ..seen(BroadcastState::Waiting, 0, viewers) };
            told(&mut changes, start + Duration::from_secs(after), &[seen])
        };
        assert_eq!(look(0, 2, Some(700)), [Change::Viewers(2), Change::Audience(700)]);
        assert_eq!(look(1, 2, Some(800)), []);
        assert_eq!(look(10, 2, Some(800)), [Change::Audience(800)]);
        assert_eq!(look(30, 2, None), [], "somebody else tells it now");
        assert_eq!(told(&mut changes, start, &[]), [Change::Viewers(0), Change::Audience(0)]);
    }
}
