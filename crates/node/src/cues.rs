//! The latest cues of each broadcast, as this node's event streams tell them: written by the tree thread, read by HTTP.
//!
//! However many viewers there are, a node holds each cue once, and for a few seconds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use link::exchange::CUE_AGE_MAX;
use model::BroadcastId;
use signaling::whep::events::Cue;
use tokio::sync::watch;

/// Cues of a broadcast that are held at most: twice as many as may come at once, so that a stream that is looked at ten times a
/// second misses none.
const HELD_MAX: usize = 64;

/// Of all broadcasts.
#[derive(Debug, Default)]
pub struct Cues {
    boards: Mutex<Boards>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Boards {
    /// The number of the newest cue of the node. Streams outlive broadcasts, so all broadcasts share the numbers.
    newest: u64,
    /// When they came, oldest first.
    kept: BTreeMap<BroadcastId, VecDeque<(Instant, Cue)>>,
}

impl Boards {
    fn expire(&mut self, now: Instant) {
        self.kept.retain(|_, cues| {
            cues.retain(|(came, _)| now.saturating_duration_since(*came) < CUE_AGE_MAX);
            !cues.is_empty()
        });
    }
}

impl Cues {
    /// Takes the newest cue of a broadcast, as viewers are told it.
    pub fn push(&self, now: Instant, broadcast: &BroadcastId, data: String) {
        let mut boards = self.lock();
        boards.expire(now);
        boards.newest += 1;
        let cue = Cue { number: boards.newest, data: data.into() };
        let cues = boards.kept.entry(broadcast.clone()).or_default();
        if cues.len() == HELD_MAX {
            cues.pop_front();
        }
        cues.push_back((now, cue));
        drop(boards);
        self.changes.send_replace(());
    }

    /// The latest of each broadcast that has had any of late, oldest first.
    #[must_use]
    pub fn recent(&self, now: Instant) -> BTreeMap<BroadcastId, Arc<[Cue]>> {
        let mut boards = self.lock();
        boards.expire(now);
        let cues = |kept: &VecDeque<(Instant, Cue)>| -> Arc<[Cue]> {
            kept.iter().map(|(_, cue)| cue.clone()).collect()
        };
        boards.kept.iter().map(|(id, kept)| (id.clone(), cues(kept))).collect()
    }

    /// Tells whenever there is a new one.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Boards> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_keeps_the_latest_few_of_each_broadcast_for_a_few_seconds() {
        let (cues, now) = (Cues::default(), Instant::now());
        let [friday, monday] = ["friday", "monday"].map(|name| BroadcastId::new(name).expect("an id"));
        for number in 0..100 {
            cues.push(now, &friday, number.to_string());
        }
        cues.push(now + CUE_AGE_MAX / 2, &monday, "x".into());
        let recent = cues.recent(now + CUE_AGE_MAX / 2);
        let told: Vec<&str> = recent[&friday].iter().map(|cue| &*cue.data).collect();
        assert_eq!(told.len(), HELD_MAX);
        assert_eq!(told.last(), Some(&"99"));
        assert_eq!(recent[&monday][0].number, 101, "later than any of another broadcast");
        let recent = cues.recent(now + CUE_AGE_MAX);
        assert!(!recent.contains_key(&friday) && recent.contains_key(&monday));
        assert!(cues.recent(now + 2 * CUE_AGE_MAX).is_empty());
    }
}
