//! Has nodes started, stopped and drained. Whoever starts nodes may be slow or silent: nobody waits for him here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use model::{NodeId, TreeId};
use provision::{Listed, NodeSpec, Phase, Provisioner, StartError};
use registry::{Assignment, Drain, RegistryError};
use telemetry::controller::ProvisionFailure;
use tree::TreeView;
use tree::scaling::{Action, Decision, Provisioned};

use super::{START_WITHIN, carry_out};
use crate::act::Actor;
use crate::observer::Observer;

/// How long a list may take.
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// An older list says nothing of what is there now.
const LIST_AGE_MAX: Duration = Duration::from_secs(10);

/// What is known of whoever starts nodes.
pub struct Provisioning {
    provisioner: Arc<dyn Provisioner>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The latest list, and when it was asked for.
    listed: Option<(Instant, Vec<Listed>)>,
    is_listing: bool,
    /// Starts that no list shows yet: under way, or ended since the list was asked for.
    starting: BTreeMap<NodeId, (NodeSpec, Option<Instant>)>,
    stopping: BTreeSet<NodeId>,
    /// Told once, until it answers again.
    is_silent: bool,
}

impl Provisioning {
    pub fn new(provisioner: Arc<dyn Provisioner>) -> Self {
        Self { provisioner, shared: Arc::default() }
    }

    pub fn place(&self) -> &str {
        self.provisioner.place()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }

    /// Asks for a new list; it is there at one of the next looks.
    pub fn look(&self, now: Instant) {
        let mut shared = self.lock();
        if std::mem::replace(&mut shared.is_listing, true) {
            return;
        }
        let (provisioner, ours) = (self.provisioner.clone(), self.shared.clone());
        tokio::spawn(async move {
            let listed = tokio::time::timeout(LIST_WITHIN, provisioner.list()).await;
            let listed = listed.map_err(|_| "no answer".to_owned());
            let mut shared = lock(&ours);
            shared.is_listing = false;
            match listed.and_then(|listed| listed.map_err(|error| error.to_string())) {
                Ok(listed) => shared.heard(now, listed),
                Err(error) => {
                    if !std::mem::replace(&mut shared.is_silent, true) {
                        tracing::warn!(error, "nodes can neither be started nor stopped");
                    }
                }
            }
        });
    }

    /// What runs for a tree, starts under way included; `None` if nobody said so lately.
    pub fn of(&self, tree: &TreeId) -> Option<BTreeMap<NodeId, Provisioned>> {
        let shared = self.lock();
        let (asked, listed) = shared.listed.as_ref()?;
        if asked.elapsed() > LIST_AGE_MAX {
            return None;
        }
        let starting = shared.starting.values().map(|(spec, _)| spec);
        let specs = listed.iter().map(|one| &one.spec).chain(starting).filter(|spec| spec.tree == *tree);
        let entry = |spec: &NodeSpec| (spec.node.clone(), Provisioned { slot: spec.slot, role: spec.role });
        Some(specs.map(entry).collect())
    }

    /// Does what was decided about single nodes.
    pub async fn order(
        &self,
        actor: Actor<'_>,
        (tree, observer): (&TreeView, &Observer),
        orders: &[&Decision],
    ) {
        let mut drains = Vec::new();
        for decision in orders {
            match &decision.action {
                Action::Start { node, role } => {
                    let spec = NodeSpec {
                        node: node.clone(),
                        tree: tree.id.clone(),
                        slot: decision.slot,
                        role: *role,
                    };
                    self.start(actor, spec);
                }
                Action::Stop { node } => self.stop(node),
                Action::OrderDrain { .. } | Action::TakeBack { .. } => drains.push(decision),
                _ => {}
            }
        }
        let drain_of = |slot: u32| {
            let mut entries = observer.slots.entries();
            entries
                .find(|(of, entry)| **of == tree.id && entry.number == slot)
                .map_or(0, |(_, entry)| entry.drain)
        };
        let ordered =
            drains.into_iter().map(|decision| order(actor, &decision.action, drain_of(decision.slot)));
        for error in join_all(ordered).await.into_iter().filter_map(Result::err) {
            actor.metrics.decision_failed();
            tracing::debug!(%error, "an order to drain was not written; it is written again in a second");
        }
    }

