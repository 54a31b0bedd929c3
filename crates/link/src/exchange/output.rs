//! What an exchange asks its shell to do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use media_core::TreePacket;
use model::{Bitrate, Broadcast, BroadcastId, JoinName, NodeId, Ssrc};

use super::{ParentId, PeerId};
use crate::wire::Version;
use crate::wire::message::{Cue, Message};

/// One thing to do. In order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Send a message over the link channel of `peer`; [`Message::is_reliable`] says how. A channel that is gone in
    /// the meantime swallows it.
    Send {
        /// The channel.
        peer: PeerId,
        /// What to send.
        message: Message,
    },
    /// Send the same datagram to each address.
    Media {
        /// The datagram.
        wire: Bytes,
        /// Where to.
        to: Destinations,
    },
    /// Hand a packet to the egress shards of this node.
    Deliver(Arc<TreePacket>),
    /// Let the egress shards of this node keep packets that the process before this one has delivered.
    Restored(Vec<Arc<TreePacket>>),
    /// Tell the egress shards of this node of layers that do not come, since nobody here or below needs them, and how much
    /// there is of each. What they hold of them is of the past. Repeated each second as long as that holds.
    LeftOut(Vec<(Ssrc, Bitrate)>),
    /// Tell the viewers of this node a caption or other timed data.
    Cue(Cue),
    /// A broadcast is new here, or consists of something else now.
    BroadcastChanged(Broadcast),
    /// A broadcast is gone for good.
    BroadcastRetired(BroadcastId),
    /// Ask the publisher connected to this node for a keyframe of this stream.
    KeyframeWanted {
        /// The stream.
        ssrc: Ssrc,
    },
    /// Close the link channel of `peer`, which the exchange has already forgotten.
    Disconnect {
        /// The channel.
        peer: PeerId,
        /// Why.
        reason: DisconnectReason,
    },
    /// Something worth a line in the log.
    Event(Event),
}

/// The children that get a packet. The packets of a broadcast share one list while nobody joins or leaves it, so that
/// those of one batch can be sent to each child as one train.
#[derive(Debug, Clone)]
pub enum Destinations {
    /// A single child: replay or resend.
    One(SocketAddr),
    /// All children that follow the stream live; at least one. Layers that not everybody needs have lists of their own.
    Many(Arc<[SocketAddr]>),
}

impl Destinations {
    /// Their addresses.
    #[must_use]
    pub fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }
}

/// Why a link channel must be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The peer speaks another major version.
    Version(Version),
    /// The peer is this very node.
    Itself,
    /// The node is a parent already: a link in each direction would be a loop.
    Loop(NodeId),
    /// The same node has connected anew; this is its older channel.
    Replaced(NodeId),
    /// The parent was removed from the configuration.
    Removed,
}

/// What happened to parents and origins; for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A parent has said nothing for [`super::SILENCE_MAX`].
    ParentSilent(ParentId),
    /// A silent parent speaks again.
    ParentHeard(ParentId),
    /// A broadcast now comes from other parents.
    ParentsChanged {
        /// The broadcast.
        broadcast: BroadcastId,
        /// Where it came from.
        before: Vec<ParentId>,
        /// Where it comes from.
        after: Vec<ParentId>,
    },
    /// A child takes a broadcast from now on.
    ChildJoined {
        /// The broadcast.
        broadcast: BroadcastId,
        /// Its name, once it has said hello.
        child: Option<NodeId>,
        /// What whoever made it join is called.
        cause: Option<JoinName>,
    },
    /// A child that takes a broadcast has what it needs to begin: the keys, and what the rings hold.
    ChildAnswered {
        /// The broadcast.
        broadcast: BroadcastId,
        /// Its name, once it has said hello.
        child: Option<NodeId>,
        /// What whoever made it join is called.
        cause: Option<JoinName>,
        /// Since it joined: a node that had nothing of the broadcast had to join its own parents first.
        after: Duration,
    },
    /// Another injection node has published a later run of a broadcast that is published here.
    OriginSuperseded(BroadcastId),
}
