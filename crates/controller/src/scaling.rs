//! Trees that grow and shrink: lets [`tree::scaling`] decide each second while this controller leads, writes what was decided
//! into the slots of the tree, and has nodes started, stopped and drained.
//!
//! What is written comes first and what is done follows from what is written, so that whoever leads next goes on with it.

mod carry_out;
mod convert;
mod provisioning;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::TreeId;
use provision::Provisioner;
use telemetry::controller::{DecisionKind, ScalingSnapshot, SlotState};
use tree::TreeView;
use tree::scaling::{Decision, Finding, Ledger, Meter, Observation, Slot, State, decide};
pub use tree::scaling::{Mode, Policy};

use crate::act::{Actor, Done};
use crate::observer::Observer;
use carry_out::kind_of;
pub(crate) use convert::{SlotsSeen, entries};
use provisioning::Provisioning;

/// How trees grow and shrink by this controller.
pub struct Scaling {
    /// How eager and how careful.
    pub policy: Policy,
    /// Starts and stops nodes.
    pub provisioner: Arc<dyn Provisioner>,
}

/// What was decided lately, and what it rests on.
pub struct Scaler {
    policy: Policy,
    provisioning: Provisioning,
    meters: BTreeMap<TreeId, Meter>,
    ledger: Ledger,
    /// What a dry run has told already.
    told: BTreeMap<TreeId, BTreeSet<(u32, DecisionKind)>>,
    /// Trees whose slots could not be written: told once, until they can.
    unwritten: BTreeSet<TreeId>,
}

/// What one look came to.
#[derive(Default)]
pub struct Scaled {
    pub findings: Vec<Finding>,
    pub done: Vec<Done>,
    pub seen: ScalingSnapshot,
}

impl Scaler {
    pub fn new(scaling: &Scaling) -> Self {
        Self {
            policy: scaling.policy.clone(),
            provisioning: Provisioning::new(scaling.provisioner.clone()),
            meters: BTreeMap::new(),
            ledger: Ledger::new(),
            told: BTreeMap::new(),
            unwritten: BTreeSet::new(),
        }
    }

    /// Another one leads: what was measured is no longer looked after.
    pub fn rest(&mut self) {
        self.meters.clear();
        self.told.clear();
    }

    /// Looks at all trees, and does what is decided.
    pub async fn look(
        &mut self,
        now: Instant,
        (actor, observer): (Actor<'_>, &Observer),
        observation: &tree::Observation,
    ) -> Scaled {
        self.provisioning.look(now);
        self.meters.retain(|tree, _| observer.trees.contains_key(tree));
        self.told.retain(|tree, _| observer.trees.contains_key(tree));
        let mut scaled = Scaled::default();
        for tree in &observation.trees {
            self.look_at(now, (actor, observer), (tree, observation), &mut scaled).await;
        }
        scaled
    }

    async fn look_at(
        &mut self,
        now: Instant,
        (actor, observer): (Actor<'_>, &Observer),
        (tree, all): (&TreeView, &tree::Observation),
        scaled: &mut Scaled,
    ) {
        let meter = self.meters.entry(tree.id.clone()).or_default();
        let place = self.provisioning.place();
        let mut slots = observer.slots.of(&tree.id, (place, &observer.assignments));
        for node in slots.iter_mut().flat_map(|slot| &mut slot.nodes) {
            node.unwell_since = meter.unwell_since(&node.id);
        }
        let wanted = slots.iter().filter(|slot| slot.is_ours).flat_map(|slot| &slot.nodes);
        self.ledger.seen(now, wanted.map(|node| &node.id));
        let provisioned = self.provisioning.of(&tree.id);
        let seen = Observation {
            is_settled: all.is_settled,
            tree,
            nodes: &all.nodes,
            slots: &slots,
            provisioned: provisioned.as_ref(),
            measured: meter.measured(now, self.policy.cool_down),
            started_lately: self.ledger.started_lately(now),
            policy: &self.policy,
        };
        let decisions = decide(now, &seen);
        meter.look(now, seen.places(), self.policy.cool_down);
        meter.health(now, &seen.unwell());
        scaled.count(tree, &slots);
        scaled.seen.places += decisions.places;
        scaled.seen.demand += decisions.demand;
        let (changes, orders): (Vec<&Decision>, Vec<&Decision>) =
            decisions.actions.iter().partition(|decision| kind_of(&decision.action).is_some());
        if let Some(done) = self.change(now, actor, (&tree.id, &slots), &changes).await {
            scaled.done.extend(done);
            // In the same look: a second tree has what is left of the budget.
            self.provisioning.order(actor, (tree, observer), &orders).await;
        }
        scaled.done.extend(self.tell(actor, &tree.id, &decisions.withheld));
        scaled.findings.extend(decisions.findings);
    }

    /// Tells what a dry run would do, once as long as it would.
    fn tell(&mut self, actor: Actor<'_>, tree: &TreeId, withheld: &[Decision]) -> Vec<Done> {
        let kinds = |decision: &Decision| Some((decision.slot, kind_of(&decision.action)?));
        let now: BTreeSet<(u32, DecisionKind)> = withheld.iter().filter_map(kinds).collect();
        let before = self.told.insert(tree.clone(), now).unwrap_or_default();
        let is_new = |decision: &&Decision| kinds(decision).is_some_and(|kind| !before.contains(&kind));
        let would = |decision: &Decision| {
            let reason = format!("dry run, not done: {}", carry_out::describe(decision));
            actor.decided(tree.clone(), DecisionKind::DryRun, None, reason)
        };
        withheld.iter().filter(is_new).map(would).collect()
    }
}

impl Scaled {
    fn count(&mut self, tree: &TreeView, slots: &[Slot]) {
        for slot in slots {
            *self.seen.slots.entry(state(slot.state)).or_default() += 1;
            self.seen.proposals += u64::from(slot.proposal.is_some_and(|proposal| !proposal.is_approved));
        }
        self.seen.warm_wanted += u64::from(tree.template.slots_warm);
    }
}

const fn state(state: State) -> SlotState {
    match state {
        State::Cold => SlotState::Cold,
        State::Warming => SlotState::Warming,
        State::Warm => SlotState::Warm,
        State::Growing => SlotState::Growing,
        State::Attached => SlotState::Attached,
        State::Draining => SlotState::Draining,
        State::Stopping => SlotState::Stopping,
    }
}

/// How long starting a node may take before it counts as failed.
const START_WITHIN: Duration = Duration::from_secs(30);
