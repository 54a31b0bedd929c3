//! What a controller or a front door makes of its watch: its own clock, its own picture.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{Bitrate, BroadcastId, NodeId};
use tree::election::{Lease, Observed};
use tree::membership::{Membership, Sight};
use tree::topology::{Action, decide};
use tree::viewers::{Report, ViewerCounts};
use tree::{Assigned, BroadcastView, Health, NodeView, Observation, Rate, TreeView, Version};

use super::node::NodeRecord;
use super::store::{Event, Expect, Key, Record, Store, Value, Watcher};

/// What every broadcast takes.
const RATE: Rate = Rate { bits: Bitrate::kbps(1500), packets: 180 };

/// A picture of the store, judged by a clock of one's own.
#[derive(Debug)]
pub struct Observer {
    origin: Instant,
    /// Its clock runs so many parts in a thousand of the true rate.
    rate: u32,
    /// Its watch.
    pub watcher: Watcher,
    tree: TreeView,
    membership: Membership,
    counts: ViewerCounts,
    nodes: BTreeMap<NodeId, NodeRecord>,
    assignments: BTreeMap<NodeId, (Assigned, Version)>,
    broadcasts: BTreeMap<BroadcastId, NodeId>,
    /// The lease as last seen; told on.
    pub lease: Option<Observed>,
    /// The store does not answer.
    pub is_away: bool,
}

impl Observer {
    /// Has seen nothing yet. `origin` is an instant that all clocks of the simulation start from.
    #[must_use]
    pub fn new((origin, now): (Instant, Duration), rate: u32, watcher: Watcher, tree: TreeView) -> Self {
        let clock = origin + now * rate / 1000;
        Self {
            origin,
            rate,
            watcher,
            tree,
            membership: Membership::new(clock),
            counts: ViewerCounts::new(),
            nodes: BTreeMap::new(),
            assignments: BTreeMap::new(),
            broadcasts: BTreeMap::new(),
            lease: None,
            is_away: false,
        }
    }

    /// Its own time.
    #[must_use]
    pub fn clock(&self, now: Duration) -> Instant {
        self.origin + now * self.rate / 1000
    }

    /// Takes in what its watch brings, and judges. Returns whether the store has just gone or come back.
    pub fn turn(&mut self, now: Duration, store: &mut Store) -> bool {
        let was_away = self.is_away;
        let clock = self.clock(now);
        // Before the news: who stood still itself must not judge by what it missed.
        self.membership.tick(clock);
        while let Some(event) = store.next(now, self.watcher) {
            self.apply(clock, event);
        }
        self.membership.tick(clock);
        let dead = self.membership.nodes(clock).filter(|(_, health)| *health == Health::Dead);
        dead.for_each(|(node, _)| self.counts.remove(node));
        was_away != self.is_away
    }

    fn apply(&mut self, clock: Instant, event: Event) {
        match event {
            Event::Away => {
                self.is_away = true;
                self.membership.store_lost(clock);
            }
            Event::Snapshot(records) => {
                self.is_away = false;
                self.membership.store_returned(clock);
                self.assignments.clear();
                self.broadcasts.clear();
                self.lease = None;
                let there: Vec<NodeId> = records.iter().filter_map(|record| node_of(&record.0)).collect();
                let gone: Vec<NodeId> = self.nodes.keys().filter(|id| !there.contains(id)).cloned().collect();
                gone.iter().for_each(|id| self.membership.gone(id));
                records.into_iter().for_each(|record| self.put(clock, Sight::Found, record));
            }
            Event::Put(record) => self.put(clock, Sight::Written, *record),
            Event::Gone(key) => self.remove(&key),
        }
    }

