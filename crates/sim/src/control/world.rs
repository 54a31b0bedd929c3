//! Everything together, in steps of [`TICK`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::{BroadcastId, NodeId, Role, TreeId};
use tree::placement::Answer;
use tree::{Capacity, Place, Template, TreeView};

use super::controller::Controller;
use super::crowd::{Crowd, Door};
use super::health::{DarkReasons, Health};
use super::node::{Link, Node, step_links};
use super::observer::Observer;
use super::store::{Expect, Key, Store, Value};
use crate::{Random, Violation};

/// One step.
pub const TICK: Duration = Duration::from_millis(100);
/// A node's record disappears when it is not written for so long.
const NODE_LEASE: Duration = Duration::from_secs(10);
/// A publisher notices that its node is gone, and asks again, after so long.
const PUBLISHER_RETRY: Duration = Duration::from_millis(1500);

/// Where a broadcast is published.
#[derive(Debug)]
pub(super) struct Publisher {
    pub broadcast: BroadcastId,
    pub at: Option<usize>,
    next_try: Duration,
}

/// A tree, its store, its controllers, its viewers.
pub struct World {
    /// Virtual time.
    pub now: Duration,
    origin: Instant,
    pub(super) random: Random,
    pub(super) tree: TreeView,
    pub(super) nodes: Vec<Node>,
    pub(super) store: Store,
    pub(super) controllers: Vec<Option<Controller>>,
    pub(super) doors: Vec<Door>,
    pub(super) crowd: Crowd,
    pub(super) publishers: Vec<Publisher>,
    health: Health,
    candidates: u128,
    /// Viewers that ever wanted in, less those that went.
    pub(super) wanted: u64,
}

impl World {
    /// An empty tree with two controllers and so many front doors.
    #[must_use]
    pub fn new(seed: u64, doors: usize) -> Self {
        let mut random = Random::new(seed);
        let id = TreeId::new("main").unwrap_or_else(|error| unreachable!("{error}"));
        let mut template = Template::unasked();
        template.limits.max_nodes = 1000;
        let mut world = Self {
            now: Duration::ZERO,
            origin: crate::Clock::default().start(),
            store: Store::new(random.fork()),
            random,
            tree: TreeView { id, template },
            nodes: Vec::new(),
            controllers: vec![None, None],
            doors: Vec::new(),
            crowd: Crowd::default(),
            publishers: Vec::new(),
            health: Health::default(),
            candidates: 0,
            wanted: 0,
        };
        (0..world.controllers.len()).for_each(|number| world.start_controller(number));
        for _ in 0..doors {
            let observer = world.observer();
            world.doors.push(Door::new(observer));
        }
        world
    }

    fn observer(&mut self) -> Observer {
        let watcher = self.store.watch(self.now);
        let rate = self.random.within(950, 1050) as u32;
        Observer::new((self.origin, self.now), rate, watcher, self.tree.clone())
    }

    /// A new controller process in this place.
    pub fn start_controller(&mut self, number: usize) {
        self.candidates += 1;
        let observer = self.observer();
        self.controllers[number] = Some(Controller::new(self.now, self.candidates, observer));
    }

    /// The process is gone.
    pub fn stop_controller(&mut self, number: usize) {
        if let Some(controller) = self.controllers[number].take() {
            self.store.cut(self.now, controller.observer.watcher, true);
        }
    }

    /// A new node; returns its index.
    pub fn add_node(&mut self, name: &str, role: Role, (place, capacity): (Place, Capacity)) -> usize {
        let id = NodeId::new(name).unwrap_or_else(|error| unreachable!("{error}"));
        let mut node = Node::new(id, role, (place, capacity));
        node.next_heartbeat = self.now + Duration::from_millis(self.random.below(1000));
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Somebody wants to publish from now on.
    pub fn publish(&mut self, name: &str) {
        let broadcast = BroadcastId::new(name).unwrap_or_else(|error| unreachable!("{error}"));
        self.publishers.push(Publisher { broadcast, at: None, next_try: self.now });
    }

    /// A viewer wants to watch from then on.
    pub fn join(&mut self, at: Duration) {
        self.wanted += 1;
        self.crowd.join(at);
    }

    /// A node's process dies; its viewers come back by themselves.
    pub fn crash(&mut self, node: usize) {
        let lost = self.nodes[node].crash();
        self.scatter(lost);
    }

    fn scatter(&mut self, viewers: u32) {
        for _ in 0..viewers {
            let at = self.now + Duration::from_millis(self.random.within(1000, 3000));
            self.crowd.join(at);
        }
    }

    /// One step, and what always holds.
    ///
    /// # Errors
    /// The invariant that is broken.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.now += TICK;
        self.heartbeats();
        self.read_assignments();
        step_links(self.now, &mut self.nodes, &mut self.random);
        self.move_drained();
        self.republish();
        for controller in self.controllers.iter_mut().flatten() {
            controller.turn(self.now, &mut self.store, &mut self.random);
        }
        for door in &mut self.doors {
            door.turn(self.now, &mut self.store);
        }
        let broadcast = self.publishers.first().map(|publisher| publisher.broadcast.clone());
        if let Some(broadcast) = broadcast {
            let parties = (&mut self.doors[..], &mut self.nodes[..]);
            self.crowd.step(self.now, parties, (&self.tree.id, &broadcast), &mut self.random);
        }
        let mut health = std::mem::take(&mut self.health);
        let result = health.check(self);
        self.health = health;
        result.map_err(|what| Violation { at: self.now, what })
    }

    /// Many steps.
    ///
    /// # Errors
    /// The invariant that is broken.
    pub fn run(&mut self, time: Duration) -> Result<(), Violation> {
        let end = self.now + time;
        while self.now < end {
            self.step()?;
        }
        Ok(())
    }

