//! What a controller has seen: the latest records, and who of their writers is alive.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::{Duration, Instant};

use model::{BroadcastId, NodeId, TreeId};
use registry::{Assignment, Audience, BroadcastRecord, NodeRecord, NodeState, Stored, TreeRecord, Versioned};
use store::{Record, WatchEvent};
use tree::membership::{Membership, Record as Seen, Sight};
use tree::viewers::{Report, ViewerCounts};
use tree::{Assigned, Health, NodeView, Observation, TreeView};

use crate::convert;
use crate::scaling::SlotsSeen;

/// Everything that was seen.
pub struct Observer {
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub assignments: BTreeMap<NodeId, Versioned<Assignment>>,
    pub broadcasts: BTreeMap<BroadcastId, BroadcastRecord>,
    pub trees: Kept<TreeId, TreeRecord>,
    pub slots: SlotsSeen,
    pub membership: Membership,
    pub viewers: ViewerCounts,
    /// Broadcasts whose injection node is dead, and since when.
    orphans: BTreeMap<BroadcastId, Instant>,
    /// Nodes that died without having drained, and since when: monitoring goes on asking for them.
    missing: BTreeMap<NodeId, (Instant, NodeRecord)>,
}

/// A node that died without having drained is missed for so long. By then whoever reads alerts has been told.
const MISSING_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// A broadcast whose injection node is dead is kept for so long: its publisher may come back to another node.
const ORPHAN_AGE_MAX: Duration = Duration::from_secs(60);

