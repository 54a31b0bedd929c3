//! Says in the store which broadcasts this node gives their identity to, and steps back where a later run is elsewhere.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Broadcast, BroadcastId, BroadcastState, Epoch};
use registry::{BroadcastRecord, Rates, RegistryError};
use tokio::sync::watch;

use super::Control;
use super::rates::is_news;
use crate::tree::TreeHandle;

/// After a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Broadcasts whose injection node this is.
#[derive(Debug)]
pub struct Published {
    broadcasts: Mutex<BTreeMap<BroadcastId, Broadcast>>,
    /// What each of them takes, as it was told last.
    rates: Mutex<BTreeMap<BroadcastId, Rates>>,
    changed: watch::Sender<()>,
}

impl Default for Published {
    fn default() -> Self {
        Self { broadcasts: Mutex::default(), rates: Mutex::default(), changed: watch::channel(()).0 }
    }
}

impl Published {
    /// A broadcast is published here, or what it is has changed.
    pub fn changed(&self, broadcast: Broadcast) {
        self.lock().insert(broadcast.id.clone(), broadcast);
        self.changed.send_replace(());
    }

    /// A broadcast is published here no more.
    pub fn ended(&self, broadcast: &BroadcastId) {
        self.lock().remove(broadcast);
        self.lock_rates().remove(broadcast);
        self.changed.send_replace(());
    }

    /// So much was measured: it is told if that is news.
    pub fn measured(&self, broadcast: &BroadcastId, measured: Rates) {
        let mut rates = self.lock_rates();
        if rates.get(broadcast).is_none_or(|told| is_news(told, &measured)) {
            rates.insert(broadcast.clone(), measured);
            drop(rates);
            self.changed.send_replace(());
        }
    }

    fn rates(&self, broadcast: &BroadcastId) -> Option<Rates> {
        self.lock_rates().get(broadcast).copied()
    }

    fn lock_rates(&self) -> MutexGuard<'_, BTreeMap<BroadcastId, Rates>> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many have a publisher.
    #[must_use]
    pub fn live(&self) -> usize {
        self.lock().values().filter(|broadcast| broadcast.state == BroadcastState::Live).count()
    }

    fn list(&self) -> Vec<Broadcast> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BroadcastId, Broadcast>> {
        self.broadcasts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the records in step with what is published here.
pub async fn announce(
    control: Arc<Control>,
    tree: TreeHandle,
    published: Arc<Published>,
    mut elsewhere: watch::Receiver<()>,
) {
    let mut here = published.changed.subscribe();
    loop {
        let is_done = announce_all(&control, &tree, &published).await;
        tokio::select! {
            changed = here.changed() => if changed.is_err() { return },
            changed = elsewhere.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if !is_done => {}
        }
    }
}

/// False if something has to be tried again.
async fn announce_all(control: &Control, tree: &TreeHandle, published: &Published) -> bool {
    let mut is_done = true;
    let broadcasts = published.list();
    for broadcast in &broadcasts {
        match announce_one(control, broadcast, published.rates(&broadcast.id)).await {
            Ok(Said::Here) => {}
            Ok(Said::Elsewhere) => {
                if broadcast.state == BroadcastState::Live {
                    tree.superseded(broadcast.id.clone(), broadcast.epoch).await;
                }
            }
            Err(error) => {
                tracing::debug!(broadcast = %broadcast.id, %error, "the store was not told of a broadcast");
                is_done = false;
            }
        }
    }
    let me = &control.about.node;
    let is_over = |record: &BroadcastRecord| {
        record.origin == *me && !broadcasts.iter().any(|broadcast| broadcast.id == record.broadcast)
    };
    for record in control.front_door.broadcasts().into_iter().filter(is_over) {
        is_done &= forget(control, &record.broadcast).await.is_ok();
    }
    is_done
}

enum Said {
    Here,
    Elsewhere,
}

async fn announce_one(
    control: &Control,
    broadcast: &Broadcast,
    measured: Option<Rates>,
) -> Result<Said, RegistryError> {
    let known = control.front_door.broadcast(&broadcast.id);
    let wanted = BroadcastRecord {
        broadcast: broadcast.id.clone(),
        tree: control.about.tree.clone(),
        origin: control.about.node.clone(),
        epoch: broadcast.epoch.map(Into::into),
        state: broadcast.state.into(),
        // Until it is measured, what its last run took.
        rates: measured.or_else(|| known.as_ref()?.rates),
    };
    if known.as_ref() == Some(&wanted) {
        return Ok(Said::Here);
    }
    let mut said = Said::Here;
    let change = |found: Option<&BroadcastRecord>| {
        let is_fenced = found.is_some_and(|found| is_later(found, &wanted));
        said = if is_fenced { Said::Elsewhere } else { Said::Here };
        (!is_fenced).then(|| wanted.clone())
    };
    control.registry.update(broadcast.id.as_str(), change).await?;
    Ok(said)
}

/// Whether what is recorded is of a later run than ours, so that ours has lost.
fn is_later(found: &BroadcastRecord, ours: &BroadcastRecord) -> bool {
    let epoch = |record: &BroadcastRecord| record.epoch.map(Epoch::from);
    found.origin != ours.origin && epoch(found) >= epoch(ours) && found.epoch.is_some()
}

async fn forget(control: &Control, broadcast: &BroadcastId) -> Result<(), RegistryError> {
    let found = control.registry.get::<BroadcastRecord>(broadcast.as_str()).await?;
    if let Some(found) = found.filter(|found| found.record.origin == control.about.node) {
        control
            .registry
            .delete::<BroadcastRecord>(broadcast.as_str(), store::Expect::Version(found.version))
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use model::{NodeId, TreeId};
    use registry::{RecordedEpoch, RecordedState};

    use super::*;

    fn record(origin: &str, epoch: Option<(u64, u64)>) -> BroadcastRecord {
        BroadcastRecord {
            broadcast: BroadcastId::new("b").expect("id"),
            tree: TreeId::new("main").expect("id"),
            origin: NodeId::new(origin).expect("id"),
            epoch: epoch.map(|(counter, random)| RecordedEpoch { counter, random }),
            state: RecordedState::Live,
            rates: None,
        }
    }

    #[test]
    fn the_later_run_wins_and_a_node_never_fences_itself() {
        let ours = record("a", Some((5, 1)));
        assert!(is_later(&record("b", Some((6, 0))), &ours));
        assert!(is_later(&record("b", Some((5, 2))), &ours), "ties go to the higher random part");
        assert!(!is_later(&record("b", Some((4, 9))), &ours));
        assert!(!is_later(&record("b", None), &ours), "declared there, published here");
        assert!(!is_later(&record("a", Some((9, 9))), &ours), "an earlier record of this very node");
    }
}
