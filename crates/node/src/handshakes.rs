//! The handshake worker beside each shard: ICE checks of new paths, DTLS, and the cold DTLS state of established viewers.
//!
//! A shard never computes a handshake. It hands over what may belong to one through a bounded queue and gets back
//! datagrams to send and, in the end, keys. Nothing here sees media.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use egress::ViewerId;
use ice_dtls::{Handshake, IceCredentials, Output, Path, PeerCredentials};
use model::BroadcastId;
use prometheus_client::metrics::gauge::Gauge;

use crate::shard::{Established, ShardHandle};

/// Datagrams and commands that may wait for a worker; the shard drops and counts what finds no room.
pub const QUEUE_MAX: usize = 4096;

/// What a worker is told.
pub enum Command {
    /// A viewer was POSTed: expect its ICE checks.
    Begin(Box<Pending>),
    /// A datagram of this viewer that the shard could not handle: a check from a new path, or DTLS.
    Datagram {
        /// Whose it is, by ufrag or by verified path.
        viewer: ViewerId,
        /// Where it came from and went to.
        path: Path,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A viewer of an earlier process has something for the worker.
    Resumed(Box<Resumed>),
    /// The viewer has other ICE credentials.
    RestartIce {
        /// Whose.
        viewer: ViewerId,
        /// Our end.
        local: IceCredentials,
        /// The viewer's.
        remote: PeerCredentials,
    },
    /// The viewer is gone: say goodbye over DTLS and forget it.
    Close(ViewerId),
}

/// A viewer that an earlier process brought in.
pub struct Resumed {
    /// Its id on this node.
    pub viewer: ViewerId,
    /// What it watches.
    pub broadcast: BroadcastId,
    /// ICE alone.
    pub handshake: Handshake,
}

/// A viewer on its way in.
pub struct Pending {
    /// Its id on this node.
    pub viewer: ViewerId,
    /// What it wants to watch.
    pub broadcast: BroadcastId,
    /// ICE and DTLS.
    pub handshake: Handshake,
    /// What its answer promised.
    pub offer: Offer,
    /// When it was POSTed.
    pub since: Instant,
}

/// The media half of a viewer's answer, kept until there are keys.
pub struct Offer {
    /// Sound, if asked for.
    pub audio: Option<egress::OutTrack>,
    /// Picture, if asked for.
    pub video: Option<egress::OutTrack>,
    /// For initial sequence numbers and timestamps.
    pub random: [u8; 32],
    /// RTCP canonical name.
    pub cname: String,
}

struct Session {
    broadcast: BroadcastId,
    handshake: Handshake,
    /// Taken when the keys are there.
    offer: Option<Offer>,
    since: Instant,
    deadline: Option<Instant>,
}

/// One worker.
pub struct Worker {
    commands: Receiver<Command>,
    shard: ShardHandle,
    sessions: HashMap<ViewerId, Session>,
    deadlines: BTreeSet<(Instant, ViewerId)>,
    /// Shows how many sessions all workers hold.
    held: Gauge,
}

impl Worker {
    /// A worker beside `shard`; `held` is moved by as many sessions as it holds.
    #[must_use]
    pub fn new(commands: Receiver<Command>, shard: ShardHandle, held: Gauge) -> Self {
        Self { commands, shard, sessions: HashMap::new(), deadlines: BTreeSet::new(), held }
    }

    /// Works until all senders are gone.
    pub fn run(mut self) {
        loop {
            let now = Instant::now();
            let wait = self
                .deadlines
                .first()
                .map_or(Duration::from_secs(1), |(at, _)| at.saturating_duration_since(now));
            match self.commands.recv_timeout(wait) {
                Ok(command) => self.handle(Instant::now(), command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.handle_deadlines(Instant::now());
        }
    }

    fn handle(&mut self, now: Instant, command: Command) {
        match command {
            Command::Begin(pending) => {
                let Pending { viewer, broadcast, handshake, offer, since } = *pending;
                let session = Session { broadcast, handshake, offer: Some(offer), since, deadline: None };
                self.sessions.insert(viewer, session);
                self.held.inc();
                self.drain(viewer);
            }
            Command::Resumed(resumed) => {
                let Resumed { viewer, broadcast, handshake } = *resumed;
                let session = Session { broadcast, handshake, offer: None, since: now, deadline: None };
                self.sessions.insert(viewer, session);
                self.held.inc();
            }
            Command::Datagram { viewer, path, bytes } => {
                let Some(session) = self.sessions.get_mut(&viewer) else { return };
                if let Err(error) = session.handshake.handle_datagram(now, path, &bytes) {
                    tracing::debug!(viewer = viewer.get(), %error, "datagram of a handshake refused");
                }
                self.drain(viewer);
            }
            Command::RestartIce { viewer, local, remote } => {
                if let Some(session) = self.sessions.get_mut(&viewer) {
                    session.handshake.restart_ice(local, remote);
                }
            }
            Command::Close(viewer) => {
                if let Some(session) = self.sessions.get_mut(&viewer) {
                    session.handshake.close(now);
                    self.drain(viewer);
                    self.forget(viewer);
                }
            }
        }
    }

    fn handle_deadlines(&mut self, now: Instant) {
        while let Some(&(at, viewer)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.deadlines.remove(&(at, viewer));
            let Some(session) = self.sessions.get_mut(&viewer) else { continue };
            session.deadline = None;
            session.handshake.handle_timeout(now);
            self.drain(viewer);
        }
    }

    /// Carries out all that the handshake wants, then sets its next deadline.
    fn drain(&mut self, viewer: ViewerId) {
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        let mut end = None;
        let mut has_told = false;
        while let Some(output) = session.handshake.poll_output() {
            has_told = true;
            match output {
                Output::Transmit { path, bytes } => self.shard.transmit(path, bytes.into()),
                Output::PathSelected(path) => self.shard.path_selected(viewer, path),
                Output::Established { path, profile: _, receive, send } => {
                    let Some(offer) = session.offer.take() else { continue };
                    self.shard.established(Established {
                        viewer,
                        broadcast: session.broadcast.clone(),
                        path,
                        send,
                        receive,
                        offer,
                        since: session.since,
                    });
                }
                Output::Failed(reason) => end = Some(Some(reason)),
                Output::Closed => end = Some(None),
            }
        }
        let next = session.handshake.poll_timeout();
        if session.deadline != next {
            if let Some(old) = session.deadline {
                self.deadlines.remove(&(old, viewer));
            }
            self.deadlines.extend(next.map(|at| (at, viewer)));
            session.deadline = next;
        }
        if let Some(reason) = end {
            self.shard.handshake_over(viewer, reason);
            self.forget(viewer);
        }
        if has_told {
            self.shard.wake();
        }
    }

    fn forget(&mut self, viewer: ViewerId) {
        let Some(session) = self.sessions.remove(&viewer) else { return };
        self.held.dec();
        if let Some(deadline) = session.deadline {
            self.deadlines.remove(&(deadline, viewer));
        }
    }
}
