//! What always holds, and what holds when everything has healed.

use std::time::Duration;

use model::{NodeId, Role};
use tree::topology::Finding;

use super::node::{looped, reached};
use super::store::{Key, Value};
use super::world::{TICK, World};

/// A viewer has a path again after so long at most: a death is noticed in three seconds, decided on in one, and links
/// are up in less than one.
pub const DARK_MAX: Duration = Duration::from_secs(6);

/// A controller that has decided for so long has had its chance.
const CHANCE: Duration = DARK_MAX;

/// For how long egress nodes with viewers had no path beyond [`DARK_MAX`] and why: steps, each counted for every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DarkReasons {
    /// The node, or the injection node, cannot reach the store and so cannot be helped.
    pub cut_off: u64,
    /// No controller decided: none was there, or the store was away.
    pub undecided: u64,
    /// There was no place at any parent.
    pub no_place: u64,
    /// The longest time without a path that needed no reason.
    pub longest: Duration,
}

/// What is watched from step to step.
#[derive(Debug, Default)]
pub(super) struct Health {
    reasons: DarkReasons,
}

impl Health {
    pub const fn reasons(&self) -> &DarkReasons {
        &self.reasons
    }

    pub fn check(&mut self, world: &mut World) -> Result<(), String> {
        if let Some(node) = looped(&world.nodes) {
            return Err(format!("{} is on a loop", world.nodes[node].id));
        }
        let acting =
            world.controllers.iter().flatten().filter(|controller| controller.acts(world.now)).count();
        if acting > 1 {
            return Err(format!("{acting} controllers act"));
        }
        check_places(world)?;
        check_conserved(world)?;
        self.check_paths(world)
    }

    fn check_paths(&mut self, world: &mut World) -> Result<(), String> {
        let now = world.now;
        let origins: Vec<usize> = world.publishers.iter().filter_map(|publisher| publisher.at).collect();
        let origins: Vec<usize> =
            origins.into_iter().filter(|at| world.nodes[*at].is_reachable(now)).collect();
        let reached: Vec<Vec<bool>> = origins.iter().map(|origin| reached(*origin, &world.nodes)).collect();
        let plan = world.controllers.iter().flatten().find(|controller| controller.acts(now));
        let findings = plan.map_or_else(Vec::new, |controller| controller.plan.findings.clone());
        for index in 0..world.nodes.len() {
            let has_all = reached.iter().all(|reached| reached[index]);
            let node = &mut world.nodes[index];
            let counts = node.is_reachable(now) && node.record.load.viewers > 0 && !has_all;
            if !counts {
                node.dark = Duration::ZERO;
                continue;
            }
            node.dark += TICK;
            if findings.iter().any(|finding| is_unplaced(finding, &node.id)) {
                node.unplaced = Some(now);
            }
            let dark = node.dark;
            if dark <= DARK_MAX {
                self.reasons.longest = self.reasons.longest.max(dark);
            } else {
                self.excuse(world, index, &origins)?;
            }
        }
        Ok(())
    }

    /// A reason that is none of the tree's, or an error.
    fn excuse(&mut self, world: &World, index: usize, origins: &[usize]) -> Result<(), String> {
        let now = world.now;
        let is_cut = |node: &usize| now < world.nodes[*node].cut_until + CHANCE;
        let decides_since =
            world.controllers.iter().flatten().filter_map(|controller| controller.decides_since).min();
        let node = &world.nodes[index];
        if is_cut(&index) || origins.iter().any(is_cut) {
            self.reasons.cut_off += 1;
        } else if decides_since.is_none_or(|since| now < since + CHANCE) {
            self.reasons.undecided += 1;
        } else if node.unplaced.is_some_and(|at| now < at + CHANCE) {
            self.reasons.no_place += 1;
        } else {
            let parents: Vec<&str> =
                node.assigned.iter().map(|parent| world.nodes[*parent].id.as_str()).collect();
            return Err(format!(
                "{} has had no path for {:?}, its parents are {parents:?}: {:?}",
                node.id, node.dark, node.links
            ));
        }
        Ok(())
    }
}

