//! What this node reports each second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::BroadcastId;
use registry::{ADVICE_MAX, Advice, BROADCASTS_MAX, Load, NodeRecord, NodeState, ParentLink, Watched};
use store::Write;

use super::{Control, Published};
use crate::http::App;

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);
/// A record that is not renewed for so long disappears.
const LEASE: Duration = Duration::from_secs(10);

/// Reports for ever.
pub async fn report(app: Arc<App>, control: Arc<Control>, published: Option<Arc<Published>>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut meter = Meter::default();
    let (mut number, mut was_up) = (0, true);
    let mut stop = control.stop.subscribe();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            // Whoever leaves says so at once: the process may not live until the next report.
            Ok(()) = stop.changed() => {}
        }
        let is_leaving = *stop.borrow();
        number += 1;
        let record = record(&app, &control, published.as_deref(), (number, meter.load(&app)));
        let put = control.registry.put(&record, Write::any().lease(LEASE)).await;
        match (&put, was_up) {
            (Ok(_), false) => tracing::info!("the store answers again"),
            (Err(error), true) => {
                tracing::warn!(%error, "the store does not answer; media, parents and viewers stay as they are");
            }
            (Ok(_), true) | (Err(_), false) => {}
        }
        was_up = put.is_ok();
        if is_leaving && was_up {
            control.parted.send_replace(true);
        }
    }
}

fn record(
    app: &App,
    control: &Control,
    published: Option<&Published>,
    (report, load): (u64, Load),
) -> NodeRecord {
    let about = control.about.clone();
    let is_draining = app.is_draining.load(Ordering::Relaxed);
    NodeRecord {
        node: about.node,
        tree: about.tree,
        role: about.role,
        incarnation: about.incarnation,
        report,
        region: about.region,
        zone: about.zone,
        host: about.host,
        link: about.link,
        url: Some(about.url),
        ops: Some(about.ops),
        state: if is_draining { NodeState::Draining } else { NodeState::Ready },
        capacity: about.capacity,
        load: Load { publishers: published.map_or(0, |it| it.live() as u32).max(load.publishers), ..load },
        parents: parents(app),
        broadcasts: watched(app),
        advice: advice(app),
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn parents(app: &App) -> Vec<ParentLink> {
    let parents = app.metrics.tree.parents();
    let link = |parent: link::exchange::ParentStats| {
        Some(ParentLink {
            node: parent.node?,
            is_alive: parent.is_alive,
            joined: parent.joined as u32,
            round_trip_ms: parent.round_trip.map(|time| time.as_secs_f64() * 1000.0),
            packets: parent.packets_received,
            duplicates: parent.duplicates,
            repaired: parent.recovered,
        })
    };
    parents.into_iter().filter_map(link).collect()
}

fn advice(app: &App) -> Vec<Advice> {
    let all = app.advice.of_broadcasts().into_iter().flat_map(|(broadcast, advice)| {
        advice.into_iter().map(move |one| Advice {
            broadcast: broadcast.clone(),
            code: one.code.into(),
            severity: one.severity.into(),
            what: one.what,
            remedy: one.remedy.into(),
        })
    });
    all.take(ADVICE_MAX).collect()
}

fn watched(app: &App) -> Vec<Watched> {
    let mut watched: Vec<(u64, BroadcastId)> =
        app.directory.viewers().into_iter().map(|(broadcast, viewers)| (viewers, broadcast)).collect();
    watched.sort_by(|left, right| right.cmp(left));
    watched.truncate(BROADCASTS_MAX);
    let entry =
        |(viewers, broadcast)| Watched { broadcast, viewers: u32::try_from(viewers).unwrap_or(u32::MAX) };
    watched.into_iter().map(entry).collect()
}

/// Rates are differences: what was counted at the report before.
#[derive(Default)]
struct Meter {
    cpu: telemetry::process::Sampler,
    before: Option<(Instant, u64, u64)>,
}

impl Meter {
    fn load(&mut self, app: &App) -> Load {
        let now = Instant::now();
        let usage = self.cpu.sample(now);
        let (bytes, datagrams) = app.metrics.sent();
        let rate = |count: u64, before: u64, time: Duration| {
            count.saturating_sub(before) as f64 / time.as_secs_f64()
        };
        let rates = self.before.map(|(then, bytes_then, datagrams_then)| {
            let time = (now - then).max(Duration::from_millis(1));
            (rate(bytes, bytes_then, time) * 8.0 / 1e6, rate(datagrams, datagrams_then, time))
        });
        self.before = Some((now, bytes, datagrams));
        let busiest = app.shards.iter().map(|shard| shard.load.share()).fold(0.0, f64::max);
        let (publishers, _) = app.sessions.counts();
        Load {
            viewers: u32::try_from(app.occupied()).unwrap_or(u32::MAX),
            publishers: publishers as u32,
            children: app.metrics.tree.children() as u32,
            cpu_percent: Some(usage.cpu_percent),
            shard_percent: Some(busiest * 100.0),
            // Of the first second nothing is known yet; the node has sent nothing before it.
            transmit_mbps: Some(rates.map_or(0.0, |(mbps, _)| mbps)),
            packets_per_second: Some(rates.map_or(0.0, |(_, packets)| packets)),
        }
    }
}
