//! How the rest of the node reaches the tree thread.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingest::PublisherId;
use link::exchange::ParentId;
use mio::Waker;
use model::{BroadcastId, Epoch, JoinName, SeqNo, Ssrc};
use telemetry::CueResult;
use tokio::sync::{mpsc, oneshot};

use crate::link_channel::ChannelEvent;
use crate::session_records::Resource;
use crate::sessions::IceRestart;

/// Commands that may wait for the tree thread. Link channels and requests wait when it is full; shards never do.
pub const COMMANDS_MAX: usize = 4096;

/// What a shard tells of a broadcast.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    /// Its first viewer came, by the name of its join.
    Come(Option<JoinName>),
    /// Its last viewer went.
    Gone,
}

/// What the tree thread is told.
pub(super) enum Command {
    Publish(Box<Publish>),
    PublishEncoded(Box<PublishEncoded>),
    Encoded { publisher: PublisherId, outputs: Vec<ingest::Output>, stats: ingest::Stats },
    Dropped(ingest::Drops),
    Cue { broadcast: BroadcastId, document: Vec<u8>, result: oneshot::Sender<CueResult> },
    Unpublish(PublisherId),
    RestartIce { publisher: PublisherId, restart: Box<IceRestart>, is_there: oneshot::Sender<bool> },
    Channel(ChannelEvent),
    Want { broadcast: BroadcastId, wish: Wish },
    ViewersHave(BTreeMap<Ssrc, SeqNo>),
    KeyframeWanted(Ssrc),
    Needed(Ssrc),
    AddParent { parent: ParentId, priority: u8 },
    RemoveParent(ParentId),
    TakeFrom { parents: u8 },
    Superseded { broadcast: BroadcastId, run: Option<Epoch> },
    PublishedElsewhere(BTreeMap<BroadcastId, Epoch>),
    Drain,
    HandOver,
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
    /// The latest publishing run of the broadcast that the store knows: the new one counts on from it, whatever the
    /// clocks of nodes say.
    pub known_epoch: Option<Epoch>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<String, PublishError>>,
}

/// A publisher whose media a task makes packets of.
pub struct PublishEncoded {
    /// The session's id.
    pub publisher: PublisherId,
    /// What it publishes.
    pub broadcast: BroadcastId,
    /// As in [`Publish`].
    pub known_epoch: Option<Epoch>,
    /// Told when the session ends by the tree's doing.
    pub close: oneshot::Sender<()>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<(), PublishError>>,
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

    /// Hands over a publisher whose media comes by [`TreeHandle::encoded`]; its outcome comes through `publish.reply`.
    pub async fn publish_encoded(&self, publish: PublishEncoded) {
        self.send(Command::PublishEncoded(Box::new(publish))).await;
    }

    /// Hands over what a publisher has sent; waits while the tree thread is behind.
    pub async fn encoded(&self, publisher: PublisherId, outputs: Vec<ingest::Output>, stats: ingest::Stats) {
        self.send(Command::Encoded { publisher, outputs, stats }).await;
    }

    /// Counts datagrams that belonged to no publisher.
    pub async fn dropped(&self, drops: ingest::Drops) {
        self.send(Command::Dropped(drops)).await;
    }

    /// Hands over a caption or other timed data for whoever publishes the broadcast here; what became of it.
    pub async fn cue(&self, broadcast: BroadcastId, document: Vec<u8>) -> CueResult {
        let (result, answer) = oneshot::channel();
        self.send(Command::Cue { broadcast, document, result }).await;
        answer.await.unwrap_or(CueResult::NotPublished)
    }

    /// Ends a publisher's session.
    pub async fn unpublish(&self, publisher: PublisherId) {
        self.send(Command::Unpublish(publisher)).await;
    }

    /// A publisher has other ICE credentials; false if there is no such publisher, or it has none to change.
    pub async fn restart_ice(&self, publisher: PublisherId, restart: IceRestart) -> bool {
        let (is_there, answer) = oneshot::channel();
        self.send(Command::RestartIce { publisher, restart: Box::new(restart), is_there }).await;
        answer.await.unwrap_or(false)
    }

    /// Hands over what a link channel brought.
    pub async fn channel(&self, event: ChannelEvent) {
        self.send(Command::Channel(event)).await;
    }

    /// A parent may be taken from now on; lower priorities are taken first. Known already: only its priority changes.
    pub async fn add_parent(&self, parent: ParentId, priority: u8) {
        self.send(Command::AddParent { parent, priority }).await;
    }

    /// A parent is not to be taken any more; its channel is closed.
    pub async fn remove_parent(&self, parent: ParentId) {
        self.send(Command::RemoveParent(parent)).await;
    }

    /// Each broadcast is taken from so many parents at once.
    pub async fn take_from(&self, parents: u8) {
        self.send(Command::TakeFrom { parents }).await;
    }

    /// A publishing run later than `run` has begun at another node: its publisher here has lost.
    pub async fn superseded(&self, broadcast: BroadcastId, run: Option<Epoch>) {
        self.send(Command::Superseded { broadcast, run }).await;
    }

    /// Other nodes publish these broadcasts now, in these runs, and no others: second publishers here stand by for them.
    pub async fn published_elsewhere(&self, broadcasts: BTreeMap<BroadcastId, Epoch>) {
        self.send(Command::PublishedElsewhere(broadcasts)).await;
    }

    /// Says goodbye to all publishers.
    pub async fn drain(&self) {
        self.send(Command::Drain).await;
    }

    /// Ends the thread and leaves the publishers to the next process.
    pub async fn hand_over(&self) {
        self.send(Command::HandOver).await;
    }

    /// Ends the thread.
    pub async fn stop(&self) {
        self.send(Command::Stop).await;
    }

    /// One shard's first viewer of a broadcast came, or its last one went. Never waits: false if there is no room.
    #[must_use]
    pub fn want(&self, broadcast: BroadcastId, wish: Wish) -> bool {
        match self.commands.try_send(Command::Want { broadcast, wish }) {
            Ok(()) => {
                let _ = self.waker.wake();
                true
            }
            Err(mpsc::error::TrySendError::Full(_)) => false,
            // A tree thread that has stopped needs no wishes.
            Err(mpsc::error::TrySendError::Closed(_)) => true,
        }
    }

    /// Viewers of the process before this one go on, and have these streams up to there. Never waits: lost where there
    /// is no room, and with it what came between the two processes.
    pub fn viewers_have(&self, newest: BTreeMap<Ssrc, SeqNo>) {
        let _ = self.commands.try_send(Command::ViewersHave(newest));
    }

    /// A viewer needs a keyframe. Never waits; a lost wish is repeated by the viewer.
    pub fn request_keyframe(&self, ssrc: Ssrc) {
        if self.commands.try_send(Command::KeyframeWanted(ssrc)).is_ok() {
            let _ = self.waker.wake();
        }
    }

    /// A viewer gets this layer, or is to get it. Never waits; what is lost is said again a second later.
    pub fn need(&self, ssrc: Ssrc) {
        if self.commands.try_send(Command::Needed(ssrc)).is_ok() {
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
