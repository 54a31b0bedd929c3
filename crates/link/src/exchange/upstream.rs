//! Towards the parents: which of them to join, what to ask them for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::{BroadcastId, Ssrc};

use super::carried::Carried;
use super::peer::Parent;
use super::timer::Timer;
use super::{DropReason, Event, Exchange, Output, ParentId, PeerId};
use crate::wire::message::{Held, Join, JoinAnswer, Message, NACK_SEQ_NOS_MAX, Nack, Report};

/// How long a parent may lag behind with a new publishing run before one that has announced it is preferred.
const EPOCH_LAG_MAX: Duration = Duration::from_millis(500);
/// How long a parent that refused a join is not asked again.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Exchange {
    /// Makes the joins of a broadcast what they should be now.
    pub(super) fn update_upstream(&mut self, now: Instant, id: &BroadcastId) {
        let Some(carried) = self.broadcasts.get(id) else { return };
        let is_needed = !carried.is_local && self.is_taken(id, carried);
        let desired = if is_needed { self.select_parents(now, id) } else { BTreeSet::new() };
        let Some(carried) = self.broadcasts.get_mut(id) else { return };
        let before = std::mem::replace(&mut carried.upstream, desired.clone());
        if !is_needed && !carried.is_local {
            // What is held now will be old when somebody comes back.
            carried.keyring = crate::wire::Keyring::default();
            self.clear_streams(id);
        }
        if is_needed && self.update_layers(now, id) {
            // Those that stay are told with what the new ones are told.
            before.intersection(&desired).for_each(|parent| self.send_join(*parent, id));
        }
        if before == desired {
            return;
        }
        if before.is_empty() {
            self.begin_layers(now, id);
        }
        // The new parent first: the old one's last packets do no harm.
        for parent in desired.difference(&before) {
            self.send_join(*parent, id);
        }
        for parent in before.difference(&desired) {
            self.send_leave(*parent, id);
        }
        let event = Event::ParentsChanged {
            broadcast: id.clone(),
            before: before.into_iter().collect(),
            after: desired.into_iter().collect(),
        };
        self.outputs.push_back(Output::Event(event));
    }

    pub(super) fn update_all_upstream(&mut self, now: Instant) {
        let all: Vec<_> = self.broadcasts.keys().cloned().collect();
        all.iter().for_each(|id| self.update_upstream(now, id));
    }

    /// Whether its packets are to be here: it is published here, or somebody here or below wants it.
    pub(super) fn is_taken(&self, id: &BroadcastId, carried: &Carried) -> bool {
        carried.is_local || self.wanted.contains_key(id) || !carried.joins.is_empty()
    }

    /// Whether a parent offers it that is heard.
    pub(super) fn is_offered(&self, id: &BroadcastId) -> bool {
        let heard = |parent: &&Parent| parent.peer.is_some() && !parent.is_silent;
        self.parents.values().filter(heard).any(|parent| parent.offers.contains_key(id))
    }

    /// The best parents that offer the broadcast. Alive before silent, up to date before behind, joined before not,
    /// then by priority: a parent that works is kept even when a better one returns.
    fn select_parents(&self, now: Instant, id: &BroadcastId) -> BTreeSet<ParentId> {
        let Some(carried) = self.broadcasts.get(id) else { return BTreeSet::new() };
        let must_be_up_to_date = carried.epoch_since + EPOCH_LAG_MAX <= now;
        let mut candidates = Vec::new();
        for (parent_id, parent) in &self.parents {
            let Some(offer) = parent.offers.get(id).filter(|_| parent.peer.is_some()) else { continue };
            if offer.refused.is_some_and(|refused| now < refused + REFUSED_PAUSE) {
                continue;
            }
            let is_behind = must_be_up_to_date && offer.epoch < carried.broadcast.epoch;
            let is_new = !carried.upstream.contains(parent_id);
            candidates.push((parent.is_silent, is_behind, is_new, parent.priority, *parent_id));
        }
        candidates.sort_unstable();
        candidates.into_iter().take(self.config.parents_active).map(|candidate| candidate.4).collect()
    }

    fn peer_of(&self, parent: ParentId) -> Option<PeerId> {
        self.parents.get(&parent)?.peer
    }

    fn send_join(&mut self, parent: ParentId, id: &BroadcastId) {
        let (Some(peer), Some(carried)) = (self.peer_of(parent), self.broadcasts.get(id)) else { return };
        let newest = |ssrc: Ssrc| Some(Held { ssrc, newest: self.streams.get(&ssrc)?.newest()? });
        let resume = carried.ssrcs().filter_map(|(ssrc, _)| newest(ssrc)).collect();
        let here = self.wanted.get(id).copied().flatten();
        let cause = here.or_else(|| carried.joins.values().find_map(|join| join.cause));
        let without = self.without(id);
        self.send(peer, Message::Join(Join { broadcast: id.clone(), resume, cause, without }));
    }

    pub(super) fn send_leave(&mut self, parent: ParentId, id: &BroadcastId) {
        if let Some(peer) = self.peer_of(parent) {
            self.send(peer, Message::Leave(id.clone()));
        }
    }

    /// Repeats all joins, each with what is held by now, and reports how the links do.
    pub(super) fn refresh_joins(&mut self, now: Instant) {
        let all: Vec<_> = self.broadcasts.keys().cloned().collect();
        for id in all {
            self.update_upstream(now, &id);
            let upstream =
                self.broadcasts.get(&id).map(|carried| carried.upstream.clone()).unwrap_or_default();
            upstream.into_iter().for_each(|parent| self.send_join(parent, &id));
        }
        let (mut lost, mut recovered) = (0, 0);
        for stream in self.streams.values_mut() {
            let totals = stream.totals();
            lost += totals.lost;
            recovered += totals.recovered;
            let upstream = self.broadcasts.get(&stream.broadcast).map(|carried| &carried.upstream);
            let peers = upstream.into_iter().flatten().filter_map(|parent| self.parents.get(parent)?.peer);
            let round_trips = peers.filter_map(|peer| self.peers.get(&peer)?.round_trip);
            if let Some(round_trip) = round_trips.max() {
                stream.set_round_trip(round_trip);
            }
        }
        for parent in self.parents.values() {
            let Some((id, peer)) = parent.peer.and_then(|id| Some((id, self.peers.get(&id)?))) else {
                continue;
            };
            let report = Report { received: peer.packets_received, lost, recovered };
            self.outputs.push_back(Output::Send { peer: id, message: Message::Report(report) });
        }
    }

    pub(super) fn on_join_answer(&mut self, now: Instant, from: ParentId, answer: JoinAnswer) {
        let id = answer.broadcast.id.clone();
        if !self.broadcasts.get(&id).is_some_and(|carried| carried.upstream.contains(&from)) {
            // We have left in the meantime.
            self.drops.count(DropReason::NotJoined);
            return;
        }
        let epoch = answer.broadcast.epoch;
        // A parent that lags behind with the description has the keys all the same, and will not send them again: those
        // of a later run of the same injection process are no others.
        if self.install_remote(now, answer.broadcast).is_ok() {
            let mut begun = Vec::new();
            for range in answer.streams {
                let range = self.with_the_lacking(&id, range);
                let stream = self.streams.get_mut(&range.ssrc).filter(|stream| stream.broadcast == id);
                let Some(stream) = stream.filter(|stream| stream.demand.is_taken()) else { continue };
                if stream.promise(now, range) {
                    begun.push(range);
                }
                if let Some(at) = stream.repair_at() {
                    self.timers.set_earlier(Timer::Repair, at);
                }
            }
            self.pass_on(&id, &begun);
        }
        for key in answer.keys.iter().rev() {
            self.install_key(now, &id, epoch, key);
        }
        self.retry_early(now);
    }

    pub(super) fn on_join_refused(&mut self, now: Instant, from: ParentId, id: &BroadcastId) {
        let offer = self.parents.get_mut(&from).and_then(|parent| parent.offers.get_mut(id));
        let Some(offer) = offer else { return };
        offer.refused = Some(now);
        if let Some(carried) = self.broadcasts.get_mut(id) {
            carried.upstream.remove(&from);
        }
        self.update_upstream(now, id);
    }

    /// Asks parents for what is missing.
    pub(super) fn repair(&mut self, now: Instant) {
        for (ssrc, stream) in &mut self.streams {
            let upstream = self.broadcasts.get(&stream.broadcast).map(|carried| &carried.upstream);
            let peers = upstream.into_iter().flatten().filter_map(|parent| {
                let parent = self.parents.get(parent)?;
                Some((parent.is_silent, parent.peer?))
            });
            let mut peers: Vec<_> = peers.collect();
            peers.sort_unstable();
            // A silent parent is asked only if there is no other.
            if peers.iter().any(|(is_silent, _)| !is_silent) {
                peers.retain(|(is_silent, _)| !is_silent);
            }
            let questions = stream.poll_nack(now, peers.len());
            for ((_, peer), missing) in peers.into_iter().zip(questions) {
                if let Some(asked) = self.peers.get_mut(&peer) {
                    asked.nacked += missing.len() as u64;
                }
                for seq_nos in missing.chunks(NACK_SEQ_NOS_MAX) {
                    let message = Message::Nack(Nack { ssrc: *ssrc, seq_nos: seq_nos.to_vec() });
                    self.outputs.push_back(Output::Send { peer, message });
                }
            }
            if let Some(at) = stream.repair_at() {
                self.timers.set_earlier(Timer::Repair, at);
            }
        }
    }

    /// A viewer of this node cannot go on without a keyframe of this stream.
    pub fn request_keyframe(&mut self, now: Instant, ssrc: Ssrc) {
        let Some(stream) = self.streams.get_mut(&ssrc) else {
            self.drops.count(DropReason::UnknownStream);
            return;
        };
        stream.counters_mut().keyframe_requests_received += 1;
        self.keyframe_limiter.request(ssrc);
        self.forward_keyframe_requests(now);
    }

    /// Sends those requests on that need not wait.
    pub(super) fn forward_keyframe_requests(&mut self, now: Instant) {
        while let Some(ssrc) = self.keyframe_limiter.poll_forward(now) {
            let Some(stream) = self.streams.get_mut(&ssrc) else { continue };
            let Some(carried) = self.broadcasts.get(&stream.broadcast) else { continue };
            // One parent is enough: the requests of both would meet at the origin.
            let parents = carried.upstream.iter().filter_map(|parent| self.parents.get(parent));
            let peer = parents.filter(|parent| !parent.is_silent).find_map(|parent| parent.peer);
            let output = match peer {
                _ if carried.is_local => Output::KeyframeWanted { ssrc },
                Some(peer) => Output::Send { peer, message: Message::KeyframeRequest(ssrc) },
                None => continue,
            };
            stream.counters_mut().keyframe_requests_forwarded += 1;
            self.outputs.push_back(output);
        }
        if let Some(at) = self.keyframe_limiter.poll_timeout() {
            self.timers.set_earlier(Timer::Keyframe, at);
        }
    }
}
