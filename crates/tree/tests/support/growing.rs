//! A tree that grows and shrinks under a virtual clock: its crowd, its provisioner, and the shell that carries decisions out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use model::{NodeId, Role};
use tree::scaling::{
    Action, Decisions, Ledger, Meter, Mode, Observation, Order, Policy, Provisioned, Slot, State, decide,
};
use tree::{Health, NodeView, Template, TreeView};

use super::{node, node_id, tree_id};

pub const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// The node is there after some seconds.
    Works,
    /// It is refused.
    Fails,
    /// It is taken, and the node never appears.
    Hangs,
    /// Egress nodes with an odd number hang.
    HangsForHalf,
}

struct Running {
    provisioned: Option<Provisioned>,
    view: NodeView,
    appears: Option<Instant>,
    stops: Option<Instant>,
}

pub struct Growing {
    pub now: Instant,
    pub template: Template,
    pub policy: Policy,
    pub slots: Vec<Slot>,
    pub provisioning: Provisioning,
    pub provisioner_answers: bool,
    /// Viewers that want to watch.
    pub crowd: u32,
    /// Processor that nodes use, in percent, beside what viewers cost.
    pub noise: u8,
    /// Every node ever started by the provisioner, and when.
    pub starts: Vec<(Instant, NodeId)>,
    /// Viewers who were on a node that was stopped.
    pub cut: u32,
    pub last: Decisions,
    nodes: BTreeMap<NodeId, Running>,
    meter: Meter,
    ledger: Ledger,
    names: u32,
}

impl Growing {
    /// One injection node and so many egress nodes that an operator started, each for 100 viewers; a sub-tree is four.
    pub fn new(egress: usize) -> Self {
        let mut template = Template { egress_per_relay: 4, ..Template::standard() };
        template.limits.max_nodes = 60;
        let mut growing = Self {
            now: Instant::now(),
            template,
            policy: Policy {
                mode: Mode::Automatic,
                out_permille: 750,
                in_permille: 400,
                lead: Duration::from_secs(60),
                cool_down: Duration::from_secs(300),
                healthy_within: Duration::from_secs(90),
                drain_within: Duration::from_secs(120),
                starts_per_hour: 1000,
            },
            slots: Vec::new(),
            provisioning: Provisioning::Works,
            provisioner_answers: true,
            crowd: 0,
            noise: 0,
            starts: Vec::new(),
            cut: 0,
            last: Decisions::default(),
            nodes: BTreeMap::new(),
            meter: Meter::new(),
            ledger: Ledger::new(),
            names: 0,
        };
        growing.run(&node_id("i000"), Role::Injection, None);
        (0..egress).for_each(|number| growing.run(&node_id(&format!("e{number:03}")), Role::Egress, None));
        growing
    }

    fn run(&mut self, id: &NodeId, role: Role, provisioned: Option<Provisioned>) {
        let mut view = node(id.as_str(), role);
        view.capacity.viewers_max = 100;
        let number: u32 = id.as_str().trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
        let hangs = match self.provisioning {
            Provisioning::Hangs => true,
            Provisioning::HangsForHalf => role == Role::Egress && number % 2 == 1,
            Provisioning::Works | Provisioning::Fails => false,
        };
        let appears = match provisioned {
            None => Some(self.now),
            Some(_) => (!hangs).then(|| self.now + 4 * SECOND),
        };
        self.nodes.insert(id.clone(), Running { provisioned, view, appears, stops: None });
    }

    /// The process of a node is gone, and nobody told it to.
    pub fn crash(&mut self, id: &NodeId) {
        self.nodes.remove(id);
    }

    /// The nodes that an operator started are stopped.
    pub fn abandon(&mut self) {
        self.nodes.retain(|_, node| node.provisioned.is_some());
    }

