//! How the rest of the node reaches a shard.

use std::sync::Arc;

use bytes::Bytes;
use crossbeam_channel::Sender;
use egress::{Selection, ViewerId};
use ice_dtls::{FailureReason, IceCredentials, Path};
use mio::Waker;
use model::JoinName;
use signaling::http::Problem;
use tokio::sync::oneshot;

use super::Established;
use crate::session_records::Resource;
use crate::sessions::IceRestart;

/// What a shard is told.
pub(super) enum Command {
    Register { viewer: ViewerId, resource: Box<Resource>, local: IceCredentials, join: JoinName },
    PathSelected { viewer: ViewerId, path: Path },
    Established(Box<Established>),
    Transmit { path: Path, bytes: Bytes },
    Failed { viewer: ViewerId, reason: Option<FailureReason> },
    Select { viewer: ViewerId, selection: Selection, is_there: oneshot::Sender<bool> },
    RestartIce { viewer: ViewerId, restart: Box<IceRestart>, is_there: oneshot::Sender<bool> },
    Remove { viewer: ViewerId },
}

/// A shard has no room for more commands at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl From<Busy> for Problem {
    fn from(_busy: Busy) -> Self {
        Self::overloaded(1)
    }
}

/// How others reach a shard.
#[derive(Clone)]
pub struct ShardHandle {
    pub(super) commands: Sender<Command>,
    pub(super) waker: Arc<Waker>,
}

impl ShardHandle {
    /// Expect checks of a viewer that was just POSTed; false if the shard has no room for more at the moment.
    #[must_use]
    pub fn register(
        &self,
        viewer: ViewerId,
        resource: Resource,
        local: IceCredentials,
        join: JoinName,
    ) -> bool {
        let command = Command::Register { viewer, resource: Box::new(resource), local, join };
        let is_taken = self.commands.try_send(command).is_ok();
        if is_taken {
            self.wake();
        }
        is_taken
    }

    /// Lets the shard look at what it was told; [`Self::register`] and [`Self::remove`] do so themselves.
    pub fn wake(&self) {
        let _ = self.waker.wake();
    }

    /// The viewer has proved a path and chosen it.
    pub fn path_selected(&self, viewer: ViewerId, path: Path) {
        self.send(Command::PathSelected { viewer, path });
    }

    /// The viewer has keys: serve it.
    pub fn established(&self, established: Established) {
        self.send(Command::Established(Box::new(established)));
    }

    /// Send a datagram of a handshake.
    pub fn transmit(&self, path: Path, bytes: Bytes) {
        self.send(Command::Transmit { path, bytes });
    }

    /// The handshake has failed, or the viewer has said goodbye over DTLS (`None`).
    pub fn handshake_over(&self, viewer: ViewerId, reason: Option<FailureReason>) {
        self.send(Command::Failed { viewer, reason });
    }

    /// The viewer has chosen a layer of its picture; false if it is not there any more.
    ///
    /// # Errors
    /// If the shard has no room for more commands at the moment.
    pub async fn select_layer(&self, viewer: ViewerId, selection: Selection) -> Result<bool, Busy> {
        self.ask(|is_there| Command::Select { viewer, selection, is_there }).await
    }

    /// The viewer has new ICE credentials; false if it is not there any more.
    ///
    /// # Errors
    /// As [`Self::select_layer`].
    pub async fn restart_ice(&self, viewer: ViewerId, restart: IceRestart) -> Result<bool, Busy> {
        self.ask(|is_there| Command::RestartIce { viewer, restart: Box::new(restart), is_there }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> Result<bool, Busy> {
        let (is_there, answer) = oneshot::channel();
        self.commands.try_send(command(is_there)).map_err(|_| Busy)?;
        self.wake();
        Ok(answer.await.unwrap_or(false))
    }

    /// The viewer's session was deleted. Waits for room: not to be called where nothing may block.
    pub fn remove(&self, viewer: ViewerId) {
        self.send(Command::Remove { viewer });
        self.wake();
    }

    fn send(&self, command: Command) {
        // A shard that has stopped needs no commands.
        let _ = self.commands.send(command);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shard_without_room_is_busy_and_one_that_has_ended_has_nobody() {
        let poll = mio::Poll::new().expect("a poll");
        let waker = Arc::new(Waker::new(poll.registry(), mio::Token(0)).expect("a waker"));
        let (commands, queue) = crossbeam_channel::bounded(1);
        let handle = ShardHandle { commands, waker };
        let viewer = ViewerId::new(1);
        let first = {
            let handle = handle.clone();
            tokio::spawn(async move { handle.select_layer(viewer, Selection::Auto).await })
        };
        while queue.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(handle.select_layer(viewer, Selection::Auto).await, Err(Busy));
        drop(queue.recv());
        assert_eq!(first.await.expect("not aborted"), Ok(false));
    }
}
