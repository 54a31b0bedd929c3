//! Which relays are taken into use, and which go again.
//!
//! Relays in use stay while they are of use. Idle ones come in while places are missing, and some of those in use go
//! when there are twice as many as needed, but never so many that places would be missing. What is missing depends on
//! the nodes and not on what is in use: so none comes in because another one has gone, and this comes to an end.

use super::layers::Demand;
use super::shape::Shape;

impl Shape<'_> {
    /// It has parents or children: what is in use is kept.
    pub fn is_in_use(&self, relay: usize) -> bool {
        self.members[relay].children() > 0 || !self.members[relay].stored.is_empty()
    }

    /// Relays for the demand, in use and idle.
    pub fn select(&self, pool: Vec<usize>, demand: &Demand) -> Vec<usize> {
        let (mut taken, mut idle): (Vec<usize>, Vec<usize>) =
            pool.into_iter().partition(|relay| self.is_in_use(*relay));
        self.drop_needless(&mut taken, demand);
        idle.sort_by_key(|relay| (u32::MAX - self.members[*relay].children_meant, *relay));
        // The home region comes last and makes up for what the others lack.
        let others = demand.by_region.keys().copied().filter(|region| *region != demand.home);
        for region in others.chain([demand.home]) {
            while self.is_short(&taken, region, demand) {
                let Some(position) = self.next_idle(&idle, &taken, region) else { break };
                taken.push(idle.remove(position));
            }
        }
        while self.is_short_altogether(&taken, demand) && !idle.is_empty() {
            let position = self.next_idle(&idle, &taken, demand.home).unwrap_or(0);
            taken.push(idle.remove(position));
        }
        taken
    }

    /// Takes those out that are needed least, the ones with the fewest children first.
    fn drop_needless(&self, taken: &mut Vec<usize>, demand: &Demand) {
        taken.sort_by_key(|relay| (u32::MAX - self.members[*relay].children(), *relay));
        for position in (0..taken.len()).rev() {
            let relay = taken.remove(position);
            let region = self.region(relay);
            let left = taken.iter().filter(|other| self.region(**other) == region).count();
            let is_needed = left < 2 * self.enough(taken, region, demand)
                || self.is_short(taken, region, demand)
                || self.is_short_altogether(taken, demand);
            if is_needed {
                taken.insert(position, relay);
            }
        }
    }

    /// How many of these, in their order, offer the places that their region needs.
    fn enough(&self, relays: &[usize], region: usize, demand: &Demand) -> usize {
        let Some(mut missing) = self.places(region, demand) else { return 0 };
        let relays = relays.iter().filter(|relay| self.region(**relay) == region);
        let count = relays.take_while(|relay| {
            let is_needed = missing > 0;
            missing = missing.saturating_sub(self.members[**relay].children_meant);
            is_needed
        });
        count.count().max(self.parents_wanted())
    }

    /// Places that a region needs at its relays; `None`: nobody needs relays there.
    fn places(&self, region: usize, demand: &Demand) -> Option<u32> {
        demand.by_region.get(&region).map(|consumers| consumers * self.parents_wanted() as u32)
    }

    fn is_short(&self, taken: &[usize], region: usize, demand: &Demand) -> bool {
        let Some(places) = self.places(region, demand) else { return false };
        let relays = taken.iter().filter(|relay| self.region(**relay) == region);
        let (count, meant) = relays
            .fold((0, 0), |(count, meant), relay| (count + 1, meant + self.members[*relay].children_meant));
        count < self.parents_wanted() || meant < places
    }

    /// Relays below relays take places, too.
    fn is_short_altogether(&self, taken: &[usize], demand: &Demand) -> bool {
        let below = taken.len().saturating_sub(demand.first_tier);
        let consumers: u32 = demand.by_region.values().sum();
        let places = (consumers as usize + below) * self.parents_wanted();
        let meant: u32 = taken.iter().map(|relay| self.members[*relay].children_meant).sum();
        (meant as usize) < places
    }

    /// The next idle one of a region, on a host of its own if there is one.
    fn next_idle(&self, idle: &[usize], taken: &[usize], region: usize) -> Option<usize> {
        let is_of_region = |relay: &usize| self.region(*relay) == region;
        let is_alone = |relay: &usize| {
            let mut others = taken.iter().filter(|other| is_of_region(other));
            !others.any(|other| self.share_host(*other, *relay))
        };
        let alone = idle.iter().position(|relay| is_of_region(relay) && is_alone(relay));
        alone.or_else(|| idle.iter().position(is_of_region))
    }
}
