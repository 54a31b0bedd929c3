//! Parents that the controller names: dialled when they are named, left when they are not any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use link::exchange::ParentId;
use model::NodeId;
use registry::{AssignedParent, Assignment, LINKS_MAX};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::link_channel::LinkChannels;
use crate::link_way::Way;
use crate::tree::TreeHandle;

/// A parent that is not named any more is kept for so long: the new ones must be connected and feed this node first.
const LEAVE_DELAY: Duration = Duration::from_secs(3);
/// Priority of a parent that is about to be left.
const LEAVING: u8 = u8::MAX;

/// The parents of this node.
pub struct Parents {
    channels: Arc<LinkChannels>,
    tree: TreeHandle,
    known: BTreeMap<Name, Parent>,
    next: u32,
}

/// A parent that tells another address of itself is another parent; the ways to one may change.
type Name = (NodeId, String);

struct Parent {
    id: ParentId,
    dialling: AbortHandle,
    ways: watch::Sender<Vec<config::Parent>>,
    /// Set when it was named no more.
    leaves_at: Option<Instant>,
}

impl Drop for Parents {
    fn drop(&mut self) {
        self.known.values().for_each(|parent| parent.dialling.abort());
    }
}

impl Parents {
    /// None yet.
    pub fn new(channels: Arc<LinkChannels>, tree: TreeHandle) -> Self {
        Self { channels, tree, known: BTreeMap::new(), next: 0 }
    }

    /// Those of this assignment, best first.
    pub async fn assign(&mut self, Assignment { parents, paths, .. }: &Assignment) {
        self.tree.take_from(*paths).await;
        let mut unnamed: Vec<Name> = self.known.keys().cloned().collect();
        for (priority, parent) in parents.iter().enumerate() {
            let ways = ways(parent);
            if ways.is_empty() {
                tracing::warn!(parent = %parent.node, address = parent.link, "a parent without a usable address");
                continue;
            }
            let name = (parent.node.clone(), parent.link.clone());
            unnamed.retain(|known| *known != name);
            let id = match self.known.get_mut(&name) {
                Some(known) => {
                    known.leaves_at = None;
                    known.ways.send_replace(ways);
                    known.id
                }
                None => self.dial(name, ways).await,
            };
            self.tree.add_parent(id, priority.min(usize::from(LEAVING) - 1) as u8).await;
        }
        for name in unnamed {
            let Some(parent) = self.known.get_mut(&name) else { continue };
            if parent.leaves_at.is_none() {
                parent.leaves_at = Some(Instant::now() + LEAVE_DELAY);
                self.tree.add_parent(parent.id, LEAVING).await;
            }
        }
    }

    async fn dial(&mut self, name: Name, ways: Vec<config::Parent>) -> ParentId {
        let id = ParentId::new(self.next);
        self.next += 1;
        let (ways, followed) = watch::channel(ways);
        let way = Way::following(Some(name.0.clone()), followed);
        tracing::info!(parent = %way, "parent assigned");
        // The exchange must know the parent before its channel is up.
        self.tree.add_parent(id, LEAVING).await;
        let channels = self.channels.clone();
        let dialling = tokio::spawn(async move { channels.dial(id, way).await }).abort_handle();
        self.known.insert(name, Parent { id, dialling, ways, leaves_at: None });
        id
    }

    /// Leaves those whose time has come; waits for ever if there are none.
    pub async fn due(parents: Option<&mut Self>) {
        let Some(parents) = parents else { return std::future::pending().await };
        let next =
            parents.known.iter().filter_map(|(name, parent)| Some((parent.leaves_at?, name.clone()))).min();
        let Some((at, name)) = next else { return std::future::pending().await };
        tokio::time::sleep_until(at).await;
        if let Some(parent) = parents.known.remove(&name) {
            tracing::info!(parent = %name.0, "parent left");
            parent.dialling.abort();
            parents.tree.remove_parent(parent.id).await;
        }
    }
}

/// Those that can be dialled, in the controller's order.
fn ways(parent: &AssignedParent) -> Vec<config::Parent> {
    let one = std::slice::from_ref(&parent.link);
    let told = if parent.links.is_empty() { one } else { &parent.links };
    told.iter().take(LINKS_MAX).filter_map(|address| address.parse().ok()).collect()
}
