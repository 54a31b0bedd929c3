//! The way of a packet: in once, out to everybody who follows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media_core::TreePacket;

use super::early::Early;
use super::stream::Repeated;
use super::timer::Timer;
use super::{Destinations, DropReason, Exchange, HEARTBEAT_INTERVAL, Output, PeerId, SILENCE_MAX};
use crate::wire::media::{Header, HeaderError, OpenError};

impl Exchange {
    /// A packet of a broadcast that is published at this node.
    pub fn published(&mut self, now: Instant, packet: TreePacket) {
        let Some(stream) = self.streams.get(&packet.ssrc) else {
            self.drops.count(self.reason_without_stream(packet.ssrc));
            return;
        };
        if !self.broadcasts.get(&stream.broadcast).is_some_and(|carried| carried.is_local) {
            self.drops.count(DropReason::OldEpoch);
            return;
        }
        // Never seal a number twice: the second packet under it might be another one.
        if let Err(reason) = stream.check_new(packet.seq_no) {
            self.count_repeated(packet.ssrc, reason);
            return;
        }
        let sealed = self.group_key.as_ref().and_then(|(_, sealer)| sealer.seal(&packet).ok());
        let Some(wire) = sealed else {
            self.drops.count(DropReason::Unsealable);
            return;
        };
        // Both are always read here: the header has just been written.
        let Ok(header) = Header::parse(&wire) else { return };
        let Some(stream) = self.streams.get_mut(&packet.ssrc) else { return };
        if !stream.keep(now, &header, wire.clone()) {
            self.drops.count(DropReason::TooOld);
            return;
        }
        self.forward(&header, wire);
        if self.delivers_locally {
            self.outputs.push_back(Output::Deliver(Arc::new(packet)));
        }
    }

    /// A datagram of the link's media socket.
    pub fn media(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(peer) = self.parent_addresses.get(&from).copied() else {
            self.drops.count(DropReason::UnknownAddress);
            return;
        };
        if let Some(reason) = self.take_media(now, peer, datagram, None) {
            match reason {
                DropReason::UnknownStream | DropReason::UnknownGeneration if self.has_joined_any() => {
                    let datagram = Bytes::copy_from_slice(datagram);
                    self.early.push(Early { arrived: now, from, datagram, reason });
                }
                _ => self.drops.count(reason),
            }
        }
    }

    /// Something is known now that was not when early media came.
    pub(super) fn retry_early(&mut self, now: Instant) {
        for early in self.early.take(now) {
            let Some(peer) = self.parent_addresses.get(&early.from).copied() else {
                self.drops.count(DropReason::UnknownAddress);
                continue;
            };
            match self.take_media(now, peer, &early.datagram, Some(&early.datagram)) {
                Some(reason @ (DropReason::UnknownStream | DropReason::UnknownGeneration)) => {
                    self.early.push(Early { reason, ..early });
                }
                Some(reason) => self.drops.count(reason),
                None => {}
            }
        }
    }

    fn has_joined_any(&self) -> bool {
        self.broadcasts.values().any(|carried| !carried.upstream.is_empty())
    }

    /// Verifies and takes a packet, or says why not. `shared` is the datagram itself if it is shared already.
    fn take_media(
        &mut self,
        now: Instant,
        from: PeerId,
        datagram: &[u8],
        shared: Option<&Bytes>,
    ) -> Option<DropReason> {
        let header = match Header::parse(datagram) {
            Ok(header) => header,
            Err(HeaderError::Malformed) => return Some(DropReason::Malformed),
            Err(HeaderError::Version(_)) => return Some(DropReason::Version),
        };
        let Some(stream) = self.streams.get(&header.ssrc) else {
            return Some(self.reason_without_stream(header.ssrc));
        };
        let Some(carried) = self.broadcasts.get(&stream.broadcast) else {
            return Some(DropReason::UnknownStream);
        };
        if carried.upstream.is_empty() || !stream.demand.is_taken() {
            return Some(DropReason::NotJoined);
        }
        // Only what verified is in the ring, so a forged packet cannot make a genuine one look like a copy.
        if let Err(reason) = stream.check_new(header.seq_no) {
            // A parent whose copies always come second sends no heartbeats either: now and then one counts as its sign
            // of life, if it is the copy of a packet that may just be on its way.
            let last_heard = self.peers.get(&from).map(|peer| peer.last_heard);
            let proves_life = last_heard.is_some_and(|last| last + HEARTBEAT_INTERVAL <= now)
                && stream.came_within(now, header.seq_no, SILENCE_MAX)
                && carried.keyring.open(&header, datagram, &mut self.payload).is_ok();
            self.count_repeated(header.ssrc, reason);
            if let (Repeated::Held, Some(peer)) = (reason, self.peers.get_mut(&from)) {
                peer.duplicates += 1;
            }
            if proves_life {
                self.heard(now, from);
            }
            return None;
        }
        match carried.keyring.open(&header, datagram, &mut self.payload) {
            Ok(()) => {}
            Err(OpenError::UnknownGeneration) => return Some(DropReason::UnknownGeneration),
            Err(OpenError::Forged) => return Some(DropReason::Forged),
            Err(OpenError::Padding) => return Some(DropReason::Malformed),
        }
        let wire = shared.cloned().unwrap_or_else(|| Bytes::copy_from_slice(datagram));
        self.accept(now, from, &header, wire);
        None
    }

    fn accept(&mut self, now: Instant, from: PeerId, header: &Header, wire: Bytes) {
        self.heard(now, from);
        let Some(stream) = self.streams.get_mut(&header.ssrc) else { return };
        let fills_gap = stream.track_gap(now, header.seq_no);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.packets_received += 1;
            peer.recovered += u64::from(fills_gap);
        }
        if let Some(at) = stream.repair_at() {
            self.timers.set_earlier(Timer::Repair, at);
        }
        if !stream.keep(now, header, wire.clone()) {
            self.drops.count(DropReason::TooOld);
            return;
        }
        self.forward(header, wire);
        if self.delivers_locally {
            let packet = header.tree_packet(Bytes::copy_from_slice(&self.payload));
            self.outputs.push_back(Output::Deliver(Arc::new(packet)));
        }
    }

    /// To the children that follow the stream live. Those in replay get it from the ring.
    fn forward(&mut self, header: &Header, wire: Bytes) {
        if header.starts_keyframe {
            self.keyframe_limiter.keyframe_started(header.ssrc);
        }
        let Some(stream) = self.streams.get_mut(&header.ssrc) else { return };
        let Some(to) = stream.live_destinations(wire.len()) else { return };
        self.outputs.push_back(Output::Media { wire, to: Destinations::Many(to) });
    }

    fn count_repeated(&mut self, ssrc: model::Ssrc, reason: Repeated) {
        match reason {
            Repeated::Held => {
                if let Some(stream) = self.streams.get_mut(&ssrc) {
                    stream.counters_mut().duplicates += 1;
                }
            }
            Repeated::TooOld => self.drops.count(DropReason::TooOld),
        }
    }

    fn reason_without_stream(&self, ssrc: model::Ssrc) -> DropReason {
        let is_retired = self.broadcasts.values().any(|carried| carried.is_retired(ssrc));
        if is_retired { DropReason::OldEpoch } else { DropReason::UnknownStream }
    }
}