/// Whether a controller says that this node lacks media, or may lack some, for want of places.
fn is_unplaced(finding: &Finding, id: &NodeId) -> bool {
    match finding {
        Finding::NoInjection { .. } => true,
        Finding::NoParent { node } | Finding::OutOfReach { node, .. } => node == id,
        Finding::InjectionNodesBeyondLimit { .. }
        | Finding::NodesMissing { .. }
        | Finding::NodesBeyondLimit { .. }
        | Finding::NetworkFull { .. }
        | Finding::OneHost { .. } => false,
    }
}

/// No node has more viewers or more children than it may have; none is promised more children.
fn check_places(world: &World) -> Result<(), String> {
    let mut promised = vec![0u32; world.nodes.len()];
    let index = world.index();
    for node in world.nodes.iter().filter(|node| node.reaches_store(world.now) && world.now >= node.cut_until)
    {
        let Some((Value::Assignment(assigned), _)) = world.store.get(&Key::Assignment(node.id.clone()))
        else {
            continue;
        };
        assigned
            .parents
            .iter()
            .filter_map(|parent| index.get(parent))
            .for_each(|parent| promised[*parent] += 1);
    }
    for (number, node) in world.nodes.iter().enumerate() {
        let (load, capacity) = (&node.record.load, &node.record.capacity);
        if load.viewers > capacity.viewers_max || load.children > capacity.children_max {
            return Err(format!("{} has {} viewers and {} children", node.id, load.viewers, load.children));
        }
        // A node that was thought dead and is back brings links along that were given to others meanwhile.
        if promised[number] > capacity.children_max + 3 {
            return Err(format!("{} children are assigned to {}", promised[number], node.id));
        }
    }
    Ok(())
}

/// Nobody is lost, nobody is counted twice.
fn check_conserved(world: &World) -> Result<(), String> {
    let (placed, waiting) = (world.viewers(), world.crowd.all());
    if placed + waiting == world.wanted {
        Ok(())
    } else {
        Err(format!("{placed} viewers have places, {waiting} wait, {} should be there", world.wanted))
    }
}

/// Everything is well: after a time without faults.
pub(super) fn after_healing(world: &World, written: u64) -> Result<(), String> {
    if written > 0 {
        return Err(format!("{written} assignments were written in peace"));
    }
    let acting = world.controllers.iter().flatten().filter(|controller| controller.acts(world.now)).count();
    if acting != 1 {
        return Err(format!("{acting} controllers act in peace"));
    }
    let plan = world.controllers.iter().flatten().find(|controller| controller.acts(world.now));
    let findings = plan.map_or(&[][..], |controller| &controller.plan.findings);
    let has_source = world.nodes.iter().any(|node| node.is_alive && node.record.role.is_injection());
    for publisher in &world.publishers {
        let Some(origin) = publisher.at else {
            let text = format!("{} is not published in peace", publisher.broadcast);
            return if has_source { Err(text) } else { Ok(()) };
        };
        let reached = reached(origin, &world.nodes);
        let is_lost = |index: &usize| {
            let node = &world.nodes[*index];
            let is_told = || findings.iter().any(|finding| is_unplaced(finding, &node.id));
            node.is_alive && node.record.role == Role::Egress && !reached[*index] && !is_told()
        };
        if let Some(lost) = (0..world.nodes.len()).find(is_lost) {
            return Err(format!("{} has no path from {origin} in peace", world.nodes[lost].id));
        }
    }
    for observer in world.controllers.iter().flatten().map(|controller| &controller.observer) {
        if observer.viewers() != world.viewers() {
            return Err(format!("a controller counts {} viewers of {}", observer.viewers(), world.viewers()));
        }
        for node in &world.nodes {
            let health = observer.health(world.now, &node.id);
            if node.is_alive != health.is_some_and(tree::Health::is_alive)
                && (node.is_alive || health.is_some())
            {
                return Err(format!("{} is thought {health:?}, it is alive: {}", node.id, node.is_alive));
            }
        }
    }
    Ok(())
}
