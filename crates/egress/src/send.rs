//! The way out of the shard, and what is at hand wherever a packet is sent.

use std::collections::VecDeque;
use std::time::Instant;

use crate::Event;
use crate::record::{Path, RecordChange, ViewerId};
use crate::stats::Stats;

/// Takes what a shard sends. The shell's is a queue in front of a socket, the simulator's a network.
pub trait SendBatch {
    /// Takes one datagram. `fill` writes it into the buffer of `len_max` bytes that it is given and returns its length;
    /// 0 sends nothing. Consecutive datagrams of equal length on one path may leave in one train (UDP GSO).
    fn datagram(&mut self, path: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize);

    /// Whether records of viewers are kept; without, none are made.
    fn keeps_records(&self) -> bool {
        false
    }

    /// Takes the record of a viewer, or its end. Comes before the first datagram that depends on it: that one must not
    /// leave before the record is written (to memory that outlives the process).
    fn record(&mut self, viewer: ViewerId, change: RecordChange) {
        let _ = (viewer, change);
    }
}

/// What is at hand wherever a packet is sent.
pub struct Sending<'a, B> {
    pub now: Instant,
    pub out: &'a mut B,
    pub stats: &'a mut Stats,
    pub events: &'a mut VecDeque<Event>,
    /// For payloads that are put together first.
    pub payload: &'a mut Vec<u8>,
}
