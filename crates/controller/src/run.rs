//! One controller: watches, decides each second, acts while it leads.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use model::{NodeId, TreeId};
use registry::{
    Assignment, BroadcastRecord, DecisionsRecord, LeaderRecord, NodeRecord, Registry, SlotsRecord, TreeRecord,
};
use store::{StoreState, Watch, WatchEvent, Write};
use telemetry::controller::NodeState;
use tokio::sync::watch;
use tree::template::Template;
use tree::topology::{Plan, decide};
use tree::{Health, Observation};

use crate::act::{Actor, AudienceTold};
use crate::declared::Declared;
use crate::elect::{self, Elector};
use crate::front_door::FrontDoor;
use crate::observer::Observer;
use crate::scaling::{Scaler, Scaling};
use crate::view::{self, InstallationView};

/// How often the lease is looked after.
const ELECTION_INTERVAL: Duration = Duration::from_millis(100);
/// How often everything is looked at.
const DECIDE_INTERVAL: Duration = Duration::from_secs(1);
/// A controller that stops gives its lease back within this time, or lets it run out.
const RESIGN_WITHIN: Duration = Duration::from_millis(600);

/// A controller that is not running yet.
pub struct Controller {
    registry: Registry,
    me: NodeId,
    candidate: u128,
    is_alone: bool,
    default_tree: TreeId,
    front_door: Arc<FrontDoor>,
    shared: Arc<Shared>,
    changed: watch::Sender<()>,
    metrics: telemetry::controller::Metrics,
    scaling: Option<Scaling>,
}

struct Shared {
    view: RwLock<Arc<InstallationView>>,
}

/// How the rest of a process sees its controller.
#[derive(Clone)]
pub struct Handle {
    registry: Registry,
    declared: Arc<Declared>,
    default_tree: TreeId,
    shared: Arc<Shared>,
    changed: watch::Receiver<()>,
}

impl Handle {
    /// The installation as it was within the last second.
    #[must_use]
    pub fn view(&self) -> Arc<InstallationView> {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until [`Handle::view`] is another one. False if the controller has stopped.
    pub async fn changed(&mut self) -> bool {
        self.changed.changed().await.is_ok()
    }

    /// The records.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Broadcasts that are made ahead of their first publisher.
    #[must_use]
    pub const fn declared(&self) -> &Arc<Declared> {
        &self.declared
    }

    /// The tree that is meant where nobody names one.
    #[must_use]
    pub const fn default_tree(&self) -> &TreeId {
        &self.default_tree
    }
}

/// Who a controller is.
pub struct Identity {
    /// Its name.
    pub id: NodeId,
    /// Drawn at random for this run.
    pub candidate: u128,
    /// Nobody else can reach the store.
    pub is_alone: bool,
    /// The tree that is made from the standard template if a node belongs to it.
    pub default_tree: TreeId,
}

impl Controller {
    /// A controller and its handle. `front_door` is fed with what it sees.
    #[must_use]
    pub fn new(registry: Registry, identity: Identity, front_door: Arc<FrontDoor>) -> (Self, Handle) {
        let shared = Arc::new(Shared { view: RwLock::new(Arc::new(InstallationView::default())) });
        let (changed, receiver) = watch::channel(());
        let Identity { id, candidate, is_alone, default_tree } = identity;
        let handle = Handle {
            registry: registry.clone(),
            declared: front_door.declared().clone(),
            default_tree: default_tree.clone(),
            shared: shared.clone(),
            changed: receiver,
        };
        let metrics = telemetry::controller::Metrics::default();
        let controller = Self {
            registry,
            me: id,
            candidate,
            is_alone,
            default_tree,
            front_door,
            shared,
            changed,
            metrics,
            scaling: None,
        };
        (controller, handle)
    }

    /// Counts into these metrics.
    #[must_use]
    pub fn with_metrics(self, metrics: telemetry::controller::Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Lets trees grow and shrink while it leads.
    #[must_use]
    pub fn with_scaling(self, scaling: Scaling) -> Self {
        Self { scaling: Some(scaling), ..self }
    }

    /// Works until `stop` is ready, then gives its lease back.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let now = Instant::now();
        let mut elector =
            Elector::new(now, self.registry.clone(), (self.me.clone(), self.candidate), self.is_alone);
        tokio::select! {
            () = self.work(&mut elector) => {}
            () = stop => {}
        }
        let _ = tokio::time::timeout(RESIGN_WITHIN, elector.resign()).await;
    }

