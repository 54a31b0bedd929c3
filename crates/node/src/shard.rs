//! One egress shard: a thread that owns its viewers, its socket and its timers.
//!
//! It drives [`egress::Shard`], takes no lock, and hands everything that is slow (handshakes) or rare (signalling) to
//! others through bounded queues.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use egress::{Event, Selection, ViewerId, ViewerSetup};
use ice_dtls::{IceCredentials, Path, PeerCredentials};
use media_core::TreePacket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use model::{Bitrate, Broadcast, BroadcastId, JoinName, Ssrc};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;

use crate::clock::wallclock;
use crate::events::{NodeEvent, ViewerEnding as Ending};
use crate::handshakes::{self, Offer};
use crate::metrics::ShardCounters;
use crate::session_records::{Resource, ViewerRecords};
use crate::sessions::{IceRestart, Sessions};
use crate::tree::{TreeHandle, Wish};
pub use feed::Feed;
use handle::Command;
pub use handle::ShardHandle;
use out::Out;

mod datagrams;
mod feed;
mod handle;
mod layers;
mod out;
mod resume;

/// Commands that may wait for a shard; senders wait, they are never on the packet path.
const COMMANDS_MAX: usize = 4096;
/// Tree packets that may wait for a shard: about 10 s of one broadcast. What finds no room is dropped and counted.
pub const MEDIA_MAX: usize = 4096;
/// Packets taken from the tree thread, or commands carried out, in one turn.
const INPUTS_A_TURN: usize = 64;
/// Datagrams handled before media is looked at again.
const DATAGRAMS_A_TURN: usize = 256;
/// Datagrams handled between two slices of a fan-out: as many as one call brings.
const DATAGRAMS_A_SLICE: usize = 64;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// What the tree thread feeds a shard, in order.
pub enum Input {
    /// A packet to fan out, and when it came.
    Packet(Instant, Arc<TreePacket>),
    /// Packets that the process before this one has fanned out.
    Restored(Arc<Vec<Arc<TreePacket>>>),
    /// Layers that do not come because nobody needs them, and how much there is of each. Told again a second later.
    LeftOut(Arc<[(Ssrc, Bitrate)]>),
    /// A broadcast came, or its tracks or state changed.
    Changed(Arc<Broadcast>),
    /// A broadcast is no more.
    Retired(BroadcastId),
}

/// Keys and path of a viewer whose handshake is done.
pub struct Established {
    /// Its id.
    pub viewer: ViewerId,
    /// What it watches.
    pub broadcast: BroadcastId,
    /// Its nominated path.
    pub path: Path,
    /// Key for what it gets.
    pub send: srtp::MasterKey,
    /// Key of what it sends.
    pub receive: srtp::MasterKey,
    /// What its answer promised.
    pub offer: Offer,
    /// When it was POSTed.
    pub since: Instant,
}

/// What the shell knows of a viewer beside what the fan-out core knows.
struct Session {
    broadcast: BroadcastId,
    local: IceCredentials,
    path: Option<Path>,
    /// Where its checks came from: before it had keys, or since it last moved.
    checked: Vec<SocketAddr>,
    is_established: bool,
    /// The layer that it chose before it was established.
    selected: Option<Selection>,
    /// Of an earlier process, and the worker does not know it yet.
    resumed: Option<Box<handshakes::Resumed>>,
}

impl Session {
    const fn new(broadcast: BroadcastId, local: IceCredentials) -> Self {
        Self {
            broadcast,
            local,
            path: None,
            checked: Vec::new(),
            is_established: false,
            selected: None,
            resumed: None,
        }
    }
}

/// The thread's state.
pub struct Shard {
    index: usize,
    core: egress::Shard,
    out: Out,
    poll: Poll,
    received: udp_batch::ReceiveBatch,
    media: rtrb::Consumer<Input>,
    commands: Receiver<Command>,
    handshakes: Sender<handshakes::Command>,
    tree: TreeHandle,
    events: mpsc::UnboundedSender<NodeEvent>,
    sessions: HashMap<ViewerId, Session>,
    by_ufrag: HashMap<String, ViewerId>,
    /// Where checks came from, other than on paths in use.
    pending: HashMap<SocketAddr, ViewerId>,
    watched: BTreeMap<BroadcastId, usize>,
    /// Wishes for the tree thread and goodbyes for the worker that found no room; tried again each turn.
    unsaid: Unsaid,
    unknown: resume::Unknown,
    pictures: layers::Told,
    counters: ShardCounters,
}

/// What a full queue has not taken yet.
#[derive(Default)]
struct Unsaid {
    /// One for each broadcast at most.
    wants: VecDeque<(BroadcastId, Wish)>,
    /// One for each viewer that the worker knows at most.
    closes: VecDeque<ViewerId>,
}

