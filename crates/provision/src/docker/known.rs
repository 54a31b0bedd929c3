//! What is known of the engines and of the nodes on them, and where the next one goes. Asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use model::NodeId;

use super::container::{Container, State};
use crate::ports::overlap;
use crate::restarts::Restarts;
use crate::{Listed, NodeSpec, Phase, Ports};

/// A list that was asked for so long ago has come, or never will.
const TOUCHES_KEPT: Duration = Duration::from_secs(60);
/// Whoever starts and stops nodes here asks each second. Who has not asked for so long has left that to others.
const OTHERS_AFTER: Duration = Duration::from_secs(30);

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Known {
    engines: Vec<Seen>,
    restarts: BTreeMap<NodeId, Restarts>,
    /// Nodes that were told to stop.
    told: BTreeSet<NodeId>,
    /// When this process last did something about a node: what was asked before says nothing of it.
    touched: BTreeMap<NodeId, Instant>,
    /// When engines were asked last.
    asked: Option<Instant>,
}

/// One engine.
#[derive(Debug)]
struct Seen {
    /// Most nodes that it runs.
    nodes_max: u16,
    has_answered: bool,
    /// Why it does not answer now.
    silence: Option<String>,
    own: BTreeMap<NodeId, Own>,
    /// Ports of nodes that others have there.
    others: Vec<RangeInclusive<u16>>,
}

/// A container of this place.
#[derive(Debug)]
struct Own {
    /// `None` while it is being made.
    id: Option<String>,
    spec: NodeSpec,
    ports: RangeInclusive<u16>,
    state: State,
}

/// A node that ended, and nobody had told it to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub engine: usize,
    pub node: NodeId,
    pub id: String,
    pub status: String,
    pub failures: u32,
    pub pause: Duration,
}

/// A container that nobody wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leftover {
    pub engine: usize,
    pub node: NodeId,
    pub id: String,
    /// Its node runs on another engine as well.
    pub is_double: bool,
}

/// Why no engine can be chosen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    Silence(String),
    Full,
    Ports,
}

/// Ports that nodes may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortPlan {
    pub first: u16,
    pub shards: u16,
}

impl Known {
    /// Engines, each with the most nodes that it runs.
    pub fn new(nodes_max: impl Iterator<Item = u16>) -> Self {
        let seen = |nodes_max| Seen {
            nodes_max,
            has_answered: false,
            silence: None,
            own: BTreeMap::new(),
            others: Vec::new(),
        };
        Self { engines: nodes_max.map(seen).collect(), ..Self::default() }
    }

    /// All engines are asked now. After a long time nothing is believed any more that is not said again.
    pub fn asks(&mut self, now: Instant) {
        let before = self.asked.replace(now);
        if before.is_some_and(|before| now.saturating_duration_since(before) > OTHERS_AFTER) {
            self.engines.iter_mut().for_each(|seen| seen.has_answered = false);
        }
        // Nodes that went without us: whoever comes under a name of theirs is another one.
        let (engines, touched) = (&self.engines, &self.touched);
        let is_there = |node: &NodeId| {
            let is_touched = |at: &Instant| now.saturating_duration_since(*at) < TOUCHES_KEPT;
            engines.iter().any(|seen| seen.own.contains_key(node))
                || touched.get(node).is_some_and(is_touched)
        };
        self.told.retain(|node| is_there(node));
        let waits = |restarts: &Restarts| restarts.has_ended() && !restarts.is_forgotten(now);
        self.restarts.retain(|node, restarts| is_there(node) || waits(restarts));
    }

    /// Notes that an engine does not answer. If that is new: how many nodes are there, as far as is known.
    pub fn silent(&mut self, engine: usize, reason: &str) -> Option<usize> {
        let seen = self.engines.get_mut(engine)?;
        let is_new = seen.silence.replace(reason.to_owned()).is_none();
        is_new.then_some(seen.own.len())
    }

    /// Takes the list of an engine, but for what is being done, or has been done since it was asked for. Tells which nodes
    /// have ended, and whether the engine had been silent.
    pub fn heard(
        &mut self,
        (engine, asked): (usize, Instant),
        (containers, place): (Vec<Container>, &str),
        busy: &BTreeSet<NodeId>,
    ) -> (Vec<Ended>, bool) {
        let (own, others): (Vec<Container>, Vec<Container>) =
            containers.into_iter().partition(|container| container.place == place);
        let touched = &self.touched;
        let is_settled =
            |node: &NodeId| !busy.contains(node) && touched.get(node).is_none_or(|at| *at < asked);
        let Some(seen) = self.engines.get_mut(engine) else { return (Vec::new(), false) };
        seen.has_answered = true;
        let is_back = seen.silence.take().is_some();
        seen.others = others.into_iter().map(|container| container.ports).collect();
        seen.own.retain(|node, _| !is_settled(node));
        let own: Vec<Container> =
            own.into_iter().filter(|container| is_settled(&container.spec.node)).collect();
        let ended = own.into_iter().filter_map(|container| self.saw(asked, engine, &container)).collect();
        (ended, is_back)
    }

