//! Media that came before the message that explains it.
//!
//! Media and messages travel by different ways, so the first packets of a join, of a publishing run or of a key
//! generation may overtake the JoinAnswer, Announce or Keys. They wait here, unverified, and are tried again when
//! such a message arrives. Only datagrams from the address of a parent get here.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::stats::{DropReason, Drops};

/// Most datagrams that wait.
const PACKETS_MAX: usize = 4096;
/// Most bytes that wait.
const BYTES_MAX: usize = 4 << 20;
/// How long one waits: several times what a lost message takes to be repeated.
const AGE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Early {
    pub(super) arrived: Instant,
    pub(super) from: SocketAddr,
    pub(super) datagram: Bytes,
    /// What is not known yet.
    pub(super) reason: DropReason,
}

#[derive(Debug, Default)]
pub(super) struct EarlyMedia {
    waiting: VecDeque<Early>,
    bytes: usize,
    /// Those that found no room or waited too long.
    pub(super) dropped: Drops,
}

impl EarlyMedia {
    /// Keeps a datagram, if there is room.
    pub(super) fn push(&mut self, early: Early) {
        self.expire(early.arrived);
        if self.waiting.len() == PACKETS_MAX || self.bytes + early.datagram.len() > BYTES_MAX {
            self.dropped.count(early.reason);
            return;
        }
        self.bytes += early.datagram.len();
        self.waiting.push_back(early);
    }

    /// Takes out everything that is not too old.
    pub(super) fn take(&mut self, now: Instant) -> VecDeque<Early> {
        self.expire(now);
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// Drops what waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.waiting.front()
            && now.saturating_duration_since(oldest.arrived) > AGE_MAX
        {
            self.bytes -= oldest.datagram.len();
            self.dropped.count(oldest.reason);
            self.waiting.pop_front();
        }
    }
}
