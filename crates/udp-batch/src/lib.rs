//! Batched UDP send and receive; the only unsafe code. Knows datagrams, not what is in them.
//!
//! [`Socket`] is one bound, non-blocking UDP socket that knows on which of the machine's addresses a datagram came in
//! and can answer from that very address. [`ReceiveBatch`] takes up to [`BATCH`] datagrams with one system call, or trains
//! of them as the kernel or the network card joined them (GRO).
//! [`SendQueue`] collects what one turn of a thread wants to send and hands it to the kernel with as few system calls,
//! and as few *messages*, as possible: the kernel's cost is per message, and UDP segmentation offload (GSO) makes
//! neighbouring datagrams of one path a single message.
//!
//! Linux only. It leaves polling to its user: [`Socket`] is `AsRawFd`. `quinn-udp` was looked at and does not fit: it
//! sends to one destination per call, and a fan-out sends to a thousand.

#[cfg(not(target_os = "linux"))]
compile_error!("udp-batch is written for Linux: sendmmsg, recvmmsg, IP_PKTINFO, UDP_SEGMENT");

mod address;
mod control;
mod receive;
mod send;
mod socket;
mod sys;

pub use receive::{DATAGRAM_MAX, ReceiveBatch, Received};
pub use send::{Flushed, QUEUE_BYTES_MAX, SEGMENTS_MAX, SendQueue};
pub use socket::{Options, Socket};
pub use sys::BATCH;