impl Observer {
    pub fn new(now: Instant) -> Self {
        Self {
            nodes: BTreeMap::new(),
            assignments: BTreeMap::new(),
            broadcasts: BTreeMap::new(),
            trees: Kept::default(),
            slots: SlotsSeen::default(),
            membership: Membership::new(now),
            viewers: ViewerCounts::new(),
            orphans: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }

    /// A node's record, or that it is gone. Records of the dead stay until they are buried.
    pub fn nodes_changed(&mut self, now: Instant, event: WatchEvent) {
        match event {
            WatchEvent::Snapshot(records) => {
                for record in records {
                    self.node_seen(now, &record, Sight::Found);
                }
            }
            WatchEvent::Put(record) => self.node_seen(now, &record, Sight::Written),
            WatchEvent::Gone(key) => {
                if let Ok(id) = NodeId::new(key.id.as_str()) {
                    self.membership.gone(&id);
                }
            }
        }
    }

    fn node_seen(&mut self, now: Instant, record: &Record, sight: Sight) {
        let Some(Versioned { record: node, version }) = read::<NodeRecord>(record) else { return };
        let seen = Seen {
            version: convert::version(version),
            incarnation: convert::incarnation(&node),
            is_draining: node.state == NodeState::Draining,
        };
        if let Err(error) = self.membership.seen(now, &node.node, (sight, seen)) {
            tracing::warn!(%error, "a node uses an id that is not its own");
            return;
        }
        let report = Report {
            tree: node.tree.clone(),
            incarnation: convert::incarnation(&node),
            version: convert::version(version),
            viewers: node.load.connected.unwrap_or(node.load.viewers),
            broadcasts: node
                .broadcasts
                .iter()
                .map(|watched| (watched.broadcast.clone(), watched.viewers))
                .collect(),
        };
        self.viewers.report(&node.node, report);
        self.missing.remove(&node.node);
        self.nodes.insert(node.node.clone(), node);
    }

    /// Time has passed: the dead watch nothing any more, and those long dead are forgotten.
    pub fn tick(&mut self, now: Instant) {
        self.membership.tick(now);
        let dead: Vec<NodeId> = self
            .membership
            .nodes(now)
            .filter(|(_, health)| *health == Health::Dead)
            .map(|(id, _)| id.clone())
            .collect();
        for id in dead {
            self.viewers.remove(&id);
            // An assignment is the last thing that is left of a node; `decide` has it deleted.
            if !self.assignments.contains_key(&id)
                && let Some(node) = self.nodes.remove(&id)
                && node.state != NodeState::Draining
            {
                self.missing.insert(id, (now, node));
            }
        }
        self.missing.retain(|_, (since, _)| now.saturating_duration_since(*since) < MISSING_AGE_MAX);
        self.find_orphans(now);
    }

    /// Nodes that died without having drained and are no nodes of the installation any more. One whose place was taken
    /// by another name is not among them.
    pub fn missing(&self) -> impl Iterator<Item = &NodeRecord> {
        let is_taken = |place: &Option<String>| self.nodes.values().any(|node| node.ops == *place);
        self.missing.values().map(|(_, node)| node).filter(move |node| !is_taken(&node.ops))
    }

    fn find_orphans(&mut self, now: Instant) {
        if !self.membership.is_settled(now) {
            self.orphans.clear();
            return;
        }
        let is_dead = |record: &&BroadcastRecord| {
            self.membership.health(now, &record.origin).is_none_or(|health| health == Health::Dead)
        };
        let orphans = self.broadcasts.values().filter(is_dead);
        let since = |id: &BroadcastId| self.orphans.get(id).copied().unwrap_or(now);
        self.orphans = orphans.map(|record| (record.broadcast.clone(), since(&record.broadcast))).collect();
    }

    /// Broadcasts that nobody will come back to.
    pub fn lost_broadcasts(&self, now: Instant) -> Vec<&BroadcastRecord> {
        let is_lost = |since: &Instant| *since + ORPHAN_AGE_MAX <= now;
        let lost = self.orphans.iter().filter(|(_, since)| is_lost(since));
        lost.filter_map(|(id, _)| self.broadcasts.get(id)).collect()
    }

    /// How many watch each broadcast, in the whole installation; by name.
    pub fn audience(&self) -> Vec<Audience> {
        let mut counts: BTreeMap<&BroadcastId, u64> = BTreeMap::new();
        for (_, broadcast, viewers) in self.viewers.broadcasts() {
            *counts.entry(broadcast).or_default() += viewers;
        }
        counts.into_iter().map(|(id, viewers)| Audience { broadcast: id.clone(), viewers }).collect()
    }

    pub fn assignments_changed(&mut self, event: WatchEvent) {
        changed(&mut self.assignments, event, |id| NodeId::new(id).ok(), |found| found);
    }

    pub fn broadcasts_changed(&mut self, event: WatchEvent) {
        changed(&mut self.broadcasts, event, |id| BroadcastId::new(id).ok(), |found| found.record);
    }

    pub fn trees_changed(&mut self, event: WatchEvent) {
        self.trees.changed(event, |id| TreeId::new(id).ok(), |found| found.record);
    }

    /// What a decision rests on.
    pub fn observation(&self, now: Instant) -> Observation {
        let health = |id| self.membership.health(now, id).unwrap_or(Health::Dead);
        let mut nodes: Vec<NodeView> =
            self.nodes.values().map(|node| self.node(node, health(&node.node))).collect();
        // Assignments of nodes that were never seen: what another controller left behind.
        let unseen = self.assignments.values().filter(|found| !self.nodes.contains_key(&found.record.node));
        nodes.extend(unseen.filter_map(|found| self.unseen(&found.record)));
        Observation {
            is_settled: self.membership.is_settled(now),
            trees: self
                .trees
                .values()
                .map(|tree| TreeView { id: tree.tree.clone(), template: convert::template(tree) })
                .collect(),
            nodes,
            broadcasts: self.broadcasts.values().map(convert::broadcast).collect(),
        }
    }

    fn node(&self, node: &NodeRecord, health: Health) -> NodeView {
        let alive = node.parents.iter().filter(|parent| parent.is_alive);
        NodeView {
            id: node.node.clone(),
            tree: node.tree.clone(),
            role: node.role,
            place: convert::place(node),
            incarnation: convert::incarnation(node),
            health,
            capacity: convert::capacity(&node.capacity),
            load: convert::load(&node.load),
            assigned: self.assignments.get(&node.node).map(|found| assigned(&found.record)),
            connected: alive.map(|parent| parent.node.clone()).collect(),
        }
    }

    /// A dead node of the first tree there is: enough for its assignment to be forgotten.
    fn unseen(&self, assignment: &Assignment) -> Option<NodeView> {
        let tree = self.trees.keys().next()?.clone();
        Some(NodeView {
            id: assignment.node.clone(),
            tree,
            role: model::Role::Relay,
            place: tree::Place { region: "".into(), zone: "".into(), host: "".into() },
            incarnation: tree::Incarnation { counter: 0, random: 0 },
            health: Health::Dead,
            capacity: convert::capacity(&registry::Capacity::default()),
            load: None,
            assigned: Some(assigned(assignment)),
            connected: Vec::new(),
        })
    }
}

fn assigned(assignment: &Assignment) -> Assigned {
    Assigned {
        parents: assignment.parents.iter().map(|parent| parent.node.clone()).collect(),
        paths: assignment.paths,
    }
}

fn read<T: Stored>(record: &Record) -> Option<Versioned<T>> {
    Versioned::of(record)
        .inspect_err(|error| tracing::debug!(key = %record.key, %error, "record passed over"))
        .ok()
}

/// A table that outlives the store's memory: what the store has lost stays until the store has it again.
pub struct Kept<K, V> {
    table: BTreeMap<K, V>,
    /// What the store has to be told again.
    lost: BTreeMap<K, V>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { table: BTreeMap::new(), lost: BTreeMap::new() }
    }
}

