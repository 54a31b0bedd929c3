//! The tree as it stands: nodes by index, what is stored, places at parents, who is above whom.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, Role};

use super::layers::RELAY_PLACES;
use super::reason::Cause;
use crate::{Health, NodeView, Place, Rate, Template};

/// One node of the tree.
pub(super) struct Member<'a> {
    pub view: &'a NodeView,
    /// As it counts here: a node that is silent towards the store, while others report links to it, is cut off, not
    /// dead. It is left as a draining one is.
    pub health: Health,
    pub place: PlaceNumbers,
    /// Stored parents that are alive and may be parents, in their order.
    pub stored: Vec<usize>,
    /// Stored parents that are not, and others that are left for a better one.
    pub dropped: Vec<(NodeId, Cause)>,
    /// Stored parents whose networks are full: left as soon as others are there, and not before.
    pub squeezed: Vec<usize>,
    /// Parents that it is connected to, as it reports.
    pub connected: Vec<usize>,
    /// Parents that it shall have.
    pub parents: Vec<usize>,
    /// The children that it is meant for; the places beyond are for relays below it, and for need.
    pub children_meant: u32,
    /// Most children: as it says itself, and as the template says of relays.
    allowed: u32,
    /// The children that it takes: it may not have more, and its network carries no more, should each take everything.
    children_max: u32,
    /// Places taken: by those who have it as a parent now, and by those who shall.
    children: u32,
    /// How much of each [`Bound`] they are: looked at for each child and possible parent, so never divided there.
    used_permille: [u64; 2],
    /// Stored children beyond what its network carries.
    beyond: u32,
    /// Places taken, as it reports, by nodes of which nothing is known: cut off from the store for so long that their
    /// records are gone, they keep their links.
    pub strangers: u32,
    /// Relays to the sources, counted as hops; `None`: no way.
    pub depth: Option<u8>,
}

impl Member<'_> {
    pub fn is_alive(&self) -> bool {
        self.health.is_alive()
    }

    pub fn may_parent(&self) -> bool {
        matches!(self.view.role, Role::Injection | Role::Relay | Role::All)
    }

    pub fn is_relay(&self) -> bool {
        self.view.role == Role::Relay
    }

    pub const fn children_max(&self) -> u32 {
        self.children_max
    }

    /// Its network carries fewer children than it may have.
    pub const fn is_narrow(&self) -> bool {
        self.children_max < self.allowed
    }

    pub const fn children(&self) -> u32 {
        self.children
    }

    pub const fn bound(&self, bound: Bound) -> u32 {
        match bound {
            Bound::Meant => self.children_meant,
            Bound::Most => self.children_max(),
        }
    }

    pub const fn used_permille(&self, bound: Bound) -> u64 {
        self.used_permille[bound as usize]
    }

    fn set_children(&mut self, children: u32) {
        self.children = children;
        let bounds = [Bound::Meant, Bound::Most].map(|bound| self.bound(bound));
        self.used_permille = bounds.map(|bound| u64::from(children) * 1000 / u64::from(bound.max(1)));
    }
}

/// How far a parent's places are given out.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// To the children that it is meant for.
    Meant,
    /// To as many as it may have.
    Most,
}

/// Most children: as it says itself, and as the template says of relays.
fn allowed(template: &Template, view: &NodeView) -> u32 {
    let of_template = template.limits.relay_children_max.filter(|_| view.role == Role::Relay);
    view.capacity.children_max.min(of_template.unwrap_or(u32::MAX))
}

/// As many of them as its network carries. What viewers may take is theirs.
fn carried(view: &NodeView, each: Rate) -> u32 {
    let viewers = view.load.map_or(Rate::default(), |load| load.promised);
    view.capacity.fits(viewers, each).map_or(u32::MAX, |count| u32::try_from(count).unwrap_or(u32::MAX))
}

fn children_meant(template: &Template, children_max: u32) -> u32 {
    let meant = template.egress_per_relay.saturating_mul(parents_wanted(template) as u32);
    meant.min(children_max - children_max / 4).max(1).min(children_max)
}

