//! Layers of pictures: those that viewers choose, and what is told of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{LayerState, Selection, ViewerId};
use model::BroadcastId;
use signaling::whep::layers::Layer;

use super::Shard;
use crate::events::NodeEvent;

/// How often it is looked at what layers there are.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bitrates are told in steps of this: they are never quite the same.
const BITRATE_STEP: u64 = 10_000;

/// What was told last.
#[derive(Default)]
pub struct Told {
    looked_at: Option<Instant>,
    pictures: BTreeMap<BroadcastId, Arc<[Layer]>>,
}

impl Shard {
    /// A viewer has chosen a layer: from now on, or as soon as it has keys. False if there is no such viewer.
    pub(super) fn select(&mut self, now: Instant, viewer: ViewerId, selection: Selection) -> bool {
        let Some(session) = self.sessions.get_mut(&viewer) else { return false };
        if session.is_established {
            return self.core.select_layer(now, viewer, selection);
        }
        session.selected = Some(selection);
        true
    }

    /// Tells of the layers of what is watched here, once a second at most and only if they have changed.
    pub(super) fn tell_layers(&mut self, now: Instant) {
        if self.pictures.looked_at.is_some_and(|at| now < at + LOOK_INTERVAL) {
            return;
        }
        self.pictures.looked_at = Some(now);
        let core = &mut self.core;
        let pictures: BTreeMap<BroadcastId, Arc<[Layer]>> = self
            .watched
            .keys()
            .map(|broadcast| {
                let layers = core.layers(now, broadcast).into_iter().map(layer);
                (broadcast.clone(), layers.collect())
            })
            .collect();
        if pictures != self.pictures.pictures {
            self.pictures.pictures.clone_from(&pictures);
            let _ = self.events.send(NodeEvent::Layers { shard: self.index, pictures });
        }
    }
}

fn layer(state: LayerState) -> Layer {
    let rate = state.rate.as_bps().div_ceil(BITRATE_STEP) * BITRATE_STEP;
    let bitrate = Some(rate).filter(|rate| state.is_active && *rate > 0);
    let inner = state.point.map(|point| (point.spatial, point.temporal));
    Layer { rid: state.rid, inner, bitrate, size: state.size }
}
