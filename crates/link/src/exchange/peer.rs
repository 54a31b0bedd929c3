//! The other ends of the link channels.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use model::{BroadcastId, Epoch};

use super::budget::Budget;
use super::{HEARTBEAT_INTERVAL, ParentId, PeerId, ROUND_TRIP_INTERVAL};
use crate::wire::message::{Echo, Heartbeat, Hello, Report};

/// What a peer is to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Parent(ParentId),
    Child,
}

/// One connected link channel.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) relation: Relation,
    /// Nothing else is taken from the peer before.
    pub(super) hello: Option<Hello>,
    pub(super) messages: Budget,
    pub(super) resends: Budget,
    pub(super) last_heard: Instant,
    pub(super) round_trip: Option<Duration>,
    pub(super) packets_received: u64,
    pub(super) duplicates: u64,
    pub(super) recovered: u64,
    pub(super) nacked: u64,
    /// What a child says of its link.
    pub(super) report: Report,
    heartbeat: Option<(u64, Instant)>,
    heartbeat_sent: Option<Instant>,
}

impl Peer {
    pub(super) fn new(
        now: Instant,
        relation: Relation,
        address: SocketAddr,
        messages_per_second: u32,
        resends_per_second: u32,
    ) -> Self {
        Self {
            address,
            relation,
            hello: None,
            messages: Budget::new(now, messages_per_second),
            resends: Budget::new(now, resends_per_second),
            last_heard: now,
            round_trip: None,
            packets_received: 0,
            duplicates: 0,
            recovered: 0,
            nacked: 0,
            report: Report::default(),
            heartbeat: None,
            heartbeat_sent: None,
        }
    }

    /// Whether the peer needs a heartbeat though it knows that we are there: for the round trip, which is measured with
    /// every one until it is known.
    pub(super) fn is_heartbeat_due(&self, now: Instant) -> bool {
        let is_due = |sent| sent + ROUND_TRIP_INTERVAL <= now + HEARTBEAT_INTERVAL / 2;
        self.round_trip.is_none() || self.heartbeat_sent.is_none_or(is_due)
    }

    /// Our heartbeat to this peer; `micros` is `now` in the clock that the peer will echo.
    pub(super) fn heartbeat(&mut self, now: Instant, micros: u64) -> Heartbeat {
        self.heartbeat_sent = Some(now);
        let echo = self.heartbeat.map(|(sent_micros, arrived)| Echo {
            sent_micros,
            held_micros: now.saturating_duration_since(arrived).as_micros() as u64,
        });
        Heartbeat { sent_micros: micros, echo }
    }

    /// The peer's heartbeat. An echo that cannot be of ours (from the future) is ignored.
    pub(super) fn on_heartbeat(&mut self, now: Instant, micros: u64, heartbeat: Heartbeat) {
        let is_newer = self.heartbeat.is_none_or(|(sent_micros, _)| sent_micros < heartbeat.sent_micros);
        if !is_newer {
            return;
        }
        self.heartbeat = Some((heartbeat.sent_micros, now));
        let sample = heartbeat
            .echo
            .and_then(|echo| micros.checked_sub(echo.sent_micros)?.checked_sub(echo.held_micros))
            .map(Duration::from_micros);
        // RFC 6298, section 2: seven eighths old, one eighth new.
        self.round_trip = match (self.round_trip, sample) {
            (Some(smoothed), Some(sample)) => Some(smoothed * 7 / 8 + sample / 8),
            (None, Some(sample)) => Some(sample),
            (smoothed, None) => smoothed,
        };
    }
}

/// One parent of the configuration, connected or not.
#[derive(Debug)]
pub(super) struct Parent {
    /// Lower ones are taken first.
    pub(super) priority: u8,
    pub(super) peer: Option<PeerId>,
    /// Nothing heard for too long.
    pub(super) is_silent: bool,
    /// What it offers over the present connection.
    pub(super) offers: BTreeMap<BroadcastId, Offer>,
}

/// A broadcast that a parent has announced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) epoch: Option<Epoch>,
    /// When it last refused to serve it.
    pub(super) refused: Option<Instant>,
}
