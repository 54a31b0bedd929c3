//! What is under way in each slot.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{NodeId, Role};

use super::decide::Decider;
use super::{Action, Finding, Observation, Order, Reason, Slot, SlotNode, State};
use super::{DRAIN_GRACE, FAILURES_REMEMBERED};
use crate::{Health, NodeView};

impl Decider<'_> {
    /// Takes up what the store has forgotten: nodes that run for a slot of which there is no record, or an old one.
    pub fn adopt(&mut self) {
        let Some(provisioned) = self.o.provisioned else { return };
        let mut by_slot: BTreeMap<u32, Vec<(NodeId, Role)>> = BTreeMap::new();
        for (id, node) in provisioned {
            by_slot.entry(node.slot).or_default().push((id.clone(), node.role));
        }
        for (number, nodes) in by_slot {
            let is_forgotten = match self.slot(number) {
                None => true,
                // Before a slot is in reserve, nothing of it runs any more.
                Some(slot) => {
                    let is_named = |id: &NodeId| slot.nodes.iter().any(|known| known.id == *id);
                    let is_reserve = matches!(slot.state, State::Cold | State::Warming | State::Warm);
                    slot.is_ours && is_reserve && !nodes.iter().all(|(id, _)| is_named(id))
                }
            };
            if is_forgotten {
                self.change(number, Action::Adopt { nodes }, Reason::Forgotten);
            }
        }
    }

    /// Stops what runs for a slot that does not want it.
    pub fn collect(&mut self) {
        let Some(provisioned) = self.o.provisioned else { return };
        for (id, node) in provisioned {
            let Some(slot) = self.slot(node.slot) else { continue };
            let is_adopted = self.decisions.actions.iter().any(|decision| {
                decision.slot == node.slot && matches!(decision.action, Action::Adopt { .. })
            });
            let is_wanted = is_adopted
                || slot.state != State::Stopping && slot.nodes.iter().any(|wanted| wanted.id == *id);
            if !is_wanted {
                self.order(node.slot, Action::Stop { node: id.clone() }, Reason::Unwanted);
            }
        }
    }

    /// Brings each slot one step further.
    pub fn upkeep(&mut self) {
        for slot in self.o.slots {
            if !slot.is_ours {
                self.foreign(slot);
                continue;
            }
            match slot.state {
                State::Cold => {}
                State::Warming => self.warming(slot),
                State::Warm => self.warm(slot),
                State::Growing => self.growing(slot),
                State::Attached => self.attached(slot),
                State::Draining => self.draining(slot),
                State::Stopping => self.stopping(slot),
            }
        }
    }

    /// A slot whose nodes another controller's host has started: it went with that host.
    fn foreign(&mut self, slot: &Slot) {
        let is_gone = |node: &SlotNode| self.node(&node.id).is_none_or(|seen| !seen.health.is_alive());
        if self.has_lasted(slot, self.o.policy.healthy_within) && slot.nodes.iter().all(is_gone) {
            self.change(slot.number, Action::Delete, Reason::Abandoned);
        }
    }

    fn warming(&mut self, slot: &Slot) {
        let within = self.o.policy.healthy_within;
        if self.unhealthy(slot).is_empty() {
            self.change(slot.number, Action::Ready, self.healthy(slot));
        } else if self.has_lasted(slot, within) {
            self.fail(slot, Reason::NotHealthy { nodes: self.unhealthy(slot).len(), within });
        } else {
            self.start(slot);
        }
    }

    fn warm(&mut self, slot: &Slot) {
        let unwell = slot.nodes.iter().find(|node| self.is_unwell(node));
        if let Some(node) = unwell {
            self.change(slot.number, Action::Cool, Reason::Unwell { node: node.id.clone() });
        }
    }

    fn growing(&mut self, slot: &Slot) {
        let within = self.o.policy.healthy_within;
        let unhealthy = self.unhealthy(slot);
        if unhealthy.is_empty() {
            return self.change(slot.number, Action::Attach { without: Vec::new() }, self.healthy(slot));
        }
        if !self.has_lasted(slot, within) {
            return self.start(slot);
        }
        // What has come is taken: viewers wait for it.
        let has_come =
            |role| slot.nodes.iter().any(|node| node.role == role && !unhealthy.contains(&node.id));
        let reason = Reason::NotHealthy { nodes: unhealthy.len(), within };
        if has_come(Role::Relay) && has_come(Role::Egress) {
            self.change(slot.number, Action::Attach { without: unhealthy }, reason);
        } else {
            self.fail(slot, reason);
        }
    }

    fn attached(&mut self, slot: &Slot) {
        for node in slot.nodes.iter().filter(|node| node.order == Order::Slot) {
            self.order(slot.number, Action::TakeBack { node: node.id.clone() }, Reason::Wanted);
        }
        if !slot.nodes.iter().any(|node| node.role.is_egress()) {
            return self.change(slot.number, Action::Decommission { failures: None }, Reason::Bereft);
        }
        let lost = slot.nodes.iter().find(|node| {
            self.is_unwell(node)
                && node.unwell_since.is_some_and(|since| self.now >= since + self.o.policy.healthy_within)
        });
        match lost {
            Some(node) => {
                let (node, reason) = (node.id.clone(), Reason::Unwell { node: node.id.clone() });
                self.change(slot.number, Action::Lose { node }, reason);
            }
            None => self.start(slot),
        }
    }

    /// Viewers first, while the relay still feeds them; then the relay's own children.
    fn draining(&mut self, slot: &Slot) {
        let deadline = slot.since + self.o.policy.drain_within;
        if self.now >= deadline + DRAIN_GRACE {
            return self.change(slot.number, Action::Decommission { failures: None }, Reason::Overdue);
        }
        let has_left = |node: &&SlotNode| self.has_left(node);
        let order = |role: Role| slot.nodes.iter().filter(move |node| node.role == role);
        let told = match order(Role::Egress).all(|node| has_left(&node)) {
            false => Role::Egress,
            true if order(Role::Relay).all(|node| has_left(&node)) => {
                return self.change(slot.number, Action::Decommission { failures: None }, Reason::Empty);
            }
            true => Role::Relay,
        };
        let within = deadline.saturating_duration_since(self.now).max(Duration::from_secs(1));
        for node in order(told).filter(|node| node.order == Order::None) {
            self.order(slot.number, Action::OrderDrain { node: node.id.clone(), within }, Reason::NoLonger);
        }
    }

    fn stopping(&mut self, slot: &Slot) {
        let Some(provisioned) = self.o.provisioned else { return };
        let is_running = |node: &SlotNode| provisioned.contains_key(&node.id);
        if slot.nodes.iter().any(is_running) {
            return;
        }
        let alive = |node: &&SlotNode| self.node(&node.id).is_some_and(|seen| seen.health.is_alive());
        let left: Vec<NodeId> = slot.nodes.iter().filter(alive).map(|node| node.id.clone()).collect();
        if left.is_empty() {
            return self.change(slot.number, Action::Retire, Reason::Ended);
        }
        // Whoever has just ended is taken for alive for some seconds.
        if self.has_lasted(slot, self.o.policy.healthy_within) {
            self.decisions.findings.extend(left.into_iter().map(|node| Finding::CannotStop { node }));
        }
    }

    /// Starts those that do not run.
    fn start(&mut self, slot: &Slot) {
        let Some(provisioned) = self.o.provisioned else { return };
        for node in slot.nodes.iter().filter(|node| !provisioned.contains_key(&node.id)) {
            let action = Action::Start { node: node.id.clone(), role: node.role };
            self.order(slot.number, action, Reason::Wanted);
        }
    }

    fn fail(&mut self, slot: &Slot, reason: Reason) {
        let recent = self.o.slots.iter().filter(|slot| !self.has_lasted(slot, FAILURES_REMEMBERED));
        let failures = recent.map(|slot| slot.failures).max().unwrap_or(0).saturating_add(1);
        self.change(slot.number, Action::Decommission { failures: Some(failures) }, reason);
    }

    fn healthy(&self, slot: &Slot) -> Reason {
        Reason::Healthy { after: self.now.saturating_duration_since(slot.since) }
    }

    fn unhealthy(&self, slot: &Slot) -> Vec<NodeId> {
        let nodes = slot.nodes.iter().filter(|node| !self.node(&node.id).is_some_and(is_healthy));
        nodes.map(|node| node.id.clone()).collect()
    }

    fn is_unwell(&self, node: &SlotNode) -> bool {
        is_unwell(self.o, &node.id)
    }

    /// Nobody is on this node any more, and nobody comes.
    fn has_left(&self, node: &SlotNode) -> bool {
        let Some(seen) = self.node(&node.id) else { return true };
        match (seen.health, seen.load) {
            (Health::Dead, _) => true,
            (Health::Draining, Some(load)) => {
                load.viewers == 0 && (node.role.is_egress() || load.children == 0)
            }
            (Health::Draining, None) | (Health::Ready | Health::Suspect, _) => false,
        }
    }
}

/// Ready, and says how loaded it is: a node whose load is not known is no place for anybody.
const fn is_healthy(node: &NodeView) -> bool {
    matches!(node.health, Health::Ready) && node.load.is_some()
}

/// Dead, never seen, or not running as far as its provisioner knows.
#[must_use]
pub(super) fn is_unwell(o: &Observation<'_>, node: &NodeId) -> bool {
    let is_seen = o.nodes.iter().any(|seen| seen.id == *node && seen.health.is_alive());
    let is_running = o.provisioned.is_none_or(|provisioned| provisioned.contains_key(node));
    !is_seen || !is_running
}

impl Observation<'_> {
    /// The nodes of attached slots that are dead, silent or gone: for [`super::Meter::health`].
    #[must_use]
    pub fn unwell(&self) -> BTreeSet<NodeId> {
        let nodes = self.slots.iter().filter(|slot| slot.is_ours).flat_map(|slot| &slot.nodes);
        nodes.map(|node| &node.id).filter(|id| is_unwell(self, id)).cloned().collect()
    }
}
