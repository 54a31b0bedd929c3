//! Viewers on their way: they ask a door, follow its answer, and ask again when that was wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{BroadcastId, NodeId, TreeId};
use tree::placement::{Answer, Placement, Request};

use super::node::Node;
use super::observer::Observer;
use super::store::Store;
use crate::Random;

/// A front door: a node or controller that answers HTTP.
#[derive(Debug)]
pub struct Door {
    /// What it sees.
    pub observer: Observer,
    /// Where it sends people.
    pub placement: Placement,
    next_update: Duration,
}

impl Door {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(observer: Observer) -> Self {
        Self { observer, placement: Placement::new(), next_update: Duration::ZERO }
    }

    /// Looks; each second it takes its picture into account.
    pub fn turn(&mut self, now: Duration, store: &mut Store) {
        let clock = self.observer.clock(now);
        if self.observer.turn(now, store) {
            match self.observer.is_away {
                true => self.placement.store_lost(),
                false => self.placement.store_returned(clock),
            }
        }
        if now >= self.next_update {
            self.next_update = now + Duration::from_secs(1);
            self.placement.update(clock, &self.observer.observation(now));
        }
    }

    /// Answers somebody.
    pub fn ask(
        &mut self,
        now: Duration,
        (tree, broadcast, is_viewer): Wish<'_>,
        random: &mut Random,
    ) -> Answer {
        let clock = self.observer.clock(now);
        let request = Request { tree, broadcast, region: None, here: None, lost: None };
        let mut draw = || random.draw();
        match is_viewer {
            true => self.placement.place_viewer(clock, &request, &mut draw),
            false => self.placement.place_publisher(clock, &request, &mut draw),
        }
    }
}

/// What somebody asks for; a viewer, or else a publisher.
pub type Wish<'a> = (&'a TreeId, &'a BroadcastId, bool);

#[derive(Debug)]
enum Stage {
    Ask,
    Arrive(usize),
}

#[derive(Debug)]
struct Viewer {
    since: Duration,
    stage: Stage,
}

/// What became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Found a place, with how long that took, in milliseconds, sorted on demand.
    pub waits: Vec<u32>,
    /// Came to a node that had died or was full meanwhile.
    pub turned_away: u64,
    /// Were told that there is no place.
    pub nowhere: u64,
}

/// All viewers that have no place yet.
#[derive(Debug, Default)]
pub struct Crowd {
    waiting: BTreeMap<(Duration, u64), Viewer>,
    number: u64,
    /// Figures.
    pub tally: Tally,
}

impl Crowd {
    /// Somebody will ask then.
    pub fn join(&mut self, at: Duration) {
        self.add(at, Viewer { since: at, stage: Stage::Ask });
    }

    fn add(&mut self, at: Duration, viewer: Viewer) {
        self.number += 1;
        self.waiting.insert((at, self.number), viewer);
    }

    /// How many have no place yet, and have asked.
    #[must_use]
    pub fn waiting(&self, now: Duration) -> usize {
        self.waiting.values().filter(|viewer| viewer.since <= now).count()
    }

    /// How many are on their way or will be.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Everybody whose turn it is.
    pub fn step(
        &mut self,
        now: Duration,
        (doors, nodes): (&mut [Door], &mut [Node]),
        (tree, broadcast): (&TreeId, &BroadcastId),
        random: &mut Random,
    ) {
        let index: BTreeMap<NodeId, usize> =
            nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect();
        let later = self.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.waiting, later);
        for ((at, _), viewer) in due {
            match viewer.stage {
                Stage::Ask => {
                    let door = random.below(doors.len() as u64) as usize;
                    let answer = doors[door].ask(now, (tree, broadcast, true), random);
                    let target = match &answer {
                        Answer::Redirect(node) => index.get(node).copied(),
                        Answer::Here | Answer::Nowhere(_) => None,
                    };
                    if let Some(node) = target {
                        let at = at.max(now) + Duration::from_millis(random.within(50, 400));
                        self.add(at, Viewer { stage: Stage::Arrive(node), ..viewer });
                    } else {
                        self.tally.nowhere += 1;
                        self.add(now + Duration::from_millis(random.within(500, 1500)), viewer);
                    }
                }
                Stage::Arrive(node) => {
                    let node = &mut nodes[node];
                    let load = &mut node.record.load;
                    let has_place = load.viewers < node.record.capacity.viewers_max;
                    if node.is_alive && now >= node.isolated_until && !node.record.is_draining && has_place {
                        load.viewers += 1;
                        self.tally.waits.push((now.saturating_sub(viewer.since)).as_millis() as u32);
                    } else {
                        self.tally.turned_away += 1;
                        let at = now + Duration::from_millis(random.within(100, 300));
                        self.add(at, Viewer { stage: Stage::Ask, ..viewer });
                    }
                }
            }
        }
    }
}
