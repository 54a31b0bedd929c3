//! A model node: heartbeats, links that follow its assignment, viewers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{Bitrate, NodeId, Role};
use tree::{Capacity, Incarnation, Load, Place, Rate};

use crate::Random;

/// A link that is silent for so long is down.
const SILENCE_MAX: Duration = Duration::from_millis(300);
/// A link that does not come up is tried again after so long.
const RETRY: Duration = Duration::from_millis(500);

/// What a node writes each second.
#[derive(Debug, Clone)]
pub struct NodeRecord {
    /// What it does.
    pub role: Role,
    /// Where it stands.
    pub place: Place,
    /// The most that it takes.
    pub capacity: Capacity,
    /// The run of its process.
    pub incarnation: Incarnation,
    /// It takes nobody new.
    pub is_draining: bool,
    /// What it carries.
    pub load: Load,
    /// Parents that it has links to.
    pub connected: Vec<NodeId>,
}

/// A link to a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Will be up, or will be tried, then.
    Dialled(Duration),
    /// Works.
    Up,
    /// Says nothing since then.
    Silent(Duration),
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub id: NodeId,
    /// What it writes next; its figures are those of this moment.
    pub record: NodeRecord,
    /// Its process runs.
    pub is_alive: bool,
    /// Nobody reaches it, until then.
    pub isolated_until: Duration,
    /// It does not reach the store, until then.
    pub cut_until: Duration,
    /// The parents it was told last, by index.
    pub assigned: Vec<usize>,
    /// Its links, by parent.
    pub links: BTreeMap<usize, Link>,
    /// When it writes next.
    pub next_heartbeat: Duration,
    /// When it wrote last.
    pub written: Duration,
    /// How long it has had viewers and lacked a broadcast.
    pub dark: Duration,
    /// When a controller said last that there was no place for it.
    pub unplaced: Option<Duration>,
}

impl Node {
    /// A process that has just started.
    #[must_use]
    pub fn new(id: NodeId, role: Role, (place, capacity): (Place, Capacity)) -> Self {
        let load = Load {
            viewers: 0,
            publishers: 0,
            children: 0,
            cpu_percent: 0,
            shard_percent: 0,
            sent: Bitrate::bps(0),
            packets_per_second: 0,
            promised: Rate::default(),
        };
        let incarnation = Incarnation { counter: 1, random: 1 };
        let record = NodeRecord {
            role,
            place,
            capacity,
            incarnation,
            is_draining: false,
            load,
            connected: Vec::new(),
        };
        Self {
            id,
            record,
            is_alive: true,
            isolated_until: Duration::ZERO,
            cut_until: Duration::ZERO,
            assigned: Vec::new(),
            links: BTreeMap::new(),
            next_heartbeat: Duration::ZERO,
            written: Duration::ZERO,
            dark: Duration::ZERO,
            unplaced: None,
        }
    }

    /// Runs and can be reached.
    #[must_use]
    pub fn is_reachable(&self, now: Duration) -> bool {
        self.is_alive && now >= self.isolated_until
    }

    /// Reaches the store, if that is up.
    #[must_use]
    pub fn reaches_store(&self, now: Duration) -> bool {
        self.is_reachable(now) && now >= self.cut_until
    }

    /// The process is gone, with everything that it held; returns how many viewers lost it.
    pub fn crash(&mut self) -> u32 {
        self.is_alive = false;
        self.links.clear();
        self.assigned.clear();
        self.record.connected.clear();
        self.record.load.publishers = 0;
        self.dark = Duration::ZERO;
        std::mem::take(&mut self.record.load.viewers)
    }

    /// The process starts again, as a later run.
    pub fn restart(&mut self, now: Duration) {
        self.is_alive = true;
        self.record.is_draining = false;
        self.record.incarnation.counter += 1;
        self.next_heartbeat = now;
    }

    /// Its links that work.
    pub fn up(&self) -> impl Iterator<Item = usize> {
        self.links.iter().filter(|(_, link)| **link == Link::Up).map(|(parent, _)| *parent)
    }

    /// Parents at which it holds a place: a parent gives a silent child's place to nobody before the link is down.
    fn holds(&self) -> impl Iterator<Item = usize> {
        let is_held = |link: &Link| matches!(link, Link::Up | Link::Silent(_));
        self.links.iter().filter(move |(_, link)| is_held(link)).map(|(parent, _)| *parent)
    }
}

