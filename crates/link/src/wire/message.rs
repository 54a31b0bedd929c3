//! What parent and child tell each other over the link channel.
//!
//! Encoding: type (8 bits), then fields (tag 8 bits, length 16 bits, value; see `fields.rs` for the rules). A message
//! of unknown type is ignored, an unknown field is skipped, so a newer minor version can add both. Everything is
//! bounded: no message is longer than [`MESSAGE_BYTES_MAX`], and one that travels unreliably fits a QUIC datagram
//! on a path of 1200 bytes.

use std::sync::Arc;

use model::{Bitrate, Broadcast, BroadcastId, Epoch, JoinName, NodeId, NtpTime, Role, SeqNo, Ssrc};

use super::{DecodeError, GroupKey, Version, encoding};

/// Longest encoded message, bytes: a broadcast with all its tracks and layers at their bounds.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Most sequence numbers that one [`Nack`] asks for; 1042 bytes, so that it fits a datagram.
pub const NACK_SEQ_NOS_MAX: usize = 128;
/// Most tracks of a broadcast.
pub const TRACKS_MAX: usize = 4;
/// Most layers of a track.
pub const LAYERS_MAX: usize = 8;
/// Most RTP streams of a broadcast.
pub const STREAMS_MAX: usize = TRACKS_MAX * LAYERS_MAX;
/// Longest format parameters of a track, bytes.
pub const FMTP_BYTES_MAX: usize = 1024;
/// Longest body of a [`Cue`], bytes.
pub const CUE_BYTES_MAX: usize = 4096;
/// Most key generations that are valid at once: the current one and the one before.
pub const KEYS_MAX: usize = 2;

/// One start of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Incarnation {
    /// Grows by one with each start, where the node can remember it.
    pub counter: u64,
    /// Drawn at random.
    pub random: u64,
}

/// First message of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The wire format that the sender speaks.
    pub version: Version,
    /// Who it is.
    pub node: NodeId,
    /// What it does.
    pub role: Role,
    /// Which run of its process this is.
    pub incarnation: Incarnation,
}

/// Child to parent: send me this broadcast. Repeated each second as long as that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// For each RTP stream of which the child holds packets: the newest one. What came after it is sent first.
    pub resume: Vec<Held>,
    /// What whoever made the child join is called, for logs and traces of those above it.
    pub cause: Option<JoinName>,
    /// RTP streams that the child does not need now. What is not named is sent, so that nothing new has to be asked for; a
    /// child of an earlier version names none. What it needs again is answered with a [`JoinAnswer`], as a join is.
    pub without: Vec<Ssrc>,
}

/// What a child has of an RTP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The stream.
    pub ssrc: Ssrc,
    /// The newest packet that it holds.
    pub newest: SeqNo,
}

/// Parent to child: you have joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinAnswer {
    /// The broadcast as the parent knows it; the packet format is the same for all of them.
    pub broadcast: Broadcast,
    /// The keys that packets in the ring and packets to come are sealed with, current one first: 1 to [`KEYS_MAX`].
    pub keys: Vec<GroupKey>,
    /// The rings that hold packets which the child needs; after a change of what it needs, those of the streams that it
    /// needs again.
    pub streams: Vec<StreamRange>,
}

/// What a parent's ring holds of an RTP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRange {
    /// The stream.
    pub ssrc: Ssrc,
    /// Oldest packet in the ring.
    pub oldest: SeqNo,
    /// Newest packet in the ring.
    pub newest: SeqNo,
    /// First packet of the newest keyframe in the ring.
    pub keyframe: Option<SeqNo>,
    /// The packet that the parent starts to send with, because of what the child holds.
    pub start: SeqNo,
}

/// Why a parent does not serve a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinRefusal {
    /// It does not know the broadcast.
    UnknownBroadcast,
    /// It serves as many joins as it can.
    Full,
    /// A reason that this version does not know.
    Other,
}

/// Parent to child: media will be sealed under this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// The publishing run that the key belongs to; a key of a later run supersedes.
    pub epoch: Option<Epoch>,
    /// The key.
    pub key: GroupKey,
}

