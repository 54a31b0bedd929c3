//! Who was not let in, and what an operator's server heard of this node.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::labels::{Closed, Label, closed, counters};
use crate::own_names;

closed! {
    /// Why a request was not let in.
    AccessRefusal, "reason" {
        /// It had no token.
        TokenMissing = "token_missing",
        /// Its token is not one of ours.
        TokenRejected = "token_rejected",
        /// Its token has expired, or is not valid yet.
        TokenExpired = "token_expired",
        /// Its token is good, but for something else.
        Insufficient = "insufficient",
        /// Its ticket is forged, expired, or for something else.
        TicketRejected = "ticket_rejected",
        /// Its ticket was used before.
        TicketUsed = "ticket_used",
        /// Whoever decides could not be asked.
        Unavailable = "unavailable",
    }
}

closed! {
    /// What became of an event for an operator's server.
    EventOutcome, "result" {
        /// The server took it.
        Delivered = "delivered",
        /// One attempt failed; there may be more.
        AttemptFailed = "attempt_failed",
        /// Given up: it was too old, or too many waited.
        Dropped = "dropped",
    }
}

/// Handles of these metrics. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Metrics {
    refusals: Family<Label<AccessRefusal>, Counter>,
    events: Family<Label<EventOutcome>, Counter>,
    events_waiting: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self { refusals: counters(), events: counters(), events_waiting: Gauge::default() };
        let own = own_names(registry);
        own.register("access_refusals", "Requests that were not let in", metrics.refusals.clone());
        own.register("webhook_events", "Events for the operator's server", metrics.events.clone());
        own.register(
            "webhook_events_waiting",
            "Events that the operator's server has not taken yet",
            metrics.events_waiting.clone(),
        );
        metrics
    }

    /// A request was not let in.
    pub fn refused(&self, reason: AccessRefusal) {
        self.refusals.get_or_create(&Label(reason)).inc();
    }

    /// Something became of an event.
    pub fn event(&self, outcome: EventOutcome) {
        self.events.get_or_create(&Label(outcome)).inc();
    }

    /// So many events wait.
    pub fn events_waiting(&self, count: usize) {
        self.events_waiting.set(count as i64);
    }
}