    fn start(&self, actor: Actor<'_>, spec: NodeSpec) {
        self.lock().starting.insert(spec.node.clone(), (spec.clone(), None));
        let (provisioner, ours, metrics) =
            (self.provisioner.clone(), self.shared.clone(), actor.metrics.clone());
        tokio::spawn(async move {
            let started = tokio::time::timeout(START_WITHIN, provisioner.start_node(&spec)).await;
            match started {
                // It has ended several times and is counted when it is given up.
                Ok(Ok(()) | Err(StartError::BackingOff { .. })) => {}
                Ok(Err(error)) => {
                    metrics.provision_failed(ProvisionFailure::Refused, 1);
                    tracing::warn!(node = %spec.node, %error, "a node could not be started");
                }
                Err(_) => {
                    metrics.provision_failed(ProvisionFailure::TimedOut, 1);
                    tracing::warn!(node = %spec.node, "starting a node took too long");
                }
            }
            if let Some((_, ended)) = lock(&ours).starting.get_mut(&spec.node) {
                *ended = Some(Instant::now());
            }
        });
    }

    fn stop(&self, node: &NodeId) {
        if !self.lock().stopping.insert(node.clone()) {
            return;
        }
        let (provisioner, ours, node) = (self.provisioner.clone(), self.shared.clone(), node.clone());
        tokio::spawn(async move {
            let stopped = tokio::time::timeout(START_WITHIN, provisioner.stop_node(&node)).await;
            if !matches!(stopped, Ok(Ok(()))) {
                tracing::debug!(%node, "a node could not be told to stop; it is told again");
            }
            lock(&ours).stopping.remove(&node);
        });
    }
}

impl Shared {
    fn heard(&mut self, asked: Instant, listed: Vec<Listed>) {
        if std::mem::take(&mut self.is_silent) {
            tracing::info!("nodes can be started and stopped again");
        }
        self.starting.retain(|_, (_, ended)| ended.is_none_or(|ended| ended >= asked));
        for one in listed.iter().filter(|one| one.phase == Phase::BackingOff) {
            tracing::debug!(node = %one.spec.node, failures = one.failures, "not started again yet");
        }
        self.listed = Some((asked, listed));
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes an order to drain, or takes it back, where it is the slot's own.
async fn order(actor: Actor<'_>, action: &Action, drain: u64) -> Result<(), RegistryError> {
    let (node, wanted) = match action {
        Action::OrderDrain { node, within } => {
            (node, Some(Drain { id: drain, deadline_secs: carry_out::whole_seconds(*within) }))
        }
        Action::TakeBack { node } => (node, None),
        _ => return Ok(()),
    };
    let change = |found: Option<&Assignment>| ordered(found, node, (wanted, drain), actor.term);
    actor.registry.update(node.as_str(), change).await.map(|_| ())
}

/// The assignment with an order of the slot's drain of this number, or without one; `None` if it stays as it is.
fn ordered(
    found: Option<&Assignment>,
    node: &NodeId,
    (wanted, drain): (Option<Drain>, u64),
    term: u64,
) -> Option<Assignment> {
    // A controller that leads no longer, and has not noticed yet, orders nothing.
    if found.is_some_and(|found| found.term > term) {
        return None;
    }
    let present = found.and_then(|found| found.drain);
    // An operator's order stands.
    if present.is_some_and(|present| wanted.is_some() || present.id != drain) {
        return None;
    }
    let none = || Assignment { node: node.clone(), parents: Vec::new(), paths: 2, term: 0, drain: None };
    Some(Assignment { drain: wanted, ..found.cloned().unwrap_or_else(none) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Drain = Drain { id: 7, deadline_secs: 60 };
    const AN_OPERATORS: Drain = Drain { id: 8, deadline_secs: 9 };

    fn assignment(term: u64, drain: Option<Drain>) -> Assignment {
        let node = NodeId::new("out").expect("an id");
        Assignment { node, parents: Vec::new(), paths: 2, term, drain }
    }

    /// The assignment after a controller of this term has ordered a drain, or taken its own back.
    fn after(found: Option<&Assignment>, wanted: Option<Drain>, term: u64) -> Option<Assignment> {
        let node = NodeId::new("out").expect("an id");
        ordered(found, &node, (wanted, OURS.id), term)
    }

    #[test]
    fn who_leads_orders_a_drain_and_takes_its_own_back() {
        assert_eq!(after(None, Some(OURS), 3), Some(assignment(0, Some(OURS))));
        assert_eq!(after(Some(&assignment(3, None)), Some(OURS), 3), Some(assignment(3, Some(OURS))));
        assert_eq!(after(Some(&assignment(2, Some(OURS))), None, 3), Some(assignment(2, None)));
    }

    #[test]
    fn an_operators_order_stands() {
        let drained = assignment(3, Some(AN_OPERATORS));
        assert_eq!(after(Some(&drained), Some(OURS), 3), None);
        assert_eq!(after(Some(&drained), None, 3), None);
    }

    #[test]
    fn who_leads_no_longer_orders_nothing() {
        assert_eq!(after(Some(&assignment(4, None)), Some(OURS), 3), None);
        assert_eq!(after(Some(&assignment(4, Some(OURS))), None, 3), None);
    }
}
