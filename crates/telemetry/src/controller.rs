//! Decisions: what a controller sees, and what it does about it.

use std::collections::BTreeMap;
use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::Role;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::collect::{Labels, Name, gauge, plain};
use crate::labels::{Closed, Label, closed, counters};
use crate::own_names;

/// Buckets of deciding and of a whole look: 10 ms is the aim for 1000 nodes, a look that takes a second is late for the
/// next one.
const LOOK_SECONDS: [f64; 12] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];

closed! {
    /// What a decision was about.
    DecisionKind, "kind" {
        /// Whom a node takes media from.
        Assign = "assign",
        /// A node that is gone is forgotten.
        Forget = "forget",
        /// A broadcast that nobody will come back to is over.
        End = "end",
        /// A slot of the reserve was made, started, found ready, emptied or deleted.
        Reserve = "reserve",
        /// A sub-tree is started.
        Grow = "grow",
        /// It is healthy and has become part of its tree.
        Attach = "attach",
        /// Its viewers are sent elsewhere.
        Drain = "drain",
        /// It is kept after all.
        Reactivate = "reactivate",
        /// Nodes of a slot are stopped.
        Decommission = "decommission",
        /// A node of a slot is given up.
        Lose = "lose",
        /// Nodes that run and that the store had forgotten are taken up again.
        Adopt = "adopt",
        /// An operator is asked, or not any more.
        Propose = "propose",
        /// What was decided in a dry run, and not done.
        DryRun = "dry_run",
    }
}

closed! {
    /// What is believed of a node.
    NodeState, "state" {
        /// Alive, takes children, viewers and publishers.
        Ready = "ready",
        /// Alive, takes nobody new.
        Draining = "draining",
        /// Not heard for a moment.
        Suspect = "suspect",
        /// Not heard for so long that it is out of every decision.
        Dead = "dead",
    }
}

closed! {
    /// How far a slot has come.
    SlotState, "state" {
        /// Made, not started.
        Cold = "cold",
        /// Its relay is being started.
        Warming = "warming",
        /// Its relay runs and carries nothing.
        Warm = "warm",
        /// Its nodes are being started.
        Growing = "growing",
        /// Part of its tree.
        Attached = "attached",
        /// Its viewers move elsewhere.
        Draining = "draining",
        /// Its nodes are being stopped.
        Stopping = "stopping",
    }
}

closed! {
    /// Why a node was not there when it was wanted.
    ProvisionFailure, "reason" {
        /// It could not be started.
        Refused = "refused",
        /// Whoever starts nodes did not answer.
        TimedOut = "timed_out",
        /// It was started and did not become healthy in time.
        NotHealthy = "not_healthy",
    }
}

/// Buckets of what a sub-tree takes to be there: nodes on this machine take a second, machines that have to be started a
/// minute, and after 90 s they are given up by default.
const PROVISION_SECONDS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 180.0];

/// Trees that grow and shrink, all together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScalingSnapshot {
    /// Slots in each state.
    pub slots: BTreeMap<SlotState, u64>,
    /// Warm slots that templates want.
    pub warm_wanted: u64,
    /// Viewers that fit.
    pub places: u64,
    /// Viewers that are there or expected.
    pub demand: u64,
    /// Changes that wait for an operator.
    pub proposals: u64,
}

/// What a controller sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// It acts.
    pub is_leader: bool,
    /// It has seen enough to decide.
    pub is_settled: bool,
    /// Trees.
    pub trees: u64,
    /// Nodes, as many as there are of each role in each state.
    pub nodes: BTreeMap<(Role, NodeState), u64>,
    /// Broadcasts that are live, and that wait for their publisher.
    pub broadcasts: (u64, u64),
    /// Viewers of all trees.
    pub viewers: u64,
    /// What more or other nodes would mend.
    pub findings: u64,
}

