//! Plain numbers about one publisher, for metrics and the dashboard.

use std::time::Duration;

use model::{Bitrate, Codec, Ssrc};

/// What one publisher has sent since it was accepted or resumed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Round trip, where the publisher answers extended reports (RFC 3611, section 4.5).
    pub round_trip: Option<Duration>,
    /// Datagrams that led to nothing.
    pub drops: Drops,
    /// Every RTP stream that the offer announced, in its order.
    pub layers: Vec<LayerStats>,
}

/// Datagrams that led to nothing, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops {
    /// Neither STUN nor DTLS nor RTP nor RTCP, or cut.
    pub malformed: u64,
    /// From an address that has not shown to be the publisher's.
    pub unknown_source: u64,
    /// A payload type that carries nothing the tree takes: telephone events, redundancy, comfort noise.
    pub payload_type: u64,
    /// Of an unknown stream or a repair stream and not authentic, or of one stream too many.
    pub unauthentic: u64,
}

/// What one RTP stream has sent since the publisher was accepted or resumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStats {
    /// Its tree-wide identity.
    pub ssrc: Ssrc,
    /// Packets that became tree packets.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets missing until now; some may yet come.
    pub lost: u64,
    /// Packets that came after a later one: retransmitted or reordered.
    pub recovered: u64,
    /// NACK messages sent; refreshed each second.
    pub nacks: u64,
    /// Keyframe requests sent.
    pub keyframe_requests: u64,
    /// Interarrival jitter (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// Payload bitrate of the last two seconds.
    pub bitrate: Bitrate,
    /// Media time between the last two keyframes.
    pub keyframe_interval: Option<Duration>,
    /// What it is really coded with; `None` before its first packet.
    pub codec: Option<Codec>,
    /// H.264: the three bytes of the sequence parameter set.
    pub profile_level_id: Option<[u8; 3]>,
    /// H.264: width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// H.264: frames that depend on later ones, which browsers do not show well.
    pub b_frames_seen: bool,
}
