//! Whether to grow or to shrink, and what to keep in reserve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::{NodeId, Role};

use super::{
    Action, BACK_OFF_MAX, BACK_OFF_MIN, Blocked, Change, Decision, Decisions, FAILURES_REMEMBERED, Finding,
    GROWN_AT_ONCE_MAX, Mode, NODES_MAX, Observation, Order, Places, Reason, Slot, SlotNode, State,
};
use crate::{Health, NodeView};

/// Looks at one tree and says what to do. The same observation gives the same decisions.
#[must_use]
pub fn decide(now: Instant, observation: &Observation<'_>) -> Decisions {
    let template = &observation.tree.template;
    let has_slots = template.slots_warm + template.slots_cold > 0 || !observation.slots.is_empty();
    if !observation.is_settled || !has_slots {
        return Decisions::default();
    }
    let mut decider = Decider::new(now, observation);
    if observation.provisioned.is_none() {
        let tree = observation.tree.id.clone();
        decider.decisions.findings.push(Finding::ProvisionerSilent { tree });
        return decider.decisions;
    }
    decider.adopt();
    decider.upkeep();
    decider.collect();
    decider.grow_or_shrink();
    decider.reserve();
    decider.withdraw();
    decider.decisions.findings.sort();
    decider.decisions.findings.dedup();
    if observation.policy.mode == Mode::DryRun {
        decider.decisions.withheld = std::mem::take(&mut decider.decisions.actions);
    }
    decider.decisions
}

/// What is decided so far.
pub(super) struct Decider<'a> {
    pub now: Instant,
    pub o: &'a Observation<'a>,
    pub decisions: Decisions,
    nodes: BTreeMap<&'a NodeId, &'a NodeView>,
    places: Places,
    /// Slots whose record changes: each does so at most once.
    changed: BTreeSet<u32>,
    /// Slots that wait for an operator, and still do.
    proposed: BTreeSet<u32>,
    /// Nodes that this decision starts beyond those that there are.
    started: u32,
}

/// A new node has no place under a limit.
enum Room {
    Nodes(u32),
    None(Blocked),
}

impl<'a> Decider<'a> {
    fn new(now: Instant, o: &'a Observation<'a>) -> Self {
        let of_tree = o.nodes.iter().filter(|node| node.tree == o.tree.id);
        let nodes: BTreeMap<&NodeId, &NodeView> = of_tree.map(|node| (&node.id, node)).collect();
        let mut decider = Self {
            now,
            o,
            decisions: Decisions::default(),
            places: o.places(),
            nodes,
            changed: BTreeSet::new(),
            proposed: BTreeSet::new(),
            started: 0,
        };
        decider.decisions.places = decider.places.places;
        decider.decisions.demand = decider.demand();
        decider
    }

