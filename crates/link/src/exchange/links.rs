//! Link channels: who is connected, what they may say, whether they are alive.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use model::Role;

use super::carried::ChildJoin;
use super::peer::{Parent, Peer, Relation};
use super::timer::Timer;
use super::{DisconnectReason, DropReason, Event, Exchange, Output, ParentId, PeerId, SILENCE_MAX};
use crate::wire::Version;
use crate::wire::message::{Hello, Message};

/// So many packets of one stream between two heartbeats, and the child needs none: some of them arrive.
const FED_PACKETS: usize = 4;

/// The node has as many children as it may have; close the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node has {children_max} children, the most that it may have")]
pub struct TooManyChildren {
    /// The bound.
    pub children_max: usize,
}

impl Exchange {
    /// A parent of the configuration; lower priorities are taken first. Known already: only its priority changes.
    pub fn add_parent(&mut self, parent: ParentId, priority: u8) {
        let new =
            Parent { priority, peer: None, is_silent: false, offers: std::collections::BTreeMap::new() };
        self.parents.entry(parent).or_insert(new).priority = priority;
    }

    /// The parent is no longer in the configuration.
    pub fn remove_parent(&mut self, now: Instant, parent: ParentId) {
        let Some(removed) = self.parents.get(&parent) else { return };
        if let Some(peer) = removed.peer {
            self.disconnect(now, peer, DisconnectReason::Removed);
        }
        self.parents.remove(&parent);
    }

    /// The channel to a configured parent is there; its media will come from `address`. An older channel to the same
    /// parent is forgotten.
    pub fn parent_connected(&mut self, now: Instant, parent: ParentId, peer: PeerId, address: SocketAddr) {
        let Some(configured) = self.parents.get_mut(&parent) else { return };
        if let Some(older) = configured.peer {
            self.peer_disconnected(now, older);
        }
        let Some(configured) = self.parents.get_mut(&parent) else { return };
        configured.peer = Some(peer);
        configured.is_silent = false;
        self.parent_addresses.insert(address, peer);
        self.timers.set_earlier(Timer::Silence, now + SILENCE_MAX);
        self.connect(now, peer, Relation::Parent(parent), address);
    }

    /// A child has opened a channel; media for it goes to `address`, which the channel has proved.
    ///
    /// # Errors
    /// [`TooManyChildren`].
    pub fn child_connected(
        &mut self,
        now: Instant,
        peer: PeerId,
        address: SocketAddr,
    ) -> Result<(), TooManyChildren> {
        let children = self.peers.values().filter(|peer| peer.relation == Relation::Child).count();
        if children >= self.config.children_max {
            return Err(TooManyChildren { children_max: self.config.children_max });
        }
        self.connect(now, peer, Relation::Child, address);
        Ok(())
    }

    fn connect(&mut self, now: Instant, id: PeerId, relation: Relation, address: SocketAddr) {
        let (messages, resends) = (self.config.messages_per_second_max, self.config.resends_per_second_max);
        self.peers.insert(id, Peer::new(now, relation, address, messages, resends));
        let hello = Hello {
            version: Version::CURRENT,
            node: self.config.node.clone(),
            role: self.config.role,
            incarnation: self.config.incarnation,
        };
        self.send(id, Message::Hello(hello));
    }