impl<K, V> Deref for Kept<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

impl<K: Ord + Clone, V: Clone> Kept<K, V> {
    /// Keeps it in step with a watch. A store that was away and has nothing has lost it: nobody deletes all meanwhile.
    pub fn changed<T: Stored>(
        &mut self,
        event: WatchEvent,
        key: impl Fn(&str) -> Option<K>,
        keep: impl Fn(Versioned<T>) -> V,
    ) {
        match &event {
            WatchEvent::Snapshot(records) if records.is_empty() => self.lost.clone_from(&self.table),
            WatchEvent::Snapshot(_) => {
                changed(&mut self.table, event, key, keep);
                self.lost.retain(|key, _| !self.table.contains_key(key));
                self.table.extend(self.lost.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            WatchEvent::Put(Record { key: name, .. }) | WatchEvent::Gone(name) => {
                if let Some(key) = key(name.id.as_str()) {
                    self.lost.remove(&key);
                }
                changed(&mut self.table, event, key, keep);
            }
        }
    }

    /// An earlier process knew this.
    pub fn remember(&mut self, key: K, value: V) {
        self.table.entry(key).or_insert(value);
    }

    /// What the store has to be told again.
    pub fn lost(&self) -> Vec<V> {
        self.lost.values().cloned().collect()
    }
}

/// Keeps a table in step with a watch.
pub fn changed<K: Ord, T: Stored, V>(
    table: &mut BTreeMap<K, V>,
    event: WatchEvent,
    key: impl Fn(&str) -> Option<K>,
    keep: impl Fn(Versioned<T>) -> V,
) {
    let entry = |record: &Record| Some((key(record.key.id.as_str())?, keep(read(record)?)));
    match event {
        WatchEvent::Snapshot(records) => *table = records.iter().filter_map(entry).collect(),
        WatchEvent::Put(record) => table.extend(entry(&record)),
        WatchEvent::Gone(gone) => {
            if let Some(key) = key(gone.id.as_str()) {
                table.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use registry::Registry;
    use store::Write;

    use super::*;

    fn tree(name: &str) -> TreeRecord {
        let id = TreeId::new(name).expect("an id");
        crate::run::tree_record(id, "minimal", &tree::Template::minimal())
    }

    /// What a watch tells at first, of a store that has these trees.
    async fn snapshot(trees: &[&str]) -> WatchEvent {
        let registry = Registry::new(store::open("embedded", &store::Options::default()).expect("a store"));
        for name in trees {
            registry.put(&tree(name), Write::any()).await.expect("written");
        }
        registry.watch::<TreeRecord>().next().await.expect("a snapshot")
    }

    #[tokio::test]
    async fn what_the_store_has_lost_stays_until_it_is_there_again() {
        let mut observer = Observer::new(Instant::now());
        let names = |observer: &Observer| observer.trees.keys().map(ToString::to_string).collect::<Vec<_>>();
        let lost = |observer: &Observer| {
            observer.trees.lost().iter().map(|tree| tree.tree.to_string()).collect::<Vec<_>>()
        };
        observer.trees_changed(snapshot(&["gala", "main"]).await);
        observer.trees_changed(snapshot(&["main"]).await);
        assert_eq!((names(&observer), lost(&observer)), (vec!["main".into()], vec![]), "deleted meanwhile");
        observer.trees_changed(snapshot(&["gala", "main"]).await);
        observer.trees_changed(snapshot(&[]).await);
        assert_eq!((names(&observer).len(), lost(&observer).len()), (2, 2));
        // The store went away again while it was told.
        observer.trees_changed(snapshot(&["main"]).await);
        assert_eq!((names(&observer).len(), lost(&observer)), (2, vec!["gala".to_owned()]));
        let WatchEvent::Snapshot(mut records) = snapshot(&["gala"]).await else { panic!("no snapshot") };
        observer.trees_changed(WatchEvent::Put(records.remove(0)));
        assert_eq!((names(&observer).len(), lost(&observer).len()), (2, 0));
    }
}
