//! Link channels as the tree thread sees them: where a peer's messages go.

use std::collections::BTreeMap;
use std::time::Instant;

use link::exchange::{Exchange, PeerId};
use link::wire::message::Message;
use tokio::sync::mpsc;

use crate::link_channel::ChannelEvent;

/// The connected peers.
#[derive(Default)]
pub(super) struct Peers {
    outbound: BTreeMap<PeerId, mpsc::Sender<Message>>,
}

impl Peers {
    /// Tells the exchange what a channel brought.
    pub(super) fn handle(&mut self, now: Instant, event: ChannelEvent, exchange: &mut Exchange) {
        match event {
            ChannelEvent::Connected { peer, parent, address, outbound } => {
                self.outbound.insert(peer, outbound);
                match parent {
                    Some(parent) => exchange.parent_connected(now, parent, peer, address),
                    None => {
                        if let Err(error) = exchange.child_connected(now, peer, address) {
                            tracing::warn!(%error, "child refused");
                            self.disconnect(peer);
                        }
                    }
                }
            }
            ChannelEvent::Message { peer, message } => exchange.message(now, peer, message),
            ChannelEvent::Disconnected { peer } => {
                self.outbound.remove(&peer);
                exchange.peer_disconnected(now, peer);
            }
        }
    }

    /// Sends a message. A peer that does not take its messages is disconnected: its state here would rot.
    pub(super) fn send(&mut self, peer: PeerId, message: Message) {
        let is_reliable = message.is_reliable();
        let Some(outbound) = self.outbound.get(&peer) else { return };
        if outbound.try_send(message).is_err() && is_reliable {
            tracing::warn!("a peer does not take its messages, link closed");
            self.disconnect(peer);
        }
    }

    /// Ends the channel: its task stops when nobody can send to it.
    pub(super) fn disconnect(&mut self, peer: PeerId) {
        self.outbound.remove(&peer);
    }
}