    /// Takes what an engine says of one container of this place. Tells if it has just ended.
    pub fn saw(&mut self, now: Instant, engine: usize, container: &Container) -> Option<Ended> {
        let node = &container.spec.node;
        let own = Own {
            id: Some(container.id.clone()),
            spec: container.spec.clone(),
            ports: container.ports.clone(),
            state: container.state,
        };
        self.engines.get_mut(engine)?.own.insert(node.clone(), own);
        if container.state == State::Created {
            return None;
        }
        let restarts = self.restarts.entry(node.clone()).or_insert_with(|| Restarts::started(now));
        match (container.state, restarts.has_ended()) {
            (State::Running, true) => restarts.restarted(now),
            (State::Ended, false) if !self.told.contains(node) => {
                restarts.ended(now);
                return Some(Ended {
                    engine,
                    node: node.clone(),
                    id: container.id.clone(),
                    status: container.status.clone(),
                    failures: restarts.failures(),
                    pause: restarts.pause(),
                });
            }
            (State::Created | State::Running | State::Ended, _) => {}
        }
        None
    }

    /// Something was just done about a node.
    pub fn touch(&mut self, now: Instant, node: &NodeId) {
        self.touched.insert(node.clone(), now);
        self.touched.retain(|_, at| now.saturating_duration_since(*at) < TOUCHES_KEPT);
    }

    /// The engine that has a node; of two the one where it runs.
    pub fn located(&self, node: &NodeId) -> Option<usize> {
        let runs = |seen: &Seen| seen.own.get(node).is_some_and(|own| own.state == State::Running);
        let has = |seen: &Seen| seen.own.contains_key(node);
        self.engines.iter().position(runs).or_else(|| self.engines.iter().position(has))
    }

    /// Why the first engine that has never answered has not. As long as there is one, it may run anything.
    pub fn unknown(&self) -> Option<&str> {
        let seen = self.engines.iter().find(|seen| !seen.has_answered)?;
        Some(seen.silence.as_deref().unwrap_or("an engine has not been asked yet"))
    }

    /// Why no engine answers, if none does.
    pub fn silence(&self) -> Option<&str> {
        let mut reasons = self.engines.iter().map(|seen| seen.silence.as_deref());
        let first = reasons.next().flatten()?;
        reasons.all(|reason| reason.is_some()).then_some(first)
    }

    /// Chooses the engine that answers and has the fewest nodes, and there the first ports that no node has: after those
    /// that it had before, where it ended. They are its own from now on.
    pub fn choose(
        &mut self,
        spec: &NodeSpec,
        before: Option<(usize, RangeInclusive<u16>)>,
        plan: PortPlan,
    ) -> Result<(usize, Ports), NoPlace> {
        if let Some(reason) = self.silence() {
            return Err(NoPlace::Silence(reason.to_owned()));
        }
        let has_room = |seen: &Seen| {
            seen.silence.is_none() && seen.own.len() + seen.others.len() < usize::from(seen.nodes_max)
        };
        let mut engines: Vec<usize> =
            (0..self.engines.len()).filter(|i| has_room(&self.engines[*i])).collect();
        if engines.is_empty() {
            return Err(NoPlace::Full);
        }
        engines.sort_by_key(|engine| self.engines[*engine].own.len() + self.engines[*engine].others.len());
        for engine in engines {
            let before = before.as_ref().filter(|(of, _)| *of == engine).map(|(_, ports)| *ports.start());
            let Some(ports) = self.engines[engine].free_ports(before, plan) else { continue };
            self.reserve(engine, spec, ports.all(plan.shards));
            return Ok((engine, ports));
        }
        Err(NoPlace::Ports)
    }

    /// A node gets these ports, until there is a container that says so.
    pub fn reserve(&mut self, engine: usize, spec: &NodeSpec, ports: RangeInclusive<u16>) {
        let own = Own { id: None, spec: spec.clone(), ports, state: State::Created };
        if let Some(seen) = self.engines.get_mut(engine) {
            seen.own.insert(spec.node.clone(), own);
        }
        self.told.remove(&spec.node);
    }

    /// What was reserved for a node is not used, unless there is a container after all.
    pub fn give_back(&mut self, engine: usize, node: &NodeId) {
        if self.own(engine, node).is_some_and(|own| own.id.is_none()) {
            self.gone(engine, node);
        }
    }

    /// The container of a node has been made.
    pub fn made(&mut self, engine: usize, node: &NodeId, id: &str) {
        if let Some(own) = self.own(engine, node) {
            own.id = Some(id.to_owned());
        }
    }

    /// It has been started.
    pub fn runs(&mut self, now: Instant, engine: usize, node: &NodeId) {
        if let Some(own) = self.own(engine, node) {
            own.state = State::Running;
        }
        self.restarts.entry(node.clone()).or_insert_with(|| Restarts::started(now)).restarted(now);
    }

