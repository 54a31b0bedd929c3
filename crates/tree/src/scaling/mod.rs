//! When a tree grows and shrinks: [`decide`], pure, level-triggered, idempotent.
//!
//! A tree grows by *slots*. A slot is a relay kept in reserve, *warm* (it runs and carries nothing) or *cold* (not started), and
//! later the relay of one sub-tree: the egress nodes that one scale-out adds. What operators started themselves is counted
//! and never touched.
//!
//! Nothing is kept between calls. The stored slots are the memory of what is under way: an order is written down before it is
//! carried out, so that another controller, or the same one started again, goes on with it and orders nothing twice. How
//! long a slot has been in its state is counted by the observer's own clock from when it first saw it so: who has just
//! started waits, rather than hurry. [`Meter`] keeps what has to be measured over time.
//!
//! Load that is not known is never taken for none: such a node has no place free, and nothing is taken away while there is one.

mod change;
mod decide;
mod meter;
mod places;
mod reason;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::{NodeId, Role};

pub use decide::decide;
pub use meter::{Calm, Ledger, Measured, Meter, Steady};
pub use places::Places;
pub use reason::{Blocked, Finding, Reason};

use crate::{NodeView, TreeView};

/// Most nodes of a tree's slots: so many fit a record.
pub const NODES_MAX: u32 = 800;
/// Sub-trees that one decision begins at most.
pub const GROWN_AT_ONCE_MAX: usize = 4;
/// After the first failed start nothing is started for so long; doubles from failure to failure.
pub const BACK_OFF_MIN: Duration = Duration::from_secs(30);
/// The longest such pause.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(15 * 60);
/// Failures that are older have nothing to do with the next one.
pub const FAILURES_REMEMBERED: Duration = Duration::from_secs(3600);
/// A node that was told to drain is given so much longer than its deadline before it is stopped.
pub const DRAIN_GRACE: Duration = Duration::from_secs(15);

/// How far a slot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Made, not started.
    Cold,
    /// Its relay is being started.
    Warming,
    /// Its relay runs and carries nothing.
    Warm,
    /// Its egress nodes are being started, and its relay if it was cold.
    Growing,
    /// Part of the tree: topology and placement use it.
    Attached,
    /// Its viewers move elsewhere.
    Draining,
    /// Its nodes are being stopped.
    Stopping,
}

impl State {
    /// All of them, in the order of a slot's life.
    pub const ALL: [Self; 7] = [
        Self::Cold,
        Self::Warming,
        Self::Warm,
        Self::Growing,
        Self::Attached,
        Self::Draining,
        Self::Stopping,
    ];

    /// The word for people and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warming => "warming",
            Self::Warm => "warm",
            Self::Growing => "growing",
            Self::Attached => "attached",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }

    /// The state of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether topology and placement leave nodes of such a slot alone: they are no part of the tree yet.
    #[must_use]
    pub const fn is_reserve(self) -> bool {
        matches!(self, Self::Cold | Self::Warming | Self::Warm | Self::Growing)
    }
}

/// Who has ordered a node to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Nobody.
    #[default]
    None,
    /// The latest drain of its slot.
    Slot,
    /// An operator.
    Other,
}

/// A node of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotNode {
    /// Its name, chosen before it is started.
    pub id: NodeId,
    /// Relay or egress.
    pub role: Role,
    /// Whether it was told to drain.
    pub order: Order,
    /// Since when the observer sees it dead, silent or nowhere; `None` while it is well. From [`Meter::unwell_since`].
    pub unwell_since: Option<Instant>,
}

/// What an operator is asked to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// To start the slot's sub-tree.
    Grow,
    /// To take it away.
    Shrink,
}

impl Change {
    /// The word for people and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grow => "grow",
            Self::Shrink => "shrink",
        }
    }

    /// The change of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Grow, Self::Shrink].into_iter().find(|change| change.as_str() == word)
    }
}

/// A change that waits for an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proposal {
    /// What.
    pub change: Change,
    /// An operator has allowed it.
    pub is_approved: bool,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number in its tree.
    pub number: u32,
    /// How far it has come.
    pub state: State,
    /// When the observer first saw it in this state, by its own clock.
    pub since: Instant,
    /// Its nodes. A cold one has none.
    pub nodes: Vec<SlotNode>,
    /// Failed starts in a row.
    pub failures: u32,
    /// What waits for an operator.
    pub proposal: Option<Proposal>,
    /// Nodes of this slot are started by this controller's own provisioner. Others are counted and left alone.
    pub is_ours: bool,
}

/// Whether decisions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are told and nothing is done.
    DryRun,
    /// An operator allows each sub-tree that comes or goes.
    Approve,
    /// At once.
    Automatic,
}

