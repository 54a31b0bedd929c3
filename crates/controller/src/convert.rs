//! Between stored records and what the policy sees.

use std::sync::Arc;

use model::Bitrate;
use registry::{BroadcastRecord, NodeRecord, Shape, TreeRecord};
use tree::template::{Limits, Template};
use tree::{BroadcastView, Capacity, Incarnation, Load, Place, Rate, Version};

/// [`store::Version`].
pub fn version(version: store::Version) -> Version {
    Version { counter: version.counter, writer: version.writer }
}

/// The run of a node's process.
pub const fn incarnation(node: &NodeRecord) -> Incarnation {
    Incarnation { counter: node.incarnation.counter, random: node.incarnation.random }
}

/// Where a node stands.
pub fn place(node: &NodeRecord) -> Place {
    Place {
        region: node.region.as_str().into(),
        zone: Arc::from(node.zone.as_deref().unwrap_or_default()),
        host: node.host.as_str().into(),
    }
}

/// What a node takes.
pub fn capacity(capacity: &registry::Capacity) -> Capacity {
    Capacity {
        viewers_max: capacity.viewers,
        publishers_max: capacity.publishers,
        children_max: capacity.children,
        egress_max: capacity.egress_mbps.map(|mbps| Bitrate::kbps(u64::from(mbps) * 1000)),
        packets_per_second_max: capacity.packets_per_second.map(u64::from),
    }
}

/// What a node carries; `None` while it does not know all of it: missing figures are never zero load.
pub fn load(load: &registry::Load) -> Option<Load> {
    Some(Load {
        viewers: load.viewers,
        publishers: load.publishers,
        children: load.children,
        cpu_percent: percent(load.cpu_percent?),
        shard_percent: percent(load.shard_percent?),
        sent: Bitrate::kbps((load.transmit_mbps?.max(0.0) * 1000.0) as u64),
        packets_per_second: load.packets_per_second?.max(0.0) as u64,
        promised: Rate {
            bits: Bitrate::kbps((load.promised_mbps.unwrap_or(0.0).max(0.0) * 1000.0) as u64),
            packets: load.promised_packets_per_second.unwrap_or(0.0).max(0.0) as u64,
        },
    })
}

/// A broadcast.
pub fn broadcast(record: &BroadcastRecord) -> BroadcastView {
    let rate = |kbps: u32, packets: u32| Rate { bits: Bitrate::kbps(kbps.into()), packets: packets.into() };
    BroadcastView {
        id: record.broadcast.clone(),
        tree: record.tree.clone(),
        origin: Some(record.origin.clone()),
        viewer: record.rates.map(|rates| rate(rates.viewer_kbps, rates.viewer_packets)),
        child: record.rates.map(|rates| rate(rates.child_kbps, rates.child_packets)),
    }
}

fn percent(value: f64) -> u8 {
    value.clamp(0.0, 255.0) as u8
}

/// The shape of a tree.
pub fn template(tree: &TreeRecord) -> Template {
    let shape = tree.shape;
    Template {
        injection: shape.injection,
        relay: shape.relay,
        egress: shape.egress,
        slots_warm: shape.warm_slots,
        slots_cold: shape.cold_slots,
        egress_per_relay: shape.sub_tree_egress,
        limits: Limits {
            max_nodes: shape.nodes_max,
            direct_children_max: shape.direct_children_max,
            paths: shape.paths,
            standbys: shape.standbys,
            relay_levels_max: shape.relay_levels_max,
            relay_children_max: shape.relay_children_max,
        },
    }
}

/// The shape as it is stored.
pub const fn shape(template: &Template) -> Shape {
    Shape {
        injection: template.injection,
        relay: template.relay,
        egress: template.egress,
        sub_tree_egress: template.egress_per_relay,
        warm_slots: template.slots_warm,
        cold_slots: template.slots_cold,
        nodes_max: template.limits.max_nodes,
        direct_children_max: template.limits.direct_children_max,
        paths: template.limits.paths,
        standbys: template.limits.standbys,
        relay_levels_max: template.limits.relay_levels_max,
        relay_children_max: template.limits.relay_children_max,
    }
}
