//! Why something is decided, in words.

use std::fmt;
use std::time::Duration;

use model::{NodeId, TreeId};

/// Why one thing is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// More viewers are there or coming than the tree is to carry.
    Pressed {
        /// Viewers, and those expected within the lead.
        demand: u64,
        /// Places, those that are being made included.
        places: u64,
        /// Viewers more in a minute.
        joins_per_minute: u64,
    },
    /// What would be left is enough.
    Calm {
        /// The most viewers during the cool-down, or those that are expected.
        viewers: u64,
        /// Places that would be left.
        left: u64,
    },
    /// The template wants a reserve.
    Reserve {
        /// Slots in this state.
        wanted: u32,
        /// Of these there are.
        there: u32,
    },
    /// All nodes of the slot are healthy.
    Healthy {
        /// Since they were ordered.
        after: Duration,
    },
    /// Nodes did not become healthy in time.
    NotHealthy {
        /// How many.
        nodes: usize,
        /// The time.
        within: Duration,
    },
    /// A node of the slot is dead, silent or gone.
    Unwell {
        /// Which.
        node: NodeId,
    },
    /// It has no egress node any more.
    Bereft,
    /// Nobody is on its nodes any more.
    Empty,
    /// Who was still there had the time to leave.
    Overdue,
    /// Its nodes have ended.
    Ended,
    /// Its slot wants it.
    Wanted,
    /// No slot wants it, or its slot is stopping.
    Unwanted,
    /// Its nodes run, and the store does not know it.
    Forgotten,
    /// Its nodes were started by another controller and are all gone.
    Abandoned,
    /// The reason for it is gone.
    NoLonger,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pressed { demand, places, joins_per_minute } => write!(
                f,
                "{demand} viewers are there or expected ({joins_per_minute} more a minute), places there and coming are \
                 {places}"
            ),
            Self::Calm { viewers, left } => {
                write!(
                    f,
                    "at most {viewers} viewers during the cool-down, and {left} places are left without it"
                )
            }
            Self::Reserve { wanted, there } => {
                write!(f, "the template wants {wanted} of them, there are {there}")
            }
            Self::Healthy { after } => {
                write!(f, "its nodes are healthy, {} s after the order", after.as_secs())
            }
            Self::NotHealthy { nodes, within } => {
                write!(f, "{nodes} of its nodes did not become healthy within {} s", within.as_secs())
            }
            Self::Unwell { node } => write!(f, "{node} is dead, silent or gone"),
            Self::Bereft => f.write_str("it has no egress node any more"),
            Self::Empty => f.write_str("nobody is on its nodes any more"),
            Self::Overdue => f.write_str("who is still on its nodes had the time to leave"),
            Self::Ended => f.write_str("its nodes have ended"),
            Self::Wanted => f.write_str("its slot wants it"),
            Self::Unwanted => f.write_str("no slot wants it"),
            Self::Forgotten => f.write_str("its nodes run, and the store did not know it"),
            Self::Abandoned => f.write_str("another controller started its nodes, and all of them are gone"),
            Self::NoLonger => f.write_str("the reason for it is gone"),
        }
    }
}

/// What keeps a tree from growing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blocked {
    /// `max_nodes` of its template.
    MaxNodes {
        /// The limit.
        limit: u32,
    },
    /// So many nodes may be started in an hour, and were.
    Budget {
        /// The limit.
        limit: u32,
    },
    /// Starts have failed lately.
    BackingOff {
        /// How often in a row.
        failures: u32,
        /// How much longer.
        seconds: u64,
    },
    /// An operator has not allowed it yet.
    Approval {
        /// The slot that would grow.
        slot: u32,
    },
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxNodes { limit } => write!(f, "it may have {limit} nodes (nodes_max)"),
            Self::Budget { limit } => {
                write!(f, "{limit} nodes may be started in an hour (scaling.starts_per_hour), and were")
            }
            Self::BackingOff { failures, seconds } => {
                write!(f, "starting failed {failures} times in a row, the next try is in {seconds} s")
            }
            Self::Approval { slot } => write!(f, "slot {slot} waits for an operator's approval"),
        }
    }
}

/// What a tree lacks and does not get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// It needs a sub-tree more.
    CannotGrow {
        /// The tree.
        tree: TreeId,
        /// Why it gets none.
        blocked: Blocked,
    },
    /// Its reserve is not what the template wants.
    NoReserve {
        /// The tree.
        tree: TreeId,
        /// Why it is not filled.
        blocked: Blocked,
    },
    /// Whoever starts and stops nodes does not answer.
    ProvisionerSilent {
        /// The tree.
        tree: TreeId,
    },
    /// Nothing is known of how full it is.
    LoadUnknown {
        /// The tree.
        tree: TreeId,
        /// Egress nodes that do not say how loaded they are.
        nodes: u64,
    },
    /// A node is to stop, runs, and is not known to whoever could stop it.
    CannotStop {
        /// The node.
        node: NodeId,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CannotGrow { tree, blocked } => {
                write!(f, "tree {tree} needs a sub-tree more and gets none: {blocked}")
            }
            Self::NoReserve { tree, blocked } => write!(f, "tree {tree} gets no warm slot: {blocked}"),
            Self::ProvisionerSilent { tree } => {
                write!(f, "nothing is started or stopped for tree {tree}: the provisioner does not answer")
            }
            Self::LoadUnknown { tree, nodes } => {
                write!(f, "tree {tree} is not scaled: {nodes} egress nodes do not say how loaded they are")
            }
            Self::CannotStop { node } => {
                write!(f, "{node} should stop, and the provisioner does not know it: stop it by hand")
            }
        }
    }
}
