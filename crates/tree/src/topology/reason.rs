//! Why something is decided, in words.

use std::fmt;

use model::{NodeId, Role, TreeId};

/// One change of an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A parent more.
    Takes {
        /// Which.
        parent: NodeId,
    },
    /// A parent less.
    Leaves {
        /// Which.
        parent: NodeId,
        /// Why.
        cause: Cause,
    },
    /// The same parents, in another order or with another number of paths.
    Reorders,
}

/// Why a parent is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It is dead.
    Dead,
    /// It is no longer in the tree.
    Left,
    /// It is draining.
    Draining,
    /// It has more children than it may have or than its network carries, or its place is needed by a node that has no
    /// parent at all.
    Full,
    /// It stands on the same host as another parent.
    SharesHost,
    /// There is one in the child's own region.
    OtherRegion,
    /// It takes media from the child, directly or not.
    Loop,
    /// Its role has no children.
    NoParent,
    /// The tree's shape has no use for this link.
    NotNeeded,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dead => "is dead",
            Self::Left => "has left the tree",
            Self::Draining => "is draining",
            Self::Full => "has no place for it",
            Self::SharesHost => "shares its host with another parent",
            Self::OtherRegion => "is in another region, and there is one nearer",
            Self::Loop => "takes media from it",
            Self::NoParent => "cannot be a parent",
            Self::NotNeeded => "is not needed",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Takes { parent } => write!(f, "takes {parent}"),
            Self::Leaves { parent, cause } => write!(f, "leaves {parent}, which {cause}"),
            Self::Reorders => f.write_str("takes its parents in another order"),
        }
    }
}

/// Something that more or other nodes would mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// Nobody can publish.
    NoInjection {
        /// The tree.
        tree: TreeId,
    },
    /// More injection nodes than a node can have parents: the last ones' broadcasts reach nobody.
    InjectionNodesBeyondLimit {
        /// The tree.
        tree: TreeId,
        /// How many there are too many.
        beyond: usize,
    },
    /// Fewer nodes of a role than the template wants.
    NodesMissing {
        /// The tree.
        tree: TreeId,
        /// Of which role.
        role: Role,
        /// Alive nodes that play it.
        there: u32,
        /// As the template says.
        wanted: u32,
    },
    /// More nodes than the template allows.
    NodesBeyondLimit {
        /// The tree.
        tree: TreeId,
        /// Alive nodes.
        nodes: usize,
        /// The limit.
        max_nodes: u32,
    },
    /// No parent has a place for this node.
    NoParent {
        /// The node.
        node: NodeId,
    },
    /// This node's network does not carry what its children may take, and nobody else has a place for them.
    NetworkFull {
        /// The parent.
        node: NodeId,
        /// How many it has.
        children: u32,
        /// How many its network carries.
        carried: u32,
    },
    /// The first two parents of this node share a host, or it has only one relay: losing that is seen by viewers.
    OneHost {
        /// The node.
        node: NodeId,
    },
    /// What this injection node publishes does not reach that node: it has no place for it, or they would be each other's
    /// parents.
    OutOfReach {
        /// Where it is published.
        injection: NodeId,
        /// Where it is missing.
        node: NodeId,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoInjection { tree } => write!(f, "tree {tree} has no injection node"),
            Self::InjectionNodesBeyondLimit { tree, beyond } => {
                write!(f, "tree {tree} has {beyond} injection nodes more than a node can have parents")
            }
            Self::NodesMissing { tree, role, there, wanted } => {
                write!(f, "tree {tree} has {there} of the {wanted} {role} nodes that its template wants")
            }
            Self::NodesBeyondLimit { tree, nodes, max_nodes } => {
                write!(f, "tree {tree} has {nodes} nodes, its limit is {max_nodes}")
            }
            Self::NoParent { node } => write!(f, "no parent has a place for {node}"),
            Self::NetworkFull { node, children, carried } => {
                write!(f, "the network of {node} carries {carried} children, and it has {children}")
            }
            Self::OneHost { node } => write!(f, "{node} depends on one host: there is no second way to it"),
            Self::OutOfReach { injection, node } => {
                write!(
                    f,
                    "what {injection} publishes does not reach {node}: it has no place for it, or each would be the other's \
                     parent"
                )
            }
        }
    }
}
