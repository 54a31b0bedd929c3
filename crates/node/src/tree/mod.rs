//! The tree thread: publishers' peers, links and the exchange between them.
//!
//! One thread owns the publishers' socket and the link socket and drives [`ingest::Publisher`], [`ingest::Origin`] and
//! [`link::exchange::Exchange`]. What it has for viewers goes to the shards' feeds; it never waits for anybody.

mod handle;
mod link_out;
mod peers;
mod publishers;

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use link::exchange::{self, Exchange, Output};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use model::{BroadcastId, NodeId};
use tokio::sync::mpsc;

pub use handle::{Publish, PublishEncoded, PublishError, TreeHandle, Wish};

use crate::clock::wallclock;
use crate::directory::Directory;
use crate::events::NodeEvent;
use crate::link_socket::{self, Datagram};
use crate::metrics::TreeCounters;
use crate::session_records::PublisherRecords;
use crate::sessions::Sessions;
use crate::shard::{Feed, Input};
use handle::Command;
use link_out::LinkOut;
use peers::Peers;
use publishers::Publishers;

const INGEST: Token = Token(0);
const LINK: Token = Token(1);
const WAKER: Token = Token(2);

/// Gatherings of datagrams from one socket before the others get their turn.
const GATHERINGS_A_TURN: usize = 4;
/// What is received within this time leaves together. Handling a frame's packets takes about as long as a publisher takes
/// to send them, so nobody waits for anything that is not there.
const GATHER_MAX: Duration = Duration::from_millis(1);
/// Commands handled before media is looked at again.
const COMMANDS_A_TURN: usize = 64;
/// A broadcast that nobody here watches any more is still taken for so long.
const LEAVE_DELAY: Duration = Duration::from_secs(5);
/// How often counters are published for metrics.
const STATS_INTERVAL: Duration = Duration::from_millis(500);

/// The link socket and QUIC's half of it.
pub struct LinkPort {
    /// The socket.
    pub socket: Arc<udp_batch::Socket>,
    /// Where QUIC's datagrams go.
    pub quic: mpsc::Sender<Datagram>,
}

/// What the thread is made of.
pub struct Parts {
    /// Publishers' media socket, on nodes that take publishers.
    pub ingest: Option<udp_batch::Socket>,
    /// The link port, on nodes that have links.
    pub link: Option<LinkPort>,
    /// Identity and bounds of the exchange.
    pub exchange: exchange::Config,
    /// Parents of the configuration, in order of preference.
    pub parents: usize,
    /// Rules for publishers.
    pub publishers: publishers::Config,
    /// Where records of publishers go, if they are kept.
    pub records: Option<PublisherRecords>,
    /// What HTTP reads.
    pub directory: Arc<Directory>,
    /// Where URLs of sessions go that an earlier process began.
    pub sessions: Arc<Sessions>,
    /// Where sessions' fates are told.
    pub events: mpsc::UnboundedSender<NodeEvent>,
    /// What metrics read.
    pub counters: Arc<TreeCounters>,
}

pub use publishers::{Config as PublishersConfig, Stats as PublisherStats};

/// The thread's state.
pub struct Tree {
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    ingest: Option<udp_batch::Socket>,
    link: Option<LinkPort>,
    received: udp_batch::ReceiveBatch,
    ingest_out: udp_batch::SendQueue,
    link_out: LinkOut,
    publishers: Publishers,
    exchange: Exchange,
    peers: Peers,
    /// Shards that watch each broadcast.
    wanted: BTreeMap<BroadcastId, usize>,
    /// Broadcasts whose last viewer has gone, and when the exchange is told.
    leaving: BTreeMap<BroadcastId, Instant>,
    feeds: Vec<Feed>,
    directory: Arc<Directory>,
    events: mpsc::UnboundedSender<NodeEvent>,
    counters: Arc<TreeCounters>,
    stats_at: Instant,
}

