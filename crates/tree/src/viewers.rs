//! How many watch, for each node, broadcast and tree, from what nodes report.
//!
//! A node's latest report replaces its earlier ones: nothing is ever added up over time, so that nothing can drift, be
//! counted twice or fall below zero. A report of an earlier run of the process is refused. What a dead node had is
//! gone with it.

use std::collections::BTreeMap;

use model::{BroadcastId, NodeId, TreeId};

use crate::{Incarnation, Version};

/// What one node says of its viewers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The tree it serves.
    pub tree: TreeId,
    /// The run of its process.
    pub incarnation: Incarnation,
    /// Of the record that carries the report.
    pub version: Version,
    /// All its viewers.
    pub viewers: u32,
    /// By broadcast; those with the fewest may be missing.
    pub broadcasts: Vec<(BroadcastId, u32)>,
}

/// The viewers of all nodes.
#[derive(Debug, Clone, Default)]
pub struct ViewerCounts {
    reports: BTreeMap<NodeId, Report>,
    trees: BTreeMap<TreeId, u64>,
    broadcasts: BTreeMap<(TreeId, BroadcastId), u64>,
}

impl ViewerCounts {
    /// Knows nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A node reports; returns whether it counts. An earlier run does not, nor does the same report again.
    pub fn report(&mut self, node: &NodeId, mut report: Report) -> bool {
        if let Some(known) = self.reports.get(node) {
            let is_older_run = report.incarnation < known.incarnation;
            if is_older_run || (report.incarnation == known.incarnation && report.version == known.version) {
                return false;
            }
        }
        self.remove(node);
        merge(&mut report.broadcasts);
        let named = report.broadcasts.iter().fold(0, |sum: u32, (_, viewers)| sum.saturating_add(*viewers));
        report.viewers = report.viewers.max(named);
        *self.trees.entry(report.tree.clone()).or_default() += u64::from(report.viewers);
        for (broadcast, viewers) in &report.broadcasts {
            let key = (report.tree.clone(), broadcast.clone());
            *self.broadcasts.entry(key).or_default() += u64::from(*viewers);
        }
        self.reports.insert(node.clone(), report);
        true
    }

    /// The node is dead, or has left.
    pub fn remove(&mut self, node: &NodeId) {
        let Some(report) = self.reports.remove(node) else { return };
        subtract(&mut self.trees, &report.tree, report.viewers);
        for (broadcast, viewers) in report.broadcasts {
            subtract(&mut self.broadcasts, &(report.tree.clone(), broadcast), viewers);
        }
    }

    /// Viewers of one node.
    #[must_use]
    pub fn of_node(&self, node: &NodeId) -> u64 {
        self.reports.get(node).map_or(0, |report| u64::from(report.viewers))
    }

    /// Viewers of one tree.
    #[must_use]
    pub fn of_tree(&self, tree: &TreeId) -> u64 {
        self.trees.get(tree).copied().unwrap_or(0)
    }

    /// Viewers of one broadcast.
    #[must_use]
    pub fn of_broadcast(&self, tree: &TreeId, broadcast: &BroadcastId) -> u64 {
        self.broadcasts.get(&(tree.clone(), broadcast.clone())).copied().unwrap_or(0)
    }

    /// Every broadcast that somebody reports, with its viewers.
    pub fn broadcasts(&self) -> impl Iterator<Item = (&TreeId, &BroadcastId, u64)> {
        self.broadcasts.iter().map(|((tree, broadcast), viewers)| (tree, broadcast, *viewers))
    }
}

/// A broadcast named twice in one report is one broadcast.
fn merge(broadcasts: &mut Vec<(BroadcastId, u32)>) {
    broadcasts.sort();
    broadcasts.dedup_by(|later, earlier| {
        let is_same = later.0 == earlier.0;
        if is_same {
            earlier.1 = earlier.1.max(later.1);
        }
        is_same
    });
}

/// Takes out what was put in; an entry without viewers and without a report is gone.
fn subtract<K: Ord>(counts: &mut BTreeMap<K, u64>, key: &K, viewers: u32) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(u64::from(viewers));
        if *count == 0 {
            counts.remove(key);
        }
    }
}
