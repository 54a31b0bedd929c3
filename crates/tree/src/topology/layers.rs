//! Which nodes are sources, whether relays are needed, which ones, and where they get media from.

use std::collections::{BTreeMap, BTreeSet};

use model::{NodeId, Role};

use super::shape::{Bound, Shape};
use crate::{Health, PARENTS_MAX};

/// Places that a source keeps for relays, should they become necessary.
pub(super) const RELAY_PLACES: u32 = 4;

/// How relays are asked for: egress nodes by region, and who takes the sources directly.
pub(super) struct Demand {
    direct: Vec<usize>,
    pub by_region: BTreeMap<usize, u32>,
    pub home: usize,
    /// Relays that find a place at the sources.
    pub first_tier: usize,
}

impl Shape<'_> {
    /// Injection nodes, those with broadcasts first; of nodes with all roles those that have a broadcast, or one of them
    /// where nobody has any.
    pub fn find_sources(&mut self, origins: &BTreeSet<&NodeId>) {
        let has = |index: &usize| origins.contains(&self.members[*index].view.id);
        let is_source = |index: &usize| {
            let member = &self.members[*index];
            let may_be = match member.view.role {
                Role::Injection => has(index) || member.health != Health::Draining,
                role => role.is_injection() && has(index),
            };
            member.is_alive() && may_be
        };
        let mut sources: Vec<usize> = (0..self.members.len()).filter(is_source).collect();
        if sources.is_empty() {
            let takes_new = |index: &usize| {
                let member = &self.members[*index];
                member.view.role.is_injection() && matches!(member.health, Health::Ready | Health::Suspect)
            };
            let first = (0..self.members.len())
                .filter(takes_new)
                .min_by_key(|index| (u32::MAX - self.members[*index].children(), *index));
            sources.extend(first);
        }
        sources.sort_by_key(|index| (!has(index), *index));
        self.sources_beyond = sources.len().saturating_sub(PARENTS_MAX);
        sources.truncate(PARENTS_MAX);
        for source in &sources {
            self.members[*source].depth = Some(0);
        }
        self.sources = sources;
    }

    /// Those that serve viewers and are not sources themselves.
    pub fn consumers(&self) -> Vec<usize> {
        let serves = |index: &usize| {
            let member = &self.members[*index];
            member.is_alive() && member.view.role.is_egress() && !self.sources.contains(index)
        };
        (0..self.members.len()).filter(serves).collect()
    }

    /// Takes as many relays as are needed and plans their parents.
    pub fn layer_relays(&mut self) {
        let pool: Vec<usize> = (0..self.members.len()).filter(|index| self.is_usable(*index)).collect();
        let demand = self.demand(&pool);
        let used = self.select(pool, &demand);
        self.direct = demand.direct;
        self.attach(used, demand.home);
    }

    /// A relay that may be taken, or is in use and only silent for a moment.
    fn is_usable(&self, index: usize) -> bool {
        let member = &self.members[index];
        let is_in_use = member.health == Health::Suspect && member.children() > 0;
        let may_be = member.is_relay() && self.template.limits.relay_levels_max > 0;
        may_be && member.children_max() > 0 && (member.health == Health::Ready || is_in_use)
    }

    pub fn region(&self, index: usize) -> usize {
        self.members[index].place.region
    }

    fn demand(&self, pool: &[usize]) -> Demand {
        let mut relays: BTreeMap<usize, u32> = BTreeMap::new();
        pool.iter().for_each(|relay| *relays.entry(self.region(*relay)).or_default() += 1);
        let source_regions: BTreeSet<usize> =
            self.sources.iter().map(|source| self.region(*source)).collect();
        let near_source =
            self.sources.iter().map(|source| self.region(*source)).find(|region| relays.contains_key(region));
        let most = relays
            .iter()
            .min_by_key(|(region, count)| (u32::MAX - **count, **region))
            .map(|(region, _)| *region);
        let home = near_source.or(most).unwrap_or_default();

        let is_remote = |consumer: &usize| {
            let region = self.region(*consumer);
            relays.contains_key(&region) && !source_regions.contains(&region)
        };
        let (remote, local): (Vec<usize>, Vec<usize>) = self.consumers().into_iter().partition(is_remote);
        let mut by_region: BTreeMap<usize, u32> = BTreeMap::new();
        remote.iter().for_each(|consumer| *by_region.entry(self.region(*consumer)).or_default() += 1);
        if pool.is_empty() || self.is_small(&local, pool.len(), by_region.len()) {
            let first_tier = self.first_tier(local.len());
            return Demand { direct: local, by_region, home, first_tier };
        }
        for consumer in local {
            let region = Some(self.region(consumer)).filter(|region| relays.contains_key(region));
            *by_region.entry(region.unwrap_or(home)).or_default() += 1;
        }
        Demand { direct: Vec::new(), by_region, home, first_tier: self.first_tier(0) }
    }

    fn first_tier(&self, direct: usize) -> usize {
        let places = self.sources.iter().map(|source| self.members[*source].children_max() as usize).min();
        places.unwrap_or(usize::MAX).saturating_sub(direct)
    }

    /// So few egress nodes near the sources that they need no relay. Where they have relays already they keep them until
    /// they are clearly fewer.
    fn is_small(&self, local: &[usize], relays: usize, regions_beyond: usize) -> bool {
        let takes_relay =
            |child: &usize| self.members[*child].stored.iter().any(|parent| self.members[*parent].is_relay());
        let is_relayed = local.iter().any(takes_relay);
        let room = |source: &usize| {
            let children_max = self.members[*source].children_max();
            children_max - (children_max / 2).min(RELAY_PLACES).min(relays as u32)
        };
        let Some(room) = self.sources.iter().map(room).min() else { return !is_relayed };
        let limit = room.min(self.template.limits.direct_children_max);
        let limit = if is_relayed { limit * 3 / 4 } else { limit };
        let relays_beyond = regions_beyond * self.parents_wanted();
        local.len() + relays_beyond <= limit as usize
    }

    /// Plans the parents of relays: all sources where there is a place at each of them, else relays of the tier above.
    fn attach(&mut self, mut relays: Vec<usize>, home: usize) {
        // Who has no links yet, is nobody's parent to keep.
        let order = |relay: &usize| {
            let is_new = !self.is_in_use(*relay);
            (is_new, self.levels[*relay], self.region(*relay) != home, *relay)
        };
        relays.sort_by_cached_key(order);
        for relay in relays {
            if self.sources.is_empty() {
                self.keep_stored(relay);
            } else if self.has_stored_source(relay) {
                self.take_some_sources(relay, 0);
            } else if !self.take_sources(relay, 0) {
                let levels_max = self.template.limits.relay_levels_max;
                let is_above =
                    |parent: &usize| self.members[*parent].depth.is_some_and(|depth| depth < levels_max);
                let above: Vec<usize> = self.relays.iter().copied().filter(is_above).collect();
                self.take_relays(relay, &above);
                if self.members[relay].parents.is_empty() {
                    self.take_some_sources(relay, 0);
                }
            }
            if self.members[relay].depth.is_some() {
                self.relays.push(relay);
            }
        }
    }

    /// Nobody publishes: what is linked stays linked.
    pub fn keep_stored(&mut self, child: usize) {
        for parent in self.members[child].stored.clone() {
            if self.members[parent].health != Health::Draining {
                self.take(parent, child);
            }
        }
        self.members[child].depth = Some(1);
    }

    pub fn has_stored_source(&self, child: usize) -> bool {
        self.members[child].stored.iter().any(|parent| self.sources.contains(parent))
    }

    /// Sources that this node has not taken yet, those that it has now first, in their order.
    fn missing_sources(&self, child: usize) -> Vec<usize> {
        let stored =
            self.members[child].stored.iter().copied().filter(|parent| self.sources.contains(parent));
        let mut missing: Vec<usize> = stored.collect();
        let new = self.sources.iter().copied().filter(|source| !missing.contains(source));
        let new: Vec<usize> = new.collect();
        missing.extend(new);
        missing.retain(|source| *source != child && !self.members[child].parents.contains(source));
        missing
    }

    fn has_source_place(&self, source: usize, child: usize, spare: u32) -> bool {
        let limit = self.members[source].children_max().saturating_sub(spare);
        self.members[child].stored.contains(&source)
            || (self.has_place(source, child, limit) && !self.would_loop(source, child))
    }

    /// Takes all sources, if each has a place beside the `spare` ones that it keeps; else none.
    pub fn take_sources(&mut self, child: usize, spare: u32) -> bool {
        let missing = self.missing_sources(child);
        let has_all = missing.iter().all(|source| self.has_source_place(*source, child, spare));
        if missing.is_empty() || !has_all {
            return false;
        }
        self.take_some_sources(child, spare);
        true
    }

    /// Takes those sources that have a place: better some broadcasts than none.
    pub fn take_some_sources(&mut self, child: usize, spare: u32) {
        for source in self.missing_sources(child) {
            let is_full = self.members[child].parents.len() >= PARENTS_MAX;
            if !is_full && self.has_source_place(source, child, spare) {
                self.take(source, child);
            }
        }
        self.set_depth(child);
    }

    fn take_relays(&mut self, relay: usize, above: &[usize]) {
        for parent in self.members[relay].stored.clone() {
            let is_full = self.members[relay].parents.len() >= self.parents_wanted();
            if above.contains(&parent) && !is_full {
                self.take(parent, relay);
            }
        }
        while self.members[relay].parents.len() < self.parents_wanted() {
            let Some(parent) = self.best(relay, above, Bound::Most) else { break };
            self.take(parent, relay);
        }
        self.set_depth(relay);
    }

    /// One more than the nearest parent's.
    pub fn set_depth(&mut self, child: usize) {
        let depths = self.members[child].parents.iter().filter_map(|parent| self.members[*parent].depth);
        self.members[child].depth = depths.min().map(|depth| depth.saturating_add(1));
    }
}
