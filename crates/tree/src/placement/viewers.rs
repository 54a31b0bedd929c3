//! Viewers: to the less used of two egress nodes in their region, elsewhere only where that is full.

use std::time::Instant;

use super::directory::Tree;
use super::reservations::Kind;
use super::{Answer, HERE_PERMILLE, Nowhere, Placement, Request, search, usage};
use crate::Rate;

impl Placement {
    /// Places a viewer and keeps its place. `draw` gives random numbers.
    pub fn place_viewer(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Answer {
        let chosen = self.choose(request, |request| self.choose_egress(now, request, draw));
        self.promise(now, request, (Kind::Viewer, chosen))
    }

    fn choose_egress(
        &self,
        now: Instant,
        request: &Request<'_>,
        draw: &mut dyn FnMut() -> u64,
    ) -> Result<(usize, Rate), Nowhere> {
        let tree = self.directory.trees.get(request.tree).ok_or(Nowhere::NoNode)?;
        let reached = self.reached(tree, request);
        let viewer = tree.broadcasts.get(request.broadcast).and_then(|broadcast| broadcast.viewer);
        let cost = |index: usize| usage::cost(&self.directory.entries[index], viewer);
        let usage = |index: usize| {
            if reached.is_some_and(|reached| !reached[index]) {
                return Err(Nowhere::OutOfReach);
            }
            if self.is_lost(request, index) {
                return Err(Nowhere::NotReady);
            }
            let entry = &self.directory.entries[index];
            usage::viewer(entry, self.reservations.count(now, &entry.id, Kind::Viewer), cost(index))
        };
        let here = request.here.and_then(|here| self.directory.find(here));
        let here = here.filter(|here| tree.egress.all.binary_search(here).is_ok());
        let region = request.region.and_then(|region| tree.egress.by_region.get(region));
        let near = region.map(|pool| search(pool, draw, &usage)).filter(|near| near.best.is_some());
        let is_here_near = here.is_some_and(|here| {
            request.region.is_none_or(|region| &*self.directory.entries[here].region == region)
        });
        let found = match near {
            Some(near) => near,
            None => search(&tree.egress.all, draw, &usage),
        };
        if let (Some(here), true) = (here, is_here_near || found.best.is_none())
            && let Ok(used) = usage(here)
            && found.best.is_none_or(|best| used <= best.0 + HERE_PERMILLE)
        {
            return Ok((here, cost(here)));
        }
        found.best.map(|best| (best.1, cost(best.1))).ok_or(found.nearest)
    }

    /// Those that media of the broadcast gets to; `None` where that says nothing: it was never published, its origin is
    /// not known.
    fn reached<'a>(&self, tree: &'a Tree, request: &Request<'_>) -> Option<&'a [bool]> {
        let origin = tree.broadcasts.get(request.broadcast)?.origin?;
        if !self.directory.entries[origin].health.is_alive() {
            return None;
        }
        tree.reached.get(&origin).map(Vec::as_slice)
    }
}
