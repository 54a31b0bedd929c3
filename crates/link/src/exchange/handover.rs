//! From one process of a node to the next: rings that are left to it, and what it has to ask for.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use media_core::TreePacket;
use model::{BroadcastId, SeqNo, Ssrc};

use super::downstream::held;
use super::{Exchange, Output};
use crate::wire::GroupKey;
use crate::wire::media::Header;
use crate::wire::message::StreamRange;

/// What is left, in bytes at most: the broadcasts that find no room begin with their next keyframe.
pub const BYTES_MAX: usize = 128 << 20;

/// Most packets of a stream before the newest keyframe that are asked for when a process begins: more than a second of
/// picture, and less than what a gap tracker takes for a new start.
const LACKING_MAX: u64 = 512;
/// Streams of viewers that were here before.
const STREAMS_MAX: usize = 1024;

/// What one process leaves to the next, so that this one repairs, and starts viewers, as that one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    /// What the packets are sealed with.
    pub key: GroupKey,
    /// Media packets as they went to children.
    pub packets: Vec<Bytes>,
}

impl Exchange {
    /// What the rings hold of the broadcasts that are published here, from the newest keyframe on. Nothing may be
    /// published after it.
    #[must_use]
    pub fn hand_over(&self) -> Option<Handover> {
        let (key, _) = self.group_key.as_ref()?;
        let (mut packets, mut bytes) = (Vec::new(), 0);
        for (id, carried) in self.broadcasts.iter().filter(|(_, carried)| carried.is_local) {
            let since = self.keyframe_capture_time(id);
            for (ssrc, _) in carried.ssrcs() {
                let Some(stream) = self.streams.get(&ssrc) else { continue };
                let Some(range) = stream.range_for(None, since) else { continue };
                for wire in stream.packets_from(range.start) {
                    bytes += wire.len();
                    if bytes > BYTES_MAX {
                        return Some(Handover { key: key.clone(), packets });
                    }
                    packets.push(wire);
                }
            }
        }
        Some(Handover { key: key.clone(), packets })
    }

    /// Fills the rings with what the process before this one left; call it when the broadcasts are known again. Nothing
    /// is sent to children: what they lack they ask for. What does not verify is dropped.
    pub fn take_over(&mut self, now: Instant, handover: Handover) {
        let local = self.broadcasts.iter().filter(|(_, carried)| carried.is_local);
        let local: Vec<_> = local.map(|(id, carried)| (id.clone(), carried.broadcast.epoch)).collect();
        for (id, epoch) in local {
            self.install_key(now, &id, epoch, &handover.key);
        }
        let packets = handover.packets.into_iter();
        let restored: Vec<_> = packets.filter_map(|wire| self.restore(now, wire)).collect();
        if self.delivers_locally && !restored.is_empty() {
            self.outputs.push_back(Output::Restored(restored));
        }
    }

    /// Viewers of the process before this one go on here and have this stream up to `newest`, at least: what came between
    /// the two processes is asked for.
    pub fn viewers_have(&mut self, ssrc: Ssrc, newest: SeqNo) {
        if self.viewers_have.len() < STREAMS_MAX || self.viewers_have.contains_key(&ssrc) {
            let known = self.viewers_have.entry(ssrc).or_insert(newest);
            *known = newest.min(*known);
        }
    }

    /// What a parent sends, and before it what viewers and children lack that were here before this process or this join,
    /// as far as the parent has it. Viewers are answered once: whoever comes later begins with a keyframe.
    pub(super) fn with_the_lacking(&mut self, id: &BroadcastId, range: StreamRange) -> StreamRange {
        let viewers = self.viewers_have.remove(&range.ssrc);
        let joins = self.broadcasts.get(id).into_iter().flat_map(|carried| carried.joins.values());
        let children = joins.filter_map(|join| held(&join.resume, range.ssrc));
        let Some(held) = children.chain(viewers).min() else {
            return range;
        };
        let earliest = SeqNo::new(range.start.get().saturating_sub(LACKING_MAX)).max(range.oldest);
        StreamRange { start: held.plus(1).max(earliest).min(range.start), ..range }
    }

    fn restore(&mut self, now: Instant, wire: Bytes) -> Option<Arc<TreePacket>> {
        let header = Header::parse(&wire).ok()?;
        let stream = self.streams.get_mut(&header.ssrc)?;
        stream.check_new(header.seq_no).ok()?;
        let carried = self.broadcasts.get(&stream.broadcast)?;
        carried.keyring.open(&header, &wire, &mut self.payload).ok()?;
        stream.keep(now, &header, wire);
        Some(Arc::new(header.tree_packet(Bytes::copy_from_slice(&self.payload))))
    }
}