fn parents_wanted(template: &Template) -> usize {
    let limits = &template.limits;
    (usize::from(limits.paths) + usize::from(limits.standbys)).clamp(1, crate::PARENTS_MAX)
}

/// Where a node stands, in numbers that are quick to compare; in the order of the names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceNumbers {
    pub region: usize,
    zone: usize,
    /// `None`: not told, shared with nobody.
    host: Option<usize>,
}

fn number_places(nodes: &BTreeMap<&NodeId, &NodeView>) -> Vec<PlaceNumbers> {
    let names = |name: fn(&Place) -> &str| -> Vec<&str> {
        let names: BTreeSet<&str> = nodes.values().map(|node| name(&node.place)).collect();
        names.into_iter().collect()
    };
    let [regions, zones, hosts] =
        [names(|place| &place.region), names(|place| &place.zone), names(|place| &place.host)];
    let number = |names: &[&str], name: &str| names.partition_point(|other| *other < name);
    let numbers = nodes.values().map(|node| PlaceNumbers {
        region: number(&regions, &node.place.region),
        zone: number(&zones, &node.place.zone),
        host: Some(&*node.place.host).filter(|host| !host.is_empty()).map(|host| number(&hosts, host)),
    });
    numbers.collect()
}

/// Children of each node, among those that have children themselves: where loops could be.
#[derive(Clone)]
struct Below(Vec<Vec<usize>>);

impl Below {
    fn new(nodes: usize) -> Self {
        Self(vec![Vec::new(); nodes])
    }

    fn add(&mut self, parent: usize, child: usize) {
        if !self.0[parent].contains(&child) {
            self.0[parent].push(child);
        }
    }

    /// `to` gets media from `from`, directly or not.
    fn reaches(&self, from: usize, to: usize) -> bool {
        let mut visited = vec![false; self.0.len()];
        let mut open = vec![from];
        while let Some(node) = open.pop() {
            if node == to {
                return true;
            }
            if !std::mem::replace(&mut visited[node], true) {
                open.extend(&self.0[node]);
            }
        }
        false
    }
}

/// One tree while it is decided on.
pub(super) struct Shape<'a> {
    pub template: &'a Template,
    /// By id.
    pub members: Vec<Member<'a>>,
    /// What every node shall get media from, directly or not.
    pub sources: Vec<usize>,
    /// Injection nodes that are none, because nobody can have so many parents.
    pub sources_beyond: usize,
    /// Relays in use, with a way to the sources.
    pub relays: Vec<usize>,
    /// Hops along the stored links, the longest way: who is planned in this order comes after all its stored parents, so
    /// that it is known which of them can be kept.
    pub levels: Vec<usize>,
    /// Egress nodes that take the sources without a relay between, in order.
    pub direct: Vec<usize>,
    /// Every link that is stored, reported or planned.
    below: Below,
}

/// Dead by their records and alive by their children's.
pub(super) fn cut_off(nodes: &BTreeMap<&NodeId, &NodeView>) -> BTreeSet<NodeId> {
    let heard = nodes.values().filter(|node| matches!(node.health, Health::Ready | Health::Draining));
    let reported = heard.flat_map(|node| &node.connected);
    let is_dead = |id: &&NodeId| nodes.get(id).is_some_and(|node| node.health == Health::Dead);
    reported.filter(is_dead).cloned().collect()
}

