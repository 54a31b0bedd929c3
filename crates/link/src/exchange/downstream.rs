//! Towards the children: who has joined, what they still lack.
//!
//! A child that joins gets what it lacks from the rings, then follows live. What it lacks: all after the newest
//! packet that it holds, if the ring still has that; else the current group of pictures, with the sound since its
//! keyframe. This *replay* is paced, [`REPLAY_BYTES_PER_TICK`] per [`REPLAY_TICK`] shared evenly by all replays, so
//! that it overruns neither the child's receive buffer nor live media; a group of 2.5 MB takes a fifth of a second.
//! While a stream is replayed to a child, live packets of that stream reach it in their turn, from the ring.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{BroadcastId, Kind, NodeId, NtpTime, SeqNo, Ssrc};

use super::carried::ChildJoin;
use super::peer::Relation;
use super::timer::Timer;
use super::{Destinations, DropReason, Event, Exchange, JOIN_AGE_MAX, Output, PeerId};
use crate::wire::message::{Held, Join, JoinAnswer, JoinRefusal, Message, Nack};

/// Time between two slices of the replays.
pub const REPLAY_TICK: Duration = Duration::from_millis(2);
/// Bytes of all replays in one slice: 1 Gbit/s. Each replay sends at least one packet.
pub const REPLAY_BYTES_PER_TICK: usize = 256 * 1024;
/// Bytes of one replay in one slice: 131 Mbit/s; a quarter of the default receive buffer of Linux.
pub const REPLAY_BYTES_PER_STREAM: usize = 32 * 1024;
/// A packet that left this long ago should have reached the child by the time of its refresh, or have been asked
/// for; only the last ones before a pause cannot be missed.
const TAIL_AGE: Duration = Duration::from_millis(300);
/// Most packets of a stream that are sent again at one refresh.
const TAIL_PACKETS_MAX: usize = 64;

impl Exchange {
    pub(super) fn on_join(&mut self, now: Instant, peer: PeerId, join: Join) {
        let id = join.broadcast;
        let joins: usize = self.broadcasts.values().map(|carried| carried.joins.len()).sum();
        let Some(carried) = self.broadcasts.get_mut(&id) else {
            self.drops.count(DropReason::UnknownStream);
            let reason = JoinRefusal::UnknownBroadcast;
            self.send(peer, Message::JoinRefused { broadcast: id, reason });
            return;
        };
        if let Some(present) = carried.joins.get_mut(&peer) {
            present.refreshed = now;
            let before = std::mem::replace(&mut present.without, join.without);
            let (is_answered, is_changed) = (present.is_answered, before != present.without);
            if !is_answered {
                present.resume.clone_from(&join.resume);
            }
            if is_changed {
                self.child_needs(now, (peer, &id), &before, &join.resume);
            }
            if is_answered {
                self.repair_tails(now, peer, &id, &join.resume);
            }
            return;
        }
        if joins >= self.config.joins_max {
            self.send(peer, Message::JoinRefused { broadcast: id, reason: JoinRefusal::Full });
            return;
        }
        let Join { resume, cause, without, .. } = join;
        let child_join = ChildJoin { since: now, refreshed: now, is_answered: false, resume, cause, without };
        carried.joins.insert(peer, child_join);
        let child = self.name_of(peer);
        self.outputs.push_back(Output::Event(Event::ChildJoined { broadcast: id.clone(), child, cause }));
        self.update_upstream(now, &id);
        self.answer_waiting(now, &id);
    }

    /// Answers the joins of a broadcast that could not be answered before, if there is a key now.
    pub(super) fn answer_waiting(&mut self, now: Instant, id: &BroadcastId) {
        let Some(carried) = self.broadcasts.get(id).filter(|carried| !carried.keyring.is_empty()) else {
            return;
        };
        let waiting = carried.joins.iter().filter(|(_, join)| !join.is_answered);
        let waiting: Vec<_> = waiting.map(|(peer, _)| *peer).collect();
        if waiting.is_empty() {
            return;
        }
        waiting.into_iter().for_each(|peer| self.answer(now, peer, id));
        self.update_destinations(id);
    }

