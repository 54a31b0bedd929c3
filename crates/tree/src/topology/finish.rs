//! From what is planned to what is to be stored: make before break, then the differences.

use model::{NodeId, Role, TreeId};

use super::reason::{Cause, Finding, Reason};
use super::shape::Shape;
use super::{Action, Plan};
use crate::{Health, PARENTS_MAX, Template};

impl Shape<'_> {
    /// Writes actions and findings.
    pub fn finish(mut self, tree: &TreeId, plan: &mut Plan) {
        let fed = self.fed();
        let mut is_planned = vec![false; self.members.len()];
        for child in self.sources.iter().chain(&self.consumers()).chain(&self.relays) {
            is_planned[*child] = true;
        }
        for child in (0..self.members.len()).filter(|child| is_planned[*child]) {
            self.linger(child, &fed);
        }
        self.keep_referenced(&is_planned);
        self.find(tree, &fed, plan);
        for child in 0..self.members.len() {
            plan.actions.extend(self.difference(child));
        }
    }

    /// Who has media right now, as far as reports tell: through links that are up, from a source.
    fn fed(&self) -> Vec<bool> {
        let mut fed = vec![self.sources.is_empty(); self.members.len()];
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.members.len()];
        for (child, member) in self.members.iter().enumerate() {
            member.connected.iter().for_each(|parent| children[*parent].push(child));
        }
        let mut open = self.sources.clone();
        while let Some(node) = open.pop() {
            if self.members[node].is_alive() && !std::mem::replace(&mut fed[node], true) {
                open.extend(&children[node]);
            }
        }
        fed
    }

    /// A parent that works is kept beside the new ones until those work.
    fn linger(&mut self, child: usize, fed: &[bool]) {
        let member = &self.members[child];
        let is_left = |parent: &&usize| !member.parents.contains(parent) && member.connected.contains(parent);
        // Who takes the sources themselves gets what each of them publishes from nobody else.
        let takes_sources = member.parents.iter().all(|parent| self.sources.contains(parent));
        let is_missed = |parent: &&usize| takes_sources && self.sources.contains(parent);
        let missed: Vec<usize> = member.squeezed.iter().filter(is_left).filter(is_missed).copied().collect();
        let squeezed = member.squeezed.iter().filter(|parent| !missed.contains(parent));
        let left: Vec<usize> = member.stored.iter().chain(squeezed).filter(is_left).copied().collect();
        let works = |parent: &&usize| member.connected.contains(parent) && fed[**parent];
        let working = member.parents.iter().filter(works).count();
        let is_alone = member.parents.is_empty() && !self.sources.contains(&child);
        if is_alone || working < self.paths().min(member.parents.len()) {
            self.members[child].parents.extend(left);
        }
        self.members[child].parents.extend(missed);
        self.members[child].parents.truncate(PARENTS_MAX);
    }

    /// A relay that is no longer meant to have children keeps its parents until the last child has left.
    fn keep_referenced(&mut self, is_planned: &[bool]) {
        let mut is_kept = is_planned.to_vec();
        let mut open: Vec<usize> = (0..self.members.len()).filter(|index| is_kept[*index]).collect();
        while let Some(child) = open.pop() {
            for parent in self.members[child].parents.clone() {
                if self.members[parent].is_alive() && !std::mem::replace(&mut is_kept[parent], true) {
                    let member = &mut self.members[parent];
                    member.parents = [&member.stored[..], &member.squeezed[..]].concat();
                    member.parents.truncate(PARENTS_MAX);
                    open.push(parent);
                }
            }
        }
    }

    fn find(&self, tree: &TreeId, fed: &[bool], plan: &mut Plan) {
        let id = |index: usize| self.members[index].view.id.clone();
        if self.sources.is_empty() {
            plan.findings.push(Finding::NoInjection { tree: tree.clone() });
        }
        self.find_missing(tree, plan);
        if self.sources_beyond > 0 {
            let beyond = self.sources_beyond;
            plan.findings.push(Finding::InjectionNodesBeyondLimit { tree: tree.clone(), beyond });
        }
        let nodes = self.members.iter().filter(|member| member.is_alive()).count();
        let max_nodes = self.template.limits.max_nodes;
        if nodes > max_nodes as usize {
            plan.findings.push(Finding::NodesBeyondLimit { tree: tree.clone(), nodes, max_nodes });
        }
        self.find_narrow(plan);
        let consumers = self.consumers();
        let serving = self.sources.iter().filter(|source| self.members[**source].view.role.is_egress());
        // Who takes some sources by itself and nobody who takes all of them.
        let takes_some = |child: &&usize| {
            let parents = &self.members[**child].parents;
            !parents.is_empty() && parents.iter().all(|parent| self.sources.contains(parent))
        };
        for &child in serving.chain(consumers.iter().filter(takes_some)) {
            let missing = self.sources.iter().filter(|source| **source != child);
            for &source in missing.filter(|source| !self.members[child].parents.contains(source)) {
                plan.findings.push(Finding::OutOfReach { injection: id(source), node: id(child) });
            }
        }
        for child in consumers {
            let parents = &self.members[child].parents;
            // Parents that only linger may have no media themselves.
            if parents.iter().all(|parent| self.members[*parent].depth.is_none() && !fed[*parent]) {
                plan.findings.push(Finding::NoParent { node: id(child) });
            } else if self.paths() > 1 && !self.is_direct(child) {
                let first = parents[0];
                if parents.iter().all(|parent| *parent == first || self.share_host(first, *parent)) {
                    plan.findings.push(Finding::OneHost { node: id(child) });
                }
            }
        }
    }

    /// Those whose networks carry fewer children than they have, and have to: there is no other place for them.
    fn find_narrow(&self, plan: &mut Plan) {
        let mut children = vec![0; self.members.len()];
        self.members.iter().flat_map(|member| &member.parents).for_each(|parent| children[*parent] += 1);
        for (member, children) in self.members.iter().zip(children) {
            if member.is_alive() && member.is_narrow() && children > member.children_max() {
                let (node, carried) = (member.view.id.clone(), member.children_max());
                plan.findings.push(Finding::NetworkFull { node, children, carried });
            }
        }
    }

    /// Where there is no injection node at all, that is said already.
    fn find_missing(&self, tree: &TreeId, plan: &mut Plan) {
        let Template { injection, relay, egress, .. } = *self.template;
        let injection = if self.sources.is_empty() { 0 } else { injection };
        for (role, wanted) in [(Role::Injection, injection), (Role::Relay, relay), (Role::Egress, egress)] {
            let plays = |has: Role| match role {
                Role::Injection => has.is_injection(),
                Role::Egress => has.is_egress(),
                _ => has == role,
            };
            let alive = self.members.iter().filter(|member| member.is_alive());
            let there = alive.filter(|member| plays(member.view.role)).count() as u32;
            if there < wanted {
                plan.findings.push(Finding::NodesMissing { tree: tree.clone(), role, there, wanted });
            }
        }
    }

    fn difference(&self, child: usize) -> Option<Action> {
        let member = &self.members[child];
        if !member.is_alive() {
            return None;
        }
        let before = member.view.assigned.as_ref();
        let parents: Vec<NodeId> =
            member.parents.iter().map(|parent| self.members[*parent].view.id.clone()).collect();
        let paths = self.paths() as u8;
        let is_same = match before {
            Some(assigned) => assigned.parents == parents && assigned.paths == paths,
            None => parents.is_empty(),
        };
        if is_same {
            return None;
        }
        let old = before.map_or(&[][..], |assigned| &assigned.parents);
        let takes = parents.iter().filter(|parent| !old.contains(parent));
        let mut reasons: Vec<Reason> = takes.map(|parent| Reason::Takes { parent: parent.clone() }).collect();
        for parent in old.iter().filter(|parent| !parents.contains(parent)) {
            reasons.push(Reason::Leaves { parent: parent.clone(), cause: self.cause(child, parent) });
        }
        if reasons.is_empty() {
            reasons.push(Reason::Reorders);
        }
        Some(Action::Assign { node: member.view.id.clone(), parents, paths, reasons })
    }

    fn cause(&self, child: usize, parent: &NodeId) -> Cause {
        let known = self.members[child].dropped.iter().find(|(id, _)| id == parent).map(|(_, cause)| *cause);
        let is_draining =
            self.members.iter().any(|member| member.view.id == *parent && member.health == Health::Draining);
        known.unwrap_or(if is_draining { Cause::Draining } else { Cause::NotNeeded })
    }
}