    async fn work(&self, elector: &mut Elector) {
        let mut observer = Observer::new(Instant::now());
        let Ok(mut lease) = self.registry.watch_one::<LeaderRecord>(elect::RECORD) else { return };
        let mut watches = Watches::new(&self.registry);
        let mut told = Told { scaler: self.scaling.as_ref().map(Scaler::new), ..Told::default() };
        let mut election = tokio::time::interval(ELECTION_INTERVAL);
        let mut deciding = tokio::time::interval(DECIDE_INTERVAL);
        election.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        deciding.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // In this order, since a look can take as long as the time between two: what has come is taken first, so that
            // nobody counts as silent who was not listened to.
            tokio::select! {
                biased;
                _ = election.tick() => elector.tick().await,
                Some(event) = lease.next() => elector.changed(Instant::now(), event),
                Some(event) = watches.nodes.next() => observer.nodes_changed(Instant::now(), event),
                Some(event) = watches.assignments.next() => observer.assignments_changed(event),
                Some(event) = watches.broadcasts.next() => observer.broadcasts_changed(event),
                Some(event) = watches.trees.next() => {
                    let is_all = matches!(event, WatchEvent::Snapshot(_));
                    observer.trees_changed(event);
                    if is_all {
                        self.restore_trees(observer.trees.lost()).await;
                    }
                }
                Some(event) = watches.slots.next() => observer.slots.changed(Instant::now(), event),
                _ = deciding.tick() => self.look(&mut observer, elector, &mut told).await,
                // A death is decided on when it is one.
                () = until(observer.membership.poll_timeout()) => {
                    self.look(&mut observer, elector, &mut told).await;
                }
            }
        }
    }

    /// Looks at everything, and acts if it leads.
    async fn look(&self, observer: &mut Observer, elector: &Elector, told: &mut Told) {
        let now = Instant::now();
        let state = self.registry.store().state();
        match state {
            StoreState::Up => observer.membership.store_returned(now),
            // Since then nobody could be heard: what this loop took to notice it is nobody's silence.
            StoreState::Down { since } => observer.membership.store_lost(since.into_std().min(now)),
        }
        observer.tick(now);
        let observation = observer.observation(now);
        // Nodes in reserve are no part of their tree yet: nobody takes media from them, nobody is sent there.
        let mut in_use = observation.clone();
        tree::scaling::hold_back(&mut in_use.nodes, observer.slots.nodes());
        let started = Instant::now();
        let plan = decide(&in_use);
        let took = started.elapsed();
        self.metrics.computed(took);
        let urls = observer.nodes.values().filter_map(|node| Some((node.node.clone(), node.url.clone()?)));
        told.has_settled |= observation.is_settled;
        // Until then the list in the store knows more; what was seen last holds while the store is away.
        if told.has_settled {
            self.front_door.feed(&in_use, urls.collect(), observer.audience());
        }
        let mut findings: Vec<String> = plan.findings.iter().map(ToString::to_string).collect();
        let mut scaled = None;
        if elector.is_leader() && observation.is_settled {
            let actor = Actor {
                controller: &self.me,
                term: elector.election.term(),
                registry: &self.registry,
                metrics: &self.metrics,
            };
            self.act(actor, observer, plan, &in_use).await;
            actor.publish_audience(observer, &mut told.audience).await;
            if let Some(scaler) = &mut told.scaler {
                let mut looked = scaler.look(now, (actor, observer), &observation).await;
                findings.extend(looked.findings.iter().map(ToString::to_string));
                if !looked.done.is_empty() {
                    actor.record(std::mem::take(&mut looked.done)).await;
                }
                scaled = Some(looked.seen);
            }
            scaled.get_or_insert_default();
        } else if let Some(scaler) = &mut told.scaler {
            scaler.rest();
        }
        self.metrics.scaled(scaled);
        let decisions = self.registry.list::<DecisionsRecord>().await.unwrap_or_default();
        let about = view::About {
            controller: self.me.to_string(),
            leader: elector.leader().map(ToString::to_string),
            is_leader: elector.is_leader(),
            is_store_up: state == StoreState::Up,
            is_settled: observation.is_settled,
            decide_micros: took.as_micros() as u64,
            findings,
        };
        let view = view::installation(
            (observer, &self.front_door.declared().list()),
            &observation,
            about,
            &decisions,
        );
        self.metrics.looked(seen(&view, &observation), now.elapsed());
        *self.shared.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.changed.send_replace(());
    }