/// How eager and how careful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// From which taken part of all places on the tree grows.
    pub out_permille: u32,
    /// Up to which taken part of what would be left the tree shrinks. Less than `out_permille`.
    pub in_permille: u32,
    /// How far ahead the join rate is counted on: what a sub-tree takes to be there.
    pub lead: Duration,
    /// For so long demand has to have been low, and no sub-tree come or gone, before one is taken away.
    pub cool_down: Duration,
    /// What is not healthy so long after its start has failed.
    pub healthy_within: Duration,
    /// How long viewers get to leave a sub-tree that is taken away.
    pub drain_within: Duration,
    /// Most nodes that are started in an hour.
    pub starts_per_hour: u32,
}

/// A node that the provisioner has started and that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provisioned {
    /// The number of its slot.
    pub slot: u32,
    /// Its role.
    pub role: Role,
}

/// What a decision about one tree rests on.
#[derive(Debug, Clone)]
pub struct Observation<'a> {
    /// Nothing is decided before.
    pub is_settled: bool,
    /// The tree.
    pub tree: &'a TreeView,
    /// Nodes; those of other trees are passed over.
    pub nodes: &'a [NodeView],
    /// The slots of this tree.
    pub slots: &'a [Slot],
    /// What the provisioner has running for this tree, starts under way included; `None` if it does not answer.
    pub provisioned: Option<&'a BTreeMap<NodeId, Provisioned>>,
    /// What was measured over time.
    pub measured: Measured,
    /// From [`Ledger`]: nodes of all trees that came within the last hour.
    pub started_lately: u32,
    /// How eager and how careful.
    pub policy: &'a Policy,
}

/// One thing to do. Those about a slot change its record; see [`Slot::after`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a cold slot.
    Create,
    /// Delete a cold slot.
    Delete,
    /// Take up a slot that the store has forgotten and whose nodes run.
    Adopt {
        /// Its nodes.
        nodes: Vec<(NodeId, Role)>,
    },
    /// Start the relay of a slot; the caller names it.
    Warm,
    /// The relay of a warm slot is not well any more.
    Cool,
    /// It is ready.
    Ready,
    /// Start its sub-tree; the caller names the nodes.
    Grow {
        /// How many egress nodes.
        egress: u32,
    },
    /// Its nodes are healthy: they become part of the tree.
    Attach {
        /// Those that have not become so are given up.
        without: Vec<NodeId>,
    },
    /// Send its viewers elsewhere.
    Drain,
    /// Keep it after all.
    Reactivate,
    /// Stop its nodes.
    Decommission {
        /// Because it did not become healthy: how often that has happened in a row.
        failures: Option<u32>,
    },
    /// Its nodes have ended.
    Retire,
    /// Give one node up.
    Lose {
        /// Which.
        node: NodeId,
    },
    /// Ask an operator.
    Propose {
        /// What for.
        change: Change,
    },
    /// It is not wanted any more.
    Withdraw,
    /// Start a node that its slot wants.
    Start {
        /// Which.
        node: NodeId,
        /// Relay or egress.
        role: Role,
    },
    /// Stop a node that no slot wants, or whose slot is stopping.
    Stop {
        /// Which.
        node: NodeId,
    },
    /// Tell a node to drain.
    OrderDrain {
        /// Which.
        node: NodeId,
        /// When those who are still there are closed.
        within: Duration,
    },
    /// Take that order back.
    TakeBack {
        /// From whom.
        node: NodeId,
    },
}

/// One decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The number of the slot it is about.
    pub slot: u32,
    /// What to do.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// Everything that was decided about one tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decisions {
    /// What to do; at most one change for each slot.
    pub actions: Vec<Decision>,
    /// What a dry run does not do.
    pub withheld: Vec<Decision>,
    /// What the tree lacks and does not get.
    pub findings: Vec<Finding>,
    /// Viewers that the tree takes, as far as its nodes' loads are known.
    pub places: u64,
    /// Viewers that are there, and those that are expected within the lead.
    pub demand: u64,
}

/// Takes nodes that are no part of the tree yet out of what topology and placement see.
pub fn hold_back<'a>(nodes: &mut Vec<NodeView>, slots: impl IntoIterator<Item = (State, &'a NodeId)>) {
    let mut reserve = BTreeSet::new();
    let mut stopping = BTreeSet::new();
    for (state, id) in slots {
        if state.is_reserve() {
            reserve.insert(id);
        } else if state == State::Stopping {
            stopping.insert(id);
        }
    }
    // What is stopped before it was attached has no parents yet, and gets none.
    let is_held = |node: &NodeView| {
        let has_parents = node.assigned.as_ref().is_some_and(|assigned| !assigned.parents.is_empty());
        reserve.contains(&node.id) || (stopping.contains(&node.id) && !has_parents)
    };
    // A dead one passes, so that what is stored about it is forgotten.
    nodes.retain(|node| !node.health.is_alive() || !is_held(node));
}
