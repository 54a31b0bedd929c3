//! A thousand nodes on one Redis: what it costs the store, and whether a controller keeps up.
//!
//! Each node is what a real one is to the store: a client of its own that writes a full report each second with a
//! lease, and follows its assignment, the broadcasts and those that were declared. There is no media.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use model::{NodeId, Role, TreeId};
use registry::{
    Assignment, BroadcastRecord, Capacity, DeclaredRecord, Incarnation, Load, NodeRecord, NodeState,
    ParentLink, Registry, Watched,
};
use store::{WatchEvent, Write};
use tests::installation::{Installation, view};
use tests::program::until;
use tests::redis::{PARTS, Redis};

use crate::report::Section;

/// How many of each role: 40 000 viewers at the egress nodes.
const ROLES: [(Role, usize); 3] = [(Role::Injection, 4), (Role::Relay, 64), (Role::Egress, 932)];
const TREE: &str = "large";
const VIEWERS: u32 = 40_000;
/// For how long the store is watched once everything has settled.
const LENGTH: Duration = Duration::from_secs(60);
const LEASE: Duration = Duration::from_secs(10);

pub async fn run() -> anyhow::Result<Section> {
    ensure!(PARTS.iter().all(|part| std::path::Path::new(part).exists()), "no Redis");
    let redis = Redis::server().await?;
    let controller = Installation::new(&redis.url()).node("controller", "controller").start().await?;
    let tree = serde_json::json!({"id": TREE, "nodes_max": 2000});
    let made = reqwest::Client::new().post(controller.url("/api/v1/trees")).json(&tree).send().await?;
    ensure!(made.status() == 201, "make a tree: {}", made.text().await?);
    let counts = Arc::new(Counts::default());
    let mut nodes = Vec::new();
    for (role, count) in ROLES {
        for number in 0..count {
            let node = Node::new(&redis.url(), role, number)?;
            nodes.push(tokio::spawn(node.live(counts.clone())));
        }
    }
    let begun = Instant::now();
    until_settled(&controller, nodes.len()).await?;
    let settled = begun.elapsed();

    let decisions = decisions(&controller).await?;
    let before = Sample::take(&redis, &controller, &counts)?;
    tokio::time::sleep(LENGTH).await;
    let after = Sample::take(&redis, &controller, &counts)?;
    let decided = self::decisions(&controller).await? - decisions;
    let usual = after.since(&before);

    // Every write counts the revision up, and nothing else does.
    let writes = usual.per_second("incr") / nodes.len() as f64;
    let scans: f64 = ["keys", "scan", "sscan", "hscan"].iter().map(|name| usual.per_second(name)).sum();
    let text = format!(
        "\n## A thousand nodes on one Redis\n\n{} nodes ({VIEWERS} viewers), each with its own connections, report each \
         second; one controller decides. All were ready and had their parents after {:.1} s. Over {} s then: {:.2} writes \
         a second and node, {} failed; the slowest report took {} ms; Redis used {:.0} % of a processor, the controller \
         {:.0} %; {scans:.1} scans a second; {decided} decisions. Commands a second: {}.\n",
        nodes.len(),
        settled.as_secs_f64(),
        LENGTH.as_secs(),
        writes,
        usual.failed,
        after.slowest_ms,
        100.0 * usual.redis.as_secs_f64() / LENGTH.as_secs_f64(),
        100.0 * usual.controller.as_secs_f64() / LENGTH.as_secs_f64(),
        usual.commands_in_words()
    );
    nodes.iter().for_each(tokio::task::JoinHandle::abort);
    let mut failures = Vec::new();
    if writes > 1.05 || scans > 0.0 || decided > 0.0 || usual.failed > 0 {
        failures.push(format!(
            "thousand_nodes: {writes:.2} writes, {scans:.1} scans, {decided} decisions, {} failures",
            usual.failed
        ));
    }
    Ok(Section { text, failures })
}

