//! Plain numbers about one publisher, for metrics and the dashboard.

use std::time::{Duration, Instant};

use media_core::codec::Profile;
use model::{Bitrate, Codec, Kind, Ssrc};

use crate::facts::Facts;

/// What one publisher has sent since it was accepted or resumed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Stats {
    /// How far it has come.
    pub connection: Connection,
    /// Round trip, where the publisher answers extended reports (RFC 3611, section 4.5).
    pub round_trip: Option<Duration>,
    /// By how many seconds the picture arrives later than sound that was captured at the same moment; negative if
    /// earlier. Known once both have told what their clocks show.
    pub picture_delay: Option<f64>,
    /// Datagrams that led to nothing.
    pub drops: Drops,
    /// Every RTP stream that the offer announced, in its order.
    pub layers: Vec<LayerStats>,
}

/// How far a publisher has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Connection {
    /// Nothing of it has come by UDP that proves to be its own.
    Awaited,
    /// Its connectivity checks come, and no more.
    Heard,
    /// Media can flow over UDP.
    Connected,
    /// Media comes over a connection that loses nothing (RTMP).
    #[default]
    Reliable,
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
    /// Plain RTP: came twice, or after it was given up.
    pub late: u64,
    /// Plain RTP: a payload above what the tree carries, of a form that cannot be cut.
    pub too_large: u64,
    /// Plain RTP: while it may not be published, because somebody else publishes the broadcast.
    pub not_published: u64,
    /// Data channels: more datagrams than a publisher may send beside its media.
    pub channel_rate: u64,
}

impl Drops {
    /// Counts these, too.
    pub const fn add(&mut self, more: &Self) {
        self.malformed += more.malformed;
        self.unknown_source += more.unknown_source;
        self.payload_type += more.payload_type;
        self.unauthentic += more.unauthentic;
        self.late += more.late;
        self.too_large += more.too_large;
        self.not_published += more.not_published;
        self.channel_rate += more.channel_rate;
    }
}

/// What one RTP stream has sent since the publisher was accepted or resumed.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerStats {
    /// Its tree-wide identity.
    pub ssrc: Ssrc,
    /// Sound or picture.
    pub kind: Kind,
    /// Its place among the layers of its kind, as the offer lists them.
    pub layer: u8,
    /// Packets that became tree packets.
    pub packets: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Packets missing until now; some may yet come.
    pub lost: u64,
    /// Packets that were waited for in vain.
    pub given_up: u64,
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
    /// When the newest keyframe came, or the first packet if none has come; `None` before that, and for sound.
    pub keyframe_at: Option<Instant>,
    /// What it is really coded with; `None` before its first packet.
    pub codec: Option<Codec>,
    /// H.264: the three bytes of the sequence parameter set.
    pub profile_level_id: Option<[u8; 3]>,
    /// H.265, VP9 and AV1: what a decoder must be made for, as the bitstream says.
    pub profile: Option<Profile>,
    /// H.264: width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// What its packets say of the encoder and the way.
    pub facts: Facts,
}