    pub fn slot(&self, number: u32) -> Option<&'a Slot> {
        self.o.slots.iter().find(|slot| slot.number == number)
    }

    pub fn node(&self, id: &NodeId) -> Option<&'a NodeView> {
        self.nodes.get(id).copied()
    }

    pub fn has_lasted(&self, slot: &Slot, time: Duration) -> bool {
        self.now >= slot.since + time
    }

    /// Changes the record of a slot.
    pub fn change(&mut self, slot: u32, action: Action, reason: Reason) {
        if self.changed.insert(slot) {
            self.decisions.actions.push(Decision { slot, action, reason });
        }
    }

    /// Does something about one node.
    pub fn order(&mut self, slot: u32, action: Action, reason: Reason) {
        self.decisions.actions.push(Decision { slot, action, reason });
    }

    fn is_free(&self, slot: &Slot) -> bool {
        slot.is_ours && !self.changed.contains(&slot.number)
    }

    /// Viewers that are there or expected.
    fn demand(&self) -> u64 {
        let Some(steady) = self.o.measured.steady else { return self.places.viewers };
        let expected = u128::from(steady.joins_per_minute) * self.o.policy.lead.as_millis() / 60_000;
        steady.viewers.saturating_add(expected as u64)
    }

    fn grow_or_shrink(&mut self) {
        let Some(steady) = self.o.measured.steady else {
            if self.places.unknown > 0 {
                let (tree, nodes) = (self.o.tree.id.clone(), self.places.unknown);
                self.decisions.findings.push(Finding::LoadUnknown { tree, nodes });
            }
            return;
        };
        let demand = self.demand();
        let mut grown = 0;
        let mut coming = self.coming();
        loop {
            // What has just been attached was not measured yet.
            let places = steady.places.max(self.places.places).saturating_add(coming);
            if demand.saturating_mul(1000) <= places.saturating_mul(self.o.policy.out_permille.into()) {
                break;
            }
            let joins_per_minute = steady.joins_per_minute;
            let reason = Reason::Pressed { demand, places, joins_per_minute };
            if grown == GROWN_AT_ONCE_MAX {
                return;
            }
            let Some(more) = self.grow_once(&reason) else { return };
            coming = coming.saturating_add(more);
            grown += 1;
        }
        if grown == 0 {
            self.shrink();
        }
    }

    /// Viewers that one more egress node of this tree takes, as those there are on the average.
    fn places_each(&self) -> Option<u64> {
        self.places.places.checked_div(self.places.known)
    }

    /// Places that are being made. Where nobody knows how many, one slot is enough for a beginning.
    fn coming(&self) -> u64 {
        let is_coming = |slot: &Slot, node: &SlotNode| match slot.state {
            State::Growing => true,
            // It was to go, and has not heard yet that it stays.
            State::Attached => {
                let health = self.node(&node.id).map(|seen| seen.health);
                health == Some(Health::Draining) && node.order != Order::Other
            }
            State::Cold | State::Warming | State::Warm | State::Draining | State::Stopping => false,
        };
        let of_slot = |slot: &'a Slot| {
            slot.nodes.iter().filter(move |node| node.role.is_egress() && is_coming(slot, node))
        };
        let nodes = self.o.slots.iter().filter(|slot| slot.is_ours).flat_map(of_slot).count() as u64;
        match (nodes, self.places_each()) {
            (0, _) => 0,
            (nodes, Some(each)) => nodes.saturating_mul(each),
            (_, None) => u64::MAX,
        }
    }

    /// Begins one sub-tree, or keeps one that was to go; gives the places that this brings.
    fn grow_once(&mut self, reason: &Reason) -> Option<u64> {
        let of_egress = |decider: &Self, egress: u64| match decider.places_each() {
            Some(each) => each.saturating_mul(egress),
            None => u64::MAX,
        };
        let draining = self.o.slots.iter().find(|slot| slot.state == State::Draining && self.is_free(slot));
        if let Some(slot) = draining {
            self.change(slot.number, Action::Reactivate, reason.clone());
            let egress = slot.nodes.iter().filter(|node| node.role.is_egress()).count();
            return Some(of_egress(self, egress as u64));
        }
        if let Some(blocked) = self.backing_off() {
            return self.cannot_grow(blocked);
        }
        let rank = |slot: &&Slot| {
            let is_proposed = slot.proposal.is_some_and(|proposal| proposal.change == Change::Grow);
            (!is_proposed, slot.state == State::Cold, slot.number)
        };
        let reserve = self.o.slots.iter().filter(|slot| matches!(slot.state, State::Warm | State::Cold));
        let picked = reserve.filter(|slot| self.is_free(slot)).min_by_key(rank);
        // Counted already: a warm relay as a node, a cold one as the place that is kept for it.
        let relay_room = u32::from(picked.is_none());
        let relay_start = u32::from(picked.is_none_or(|slot| slot.nodes.is_empty()));
        let room = match self.room(relay_room, relay_start) {
            Room::Nodes(room) => room,
            Room::None(blocked) => return self.cannot_grow(blocked),
        };
        let egress = self.o.tree.template.egress_per_relay.min(room);
        let number = picked.map_or_else(|| self.free_number(), |slot| slot.number);
        if !self.is_allowed(number, Change::Grow, reason) {
            return self.cannot_grow(Blocked::Approval { slot: number });
        }
        self.started += relay_start + egress;
        self.change(number, Action::Grow { egress }, reason.clone());
        Some(of_egress(self, egress.into()))
    }

    fn cannot_grow(&mut self, blocked: Blocked) -> Option<u64> {
        let tree = self.o.tree.id.clone();
        self.decisions.findings.push(Finding::CannotGrow { tree, blocked });
        None
    }

    /// Egress nodes that may be started beside a relay that takes so much of the limits.
    fn room(&self, relay_room: u32, relay_start: u32) -> Room {
        let max_nodes = self.max_nodes();
        let nodes = max_nodes.saturating_sub(self.counted() + self.started + relay_room);
        if nodes == 0 {
            return Room::None(Blocked::MaxNodes { limit: max_nodes });
        }
        let limit = self.o.policy.starts_per_hour;
        let starts = limit.saturating_sub(self.o.started_lately + self.started + relay_start);
        if starts == 0 {
            return Room::None(Blocked::Budget { limit });
        }
        Room::Nodes(nodes.min(starts))
    }

    fn max_nodes(&self) -> u32 {
        self.o.tree.template.limits.max_nodes.min(NODES_MAX)
    }

    /// Nodes of the tree, slots included, as `max_nodes` counts them.
    fn counted(&self) -> u32 {
        let ours = || self.o.slots.iter().filter(|slot| slot.is_ours);
        let in_slots: u32 = ours().map(|slot| slot.nodes.len().max(1) as u32).sum();
        let is_in_slot = |id: &NodeId| ours().any(|slot| slot.nodes.iter().any(|node| node.id == *id));
        let is_of_tree = |node: &NodeView| node.role != Role::Controller && node.health.is_alive();
        let others = self.nodes.values().filter(|node| is_of_tree(node) && !is_in_slot(&node.id));
        in_slots + others.count() as u32
    }

    fn backing_off(&self) -> Option<Blocked> {
        let failed = self.o.slots.iter().filter(|slot| slot.is_ours && slot.failures > 0);
        let failed = failed.map(|slot| (slot.since, slot.failures));
        // What fails in this very decision counts.
        let failing = self.decisions.actions.iter().filter_map(|decision| match decision.action {
            Action::Decommission { failures } => Some((self.now, failures?)),
            _ => None,
        });
        let until = |(since, failures): (Instant, u32)| {
            let doublings = failures.saturating_sub(1).min(16);
            (since + BACK_OFF_MIN.saturating_mul(1 << doublings).min(BACK_OFF_MAX), failures)
        };
        let (until, failures) = failed.chain(failing).map(until).max()?;
        let left = until.checked_duration_since(self.now).filter(|left| !left.is_zero())?;
        Some(Blocked::BackingOff { failures, seconds: left.as_secs().max(1) })
    }

    fn is_allowed(&mut self, slot: u32, change: Change, reason: &Reason) -> bool {
        match self.o.policy.mode {
            Mode::Automatic | Mode::DryRun => return true,
            Mode::Approve => {}
        }
        self.proposed.insert(slot);
        let proposal = self.slot(slot).and_then(|slot| slot.proposal).filter(|found| found.change == change);
        match proposal {
            Some(proposal) => proposal.is_approved,
            None => {
                self.change(slot, Action::Propose { change }, reason.clone());
                false
            }
        }
    }

    /// Takes back what nobody needs to allow any more.
    fn withdraw(&mut self) {
        for slot in self.o.slots.iter().filter(|slot| slot.proposal.is_some()) {
            if self.is_free(slot) && !self.proposed.contains(&slot.number) {
                self.change(slot.number, Action::Withdraw, Reason::NoLonger);
            }
        }
    }

    /// Takes away the latest sub-tree, if what is left has carried the whole cool-down with room to spare.
    fn shrink(&mut self) {
        let Some(calm) = self.o.measured.calm.filter(|_| self.places.unknown == 0) else { return };
        let cool_down = self.o.policy.cool_down;
        let is_at_rest = |slot: &Slot| match slot.state {
            // Starts that fail are no change of the tree.
            State::Cold | State::Stopping if slot.failures > 0 => true,
            State::Cold | State::Attached => {
                !self.changed.contains(&slot.number) && self.has_lasted(slot, cool_down)
            }
            State::Warming | State::Warm => true,
            State::Growing | State::Draining | State::Stopping => false,
        };
        if !self.o.slots.iter().filter(|slot| slot.is_ours).all(is_at_rest) {
            return;
        }
        let attached = self.o.slots.iter().filter(|slot| slot.is_ours && slot.state == State::Attached);
        // One that waits for an operator stays the one that is asked for.
        let Some(slot) = attached.max_by_key(|slot| (slot.proposal.is_some(), slot.number)) else { return };
        let of_slot = |id: &NodeId| slot.nodes.iter().any(|node| node.id == *id);
        let left = attached_nodes(self.o).filter(|(node, _)| !of_slot(&node.id));
        let nominal = Places::of(&self.o.tree.id, left).nominal;
        let left = nominal.saturating_mul(calm.yield_permille) / 1000;
        let viewers = calm.viewers.max(self.demand());
        if viewers.saturating_mul(1000) > left.saturating_mul(self.o.policy.in_permille.into()) || left == 0 {
            return;
        }
        let reason = Reason::Calm { viewers, left };
        if self.is_allowed(slot.number, Change::Shrink, &reason) {
            self.change(slot.number, Action::Drain, reason);
        }
    }

    /// Somebody needs this tree: it has a node that is in no slot, or a sub-tree.
    fn is_inhabited(&self) -> bool {
        let is_in_slot = |id: &NodeId| {
            let nodes = self.o.slots.iter().flat_map(|slot| &slot.nodes);
            nodes.map(|node| &node.id).any(|node| node == id)
        };
        let is_own = |node: &NodeView| {
            node.role != Role::Controller && node.health.is_alive() && !is_in_slot(&node.id)
        };
        let is_sub_tree =
            |slot: &Slot| matches!(slot.state, State::Growing | State::Attached | State::Draining);
        self.nodes.values().any(|node| is_own(node)) || self.o.slots.iter().any(is_sub_tree)
    }

    /// Keeps as many warm and cold slots as the template wants; none for a tree that nobody uses.
    fn reserve(&mut self) {
        let template = &self.o.tree.template;
        let (warm_wanted, cold_wanted) = match self.is_inhabited() {
            true => (template.slots_warm, template.slots_cold),
            false => (0, 0),
        };
        let of = |decider: &Self, states: &[State]| -> Vec<&'a Slot> {
            let slots = decider.o.slots.iter().filter(|slot| states.contains(&slot.state));
            slots.filter(|slot| decider.is_free(slot)).collect()
        };
        // What becomes a reserve in this very decision counts.
        let becoming = |is_so: fn(&Action) -> bool| {
            self.decisions.actions.iter().filter(|decision| is_so(&decision.action)).count() as u32
        };
        let becoming_warm = becoming(|action| match action {
            Action::Cool | Action::Ready => true,
            Action::Adopt { nodes } => nodes.iter().all(|(_, role)| !role.is_egress()),
            _ => false,
        });
        let becoming_cold = becoming(|action| matches!(action, Action::Retire));
        let (warm, cold) = (of(self, &[State::Warming, State::Warm]), of(self, &[State::Cold]));
        let there = warm.len() as u32 + becoming_warm;
        let wanted = warm_wanted;
        let (mut cold_there, mut warm_there) = (cold.len() as u32 + becoming_cold, there);
        if there < wanted {
            if self.warm_up(&cold, Reason::Reserve { wanted, there }) {
                (cold_there, warm_there) = (cold_there - 1, there + 1);
            }
        } else if there > wanted
            && let Some(slot) = warm.last()
        {
            let reason = Reason::Reserve { wanted, there };
            self.change(slot.number, Action::Decommission { failures: None }, reason);
        }
        let wanted = cold_wanted + wanted.saturating_sub(warm_there);
        let reason = Reason::Reserve { wanted, there: cold_there };
        if cold_there < wanted {
            if self.counted() + self.started < self.max_nodes() {
                let number = self.free_number();
                self.change(number, Action::Create, reason);
            }
        } else if cold_there > wanted
            && let Some(slot) = of(self, &[State::Cold])
                .into_iter()
                .rev()
                .find(|slot| slot.failures == 0 || self.has_lasted(slot, FAILURES_REMEMBERED))
        {
            self.change(slot.number, Action::Delete, reason);
        }
    }

    /// Starts the relay of a cold slot; false if it cannot be.
    fn warm_up(&mut self, cold: &[&Slot], reason: Reason) -> bool {
        let Some(slot) = cold.first() else { return false };
        // The place of a cold slot is counted already.
        let limit = self.o.policy.starts_per_hour;
        let is_spent = self.o.started_lately + self.started >= limit;
        let blocked = self.backing_off().or_else(|| is_spent.then_some(Blocked::Budget { limit }));
        if let Some(blocked) = blocked {
            let tree = self.o.tree.id.clone();
            self.decisions.findings.push(Finding::NoReserve { tree, blocked });
            return false;
        }
        self.started += 1;
        self.change(slot.number, Action::Warm, reason);
        true
    }

    /// The lowest number that no slot has.
    fn free_number(&self) -> u32 {
        let is_taken = |number: &u32| self.slot(*number).is_some() || self.changed.contains(number);
        (0..u32::MAX).find(|number| !is_taken(number)).unwrap_or(u32::MAX)
    }
}

/// Nodes that are part of the tree, with the health that counts: not those of slots that are not attached yet, and those that
/// are about to leave have no places, whether they have heard of that or not.
fn attached_nodes<'a>(o: &'a Observation<'a>) -> impl Iterator<Item = (&'a NodeView, Health)> {
    let mut states: BTreeMap<&NodeId, State> = BTreeMap::new();
    for slot in o.slots {
        states.extend(slot.nodes.iter().map(|node| (&node.id, slot.state)));
    }
    o.nodes.iter().filter_map(move |node| match (states.get(&node.id), node.health) {
        (Some(state), _) if state.is_reserve() || *state == State::Stopping => None,
        (Some(State::Draining), Health::Ready) => Some((node, Health::Draining)),
        (_, health) => Some((node, health)),
    })
}

impl Observation<'_> {
    /// The places of the tree as it is: for [`super::Meter::look`].
    #[must_use]
    pub fn places(&self) -> Places {
        Places::of(&self.tree.id, attached_nodes(self))
    }
}