    /// It is not there any more, or never was.
    pub fn gone(&mut self, engine: usize, node: &NodeId) {
        if let Some(seen) = self.engines.get_mut(engine) {
            seen.own.remove(node);
        }
    }

    /// A node is to stop. The engine that has it.
    pub fn tell(&mut self, node: &NodeId) -> Option<usize> {
        let engine = self.located(node)?;
        self.told.insert(node.clone());
        Some(engine)
    }

    /// A node has stopped, and is gone.
    pub fn forget(&mut self, engine: usize, node: &NodeId) {
        self.gone(engine, node);
        if self.located(node).is_none() {
            self.told.remove(node);
            self.restarts.remove(node);
        }
    }

    /// A container that nobody wanted is gone; what is known of its node goes with it, unless it is to be started again.
    pub fn cleared(&mut self, now: Instant, engine: usize, node: &NodeId) {
        let is_forgotten = self.restarts.get(node).is_none_or(|restarts| restarts.is_forgotten(now));
        if self.told.contains(node) || is_forgotten {
            self.forget(engine, node);
        } else {
            self.gone(engine, node);
        }
    }

    /// How much longer a node is not started again, and how often it ended.
    pub fn waits(&self, now: Instant, node: &NodeId) -> Option<(u32, Duration)> {
        let restarts = self.restarts.get(node)?;
        Some((restarts.failures(), restarts.waits(now)?))
    }

    /// The nodes that run, also on engines that are silent, and those that are not started again yet.
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        let mut listed: BTreeMap<&NodeId, Listed> = BTreeMap::new();
        for (node, own) in self.engines.iter().flat_map(|seen| &seen.own) {
            let restarts = self.restarts.get(node);
            let waits = restarts.and_then(|restarts| restarts.waits(now)).is_some();
            let phase = match own.state {
                State::Running => Phase::Running,
                State::Ended if waits && !self.told.contains(node) => Phase::BackingOff,
                State::Ended | State::Created => continue,
            };
            let failures = restarts.map_or(0, Restarts::failures);
            listed.insert(node, Listed { spec: own.spec.clone(), phase, failures });
        }
        listed.into_values().collect()
    }

    /// What is to be removed: containers that were never started, and nobody is at it; those of nodes that have stopped, or
    /// that nobody has asked for since they ended; the second one of a node.
    pub fn leftovers(&self, now: Instant, busy: &BTreeSet<NodeId>) -> Vec<Leftover> {
        let mut leftovers = Vec::new();
        for (engine, seen) in self.engines.iter().enumerate().filter(|(_, seen)| seen.silence.is_none()) {
            for (node, own) in seen.own.iter().filter(|(node, _)| !busy.contains(*node)) {
                let is_double = self.is_double(engine, node);
                let is_unwanted = match own.state {
                    State::Created => true,
                    State::Running => false,
                    State::Ended => {
                        let is_forgotten = |restarts: &Restarts| restarts.is_forgotten(now);
                        self.told.contains(node) || self.restarts.get(node).is_some_and(is_forgotten)
                    }
                };
                if let Some(id) = own.id.clone().filter(|_| is_double || is_unwanted) {
                    leftovers.push(Leftover { engine, node: node.clone(), id, is_double });
                }
            }
        }
        leftovers
    }

    /// Its node has another container, on another engine that says so now. One that has the same is the same engine, by another
    /// way.
    fn is_double(&self, engine: usize, node: &NodeId) -> bool {
        let id = |engine: usize| self.engines.get(engine)?.own.get(node)?.id.as_deref();
        let answers = |engine: usize| self.engines.get(engine).is_some_and(|seen| seen.silence.is_none());
        self.located(node).is_some_and(|kept| {
            kept != engine && answers(kept) && id(kept).is_some() && id(kept) != id(engine)
        })
    }

    fn own(&mut self, engine: usize, node: &NodeId) -> Option<&mut Own> {
        self.engines.get_mut(engine)?.own.get_mut(node)
    }
}

impl Seen {
    /// The first block of this engine that is free, from the one after `before` on; an engine has as many blocks as it may
    /// have nodes, so that a firewall can be told.
    fn free_ports(&self, before: Option<u16>, plan: PortPlan) -> Option<Ports> {
        let mut blocks: Vec<Ports> =
            Ports::blocks(plan.first, plan.shards).take(self.nodes_max.into()).collect();
        let after = |first: u16| blocks.iter().position(|ports| ports.http > first).unwrap_or(0);
        let begin = before.map_or(0, after);
        blocks.rotate_left(begin);
        let taken = || self.own.values().map(|own| &own.ports).chain(&self.others);
        blocks.into_iter().find(|ports| !taken().any(|other| overlap(other, &ports.all(plan.shards))))
    }
}

#[cfg(test)]
mod tests;
