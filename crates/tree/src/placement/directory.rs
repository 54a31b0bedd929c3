//! Nodes by tree, region and role, and which of them media of a broadcast gets to.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{BroadcastId, NodeId, TreeId};

use crate::{Capacity, Health, Load, NodeView, Observation, Rate};

/// What placement needs of a node.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub id: NodeId,
    pub health: Health,
    pub capacity: Capacity,
    pub load: Option<Load>,
    /// What its children may take.
    pub children: Rate,
    pub region: Arc<str>,
    /// Takes media from nobody: publishing on it makes no detour.
    pub is_root: bool,
    /// Has a broadcast.
    pub is_origin: bool,
    /// All roles in one process.
    pub is_injection_only: bool,
}

/// Nodes of one tree that take viewers, or publishers.
#[derive(Debug, Default)]
pub(super) struct Pool {
    pub all: Vec<usize>,
    pub by_region: BTreeMap<Arc<str>, Vec<usize>>,
}

#[derive(Debug, Default)]
pub(super) struct Tree {
    pub egress: Pool,
    pub injection: Pool,
    pub broadcasts: BTreeMap<BroadcastId, Broadcast>,
    /// By origin: those that its media gets to.
    pub reached: BTreeMap<usize, Vec<bool>>,
}

#[derive(Debug)]
pub(super) struct Broadcast {
    pub origin: Option<usize>,
    /// What one viewer takes.
    pub viewer: Option<Rate>,
}

#[derive(Debug, Default)]
pub(super) struct Directory {
    /// By id.
    pub entries: Vec<Entry>,
    pub trees: BTreeMap<TreeId, Tree>,
}

impl Pool {
    fn add(&mut self, index: usize, region: &Arc<str>) {
        self.all.push(index);
        self.by_region.entry(Arc::clone(region)).or_default().push(index);
    }
}

impl Directory {
    pub fn new(observation: &Observation) -> Self {
        let mut nodes: Vec<&NodeView> = observation.nodes.iter().collect();
        nodes.sort_by(|left, right| left.id.cmp(&right.id));
        nodes.dedup_by(|left, right| left.id == right.id);
        let mut directory =
            Self { entries: nodes.iter().map(|node| Entry::new(node)).collect(), ..Self::default() };
        for (index, node) in nodes.iter().enumerate() {
            let tree = directory.trees.entry(node.tree.clone()).or_default();
            if node.role.is_egress() {
                tree.egress.add(index, &node.place.region);
            }
            if node.role.is_injection() {
                tree.injection.add(index, &node.place.region);
            }
        }
        let children = directory.children(&nodes);
        directory.count_children(&nodes, &children, observation);
        for broadcast in &observation.broadcasts {
            let origin = broadcast.origin.as_ref().and_then(|origin| directory.find(origin));
            let Some(tree) = directory.trees.get_mut(&broadcast.tree) else { continue };
            let viewer = broadcast.viewer;
            tree.broadcasts.insert(broadcast.id.clone(), Broadcast { origin, viewer });
            if let Some(origin) = origin {
                directory.entries[origin].is_origin = true;
                tree.reached.entry(origin).or_insert_with(|| reach(origin, &children));
            }
        }
        directory
    }

    pub fn find(&self, id: &NodeId) -> Option<usize> {
        self.entries.binary_search_by(|entry| entry.id.cmp(id)).ok()
    }

    /// Children by stored and reported links.
    fn children(&self, nodes: &[&NodeView]) -> Vec<Vec<usize>> {
        let mut children = vec![Vec::new(); nodes.len()];
        for (child, node) in nodes.iter().enumerate() {
            let stored = node.assigned.iter().flat_map(|assigned| &assigned.parents);
            for parent in stored.chain(&node.connected).filter_map(|parent| self.find(parent)) {
                // A link that is stored and reported is one.
                if children[parent].last() != Some(&child) {
                    children[parent].push(child);
                }
            }
        }
        children
    }

    /// Any child may take every broadcast of its tree at any moment.
    fn count_children(&mut self, nodes: &[&NodeView], children: &[Vec<usize>], observation: &Observation) {
        let mut each: BTreeMap<&TreeId, Rate> = BTreeMap::new();
        for broadcast in &observation.broadcasts {
            let each = each.entry(&broadcast.tree).or_default();
            *each = each.plus(broadcast.child.unwrap_or_default());
        }
        for ((entry, node), children) in self.entries.iter_mut().zip(nodes).zip(children) {
            let each = each.get(&node.tree).copied().unwrap_or_default();
            entry.children = each.times(children.len() as u64);
        }
    }
}

impl Entry {
    fn new(node: &NodeView) -> Self {
        Self {
            id: node.id.clone(),
            health: node.health,
            capacity: node.capacity,
            load: node.load,
            children: Rate::default(),
            region: Arc::clone(&node.place.region),
            is_root: node.assigned.as_ref().is_none_or(|assigned| assigned.parents.is_empty()),
            is_origin: false,
            is_injection_only: !node.role.is_egress(),
        }
    }
}

fn reach(origin: usize, children: &[Vec<usize>]) -> Vec<bool> {
    let mut reached = vec![false; children.len()];
    let mut open = vec![origin];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node], true) {
            open.extend(&children[node]);
        }
    }
    reached
}
