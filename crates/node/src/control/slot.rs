//! The slot that this node belongs to, for operators to see: its role in the growth of its tree. Nothing is decided by it
//! here.

use std::sync::Arc;

use model::NodeId;
use registry::{SlotEntry, SlotsRecord};
use store::WatchEvent;
use telemetry::Closed as _;
use telemetry::controller::SlotState;

use super::Control;
use crate::http::App;

/// Shows it, and each change of it.
pub async fn follow(app: Arc<App>, control: Arc<Control>) {
    let about = &control.about;
    let Ok(mut watch) = control.registry.watch_one::<SlotsRecord>(about.tree.as_str()) else { return };
    while let Some(event) = watch.next().await {
        app.metrics.slot(own_state(&slots_in(event), &about.node));
    }
}

/// The slots of the tree, as far as this program understands them.
fn slots_in(event: WatchEvent) -> Vec<SlotEntry> {
    let record = match event {
        WatchEvent::Put(record) => Some(record),
        WatchEvent::Snapshot(mut records) => records.pop(),
        WatchEvent::Gone(_) => None,
    };
    let decoded = record.and_then(|record| registry::decode::<SlotsRecord>(&record.value).ok());
    decoded.map_or_else(Vec::new, |record| record.slots)
}

/// How far the slot of this node has come. One in a state of a later version of the program counts as none.
fn own_state(slots: &[SlotEntry], node: &NodeId) -> Option<SlotState> {
    let own = slots.iter().find(|slot| slot.nodes.iter().any(|one| one.node == *node))?;
    SlotState::ALL.iter().copied().find(|state| state.as_str() == own.state)
}

#[cfg(test)]
mod tests {
    use model::Role;
    use registry::SlotNode;

    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).expect("id")
    }

    fn slot(number: u32, state: &str, nodes: &[&str]) -> SlotEntry {
        let nodes = nodes.iter().map(|name| SlotNode { node: id(name), role: Role::Relay });
        SlotEntry {
            number,
            state: state.into(),
            since: 0,
            place: "here".into(),
            nodes: nodes.collect(),
            failures: 0,
            drain: 0,
            proposal: None,
        }
    }

    #[test]
    fn a_node_is_of_the_slot_that_names_it_and_of_none_otherwise() {
        let slots = [slot(1, "cold", &[]), slot(2, "warm", &["r-1"]), slot(3, "levitating", &["r-2"])];
        assert_eq!(own_state(&slots, &id("r-1")), Some(SlotState::Warm));
        assert_eq!(own_state(&slots, &id("r-2")), None, "a state of a later version");
        assert_eq!(own_state(&slots, &id("in")), None);
        assert_eq!(own_state(&[slot(2, "draining", &["r-1"])], &id("r-1")), Some(SlotState::Draining));
    }

    #[test]
    fn a_record_that_is_gone_or_was_never_there_has_no_slots() {
        assert!(slots_in(WatchEvent::Snapshot(Vec::new())).is_empty());
    }
}
