//! The viewers of one shard, sans-IO: each tree packet in, each viewer's packets out.
//!
//! A [`Shard`] knows broadcasts, the recent past of their RTP streams, and viewers. What a viewer gets is a function of
//! its [`ViewerRecord`] and the tree packet, so that another process with the same record goes on with the same bytes.
//! It never opens a socket, reads a clock, takes a lock or draws a random number, and allocates nothing for a packet of
//! a viewer. Handshakes, links, HTTP and the choice of a node are left to others.
#![forbid(unsafe_code)]

mod broadcast;
mod budget;
mod controller;
mod counter;
mod estimator;
mod fan_out;
mod feedback;
mod format;
mod handover;
mod hold;
mod layers;
mod mapping;
mod overload;
mod pace;
mod packet;
mod part;
mod record;
mod replay;
mod replays;
mod report;
mod resent;
mod send;
mod shard;
mod stats;
mod stream;
mod ticks;
mod timers;
mod track;
mod trains;
mod transport;
mod viewer;

pub use counter::CounterBlock;
pub use feedback::{Reception, RtcpError};
pub use format::Format;
pub use layers::LayerState;
pub use mapping::{Line, SEGMENTS_MAX, Scale, Segment};
pub use part::Part;
pub use record::{
    DecodeError, Extensions, OutTrack, Path, RecordChange, Selection, TrackRecord, ViewerId, ViewerRecord,
    ViewerSetup,
};
pub use send::SendBatch;
pub use shard::{AddError, Config, Event, Shard};
pub use stats::{
    DropReason, JITTER_BOUNDS_MS, LATENCY_BOUNDS_MS, LOSS_BOUNDS_256, Latency, LayerSwitch,
    ROUND_TRIP_BOUNDS_MS, Reports, Stats, Traffic,
};
