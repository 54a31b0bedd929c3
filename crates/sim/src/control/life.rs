//! Random lives of random control planes: a seed decides the nodes, and what befalls them.

use std::fmt;
use std::time::Duration;

use model::Role;
use tree::{Capacity, Place};

use super::World;
use super::health::DarkReasons;
use crate::{Random, Violation};

/// Steps of one life.
const STEPS: u64 = 60;
/// After the last fault everybody is well in so long: leases run out, a leader is found, deaths are decided on, links
/// come up, viewers ask again.
const RECOVERY: Duration = Duration::from_secs(40);

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Pass,
    /// A new node.
    Join,
    /// A process dies.
    Crash,
    /// All processes of a host die.
    CrashHost,
    /// A dead process starts again.
    Restart,
    /// A node drains, or stops to.
    Drain,
    /// Nobody reaches a node for a while.
    Isolate,
    /// A node does not reach the store for a while.
    CutOff,
    /// The store is away, or comes back, perhaps empty.
    Store,
    /// A controller dies, or starts.
    Controller,
    /// A controller stands still for a while.
    Freeze,
    /// A controller, or a front door, loses the store, or finds it again.
    Blind,
    /// Viewers come.
    Rush,
}

const STEPS_DRAWN: [Step; 13] = [
    Step::Pass,
    Step::Join,
    Step::Crash,
    Step::CrashHost,
    Step::Restart,
    Step::Drain,
    Step::Isolate,
    Step::CutOff,
    Step::Store,
    Step::Controller,
    Step::Freeze,
    Step::Blind,
    Step::Rush,
];

/// A broken invariant, and when and how it broke.
#[derive(Debug)]
pub struct Failure {
    /// Which life.
    pub seed: u64,
    /// Which step of it, from 1; 0: before the first, or after healing.
    pub step: u64,
    /// What was done in that step.
    pub what: Step,
    /// What broke.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}, step {} ({:?}), {}", self.seed, self.step, self.what, self.violation)
    }
}

/// One life.
struct Life {
    world: World,
    random: Random,
    /// How many nodes of each kind there ever were.
    born: [u64; 3],
}

const KINDS: [(&str, Role); 3] = [("i", Role::Injection), ("r", Role::Relay), ("e", Role::Egress)];

