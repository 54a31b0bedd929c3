//! Which broadcasts exist, what they consist of, and which keys open them.

use std::collections::BTreeMap;
use std::time::Instant;

use model::{Broadcast, BroadcastId, Epoch, JoinName, Ssrc};

use super::carried::Carried;
use super::peer::{Offer, Relation};
use super::stream::Stream;
use super::{DropReason, Event, Exchange, Output, ParentId};
use crate::wire::GroupKey;
use crate::wire::media::GroupSealer;
use crate::wire::message::{Keys, Message, STREAMS_MAX};

/// Why a published broadcast is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A later publishing run is known: another injection node has taken over.
    #[error("publishing run {published:?} of {broadcast} is older than run {known:?}")]
    Stale {
        /// The broadcast.
        broadcast: BroadcastId,
        /// The run that was published.
        published: Option<Epoch>,
        /// The run that is known.
        known: Option<Epoch>,
    },
    /// The node knows as many broadcasts as it may.
    #[error("the node knows {broadcasts_max} broadcasts, the most that it may")]
    TooMany {
        /// The bound.
        broadcasts_max: usize,
    },
}

impl Exchange {
    /// A broadcast is published at this node, or what it consists of has changed.
    ///
    /// # Errors
    /// [`PublishError`]; nothing has changed then.
    pub fn publish_changed(&mut self, now: Instant, broadcast: Broadcast) -> Result<(), PublishError> {
        let id = broadcast.id.clone();
        let published = broadcast.epoch;
        self.install(now, broadcast).map_err(|reason| match reason {
            DropReason::StaleBroadcast => {
                let known = self.broadcast(&id).and_then(|known| known.epoch);
                PublishError::Stale { broadcast: id.clone(), published, known }
            }
            _ => PublishError::TooMany { broadcasts_max: self.config.broadcasts_max },
        })?;
        if let Some(carried) = self.broadcasts.get_mut(&id) {
            carried.is_local = true;
            carried.orphaned = None;
        }
        self.update_upstream(now, &id);
        if let Some((key, _)) = &self.group_key {
            let key = key.clone();
            self.install_key(now, &id, published, &key);
        }
        Ok(())
    }

    /// A broadcast published at this node has ended for good: its grace period is over.
    pub fn publish_retired(&mut self, id: &BroadcastId) {
        if self.broadcasts.get(id).is_some_and(|carried| carried.is_local) {
            self.retire(id);
        }
    }

    /// From now on this node seals what it publishes under `key`. Never give two exchanges the same one.
    pub fn begin_generation(&mut self, now: Instant, key: GroupKey) {
        let sealer = GroupSealer::new(&key);
        let local = self.broadcasts.iter().filter(|(_, carried)| carried.is_local);
        let local: Vec<_> = local.map(|(id, carried)| (id.clone(), carried.broadcast.epoch)).collect();
        for (id, epoch) in local {
            self.install_key(now, &id, epoch, &key);
        }
        self.group_key = Some((key, sealer));
    }

    /// Whether somebody watches the broadcast at this node. It need not be known yet. When nobody does any more, its
    /// packets are forgotten at once, so that some are delivered again if somebody comes soon: wait a little before
    /// saying so.
    pub fn want(&mut self, now: Instant, id: &BroadcastId, is_wanted: bool) {
        if is_wanted {
            self.want_as(now, id, None);
        } else {
            self.wanted.remove(id);
            self.update_upstream(now, id);
        }
    }

    /// Somebody at this node wants a broadcast, whose join is called so.
    pub fn want_as(&mut self, now: Instant, id: &BroadcastId, cause: Option<JoinName>) {
        if !self.wanted.contains_key(id) {
            if self.wanted.len() < self.config.broadcasts_max {
                self.wanted.insert(id.clone(), cause);
                self.need_all(now, id);
            } else {
                self.drops.count(DropReason::BroadcastLimit);
            }
        }
        self.update_upstream(now, id);
    }

