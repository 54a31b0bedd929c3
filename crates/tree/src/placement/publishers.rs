//! Publishers: back to where their broadcast is, else to the less used of two injection nodes.

use std::time::Instant;

use super::directory::{Entry, Tree};
use super::reservations::Kind;
use super::{Answer, HERE_PERMILLE, Nowhere, Placement, Request, search, usage};
use crate::{Health, PARENTS_MAX, Rate};

impl Placement {
    /// Places a publisher and keeps its place. `draw` gives random numbers.
    pub fn place_publisher(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Answer {
        let chosen = self.choose(request, |request| self.choose_injection(now, request, draw));
        let chosen = chosen.map(|index| (index, Rate::default()));
        self.promise(now, request, (Kind::Publisher, chosen))
    }

    fn choose_injection(
        &self,
        now: Instant,
        request: &Request<'_>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Result<usize, Nowhere> {
        let tree = self.directory.trees.get(request.tree).ok_or(Nowhere::NoNode)?;
        let origin = tree.broadcasts.get(request.broadcast).and_then(|broadcast| broadcast.origin);
        let is_ready = |origin: &usize| {
            self.directory.entries[*origin].health == Health::Ready && !self.is_lost(request, *origin)
        };
        if let Some(origin) = origin.filter(is_ready) {
            return Ok(origin);
        }
        let usage = |index: usize| {
            if self.is_lost(request, index) {
                return Err(Nowhere::NotReady);
            }
            let entry = &self.directory.entries[index];
            usage::publisher(entry, self.reservations.count(now, &entry.id, Kind::Publisher).count)
        };
        let pools = self.pools(tree, request);
        let mut nearest = Nowhere::NoNode;
        for pool in pools {
            let found = search(&pool, draw, &usage);
            nearest = nearest.max(found.nearest);
            let Some(best) = found.best else { continue };
            let here =
                request.here.and_then(|here| self.directory.find(here)).filter(|here| pool.contains(here));
            let is_good = |here: &usize| usage(*here).is_ok_and(|used| used <= best.0 + HERE_PERMILLE);
            return Ok(here.filter(is_good).unwrap_or(best.1));
        }
        Err(nearest)
    }

    /// Injection nodes, best ones first: those whose broadcasts get everywhere before those below others, those in the
    /// region before others. No further node is opened where a node can have no more parents.
    fn pools(&self, tree: &Tree, request: &Request<'_>) -> Vec<Vec<usize>> {
        let entry = |index: &usize| &self.directory.entries[*index];
        let all = &tree.injection.all;
        let origins =
            all.iter().filter(|index| entry(index).is_origin && entry(index).health.is_alive()).count();
        let is_open = |entry: &Entry| entry.is_origin || origins < PARENTS_MAX;
        let gets_everywhere = |entry: &Entry| entry.is_injection_only || entry.is_root;
        let is_near = |entry: &Entry| request.region.is_none_or(|region| &*entry.region == region);
        let choices: [&dyn Fn(&Entry) -> bool; 3] = [
            &|entry| is_open(entry) && gets_everywhere(entry) && is_near(entry),
            &|entry| is_open(entry) && gets_everywhere(entry),
            &is_open,
        ];
        choices.map(|choice| all.iter().copied().filter(|index| choice(entry(index))).collect()).into()
    }
}