impl Tree {
    /// Makes the thread's state and the handle others reach it by. Shards' feeds come later, with [`Tree::run`].
    ///
    /// # Errors
    /// If the kernel gives no poll or waker, or no randomness.
    pub fn new(parts: Parts) -> anyhow::Result<(Self, TreeHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        if let Some(socket) = &parts.ingest {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), INGEST, Interest::READABLE)?;
        }
        if let Some(port) = &parts.link {
            poll.registry().register(&mut SourceFd(&port.socket.as_raw_fd()), LINK, Interest::READABLE)?;
        }
        let (sender, commands) = mpsc::channel(handle::COMMANDS_MAX);
        let now = Instant::now();
        let mut exchange = Exchange::new(now, parts.exchange);
        for parent in 0..parts.parents as u32 {
            exchange.add_parent(exchange::ParentId::new(parent), parent.min(255) as u8);
        }
        let cues = parts.counters.cues.clone();
        let mut publishers = Publishers::new(parts.publishers, parts.events.clone(), parts.records, cues);
        let mut ingest_out = udp_batch::SendQueue::new();
        if parts.ingest.is_some() {
            publishers.begin(now, &mut exchange, &mut ingest_out, &parts.sessions)?;
            // Known from the node's first request on, though the thread tells of them a little later.
            for broadcast in exchange.broadcasts() {
                parts.directory.changed(SystemTime::now(), broadcast.clone());
            }
        }
        let tree = Self {
            poll,
            commands,
            ingest: parts.ingest,
            link: parts.link,
            received: udp_batch::ReceiveBatch::new(),
            ingest_out,
            link_out: LinkOut::new(),
            publishers,
            exchange,
            peers: Peers::new(parts.counters.channel_queue_full.clone()),
            wanted: BTreeMap::new(),
            leaving: BTreeMap::new(),
            feeds: Vec::new(),
            directory: parts.directory,
            events: parts.events,
            counters: parts.counters,
            stats_at: now,
        };
        Ok((tree, TreeHandle { commands: sender, waker }))
    }

    /// Works until told to stop.
    pub fn run(mut self, feeds: Vec<Feed>) {
        self.feeds = feeds;
        self.drain(Instant::now());
        let mut ready = Events::with_capacity(8);
        let mut has_more = false;
        loop {
            let wait = if has_more { Duration::ZERO } else { self.wait(Instant::now()) };
            if let Err(error) = self.poll.poll(&mut ready, Some(wait))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the tree thread cannot poll");
                return;
            }
            has_more = self.ingest_turn();
            has_more |= self.link_turn();
            match self.command_turn() {
                Turn::Stop => return,
                Turn::More => has_more = true,
                Turn::Done => {}
            }
            let now = Instant::now();
            self.publishers.handle_timeout(now);
            self.leave(now);
            self.exchange.handle_timeout(now);
            self.drain(now);
            if now >= self.stats_at {
                self.stats_at = now + STATS_INTERVAL;
                self.counters.publish(now, &self.exchange.stats(), self.publishers.stats());
                self.counters.show(self.publishers.patients());
                self.counters.observe([self.ingest.as_ref(), self.link.as_ref().map(|port| &*port.socket)]);
            }
        }
    }

    fn wait(&self, now: Instant) -> Duration {
        let deadlines = [self.exchange.poll_timeout(), self.publishers.poll_timeout(), Some(self.stats_at)];
        deadlines
            .into_iter()
            .flatten()
            .min()
            .map_or(STATS_INTERVAL, |at| at.saturating_duration_since(now).min(STATS_INTERVAL))
    }

    /// Handles what publishers sent; true if more may wait.
    fn ingest_turn(&mut self) -> bool {
        let Some(socket) = self.ingest.take() else { return false };
        let port = socket.local_addr().port();
        let mut has_more = true;
        for _ in 0..GATHERINGS_A_TURN {
            has_more = self.gather(&socket, |tree, now, datagram| {
                let local = std::net::SocketAddr::new(datagram.local, port);
                let (remote, bytes) = (datagram.remote, &*datagram.bytes);
                if !tree.publishers.handle_datagram(now, wallclock(), remote, local, bytes) {
                    tree.counters.stranger();
                }
            });
            self.drain_publishers(Instant::now());
            self.drain_exchange();
            self.flush();
            if !has_more {
                break;
            }
        }
        self.ingest = Some(socket);
        self.flush();
        has_more
    }

    /// Handles what parents and children sent; true if more may wait.
    fn link_turn(&mut self) -> bool {
        let Some(port) = self.link.take() else { return false };
        let mut has_more = true;
        for _ in 0..GATHERINGS_A_TURN {
            has_more = self.gather(&port.socket, |tree, now, datagram| match datagram.bytes.first() {
                Some(&first) if link_socket::is_quic(first) => {
                    let bytes = Bytes::copy_from_slice(datagram.bytes);
                    let quic = Datagram { source: datagram.remote, destination: datagram.local, bytes };
                    if port.quic.try_send(quic).is_err() {
                        tree.counters.quic_queue_full();
                    }
                }
                Some(_) => tree.exchange.media(now, datagram.remote, datagram.bytes),
                None => {}
            });
            self.drain_exchange();
            flush(self.link_out.queue(), &port.socket, &self.counters);
            if !has_more {
                break;
            }
        }
        self.link = Some(port);
        self.flush();
        has_more
    }

    /// Receives until nothing is left, or for [`GATHER_MAX`]: while the first packets of a frame are handled the others
    /// come, and what is handled together leaves as one train. True if more may wait.
    fn gather(
        &mut self,
        socket: &udp_batch::Socket,
        mut handle: impl FnMut(&mut Self, Instant, &mut udp_batch::Received<'_>),
    ) -> bool {
        let mut batch = std::mem::take(&mut self.received);
        let begun = Instant::now();
        let mut has_more = true;
        while has_more && begun.elapsed() < GATHER_MAX {
            has_more = socket.receive(&mut batch).unwrap_or(0) > 0;
            if has_more {
                let now = Instant::now();
                for mut datagram in batch.iter_mut() {
                    self.counters.received(datagram.bytes.len());
                    handle(self, now, &mut datagram);
                }
            }
        }
        self.received = batch;
        has_more
    }

    fn command_turn(&mut self) -> Turn {
        for _ in 0..COMMANDS_A_TURN {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(mpsc::error::TryRecvError::Empty) => return Turn::Done,
                Err(mpsc::error::TryRecvError::Disconnected) => return Turn::Stop,
            };
            let now = Instant::now();
            match command {
                Command::Publish(publish) => self.publishers.publish(now, *publish, &mut self.exchange),
                Command::PublishEncoded(publish) => self.publishers.publish_encoded(now, *publish),
                Command::Encoded { publisher, outputs, stats } => {
                    self.publishers.encoded(publisher, outputs, stats);
                }
                Command::Dropped(drops) => self.publishers.dropped(&drops),
                Command::Cue { broadcast, document, result } => {
                    let (cue, exchange) = ((wallclock(), &*document), &mut self.exchange);
                    let _ = result.send(self.publishers.cue(now, (&broadcast, None), cue, exchange));
                }
                Command::Unpublish(publisher) => self.publishers.unpublish(now, publisher),
                Command::RestartIce { publisher, restart, is_there } => {
                    let _ = is_there.send(self.publishers.restart_ice(now, publisher, *restart));
                }
                Command::Channel(event) => self.peers.handle(now, event, &mut self.exchange),
                Command::Want { broadcast, wish } => self.want(now, broadcast, wish),
                Command::ViewersHave(newest) => {
                    newest.into_iter().for_each(|(ssrc, newest)| self.exchange.viewers_have(ssrc, newest));
                }
                Command::KeyframeWanted(ssrc) => self.exchange.request_keyframe(now, ssrc),
                Command::Needed(ssrc) => self.exchange.need(now, ssrc),
                Command::AddParent { parent, priority } => self.exchange.add_parent(parent, priority),
                Command::RemoveParent(parent) => self.exchange.remove_parent(now, parent),
                Command::TakeFrom { parents } => self.exchange.set_parents_active(now, parents.into()),
                Command::Superseded { broadcast, run } => {
                    tracing::warn!(%broadcast, "the store knows a later publisher elsewhere");
                    self.publishers.superseded(now, &broadcast, run);
                }
                Command::PublishedElsewhere(broadcasts) => self.publishers.published_elsewhere(broadcasts),
                Command::Drain => self.publishers.close_all(now),
                Command::HandOver => {
                    self.drain(now);
                    self.publishers.hand_over(now, &self.exchange);
                    return Turn::Stop;
                }
                Command::Stop => {
                    self.drain(now);
                    return Turn::Stop;
                }
            }
            self.drain(now);
        }
        Turn::More
    }

    /// Counts the shards that watch a broadcast; the exchange joins for the first and leaves some time after the last,
    /// so that a viewer who reloads the page finds the ring still there.
    fn want(&mut self, now: Instant, broadcast: BroadcastId, wish: Wish) {
        let count = self.wanted.entry(broadcast.clone()).or_default();
        match wish {
            Wish::Come(join) => {
                *count += 1;
                if *count == 1 {
                    self.leaving.remove(&broadcast);
                    self.exchange.want_as(now, &broadcast, join);
                }
            }
            Wish::Gone => {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.wanted.remove(&broadcast);
                    self.leaving.insert(broadcast, now + LEAVE_DELAY);
                }
            }
        }
    }

    fn leave(&mut self, now: Instant) {
        let due: Vec<BroadcastId> = self
            .leaving
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(broadcast, _)| broadcast.clone())
            .collect();
        for broadcast in due {
            self.leaving.remove(&broadcast);
            self.exchange.want(now, &broadcast, false);
        }
    }

    fn drain(&mut self, now: Instant) {
        self.drain_publishers(now);
        self.drain_exchange();
        self.flush();
    }

    fn drain_publishers(&mut self, now: Instant) {
        self.publishers.drain(now, &mut self.exchange, &mut self.ingest_out);
    }

    fn drain_exchange(&mut self) {
        let now = Instant::now();
        while let Some(output) = self.exchange.poll_output() {
            match output {
                Output::Send { peer, message } => self.peers.send(peer, message),
                Output::Media { wire, to } => self.link_out.push(wire, to),
                Output::Deliver(packet) => self.feed(|| Input::Packet(now, packet.clone())),
                Output::Restored(packets) => {
                    tracing::info!(packets = packets.len(), "the rings of the process before are kept");
                    let packets = Arc::new(packets);
                    self.feed(|| Input::Restored(packets.clone()));
                }
                Output::LeftOut(layers) => {
                    let layers: Arc<[_]> = layers.into();
                    self.feed(|| Input::LeftOut(layers.clone()));
                }
                Output::Cue(cue) => {
                    if let Some(data) = signaling::cue::event_data(cue.captured, &cue.body) {
                        self.directory.cues.push(now, &cue.broadcast, data);
                    }
                }
                Output::BroadcastChanged(broadcast) => {
                    tracing::info!(broadcast = %broadcast.id, state = ?broadcast.state, "broadcast changed");
                    self.directory.changed(SystemTime::now(), broadcast.clone());
                    let broadcast = Arc::new(broadcast);
                    self.feed(|| Input::Changed(broadcast.clone()));
                }
                Output::BroadcastRetired(broadcast) => {
                    tracing::info!(%broadcast, "broadcast retired");
                    self.directory.retired(&broadcast);
                    let _ = self.events.send(NodeEvent::BroadcastRetired(broadcast.clone()));
                    self.feed(|| Input::Retired(broadcast.clone()));
                }
                Output::KeyframeWanted { ssrc } => self.publishers.request_keyframe(ssrc),
                Output::Disconnect { peer, reason } => {
                    tracing::warn!(?reason, "link closed");
                    self.peers.disconnect(peer);
                }
                Output::Event(exchange::Event::OriginSuperseded(broadcast)) => {
                    tracing::warn!(%broadcast, "published elsewhere by a later publisher");
                    self.publishers.superseded(Instant::now(), &broadcast, None);
                }
                Output::Event(exchange::Event::ChildJoined { broadcast, child, cause }) => {
                    let child = child.as_ref().map(NodeId::as_str);
                    let join = cause.map(|join| join.to_string());
                    tracing::info!(%broadcast, child, join, "a child takes the broadcast");
                }
                Output::Event(exchange::Event::ChildAnswered { broadcast, child, cause, after }) => {
                    if let Some(join) = cause.filter(|join| join.span.is_some_and(|span| span.is_sampled)) {
                        let _ = self.events.send(NodeEvent::ChildAnswered { broadcast, child, join, after });
                    }
                }
                Output::Event(event) => tracing::info!(?event, "link"),
            }
        }
        for feed in &mut self.feeds {
            feed.wake();
        }
    }

    fn feed(&mut self, input: impl Fn() -> Input) {
        for feed in &mut self.feeds {
            feed.push(input());
        }
    }

    fn flush(&mut self) {
        if let Some(socket) = &self.ingest {
            flush(&mut self.ingest_out, socket, &self.counters);
        }
        if let Some(port) = &self.link {
            flush(self.link_out.queue(), &port.socket, &self.counters);
        }
    }
}

fn flush(queue: &mut udp_batch::SendQueue, socket: &udp_batch::Socket, counters: &TreeCounters) {
    match queue.flush(socket) {
        Ok(flushed) => counters.flushed(&flushed),
        Err(error) => tracing::debug!(%error, "cannot send"),
    }
}

enum Turn {
    Done,
    More,
    Stop,
}