    fn answer(&mut self, now: Instant, peer: PeerId, id: &BroadcastId) {
        let since = self.keyframe_capture_time(id);
        let Some(carried) = self.broadcasts.get_mut(id) else { return };
        let Some(join) = carried.joins.get_mut(&peer) else { return };
        join.is_answered = true;
        let (cause, after) = (join.cause, now.saturating_duration_since(join.since));
        let resume = std::mem::take(&mut join.resume);
        let without = join.without.clone();
        let needed = carried.ssrcs().map(|(ssrc, _)| ssrc).filter(|ssrc| !without.contains(ssrc));
        let needed: Vec<_> = needed.collect();
        let streams = self.begin_streams(now, peer, needed.into_iter(), (&resume, since));
        let Some(carried) = self.broadcasts.get(id) else { return };
        let keys = carried.keyring.keys().cloned().collect();
        let answer = JoinAnswer { broadcast: carried.broadcast.clone(), keys, streams };
        self.send(peer, Message::JoinAnswer(answer));
        self.replay_cues(now, peer, id);
        let (broadcast, child) = (id.clone(), self.name_of(peer));
        self.outputs.push_back(Output::Event(Event::ChildAnswered { broadcast, child, cause, after }));
    }

    /// What a node calls itself, once it has said hello.
    fn name_of(&self, peer: PeerId) -> Option<NodeId> {
        self.peers.get(&peer)?.hello.as_ref().map(|hello| hello.node.clone())
    }

    /// When the oldest picture was captured that a new child needs.
    pub(super) fn keyframe_capture_time(&self, id: &BroadcastId) -> Option<NtpTime> {
        let ssrcs = self.broadcasts.get(id)?.ssrcs().filter(|(_, kind)| *kind == Kind::Video);
        ssrcs.filter_map(|(ssrc, _)| self.streams.get(&ssrc)?.keyframe_capture_time()).min()
    }

    pub(super) fn on_leave(&mut self, now: Instant, peer: PeerId, id: &BroadcastId) {
        let left = self.broadcasts.get_mut(id).and_then(|carried| carried.joins.remove(&peer));
        if left.is_some() {
            self.end_join(now, peer, id);
        }
    }

    /// The child is gone.
    pub(super) fn forget_child(&mut self, now: Instant, peer: PeerId) {
        let joined = self.broadcasts.iter_mut().filter_map(|(id, carried)| {
            carried.joins.remove(&peer)?;
            Some(id.clone())
        });
        let joined: Vec<_> = joined.collect();
        joined.iter().for_each(|id| self.end_join(now, peer, id));
    }

    /// Forgets joins that were not refreshed.
    pub(super) fn expire_joins(&mut self, now: Instant) {
        let mut expired = Vec::new();
        for (id, carried) in &mut self.broadcasts {
            carried.joins.retain(|peer, join| {
                let is_fresh = now < join.refreshed + JOIN_AGE_MAX;
                if !is_fresh {
                    expired.push((*peer, id.clone()));
                }
                is_fresh
            });
        }
        expired.iter().for_each(|(peer, id)| self.end_join(now, *peer, id));
    }

    fn end_join(&mut self, now: Instant, peer: PeerId, id: &BroadcastId) {
        for stream in self.streams.values_mut().filter(|stream| stream.broadcast == *id) {
            stream.end_replay(peer);
        }
        self.update_destinations(id);
        self.update_upstream(now, id);
    }

    /// Who follows live has changed. Streams that the same children need share one list.
    pub(super) fn update_destinations(&mut self, id: &BroadcastId) {
        let Some(carried) = self.broadcasts.get(id) else { return };
        let answered = carried.joins.iter().filter(|(_, join)| join.is_answered);
        let peers =
            answered.filter_map(|(peer, join)| Some((*peer, self.peers.get(peer)?.address, &join.without)));
        let children: Vec<_> = peers.collect();
        let mut lists: Vec<Arc<[SocketAddr]>> = Vec::new();
        for (ssrc, _) in carried.ssrcs() {
            let Some(stream) = self.streams.get_mut(&ssrc).filter(|stream| stream.broadcast == *id) else {
                continue;
            };
            let needing = children.iter().filter(|(_, _, without)| !without.contains(&ssrc));
            let needing: Vec<_> = needing.map(|(peer, address, _)| (*peer, *address)).collect();
            let addresses = || needing.iter().map(|(_, address)| *address);
            let list = match lists.iter().find(|list| list.iter().copied().eq(addresses())) {
                Some(list) => list.clone(),
                None => {
                    let list: Arc<[SocketAddr]> = addresses().collect();
                    lists.push(list.clone());
                    list
                }
            };
            stream.set_children(&needing, &list);
        }
    }

    pub(super) fn update_all_destinations(&mut self, peer: PeerId) {
        let joined = self.broadcasts.iter().filter(|(_, carried)| carried.joins.contains_key(&peer));
        let joined: Vec<_> = joined.map(|(id, _)| id.clone()).collect();
        joined.iter().for_each(|id| self.update_destinations(id));
    }

