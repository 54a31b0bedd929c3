//! Starting and stopping nodes, as a port: [`Provisioner`]. Adapters: [`process::Processes`], [`docker::Containers`].
//!
//! Knows no policy: which node is wanted when is for whoever calls. Every adapter passes the promises in `tests/contract`.
#![forbid(unsafe_code)]

pub mod docker;
pub mod process;

mod ports;
mod printed;
mod restarts;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use model::{NodeId, Role, TreeId};
pub use ports::Ports;

/// A node that is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name, unique for ever. Starting it again under its name is going on with it.
    pub node: NodeId,
    /// The tree that it belongs to.
    pub tree: TreeId,
    /// The slot of that tree that wants it.
    pub slot: u32,
    /// Relay or egress.
    pub role: Role,
}

/// How a node does, as far as whoever started it can tell: whether it is healthy, it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It was started and has not ended.
    Running,
    /// It ended by itself, and is not started again yet.
    BackingOff,
}

/// A node that was started here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// As it was asked for.
    pub spec: NodeSpec,
    /// How it does.
    pub phase: Phase,
    /// How often it ended in a row without having been told to.
    pub failures: u32,
}

/// Why a node was not started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// It ended too often lately.
    #[error("{node} ended {failures} times in a row; it is not started again for {} s", .wait.as_secs())]
    BackingOff {
        /// Which.
        node: NodeId,
        /// How often.
        failures: u32,
        /// For how long.
        wait: Duration,
    },
    /// No ports are left for it.
    #[error("no free ports for {node} from {first} on")]
    NoPorts {
        /// Which.
        node: NodeId,
        /// The first port that nodes may have.
        first: u16,
    },
    /// Whoever would start it cannot.
    #[error("{0}")]
    Failed(String),
}

/// Whoever starts nodes cannot be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// Starts and stops nodes. Use it as `Arc<dyn Provisioner>`.
///
/// All of it can be asked again and again: starting what runs and stopping what is gone does nothing.
pub trait Provisioner: fmt::Debug + Send + Sync {
    /// Where nodes are started, in a word: who has another word cannot stop them. Follows the grammar of ids.
    fn place(&self) -> &str;

    /// Starts a node. That it was started does not say that it is healthy, nor that it goes on running.
    fn start_node<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), StartError>>;

    /// Tells a node to stop; it may take its time, and is ended if it takes too much. To be asked until it is no longer
    /// listed.
    fn stop_node<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), Unanswered>>;

    /// The nodes that were started here and have not ended for good, by name; also those that an earlier process started.
    /// What cannot be asked any more, while the rest can, is listed as it was: it may run, and is not to be started again.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Unanswered>>;
}
