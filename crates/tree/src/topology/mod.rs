//! Who takes media from whom: [`decide`], pure, level-triggered, idempotent.
//!
//! *Sources* are the injection nodes. A small event has no relays: every egress takes every source directly. A larger
//! one, or one in another region, goes through relays, each of which takes every source, so that any relay offers every
//! broadcast; an egress has two of them on different hosts and one standing by. Relays stand below relays only where the
//! sources have no place left for all of them.
//!
//! What works stays: the stored assignments are the memory, so that a controller's restart, or another controller,
//! decides the same. Moves are make-before-break: a parent that still works is dropped only once the child reports the
//! new ones. A parent that is silent towards the store but up by its children's reports is cut off, not dead: it is left
//! the same way, and a source that is cut off goes on feeding. A place at a parent is taken by who leaves it until the next decision: nobody ever has more children than
//! it may have, whatever the order in which nodes carry out what they are told.

mod choose;
mod finish;
mod layers;
mod reason;
mod select;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, TreeId};

pub use reason::{Cause, Finding, Reason};

use crate::{Health, NodeView, Observation, Rate, TreeView};
use shape::Shape;

/// Most relays in a row, whatever a template says.
pub const TIERS_MAX: u8 = 4;

/// What is to be done about one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store this assignment.
    Assign {
        /// The child.
        node: NodeId,
        /// Its parents, best first: a broadcast comes from the first `paths` of them that offer it, the rest stand by.
        parents: Vec<NodeId>,
        /// From how many parents each broadcast is taken at once.
        paths: u8,
        /// What changes, and why.
        reasons: Vec<Reason>,
    },
    /// Delete the assignment: the node is dead or has left. Should it be alive after all, it keeps its links until it is
    /// assigned anew.
    Forget {
        /// Whose.
        node: NodeId,
    },
}

impl Action {
    /// The node that it is about.
    #[must_use]
    pub const fn node(&self) -> &NodeId {
        match self {
            Self::Assign { node, .. } | Self::Forget { node } => node,
        }
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to do, by node. Empty where everything is as it should be.
    pub actions: Vec<Action>,
    /// What is not as it should be, and cannot be better with the nodes that there are.
    pub findings: Vec<Finding>,
}

/// Looks at everything and says what to change.
#[must_use]
pub fn decide(observation: &Observation) -> Plan {
    let mut plan = Plan::default();
    if !observation.is_settled {
        return plan;
    }
    let mut by_tree: BTreeMap<&TreeId, BTreeMap<&NodeId, &NodeView>> = BTreeMap::new();
    for node in &observation.nodes {
        by_tree.entry(&node.tree).or_default().insert(&node.id, node);
    }
    let trees: BTreeMap<&TreeId, &TreeView> = observation.trees.iter().map(|tree| (&tree.id, tree)).collect();
    for (id, nodes) in by_tree {
        match trees.get(id) {
            Some(tree) => decide_tree(tree, &nodes, observation, &mut plan),
            None => plan.actions.extend(nodes.values().filter_map(|node| forget(node))),
        }
    }
    plan.actions.sort_by(|left, right| left.node().cmp(right.node()));
    plan
}

fn forget(node: &NodeView) -> Option<Action> {
    node.assigned.as_ref().map(|_| Action::Forget { node: node.id.clone() })
}

fn decide_tree(
    tree: &TreeView,
    nodes: &BTreeMap<&NodeId, &NodeView>,
    observation: &Observation,
    plan: &mut Plan,
) {
    let origins: BTreeSet<&NodeId> = observation
        .broadcasts
        .iter()
        .filter(|broadcast| broadcast.tree == tree.id)
        .filter_map(|broadcast| broadcast.origin.as_ref())
        .collect();
    let of_tree = observation.broadcasts.iter().filter(|broadcast| broadcast.tree == tree.id);
    let each_child = of_tree.fold(Rate::default(), |sum, it| sum.plus(it.child.unwrap_or_default()));
    let mut shape = Shape::new((&tree.template, each_child), nodes);
    shape.find_sources(&origins);
    shape.layer_relays();
    shape.choose_parents();
    shape.finish(&tree.id, plan);
    let cut_off = shape::cut_off(nodes);
    let is_gone = |node: &&&NodeView| node.health == Health::Dead && !cut_off.contains(&node.id);
    plan.actions.extend(nodes.values().filter(is_gone).filter_map(|node| forget(node)));
}