impl Life {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = World::new(random.draw(), 3);
        let mut life = Self { world, random, born: [0; 3] };
        life.born_many(0, 2);
        let (relays, egress) = (life.random.within(2, 10), life.random.within(2, 60));
        life.born_many(1, relays);
        life.born_many(2, egress);
        life.world.publish("demo");
        if life.random.happens(0.5) {
            life.world.publish("second");
        }
        life
    }

    fn born_many(&mut self, kind: usize, count: u64) {
        (0..count).for_each(|_| self.born(kind));
    }

    fn born(&mut self, kind: usize) {
        let random = &mut self.random;
        let (prefix, role) = KINDS[kind];
        let region = if random.happens(0.8) { "eu" } else { "us" };
        let place = Place {
            region: region.into(),
            zone: "".into(),
            host: format!("{region}-{prefix}-{}", random.below(24)).into(),
        };
        let capacity = Capacity {
            viewers_max: random.within(20, 200) as u32,
            publishers_max: 4,
            children_max: random.within(12, 64) as u32,
            egress_max: None,
            packets_per_second_max: None,
        };
        let name = format!("{prefix}{:03}", self.born[kind]);
        self.born[kind] += 1;
        self.world.add_node(&name, role, (place, capacity));
    }

    fn node(&mut self) -> usize {
        self.random.below(self.world.nodes.len() as u64) as usize
    }

    fn seconds(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.random.within(200, most * 1000))
    }

    fn take(&mut self, step: Step) {
        let now = self.world.now;
        match step {
            Step::Pass => {}
            Step::Join => {
                let kind = self.random.pick(&[0, 1, 2, 2, 2]).unwrap_or(2);
                self.born(kind);
            }
            Step::Crash => {
                let node = self.node();
                self.world.crash(node);
            }
            Step::CrashHost => {
                let node = self.node();
                let host = self.world.nodes[node].record.place.host.clone();
                let count = self.world.nodes.len();
                let shares = |node: &usize| self.world.nodes[*node].record.place.host == host;
                let nodes: Vec<usize> = (0..count).filter(shares).collect();
                nodes.into_iter().for_each(|node| self.world.crash(node));
            }
            Step::Restart => {
                let dead = (0..self.world.nodes.len()).filter(|node| !self.world.nodes[*node].is_alive);
                if let Some(node) = self.random.pick(&dead.collect::<Vec<_>>()) {
                    self.world.nodes[node].restart(now);
                }
            }
            Step::Drain => {
                let node = self.node();
                let record = &mut self.world.nodes[node].record;
                record.is_draining = !record.is_draining;
            }
            Step::Isolate => {
                let (node, time) = (self.node(), self.seconds(15));
                self.world.nodes[node].isolated_until = now + time;
            }
            Step::CutOff => {
                let (node, time) = (self.node(), self.seconds(30));
                self.world.nodes[node].cut_until = now + time;
            }
            Step::Store => {
                if self.world.store.is_up() {
                    self.world.store.go_down(now);
                } else {
                    let is_empty = self.random.happens(0.3);
                    self.world.store.come_up(now, is_empty);
                }
            }
            Step::Controller | Step::Freeze | Step::Blind => self.trouble_controllers(step),
            Step::Rush => {
                for _ in 0..self.random.below(400) {
                    let at = now + self.seconds(3);
                    self.world.join(at);
                }
            }
        }
    }

    fn trouble_controllers(&mut self, step: Step) {
        let now = self.world.now;
        let number = self.random.below(2) as usize;
        let time = self.seconds(12);
        match (step, &mut self.world.controllers[number]) {
            (Step::Controller, Some(_)) => self.world.stop_controller(number),
            (Step::Controller, None) => self.world.start_controller(number),
            (Step::Freeze, Some(controller)) => controller.frozen_until = now + time,
            (_, controller) => {
                let door = self.random.pick(&[0, 1, 2]).unwrap_or(0);
                let of_door = self.world.doors[door].observer.watcher;
                let watcher = controller.as_ref().map_or(of_door, |controller| controller.observer.watcher);
                let watcher = if self.random.happens(0.5) { watcher } else { of_door };
                let is_cut = self.random.happens(0.5);
                self.world.store.cut(now, watcher, is_cut);
            }
        }
    }

    /// Faults end. Where nobody is left who could publish or serve, somebody is born.
    fn heal(&mut self) {
        let now = self.world.now;
        self.world.heal();
        for node in &mut self.world.nodes {
            node.record.is_draining = false;
            if !node.is_alive && node.record.role != Role::Egress {
                node.restart(now);
            }
        }
    }
}

/// Plays a life; returns why viewers had no path where they had none.
///
/// # Errors
/// The invariant that broke, and where.
pub fn play(seed: u64) -> Result<DarkReasons, Failure> {
    let mut life = Life::new(seed);
    let failure = |step: u64, what: Step| move |violation: Violation| Failure { seed, step, what, violation };
    life.world.run(Duration::from_secs(15)).map_err(failure(0, Step::Pass))?;
    for step in 1..=STEPS {
        let what = life.random.pick(&STEPS_DRAWN).unwrap_or(Step::Pass);
        life.take(what);
        let time = life.seconds(4);
        life.world.run(time).map_err(failure(step, what))?;
    }
    life.heal();
    life.world.run(RECOVERY).map_err(failure(0, Step::Pass))?;
    life.world.check_healed().map_err(failure(0, Step::Pass))?;
    Ok(life.world.dark().clone())
}
