//! Carries out what was decided, and keeps a book of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, stream};
use model::{NodeId, TreeId};
use registry::{
    AssignedParent, Assignment, AudienceRecord, BroadcastRecord, Decision, DecisionsRecord, NodeRecord,
    PLACES_MAX, Place, PlacesRecord, Registry, RegistryError,
};
use store::{Expect, Write};
use telemetry::Closed as _;
use telemetry::controller::DecisionKind;
use tree::Health;
use tree::topology::Action;

use crate::observer::Observer;
use crate::ways;

/// Writes under way at once.
const WRITES_MAX: usize = 32;

/// Who acts.
#[derive(Clone, Copy)]
pub struct Actor<'a> {
    pub controller: &'a NodeId,
    pub term: u64,
    pub registry: &'a Registry,
    pub metrics: &'a telemetry::controller::Metrics,
}

/// One thing that was done.
pub struct Done {
    tree: TreeId,
    decision: Decision,
}

impl Actor<'_> {
    /// Carries out all actions; those that fail are decided again in a second.
    pub async fn perform(self, observer: &Observer, actions: Vec<Action>) -> Vec<Done> {
        let performed = stream::iter(actions).map(|action| async move {
            let result = self.perform_one(observer, &action).await;
            match result {
                Ok(is_changed) => is_changed.then(|| self.done(observer, &action)).flatten(),
                Err(error) => {
                    tracing::warn!(node = %action.node(), %error, "a decision could not be carried out");
                    self.metrics.decision_failed();
                    None
                }
            }
        });
        performed.buffer_unordered(WRITES_MAX).filter_map(|done| async { done }).collect().await
    }

    async fn perform_one(self, observer: &Observer, action: &Action) -> Result<bool, RegistryError> {
        match action {
            Action::Assign { node, parents, paths, .. } => {
                let child = observer.nodes.get(node);
                let to = |parent: &NodeId| ways::to(observer.nodes.get(parent)?, child);
                let parents: Vec<AssignedParent> = parents.iter().filter_map(to).collect();
                let wanted = |found: Option<&Assignment>| {
                    // A later leader has decided: this one has lost its lease and does not know it yet.
                    if found.is_some_and(|found| found.term > self.term) {
                        return None;
                    }
                    Some(Assignment {
                        node: node.clone(),
                        parents: parents.clone(),
                        paths: *paths,
                        term: self.term,
                        drain: found.and_then(|found| found.drain),
                    })
                };
                self.registry.update(node.as_str(), wanted).await
            }
            Action::Forget { node } => {
                let Some(found) = observer.assignments.get(node) else { return Ok(false) };
                self.registry.delete::<Assignment>(node.as_str(), Expect::Version(found.version)).await
            }
        }
    }

    /// Tells children by which addresses their parents are reached now, where that is not what they were told.
    pub async fn renew_ways(self, observer: &Observer) {
        let is_stale = |found: &Assignment| ways::renewed(observer, found).is_some();
        let stale = observer.assignments.values().filter(|found| is_stale(&found.record));
        let stale: Vec<NodeId> = stale.map(|found| found.record.node.clone()).collect();
        let renewals = stream::iter(stale).map(|node| async move {
            // What a later leader has written stays.
            let renewed = |found: Option<&Assignment>| {
                ways::renewed(observer, found.filter(|found| found.term <= self.term)?)
            };
            match self.registry.update(node.as_str(), renewed).await {
                Ok(true) => tracing::info!(%node, "told by which addresses its parents are reached now"),
                Ok(false) => {}
                Err(error) => tracing::debug!(%node, %error, "not told of its parents' addresses yet"),
            }
        });
        renewals.buffer_unordered(WRITES_MAX).collect::<()>().await;
    }

    fn done(self, observer: &Observer, action: &Action) -> Option<Done> {
        let node = action.node();
        let tree = observer.nodes.get(node).map(|node| node.tree.clone());
        let tree = tree.or_else(|| observer.trees.keys().next().cloned())?;
        let (kind, reason) = match action {
            Action::Assign { reasons, .. } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                (DecisionKind::Assign, format!("{node} {}", reasons.join(", ")))
            }
            Action::Forget { .. } => (DecisionKind::Forget, format!("{node} is gone")),
        };
        Some(self.decided(tree, kind, Some(node), reason))
    }

    /// Something was done: logged, counted, and on its way into the book.
    pub fn decided(self, tree: TreeId, kind: DecisionKind, node: Option<&NodeId>, reason: String) -> Done {
        self.metrics.decided(kind);
        let kind = kind.as_str();
        tracing::info!(%tree, kind, "{reason}");
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let decision = Decision {
            at,
            controller: self.controller.to_string(),
            kind: kind.into(),
            node: node.map(ToString::to_string),
            reason,
        };
        Done { tree, decision }
    }

    /// Adds to the book.
    pub async fn record(self, done: Vec<Done>) {
        let mut by_tree: BTreeMap<TreeId, Vec<Decision>> = BTreeMap::new();
        for Done { tree, decision } in done {
            by_tree.entry(tree).or_default().push(decision);
        }
        for (tree, decisions) in by_tree {
            let add = |found: Option<&DecisionsRecord>| {
                let mut record = found.cloned().unwrap_or_else(|| DecisionsRecord::new(tree.clone()));
                decisions.iter().cloned().for_each(|decision| record.push(decision));
                Some(record)
            };
            if let Err(error) = self.registry.update(tree.as_str(), add).await {
                tracing::debug!(%tree, %error, "decisions were not recorded");
            }
        }
    }

    /// Deletes the records of broadcasts that nobody will come back to.
    pub async fn forget_broadcasts(self, lost: Vec<&BroadcastRecord>) -> Vec<Done> {
        let mut done = Vec::new();
        for record in lost {
            match self.forget_broadcast(record).await {
                Ok(false) => {}
                Ok(true) => {
                    let reason = format!("{} is over: {} is gone", record.broadcast, record.origin);
                    done.push(self.decided(
                        record.tree.clone(),
                        DecisionKind::End,
                        Some(&record.origin),
                        reason,
                    ));
                }
                Err(error) => tracing::debug!(broadcast = %record.broadcast, %error, "not forgotten yet"),
            }
        }
        done
    }

    async fn forget_broadcast(self, record: &BroadcastRecord) -> Result<bool, RegistryError> {
        let id = record.broadcast.as_str();
        let Some(found) = self.registry.get::<BroadcastRecord>(id).await? else { return Ok(false) };
        if found.record != *record {
            return Ok(false);
        }
        self.registry.delete::<BroadcastRecord>(id, Expect::Version(found.version)).await
    }

    /// Tells front doors who takes viewers and publishers.
    pub async fn publish_places(self, observer: &Observer, healths: &BTreeMap<NodeId, Health>) {
        let takers = observer.nodes.values().filter(|node| node.role.is_injection() || node.role.is_egress());
        let places: Vec<Place> = takers
            .filter_map(|node| Some(place(node, *healths.get(&node.node)?)))
            .filter(|place| place.health != Health::Dead.as_str())
            .collect();
        let chunks: &Vec<&[Place]> = &places.chunks(PLACES_MAX).collect();
        // One empty part says that there is nobody; what was there must not stay.
        let parts = chunks.len().max(1);
        let writes = (0..parts).map(|part| async move {
            let nodes = chunks.get(part).map_or_else(Vec::new, |chunk| chunk.to_vec());
            let record = PlacesRecord { part: part.to_string(), parts: parts as u32, nodes };
            self.registry.put(&record, Write::any()).await
        });
        if let Err(error) = try_join_all(writes).await {
            tracing::debug!(%error, "the list of places was not written");
        }
    }
}

