//! What a track follows, how far it is, and where its packets go.

use std::time::Instant;

use model::{Codec, SeqNo, Ssrc};

use crate::mapping::Segment;
use crate::replay::Replay;
use crate::stats::LayerSwitch;

/// What a track gets its packets from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The RTP stream of the tree.
    pub ssrc: Ssrc,
    /// Its codec's payload type for this viewer.
    pub payload_type: u8,
    /// Ticks of its clock in a second.
    pub clock_rate: u32,
}

impl Source {
    pub const fn new(ssrc: Ssrc, codec: Codec, payload_type: u8) -> Self {
        Self { ssrc, payload_type, clock_rate: codec.clock_rate() }
    }

    pub(super) fn is_of(self, segment: &Segment) -> bool {
        self.ssrc == segment.source && self.payload_type == segment.payload_type
    }
}

/// How far a track is.
#[derive(Debug, Clone, Copy)]
pub enum Phase {
    /// There is no source, or none that the viewer can decode.
    Idle,
    /// For a keyframe, or for the next packet of sound.
    Waiting,
    /// On the way from a cached keyframe to live.
    Replaying(Replay),
    /// Gets every packet as it comes.
    Live,
}

/// Whether a picture is sent at all: a connection may carry sound alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// It is sent.
    Sent,
    /// It is not, and nothing begins it but a change of this.
    Held,
    /// It is to come back with the next keyframe that comes live: what is cached would be sent faster than live.
    Returning,
}

/// Where a source packet goes.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its out sequence number.
    pub seq_no: SeqNo,
    /// The segment that it belongs to.
    pub segment: Segment,
}

/// The layer that a track is to follow with its next keyframe.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub layer: u8,
    pub source: Source,
    pub reason: LayerSwitch,
    /// Since when.
    pub since: Instant,
    /// When to look whether it still waits.
    pub due_at: Option<Instant>,
    /// Its keyframe has come; the frame before it may not be out.
    pub is_due: bool,
    /// What there is has no room at all, and is not sent any more: what of it still came would be in the keyframe's way.
    pub is_urgent: bool,
}