/// Handles of a controller's metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    decisions: Family<Label<DecisionKind>, Counter>,
    decision_failures: Counter,
    leaderships: Counter,
    decide_seconds: Histogram,
    reconcile_seconds: Histogram,
    provision_seconds: Histogram,
    provision_failures: Family<Label<ProvisionFailure>, Counter>,
    scaling: Arc<Mutex<Option<ScalingSnapshot>>>,
    snapshot: Arc<Mutex<Option<Snapshot>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            decisions: counters(),
            decision_failures: Counter::default(),
            leaderships: Counter::default(),
            decide_seconds: Histogram::new(LOOK_SECONDS),
            reconcile_seconds: Histogram::new(LOOK_SECONDS),
            provision_seconds: Histogram::new(PROVISION_SECONDS),
            provision_failures: counters(),
            scaling: Arc::default(),
            snapshot: Arc::default(),
        }
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let own = own_names(registry);
        own.register(
            "controller_decisions",
            "Decisions that this controller carried out",
            metrics.decisions.clone(),
        );
        own.register(
            "controller_decision_failures",
            "Decisions that could not be carried out; they are made again a second later",
            metrics.decision_failures.clone(),
        );
        own.register(
            "controller_leaderships",
            "Times that this controller began to lead",
            metrics.leaderships.clone(),
        );
        own.register(
            "controller_decide_seconds",
            "Time to compute what should be done about everything that is seen",
            metrics.decide_seconds.clone(),
        );
        own.register(
            "controller_reconcile_seconds",
            "Time of one whole look, once a second: deciding, writing, and reading back",
            metrics.reconcile_seconds.clone(),
        );
        own.register(
            "provision_seconds",
            "Time from the order to start a sub-tree, or a warm relay, until all its nodes were healthy",
            metrics.provision_seconds.clone(),
        );
        own.register(
            "provision_failures",
            "Nodes that were wanted and could not be started, or did not become healthy in time",
            metrics.provision_failures.clone(),
        );
        own.register_collector(Box::new(Seen(metrics.snapshot.clone())));
        own.register_collector(Box::new(Scaling(metrics.scaling.clone())));
        metrics
    }

    /// Counts a decision that was carried out.
    pub fn decided(&self, kind: DecisionKind) {
        self.decisions.get_or_create(&Label(kind)).inc();
    }

    /// Counts a decision that could not be carried out.
    pub fn decision_failed(&self) {
        self.decision_failures.inc();
    }

    /// Nodes that were ordered are healthy, after so long.
    pub fn provisioned(&self, took: Duration) {
        self.provision_seconds.observe(took.as_secs_f64());
    }

    /// Nodes that were wanted did not come.
    pub fn provision_failed(&self, why: ProvisionFailure, nodes: u64) {
        self.provision_failures.get_or_create(&Label(why)).inc_by(nodes);
    }

    /// How trees that grow and shrink are; `None` while this controller does not see to it.
    pub fn scaled(&self, seen: Option<ScalingSnapshot>) {
        *self.scaling.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// What computing a plan took.
    pub fn computed(&self, took: Duration) {
        self.decide_seconds.observe(took.as_secs_f64());
    }

    /// What the controller sees, after a look that took so long.
    pub fn looked(&self, seen: Snapshot, took: Duration) {
        self.reconcile_seconds.observe(took.as_secs_f64());
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_leader && !snapshot.as_ref().is_some_and(|before| before.is_leader) {
            self.leaderships.inc();
        }
        *snapshot = Some(seen);
    }
}

#[derive(Debug)]
struct Seen(Arc<Mutex<Option<Snapshot>>>);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(seen) = snapshot else { return Ok(()) };
        let e = &mut encoder;
        let truth = |is_true: bool| u64::from(is_true);
        for (name, help, value) in [
            (
                "controller_is_leader",
                "1 if this controller acts, 0 if another one does",
                truth(seen.is_leader),
            ),
            (
                "controller_is_settled",
                "1 if this controller has seen enough to decide, 0 after its start and while the store is away",
                truth(seen.is_settled),
            ),
            ("controller_trees", "Trees of the installation", seen.trees),
            ("controller_viewers", "Viewers of the installation", seen.viewers),
            (
                "controller_findings",
                "What is not as it should be and more or other nodes would mend",
                seen.findings,
            ),
        ] {
            gauge(e, Name(name, help), plain(value as f64))?;
        }
        let nodes = Role::EVERY.into_iter().flat_map(|role| {
            let seen = &seen;
            NodeState::ALL.iter().map(move |state| {
                let count = seen.nodes.get(&(role, *state)).copied().unwrap_or(0);
                (Labels(vec![("role", role.as_str()), (NodeState::NAME, state.as_str())]), count as f64)
            })
        });
        gauge(e, Name("controller_nodes", "Nodes of the installation, by role and state"), nodes)?;
        let (live, waiting) = seen.broadcasts;
        let broadcasts = [("live", live), ("waiting", waiting)];
        gauge(
            e,
            Name("controller_broadcasts", "Broadcasts of the installation, by state"),
            broadcasts.map(|(state, count)| (Labels(vec![("state", state)]), count as f64)),
        )
    }
}

#[derive(Debug)]
struct Scaling(Arc<Mutex<Option<ScalingSnapshot>>>);

impl Collector for Scaling {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let snapshot = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(seen) = snapshot else { return Ok(()) };
        let e = &mut encoder;
        let slots = SlotState::ALL.iter().map(|state| {
            let count = seen.slots.get(state).copied().unwrap_or(0);
            (Labels(vec![(SlotState::NAME, state.as_str())]), count as f64)
        });
        gauge(
            e,
            Name("slots", "Slots that trees grow by, by state; told by the controller that acts"),
            slots,
        )?;
        for (name, help, value) in [
            ("slots_warm_wanted", "Warm slots that the templates of trees want", seen.warm_wanted),
            (
                "scaling_places",
                "Viewers that egress nodes take, by what their viewers cost them now",
                seen.places,
            ),
            ("scaling_demand", "Viewers that are there, and those expected within scaling.lead", seen.demand),
            ("scaling_proposals", "Changes that wait for an operator's approval", seen.proposals),
        ] {
            gauge(e, Name(name, help), plain(value as f64))?;
        }
        Ok(())
    }
}
