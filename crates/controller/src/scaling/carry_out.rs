//! Writes what was decided about slots, all of one tree at once, and tells it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::{NodeId, Role, TreeId};
use registry::{SlotEntry, SlotsRecord};
use telemetry::controller::{DecisionKind, ProvisionFailure};
use tree::scaling::{Action, Decision, Reason, Slot};

use super::{Scaler, convert};
use crate::act::{Actor, Done};

impl Scaler {
    /// Writes the changes. `None` if that failed: everything is decided again in a second.
    pub(super) async fn change(
        &mut self,
        now: Instant,
        actor: Actor<'_>,
        (tree, seen): (&TreeId, &[Slot]),
        changes: &[&Decision],
    ) -> Option<Vec<Done>> {
        if changes.is_empty() {
            return Some(Vec::new());
        }
        let place = self.provisioning.place().to_owned();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut is_led_by_another = false;
        let change = |found: Option<&SlotsRecord>| {
            is_led_by_another = found.is_some_and(|found| found.term > actor.term);
            if is_led_by_another {
                return None;
            }
            let stored = found.map_or(&[][..], |found| &found.slots);
            let mut slots: Vec<SlotEntry> = stored.to_vec();
            for decision in changes {
                apply((&mut slots, seen), decision, (now, &place, unix.as_millis() as u64));
            }
            slots.sort_by_key(|slot| slot.number);
            Some(SlotsRecord { tree: tree.clone(), term: actor.term, slots })
        };
        match actor.registry.update(tree.as_str(), change).await {
            Ok(true) => self.unwritten.remove(tree),
            Ok(false) => return (!is_led_by_another).then(Vec::new),
            Err(error) => {
                actor.metrics.decision_failed();
                if self.unwritten.insert(tree.clone()) {
                    tracing::warn!(%tree, %error, "slots could not be written");
                }
                return None;
            }
        };
        changes.iter().for_each(|decision| count(actor, decision));
        let done = |decision: &&Decision| {
            let kind = kind_of(&decision.action)?;
            Some(actor.decided(tree.clone(), kind, None, describe(decision)))
        };
        Some(changes.iter().filter_map(done).collect())
    }
}

fn count(actor: Actor<'_>, decision: &Decision) {
    match (&decision.action, &decision.reason) {
        (Action::Ready | Action::Attach { .. }, Reason::Healthy { after }) => {
            actor.metrics.provisioned(*after)
        }
        (
            Action::Attach { .. } | Action::Decommission { failures: Some(_) },
            Reason::NotHealthy { nodes, .. },
        ) => {
            actor.metrics.provision_failed(ProvisionFailure::NotHealthy, *nodes as u64);
        }
        (Action::Lose { .. }, _) => actor.metrics.provision_failed(ProvisionFailure::NotHealthy, 1),
        _ => {}
    }
}

/// Changes one slot, if it still is what the decision rests on.
fn apply(
    (slots, seen): (&mut Vec<SlotEntry>, &[Slot]),
    decision: &Decision,
    (now, place, unix_millis): (Instant, &str, u64),
) {
    let at = slots.iter().position(|slot| slot.number == decision.slot);
    let stored = at.and_then(|at| slots.get(at).cloned());
    let rests_on = seen.iter().find(|slot| slot.number == decision.slot);
    let is_same = match (&stored, rests_on) {
        (None, None) => true,
        (Some(stored), Some(seen)) => {
            stored.state == seen.state.as_str()
                && stored.nodes.iter().map(|node| &node.node).eq(seen.nodes.iter().map(|node| &node.id))
        }
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !is_same {
        return;
    }
    let after = Slot::after(rests_on, decision.slot, (now, &decision.action), &mut name);
    if let Some(at) = at {
        slots.remove(at);
    }
    let reason = decision.reason.to_string();
    slots.extend(after.map(|slot| convert::write(&slot, stored.as_ref(), (place, unix_millis, &reason))));
}

/// A name that no node had before.
fn name(role: Role) -> NodeId {
    let mut random = [0; 6];
    // Without randomness nothing of this process works: not even TLS.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    NodeId::new(&format!("{role}-{suffix}")).expect("roles and hexadecimal digits follow the grammar")
}

/// What kind of decision changes a slot; `None` for those about single nodes.
pub(super) const fn kind_of(action: &Action) -> Option<DecisionKind> {
    Some(match action {
        Action::Create | Action::Delete | Action::Warm | Action::Cool | Action::Ready | Action::Retire => {
            DecisionKind::Reserve
        }
        Action::Adopt { .. } => DecisionKind::Adopt,
        Action::Grow { .. } => DecisionKind::Grow,
        Action::Attach { .. } => DecisionKind::Attach,
        Action::Drain => DecisionKind::Drain,
        Action::Reactivate => DecisionKind::Reactivate,
        Action::Decommission { .. } => DecisionKind::Decommission,
        Action::Lose { .. } => DecisionKind::Lose,
        Action::Propose { .. } | Action::Withdraw => DecisionKind::Propose,
        Action::Start { .. } | Action::Stop { .. } | Action::OrderDrain { .. } | Action::TakeBack { .. } => {
            return None;
        }
    })
}

/// A decision in words.
pub(super) fn describe(decision: &Decision) -> String {
    let Decision { slot, action, reason } = decision;
    let what = match action {
        Action::Create => "is made, cold".to_owned(),
        Action::Delete => "is deleted".to_owned(),
        Action::Adopt { nodes } => format!("is taken up again with {} nodes", nodes.len()),
        Action::Warm => "is warmed up: its relay is started".to_owned(),
        Action::Cool => "is warmed up again".to_owned(),
        Action::Ready => "is warm".to_owned(),
        Action::Grow { egress } => format!("grows: {egress} egress nodes are started"),
        Action::Attach { without } if without.is_empty() => "becomes part of the tree".to_owned(),
        Action::Attach { without } => format!("becomes part of the tree without {} nodes", without.len()),
        Action::Drain => "is drained".to_owned(),
        Action::Reactivate => "stays after all".to_owned(),
        Action::Decommission { failures: None } => "is stopped".to_owned(),
        Action::Decommission { failures: Some(failures) } => {
            format!("is stopped, failure {failures} in a row")
        }
        Action::Retire => "is cold again".to_owned(),
        Action::Lose { node } => format!("gives {node} up"),
        Action::Propose { change } => format!("waits for approval to {}", change.as_str()),
        Action::Withdraw => "waits for approval no longer".to_owned(),
        Action::Start { node, .. } => format!("starts {node}"),
        Action::Stop { node } => format!("stops {node}"),
        Action::OrderDrain { node, within } => format!("drains {node} within {} s", within.as_secs()),
        Action::TakeBack { node } => format!("keeps {node}"),
    };
    format!("slot {slot} {what}: {reason}")
}

/// A deadline as an order to drain has it.
pub(super) fn whole_seconds(within: Duration) -> u32 {
    u32::try_from(within.as_secs()).unwrap_or(u32::MAX)
}
