//! Sans-IO media plane shared by every role: RTP and RTCP, codec inspection, rings, gap repair.
//!
//! Never opens a socket, reads a clock or draws a random number.
#![forbid(unsafe_code)]
// Tests begin at any moment and go on from there by themselves.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod codec;
pub mod gap;
pub mod keyframe_request;
pub mod packet;
pub mod rate;
pub mod ring;
pub mod rtcp;
pub mod rtp;
pub mod svc;
pub mod time;
mod vp9_descriptor;

pub use gap::GapTracker;
pub use keyframe_request::KeyframeLimiter;
pub use packet::TreePacket;
pub use ring::Ring;
pub use svc::Svc;
