//! What players report of themselves: the glass side of quality.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::egress::JOIN_SECONDS;
use crate::labels::{Closed, Label, closed, counters};
use crate::own_names;

/// Buckets of the time from capture to screen: 500 ms is what the tree promises (95 of 100), above 2 s it is no live
/// picture.
const LATENCY_SECONDS: [f64; 12] = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.0, 4.0, 8.0];

/// Buckets of loss: 0.1 % is what the tree promises.
const LOSS_RATIOS: [f64; 9] = [0.0, 0.000_5, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25];

closed! {
    /// What became of a player's report.
    ReportResult, "result" {
        /// It counts.
        Taken = "taken",
        /// It is no report, or says what cannot be.
        Malformed = "malformed",
        /// There were too many of them: of its session, of its address, or of all.
        TooOften = "too_often",
        /// Its session had ended, and its last words were said.
        Late = "late",
        /// It is of no session that this node has.
        UnknownSession = "unknown_session",
    }
}

/// What a player tells of the time since its report before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// From its POST to its first picture on the screen; told once.
    pub first_frame: Option<Duration>,
    /// From capture to screen, now.
    pub latency: Option<Duration>,
    /// Time that the report covers.
    pub watched: Duration,
    /// Times that the picture stood still.
    pub freezes: u64,
    /// For how long altogether.
    pub frozen: Duration,
    /// Packets that came.
    pub packets_received: u64,
    /// Packets that did not.
    pub packets_lost: u64,
}

/// Handles of these metrics.
#[derive(Debug)]
pub struct Metrics {
    reports: Family<Label<ReportResult>, Counter>,
    first_frame_seconds: Histogram,
    latency_seconds: Histogram,
    loss_ratio: Histogram,
    freezes: Counter,
    freeze_seconds: Counter<f64, AtomicU64>,
    watched_seconds: Counter<f64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reports: counters(),
            first_frame_seconds: Histogram::new(JOIN_SECONDS),
            latency_seconds: Histogram::new(LATENCY_SECONDS),
            loss_ratio: Histogram::new(LOSS_RATIOS),
            freezes: Counter::default(),
            freeze_seconds: Counter::default(),
            watched_seconds: Counter::default(),
        };
        let own = own_names(registry);
        own.register("player_reports", "Reports of players, by what became of them", metrics.reports.clone());
        own.register(
            "player_first_frame_seconds",
            "From a player's POST to its first picture on the screen",
            metrics.first_frame_seconds.clone(),
        );
        own.register(
            "player_latency_seconds",
            "From capture to screen as players tell it, each report once; their clocks are part of it",
            metrics.latency_seconds.clone(),
        );
        own.register(
            "player_loss_ratio",
            "Part of the packets that a player lost since its report before",
            metrics.loss_ratio.clone(),
        );
        own.register("player_freezes", "Times that players' pictures stood still", metrics.freezes.clone());
        own.register(
            "player_freeze_seconds",
            "Time for which players' pictures stood still",
            metrics.freeze_seconds.clone(),
        );
        own.register(
            "player_watched_seconds",
            "Time that players' reports cover",
            metrics.watched_seconds.clone(),
        );
        metrics
    }

    /// Something became of a report; of one that counts, [`Metrics::taken`] tells.
    pub fn report(&self, result: ReportResult) {
        self.reports.get_or_create(&Label(result)).inc();
    }

    /// A report counts.
    pub fn taken(&self, report: &Report) {
        self.report(ReportResult::Taken);
        if let Some(time) = report.first_frame {
            self.first_frame_seconds.observe(time.as_secs_f64());
        }
        if let Some(latency) = report.latency {
            self.latency_seconds.observe(latency.as_secs_f64());
        }
        let packets = report.packets_received + report.packets_lost;
        if packets > 0 {
            self.loss_ratio.observe(report.packets_lost as f64 / packets as f64);
        }
        self.freezes.inc_by(report.freezes);
        self.freeze_seconds.inc_by(report.frozen.as_secs_f64());
        self.watched_seconds.inc_by(report.watched.as_secs_f64());
    }
}
