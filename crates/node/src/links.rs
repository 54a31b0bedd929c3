//! The links of a node as they begin: children are let in, and the parents of its configuration dialled.

use std::sync::Arc;

use config::Config;
use link::exchange::ParentId;

use crate::life::cluster_key;
use crate::link_channel::LinkChannels;
use crate::link_handshakes::LinkHandshakes;
use crate::link_identity::LinkIdentity;
use crate::link_socket::LinkSocket;
use crate::link_way::Way;
use crate::metrics::Metrics;
use crate::tree::TreeHandle;

/// Begins all of it. Must run inside tokio.
///
/// # Errors
/// If QUIC cannot be had on the link port.
pub fn start(
    config: &Config,
    socket: Arc<LinkSocket>,
    tree: &TreeHandle,
    metrics: &Metrics,
) -> anyhow::Result<Arc<LinkChannels>> {
    let identity = LinkIdentity::new(cluster_key(config).as_bytes())?;
    let handshakes = LinkHandshakes::new(metrics.link_handshakes_full());
    let channels = Arc::new(LinkChannels::new(socket, &identity, handshakes, tree.clone())?);
    let listening = channels.clone();
    tokio::spawn(async move { listening.accept().await });
    for (index, parent) in config.link.parents.iter().enumerate() {
        let (channels, parent) = (channels.clone(), parent.clone());
        tokio::spawn(async move {
            let way = Way::to(vec![parent]);
            channels.dial(ParentId::new(index as u32), way).await;
        });
    }
    Ok(channels)
}
