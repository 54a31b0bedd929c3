//! Sans-IO RTMP: the server's side of one connection over which a broadcast is published.
//!
//! [`Connection`] takes the bytes of a TCP connection and gives bytes to send and [`Event`]s: somebody wants to publish,
//! here is a coded picture, here is coded sound. Whether the publisher may come in is the shell's decision. Everything
//! is bounded; what breaks a rule ends the connection with an [`Error`] that says which.
//!
//! What is implemented: Adobe's RTMP specification 1.0 as far as encoders use it, both handshakes, AMF0, FLV audio and
//! video tags, Enhanced RTMP (v1 and v2: four-character codes, modifiers, the first of several tracks). Playing, AMF3
//! values and aggregate messages are refused by name. Coded media is handed on as it came: crates
//! `packetize` and `transcode` make RTP payloads of it.
//!
//! Why there is no other crate below: see `docs/decisions/015-rtmp.md`.
//!
//! **API boundary.** Nothing outside this crate knows chunks, AMF or FLV.
#![forbid(unsafe_code)]
// Tests begin at any moment and go on from there by themselves.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod amf0;
mod backlog;
pub mod chunk;
mod connection;
pub mod flv;
mod handshake;
mod publish;
mod timeline;

pub use connection::{Connection, Error, Event, Metadata, Refusal, Stats};
pub use handshake::HandshakeError;
pub use publish::{AddressError, PublishRequest, StreamKey};