    pub(super) fn on_announce(&mut self, now: Instant, from: ParentId, broadcast: Broadcast) {
        let id = broadcast.id.clone();
        let epoch = broadcast.epoch;
        let Some(parent) = self.parents.get_mut(&from) else { return };
        let bound = self.config.broadcasts_max;
        if !parent.offers.contains_key(&id) && parent.offers.len() >= bound {
            self.drops.count(DropReason::BroadcastLimit);
            return;
        }
        let refused = parent.offers.get(&id).and_then(|offer| offer.refused);
        parent.offers.insert(id.clone(), Offer { epoch, refused });
        match self.install_remote(now, broadcast) {
            Ok(()) => {}
            Err(DropReason::BroadcastLimit) => {
                if let Some(parent) = self.parents.get_mut(&from) {
                    parent.offers.remove(&id);
                }
            }
            Err(_stale) => {}
        }
        if let Some(carried) = self.broadcasts.get_mut(&id) {
            carried.orphaned = None;
        }
        self.update_upstream(now, &id);
        self.retry_early(now);
    }

    /// A description that came from a parent; refusals are counted.
    pub(super) fn install_remote(&mut self, now: Instant, broadcast: Broadcast) -> Result<(), DropReason> {
        let id = broadcast.id.clone();
        let epoch = broadcast.epoch;
        let local = self
            .broadcasts
            .get(&id)
            .filter(|carried| carried.is_local)
            .map(|carried| carried.broadcast.epoch);
        if local.is_some_and(|local| local >= epoch) {
            // The tree tells the origin what the origin said.
            return Ok(());
        }
        self.install(now, broadcast).inspect_err(|reason| self.drops.count(*reason))?;
        if local.is_some() {
            if let Some(carried) = self.broadcasts.get_mut(&id) {
                carried.is_local = false;
            }
            self.outputs.push_back(Output::Event(Event::OriginSuperseded(id)));
        }
        Ok(())
    }

    /// Takes a description, unless it is of an older publishing run than the known one (fencing).
    fn install(&mut self, now: Instant, broadcast: Broadcast) -> Result<(), DropReason> {
        let id = broadcast.id.clone();
        let is_full = self.broadcasts.len() >= self.config.broadcasts_max;
        let before = match self.broadcasts.get_mut(&id) {
            Some(carried) if broadcast.epoch < carried.broadcast.epoch => {
                return Err(DropReason::StaleBroadcast);
            }
            Some(carried) if carried.broadcast == broadcast => return Ok(()),
            Some(carried) => {
                if carried.broadcast.epoch < broadcast.epoch {
                    carried.epoch_since = now;
                }
                let before = carried.ssrcs().collect();
                carried.broadcast = broadcast.clone();
                before
            }
            None if is_full => return Err(DropReason::BroadcastLimit),
            None => {
                self.broadcasts.insert(id.clone(), Carried::new(now, broadcast.clone()));
                Vec::new()
            }
        };
        self.replace_streams(&id, before);
        self.outputs.push_back(Output::BroadcastChanged(broadcast.clone()));
        self.tell_children(&Message::Announce(broadcast));
        Ok(())
    }

    fn replace_streams(&mut self, id: &BroadcastId, before: Vec<(Ssrc, model::Kind)>) {
        let Some(carried) = self.broadcasts.get_mut(id) else { return };
        let present: BTreeMap<_, _> = carried.ssrcs().collect();
        for (ssrc, kind) in before {
            let is_ours = self.streams.get(&ssrc).is_some_and(|stream| stream.broadcast == *id);
            if !present.contains_key(&ssrc)
                && is_ours
                && let Some(stream) = self.streams.remove(&ssrc)
            {
                carried.retire_stream(ssrc, kind, &stream.totals());
                self.keyframe_limiter.forget(ssrc);
            }
        }
        for (count, (ssrc, kind)) in present.into_iter().enumerate() {
            let is_free = self.streams.get(&ssrc).is_none_or(|stream| stream.broadcast == *id);
            if count >= STREAMS_MAX || !is_free {
                self.drops.count(DropReason::StreamLimit);
                continue;
            }
            let new = || Stream::new(id.clone(), ssrc, kind, &self.config);
            self.streams.entry(ssrc).or_insert_with(new);
        }
        self.update_destinations(id);
    }

