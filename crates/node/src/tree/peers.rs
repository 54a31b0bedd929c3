//! Link channels as the tree thread sees them: where a peer's messages go.

use std::collections::BTreeMap;
use std::time::Instant;

use link::exchange::{Exchange, PeerId};
use link::wire::message::Message;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::link_channel::ChannelEvent;

/// The connected peers.
pub(super) struct Peers {
    outbound: BTreeMap<PeerId, mpsc::Sender<Message>>,
    /// Counts messages that found no room.
    queue_full: Counter,
}

impl Peers {
    pub(super) const fn new(queue_full: Counter) -> Self {
        Self { outbound: BTreeMap::new(), queue_full }
    }

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

    /// Sends a message. A peer that does not take its messages is disconnected: its state here would rot. Captions are another
    /// matter: they get half of the room, and whoever takes them too slowly misses some and keeps its media.
    pub(super) fn send(&mut self, peer: PeerId, message: Message) {
        let is_reliable = message.is_reliable();
        let Some(outbound) = self.outbound.get(&peer) else { return };
        if matches!(message, Message::Cue(_)) && outbound.capacity() <= outbound.max_capacity() / 2 {
            self.queue_full.inc();
            return;
        }
        let Err(refused) = outbound.try_send(message) else { return };
        if matches!(refused, TrySendError::Full(_)) {
            self.queue_full.inc();
        }
        if is_reliable {
            tracing::warn!("a peer does not take its messages, link closed");
            self.disconnect(peer);
        }
    }

    /// Ends the channel: its task stops when nobody can send to it.
    pub(super) fn disconnect(&mut self, peer: PeerId) {
        self.outbound.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use link::wire::message::{Cue, Heartbeat};
    use model::{BroadcastId, Epoch, NtpTime};

    use super::*;

    #[test]
    fn captions_leave_room_for_what_a_peer_cannot_do_without() {
        let (outbound, mut waiting) = mpsc::channel(8);
        let peer = PeerId::new(1);
        let dropped = Counter::default();
        let mut peers = Peers::new(dropped.clone());
        peers.outbound.insert(peer, outbound);
        let broadcast = BroadcastId::new("show").expect("an id");
        let cue = |number| Cue {
            broadcast: broadcast.clone(),
            epoch: Epoch { counter: 1, random: 1 },
            number,
            captured: NtpTime::from_bits(0),
            body: "{}".into(),
        };
        (0..100).for_each(|number| peers.send(peer, Message::Cue(cue(number))));
        assert_eq!(waiting.len(), 4);
        assert_eq!(dropped.get(), 96, "none is lost in silence");
        (0..4).for_each(|_| peers.send(peer, Message::Leave(broadcast.clone())));
        assert_eq!(dropped.get(), 96);
        peers.send(peer, Message::Heartbeat(Heartbeat { sent_micros: 0, echo: None }));
        assert_eq!(dropped.get(), 97, "what is stale when late is dropped, and counted");
        assert!(peers.outbound.contains_key(&peer), "the link stays");
        peers.send(peer, Message::Leave(broadcast.clone()));
        assert!(peers.outbound.is_empty(), "it takes nothing any more");
        assert_eq!(waiting.try_recv().ok(), Some(Message::Cue(cue(0))));
    }
}
