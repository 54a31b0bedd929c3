//! What this node reports each second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use model::BroadcastId;
use registry::{
    ADVICE_MAX, Advice, BROADCASTS_MAX, Load, NodeRecord, NodeState, ParentLink, Registry, RegistryError,
    Versioned, Watched,
};
use store::{Expect, PutError, Version, Write};

use super::{Control, Published, network};
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
    let (mut number, mut was_up, mut standing) = (0, true, Standing::New);
    let mut stop = control.stop.subscribe();
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            // Whoever leaves says so at once: the process may not live until the next report.
            Ok(()) = stop.changed() => {}
        }
        let is_leaving = *stop.borrow();
        number += 1;
        let load = meter.load(&app, &control);
        let record = record(&app, &control, published.as_deref(), (number, load));
        let put = tell(&control.registry, &record, &mut standing).await;
        match (&put, was_up) {
            (Ok(()), false) => tracing::info!("the store answers again"),
            (Err(error), true) => {
                tracing::warn!(%error, "the store does not answer; media, parents and viewers stay as they are");
            }
            (Ok(()), true) | (Err(_), false) => {}
        }
        was_up = put.is_ok();
        if is_leaving && was_up {
            control.parted.send_replace(true);
        }
    }
}

/// How this process stands among those with its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not told of itself.
    New,
    /// Its record is this one.
    Told(Version),
    /// A later process has its name.
    Superseded,
}

/// Writes the record, unless a later process has taken the name: then this one is silent until that one is gone.
async fn tell(
    registry: &Registry,
    record: &NodeRecord,
    standing: &mut Standing,
) -> Result<(), RegistryError> {
    let expect = match standing {
        Standing::New => Expect::Any,
        Standing::Told(version) => Expect::Version(*version),
        Standing::Superseded => Expect::Absent,
    };
    let put = match registry.put(record, Write::expecting(expect).lease(LEASE)).await {
        Err(RegistryError::Put(PutError::Conflict { current })) => {
            let current = current.and_then(|current| Versioned::<NodeRecord>::of(&current).ok());
            if let Some(other) = current.filter(|other| other.record.incarnation > record.incarnation) {
                if std::mem::replace(standing, Standing::Superseded) != Standing::Superseded {
                    let host = other.record.host;
                    tracing::warn!(
                        host,
                        "a process that started later has the name of this node, which goes by it no more"
                    );
                }
                return Ok(());
            }
            // Its record ran out, or the answer to its last write was lost.
            registry.put(record, Write::any().lease(LEASE)).await
        }
        put => put,
    };
    *standing = Standing::Told(put?);
    Ok(())
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
        link: about.links.first().cloned(),
        links: about.links,
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
    fn load(&mut self, app: &App, control: &Control) -> Load {
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
        let viewers = u32::try_from(app.occupied()).unwrap_or(u32::MAX);
        let connected: u64 = app.directory.viewers().into_iter().map(|(_, viewers)| viewers).sum();
        let is_limited = network::is_limited(&control.about.capacity);
        let promised = is_limited.then(|| network::of_viewers(app, control));
        // Of the first second nothing is known yet. A node without viewers has sent nothing before it.
        let rates = rates.or((viewers == 0).then_some((0.0, 0.0)));
        Load {
            viewers,
            connected: Some(u32::try_from(connected).unwrap_or(u32::MAX)),
            publishers: publishers as u32,
            children: app.metrics.tree.children() as u32,
            cpu_percent: Some(usage.cpu_percent),
            shard_percent: Some(busiest * 100.0),
            transmit_mbps: rates.map(|(mbps, _)| mbps),
            packets_per_second: rates.map(|(_, packets)| packets),
            promised_mbps: promised.map(|promised| promised.kbps as f64 / 1000.0),
            promised_packets_per_second: promised.map(|promised| promised.packets as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{NodeId, Role, TreeId};
    use registry::{Capacity, Incarnation};

    use super::*;

    fn record(counter: u64) -> NodeRecord {
        NodeRecord {
            node: NodeId::new("out").expect("an id"),
            tree: TreeId::new("main").expect("an id"),
            role: Role::Egress,
            incarnation: Incarnation { counter, random: 1 },
            report: 1,
            region: String::new(),
            zone: None,
            host: format!("host-{counter}"),
            link: None,
            links: Vec::new(),
            url: None,
            ops: None,
            state: NodeState::Ready,
            capacity: Capacity::default(),
            load: Load::default(),
            parents: Vec::new(),
            broadcasts: Vec::new(),
            advice: Vec::new(),
            version: String::new(),
        }
    }

    #[tokio::test]
    async fn of_two_with_one_name_the_later_one_is_the_node() {
        let store = store::open("embedded", &store::Options::default()).expect("a store");
        let registry = Registry::new(store);
        let host =
            || async { registry.get::<NodeRecord>("out").await.expect("read").map(|it| it.record.host) };
        let (mut of_first, mut of_second) = (Standing::New, Standing::New);
        tell(&registry, &record(1), &mut of_first).await.expect("told");
        tell(&registry, &record(2), &mut of_second).await.expect("told");
        tell(&registry, &record(1), &mut of_first).await.expect("told");
        assert_eq!((of_first, host().await.as_deref()), (Standing::Superseded, Some("host-2")));
        tell(&registry, &record(2), &mut of_second).await.expect("told");
        registry.delete::<NodeRecord>("out", Expect::Any).await.expect("deleted");
        tell(&registry, &record(2), &mut of_second).await.expect("told again");
        assert_eq!(host().await.as_deref(), Some("host-2"));
        registry.delete::<NodeRecord>("out", Expect::Any).await.expect("deleted");
        tell(&registry, &record(1), &mut of_first).await.expect("told");
        assert_eq!(host().await.as_deref(), Some("host-1"), "the later one is gone");
        assert!(matches!(of_first, Standing::Told(_)));
    }
}
