//! Cues: captions and other timed data, which go over link channels beside the packets.
//!
//! They follow the joins: a child gets what its broadcasts have, in order, from every parent that it has joined, and takes
//! each once, by its number in the publishing run. A child that joins gets the latest few first, so that a caption on screen
//! is on the screen of who comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{BroadcastId, BroadcastState, Epoch, NtpTime};

use super::{DropReason, Exchange, Output, ParentId, PeerId};
use crate::wire::message::{Cue, Message};

/// Cues of a broadcast that a child gets when it joins, at most.
pub const CUES_KEPT: usize = 8;
/// None of them came longer ago.
pub const CUE_AGE_MAX: Duration = Duration::from_secs(5);

/// The latest cues of one broadcast.
#[derive(Debug, Default)]
pub(super) struct Cues {
    /// Of the run and number that were taken last.
    newest: Option<(Epoch, u64)>,
    /// When they came, oldest first.
    kept: VecDeque<(Instant, Cue)>,
}

impl Cues {
    /// Keeps a cue, unless it or a later one has been taken before.
    fn take(&mut self, now: Instant, cue: &Cue) -> bool {
        let place = Some((cue.epoch, cue.number));
        if place <= self.newest {
            return false;
        }
        self.newest = place;
        if self.kept.len() == CUES_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((now, cue.clone()));
        true
    }

    /// The number of the next cue of a run, not below `least`.
    fn next(&self, epoch: Epoch, least: u64) -> u64 {
        let newest = self.newest.filter(|(run, _)| *run == epoch);
        newest.map_or(least, |(_, number)| least.max(number.saturating_add(1)))
    }

    /// Those of a run that are fresh.
    fn recent(&self, now: Instant, epoch: Option<Epoch>) -> impl Iterator<Item = &Cue> {
        let is_fresh = move |came: Instant| now.saturating_duration_since(came) < CUE_AGE_MAX;
        self.kept
            .iter()
            .filter(move |(came, cue)| is_fresh(*came) && Some(cue.epoch) == epoch)
            .map(|(_, cue)| cue)
    }
}

impl Exchange {
    /// A cue of a broadcast that is published at this node; false if it is not, or if nobody publishes it now.
    ///
    /// Its number is at least the milliseconds of `captured`, so that a process that goes on with the run of an earlier one
    /// counts on from there.
    pub fn publish_cue(&mut self, now: Instant, id: &BroadcastId, captured: NtpTime, body: Arc<str>) -> bool {
        let carried = self.broadcasts.get(id).filter(|carried| carried.is_local);
        let live = carried.filter(|carried| carried.broadcast.state == BroadcastState::Live);
        let Some((carried, epoch)) = live.and_then(|carried| Some((carried, carried.broadcast.epoch?)))
        else {
            return false;
        };
        let number = carried.cues.next(epoch, captured.to_unix().as_millis() as u64);
        self.spread_cue(now, Cue { broadcast: id.clone(), epoch, number, captured, body });
        true
    }

    pub(super) fn on_cue(&mut self, now: Instant, from: ParentId, cue: Cue) {
        let Some(carried) = self.broadcasts.get(&cue.broadcast) else {
            self.drops.count(DropReason::UnknownStream);
            return;
        };
        if !carried.upstream.contains(&from) {
            self.drops.count(DropReason::NotJoined);
        } else if carried.broadcast.epoch != Some(cue.epoch) {
            self.drops.count(DropReason::OldEpoch);
        } else {
            self.spread_cue(now, cue);
        }
    }

    /// To the children that have joined, and to this node's viewers.
    fn spread_cue(&mut self, now: Instant, cue: Cue) {
        let Some(carried) = self.broadcasts.get_mut(&cue.broadcast) else { return };
        if !carried.cues.take(now, &cue) {
            return;
        }
        for (peer, _) in carried.joins.iter().filter(|(_, join)| join.is_answered) {
            self.outputs.push_back(Output::Send { peer: *peer, message: Message::Cue(cue.clone()) });
        }
        if self.delivers_locally {
            self.outputs.push_back(Output::Cue(cue));
        }
    }

    /// What a child that has just been answered may still have to show.
    pub(super) fn replay_cues(&mut self, now: Instant, peer: PeerId, id: &BroadcastId) {
        let Some(carried) = self.broadcasts.get(id) else { return };
        for cue in carried.cues.recent(now, carried.broadcast.epoch) {
            self.outputs.push_back(Output::Send { peer, message: Message::Cue(cue.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cue(counter: u64, number: u64) -> Cue {
        Cue {
            broadcast: BroadcastId::new("show").expect("an id"),
            epoch: Epoch { counter, random: 0 },
            number,
            captured: NtpTime::from_bits(0),
            body: "{}".into(),
        }
    }

    proptest! {
        #[test]
        fn each_cue_is_taken_once_in_order_and_few_are_kept(
            came in prop::collection::vec((0..3u64, 0..20u64, 0..2000u64), 0..100),
        ) {
            let mut now = Instant::now();
            let mut cues = Cues::default();
            let mut taken = Vec::new();
            for (counter, number, millis) in came {
                now += Duration::from_millis(millis);
                let cue = cue(counter, number);
                if cues.take(now, &cue) {
                    taken.push((cue.epoch, cue.number));
                }
                prop_assert!(!cues.take(now, &cue), "twice");
                prop_assert!(cues.kept.len() <= CUES_KEPT);
                prop_assert!(cues.next(cue.epoch, 0) > 0 || taken.last().is_none_or(|(run, _)| *run != cue.epoch));
                let run = cue.epoch;
                prop_assert!(cues.recent(now, Some(run)).all(|cue| cue.epoch == run));
            }
            prop_assert!(taken.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(cues.recent(now + CUE_AGE_MAX, taken.last().map(|(run, _)| *run)).count(), 0);
        }
    }
}
