//! Counters of an exchange: plain numbers that only grow, but for those that say how much there is now.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{BroadcastId, Kind, NodeId};

use super::{ParentId, PeerId};
use crate::wire::message::Report;

/// Everything there is to know.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Per broadcast; gone with it.
    pub broadcasts: BTreeMap<BroadcastId, BroadcastStats>,
    /// Per parent, connected or not.
    pub parents: BTreeMap<ParentId, ParentStats>,
    /// Per connected child.
    pub children: BTreeMap<PeerId, ChildStats>,
    /// What was not processed, by reason.
    pub drops: Drops,
}

/// One broadcast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BroadcastStats {
    /// Children that have joined now.
    pub destinations: usize,
    /// Parents that it comes from now.
    pub parents: usize,
    /// RTP streams that come now, from parents or a publisher here: all of them, but for layers that nobody needs.
    pub streams: usize,
    /// It is live and its packets are to come: it is published here, or somebody here or below takes it.
    pub is_due: bool,
    /// Published here, or offered by a parent that is heard.
    pub is_offered: bool,
    /// Its sound.
    pub audio: StreamStats,
    /// Its picture, all layers.
    pub video: StreamStats,
}

impl BroadcastStats {
    pub(super) const fn of_mut(&mut self, kind: Kind) -> &mut StreamStats {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

/// RTP streams of one kind of one broadcast, over all its publishing runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Packets taken from a local publisher or from parents, each counted once.
    pub packets_received: u64,
    /// Their datagrams, bytes.
    pub bytes_received: u64,
    /// Packets sent to children, each copy counted.
    pub packets_sent: u64,
    /// Their datagrams, bytes.
    pub bytes_sent: u64,
    /// Packets received again that were held already.
    pub duplicates: u64,
    /// Packets given up.
    pub lost: u64,
    /// Packets that filled a gap, asked for or only late.
    pub recovered: u64,
    /// Packets asked for, each time counted.
    pub nacked: u64,
    /// Packets that children asked for.
    pub nacks_received: u64,
    /// Packets sent again because a child asked for them, or was seen to lack them.
    pub resent: u64,
    /// Keyframe requests from viewers here and from children.
    pub keyframe_requests_received: u64,
    /// Keyframe requests passed on, to a parent or to the publisher.
    pub keyframe_requests_forwarded: u64,
    /// Packets in the rings now.
    pub ring_packets: usize,
    /// Their datagrams, bytes.
    pub ring_bytes: usize,
    /// When the oldest of them came.
    pub ring_since: Option<Instant>,
}

impl StreamStats {
    pub(super) fn add(&mut self, other: &Self) {
        self.packets_received += other.packets_received;
        self.bytes_received += other.bytes_received;
        self.packets_sent += other.packets_sent;
        self.bytes_sent += other.bytes_sent;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
        self.recovered += other.recovered;
        self.nacked += other.nacked;
        self.nacks_received += other.nacks_received;
        self.resent += other.resent;
        self.keyframe_requests_received += other.keyframe_requests_received;
        self.keyframe_requests_forwarded += other.keyframe_requests_forwarded;
        self.ring_packets += other.ring_packets;
        self.ring_bytes += other.ring_bytes;
        self.ring_since = self.ring_since.into_iter().chain(other.ring_since).min();
    }
}

/// One parent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParentStats {
    /// Its name, once it has said hello.
    pub node: Option<NodeId>,
    /// Its link channel is connected and it is not silent.
    pub is_alive: bool,
    /// Broadcasts that come from it now.
    pub joined: usize,
    /// Smoothed round trip of the link.
    pub round_trip: Option<Duration>,
    /// Media packets that came from it first, since its channel was connected.
    pub packets_received: u64,
    /// Media packets that came from it after they had come before, likewise.
    pub duplicates: u64,
    /// Gaps that its packets filled, likewise.
    pub recovered: u64,
    /// Packets asked of it, each time counted, likewise.
    pub nacked: u64,
}

/// One child.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildStats {
    /// Its name, once it has said hello.
    pub node: Option<NodeId>,
    /// Broadcasts that it has joined now.
    pub joined: usize,
    /// Smoothed round trip of the link.
    pub round_trip: Option<Duration>,
    /// Its newest report.
    pub report: Report,
}

/// Why something was not processed; the value of the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Media from an address that is no connected parent's.
    UnknownAddress,
    /// Media that is no tree packet.
    Malformed,
    /// Media or a hello of another major version.
    Version,
    /// Media or a request for a broadcast or RTP stream that is not known here; media after it has waited in vain for
    /// the message that explains it.
    UnknownStream,
    /// Media of a publishing run that a later one has followed.
    OldEpoch,
    /// Media of a broadcast that this node has not joined, or of a layer that it does without; a request by a child that
    /// has not joined, or does without.
    NotJoined,
    /// Media under a key generation that is not known here, after it has waited in vain for the key.
    UnknownGeneration,
    /// Media that does not verify.
    Forged,
    /// Media older than what the ring holds.
    TooOld,
    /// A published packet before there was a key, or one that cannot be sealed.
    Unsealable,
    /// A message above the peer's budget.
    MessageRate,
    /// A message before the hello, or one that this kind of peer must not send.
    MessageUnexpected,
    /// The description of a publishing run that a later one has followed.
    StaleBroadcast,
    /// A broadcast above the bound.
    BroadcastLimit,
    /// An RTP stream above the bound, or with the SSRC of another broadcast's stream.
    StreamLimit,
    /// A resend above the child's budget.
    ResendRate,
    /// A request for a packet that the ring does not hold.
    NotHeld,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::UnknownAddress,
        Self::Malformed,
        Self::Version,
        Self::UnknownStream,
        Self::OldEpoch,
        Self::NotJoined,
        Self::UnknownGeneration,
        Self::Forged,
        Self::TooOld,
        Self::Unsealable,
        Self::MessageRate,
        Self::MessageUnexpected,
        Self::StaleBroadcast,
        Self::BroadcastLimit,
        Self::StreamLimit,
        Self::ResendRate,
        Self::NotHeld,
    ];

    /// The word of the label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAddress => "unknown_address",
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::UnknownStream => "unknown_stream",
            Self::OldEpoch => "old_epoch",
            Self::NotJoined => "not_joined",
            Self::UnknownGeneration => "unknown_generation",
            Self::Forged => "forged",
            Self::TooOld => "too_old",
            Self::Unsealable => "unsealable",
            Self::MessageRate => "message_rate",
            Self::MessageUnexpected => "message_unexpected",
            Self::StaleBroadcast => "stale_broadcast",
            Self::BroadcastLimit => "broadcast_limit",
            Self::StreamLimit => "stream_limit",
            Self::ResendRate => "resend_rate",
            Self::NotHeld => "not_held",
        }
    }
}

/// A counter for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// How often for this reason.
    #[must_use]
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(super) const fn count(&mut self, reason: DropReason) {
        self.0[reason as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }
}