/// Links follow assignments: dialled, up, silent, tried again. A parent refuses a child beyond its places, and one that
/// is its own parent.
pub fn step_links(now: Duration, nodes: &mut [Node], random: &mut Random) {
    let mut children = vec![0u32; nodes.len()];
    nodes.iter().filter(|node| node.is_alive).flat_map(Node::holds).for_each(|parent| children[parent] += 1);
    for index in 0..nodes.len() {
        if !nodes[index].is_alive {
            continue;
        }
        let mut links = std::mem::take(&mut nodes[index].links);
        let assigned: BTreeSet<usize> = nodes[index].assigned.iter().copied().collect();
        links.retain(|parent, _| assigned.contains(parent));
        for parent in assigned {
            let is_heard = nodes[index].is_reachable(now) && nodes[parent].is_reachable(now);
            let link = links.get(&parent).copied();
            let next = match link {
                None => Link::Dialled(now + Duration::from_millis(random.within(20, 200))),
                Some(Link::Dialled(at)) if now < at => Link::Dialled(at),
                Some(Link::Dialled(_)) => {
                    let has_place = children[parent] < nodes[parent].record.capacity.children_max;
                    if is_heard && has_place && !nodes[parent].links.contains_key(&index) {
                        children[parent] += 1;
                        Link::Up
                    } else {
                        Link::Dialled(now + RETRY)
                    }
                }
                Some(Link::Up) if is_heard => Link::Up,
                Some(Link::Up) => Link::Silent(now),
                Some(Link::Silent(_)) if is_heard => Link::Up,
                Some(Link::Silent(since)) if now < since + SILENCE_MAX => Link::Silent(since),
                Some(Link::Silent(_)) => Link::Dialled(now + RETRY),
            };
            links.insert(parent, next);
        }
        nodes[index].links = links;
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id.clone()).collect();
    for (node, children) in nodes.iter_mut().zip(children) {
        node.record.connected = node.up().map(|parent| ids[parent].clone()).collect();
        node.record.load.children = children;
    }
}

/// Who has media from a node: through links that are up.
#[must_use]
pub fn reached(origin: usize, nodes: &[Node]) -> Vec<bool> {
    let mut children = vec![Vec::new(); nodes.len()];
    for (child, node) in nodes.iter().enumerate().filter(|(_, node)| node.is_alive) {
        node.up().for_each(|parent| children[parent].push(child));
    }
    let mut reached = vec![false; nodes.len()];
    let mut open = vec![origin];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node], true) {
            open.extend(&children[node]);
        }
    }
    reached
}

/// A node on a loop of links that are up, if there is one.
#[must_use]
pub fn looped(nodes: &[Node]) -> Option<usize> {
    let mut missing: Vec<usize> = nodes.iter().map(|node| node.up().count()).collect();
    let mut children = vec![Vec::new(); nodes.len()];
    for (child, node) in nodes.iter().enumerate() {
        node.up().for_each(|parent| children[parent].push(child));
    }
    let mut open: Vec<usize> = (0..nodes.len()).filter(|node| missing[*node] == 0).collect();
    while let Some(node) = open.pop() {
        for &child in &children[node] {
            missing[child] -= 1;
            if missing[child] == 0 {
                open.push(child);
            }
        }
    }
    missing.iter().position(|missing| *missing > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, role: Role) -> Node {
        let place = Place { region: "eu".into(), zone: "".into(), host: name.into() };
        let capacity = Capacity {
            viewers_max: 1,
            publishers_max: 1,
            children_max: 1,
            egress_max: None,
            packets_per_second_max: None,
        };
        Node::new(NodeId::new(name).expect("a good id"), role, (place, capacity))
    }

    #[test]
    fn a_child_that_is_silent_for_a_moment_keeps_its_place() {
        let mut nodes = [node("r0", Role::Relay), node("e0", Role::Egress), node("e1", Role::Egress)];
        let mut random = Random::new(1);
        let mut now = Duration::ZERO;
        let mut pass = |nodes: &mut [Node], time: u64| {
            for _ in 0..time / 100 {
                now += Duration::from_millis(100);
                step_links(now, nodes, &mut random);
                assert!(nodes[0].record.load.children <= 1, "{:?} {:?}", nodes[1].links, nodes[2].links);
            }
            now
        };
        nodes[1].assigned = vec![0];
        let now = pass(&mut nodes, 1000);
        assert_eq!(nodes[1].links[&0], Link::Up);
        nodes[1].isolated_until = now + Duration::from_millis(350);
        nodes[2].assigned = vec![0];
        pass(&mut nodes, 2000);
        assert_eq!(nodes[1].links[&0], Link::Up);
        assert!(matches!(nodes[2].links[&0], Link::Dialled(_)));
    }
}
