//! One RTP stream of a broadcast as the shard keeps it: its recent past and what is known about its pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::TreePacket;
use media_core::rate::RateMeter;
use media_core::ring::{Inserted, Limits, Ring};
use model::{Bitrate, Kind, NtpTime, SeqNo, Ssrc};

use crate::stats::DropReason;

/// Bitrate is measured over this time: many frames, and soon known.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// The newest packet of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// Its place.
    pub seq_no: SeqNo,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// When it was captured.
    pub capture_time: NtpTime,
    /// When it came.
    pub at: Instant,
}

/// One RTP stream.
pub struct Stream {
    pub ssrc: Ssrc,
    pub kind: Kind,
    pub ring: Ring<Arc<TreePacket>>,
    pub newest: Option<Newest>,
    keyframe_at: Option<Instant>,
    keyframe_interval: Option<Duration>,
    keyframe_asked_at: Option<Instant>,
    rate: RateMeter,
}

impl Stream {
    pub fn new(ssrc: Ssrc, kind: Kind, limits: Limits) -> Self {
        Self {
            ssrc,
            kind,
            ring: Ring::new(limits),
            newest: None,
            keyframe_at: None,
            keyframe_interval: None,
            keyframe_asked_at: None,
            rate: RateMeter::new(RATE_WINDOW),
        }
    }

    /// Puts a packet into the ring; returns whether it is the newest one.
    pub fn insert(&mut self, now: Instant, packet: &Arc<TreePacket>) -> Result<bool, DropReason> {
        match self.ring.insert(now, packet.seq_no, packet.payload.len(), packet.clone()) {
            Inserted::New => {}
            Inserted::Duplicate => return Err(DropReason::Duplicate),
            Inserted::TooOld => return Err(DropReason::TooLate),
        }
        self.rate.add(now, packet.payload.len());
        if packet.starts_keyframe && self.kind == Kind::Video {
            self.ring.mark_keyframe(packet.seq_no);
        }
        let is_newest = self.newest.is_none_or(|newest| newest.seq_no < packet.seq_no);
        if is_newest {
            let TreePacket { seq_no, timestamp, capture_time, .. } = **packet;
            self.newest = Some(Newest { seq_no, timestamp, capture_time, at: now });
            if packet.starts_keyframe {
                self.keyframe_interval = self.keyframe_at.map(|before| now.saturating_duration_since(before));
                self.keyframe_at = Some(now);
            }
        }
        Ok(is_newest)
    }

    /// Payload bits per second of late; zero if nothing came.
    pub fn rate(&mut self, now: Instant) -> Bitrate {
        self.rate.rate(now)
    }

    /// The packet that starts the newest keyframe of the ring.
    pub fn keyframe(&self) -> Option<&Arc<TreePacket>> {
        self.ring.get(self.ring.newest_keyframe()?)
    }

    /// When the next keyframe should come, if the publisher goes on as before.
    pub fn next_keyframe_at(&self) -> Option<Instant> {
        Some(self.keyframe_at? + self.keyframe_interval?)
    }

    /// Whether to ask for a keyframe now: not more often than `interval`.
    pub fn ask_keyframe(&mut self, now: Instant, interval: Duration) -> bool {
        let is_due = self.keyframe_asked_at.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if is_due {
            self.keyframe_asked_at = Some(now);
        }
        is_due
    }
}