    fn put(&mut self, clock: Instant, sight: Sight, (key, value, version): Record) {
        match (key, value) {
            (Key::Node(id), Value::Node(record)) => {
                let seen = tree::membership::Record {
                    version,
                    incarnation: record.incarnation,
                    is_draining: record.is_draining,
                };
                if self.membership.seen(clock, &id, (sight, seen)).is_ok() {
                    self.counts.report(&id, report(&self.tree, &record, version));
                    self.nodes.insert(id, *record);
                }
            }
            (Key::Assignment(id), Value::Assignment(assigned)) => {
                self.assignments.insert(id, (assigned, version));
            }
            (Key::Broadcast(id), Value::Broadcast(origin)) => {
                self.broadcasts.insert(id, origin);
            }
            (_, Value::Lease(lease)) => self.lease = Some(Observed { lease, version }),
            (Key::Lease | Key::Node(_) | Key::Assignment(_) | Key::Broadcast(_), _) => {}
        }
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Lease => self.lease = None,
            Key::Node(id) => self.membership.gone(id),
            Key::Assignment(id) => drop(self.assignments.remove(id)),
            Key::Broadcast(id) => drop(self.broadcasts.remove(id)),
        }
    }

    /// All viewers, as far as is known here.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        self.counts.of_tree(&self.tree.id)
    }

    /// What is believed of a node.
    #[must_use]
    pub fn health(&self, now: Duration, node: &NodeId) -> Option<Health> {
        self.membership.health(self.clock(now), node)
    }

    /// What decisions rest on.
    #[must_use]
    pub fn observation(&self, now: Duration) -> Observation {
        let clock = self.clock(now);
        let broadcast = |(id, origin): (&BroadcastId, &NodeId)| BroadcastView {
            id: id.clone(),
            tree: self.tree.id.clone(),
            origin: Some(origin.clone()),
            viewer: Some(RATE),
            child: Some(RATE),
        };
        let view = |(id, record): (&NodeId, &NodeRecord)| NodeView {
            id: id.clone(),
            tree: self.tree.id.clone(),
            role: record.role,
            place: record.place.clone(),
            incarnation: record.incarnation,
            health: self.membership.health(clock, id).unwrap_or(Health::Dead),
            capacity: record.capacity,
            load: Some(record.load),
            assigned: self.assignments.get(id).map(|(assigned, _)| assigned.clone()),
            connected: record.connected.clone(),
        };
        Observation {
            is_settled: self.membership.is_settled(clock),
            trees: vec![self.tree.clone()],
            nodes: self.nodes.iter().map(view).collect(),
            broadcasts: self.broadcasts.iter().map(broadcast).collect(),
        }
    }

    /// Decides and carries out, by compare-and-set against what was seen.
    pub fn act(&self, now: Duration, store: &mut Store) -> tree::topology::Plan {
        let plan = decide(&self.observation(now));
        for action in &plan.actions {
            let key = Key::Assignment(action.node().clone());
            let expect = Expect::Version(self.assignments.get(action.node()).map(|(_, version)| *version));
            match action {
                Action::Assign { parents, paths, .. } => {
                    let assigned = Assigned { parents: parents.clone(), paths: *paths };
                    // Refused where somebody else was faster: the next decision sees it.
                    store.put(now, (key, Value::Assignment(assigned)), expect).ok();
                }
                Action::Forget { .. } => store.delete(now, &key, expect),
            }
        }
        plan
    }
}

/// The lease record in the store's words.
#[must_use]
pub const fn lease_record(lease: Lease) -> (Key, Value) {
    (Key::Lease, Value::Lease(lease))
}

fn node_of(key: &Key) -> Option<NodeId> {
    match key {
        Key::Node(id) => Some(id.clone()),
        Key::Lease | Key::Assignment(_) | Key::Broadcast(_) => None,
    }
}

fn report(tree: &TreeView, record: &NodeRecord, version: Version) -> Report {
    Report {
        tree: tree.id.clone(),
        incarnation: record.incarnation,
        version,
        viewers: record.load.viewers,
        broadcasts: Vec::new(),
    }
}