    fn heartbeats(&mut self) {
        let now = self.now;
        for node in &mut self.nodes {
            if node.reaches_store(now) && now >= node.next_heartbeat && self.store.is_up() {
                let value = Value::Node(Box::new(node.record.clone()));
                if self.store.put(now, (Key::Node(node.id.clone()), value), Expect::Any).is_ok() {
                    node.written = now;
                }
                node.next_heartbeat = now + Duration::from_millis(self.random.within(950, 1050));
            } else if now > node.written + NODE_LEASE {
                self.store.delete(now, &Key::Node(node.id.clone()), Expect::Any);
            }
        }
    }

    /// Nodes hear of their assignments a little later, each in its own time.
    fn read_assignments(&mut self) {
        let index: BTreeMap<NodeId, usize> = self.index();
        for number in 0..self.nodes.len() {
            if !self.nodes[number].reaches_store(self.now) || self.random.happens(0.4) {
                continue;
            }
            let key = Key::Assignment(self.nodes[number].id.clone());
            if let Some((Value::Assignment(assigned), _)) = self.store.get(&key) {
                let parents = assigned.parents.iter().filter_map(|parent| index.get(parent));
                self.nodes[number].assigned = parents.copied().collect();
            }
        }
    }

    pub(super) fn index(&self) -> BTreeMap<NodeId, usize> {
        self.nodes.iter().enumerate().map(|(index, node)| (node.id.clone(), index)).collect()
    }

    /// Viewers of a draining node are told to move, some in each step.
    fn move_drained(&mut self) {
        for number in 0..self.nodes.len() {
            let node = &mut self.nodes[number];
            if node.is_alive && node.record.is_draining {
                let moving = node.record.load.viewers.min(20);
                node.record.load.viewers -= moving;
                (0..moving).for_each(|_| self.crowd.join(self.now));
            }
        }
    }

    /// Publishers whose node is gone ask a door; the node then says that it has the broadcast.
    fn republish(&mut self) {
        let now = self.now;
        let index = self.index();
        for number in 0..self.publishers.len() {
            let publisher = &mut self.publishers[number];
            match publisher.at {
                Some(at) if self.nodes[at].is_reachable(now) => {
                    let id = self.nodes[at].id.clone();
                    let key = Key::Broadcast(publisher.broadcast.clone());
                    let is_known =
                        matches!(self.store.get(&key), Some((Value::Broadcast(origin), _)) if *origin == id);
                    if !is_known && self.nodes[at].reaches_store(now) && self.store.is_up() {
                        self.store.put(now, (key, Value::Broadcast(id)), Expect::Any).ok();
                    }
                }
                Some(at) => {
                    let publishers = &mut self.nodes[at].record.load.publishers;
                    *publishers = publishers.saturating_sub(1);
                    publisher.at = None;
                    publisher.next_try = now + PUBLISHER_RETRY;
                }
                None if now >= publisher.next_try && !self.doors.is_empty() => {
                    publisher.next_try = now + PUBLISHER_RETRY;
                    let door = self.random.below(self.doors.len() as u64) as usize;
                    let wish = (&self.tree.id, &publisher.broadcast, false);
                    let answer = self.doors[door].ask(now, wish, &mut self.random);
                    let Answer::Redirect(node) = answer else { continue };
                    let target = index.get(&node).copied().filter(|node| self.nodes[*node].is_reachable(now));
                    if let Some(node) = target {
                        publisher.at = Some(node);
                        self.nodes[node].record.load.publishers += 1;
                    }
                }
                None => {}
            }
        }
    }

    /// Viewers that have a place.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        self.nodes.iter().map(|node| u64::from(node.record.load.viewers)).sum()
    }

    /// Viewers that ask and have no place.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.crowd.waiting(self.now)
    }

    /// What became of viewers on their way.
    pub fn tally(&mut self) -> &super::Tally {
        self.crowd.tally.waits.sort_unstable();
        &self.crowd.tally
    }

    /// Why viewers had no path, where they had none for long.
    #[must_use]
    pub const fn dark(&self) -> &DarkReasons {
        self.health.reasons()
    }

    /// Assignments written so far.
    #[must_use]
    pub const fn assignments_written(&self) -> u64 {
        self.store.assignments_written
    }

    /// Children of a node by links that are up.
    #[must_use]
    pub fn children(&self, node: usize) -> usize {
        let is_up = |child: &&Node| child.links.get(&node) == Some(&Link::Up);
        self.nodes.iter().filter(|node| node.is_alive).filter(is_up).count()
    }

    /// Viewers of one node.
    #[must_use]
    pub fn viewers_of(&self, node: usize) -> u32 {
        self.nodes[node].record.load.viewers
    }

    /// Every fault is over: processes stay as they are, everything else is well.
    pub fn heal(&mut self) {
        let now = self.now;
        self.store.come_up(now, false);
        for node in &mut self.nodes {
            node.isolated_until = now;
            node.cut_until = now;
        }
        for number in 0..self.controllers.len() {
            match &mut self.controllers[number] {
                Some(controller) => {
                    controller.frozen_until = now;
                    let watcher = controller.observer.watcher;
                    self.store.cut(now, watcher, false);
                }
                None => self.start_controller(number),
            }
        }
        let watchers: Vec<usize> = self.doors.iter().map(|door| door.observer.watcher).collect();
        watchers.into_iter().for_each(|watcher| self.store.cut(now, watcher, false));
    }

    /// What must hold when there has been no fault for a while, and viewers can all have places.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_healed(&mut self) -> Result<(), Violation> {
        let written = self.store.assignments_written;
        self.run(Duration::from_secs(5))?;
        let what = super::health::after_healing(self, self.store.assignments_written - written);
        what.map_err(|what| Violation { at: self.now, what })
    }
}
