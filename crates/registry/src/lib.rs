//! Records of the control plane: what stands in the store, as versioned JSON, and typed access to it.
//!
//! Knows no adapter of the store and no policy. Records are the edge: who decides converts them to plain types of its own.
//! A record that a later version of the program wrote is never taken apart and never written over.
#![forbid(unsafe_code)]

mod access;
mod assignment;
mod audience;
mod broadcast;
mod decision;
mod declared;
mod leader;
mod node;
mod places;
mod record;
mod slots;
mod text;
mod tree;

pub use access::{Registry, RegistryError, Versioned};
pub use assignment::{AssignedParent, Assignment, Drain};
pub use audience::{Audience, AudienceRecord};
pub use broadcast::{BroadcastRecord, Rates, RecordedEpoch, RecordedState};
pub use decision::{DECISIONS_MAX, Decision, DecisionsRecord};
pub use declared::DeclaredRecord;
pub use leader::{LEADER, LeaderRecord};
pub use node::{
    ADVICE_MAX, Advice, BROADCASTS_MAX, Capacity, Incarnation, LINKS_MAX, Load, NodeRecord, NodeState,
    ParentLink, Watched,
};
pub use places::{PLACES_MAX, Place, PlacesRecord};
pub use record::{DecodeError, Stored, decode, encode};
pub use slots::{Proposal, SlotEntry, SlotNode, SlotsRecord};
pub use tree::{Shape, TreeRecord};

#[cfg(test)]
mod tests;
