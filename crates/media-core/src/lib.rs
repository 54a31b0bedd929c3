//! Sans-IO media plane shared by every role: RTP and RTCP, codec inspection, rings, gap repair.
//!
//! Never opens a socket, reads a clock or draws a random number.
#![forbid(unsafe_code)]

pub mod packet;

pub use packet::TreePacket;
