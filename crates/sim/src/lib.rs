//! Whole trees in one thread: the real cores (`link::exchange::Exchange`, `egress::Shard`) under a virtual clock and a
//! seeded network, with model publishers and viewers, held against a small reference model.
//!
//! [`control`] plays the control plane (`tree`) the same way, with model media.
//!
//! The same seed gives the same run, to the last byte: [`Tree::trace`] tells. Knows no socket and no thread, and leaves
//! ICE, DTLS, SDP and HTTP to the tests of those crates.
#![forbid(unsafe_code)]

pub mod clock;
pub mod control;
pub mod network;
pub mod node;
pub mod published;
pub mod publisher;
pub mod random;
pub mod scenario;
pub mod tap;
pub mod trace;
pub mod tree;
pub mod viewer;
mod violation;

pub use clock::Clock;
pub use network::{Conditions, Network, NodeIndex};
pub use node::Setup;
pub use random::Random;
pub use tree::Tree;
pub use violation::Violation;
