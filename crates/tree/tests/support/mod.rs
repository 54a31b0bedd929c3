//! Trees made of few words, and the shell's part: storing what is decided, links that follow.
#![allow(dead_code, reason = "each test uses its part")]

pub mod drawn;
pub mod growing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Bitrate, BroadcastId, NodeId, Role, TreeId};
use tree::topology::{Action, Plan, decide};
use tree::{
    Assigned, BroadcastView, Capacity, Health, Incarnation, Load, NodeView, Observation, Place, Rate,
    Template, TreeView,
};

pub fn node_id(name: &str) -> NodeId {
    NodeId::new(name).expect("good id")
}

pub fn tree_id() -> TreeId {
    TreeId::new("main").expect("good id")
}

pub fn broadcast_id(name: &str) -> BroadcastId {
    BroadcastId::new(name).expect("good id")
}

/// A ready and idle node on a host of its own, in region `eu`.
pub fn node(name: &str, role: Role) -> NodeView {
    NodeView {
        id: node_id(name),
        tree: tree_id(),
        role,
        place: Place { region: "eu".into(), zone: "a".into(), host: format!("host-{name}").into() },
        incarnation: Incarnation { counter: 1, random: 7 },
        health: Health::Ready,
        capacity: Capacity {
            viewers_max: 1000,
            publishers_max: 10,
            children_max: 64,
            egress_max: None,
            packets_per_second_max: None,
        },
        load: Some(Load {
            viewers: 0,
            publishers: 0,
            children: 0,
            cpu_percent: 0,
            shard_percent: 0,
            sent: Bitrate::bps(0),
            packets_per_second: 0,
            promised: Rate::default(),
        }),
        assigned: None,
        connected: Vec::new(),
    }
}

/// A tree under decision, with the shell around it.
#[derive(Clone)]
pub struct World(pub Observation);

impl World {
    /// A tree that nobody has made, with so many injection, relay and egress nodes, and a broadcast on `i000`.
    pub fn new(injection: usize, relay: usize, egress: usize) -> Self {
        let mut template = Template::unasked();
        template.limits.max_nodes = 10_000;
        let mut world = Self(Observation {
            is_settled: true,
            trees: vec![TreeView { id: tree_id(), template }],
            nodes: Vec::new(),
            broadcasts: Vec::new(),
        });
        world.add("i", Role::Injection, injection);
        world.add("r", Role::Relay, relay);
        world.add("e", Role::Egress, egress);
        world.publish("demo", "i000");
        world
    }

    /// The tree is made from this template, but for its bound on nodes.
    pub fn template(&mut self, change: impl FnOnce(&mut Template)) {
        // Reserves are not placed.
        let template = &mut self.0.trees[0].template;
        (template.slots_warm, template.slots_cold) = (0, 0);
        change(template);
        assert_eq!(self.0.trees[0].template.check(), Ok(()));
    }

    pub fn add(&mut self, prefix: &str, role: Role, count: usize) {
        let first = self.0.nodes.iter().filter(|node| node.id.as_str().starts_with(prefix)).count();
        self.0.nodes.extend((first..first + count).map(|number| node(&format!("{prefix}{number:03}"), role)));
    }

    pub fn publish(&mut self, name: &str, origin: &str) {
        let origin = Some(node_id(origin));
        let rate = Some(Rate { bits: Bitrate::kbps(2500), packets: 250 });
        self.0.broadcasts.retain(|broadcast| broadcast.id.as_str() != name);
        self.0.broadcasts.push(BroadcastView {
            id: broadcast_id(name),
            tree: tree_id(),
            origin,
            viewer: rate,
            child: rate,
        });
    }

    pub fn get(&mut self, name: &str) -> &mut NodeView {
        self.0.nodes.iter_mut().find(|node| node.id.as_str() == name).expect("a node of this name")
    }

    pub fn each(&mut self, prefix: &str, change: impl Fn(&mut NodeView)) {
        self.0.nodes.iter_mut().filter(|node| node.id.as_str().starts_with(prefix)).for_each(change);
    }

    pub fn region(&mut self, names: &str, region: &str) {
        self.each(names, |node| node.place.region = region.into());
    }

    pub fn host(&mut self, name: &str, host: &str) {
        self.get(name).place.host = Arc::from(host);
    }

    /// Its children have noticed.
    pub fn kill(&mut self, name: &str) {
        self.cut_off(name);
        self.each("", |node| node.connected.retain(|parent| parent.as_str() != name));
    }

    /// Dead as far as the store knows.
    pub fn cut_off(&mut self, name: &str) {
        self.get(name).health = Health::Dead;
    }

    fn is_reported(&self, id: &NodeId) -> bool {
        let heard =
            self.0.nodes.iter().filter(|node| matches!(node.health, Health::Ready | Health::Draining));
        heard.flat_map(|node| &node.connected).any(|parent| parent == id)
    }

    pub fn parents(&self, name: &str) -> Vec<&str> {
        let node = self.0.nodes.iter().find(|node| node.id.as_str() == name).expect("a node of this name");
        node.assigned.iter().flat_map(|assigned| &assigned.parents).map(NodeId::as_str).collect()
    }

    /// Stores what is decided; links do not follow yet.
    pub fn store(&mut self, plan: &Plan) {
        for action in &plan.actions {
            let node = self.0.nodes.iter_mut().find(|node| node.id == *action.node()).expect("a known node");
            node.assigned = match action {
                Action::Assign { parents, paths, .. } => {
                    Some(Assigned { parents: parents.clone(), paths: *paths })
                }
                Action::Forget { .. } => None,
            };
        }
    }

