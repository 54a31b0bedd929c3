//! The installation as operators see it: plain JSON, made anew each second.

use std::collections::BTreeMap;

use model::{BroadcastId, TreeId};
use registry::{DecisionsRecord, NodeRecord, RecordedState, Versioned};
use serde::Serialize;
use tree::{Health, Observation};

use crate::convert;
use crate::declared::DeclaredBroadcast;
use crate::observer::Observer;

/// Everything.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InstallationView {
    /// The controller that answers.
    pub controller: String,
    /// The one that acts, if it is known.
    pub leader: Option<String>,
    /// Whether they are the same.
    pub is_leader: bool,
    /// Whether the store answers.
    pub is_store_up: bool,
    /// Whether enough was seen to decide.
    pub is_settled: bool,
    /// What the latest decision took, in microseconds.
    pub decide_micros: u64,
    /// What more or other nodes would mend.
    pub findings: Findings,
    /// All trees.
    pub trees: Vec<TreeView>,
    /// All nodes.
    pub nodes: Vec<NodeView>,
    /// All broadcasts.
    pub broadcasts: Vec<BroadcastState>,
    /// Slots that trees grow by.
    pub slots: Vec<SlotView>,
    /// The latest decisions, latest first.
    pub decisions: Vec<DecisionView>,
    /// Nodes that died without having drained, for monitoring only: nobody else has to do with them any more.
    #[serde(skip)]
    pub missing: Vec<NodeView>,
}

/// What is not as it should be, in words.
pub type Findings = Vec<String>;

/// One tree.
#[derive(Debug, Clone, Serialize)]
pub struct TreeView {
    /// Its name.
    pub id: String,
    /// The template it was made from.
    pub template: String,
    /// Its shape.
    pub shape: registry::Shape,
    /// Seconds since 1970.
    pub created: u64,
    /// Nodes alive.
    pub nodes: usize,
    /// Viewers.
    pub viewers: u64,
    /// Broadcasts.
    pub broadcasts: usize,
}

impl TreeView {
    /// A tree that has just been made.
    pub(crate) fn empty(record: &registry::TreeRecord) -> Self {
        Self {
            id: record.tree.to_string(),
            template: record.template.clone(),
            shape: record.shape,
            created: record.created,
            nodes: 0,
            viewers: 0,
            broadcasts: 0,
        }
    }
}

/// One node.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// Its name.
    pub id: String,
    /// Its tree.
    pub tree: String,
    /// `injection`, `relay`, `egress`, `all`, `controller`.
    pub role: &'static str,
    /// `ready`, `draining`, `suspect`, `dead`.
    pub health: &'static str,
    /// Where in the world it is.
    pub region: String,
    /// Which part of it.
    pub zone: Option<String>,
    /// The machine.
    pub host: String,
    /// Where clients reach it.
    pub url: Option<String>,
    /// Where children reach it.
    pub link: Option<String>,
    /// All such addresses.
    pub links: Vec<String>,
    /// Where Prometheus reaches it.
    pub ops: Option<String>,
    /// What it takes.
    pub capacity: registry::Capacity,
    /// What it carries.
    pub load: registry::Load,
    /// Whom it takes media from.
    pub parents: Vec<ParentView>,
    /// Its broadcasts and their viewers here.
    pub broadcasts: Vec<registry::Watched>,
    /// An order to drain, if there is one.
    pub drain: Option<registry::Drain>,
    /// Version of the program.
    pub version: String,
}

/// One link.
#[derive(Debug, Clone, Serialize)]
pub struct ParentView {
    /// The parent.
    pub node: String,
    /// It was chosen by the controller.
    pub is_assigned: bool,
    /// It is connected and heard.
    pub is_alive: bool,
    /// Broadcasts taken from it.
    pub joined: u32,
    /// Round trip, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Packets that came over it first until now.
    pub packets: u64,
    /// Packets that had come over another link before.
    pub duplicates: u64,
    /// Packets, of both, that came only when they were asked for.
    pub repaired: u64,
}

/// One broadcast.
#[derive(Debug, Clone, Serialize)]
pub struct BroadcastState {
    /// Its name.
    pub id: String,
    /// Its tree.
    pub tree: String,
    /// Its injection node; `None` until somebody publishes it.
    pub origin: Option<String>,
    /// `live` or `waiting`.
    pub state: &'static str,
    /// Viewers in the whole installation.
    pub viewers: u64,
    /// When an operator made it, in seconds since 1970; `None` if its first publisher did.
    pub created: Option<u64>,
    /// What it takes; `None` until that is known.
    pub rates: Option<registry::Rates>,
    /// What its publisher could do better, the gravest first.
    pub advice: Vec<AdviceView>,
}

/// One thing that a publisher could do better.
#[derive(Debug, Clone, Serialize)]
pub struct AdviceView {
    /// Stable name of what was found.
    pub code: String,
    /// `advice`, `warning` or `problem`.
    pub severity: String,
    /// What is not as it could be.
    pub what: String,
    /// What helps.
    pub remedy: String,
}

/// One slot.
#[derive(Debug, Clone, Serialize)]
pub struct SlotView {
    /// Its tree.
    pub tree: String,
    /// Its number there.
    pub number: u32,
    /// `cold`, `warming`, `warm`, `growing`, `attached`, `draining`, `stopping`.
    pub state: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// Who starts and stops its nodes.
    pub place: String,
    /// Names of its nodes.
    pub nodes: Vec<String>,
    /// Failed starts in a row.
    pub failures: u32,
    /// What waits for an operator.
    pub proposal: Option<registry::Proposal>,
}