    /// The peer's address has changed (QUIC connection migration, RFC 9000 section 9).
    pub fn peer_moved(&mut self, id: PeerId, address: SocketAddr) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let before = std::mem::replace(&mut peer.address, address);
        match peer.relation {
            Relation::Parent(_) => {
                if self.parent_addresses.get(&before) == Some(&id) {
                    self.parent_addresses.remove(&before);
                }
                self.parent_addresses.insert(address, id);
            }
            Relation::Child => self.update_all_destinations(id),
        }
    }

    /// The channel of a parent or child is gone.
    pub fn peer_disconnected(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.remove(&id) else { return };
        match peer.relation {
            Relation::Parent(parent) => {
                if self.parent_addresses.get(&peer.address) == Some(&id) {
                    self.parent_addresses.remove(&peer.address);
                }
                self.forget_offers(now, parent);
            }
            Relation::Child => self.forget_child(now, id),
        }
    }

    fn disconnect(&mut self, now: Instant, id: PeerId, reason: DisconnectReason) {
        self.peer_disconnected(now, id);
        self.outputs.push_back(Output::Disconnect { peer: id, reason });
    }

    /// A message has come over the channel of `id`.
    pub fn message(&mut self, now: Instant, id: PeerId, message: Message) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.messages.take(now) {
            self.drops.count(DropReason::MessageRate);
            return;
        }
        let relation = peer.relation;
        if let Message::Hello(hello) = message {
            self.on_hello(now, id, hello);
            return;
        }
        if peer.hello.is_none() {
            self.drops.count(DropReason::MessageUnexpected);
            return;
        }
        self.heard(now, id);
        match relation {
            Relation::Parent(parent) => self.message_from_parent(now, parent, id, message),
            Relation::Child => self.message_from_child(now, id, message),
        }
    }

    fn message_from_parent(&mut self, now: Instant, parent: ParentId, id: PeerId, message: Message) {
        match message {
            Message::Announce(broadcast) => self.on_announce(now, parent, broadcast),
            Message::Retire(broadcast) => self.on_retire(now, parent, &broadcast),
            Message::JoinAnswer(answer) => self.on_join_answer(now, parent, answer),
            Message::JoinRefused { broadcast, .. } => self.on_join_refused(now, parent, &broadcast),
            Message::Keys(keys) => self.on_keys(now, parent, &keys),
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, id, heartbeat),
            Message::Rates(rates) => self.on_rates(now, parent, &rates),
            Message::Cue(cue) => self.on_cue(now, parent, cue),
            Message::Hello(_)
            | Message::Join(_)
            | Message::Leave(_)
            | Message::Nack(_)
            | Message::KeyframeRequest(_)
            | Message::Report(_) => self.drops.count(DropReason::MessageUnexpected),
        }
    }

    fn message_from_child(&mut self, now: Instant, id: PeerId, message: Message) {
        match message {
            Message::Join(join) => self.on_join(now, id, join),
            Message::Leave(broadcast) => self.on_leave(now, id, &broadcast),
            Message::Nack(nack) => self.on_nack(now, id, &nack),
            Message::KeyframeRequest(ssrc) => self.on_keyframe_request(now, id, ssrc),
            Message::Report(report) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.report = report;
                }
            }
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, id, heartbeat),
            Message::Hello(_)
            | Message::Announce(_)
            | Message::Retire(_)
            | Message::JoinAnswer(_)
            | Message::JoinRefused { .. }
            | Message::Keys(_)
            | Message::Rates(_)
            | Message::Cue(_) => self.drops.count(DropReason::MessageUnexpected),
        }
    }

    fn on_hello(&mut self, now: Instant, id: PeerId, hello: Hello) {
        if !hello.version.is_understood() {
            self.drops.count(DropReason::Version);
            self.disconnect(now, id, DisconnectReason::Version(hello.version));
            return;
        }
        if hello.node == self.config.node {
            self.disconnect(now, id, DisconnectReason::Itself);
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        if peer.hello.is_some() {
            self.drops.count(DropReason::MessageUnexpected);
            return;
        }
        let is_child = peer.relation == Relation::Child;
        if let Some((doomed, reason)) = self.conflict(id, is_child, &hello) {
            self.disconnect(now, doomed, reason);
            if doomed == id {
                return;
            }
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.hello = Some(hello);
        }
        self.heard(now, id);
        if is_child {
            let all: Vec<_> = self.broadcasts().cloned().collect();
            all.into_iter().for_each(|broadcast| self.send(id, Message::Announce(broadcast)));
        }
    }

    /// Another channel to the same node that cannot stay beside this one: which of the two must go.
    fn conflict(&self, id: PeerId, is_child: bool, hello: &Hello) -> Option<(PeerId, DisconnectReason)> {
        let is_same_node = |peer: &Peer| peer.hello.as_ref().is_some_and(|theirs| theirs.node == hello.node);
        let same_node = self.peers.iter().filter(|(_, peer)| is_same_node(peer));
        let relation_of = |(other, peer): (&PeerId, &Peer)| (peer.relation == Relation::Child, *other);
        let others: Vec<_> = same_node.map(relation_of).collect();
        if let Some((_, other)) = others.iter().find(|(other_is_child, _)| *other_is_child != is_child) {
            // A link in each direction. Both sides keep the one that leads away from the origin.
            let theirs = (distance_from_origin(hello.role), &hello.node);
            let is_their_child = theirs < (distance_from_origin(self.config.role), &self.config.node);
            let doomed = if is_child == is_their_child { id } else { *other };
            return Some((doomed, DisconnectReason::Loop(hello.node.clone())));
        }
        let older = others.iter().find(|_| is_child);
        older.map(|(_, older)| (*older, DisconnectReason::Replaced(hello.node.clone())))
    }

    /// The peer is alive: it sent a message, or media that verified.
    pub(super) fn heard(&mut self, now: Instant, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.last_heard = peer.last_heard.max(now);
        let Relation::Parent(id) = peer.relation else { return };
        let Some(parent) = self.parents.get_mut(&id) else { return };
        if std::mem::take(&mut parent.is_silent) {
            self.timers.set_earlier(Timer::Silence, now + SILENCE_MAX);
            self.outputs.push_back(Output::Event(Event::ParentHeard(id)));
            self.update_all_upstream(now);
        }
    }

    /// Replaces parents that have been silent for too long.
    pub(super) fn check_silence(&mut self, now: Instant) {
        let mut fallen = Vec::new();
        for (id, parent) in &mut self.parents {
            let Some(peer) = parent.peer.and_then(|peer| self.peers.get(&peer)) else { continue };
            if parent.is_silent {
                continue;
            }
            let deadline = peer.last_heard + SILENCE_MAX;
            if deadline <= now {
                parent.is_silent = true;
                fallen.push(*id);
            } else {
                self.timers.set_earlier(Timer::Silence, deadline);
            }
        }
        if fallen.is_empty() {
            return;
        }
        for id in fallen {
            self.outputs.push_back(Output::Event(Event::ParentSilent(id)));
        }
        self.update_all_upstream(now);
    }

    /// Sends heartbeats to those who need one: children that have got little media since the last time, parents that are
    /// silent, since one whose process is a new one tells so when it is asked, and everybody for the round trip.
    pub(super) fn send_heartbeats(&mut self, now: Instant) {
        let micros = self.micros(now);
        let fed = self.take_fed();
        for (id, peer) in &mut self.peers {
            let is_fed = match peer.relation {
                Relation::Child => fed.contains(id),
                Relation::Parent(parent) => self.parents.get(&parent).is_none_or(|parent| !parent.is_silent),
            };
            if !is_fed || peer.is_heartbeat_due(now) {
                let message = Message::Heartbeat(peer.heartbeat(now, micros));
                self.outputs.push_back(Output::Send { peer: *id, message });
            }
        }
    }

    /// The children that have got so much media since the last call that they cannot take this node for silent.
    fn take_fed(&mut self) -> BTreeSet<PeerId> {
        let mut fed = BTreeSet::new();
        for (ssrc, stream) in &mut self.streams {
            let Some(carried) = self.broadcasts.get(&stream.broadcast) else { continue };
            if stream.take_forwarded() >= FED_PACKETS {
                let is_fed = |join: &ChildJoin| join.is_answered && !join.without.contains(ssrc);
                let answered = carried.joins.iter().filter(|(_, join)| is_fed(join));
                fed.extend(answered.map(|(peer, _)| *peer).filter(|peer| !stream.is_replaying(*peer)));
            }
        }
        fed
    }

    fn on_heartbeat(&mut self, now: Instant, id: PeerId, heartbeat: crate::wire::message::Heartbeat) {
        let micros = self.micros(now);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.on_heartbeat(now, micros, heartbeat);
        }
    }
}

/// How far from publishers a role stands.
const fn distance_from_origin(role: Role) -> u8 {
    match role {
        Role::Injection => 0,
        Role::All => 1,
        Role::Relay => 2,
        Role::Egress | Role::Controller => 3,
    }
}
