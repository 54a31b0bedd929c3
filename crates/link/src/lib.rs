//! Wire format and state of the parent-child links, sans-IO. Knows no QUIC connection and no socket.
//!
//! [`wire`] fixes the bytes: media packets and link channel messages. [`exchange`] is the heart of a node: it takes
//! packets from publishers and parents, keeps them in rings, and decides who gets them.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod wire;