/// One decision.
#[derive(Debug, Clone, Serialize)]
pub struct DecisionView {
    /// The tree.
    pub tree: String,
    /// What and why.
    #[serde(flatten)]
    pub decision: registry::Decision,
}

/// What a controller says of itself.
pub struct About {
    pub controller: String,
    pub leader: Option<String>,
    pub is_leader: bool,
    pub is_store_up: bool,
    pub is_settled: bool,
    pub decide_micros: u64,
    pub findings: Findings,
}

/// Decisions that are shown.
const DECISIONS_MAX: usize = 200;

/// Everything that was seen.
pub fn installation(
    (observer, declared): (&Observer, &[(BroadcastId, DeclaredBroadcast)]),
    observation: &Observation,
    about: About,
    decisions: &[Versioned<DecisionsRecord>],
) -> InstallationView {
    let nodes: Vec<NodeView> = observation
        .nodes
        .iter()
        .filter_map(|seen| Some(node(observer, observer.nodes.get(&seen.id)?, seen.health)))
        .collect();
    let alive = |tree: &str| {
        nodes.iter().filter(|node| node.tree == tree && node.health != Health::Dead.as_str()).count()
    };
    let trees = observer.trees.values().map(|tree| TreeView {
        id: tree.tree.to_string(),
        template: tree.template.clone(),
        shape: convert::shape(&convert::template(tree)),
        created: tree.created,
        nodes: alive(tree.tree.as_str()),
        viewers: observer.viewers.of_tree(&tree.tree),
        broadcasts: observer.broadcasts.values().filter(|broadcast| broadcast.tree == tree.tree).count(),
    });
    let mut latest: Vec<DecisionView> = decisions
        .iter()
        .flat_map(|found| {
            let tree = found.record.tree.to_string();
            found
                .record
                .decisions
                .iter()
                .map(move |decision| DecisionView { tree: tree.clone(), decision: decision.clone() })
        })
        .collect();
    latest.sort_by_key(|view| std::cmp::Reverse(view.decision.at));
    latest.truncate(DECISIONS_MAX);
    let About { controller, leader, is_leader, is_store_up, is_settled, decide_micros, findings } = about;
    InstallationView {
        controller,
        leader,
        is_leader,
        is_store_up,
        is_settled,
        decide_micros,
        findings,
        trees: trees.collect(),
        broadcasts: broadcasts(observer, declared),
        nodes,
        slots: crate::scaling::entries(&observer.slots),
        decisions: latest,
        missing: observer.missing().map(|missing| node(observer, missing, Health::Dead)).collect(),
    }
}

/// Those that are published, or were, and those that an operator made; by name.
fn broadcasts(observer: &Observer, declared: &[(BroadcastId, DeclaredBroadcast)]) -> Vec<BroadcastState> {
    let viewers = |tree: &TreeId, id: &BroadcastId| observer.viewers.of_broadcast(tree, id);
    let state = |(id, declared): &(BroadcastId, DeclaredBroadcast)| BroadcastState {
        id: id.to_string(),
        tree: declared.tree.to_string(),
        origin: None,
        state: "waiting",
        viewers: viewers(&declared.tree, id),
        created: Some(declared.created),
        rates: None,
        advice: Vec::new(),
    };
    let mut all: BTreeMap<&BroadcastId, BroadcastState> =
        declared.iter().map(|made| (&made.0, state(made))).collect();
    for (id, broadcast) in &observer.broadcasts {
        let created = all.get(id).and_then(|made| made.created);
        let published = BroadcastState {
            id: id.to_string(),
            tree: broadcast.tree.to_string(),
            origin: Some(broadcast.origin.to_string()),
            state: match broadcast.state {
                RecordedState::Live => "live",
                RecordedState::Waiting => "waiting",
            },
            viewers: viewers(&broadcast.tree, id),
            created,
            rates: broadcast.rates,
            advice: Vec::new(),
        };
        all.insert(id, published);
    }
    // Whoever is not let in by a firewall publishes nothing yet: its node is no broadcast's origin.
    for advice in observer.nodes.values().flat_map(|node| &node.advice) {
        if let Some(broadcast) = all.get_mut(&advice.broadcast) {
            let registry::Advice { code, severity, what, remedy, .. } = advice.clone();
            broadcast.advice.push(AdviceView { code, severity, what, remedy });
        }
    }
    all.into_values().collect()
}

fn node(observer: &Observer, node: &NodeRecord, health: Health) -> NodeView {
    let assignment = observer.assignments.get(&node.node).map(|found| &found.record);
    let is_assigned = |parent| {
        assignment.is_some_and(|assignment| assignment.parents.iter().any(|chosen| chosen.node == parent))
    };
    let parents = node.parents.iter().map(|parent| ParentView {
        node: parent.node.to_string(),
        is_assigned: is_assigned(parent.node.clone()),
        is_alive: parent.is_alive,
        joined: parent.joined,
        round_trip_ms: parent.round_trip_ms,
        packets: parent.packets,
        duplicates: parent.duplicates,
        repaired: parent.repaired,
    });
    NodeView {
        id: node.node.to_string(),
        tree: node.tree.to_string(),
        role: node.role.as_str(),
        health: health.as_str(),
        region: node.region.clone(),
        zone: node.zone.clone(),
        host: node.host.clone(),
        url: node.url.clone(),
        link: node.link.clone(),
        links: if node.links.is_empty() { node.link.iter().cloned().collect() } else { node.links.clone() },
        ops: node.ops.clone(),
        capacity: node.capacity,
        load: node.load,
        parents: parents.collect(),
        broadcasts: node.broadcasts.clone(),
        drain: assignment.and_then(|assignment| assignment.drain),
        version: node.version.clone(),
    }
}
