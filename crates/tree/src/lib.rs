//! Policy of the control plane, without a store, a socket, a clock or JSON: who is alive ([`membership`]), which
//! controller acts ([`election`]), who takes media from whom ([`topology`]), where viewers and publishers go
//! ([`placement`]), how many watch ([`viewers`]), when a tree grows and shrinks ([`scaling`]).
//!
//! Everything is told what is seen and answers what is to be done. `now` is the caller's monotonic clock and randomness
//! is the caller's: nobody here trusts, or even reads, the clock of another machine.
#![forbid(unsafe_code)]

pub mod election;
pub mod membership;
pub mod placement;
pub mod scaling;
pub mod template;
pub mod topology;
mod view;
pub mod viewers;

pub use template::Template;
pub use view::{
    Assigned, BroadcastView, Capacity, Health, Incarnation, Load, NodeView, Observation, Place, Rate,
    TreeView, Version,
};

/// Most parents of a node, active and standing by together.
pub const PARENTS_MAX: usize = 8;
