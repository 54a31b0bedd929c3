//! Sans-IO publisher peer and broadcast origin: WHIP media turned into tree packets.
//!
//! [`Publisher`] terminates one publisher's WebRTC session; [`Encoded`] makes tree packets of media that comes in another
//! way, over RTMP; [`Plain`] of RTP that comes without WebRTC; [`Origin`] decides which publishing run a broadcast is in.
//! None of them knows a socket, a clock, HTTP or the tree: the shell feeds them and carries out what they say.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as ingest;

mod encoded;
mod facts;
mod origin;
mod plain;
mod publisher;
mod stream;

pub use encoded::{Encoded, Payload};
pub use facts::Facts;
pub use origin::{Origin, OriginConfig, OriginOutput, PublisherId, Refused, SecondPublisher};
pub use plain::{Plain, PlainPacket, PlainTrack};
pub use publisher::{
    AcceptError, Certificate, CloseReason, Connection, DecodeError, Drops, IceCredentials, Identity,
    LayerStats, Output, Publisher, PublisherRecord, ResumeError, Setup, Stats,
};