impl Unsaid {
    /// Wishes of a broadcast take turns, so one that was not said and its opposite are none: viewers that come and go while
    /// the tree thread takes nothing leave nothing behind.
    fn wish(&mut self, broadcast: BroadcastId, wish: Wish) {
        match self.wants.iter().position(|(wanted, _)| *wanted == broadcast) {
            Some(index) => drop(self.wants.remove(index)),
            None => self.wants.push_back((broadcast, wish)),
        }
    }
}

/// What a new shard is made of.
pub struct Parts {
    /// Its number, from 0.
    pub index: usize,
    /// Its own socket.
    pub socket: udp_batch::Socket,
    /// Limits of the fan-out core.
    pub config: egress::Config,
    /// Where records of its viewers go, if they are kept.
    pub records: Option<ViewerRecords>,
    /// The tree thread.
    pub tree: TreeHandle,
    /// Where URLs of sessions go that an earlier process began.
    pub resources: Arc<Sessions>,
    /// Where sessions' fates are told.
    pub events: mpsc::UnboundedSender<NodeEvent>,
    /// Its worker's queue.
    pub handshakes: Sender<handshakes::Command>,
    /// What metrics read.
    pub counters: ShardCounters,
    /// Counts what found the media queue full.
    pub queue_full: Counter,
}

impl Shard {
    /// Makes a shard, the handle others reach it by, and the tree thread's feed.
    ///
    /// # Errors
    /// If the kernel gives no poll or waker.
    pub fn new(parts: Parts) -> std::io::Result<(Self, ShardHandle, Feed)> {
        let Parts { index, socket, config, records, tree, resources, events, handshakes, .. } = parts;
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
        let (inputs, media) = rtrb::RingBuffer::new(MEDIA_MAX);
        let (sender, commands) = crossbeam_channel::bounded(COMMANDS_MAX);
        let handle = ShardHandle { commands: sender, waker: waker.clone() };
        let feed = Feed::new(inputs, waker, parts.queue_full);
        let mut shard = Self {
            index,
            core: egress::Shard::new(config),
            out: Out { socket, queue: udp_batch::SendQueue::new(), records },
            poll,
            received: udp_batch::ReceiveBatch::new(),
            media,
            commands,
            handshakes,
            tree,
            events,
            sessions: HashMap::new(),
            by_ufrag: HashMap::new(),
            pending: HashMap::new(),
            watched: BTreeMap::new(),
            unsaid: Unsaid::default(),
            unknown: resume::Unknown::default(),
            pictures: layers::Told::default(),
            counters: parts.counters,
        };
        shard.resume(Instant::now(), &resources);
        Ok((shard, handle, feed))
    }

    /// How many viewers it has.
    #[must_use]
    pub fn viewers(&self) -> usize {
        self.sessions.len()
    }

