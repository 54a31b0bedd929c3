//! Plain RTP (RFC 3550) as broadcast gear sends it: without WebRTC, without encryption, announced by a file.
//!
//! [`Description`] reads the session description and says what is to be listened to. [`Receiver`] takes the datagrams of
//! one description: it finds the sender and stays with it, puts packets into order, and makes a publisher of them whose
//! runs begin and end with the media. It asks before it publishes; whether it may is decided by others.
//!
//! Sockets, groups of multicast and the time belong to the shell.
#![forbid(unsafe_code)]
// Tests begin at any moment and go on from there by themselves.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod description;
mod receiver;
mod reorder;
mod sender;

pub use description::{Description, DescriptionError, Sources, Track};
pub use receiver::{Event, OTHER_WITHIN, RETRY, Receiver, SILENCE};
