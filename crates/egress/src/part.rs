//! The part of a stream of several layers that a viewer gets, and which numbers its packets have.
//!
//! A number is told by the counts that travel with each packet ([`media_core::svc`]), not by what came before it: so it is
//! the same for a packet that is late, repeated, or sent by another process.

use std::sync::Arc;

use media_core::svc::Svc;
use media_core::{Ring, TreePacket};
use model::SeqNo;

use crate::mapping::Segment;

/// Counts are 16 bits long, so that they say nothing of packets this far into a segment.
const SPAN: u64 = 1 << 16;
/// A segment that goes on for so many packets of its source is followed by one that says the same from there on. Whoever
/// resumes asks for packets from the beginning of a segment on, so it is short.
const RENEWAL: u64 = 1 << 12;

/// Which part of a source a segment is about, where that is not the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The point of the stream, 1 being the best one.
    pub point: u8,
    /// Generation of the counts.
    pub generation: u8,
    /// Count of the point before the segment's first packet.
    pub count: u16,
}

impl Part {
    /// The part of this point that begins with a packet of this description; `None` for the whole stream.
    #[must_use]
    pub fn beginning(point: u8, svc: &Svc) -> Option<Self> {
        (point > 0).then(|| Self { point, generation: svc.generation, count: svc.count(point) })
    }
}

/// Where a source packet is in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It has this out sequence number.
    At(SeqNo),
    /// It is left out.
    LeftOut,
    /// The segment says nothing of it.
    Outside,
}

impl Segment {
    /// The point of the source that the viewer gets, 0 being the whole.
    #[must_use]
    pub fn point(&self) -> u8 {
        self.part.map_or(0, |part| part.point)
    }

    /// Where a source packet is in the segment, whose end is not looked at.
    #[must_use]
    pub fn fit(&self, seq_no: SeqNo, svc: Option<Svc>) -> Fit {
        let has_number = self.part.is_none_or(|part| svc.is_some_and(|svc| svc.has_number(part.point)));
        match self.next_out(seq_no, svc) {
            Some(out) if has_number => Fit::At(out),
            Some(_) => Fit::LeftOut,
            None => Fit::Outside,
        }
    }

    /// The out sequence number of this source packet, or, if that is left out, of the next one that is not. `None` if the
    /// segment says nothing of it.
    #[must_use]
    pub fn next_out(&self, seq_no: SeqNo, svc: Option<Svc>) -> Option<SeqNo> {
        let steps = seq_no.get().checked_sub(self.source_base.get())?;
        let Some(part) = self.part else { return Some(self.first_out.plus(steps)) };
        let svc = svc.filter(|svc| svc.generation == part.generation && steps < SPAN)?;
        let counted = u64::from(svc.count(part.point).wrapping_sub(part.count));
        // More than there were packets cannot have been counted.
        (counted <= steps).then(|| self.first_out.plus(counted))
    }

    /// The out sequence number of the source packet `next`, before which the segment's part has counted so much.
    #[must_use]
    pub fn out_of_next(&self, next: SeqNo, counted: u16) -> Option<SeqNo> {
        let Some(part) = self.part else { return self.next_out(next, None) };
        Some(self.first_out.plus(u64::from(counted.wrapping_sub(part.count))))
    }

    /// The packet with this out sequence number, if the ring has it.
    #[must_use]
    pub fn find<'a>(&self, out: SeqNo, ring: &'a Ring<Arc<TreePacket>>) -> Option<&'a TreePacket> {
        let steps = out.get().checked_sub(self.first_out.get())?;
        let Some(part) = self.part else {
            return ring.get(self.source_base.plus(steps)).map(|packet| &**packet);
        };
        let wanted = u16::try_from(steps).ok()?;
        let is_before = |packet: &Arc<TreePacket>| {
            let svc = packet.svc.filter(|svc| svc.generation == part.generation);
            svc.is_some_and(|svc| svc.count_after(part.point).wrapping_sub(part.count) <= wanted)
        };
        let (seq_no, packet) = ring.first_from(self.source_base, is_before)?;
        (self.fit(seq_no, packet.svc) == Fit::At(out)).then_some(&**packet)
    }

    /// The count of the segment's part after a packet of it; 0 of a whole stream.
    #[must_use]
    pub fn count_after(&self, packet: &TreePacket) -> u16 {
        let counted = self.part.zip(packet.svc);
        counted.map_or(0, |(part, svc)| svc.count_after(part.point))
    }

    /// Whether nothing that the viewer should get is missing between `next`, before which so much was counted, and this
    /// packet of the segment.
    #[must_use]
    pub fn is_next(&self, (next, counted): (SeqNo, u16), packet: &TreePacket) -> bool {
        match self.part {
            None => packet.seq_no == next,
            Some(part) => packet.svc.is_some_and(|svc| svc.count(part.point) == counted),
        }
    }

    /// Whether a segment that says the same should begin with this packet.
    #[must_use]
    pub fn is_due_for_renewal(&self, seq_no: SeqNo) -> bool {
        self.part.is_some() && seq_no.get().saturating_sub(self.source_base.get()) >= RENEWAL
    }

    /// Whether the viewer gets the payload of a packet that has a number. One that came too late to be known as needless
    /// has one, and is sent without.
    #[must_use]
    pub fn wants(&self, packet: &TreePacket) -> bool {
        self.part.is_none_or(|part| packet.svc.is_some_and(|svc| svc.needs(part.point)))
    }

    /// The RTP marker for the viewer: whether its picture ends with this packet.
    #[must_use]
    pub fn marker(&self, packet: &TreePacket) -> bool {
        let Some(part) = self.part else { return packet.marker };
        let ends = packet.svc.is_some_and(|svc| svc.ends_picture(part.point));
        self.wants(packet) && (packet.marker || ends)
    }
}