    /// Works until the tree thread and everybody else are gone.
    pub fn run(mut self) {
        let mut ready = Events::with_capacity(8);
        let mut has_more = false;
        while !self.media.is_abandoned() {
            let done = Instant::now();
            let wait = if has_more { Duration::ZERO } else { self.wait(done) };
            if let Err(error) = self.poll.poll(&mut ready, Some(wait))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "shard cannot poll");
                return;
            }
            self.counters.waited(done.elapsed());
            has_more = self.media_turn();
            has_more |= self.command_turn();
            has_more |= self.socket_turn(DATAGRAMS_A_TURN);
            self.say();
            let now = Instant::now();
            if let Some(records) = &mut self.out.records {
                records.handle_timeout(now);
            }
            self.core.handle_timeout(now, &mut self.out);
            self.end_unknown(now);
            self.drain_events(now);
            self.tell_layers(now);
            self.flush();
            self.counters.publish(now, &self.core.stats(), self.sessions.len());
            self.counters.observe(&self.out.socket);
        }
        // What the tree thread left behind: the next process begins after it.
        while self.media_turn() {}
        self.core.hand_over(Instant::now(), &mut self.out);
        self.flush();
    }

    fn wait(&self, now: Instant) -> Duration {
        let longest = Duration::from_millis(500);
        self.core.poll_timeout().map_or(longest, |at| at.saturating_duration_since(now).min(longest))
    }

    /// Fans out what the tree thread brought, as far as it is due; true if more waits.
    fn media_turn(&mut self) -> bool {
        let now = Instant::now();
        self.core.set_wallclock(now, wallclock());
        for _ in 0..INPUTS_A_TURN {
            match self.media.pop() {
                Ok(Input::Packet(came_at, packet)) => self.core.gather(now, came_at, packet),
                Ok(Input::Restored(packets)) => self.core.restore(now, &packets),
                Ok(Input::LeftOut(layers)) => {
                    self.core.fan_out_held(now, &mut self.out);
                    self.core.left_out(now, &layers);
                }
                Ok(Input::Changed(broadcast)) => {
                    self.unknown.told(&broadcast.id);
                    self.core.fan_out_held(now, &mut self.out);
                    self.core.broadcast_changed(now, &broadcast);
                }
                Ok(Input::Retired(broadcast)) => {
                    self.core.fan_out_held(now, &mut self.out);
                    self.core.broadcast_removed(now, &broadcast);
                }
                Err(rtrb::PopError::Empty) => break,
            }
        }
        // What viewers say never waits for a whole train to thousands of them.
        while self.core.fan_out_due(Instant::now(), &mut self.out) {
            self.flush();
            self.socket_turn(DATAGRAMS_A_SLICE);
        }
        self.flush();
        !self.media.is_empty()
    }

    fn flush(&mut self) {
        match self.out.queue.flush(&self.out.socket) {
            Ok(flushed) => self.counters.flushed(&flushed),
            Err(error) => tracing::debug!(%error, "cannot send"),
        }
    }

    /// Carries out commands; true if more wait.
    fn command_turn(&mut self) -> bool {
        for _ in 0..INPUTS_A_TURN {
            let Ok(command) = self.commands.try_recv() else { return false };
            let now = Instant::now();
            match command {
                Command::Register { viewer, resource, local, join } => {
                    self.watch(&resource.broadcast, Some(join));
                    self.register(viewer, *resource, local);
                }
                Command::PathSelected { viewer, path } => self.path_selected(now, viewer, path),
                Command::Established(established) => self.established(now, *established),
                Command::Transmit { path, bytes } => {
                    let to = egress::Path { local: path.local.ip(), remote: path.remote };
                    egress::SendBatch::datagram(&mut self.out, &to, bytes.len(), |buffer| {
                        buffer[..bytes.len()].copy_from_slice(&bytes);
                        bytes.len()
                    });
                }
                Command::Failed { viewer, reason } => {
                    self.end(now, viewer, reason.map_or(Ending::Closed, Ending::Handshake), false);
                }
                Command::Select { viewer, selection, is_there } => {
                    let _ = is_there.send(self.select(now, viewer, selection));
                }
                Command::RestartIce { viewer, restart, is_there } => {
                    let _ = is_there.send(self.restart_ice(now, viewer, *restart));
                }
                Command::Remove { viewer } => self.end(now, viewer, Ending::Deleted, true),
            }
        }
        !self.commands.is_empty()
    }

    fn register(&mut self, viewer: ViewerId, resource: Resource, local: IceCredentials) {
        self.by_ufrag.insert(local.ufrag().to_owned(), viewer);
        let broadcast = resource.broadcast.clone();
        if let Some(records) = &mut self.out.records {
            records.expect(viewer, resource, local.clone());
        }
        self.sessions.insert(viewer, Session::new(broadcast, local));
    }

    /// From now on a viewer's checks are made with other credentials. False if there is no such viewer, or its worker has
    /// no room at the moment.
    fn restart_ice(&mut self, now: Instant, viewer: ViewerId, restart: IceRestart) -> bool {
        if !self.sessions.contains_key(&viewer) || !self.introduce(viewer) {
            return false;
        }
        let IceRestart { local, remote, entity_tag } = restart;
        let peer = PeerCredentials { ufrag: remote.ufrag.clone(), pwd: remote.pwd.clone() };
        let command = handshakes::Command::RestartIce { viewer, local: local.clone(), remote: peer };
        if self.handshakes.try_send(command).is_err() {
            return false;
        }
        let Some(session) = self.sessions.get_mut(&viewer) else { return false };
        self.by_ufrag.remove(session.local.ufrag());
        self.by_ufrag.insert(local.ufrag().to_owned(), viewer);
        session.local = local.clone();
        if let Some(records) = &mut self.out.records {
            records.restarted(viewer, local, remote, entity_tag);
            self.core.record_again(now, viewer);
        }
        true
    }

    fn path_selected(&mut self, now: Instant, viewer: ViewerId, path: Path) {
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        session.path = Some(path);
        if session.is_established {
            for remote in std::mem::take(&mut session.checked) {
                self.pending.remove(&remote);
            }
            self.core.move_viewer(now, viewer, egress::Path { local: path.local.ip(), remote: path.remote });
        }
    }

    fn established(&mut self, now: Instant, established: Established) {
        let Established { viewer, broadcast, path, send, receive, offer, since } = established;
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        session.path = Some(path);
        for remote in std::mem::take(&mut session.checked) {
            self.pending.remove(&remote);
        }
        let setup = ViewerSetup {
            id: viewer,
            path: egress::Path { local: path.local.ip(), remote: path.remote },
            send,
            receive,
            audio: offer.audio,
            video: offer.video,
            joined_at: since,
            random: offer.random,
            cname: offer.cname,
        };
        match self.core.add_viewer(now, &broadcast, setup) {
            Ok(()) => {
                session.is_established = true;
                if let Some(selection) = session.selected.take() {
                    self.core.select_layer(now, viewer, selection);
                }
                let _ =
                    self.events.send(NodeEvent::ViewerConnected { viewer, broadcast, after: now - since });
            }
            Err(error) => self.end(now, viewer, Ending::Keys(error), true),
        }
    }

    fn drain_events(&mut self, now: Instant) {
        while let Some(event) = self.core.poll_event() {
            match event {
                Event::KeyframeWanted { ssrc } => self.tree.request_keyframe(ssrc),
                Event::StreamNeeded { ssrc } => self.tree.need(ssrc),
                Event::FirstFrame { viewer, after } => {
                    let _ = self.events.send(NodeEvent::FirstFrame { viewer, after });
                }
                Event::SoundOnly { viewer, is_sound_only } => {
                    let _ = self.events.send(NodeEvent::SoundOnly { viewer, is_sound_only });
                }
                Event::CodecNotNegotiated { viewer, kind } => {
                    self.end(now, viewer, Ending::CodecNotNegotiated(kind), true);
                }
                Event::ConsentExpired { viewer } => self.end(now, viewer, Ending::ConsentExpired, true),
                Event::BroadcastEnded { viewer } => self.end(now, viewer, Ending::BroadcastEnded, true),
                Event::Bye { viewer } => self.end(now, viewer, Ending::Closed, true),
            }
        }
    }

    /// Forgets a viewer; `tell_worker` unless the worker forgot it first.
    fn end(&mut self, now: Instant, viewer: ViewerId, ending: Ending, tell_worker: bool) {
        let Some(session) = self.sessions.remove(&viewer) else { return };
        self.by_ufrag.remove(session.local.ufrag());
        for remote in &session.checked {
            self.pending.remove(remote);
        }
        if session.is_established {
            self.core.remove_viewer(now, viewer);
        }
        // Before its end is told: a node that drains exits as soon as all ends are.
        if let Some(records) = &mut self.out.records {
            records.remove(viewer);
        }
        self.unwatch(&session.broadcast);
        if tell_worker {
            self.unsaid.closes.push_back(viewer);
        }
        let _ = self.events.send(NodeEvent::ViewerEnded {
            viewer,
            broadcast: session.broadcast,
            shard: self.index,
            was_connected: session.is_established,
            ending,
        });
    }

    /// Tells the tree thread when the first viewer of a broadcast comes.
    fn watch(&mut self, broadcast: &BroadcastId, join: Option<JoinName>) {
        let count = self.watched.entry(broadcast.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.unsaid.wish(broadcast.clone(), Wish::Come(join));
        }
        self.say();
    }

    /// Tells the tree thread when the last viewer of a broadcast goes.
    fn unwatch(&mut self, broadcast: &BroadcastId) {
        let count = self.watched.entry(broadcast.clone()).or_default();
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.watched.remove(broadcast);
            self.unsaid.wish(broadcast.clone(), Wish::Gone);
        }
        self.say();
    }

    /// Says what was left unsaid, as far as there is room.
    fn say(&mut self) {
        while let Some((broadcast, wish)) = self.unsaid.wants.pop_front() {
            if !self.tree.want(broadcast.clone(), wish) {
                self.unsaid.wants.push_front((broadcast, wish));
                break;
            }
        }
        while let Some(viewer) = self.unsaid.closes.pop_front() {
            if let Err(TrySendError::Full(_)) = self.handshakes.try_send(handshakes::Command::Close(viewer)) {
                self.unsaid.closes.push_front(viewer);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_that_come_and_go_unsaid_leave_nothing_behind() {
        let mut unsaid = Unsaid::default();
        let [friday, monday] = ["friday", "monday"].map(|name| BroadcastId::new(name).expect("an id"));
        unsaid.wish(friday.clone(), Wish::Gone);
        for _ in 0..1000 {
            unsaid.wish(monday.clone(), Wish::Come(None));
            unsaid.wish(monday.clone(), Wish::Gone);
        }
        assert!(matches!(&unsaid.wants.make_contiguous()[..], [(left, Wish::Gone)] if *left == friday));
        unsaid.wish(friday.clone(), Wish::Come(None));
        assert!(unsaid.wants.is_empty(), "it stays wanted");
        unsaid.wish(friday, Wish::Gone);
        assert_eq!(unsaid.wants.len(), 1);
    }
}
