//! What an action makes of a slot.

use std::time::Instant;

use model::{NodeId, Role};

use super::{Action, Order, Proposal, Slot, SlotNode, State};

impl Slot {
    /// The slot after this action, or `None` if there is none any more. `name` gives a node its name, unique for ever.
    /// Actions about single nodes leave their slot as it is.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        number: u32,
        (now, action): (Instant, &Action),
        name: &mut dyn FnMut(Role) -> NodeId,
    ) -> Option<Self> {
        let new = || Self {
            number,
            state: State::Cold,
            since: now,
            nodes: Vec::new(),
            failures: 0,
            proposal: None,
            is_ours: true,
        };
        let mut slot = before.cloned().unwrap_or_else(new);
        let state = match action {
            Action::Delete => return None,
            Action::Create | Action::Start { .. } | Action::Stop { .. } | Action::OrderDrain { .. } => {
                slot.state
            }
            Action::TakeBack { .. } => slot.state,
            Action::Adopt { nodes } => {
                slot.nodes = nodes.iter().map(|(id, role)| fresh(id.clone(), *role)).collect();
                let has_egress = nodes.iter().any(|(_, role)| role.is_egress());
                if has_egress { State::Attached } else { State::Warm }
            }
            Action::Warm => {
                slot.want_relay(name);
                State::Warming
            }
            Action::Cool => State::Warming,
            Action::Ready => State::Warm,
            Action::Grow { egress } => {
                slot.want_relay(name);
                let wanted = (0..*egress).map(|_| fresh(name(Role::Egress), Role::Egress));
                slot.nodes.extend(wanted);
                State::Growing
            }
            Action::Attach { without } => {
                slot.nodes.retain(|node| !without.contains(&node.id));
                slot.failures = 0;
                State::Attached
            }
            Action::Drain => State::Draining,
            Action::Reactivate => State::Attached,
            Action::Decommission { failures } => {
                slot.failures = failures.unwrap_or(0);
                State::Stopping
            }
            Action::Retire => {
                slot.nodes.clear();
                State::Cold
            }
            Action::Lose { node } => {
                slot.nodes.retain(|known| known.id != *node);
                slot.state
            }
            Action::Propose { change } => {
                slot.proposal = Some(Proposal { change: *change, is_approved: false });
                return Some(slot);
            }
            Action::Withdraw => {
                slot.proposal = None;
                return Some(slot);
            }
        };
        if state != slot.state {
            (slot.state, slot.since, slot.proposal) = (state, now, None);
        }
        Some(slot)
    }

    fn want_relay(&mut self, name: &mut dyn FnMut(Role) -> NodeId) {
        if !self.nodes.iter().any(|node| node.role == Role::Relay) {
            self.nodes.push(fresh(name(Role::Relay), Role::Relay));
        }
    }
}

const fn fresh(id: NodeId, role: Role) -> SlotNode {
    SlotNode { id, role, order: Order::None, unwell_since: None }
}