impl<'a> Shape<'a> {
    /// `each_child` is what one child may take.
    pub fn new(
        (template, each_child): (&'a Template, Rate),
        nodes: &BTreeMap<&NodeId, &'a NodeView>,
    ) -> Self {
        let ids: Vec<&NodeId> = nodes.keys().copied().collect();
        let index = |id: &NodeId| ids.binary_search(&id).ok();
        let cut_off = cut_off(nodes);
        let members: Vec<Member<'a>> = nodes
            .values()
            .zip(number_places(nodes))
            .map(|(view, place)| (view, place, allowed(template, view)))
            .map(|(view, place, allowed)| (view, place, allowed, allowed.min(carried(view, each_child))))
            .map(|(view, place, allowed, children_max)| Member {
                view,
                place,
                allowed,
                children_max,
                health: if cut_off.contains(&view.id) { Health::Draining } else { view.health },
                stored: Vec::new(),
                dropped: Vec::new(),
                squeezed: Vec::new(),
                connected: view.connected.iter().filter_map(index).collect(),
                parents: Vec::new(),
                children_meant: children_meant(template, children_max),
                children: 0,
                used_permille: [0; 2],
                beyond: 0,
                strangers: 0,
                depth: None,
            })
            .collect();
        let below = Below::new(members.len());
        let (sources, relays, direct) = (Vec::new(), Vec::new(), Vec::new());
        let mut shape =
            Self { template, members, sources, sources_beyond: 0, relays, levels: Vec::new(), direct, below };
        shape.read_stored(&index);
        shape.seat_stored();
        shape.count_strangers(&index);
        shape.levels = shape.stored_levels();
        shape
    }

    fn read_stored(&mut self, index: &impl Fn(&NodeId) -> Option<usize>) {
        let mut kept = Below::new(self.members.len());
        for child in 0..self.members.len() {
            if !self.members[child].is_alive() {
                continue;
            }
            // Where the store has lost an assignment, the node still follows it: its links are what is left of it.
            let view = self.members[child].view;
            let stored = view.assigned.as_ref().map_or(&view.connected, |assigned| &assigned.parents);
            let may_parent = self.members[child].may_parent();
            for id in stored {
                let parent = index(id);
                let cause = parent.map_or(Some(Cause::Left), |parent| self.flaw(parent, child));
                match (parent, cause) {
                    (Some(parent), None) if may_parent && kept.reaches(child, parent) => {
                        self.members[child].dropped.push((id.clone(), Cause::Loop));
                    }
                    (Some(parent), None) => {
                        kept.add(parent, child);
                        self.members[child].stored.push(parent);
                    }
                    (_, cause) => {
                        self.members[child].dropped.push((id.clone(), cause.unwrap_or(Cause::Left)));
                    }
                }
                if let Some(parent) = parent {
                    self.link(parent, child);
                }
            }
            for parent in self.members[child].connected.clone() {
                self.link(parent, child);
            }
        }
    }

    /// Why a stored parent can be none.
    fn flaw(&self, parent: usize, child: usize) -> Option<Cause> {
        let member = &self.members[parent];
        if member.health == Health::Dead {
            Some(Cause::Dead)
        } else if !member.may_parent() || parent == child {
            Some(Cause::NoParent)
        } else if self.members[child].stored.contains(&parent) {
            Some(Cause::NotNeeded)
        } else {
            None
        }
    }

    /// Gives places to the stored links, then to those that are only remembered by their links: first parents before
    /// second ones before those that stand by.
    fn seat_stored(&mut self) {
        for is_stored in [true, false] {
            for rank in 0..crate::PARENTS_MAX {
                for child in 0..self.members.len() {
                    if self.members[child].view.assigned.is_some() == is_stored {
                        self.seat(child, rank);
                    }
                }
            }
        }
        for member in &mut self.members {
            member.stored.truncate(crate::PARENTS_MAX);
            member.stored.retain(|parent| *parent != usize::MAX);
        }
    }

    /// Places beyond the bound are marked, and taken out in the end, so that ranks stay.
    fn seat(&mut self, child: usize, rank: usize) {
        let Some(&parent) = self.members[child].stored.get(rank) else { return };
        let is_relay = self.members[child].is_relay();
        let member = &mut self.members[parent];
        // Through relays a narrow network serves more, if they find places there.
        let kept = if is_relay || !member.is_narrow() || !member.view.role.is_injection() {
            0
        } else {
            (member.children_max() / 2).min(RELAY_PLACES)
        };
        if member.children < member.children_max() - kept {
            member.set_children(member.children + 1);
        } else {
            let id = member.view.id.clone();
            let is_squeezed = member.children_max() + member.beyond < member.allowed;
            member.beyond += u32::from(is_squeezed);
            if is_squeezed {
                self.members[child].squeezed.push(parent);
            }
            self.members[child].stored[rank] = usize::MAX;
            self.members[child].dropped.push((id, Cause::Full));
        }
    }

    fn count_strangers(&mut self, index: &impl Fn(&NodeId) -> Option<usize>) {
        let mut known = vec![0u32; self.members.len()];
        // A suspect may have lost its links; if it has not, its place counts twice until it is heard or dead.
        let is_heard = |member: &&Member<'_>| matches!(member.health, Health::Ready | Health::Draining);
        for member in self.members.iter().filter(is_heard) {
            let assigned =
                member.view.assigned.iter().flat_map(|assigned| &assigned.parents).filter_map(index);
            let parents: BTreeSet<usize> = assigned.chain(member.connected.iter().copied()).collect();
            parents.into_iter().for_each(|parent| known[parent] += 1);
        }
        for (member, known) in self.members.iter_mut().zip(known) {
            let children = member.view.load.map_or(0, |load| load.children);
            member.strangers = children.saturating_sub(known);
        }
    }

    fn stored_levels(&self) -> Vec<usize> {
        let mut levels = vec![0; self.members.len()];
        // Stored links make no loop, so this ends after as many rounds as there are levels.
        for _ in 0..levels.len() {
            let mut is_same = true;
            for (child, member) in self.members.iter().enumerate() {
                let level = member.stored.iter().map(|parent| levels[*parent] + 1).max().unwrap_or(0);
                is_same &= levels[child] == level;
                levels[child] = level;
            }
            if is_same {
                break;
            }
        }
        levels
    }

    fn link(&mut self, parent: usize, child: usize) {
        if self.members[child].may_parent() && self.members[parent].may_parent() {
            self.below.add(parent, child);
        }
    }

    /// The link would close a loop with one that is stored, reported or planned.
    pub fn would_loop(&self, parent: usize, child: usize) -> bool {
        parent == child || (self.members[child].may_parent() && self.below.reaches(child, parent))
    }

    /// There is a place for this child, or it has one already.
    pub fn has_place(&self, parent: usize, child: usize, limit: u32) -> bool {
        let taken = self.members[parent].children.saturating_add(self.members[parent].strangers);
        taken < limit || self.members[child].stored.contains(&parent)
    }

    /// Plans a link that [`Shape::has_place`].
    pub fn take(&mut self, parent: usize, child: usize) {
        if !self.members[child].stored.contains(&parent) {
            let member = &mut self.members[parent];
            member.set_children(member.children + 1);
        }
        self.members[child].parents.push(parent);
        self.link(parent, child);
    }

    /// Takes a planned link back; its place is free again only if it was new.
    pub fn give_up(&mut self, child: usize, position: usize, cause: Cause) {
        let parent = self.members[child].parents.remove(position);
        if self.members[child].stored.contains(&parent) {
            let id = self.members[parent].view.id.clone();
            self.members[child].dropped.push((id, cause));
        } else {
            let member = &mut self.members[parent];
            member.set_children(member.children - 1);
        }
    }

    pub fn share_host(&self, left: usize, right: usize) -> bool {
        let host = self.members[left].place.host;
        host.is_some() && host == self.members[right].place.host
    }

    pub fn same_region(&self, left: usize, right: usize) -> bool {
        self.members[left].place.region == self.members[right].place.region
    }

    pub fn same_zone(&self, left: usize, right: usize) -> bool {
        self.same_region(left, right) && self.members[left].place.zone == self.members[right].place.zone
    }

    /// How many parents a node has where there are enough.
    pub fn parents_wanted(&self) -> usize {
        parents_wanted(self.template)
    }

    /// Two parents are taken from at once, unless the template wants one.
    pub fn paths(&self) -> usize {
        usize::from(self.template.limits.paths).clamp(1, crate::PARENTS_MAX)
    }
}