async fn until_settled(controller: &tests::program::Program, nodes: usize) -> anyhow::Result<()> {
    let seen = Mutex::new(String::new());
    let waited = until("every node is ready and has its parents", async || {
        let view = view(controller).await?;
        let listed = view["nodes"].as_array().cloned().unwrap_or_default();
        let ready = listed.iter().filter(|node| node["health"] == "ready");
        // Relays beyond those that are needed have none.
        let has_parents = |node: &&serde_json::Value| {
            node["role"] != "egress" || node["parents"].as_array().is_some_and(|parents| !parents.is_empty())
        };
        let with_parents = ready.clone().filter(has_parents).count();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = format!(
            "{} listed, {} ready, {with_parents} of them with the parents that they need; settled {}; findings {}",
            listed.len(),
            ready.count(),
            view["is_settled"],
            view["findings"],
        );
        // And the controller.
        Ok(with_parents > nodes && view["is_settled"] == true)
    });
    waited.await.with_context(|| seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

async fn decisions(controller: &tests::program::Program) -> anyhow::Result<f64> {
    controller.metric("media_tree_controller_decisions_total{").await
}

/// What the nodes count.
#[derive(Default)]
struct Counts {
    failed: AtomicU64,
    slowest_ms: AtomicU64,
}

/// One node, as the store sees it.
struct Node {
    registry: Registry,
    record: NodeRecord,
    /// Where in the second it reports.
    phase: Duration,
}

impl Node {
    fn new(store: &str, role: Role, number: usize) -> anyhow::Result<Self> {
        let store = store::open(store, &store::Options::default())?;
        let name = format!("{role}-{number}");
        let (viewers, children) = match role {
            Role::Egress => (100, 0),
            _ => (0, 64),
        };
        let watched = Watched { broadcast: model::BroadcastId::new("show")?, viewers: VIEWERS / 932 };
        let record = NodeRecord {
            node: NodeId::new(&name)?,
            tree: TreeId::new(TREE)?,
            role,
            incarnation: Incarnation { counter: 1, random: number as u64 },
            report: 0,
            region: format!("region-{}", number % 3),
            zone: None,
            host: format!("host-{name}"),
            link: Some(format!("10.0.{}.{}:51000", number / 250, number % 250)),
            links: Vec::new(),
            url: Some(format!("https://{name}.example")),
            ops: Some(format!("10.0.{}.{}:9600", number / 250, number % 250)),
            state: NodeState::Ready,
            capacity: Capacity {
                viewers,
                publishers: u32::from(role == Role::Injection) * 10,
                children,
                ..Capacity::default()
            },
            load: Load {
                viewers: if role == Role::Egress { VIEWERS / 932 } else { 0 },
                cpu_percent: Some(20.0),
                transmit_mbps: Some(100.0),
                ..Load::default()
            },
            parents: Vec::new(),
            broadcasts: if role == Role::Egress { vec![watched] } else { Vec::new() },
            advice: Vec::new(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(Self {
            registry: Registry::new(store),
            record,
            phase: Duration::from_millis(number as u64 % 1000),
        })
    }

    async fn live(mut self, counts: Arc<Counts>) -> anyhow::Result<()> {
        let mut assigned = self.registry.watch_one::<Assignment>(self.record.node.as_str())?;
        let mut broadcasts = self.registry.watch::<BroadcastRecord>();
        let mut declared = self.registry.watch::<DeclaredRecord>();
        let mut reports =
            tokio::time::interval_at(tokio::time::Instant::now() + self.phase, Duration::from_secs(1));
        loop {
            tokio::select! {
                event = assigned.next() => self.assigned(event.context("the watch of an assignment ended")?)?,
                event = broadcasts.next() => drop(event.context("the watch of broadcasts ended")?),
                event = declared.next() => drop(event.context("the watch of declared broadcasts ended")?),
                _ = reports.tick() => self.report(&counts).await,
            }
        }
    }

    async fn report(&mut self, counts: &Counts) {
        self.record.report += 1;
        let begun = Instant::now();
        if self.registry.put(&self.record, Write::any().lease(LEASE)).await.is_err() {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        counts.slowest_ms.fetch_max(begun.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Its links are up at once.
    fn assigned(&mut self, event: WatchEvent) -> anyhow::Result<()> {
        match event {
            WatchEvent::Put(record) => self.follow(&record.value),
            WatchEvent::Snapshot(records) => {
                records.into_iter().try_for_each(|record| self.follow(&record.value))
            }
            WatchEvent::Gone(_) => Ok(()),
        }
    }

    fn follow(&mut self, value: &[u8]) -> anyhow::Result<()> {
        let assignment = registry::decode::<Assignment>(value)?;
        let link = |(index, parent): (usize, registry::AssignedParent)| ParentLink {
            node: parent.node,
            is_alive: true,
            joined: u32::from(index < usize::from(assignment.paths)),
            round_trip_ms: Some(1.0),
            packets: 0,
            duplicates: 0,
            repaired: 0,
        };
        self.record.parents = assignment.parents.into_iter().enumerate().map(link).collect();
        Ok(())
    }
}

/// Counters at one moment.
struct Sample {
    /// Calls of each command of Redis.
    commands: BTreeMap<String, u64>,
    redis: Duration,
    controller: Duration,
    failed: u64,
    slowest_ms: u64,
}

impl Sample {
    fn take(redis: &Redis, controller: &tests::program::Program, counts: &Counts) -> anyhow::Result<Self> {
        let calls = |line: &str| {
            let (name, figures) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = figures.split(',').find_map(|figure| figure.strip_prefix("calls="))?;
            Some((name.to_owned(), calls.parse().ok()?))
        };
        let commands = redis.ask(&["INFO", "commandstats"])?.lines().filter_map(calls).collect();
        Ok(Self {
            commands,
            redis: redis.processor_time()?,
            controller: controller.cpu_time(),
            failed: counts.failed.load(Ordering::Relaxed),
            slowest_ms: counts.slowest_ms.load(Ordering::Relaxed),
        })
    }

    fn since(&self, before: &Self) -> Self {
        let calls = |name: &String| before.commands.get(name).copied().unwrap_or(0);
        Self {
            commands: self.commands.iter().map(|(name, count)| (name.clone(), count - calls(name))).collect(),
            redis: self.redis.saturating_sub(before.redis),
            controller: self.controller.saturating_sub(before.controller),
            failed: self.failed - before.failed,
            slowest_ms: self.slowest_ms,
        }
    }

    fn per_second(&self, name: &str) -> f64 {
        self.commands.get(name).copied().unwrap_or(0) as f64 / LENGTH.as_secs_f64()
    }

    fn commands_in_words(&self) -> String {
        let mut used: Vec<(&String, &u64)> = self.commands.iter().filter(|(_, count)| **count > 0).collect();
        used.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let words = used.iter().map(|(name, _)| format!("{name} {:.0}", self.per_second(name)));
        words.collect::<Vec<_>>().join(", ")
    }
}
