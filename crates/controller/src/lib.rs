//! The control plane at work: watches the records, lets [`tree`] decide, writes what was decided, answers operators.
//!
//! [`Controller::run`] is one controller; several elect one of them. Stopping all of them stops nothing but decisions:
//! nodes keep the parents they have. [`FrontDoor`] sends viewers and publishers to the node that has a place for them; any
//! process that answers HTTP has one.
#![forbid(unsafe_code)]

mod act;
pub mod api;
mod convert;
mod declared;
mod elect;
mod front_door;
mod observer;
mod run;
mod scaling;
mod view;
mod ways;

pub use declared::{DeclareError, Declared, DeclaredBroadcast, Opens};
pub use front_door::{Asker, FrontDoor, Sent};
pub use run::{Controller, Handle, Identity};
pub use scaling::{Mode, Policy, Scaling};
pub use view::{
    BroadcastState, DecisionView, Findings, InstallationView, NodeView, ParentView, SlotView, TreeView,
};
