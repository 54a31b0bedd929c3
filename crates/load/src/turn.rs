//! What a viewer may use in one turn of its thread: the time, randomness, the way out, the counters.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use model::NtpTime;
use rand::rngs::StdRng;
use udp_batch::SendQueue;

use crate::histogram::Histogram;
use crate::ledger::Accounts;

/// One turn for one viewer.
pub(crate) struct Turn<'a> {
    pub(crate) now: Instant,
    /// The same moment on the wall.
    pub(crate) wallclock: NtpTime,
    pub(crate) random: &'a mut StdRng,
    pub(crate) out: &'a mut SendQueue,
    pub(crate) tally: &'a mut Tally,
}

impl Turn<'_> {
    /// Queues a datagram that `fill` writes.
    pub(crate) fn send(&mut self, to: SocketAddr, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        self.out.push(IpAddr::V4(Ipv4Addr::UNSPECIFIED), to, len_max, fill);
    }

    /// Queues a datagram.
    pub(crate) fn send_bytes(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.send(to, bytes.len(), |room| {
            room.copy_from_slice(bytes);
            bytes.len()
        });
    }
}

/// RTP as it arrived, in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    /// Datagrams, those sent again included.
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) verified: u64,
    pub(crate) unverified: u64,
    pub(crate) failed_verification: u64,
    /// Dropped here on purpose, not counted above.
    pub(crate) injected_losses: u64,
}

impl Traffic {
    pub(crate) fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.verified += other.verified;
        self.unverified += other.unverified;
        self.failed_verification += other.failed_verification;
        self.injected_losses += other.injected_losses;
    }
}

/// One-way delays.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    pub(crate) packet: Histogram,
    /// Of the last packet of each frame.
    pub(crate) frame: Histogram,
    /// From the socket of our own publisher.
    pub(crate) transit: Histogram,
}

/// What one thread has counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Since when the window is open.
    pub(crate) window: Option<Instant>,
    pub(crate) traffic: Traffic,
    /// Since the start, for the progress.
    pub(crate) packets_ever: u64,
    pub(crate) bytes_ever: u64,
    pub(crate) joins: Histogram,
    pub(crate) first_frames: Histogram,
    pub(crate) latencies: Latencies,
    pub(crate) accounts: Accounts,
}

impl Tally {
    pub(crate) fn received(&mut self, bytes: usize) {
        self.packets_ever += 1;
        self.bytes_ever += bytes as u64;
        if self.window.is_some() {
            self.traffic.packets += 1;
            self.traffic.bytes += bytes as u64;
        }
    }

    /// Runs on the counters of the window, if it is open.
    pub(crate) fn in_window(&mut self, count: impl FnOnce(&mut Traffic)) {
        if self.window.is_some() {
            count(&mut self.traffic);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.traffic.merge(other.traffic);
        self.joins.merge(&other.joins);
        self.first_frames.merge(&other.first_frames);
        self.latencies.packet.merge(&other.latencies.packet);
        self.latencies.frame.merge(&other.latencies.frame);
        self.latencies.transit.merge(&other.latencies.transit);
        self.accounts.tracks.extend(other.accounts.tracks);
        self.accounts.stalls.merge(other.accounts.stalls);
    }
}

/// How long before `arrival` the time `sent` was; `None` if clocks disagree so much that it was after it.
pub(crate) fn since(arrival: NtpTime, sent: NtpTime) -> Option<Duration> {
    (arrival >= sent).then(|| arrival.saturating_since(sent))
}