/// Child to parent: send these packets again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The stream.
    pub ssrc: Ssrc,
    /// What is missing: 1 to [`NACK_SEQ_NOS_MAX`].
    pub seq_nos: Vec<SeqNo>,
}

/// Both ways each 100 ms: I am here. The echo lets the receiver compute the round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// When it was sent, microseconds of the sender's own clock; means nothing to anybody else.
    pub sent_micros: u64,
    /// The newest heartbeat that the sender has received, if any.
    pub echo: Option<Echo>,
}

/// A heartbeat sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// `sent_micros` of that heartbeat.
    pub sent_micros: u64,
    /// How long it lay here, microseconds.
    pub held_micros: u64,
}

/// Child to parent each second: how the link does. Totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Media packets that came from this parent first, since the link channel was connected.
    pub received: u64,
    /// Packets that the child has given up, whoever should have sent them; of the streams that it has now.
    pub lost: u64,
    /// Packets that filled a gap of theirs.
    pub recovered: u64,
}

/// Parent to child each second, of a picture with several layers: how much there is of each, whether the child takes it
/// or not. A child does without a layer only as long as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Its layers, as far as their rates are known.
    pub streams: Vec<StreamRate>,
}

/// How much there is of an RTP stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRate {
    /// The stream.
    pub ssrc: Ssrc,
    /// Payload per second of late; zero if nothing came for a second.
    pub rate: Bitrate,
}

/// Parent to child: a caption or other timed data of a broadcast that the child has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cue {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// The publishing run that it belongs to.
    pub epoch: Epoch,
    /// Grows with each cue of the run, so that one that comes from two parents is taken once.
    pub number: u64,
    /// When it was captured, in the clock of the packets' capture times.
    pub captured: NtpTime,
    /// What it says, at most [`CUE_BYTES_MAX`]; not understood here.
    pub body: Arc<str>,
}

/// A message of the link channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First message of both sides.
    Hello(Hello),
    /// Parent to child: this broadcast exists, and this is what it consists of now.
    Announce(Broadcast),
    /// Parent to child: this broadcast has ended for good.
    Retire(BroadcastId),
    /// Child to parent: send me a broadcast; also the refresh.
    Join(Join),
    /// Parent to child: you have joined.
    JoinAnswer(JoinAnswer),
    /// Parent to child: you have not.
    JoinRefused {
        /// The broadcast.
        broadcast: BroadcastId,
        /// Why.
        reason: JoinRefusal,
    },
    /// Child to parent: stop sending this broadcast.
    Leave(BroadcastId),
    /// Parent to child: a new key generation.
    Keys(Keys),
    /// Child to parent: send packets again.
    Nack(Nack),
    /// Child to parent: somebody needs a keyframe of this stream.
    KeyframeRequest(Ssrc),
    /// Both ways: I am here.
    Heartbeat(Heartbeat),
    /// Child to parent: how the link does.
    Report(Report),
    /// Parent to child: how much there is of each layer.
    Rates(Rates),
    /// Parent to child: a caption or other timed data.
    Cue(Cue),
}

impl Message {
    /// Whether it goes over the channel's ordered stream; else it goes as a datagram, because a later one replaces
    /// it and a late one is worthless.
    #[must_use]
    pub const fn is_reliable(&self) -> bool {
        match self {
            Self::Hello(_)
            | Self::Announce(_)
            | Self::Retire(_)
            | Self::Join(_)
            | Self::JoinAnswer(_)
            | Self::JoinRefused { .. }
            | Self::Leave(_)
            | Self::Keys(_)
            | Self::KeyframeRequest(_)
            | Self::Rates(_)
            | Self::Cue(_) => true,
            Self::Nack(_) | Self::Heartbeat(_) | Self::Report(_) => false,
        }
    }

    /// Appends the encoded message to `out`. Lists beyond their bounds are cut; nobody but this program makes them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encoding::encode(self, out);
    }

    /// Reads a message; `None` if its type is one that this version does not know.
    ///
    /// # Errors
    /// [`DecodeError`] says which rule `bytes` break.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, DecodeError> {
        encoding::decode(bytes)
    }
}