/// The count of viewers that was written last.
#[derive(Default)]
pub struct AudienceTold {
    parts: Vec<AudienceRecord>,
    at: Option<Instant>,
}

/// A count that does not change is written so often: the store may have forgotten it.
const AUDIENCE_AGE_MAX: Duration = Duration::from_secs(10);

impl Actor<'_> {
    /// Tells how many watch what, if that has changed.
    pub async fn publish_audience(self, observer: &Observer, told: &mut AudienceTold) {
        let parts = AudienceRecord::parts_of(&observer.audience());
        let is_young = told.at.is_some_and(|at| at.elapsed() < AUDIENCE_AGE_MAX);
        if is_young && parts == told.parts {
            return;
        }
        let writes = parts.iter().map(|part| self.registry.put(part, Write::any()));
        if let Err(error) = try_join_all(writes).await {
            tracing::debug!(%error, "the count of viewers was not written");
            return;
        }
        *told = AudienceTold { parts, at: Some(Instant::now()) };
    }
}

fn place(node: &NodeRecord, health: Health) -> Place {
    let parents = node.parents.iter().filter(|parent| parent.is_alive);
    Place {
        node: node.node.clone(),
        tree: node.tree.clone(),
        role: node.role,
        region: node.region.clone(),
        health: health.as_str().into(),
        url: node.url.clone(),
        report: (node.incarnation.counter, node.report),
        capacity: node.capacity,
        load: Some(registry::Load { connected: None, ..node.load }),
        parents: parents.map(|parent| parent.node.to_string()).take(4).collect(),
    }
}
