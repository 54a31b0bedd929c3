//! What of this node's network is promised to viewers and children, beside what it carries.

use model::BroadcastId;
use registry::{Capacity, Rates};

use super::Control;
use crate::http::App;

/// What flows in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Promised {
    /// Thousands of bits.
    pub kbps: u64,
    /// Packets.
    pub packets: u64,
}

impl Promised {
    fn add(&mut self, count: u64, (kbps, packets): (u32, u32)) {
        self.kbps += count * u64::from(kbps);
        self.packets += count * u64::from(packets);
    }
}

/// Whether somebody has said what the network carries.
pub const fn is_limited(capacity: &Capacity) -> bool {
    capacity.egress_mbps.is_some() || capacity.packets_per_second.is_some()
}

/// What all viewers of this node may take, those that are on their way in included.
pub fn of_viewers(app: &App, control: &Control) -> Promised {
    let watched = app.sessions.watched();
    let rates = watched.iter().filter_map(|(broadcast, _)| control.rates(broadcast));
    let most = rates.max_by_key(|rates| rates.viewer_kbps);
    viewers(app, control, (&watched, most))
}

/// Whether the network carries what is promised, and one viewer of this broadcast, who has a slot and no session yet.
pub fn carries_one_more(app: &App, broadcast: &BroadcastId) -> bool {
    let Some(control) = &app.control else { return true };
    let capacity = &control.about.capacity;
    if !is_limited(capacity) {
        return true;
    }
    // Who comes at the same moment counts as much as this one.
    let mut promised = viewers(app, control, (&app.sessions.watched(), control.rates(broadcast)));
    let records = control.front_door.broadcasts();
    let of_tree = records.iter().filter(|record| record.tree == control.about.tree);
    let children = app.metrics.tree.children();
    for rates in of_tree.filter_map(|record| record.rates) {
        promised.add(children, (rates.child_kbps, rates.child_packets));
    }
    carries(capacity, promised)
}

fn viewers(
    app: &App,
    control: &Control,
    (watched, of_others): (&[(BroadcastId, u64)], Option<Rates>),
) -> Promised {
    let viewer = |rates: Rates| (rates.viewer_kbps, rates.viewer_packets);
    let mut promised = Promised::default();
    for (broadcast, viewers) in watched {
        promised.add(*viewers, control.rates(broadcast).map_or((0, 0), viewer));
    }
    let known: u64 = watched.iter().map(|(_, viewers)| viewers).sum();
    promised.add(app.occupied().saturating_sub(known), of_others.map_or((0, 0), viewer));
    promised
}

fn carries(capacity: &Capacity, promised: Promised) -> bool {
    let carried = |most: Option<u64>, promised: u64| most.is_none_or(|most| promised <= most);
    carried(capacity.egress_mbps.map(|mbps| u64::from(mbps) * 1000), promised.kbps)
        && carried(capacity.packets_per_second.map(u64::from), promised.packets)
}

impl Control {
    /// What a broadcast takes, where that is known.
    fn rates(&self, broadcast: &BroadcastId) -> Option<Rates> {
        self.front_door.broadcast(broadcast)?.rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits_count_and_what_is_not_limited_is_carried() {
        let of = |egress_mbps, packets_per_second| Capacity {
            egress_mbps,
            packets_per_second,
            ..Capacity::default()
        };
        let mut promised = Promised::default();
        promised.add(4, (2500, 300));
        assert_eq!(promised, Promised { kbps: 10_000, packets: 1200 });
        assert!(carries(&of(None, None), promised) && !is_limited(&of(None, None)));
        assert!(carries(&of(Some(10), Some(1200)), promised));
        assert!(!carries(&of(Some(9), None), promised));
        assert!(!carries(&of(Some(10), Some(1199)), promised));
    }
}