    async fn act(&self, actor: Actor<'_>, observer: &Observer, plan: Plan, observation: &Observation) {
        self.make_default_tree(observer).await;
        let mut done = actor.perform(observer, plan.actions).await;
        actor.renew_ways(observer).await;
        done.extend(actor.forget_broadcasts(observer.lost_broadcasts(Instant::now())).await);
        if !done.is_empty() {
            actor.record(done).await;
        }
        let healths: BTreeMap<NodeId, Health> =
            observation.nodes.iter().map(|node| (node.id.clone(), node.health)).collect();
        actor.publish_places(observer, &healths).await;
    }

    /// Tells the store which trees there are, after it has lost them.
    async fn restore_trees(&self, trees: Vec<TreeRecord>) {
        let writes = trees.iter().map(|tree| self.registry.put(tree, Write::if_absent()));
        for (tree, outcome) in trees.iter().zip(join_all(writes).await) {
            match outcome {
                Ok(_) => tracing::warn!(tree = %tree.tree, "the store had lost a tree and got it again"),
                Err(error) if error.is_conflict() => {}
                Err(error) => tracing::warn!(tree = %tree.tree, %error, "the store has lost a tree"),
            }
        }
    }

    /// The tree that nodes belong to when nobody says otherwise is there as soon as one of them is.
    async fn make_default_tree(&self, observer: &Observer) {
        let is_wanted = observer.nodes.values().any(|node| node.tree == self.default_tree);
        if !is_wanted || observer.trees.contains_key(&self.default_tree) {
            return;
        }
        let record = tree_record(self.default_tree.clone(), "standard", &Template::unasked());
        if let Err(error) = self.registry.put(&record, Write::if_absent()).await
            && !error.is_conflict()
        {
            tracing::warn!(tree = %self.default_tree, %error, "the default tree could not be made");
        }
    }
}

/// Waits until then, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What metrics show of it.
fn seen(view: &InstallationView, observation: &Observation) -> telemetry::controller::Snapshot {
    let mut nodes = BTreeMap::new();
    for node in &observation.nodes {
        *nodes.entry((node.role, node_state(node.health))).or_insert(0) += 1;
    }
    let live = view.broadcasts.iter().filter(|broadcast| broadcast.state == "live").count();
    telemetry::controller::Snapshot {
        is_leader: view.is_leader,
        is_settled: view.is_settled,
        trees: view.trees.len() as u64,
        nodes,
        broadcasts: (live as u64, (view.broadcasts.len() - live) as u64),
        viewers: view.trees.iter().map(|tree| tree.viewers).sum(),
        findings: view.findings.len() as u64,
    }
}

const fn node_state(health: Health) -> NodeState {
    match health {
        Health::Ready => NodeState::Ready,
        Health::Draining => NodeState::Draining,
        Health::Suspect => NodeState::Suspect,
        Health::Dead => NodeState::Dead,
    }
}

/// The record of a new tree.
pub fn tree_record(tree: TreeId, name: &str, template: &Template) -> TreeRecord {
    TreeRecord {
        tree,
        template: name.into(),
        shape: crate::convert::shape(template),
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    }
}

/// What others know from this controller.
#[derive(Default)]
struct Told {
    audience: AudienceTold,
    /// It has seen everything once.
    has_settled: bool,
    /// Lets trees grow and shrink.
    scaler: Option<Scaler>,
}

struct Watches {
    nodes: Watch,
    assignments: Watch,
    broadcasts: Watch,
    trees: Watch,
    slots: Watch,
}

impl Watches {
    fn new(registry: &Registry) -> Self {
        Self {
            nodes: registry.watch::<NodeRecord>(),
            assignments: registry.watch::<Assignment>(),
            broadcasts: registry.watch::<BroadcastRecord>(),
            trees: registry.watch::<TreeRecord>(),
            slots: registry.watch::<SlotsRecord>(),
        }
    }
}
