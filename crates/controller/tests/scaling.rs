//! A controller whose provisioner fails or hangs: it goes on looking, counts what did not come, and gives it up.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use controller::{
    Controller, Declared, FrontDoor, Handle, Identity, InstallationView, Mode, Policy, Scaling,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use model::{NodeId, TreeId};
use provision::{Listed, NodeSpec, Phase, Provisioner, StartError, Unanswered};
use registry::{NodeRecord, Registry, SlotsRecord};
use serde_json::json;
use store::{Embedded, Sealer, Write};

/// Longer than a busy machine takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts nothing, in one way or another.
#[derive(Debug, Default)]
struct Broken {
    hangs: AtomicBool,
    works: AtomicBool,
    asked: AtomicU64,
    started: Mutex<Vec<NodeSpec>>,
}

impl Provisioner for Broken {
    fn place(&self) -> &str {
        "process.broken"
    }

    fn start_node<'a>(&'a self, spec: &'a NodeSpec) -> BoxFuture<'a, Result<(), StartError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.works.load(Ordering::Relaxed) {
            self.started.lock().expect("lock").push(spec.clone());
            return std::future::ready(Ok(())).boxed();
        }
        if self.hangs.load(Ordering::Relaxed) {
            return std::future::pending().boxed();
        }
        std::future::ready(Err(StartError::Failed("no memory".into()))).boxed()
    }

    fn stop_node<'a>(&'a self, node: &'a NodeId) -> BoxFuture<'a, Result<(), Unanswered>> {
        self.started.lock().expect("lock").retain(|spec| spec.node != *node);
        std::future::ready(Ok(())).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Listed>, Unanswered>> {
        let started = self.started.lock().expect("lock").clone();
        let listed = started.into_iter().map(|spec| Listed { spec, phase: Phase::Running, failures: 0 });
        std::future::ready(Ok(listed.collect())).boxed()
    }
}

struct Installation {
    registry: Registry,
    handle: Handle,
    broken: Arc<Broken>,
}

fn record(node: &str, role: &str, report: u64) -> NodeRecord {
    serde_json::from_value(json!({
        "node": node, "tree": "main", "role": role, "incarnation": { "counter": 1, "random": 2 }, "report": report,
        "region": "eu", "zone": null, "host": "rack7", "link": "127.0.0.1:1", "url": "http://127.0.0.1:1", "ops": null,
        "state": "ready", "capacity": { "viewers": 100, "publishers": 1, "children": 64 },
        "load": {
            "viewers": 0, "publishers": 0, "children": 0, "cpu_percent": 1.0, "shard_percent": 1.0,
            "transmit_mbps": 1.0, "packets_per_second": 1.0
        },
        "parents": [], "broadcasts": [], "version": "0.1.0"
    }))
    .expect("a record")
}

impl Installation {
    /// A tree with an injection and an egress node that report each second, and whatever was started with them.
    async fn new(broken: Broken) -> Self {
        let registry = Registry::new(Arc::new(Embedded::in_memory()));
        let tree = TreeId::new("main").expect("a name");
        let declared = Arc::new(Declared::new(registry.clone(), Sealer::new(b"cluster")));
        let front_door = FrontDoor::new(registry.clone(), tree.clone(), "eu".into(), declared);
        let identity = Identity {
            id: NodeId::new("controller-1").expect("a name"),
            candidate: 7,
            is_alone: true,
            default_tree: tree,
        };
        let broken = Arc::new(broken);
        let policy = Policy {
            mode: Mode::Automatic,
            out_permille: 750,
            in_permille: 400,
            lead: Duration::from_secs(60),
            cool_down: Duration::from_secs(60),
            healthy_within: Duration::from_secs(5),
            drain_within: Duration::from_secs(60),
            starts_per_hour: 100,
        };
        let (controller, handle) = Controller::new(registry.clone(), identity, Arc::new(front_door));
        let controller = controller.with_scaling(Scaling { policy, provisioner: broken.clone() });
        tokio::spawn(controller.run(std::future::pending()));
        let (reporting, nodes) = (registry.clone(), broken.clone());
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(1));
            for report in 1.. {
                tick.tick().await;
                let mut records = vec![record("in", "injection", report), record("out", "egress", report)];
                let started = nodes.started.lock().expect("lock").clone();
                records.extend(
                    started.iter().map(|spec| record(spec.node.as_str(), spec.role.as_str(), report)),
                );
                for record in records {
                    reporting.put(&record, Write::any()).await.expect("written");
                }
            }
        });
        Self { registry, handle, broken }
    }

    /// Waits until operators see it so.
    async fn until_view(&mut self, what: &str, is_so: impl Fn(&InstallationView) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.handle.view()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.handle.view());
            assert!(self.handle.changed().await, "the controller looks");
        }
    }

    /// Waits until a slot of the tree is so.
    async fn until_slot(&mut self, what: &str, is_so: impl Fn(&registry::SlotEntry) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let slots = self.registry.get::<SlotsRecord>("main").await.expect("the store answers");
            let slots = slots.map(|found| found.record.slots).unwrap_or_default();
            if slots.iter().any(&is_so) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {slots:?}");
            assert!(self.handle.changed().await, "the controller looks");
        }
    }
}

#[tokio::test]
async fn a_warm_slot_is_written_before_it_is_started_and_is_no_part_of_the_tree() {
    let broken = Broken { works: true.into(), ..Broken::default() };
    let mut installation = Installation::new(broken).await;
    installation.until_slot("a warm slot", |slot| slot.state == "warm").await;
    let slots =
        installation.registry.get::<SlotsRecord>("main").await.expect("read").expect("there").record.slots;
    let warm = slots.iter().find(|slot| slot.state == "warm").expect("the warm one");
    let relay = &warm.nodes[0].node;
    let started = installation.broken.started.lock().expect("lock").clone();
    assert_eq!(started.iter().map(|spec| &spec.node).collect::<Vec<_>>(), [relay]);
    let assigned = installation.registry.get::<registry::Assignment>(relay.as_str()).await.expect("read");
    assert!(assigned.is_none(), "it takes media from nobody");
    let relay = relay.to_string();
    installation.until_view("operators see it", |view| view.nodes.iter().any(|node| node.id == relay)).await;
    installation.until_view("and its slot", |view| view.slots.iter().any(|slot| slot.state == "warm")).await;
}

#[tokio::test]
async fn a_provisioner_that_fails_or_hangs_stops_nothing_else() {
    for hangs in [false, true] {
        let broken = Broken { hangs: hangs.into(), ..Broken::default() };
        let mut installation = Installation::new(broken).await;
        installation.until_slot("it is given up", |slot| slot.failures == 1 && slot.state == "cold").await;
        assert!(installation.broken.asked.load(Ordering::Relaxed) > 0);
        // A start that hangs is not begun again while it does.
        assert!(!hangs || installation.broken.asked.load(Ordering::Relaxed) == 1);
        let is_told =
            |view: &InstallationView| view.findings.iter().any(|finding| finding.contains("no warm slot"));
        installation.until_view("it says why", is_told).await;
    }
}
