//! Parents that the controller names: dialled when they are named, left when they are not any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use link::exchange::ParentId;
use model::NodeId;
use registry::Assignment;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::link_channel::LinkChannels;
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

/// A parent at another address is another parent.
type Name = (NodeId, String);

struct Parent {
    id: ParentId,
    dialling: AbortHandle,
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
            let Some((host, port)) = host_and_port(&parent.link) else {
                tracing::warn!(parent = %parent.node, address = parent.link, "a parent without a usable address");
                continue;
            };
            let name = (parent.node.clone(), parent.link.clone());
            unnamed.retain(|known| *known != name);
            let id = match self.known.get_mut(&name) {
                Some(known) => {
                    known.leaves_at = None;
                    known.id
                }
                None => self.dial(name, host, port).await,
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

    async fn dial(&mut self, name: Name, host: String, port: u16) -> ParentId {
        let id = ParentId::new(self.next);
        self.next += 1;
        tracing::info!(parent = %name.0, address = name.1, "parent assigned");
        // The exchange must know the parent before its channel is up.
        self.tree.add_parent(id, LEAVING).await;
        let channels = self.channels.clone();
        let dialling = tokio::spawn(async move { channels.dial(id, (host, port)).await }).abort_handle();
        self.known.insert(name, Parent { id, dialling, leaves_at: None });
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

fn host_and_port(address: &str) -> Option<(String, u16)> {
    let parent: config::Parent = address.parse().ok()?;
    Some((parent.host().to_owned(), parent.port()))
}