    /// Another controller takes over: it has the store and knows nothing else.
    pub fn restart_controller(&mut self) {
        self.meter = Meter::new();
        let now = self.now;
        self.slots.iter_mut().for_each(|slot| slot.since = now);
    }

    /// The store is gone with all slots; nodes run.
    pub fn lose_store(&mut self) {
        self.slots.clear();
        self.restart_controller();
    }

    pub fn in_state(&self, state: State) -> Vec<u32> {
        self.slots.iter().filter(|slot| slot.state == state).map(|slot| slot.number).collect()
    }

    /// The crowd becomes this many, evenly over so many seconds.
    pub fn swell(&mut self, to: u32, seconds: u32) {
        let from = i64::from(self.crowd);
        for second in 1..=seconds {
            self.crowd = (from + (i64::from(to) - from) * i64::from(second) / i64::from(seconds)) as u32;
            self.pass(1);
        }
    }

    pub fn approve(&mut self) {
        for proposal in self.slots.iter_mut().filter_map(|slot| slot.proposal.as_mut()) {
            proposal.is_approved = true;
        }
    }

    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub fn viewers_of(&self, id: &NodeId) -> u32 {
        self.nodes.get(id).and_then(|node| node.view.load).map_or(0, |load| load.viewers)
    }

    /// So many seconds.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.second();
        }
    }

    /// Until `condition`, for at most so many seconds.
    pub fn until(&mut self, seconds: u64, condition: impl Fn(&Self) -> bool) -> bool {
        (0..seconds).any(|_| {
            self.second();
            condition(self)
        })
    }

    fn second(&mut self) {
        self.now += SECOND;
        let now = self.now;
        self.nodes.retain(|_, node| node.stops.is_none_or(|at| now < at));
        self.seat();
        let decisions = self.decide();
        self.carry_out(&decisions);
        self.last = decisions;
    }

    /// Viewers spread over what placement may use; those on draining nodes go, some each second, if there is a place.
    fn seat(&mut self) {
        let held: BTreeSet<NodeId> = self
            .slots
            .iter()
            .filter(|slot| slot.state.is_reserve() || slot.state == State::Stopping)
            .flat_map(|slot| slot.nodes.iter().map(|node| node.id.clone()))
            .collect();
        let now = self.now;
        let is_there =
            |node: &Running| node.appears.is_some_and(|at| at <= now) && node.view.role == Role::Egress;
        let mut leaving = 0;
        let mut open = Vec::new();
        for (id, node) in &mut self.nodes {
            if !is_there(node) {
                continue;
            }
            let draining = node.view.health == Health::Draining;
            let Some(load) = &mut node.view.load else { continue };
            if draining {
                load.viewers -= load.viewers.div_ceil(4).min(load.viewers);
                leaving += load.viewers;
            } else if !held.contains(id) {
                open.push(id.clone());
            }
        }
        let seated = self.crowd.saturating_sub(leaving).min(open.len() as u32 * 100);
        for (number, id) in open.iter().enumerate() {
            let share = seated / open.len() as u32 + u32::from((number as u32) < seated % open.len() as u32);
            if let Some(load) = self.nodes.get_mut(id).and_then(|node| node.view.load.as_mut()) {
                load.viewers = share;
                load.cpu_percent = (share / 4) as u8 + self.noise;
            }
        }
    }

    pub fn decide(&mut self) -> Decisions {
        let now = self.now;
        let nodes: Vec<NodeView> = self
            .nodes
            .values()
            .filter(|node| node.appears.is_some_and(|at| at <= now))
            .map(|node| node.view.clone())
            .collect();
        let provisioned: BTreeMap<NodeId, Provisioned> =
            self.nodes.iter().filter_map(|(id, node)| Some((id.clone(), node.provisioned?))).collect();
        let tree = TreeView { id: tree_id(), template: self.template.clone() };
        let in_slots = self.slots.iter().flat_map(|slot| &slot.nodes);
        self.ledger.seen(now, in_slots.map(|node| &node.id));
        let mut slots = self.slots.clone();
        for node in slots.iter_mut().flat_map(|slot| &mut slot.nodes) {
            node.unwell_since = self.meter.unwell_since(&node.id);
        }
        let observation = Observation {
            is_settled: true,
            tree: &tree,
            nodes: &nodes,
            slots: &slots,
            provisioned: self.provisioner_answers.then_some(&provisioned),
            measured: self.meter.measured(now, self.policy.cool_down),
            started_lately: self.ledger.started_lately(now),
            policy: &self.policy,
        };
        let decisions = decide(now, &observation);
        assert_eq!(decisions, decide(now, &observation), "the same observation gives the same decisions");
        self.meter.look(now, observation.places(), self.policy.cool_down);
        self.meter.health(now, &observation.unwell());
        self.check(&decisions, &provisioned);
        decisions
    }

    /// What holds whatever happens.
    fn check(&self, decisions: &Decisions, provisioned: &BTreeMap<NodeId, Provisioned>) {
        let mut changed = BTreeSet::new();
        for decision in &decisions.actions {
            match &decision.action {
                Action::Start { node, .. } => {
                    assert!(!provisioned.contains_key(node), "{node} is started while it runs");
                }
                Action::Stop { node } => assert!(provisioned.contains_key(node), "{node} does not run"),
                Action::OrderDrain { .. } | Action::TakeBack { .. } => {}
                _ => assert!(changed.insert(decision.slot), "slot {} changes twice", decision.slot),
            }
        }
    }

    fn carry_out(&mut self, decisions: &Decisions) {
        for decision in &decisions.actions {
            match &decision.action {
                Action::Start { node, role } => {
                    self.starts.push((self.now, node.clone()));
                    if self.provisioning != Provisioning::Fails {
                        let provisioned = Provisioned { slot: decision.slot, role: *role };
                        self.run(node, *role, Some(provisioned));
                    }
                }
                Action::Stop { node } => {
                    let now = self.now;
                    if let Some(node) = self.nodes.get_mut(node).filter(|node| node.stops.is_none()) {
                        node.stops = Some(now + 2 * SECOND);
                        self.cut += node.view.load.map_or(0, |load| load.viewers);
                    }
                }
                Action::OrderDrain { node, .. } => self.drain(node, true),
                Action::TakeBack { node } => self.drain(node, false),
                action => {
                    let names = &mut self.names;
                    let mut name = |role: Role| {
                        *names += 1;
                        node_id(&format!("{role}-{names:03}"))
                    };
                    let at = self.slots.iter().position(|slot| slot.number == decision.slot);
                    let before = at.map(|at| self.slots.remove(at));
                    let after = Slot::after(before.as_ref(), decision.slot, (self.now, action), &mut name);
                    self.slots.extend(after);
                    self.slots.sort_by_key(|slot| slot.number);
                }
            }
        }
    }

    fn drain(&mut self, id: &NodeId, is_ordered: bool) {
        let order = if is_ordered { Order::Slot } else { Order::None };
        let nodes = self.slots.iter_mut().flat_map(|slot| &mut slot.nodes);
        nodes.filter(|node| node.id == *id).for_each(|node| node.order = order);
        if let Some(node) = self.nodes.get_mut(id) {
            node.view.health = if is_ordered { Health::Draining } else { Health::Ready };
        }
    }

    /// Changes what a node reports.
    pub fn each(&mut self, change: impl Fn(&mut NodeView)) {
        self.nodes.values_mut().for_each(|node| change(&mut node.view));
    }

    pub fn nodes_of(&self, number: u32, role: Role) -> Vec<NodeId> {
        let slot = self.slots.iter().find(|slot| slot.number == number);
        let nodes = slot.into_iter().flat_map(|slot| &slot.nodes);
        nodes.filter(|node| node.role == role).map(|node| node.id.clone()).collect()
    }
}
