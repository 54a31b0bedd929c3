//! How the rest of the node reaches the tree thread.

use std::sync::Arc;

use ingest::PublisherId;
use mio::Waker;
use model::{BroadcastId, Ssrc};
use tokio::sync::{mpsc, oneshot};

use crate::link_channel::ChannelEvent;
use crate::session_records::Resource;

/// Commands that may wait for the tree thread. Link channels and requests wait when it is full; shards never do.
pub const COMMANDS_MAX: usize = 4096;

/// What the tree thread is told.
pub(super) enum Command {
    Publish(Box<Publish>),
    Unpublish(PublisherId),
    Channel(ChannelEvent),
    Want { broadcast: BroadcastId, wanted: bool },
    KeyframeWanted(Ssrc),
    Drain,
    Stop,
}

/// A checked WHIP offer.
pub struct Publish {
    /// The session's id.
    pub publisher: PublisherId,
    /// Its URL, and with it what it publishes.
    pub resource: Resource,
    /// The SDP offer.
    pub offer: String,
    /// Our end of ICE.
    pub ice: ice_dtls::IceCredentials,
    /// Addresses of ours that its datagrams may arrive at.
    pub local_addresses: Vec<std::net::SocketAddr>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<String, PublishError>>,
}

/// Why a publisher was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The configuration refuses a second publisher.
    #[error("the broadcast has a publisher already, and the configuration refuses a second one")]
    Occupied,
    /// The peer engine refused the offer.
    #[error("the offer was refused: {0}")]
    Offer(String),
    /// This node takes no more.
    #[error("this node takes no more publishers")]
    Full,
}

/// A way into the tree thread.
#[derive(Clone)]
pub struct TreeHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl TreeHandle {
    /// Hands over a publisher; its outcome comes through `publish.reply`.
    pub async fn publish(&self, publish: Publish) {
        self.send(Command::Publish(Box::new(publish))).await;
    }

    /// Ends a publisher's session.
    pub async fn unpublish(&self, publisher: PublisherId) {
        self.send(Command::Unpublish(publisher)).await;
    }

    /// Hands over what a link channel brought.
    pub async fn channel(&self, event: ChannelEvent) {
        self.send(Command::Channel(event)).await;
    }

    /// Says goodbye to all publishers.
    pub async fn drain(&self) {
        self.send(Command::Drain).await;
    }

    /// Ends the thread.
    pub async fn stop(&self) {
        self.send(Command::Stop).await;
    }

    /// One shard's first viewer of a broadcast came, or its last one went. Never waits: false if there is no room.
    #[must_use]
    pub fn want(&self, broadcast: BroadcastId, wanted: bool) -> bool {
        match self.commands.try_send(Command::Want { broadcast, wanted }) {
            Ok(()) => {
                let _ = self.waker.wake();
                true
            }
            Err(mpsc::error::TrySendError::Full(_)) => false,
            // A tree thread that has stopped needs no wishes.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
        }
    }

    /// A viewer needs a keyframe. Never waits; a lost wish is repeated by the viewer.
    pub fn request_keyframe(&self, ssrc: Ssrc) {
        if self.commands.try_send(Command::KeyframeWanted(ssrc)).is_ok() {
            let _ = self.waker.wake();
        }
    }

    async fn send(&self, command: Command) {
        // A tree thread that has stopped needs no commands.
        if self.commands.send(command).await.is_ok() {
            let _ = self.waker.wake();
        }
    }
}
