//! Between stored slots and what the policy sees.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{NodeId, TreeId};
use registry::{Assignment, SlotEntry, SlotsRecord, Versioned};
use store::WatchEvent;
use tree::scaling::{Change, Order, Proposal, Slot, SlotNode, State};

use crate::observer;

/// The slots of all trees as the store has them, and since when each is seen in its state.
#[derive(Default)]
pub struct SlotsSeen {
    records: BTreeMap<TreeId, SlotsRecord>,
    /// By this process's own clock.
    since: BTreeMap<(TreeId, u32), (String, Instant)>,
}

impl SlotsSeen {
    pub fn changed(&mut self, now: Instant, event: WatchEvent) {
        let keep = |found: Versioned<SlotsRecord>| found.record;
        observer::changed(&mut self.records, event, |id| TreeId::new(id).ok(), keep);
        let states = self.records.values().flat_map(|record| {
            record.slots.iter().map(|slot| ((record.tree.clone(), slot.number), slot.state.clone()))
        });
        let before = std::mem::take(&mut self.since);
        self.since = states
            .map(|(key, state)| {
                let known = before.get(&key).filter(|(known, _)| *known == state);
                let since = known.map_or(now, |(_, since)| *since);
                (key, (state, since))
            })
            .collect();
    }

    /// All of them.
    pub fn entries(&self) -> impl Iterator<Item = (&TreeId, &SlotEntry)> {
        self.records.values().flat_map(|record| record.slots.iter().map(|slot| (&record.tree, slot)))
    }

    /// Each node of a slot, with the slot's state.
    pub fn nodes(&self) -> impl Iterator<Item = (State, &NodeId)> {
        self.entries().flat_map(|(_, slot)| {
            let state = State::parse(&slot.state);
            slot.nodes.iter().filter_map(move |node| Some((state?, &node.node)))
        })
    }

    /// Those of one tree. States of a later version of the program are passed over.
    pub fn of(
        &self,
        tree: &TreeId,
        (place, assignments): (&str, &BTreeMap<NodeId, Versioned<Assignment>>),
    ) -> Vec<Slot> {
        let Some(record) = self.records.get(tree) else { return Vec::new() };
        let slot = |entry: &SlotEntry| {
            let (_, since) = self.since.get(&(tree.clone(), entry.number))?;
            let mut slot = read(entry, (*since, place))?;
            for node in &mut slot.nodes {
                let drain = assignments.get(&node.id).and_then(|found| found.record.drain);
                node.order = match drain {
                    None => Order::None,
                    Some(drain) if drain.id == entry.drain => Order::Slot,
                    Some(_) => Order::Other,
                };
            }
            Some(slot)
        };
        record.slots.iter().filter_map(slot).collect()
    }
}

/// A stored slot.
pub fn read(entry: &SlotEntry, (since, place): (Instant, &str)) -> Option<Slot> {
    let proposal = entry.proposal.as_ref().and_then(|found| {
        Some(Proposal { change: Change::parse(&found.change)?, is_approved: found.is_approved })
    });
    let nodes = entry.nodes.iter().map(|node| SlotNode {
        id: node.node.clone(),
        role: node.role,
        order: Order::None,
        unwell_since: None,
    });
    Some(Slot {
        number: entry.number,
        state: State::parse(&entry.state)?,
        since,
        nodes: nodes.collect(),
        failures: entry.failures,
        proposal,
        is_ours: entry.place == place,
    })
}

/// What is stored of a slot that has changed; the rest is as it was in `before`.
pub fn write(
    slot: &Slot,
    before: Option<&SlotEntry>,
    (place, unix_millis, reason): (&str, u64, &str),
) -> SlotEntry {
    let state = slot.state.as_str();
    let is_same = before.is_some_and(|before| before.state == state);
    let drain = match before {
        // Its orders are others than those of the drain before.
        _ if slot.state == State::Draining && !is_same => unix_millis,
        Some(before) => before.drain,
        None => 0,
    };
    let known = before.and_then(|before| before.proposal.clone());
    let proposal = slot.proposal.map(|proposal| match known {
        Some(known) if known.change == proposal.change.as_str() => known,
        _ => registry::Proposal {
            change: proposal.change.as_str().into(),
            is_approved: proposal.is_approved,
            reason: reason.into(),
        },
    });
    let nodes = slot.nodes.iter().map(|node| registry::SlotNode { node: node.id.clone(), role: node.role });
    SlotEntry {
        number: slot.number,
        state: state.into(),
        since: before.filter(|_| is_same).map_or(unix_millis / 1000, |before| before.since),
        place: place.into(),
        nodes: nodes.collect(),
        failures: slot.failures,
        drain,
        proposal,
    }
}

/// The slots of all trees, for operators.
pub fn entries(seen: &SlotsSeen) -> Vec<crate::view::SlotView> {
    seen.entries()
        .map(|(tree, slot)| crate::view::SlotView {
            tree: tree.to_string(),
            number: slot.number,
            state: slot.state.clone(),
            since: slot.since,
            place: slot.place.clone(),
            nodes: slot.nodes.iter().map(|node| node.node.to_string()).collect(),
            failures: slot.failures,
            proposal: slot.proposal.clone(),
        })
        .collect()
}