    /// Sends the next slice of each replay.
    pub(super) fn replay(&mut self, now: Instant) {
        let replays: usize = self.streams.values().map(|stream| stream.replays().len()).sum();
        if replays == 0 {
            return;
        }
        let slice = (REPLAY_BYTES_PER_TICK / replays).min(REPLAY_BYTES_PER_STREAM);
        let mut finished = Vec::new();
        for stream in self.streams.values_mut() {
            for peer in stream.replays() {
                let Some(address) = self.peers.get(&peer).map(|peer| peer.address) else { continue };
                let (packets, is_finished) = stream.replay_slice(peer, slice);
                for wire in packets {
                    self.outputs.push_back(Output::Media { wire, to: Destinations::One(address) });
                }
                if is_finished {
                    stream.end_replay(peer);
                    finished.push(stream.broadcast.clone());
                }
            }
        }
        finished.dedup();
        if finished.len() < replays {
            self.timers.set_earlier(Timer::Replay, now + REPLAY_TICK);
        }
        finished.iter().for_each(|id| self.update_destinations(id));
    }

    /// The last packets before a pause leave no gap that the child could see; its refresh shows that it lacks them.
    fn repair_tails(&mut self, now: Instant, peer: PeerId, id: &BroadcastId, resume: &[Held]) {
        let since = self.keyframe_capture_time(id);
        let (Some(carried), Some(child)) = (self.broadcasts.get(id), self.peers.get_mut(&peer)) else {
            return;
        };
        let without = carried.joins.get(&peer).map_or(&[][..], |join| &join.without);
        for (ssrc, _) in carried.ssrcs() {
            let Some(stream) = self.streams.get_mut(&ssrc) else { continue };
            if stream.is_replaying(peer) || without.contains(&ssrc) {
                continue;
            }
            for wire in stream.tail(now, held(resume, ssrc), since, (TAIL_AGE, TAIL_PACKETS_MAX)) {
                if !child.resends.take(now) {
                    self.drops.count(DropReason::ResendRate);
                    break;
                }
                stream.count_resent(wire.len());
                self.outputs.push_back(Output::Media { wire, to: Destinations::One(child.address) });
            }
        }
    }

    pub(super) fn on_nack(&mut self, now: Instant, peer: PeerId, nack: &Nack) {
        if !self.has_joined(peer, nack.ssrc, |join| !join.without.contains(&nack.ssrc)) {
            return;
        }
        let (Some(stream), Some(child)) = (self.streams.get_mut(&nack.ssrc), self.peers.get_mut(&peer))
        else {
            return;
        };
        for seq_no in &nack.seq_nos {
            stream.counters_mut().nacks_received += 1;
            let Some(wire) = stream.get(*seq_no) else {
                // Missing here too: it goes to all children when it comes.
                self.drops.count(DropReason::NotHeld);
                continue;
            };
            if !child.resends.take(now) {
                self.drops.count(DropReason::ResendRate);
                continue;
            }
            stream.count_resent(wire.len());
            self.outputs.push_back(Output::Media { wire, to: Destinations::One(child.address) });
        }
    }

    pub(super) fn on_keyframe_request(&mut self, now: Instant, peer: PeerId, ssrc: Ssrc) {
        // Of a layer that it has done without so far, too: the Join may come a moment later.
        if self.has_joined(peer, ssrc, |_| true) {
            self.request_keyframe(now, ssrc);
        }
    }

    /// Whether the child has joined the broadcast of this stream, in such a way; counts it if not.
    fn has_joined(&mut self, peer: PeerId, ssrc: Ssrc, fits: impl Fn(&ChildJoin) -> bool) -> bool {
        let Some(stream) = self.streams.get(&ssrc) else {
            self.drops.count(DropReason::UnknownStream);
            return false;
        };
        let carried = self.broadcasts.get(&stream.broadcast);
        let join = carried.and_then(|carried| carried.joins.get(&peer));
        let is_child = self.peers.get(&peer).is_some_and(|peer| peer.relation == Relation::Child);
        let has_joined = is_child && join.is_some_and(|join| join.is_answered && fits(join));
        if !has_joined {
            self.drops.count(DropReason::NotJoined);
        }
        has_joined
    }
}

pub(super) fn held(resume: &[Held], ssrc: Ssrc) -> Option<SeqNo> {
    resume.iter().find(|held| held.ssrc == ssrc).map(|held| held.newest)
}