    pub(super) fn on_retire(&mut self, now: Instant, from: ParentId, id: &BroadcastId) {
        if let Some(parent) = self.parents.get_mut(&from) {
            parent.offers.remove(id);
        }
        let is_offered = self.parents.values().any(|parent| parent.offers.contains_key(id));
        if is_offered || self.broadcasts.get(id).is_some_and(|carried| carried.is_local) {
            self.update_upstream(now, id);
        } else {
            self.retire(id);
        }
    }

    /// The broadcasts that only this parent offered stay known for a while: it may come back, or another may offer
    /// them.
    pub(super) fn forget_offers(&mut self, now: Instant, from: ParentId) {
        let Some(parent) = self.parents.get_mut(&from) else { return };
        parent.peer = None;
        parent.is_silent = false;
        let offers = std::mem::take(&mut parent.offers);
        for carried in self.broadcasts.values_mut() {
            carried.upstream.remove(&from);
        }
        for id in offers.into_keys() {
            let is_offered = self.parents.values().any(|parent| parent.offers.contains_key(&id));
            if let Some(carried) = self.broadcasts.get_mut(&id)
                && !is_offered
                && !carried.is_local
            {
                carried.orphaned = Some(now);
            }
            self.update_upstream(now, &id);
        }
    }

    pub(super) fn expire_orphans(&mut self, now: Instant) {
        let age_max = self.config.orphan_age_max;
        let is_expired = |carried: &Carried| carried.orphaned.is_some_and(|since| since + age_max <= now);
        let expired = self.broadcasts.iter().filter(|(_, carried)| is_expired(carried));
        let expired: Vec<_> = expired.map(|(id, _)| id.clone()).collect();
        expired.iter().for_each(|id| self.retire(id));
    }

    fn retire(&mut self, id: &BroadcastId) {
        let Some(carried) = self.broadcasts.remove(id) else { return };
        for parent in &carried.upstream {
            self.send_leave(*parent, id);
        }
        for (ssrc, _) in carried.ssrcs() {
            if self.streams.get(&ssrc).is_some_and(|stream| stream.broadcast == *id) {
                self.streams.remove(&ssrc);
                self.keyframe_limiter.forget(ssrc);
            }
        }
        self.outputs.push_back(Output::BroadcastRetired(id.clone()));
        self.tell_children(&Message::Retire(id.clone()));
    }

    /// Forgets the packets of a broadcast, not what it consists of.
    pub(super) fn clear_streams(&mut self, id: &BroadcastId) {
        self.streams.values_mut().filter(|stream| stream.broadcast == *id).for_each(Stream::clear);
    }

    fn tell_children(&mut self, message: &Message) {
        let is_told = |peer: &super::Peer| peer.relation == Relation::Child && peer.hello.is_some();
        for (id, _) in self.peers.iter().filter(|(_, peer)| is_told(peer)) {
            self.outputs.push_back(Output::Send { peer: *id, message: message.clone() });
        }
    }

    pub(super) fn on_keys(&mut self, now: Instant, from: ParentId, keys: &Keys) {
        let id = &keys.broadcast;
        if !self.broadcasts.get(id).is_some_and(|carried| carried.upstream.contains(&from)) {
            self.drops.count(DropReason::NotJoined);
            return;
        }
        self.install_key(now, id, keys.epoch, &keys.key);
        self.retry_early(now);
    }

    /// Takes a key; children that have joined get it, children that waited for one are answered.
    pub(super) fn install_key(
        &mut self,
        now: Instant,
        id: &BroadcastId,
        epoch: Option<Epoch>,
        key: &GroupKey,
    ) {
        let Some(carried) = self.broadcasts.get_mut(id) else { return };
        if !carried.keyring.install(epoch, key) {
            return;
        }
        let keys = Keys { broadcast: id.clone(), epoch, key: key.clone() };
        for (peer, _) in carried.joins.iter().filter(|(_, join)| join.is_answered) {
            self.outputs.push_back(Output::Send { peer: *peer, message: Message::Keys(keys.clone()) });
        }
        self.answer_waiting(now, id);
    }
}
