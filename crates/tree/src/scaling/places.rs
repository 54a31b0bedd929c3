//! How many viewers the egress nodes of a tree take, by everything that bounds them.

use model::TreeId;

use crate::{Capacity, Health, Load, NodeView};

/// A shard or a processor that is so busy takes nobody new. Placement refuses there, too.
const BUSY_PERMILLE: u64 = 900;
/// With fewer viewers, what one costs cannot be told from what the node costs anyway.
const VIEWERS_MEASURED: u64 = 16;

/// The places of a tree at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Places {
    /// Viewers that are there, wherever that is known.
    pub viewers: u64,
    /// Viewers that ready nodes take in all: there, and coming.
    pub places: u64,
    /// The same as their configuration has it, whatever they cost.
    pub nominal: u64,
    /// Egress nodes that are ready, with known load.
    pub known: u64,
    /// Egress nodes that are alive and whose load is not known, or that have not been heard for a moment.
    pub unknown: u64,
}

impl Places {
    /// Of all nodes of `tree` among these, each with the health that counts.
    #[must_use]
    pub fn of<'a>(tree: &TreeId, nodes: impl Iterator<Item = (&'a NodeView, Health)>) -> Self {
        let mut all = Self::default();
        for (node, health) in nodes.filter(|(node, _)| node.tree == *tree && node.role.is_egress()) {
            all.add(node, health);
        }
        all
    }

    fn add(&mut self, node: &NodeView, health: Health) {
        match (health, &node.load) {
            (Health::Dead, _) => {}
            (Health::Ready, Some(load)) => {
                let viewers = u64::from(load.viewers);
                self.viewers += viewers;
                self.places += viewers + room(&node.capacity, load);
                self.nominal += u64::from(node.capacity.viewers_max);
                self.known += 1;
            }
            // Its viewers will want places elsewhere.
            (Health::Draining, Some(load)) => self.viewers += u64::from(load.viewers),
            (Health::Suspect, load) => {
                self.viewers += load.map_or(0, |load| u64::from(load.viewers));
                self.unknown += 1;
            }
            (Health::Ready | Health::Draining, None) => self.unknown += 1,
        }
    }

    /// What nodes really take of what they are configured for, in permille; `None` where nothing is known.
    #[must_use]
    pub fn yield_permille(&self) -> Option<u64> {
        self.places.saturating_mul(1000).checked_div(self.nominal)
    }
}

/// How many more viewers a node takes: the least that places, bits, packets, shards and processor leave.
fn room(capacity: &Capacity, load: &Load) -> u64 {
    let viewers = u64::from(load.viewers);
    let most = |used: u64, limit: u64| match (used, limit) {
        _ if used >= limit => 0,
        // Each further viewer costs what those that are there cost on the average.
        (1.., _) if viewers >= VIEWERS_MEASURED => viewers.saturating_mul(limit - used) / used,
        _ => u64::MAX,
    };
    let places = u64::from(capacity.viewers_max).saturating_sub(viewers);
    let taken = load.sent().or_more(load.promised);
    let bits = capacity.egress_max.map_or(u64::MAX, |limit| most(taken.bits.as_bps(), limit.as_bps()));
    let packets = capacity.packets_per_second_max.map_or(u64::MAX, |limit| most(taken.packets, limit));
    let shard = most(u64::from(load.shard_percent) * 10, BUSY_PERMILLE);
    let processor = most(u64::from(load.cpu_percent) * 10, BUSY_PERMILLE);
    places.min(bits).min(packets).min(shard).min(processor)
}

#[cfg(test)]
mod tests {
    use model::Bitrate;

    use super::*;
    use crate::Rate;

    const CAPACITY: Capacity = Capacity {
        viewers_max: 1000,
        publishers_max: 0,
        children_max: 0,
        egress_max: None,
        packets_per_second_max: None,
    };

    const LOAD: Load = Load {
        viewers: 100,
        publishers: 0,
        children: 0,
        cpu_percent: 10,
        shard_percent: 10,
        sent: Bitrate::kbps(100_000),
        packets_per_second: 10_000,
        promised: Rate { bits: Bitrate::kbps(0), packets: 0 },
    };

    #[test]
    fn the_scarcest_thing_says_how_many_more_a_node_takes() {
        assert_eq!(room(&CAPACITY, &LOAD), 800, "the processor, of which 10 % carry 100 viewers");
        assert_eq!(room(&CAPACITY, &Load { cpu_percent: 1, shard_percent: 1, ..LOAD }), 900, "places");
        assert_eq!(room(&CAPACITY, &Load { shard_percent: 30, ..LOAD }), 200, "the busiest shard");
        let thin = Capacity { egress_max: Some(Bitrate::kbps(150_000)), ..CAPACITY };
        assert_eq!(room(&thin, &LOAD), 50, "bits");
        let promised = Rate { bits: Bitrate::kbps(120_000), packets: 0 };
        assert_eq!(room(&thin, &Load { promised, ..LOAD }), 25, "bits that they may take");
        let slow = Capacity { packets_per_second_max: Some(12_000), ..CAPACITY };
        assert_eq!(room(&slow, &LOAD), 20, "packets");
        assert_eq!(room(&CAPACITY, &Load { cpu_percent: 95, ..LOAD }), 0);
    }

    #[test]
    fn what_few_viewers_cost_is_not_told_from_what_the_node_costs_anyway() {
        let few = Load { viewers: 3, cpu_percent: 50, ..LOAD };
        assert_eq!(room(&CAPACITY, &few), 997);
    }
}