    /// Every link follows its assignment, as far as parents are alive. Who is cut off from the store learns nothing new.
    pub fn connect(&mut self) {
        let is_up = |node: &&NodeView| node.health.is_alive() || self.is_reported(&node.id);
        let up: BTreeSet<NodeId> = self.0.nodes.iter().filter(is_up).map(|node| node.id.clone()).collect();
        for node in self.0.nodes.iter_mut().filter(|node| node.health.is_alive()) {
            let parents = node.assigned.iter().flat_map(|assigned| assigned.parents.clone());
            node.connected = parents.filter(|parent| up.contains(parent)).collect();
        }
    }

    /// Decides, stores and links until there is nothing to do; returns every plan that had actions.
    pub fn settle(&mut self) -> Vec<Plan> {
        self.follow(50).unwrap_or_else(|last| panic!("no end: {last:#?}"))
    }

    /// How many decisions it takes until there is nothing to do; `None`: there is no end.
    pub fn decisions(&mut self) -> Option<usize> {
        self.follow(50).ok().map(|plans| plans.len())
    }

    /// The last plan, where there is no end after `most` of them.
    fn follow(&mut self, most: usize) -> Result<Vec<Plan>, Plan> {
        let mut plans = Vec::new();
        loop {
            let plan = decide(&self.0);
            if plan.actions.is_empty() {
                return Ok(plans);
            }
            if plans.len() == most {
                return Err(plan);
            }
            self.store(&plan);
            self.check();
            self.connect();
            plans.push(plan);
        }
    }

    pub fn alive(&self) -> impl Iterator<Item = &NodeView> {
        self.0.nodes.iter().filter(|node| node.health.is_alive())
    }

    /// Assigned children of every node, dead ones not counted.
    pub fn children(&self) -> BTreeMap<NodeId, Vec<NodeId>> {
        let mut children: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for node in self.alive() {
            for parent in node.assigned.iter().flat_map(|assigned| &assigned.parents) {
                children.entry(parent.clone()).or_default().push(node.id.clone());
            }
        }
        children
    }

    /// What always holds: no loop, no parent that is dead or full or twice in a list.
    pub fn check(&self) {
        let by_id: BTreeMap<&NodeId, &NodeView> = self.0.nodes.iter().map(|node| (&node.id, node)).collect();
        for (parent, children) in self.children() {
            let Some(view) = by_id.get(&parent) else {
                panic!("{parent} is no node, {children:?} have it as parent")
            };
            let is_alive = view.health.is_alive() || self.is_reported(&parent);
            assert!(is_alive, "{children:?} have {parent}, which is dead");
            let most = view.capacity.children_max as usize;
            assert!(children.len() <= most, "{parent} has {} children of {most}", children.len());
        }
        for node in self.alive() {
            let parents: Vec<&NodeId> = node.assigned.iter().flat_map(|assigned| &assigned.parents).collect();
            assert!(parents.len() <= tree::PARENTS_MAX, "{} has {parents:?}", node.id);
            assert_eq!(
                parents.iter().collect::<BTreeSet<_>>().len(),
                parents.len(),
                "{} has {parents:?}",
                node.id
            );
        }
        self.check_loops();
    }

    fn check_loops(&self) {
        let alive: BTreeSet<&NodeId> = self.alive().map(|node| &node.id).collect();
        let parents = |node: &'_ NodeView| -> Vec<NodeId> {
            node.assigned.iter().flat_map(|assigned| assigned.parents.clone()).collect()
        };
        let mut above: BTreeMap<&NodeId, BTreeSet<NodeId>> = self
            .alive()
            .map(|node| {
                (&node.id, parents(node).into_iter().filter(|parent| alive.contains(parent)).collect())
            })
            .collect();
        loop {
            let roots: Vec<&NodeId> =
                above.iter().filter(|(_, parents)| parents.is_empty()).map(|(id, _)| *id).collect();
            if roots.is_empty() {
                assert!(above.is_empty(), "a loop among {:?}", above.keys());
                return;
            }
            for root in roots {
                above.remove(root);
                above.values_mut().for_each(|parents| {
                    parents.remove(root);
                });
            }
        }
    }

    /// How many hops media takes to this node, by the shortest way; `None`: it gets there not at all.
    pub fn depth(&self, name: &str) -> Option<usize> {
        let mut depth = BTreeMap::new();
        let sources = self.alive().filter(|node| node.role == Role::Injection || self.is_origin(&node.id));
        let mut open: Vec<(NodeId, usize)> = sources.map(|node| (node.id.clone(), 0)).collect();
        let children = self.children();
        while !open.is_empty() {
            let mut next = Vec::new();
            for (id, hops) in open {
                if depth.contains_key(&id) {
                    continue;
                }
                next.extend(children.get(&id).into_iter().flatten().map(|child| (child.clone(), hops + 1)));
                depth.insert(id, hops);
            }
            open = next;
        }
        depth.get(&node_id(name)).copied()
    }

    fn is_origin(&self, id: &NodeId) -> bool {
        self.0.broadcasts.iter().any(|broadcast| broadcast.origin.as_ref() == Some(id))
    }

    pub fn hosts_of_parents(&self, name: &str) -> BTreeSet<&str> {
        let hosts = self.0.nodes.iter().map(|node| (node.id.as_str(), &*node.place.host));
        let hosts: BTreeMap<&str, &str> = hosts.collect();
        self.parents(name).iter().take(2).map(|parent| hosts[parent]).collect()
    }
}
