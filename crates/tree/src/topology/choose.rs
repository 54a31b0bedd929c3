//! The parents of egress nodes.

use super::reason::Cause;
use super::shape::{Bound, Shape};
use crate::Health;

/// Most places that a source keeps free of egress nodes, so that a relay can still come between.
const SPARE_MAX: u32 = 2;

/// How good a parent would be, less being better: shares a host with another one, is in another region, its depth, how
/// used it is, shares a zone with another one, its index.
type Rank = (bool, bool, u8, u64, bool, usize);

impl Shape<'_> {
    /// Plans the parents of sources among themselves and of everybody who serves viewers.
    pub fn choose_parents(&mut self) {
        self.link_sources();
        for child in self.direct.clone() {
            self.take_direct(child);
        }
        let mut consumers = self.consumers();
        // Nodes with all roles come before their stored children, which can then keep them.
        consumers.sort_by_key(|child| self.levels[*child]);
        let through: Vec<usize> = consumers.iter().copied().filter(|child| !self.is_direct(*child)).collect();
        through.iter().for_each(|child| self.keep_relays(*child));
        // Everybody gets a first parent before anybody gets a better or a second one.
        for rank in 0..self.parents_wanted() {
            for &child in &through {
                if rank == 1 && self.paths() > 1 {
                    self.take_second_way(child);
                }
                if self.members[child].parents.len() <= rank {
                    self.take_next(child, rank);
                }
            }
            if rank == 0 {
                self.take_what_is_left(&consumers);
                through.iter().for_each(|child| self.mend_regions(*child));
            }
        }
        self.free_places();
    }

    /// For those who found no place so far. Who finds one may have places itself, so this goes on while it helps.
    fn take_what_is_left(&mut self, consumers: &[usize]) {
        let mut orphans = consumers.to_vec();
        loop {
            orphans.retain(|child| self.members[*child].parents.is_empty());
            orphans.iter().for_each(|child| self.take_any(*child));
            if orphans.iter().all(|child| self.members[*child].parents.is_empty()) {
                break;
            }
        }
        for child in orphans.into_iter().filter(|child| self.is_direct(*child)).collect::<Vec<_>>() {
            self.take_some_sources(child, self.spare());
        }
    }

    pub fn is_direct(&self, child: usize) -> bool {
        self.direct.binary_search(&child).is_ok()
    }

    /// A source that serves viewers takes the other sources, as far as that makes no loop.
    fn link_sources(&mut self) {
        for child in self.sources.clone() {
            if self.members[child].view.role.is_egress() {
                self.take_some_sources(child, 0);
                self.members[child].depth = Some(0);
            }
        }
    }

    fn spare(&self) -> u32 {
        let places = self.sources.iter().map(|source| self.members[*source].children_max());
        places.min().map_or(0, |places| (places / 4).min(SPARE_MAX))
    }

    fn take_direct(&mut self, child: usize) {
        if self.sources.is_empty() {
            self.keep_stored(child);
        } else if self.has_stored_source(child) {
            self.take_some_sources(child, self.spare());
        } else {
            self.take_sources(child, self.spare());
        }
    }

    /// Relays that are in use stay parents.
    fn keep_relays(&mut self, child: usize) {
        for parent in self.members[child].stored.clone() {
            let is_full = self.members[child].parents.len() >= self.parents_wanted();
            if self.relays.contains(&parent) && !is_full {
                self.take(parent, child);
            }
        }
        self.set_depth(child);
    }

    /// The best of these that is ready and has a place: on another host than the parents so far, in the child's region,
    /// near the sources, little used, in another zone.
    ///
    /// Every child looks at every relay here, so what costs is asked last, and only of those that would be the best.
    pub fn best(&self, child: usize, pool: &[usize], bound: Bound) -> Option<usize> {
        let chosen = &self.members[child].parents;
        let mut best: Option<Rank> = None;
        for &parent in pool {
            let member = &self.members[parent];
            let Some(depth) = member.depth.filter(|_| member.health == Health::Ready) else { continue };
            let (is_far, used) = (!self.same_region(child, parent), member.used_permille(bound));
            let is_better = |rank: Rank| best.is_none_or(|best| rank < best);
            if !is_better((false, is_far, depth, used, false, parent)) {
                continue;
            }
            let shares_host = chosen.iter().any(|other| self.share_host(*other, parent));
            let shares_zone = chosen.iter().any(|other| self.same_zone(*other, parent));
            let rank = (shares_host, is_far, depth, used, shares_zone, parent);
            if is_better(rank)
                && !chosen.contains(&parent)
                && self.has_place(parent, child, member.bound(bound))
                && !self.would_loop(parent, child)
            {
                best = Some(rank);
            }
        }
        best.map(|(.., parent)| parent)
    }

    /// The best relay below what it is meant for; beyond that only where the need is `great`.
    fn best_relay(&self, child: usize, is_great: bool) -> Option<usize> {
        let meant = self.best(child, &self.relays, Bound::Meant);
        let any = || self.best(child, &self.relays, Bound::Most);
        meant.or_else(|| is_great.then(any).flatten())
    }

    fn take_next(&mut self, child: usize, rank: usize) {
        if let Some(relay) = self.best_relay(child, rank < self.paths()) {
            self.take(relay, child);
            self.set_depth(child);
        } else if rank == 0 {
            self.take_sources(child, self.spare());
        }
    }

    /// A parent that does not share the first one's host: one that is there, another relay, or the sources themselves.
    fn take_second_way(&mut self, child: usize) {
        let parents = &self.members[child].parents;
        let Some(&first) = parents.first() else { return };
        if let Some(other) =
            parents.iter().position(|parent| !self.share_host(first, *parent) && *parent != first)
        {
            if other > 1 && self.share_host(first, parents[1]) {
                self.members[child].parents.swap(1, other);
            }
            return;
        }
        let before = parents.len();
        let relay = self.best_relay(child, true).filter(|relay| !self.share_host(first, *relay));
        if let Some(relay) = relay {
            self.take(relay, child);
        } else if self.sources.iter().all(|source| self.share_host(first, *source)) {
            return;
        } else {
            self.take_sources(child, self.spare());
        }
        let parents = &mut self.members[child].parents;
        let added = parents.len() - before;
        parents[1..].rotate_right(added);
        while self.members[child].parents.len() > self.parents_wanted().max(1 + added) {
            self.give_up(child, self.members[child].parents.len() - 1, Cause::SharesHost);
        }
        self.set_depth(child);
    }

    /// Relays, or nodes with all roles that have media themselves.
    fn take_any(&mut self, child: usize) {
        let is_fed = |index: &usize| {
            let member = &self.members[*index];
            member.may_parent() && !self.sources.contains(index) && !member.parents.is_empty()
        };
        let fed: Vec<usize> = (0..self.members.len()).filter(is_fed).collect();
        for parent in self.members[child].stored.clone() {
            if fed.contains(&parent) && self.members[child].parents.len() < self.paths() {
                self.take(parent, child);
            }
        }
        while self.members[child].parents.len() < self.paths() {
            let Some(parent) = self.best(child, &fed, Bound::Most) else { break };
            self.take(parent, child);
        }
        self.set_depth(child);
    }

    /// Parents stand in the child's region where there is a choice.
    fn mend_regions(&mut self, child: usize) {
        for position in 0..self.members[child].parents.len() {
            if self.same_region(child, self.members[child].parents[position]) {
                continue;
            }
            let better = self.best(child, &self.relays, Bound::Meant);
            let others = self.members[child].parents.iter();
            let mut others =
                others.enumerate().filter(|(other, _)| *other != position).map(|(_, other)| *other);
            let is_better = |relay: &usize| {
                self.same_region(child, *relay) && !others.any(|other| self.share_host(other, *relay))
            };
            if let Some(better) = better.filter(is_better) {
                self.replace(child, (position, better), Cause::OtherRegion);
            }
        }
    }

    fn replace(&mut self, child: usize, (position, better): (usize, usize), cause: Cause) {
        self.give_up(child, position, cause);
        self.take(better, child);
        let parents = &mut self.members[child].parents;
        let last = parents.len() - 1;
        parents[position..=last].rotate_right(1);
    }

    /// Where somebody found no parent at all, somebody with several gives one up that the other can take next time.
    fn free_places(&mut self) {
        let consumers = self.consumers();
        let is_orphan = |child: &usize| self.members[*child].parents.is_empty();
        let orphans = consumers.iter().copied().filter(is_orphan);
        let givers = consumers.iter().copied().filter(|child| !self.is_direct(*child));
        let (orphans, givers): (Vec<usize>, Vec<usize>) = (orphans.collect(), givers.collect());
        for orphan in orphans {
            let offer = |child: usize| {
                let parents = &self.members[child].parents;
                let last = || parents.iter().rposition(|parent| self.could_feed(*parent, orphan));
                let position = (parents.len() > 1).then(last).flatten()?;
                Some((parents.len(), child, position))
            };
            let richest = givers.iter().filter_map(|child| offer(*child)).max();
            if let Some((_, child, position)) = richest {
                self.give_up(child, position, Cause::Full);
            }
        }
    }

    /// It would, had it a place. Sources are taken all together or not at all, which one place does not help.
    fn could_feed(&self, parent: usize, child: usize) -> bool {
        let member = &self.members[parent];
        member.health == Health::Ready
            && member.depth.is_some()
            && !member.parents.is_empty()
            && !self.sources.contains(&parent)
            && !self.would_loop(parent, child)
    }
}
