//! Publishers.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::advice::{Advice, AdviceCollector};
use crate::collect::Name;
use crate::drops::{DropCollector, DropCounters};
use crate::egress::JOIN_SECONDS;
use crate::labels::{CueResult, JoinResult, Label, WaitResult, counters};
use crate::own_names;
use crate::publishers::{Published, PublishedCollector};

/// Handles of the publishers' metrics.
#[derive(Debug)]
pub struct Metrics {
    sessions: Gauge,
    publishes: Family<Label<JoinResult>, Counter>,
    connect_seconds: Histogram,
    take_overs: Counter,
    cues: Cues,
    waits: Waits,
    drops: Arc<DropCounters>,
    published: Arc<Published>,
    advice: Arc<Advice>,
}

/// Counts captions and other timed data of publishers.
#[derive(Debug, Clone)]
pub struct Cues(Family<Label<CueResult>, Counter>);

impl Cues {
    /// Counts one, by what became of it.
    pub fn count(&self, result: CueResult) {
        self.0.get_or_create(&Label(result)).inc();
    }
}

/// Counts publishers that found no place at once. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Waits {
    waiting: Gauge,
    results: Family<Label<WaitResult>, Counter>,
}

impl Default for Waits {
    fn default() -> Self {
        Self { waiting: Gauge::default(), results: counters() }
    }
}

impl Waits {
    /// One waits from now on.
    pub fn began(&self) {
        self.waiting.inc();
    }

    /// One that waited does so no more.
    pub fn ended(&self, result: WaitResult) {
        self.count(result);
        self.waiting.dec();
    }

    /// Counts one, by how it went on.
    pub fn count(&self, result: WaitResult) {
        self.results.get_or_create(&Label(result)).inc();
    }
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry, drop_reasons: &[&'static str]) -> Self {
        let drops = DropCounters::new(
            Name("injection_drops", "What publishers sent that was not used"),
            drop_reasons,
        );
        let metrics = Self {
            sessions: Gauge::default(),
            publishes: counters(),
            connect_seconds: Histogram::new(JOIN_SECONDS),
            take_overs: Counter::default(),
            cues: Cues(counters()),
            waits: Waits::default(),
            drops: drops.clone(),
            published: Arc::default(),
            advice: Arc::default(),
        };
        let own = own_names(registry);
        own.register("whip_sessions", "WHIP sessions that exist, connected or not", metrics.sessions.clone());
        own.register("publishes", "Publishers that came, by how it ended", metrics.publishes.clone());
        own.register(
            "publish_connect_seconds",
            "From a publisher's POST to media being able to flow",
            metrics.connect_seconds.clone(),
        );
        own.register(
            "publisher_take_overs",
            "Publishers that replaced another one of the same broadcast",
            metrics.take_overs.clone(),
        );
        own.register(
            "cues",
            "Captions and other timed data that publishers sent, by what became of them",
            metrics.cues.0.clone(),
        );
        own.register(
            "publishers_waiting",
            "Publishers whose answer is held for some seconds, because there is no place for them at the moment",
            metrics.waits.waiting.clone(),
        );
        own.register(
            "publisher_waits",
            "Publishers that found no place at once, by how it went on",
            metrics.waits.results.clone(),
        );
        own.register_collector(Box::new(DropCollector(drops)));
        own.register_collector(Box::new(PublishedCollector(metrics.published.clone())));
        own.register_collector(Box::new(AdviceCollector(metrics.advice.clone())));
        metrics
    }

    /// Shows how many WHIP sessions exist.
    pub fn sessions(&self, count: usize) {
        self.sessions.set(count as i64);
    }

    /// Counts how a publisher's POST ended.
    pub fn publish(&self, result: JoinResult) {
        self.publishes.get_or_create(&Label(result)).inc();
    }

    /// Counts a publisher that is connected, `after` its POST.
    pub fn connected(&self, after: Duration) {
        self.publish(JoinResult::Connected);
        self.connect_seconds.observe(after.as_secs_f64());
    }

    /// Counts a publisher that replaced another.
    pub fn take_over(&self) {
        self.take_overs.inc();
    }

    /// Counts captions and other timed data.
    #[must_use]
    pub fn cues(&self) -> Cues {
        self.cues.clone()
    }

    /// Counts publishers that found no place at once.
    #[must_use]
    pub fn waits(&self) -> Waits {
        self.waits.clone()
    }

    /// Where the thread that has the publishers shows what they send.
    #[must_use]
    pub fn published(&self) -> Arc<Published> {
        self.published.clone()
    }

    /// Where it is shown what publishers are advised.
    #[must_use]
    pub fn advice(&self) -> Arc<Advice> {
        self.advice.clone()
    }

    /// Where the publishers' core says what it dropped.
    #[must_use]
    pub fn drops(&self) -> Arc<DropCounters> {
        self.drops.clone()
    }
}
