//! What publishers have sent, added up for metrics.
//!
//! Totals of a broadcast are of all publishers that it has had, so that they only grow; what is true now is told by the
//! one that counts.

use std::collections::BTreeMap;

use ingest::{Drops, LayerStats};
use model::{BroadcastId, Kind};
use telemetry::publishers::{Layer, LayerNow, LayerTotals, Publisher, StreamProfile};

/// What publishers have sent.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Datagrams that led to nothing, of all publishers until now.
    pub drops: Drops,
    /// Each broadcast that somebody has published here and that has not ended.
    pub broadcasts: Vec<Publisher>,
}

/// One publisher that is here.
pub(super) struct Present<'a> {
    /// What it publishes, if that is known here.
    pub broadcast: Option<&'a BroadcastId>,
    /// It is the one that counts.
    pub is_current: bool,
    pub stats: ingest::Stats,
}

/// What publishers have sent that are gone.
#[derive(Debug, Clone, Default)]
pub(super) struct Past {
    drops: Drops,
    broadcasts: BTreeMap<BroadcastId, Sum>,
}

#[derive(Debug, Clone, Default)]
struct Sum {
    round_trip: Option<std::time::Duration>,
    picture_delay: Option<f64>,
    layers: BTreeMap<(Kind, u8), Layer>,
}

impl Past {
    /// One more is gone. `broadcast` is `None` if it published nothing that is known.
    pub fn add(&mut self, broadcast: Option<&BroadcastId>, stats: &ingest::Stats) {
        self.drops.add(&stats.drops);
        if let Some(broadcast) = broadcast {
            self.broadcasts.entry(broadcast.clone()).or_default().add(stats);
        }
    }

    /// Datagrams that belonged to no publisher.
    pub const fn dropped(&mut self, drops: &Drops) {
        self.drops.add(drops);
    }

    /// The broadcast has ended.
    pub fn forget(&mut self, broadcast: &BroadcastId) {
        self.broadcasts.remove(broadcast);
    }

    /// All of them, with those that are here.
    pub fn with<'a>(&self, present: impl Iterator<Item = Present<'a>>) -> Stats {
        let mut all = self.clone();
        for Present { broadcast, is_current, stats } in present {
            all.add(broadcast, &stats);
            let sum = broadcast.filter(|_| is_current).and_then(|it| all.broadcasts.get_mut(it));
            if let Some(sum) = sum {
                sum.show(&stats);
            }
        }
        let publisher = |(broadcast, sum): (BroadcastId, Sum)| Publisher {
            broadcast,
            round_trip: sum.round_trip,
            picture_delay: sum.picture_delay,
            layers: sum.layers.into_values().collect(),
        };
        Stats { drops: all.drops, broadcasts: all.broadcasts.into_iter().map(publisher).collect() }
    }
}

impl Sum {
    fn add(&mut self, stats: &ingest::Stats) {
        // A layer that was offered and never sent is none.
        for layer in stats.layers.iter().filter(|layer| layer.packets > 0) {
            let (kind, place) = (layer.kind, layer.layer);
            let none = || Layer { kind, layer: place, totals: LayerTotals::default(), now: None };
            let totals = &mut self.layers.entry((kind, place)).or_insert_with(none).totals;
            totals.packets += layer.packets;
            totals.bytes += layer.bytes;
            totals.lost += layer.given_up;
            totals.recovered += layer.recovered;
            totals.nacks += layer.nacks;
            totals.keyframe_requests += layer.keyframe_requests;
        }
    }

    fn show(&mut self, stats: &ingest::Stats) {
        self.round_trip = stats.round_trip;
        self.picture_delay = stats.picture_delay;
        for layer in &stats.layers {
            if let Some(shown) = self.layers.get_mut(&(layer.kind, layer.layer)) {
                shown.now = Some(now(layer));
            }
        }
    }
}

fn now(layer: &LayerStats) -> LayerNow {
    LayerNow {
        jitter: layer.jitter,
        bitrate: layer.bitrate,
        keyframe_interval: layer.keyframe_interval,
        keyframe_at: layer.keyframe_at,
        codec: layer.codec,
        profile_level_id: layer.profile_level_id,
        profile: layer.profile.map(|profile| StreamProfile { name: profile.name(), level: profile.level() }),
        size: layer.size,
        had_b_frames: layer.facts.b_frames > 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use media_core::codec::Profile;
    use model::{Bitrate, Codec, Ssrc};

    use super::*;

    fn stats(packets: u64, round_trip: u64) -> ingest::Stats {
        let layer = |kind, layer, packets| LayerStats {
            ssrc: Ssrc::new(1),
            kind,
            layer,
            packets,
            bytes: packets * 1000,
            lost: 9,
            given_up: 2,
            recovered: 1,
            nacks: 3,
            keyframe_requests: 4,
            jitter: Duration::from_millis(5),
            bitrate: Bitrate::kbps(2500),
            keyframe_interval: None,
            keyframe_at: None,
            codec: Some(Codec::H264),
            profile_level_id: None,
            profile: None,
            size: None,
            facts: ingest::Facts { b_frames: 1, ..ingest::Facts::default() },
        };
        ingest::Stats {
            connection: ingest::Connection::Connected,
            round_trip: Some(Duration::from_millis(round_trip)),
            picture_delay: Some(0.1),
            drops: Drops { malformed: 1, ..Drops::default() },
            layers: vec![layer(Kind::Video, 0, packets), layer(Kind::Video, 1, 0)],
        }
    }

    #[test]
    fn totals_go_on_over_publishers_and_the_present_is_told_by_the_one_that_counts() {
        let show = BroadcastId::new("show").expect("an id");
        let mut past = Past::default();
        past.add(Some(&show), &stats(100, 10));
        past.add(None, &stats(7, 10));
        let gone = past.with(std::iter::empty());
        assert_eq!(gone.drops.malformed, 2);
        let layer = &gone.broadcasts[0].layers[0];
        assert_eq!((layer.totals.packets, layer.now.is_some()), (100, false), "nobody publishes");
        assert_eq!(gone.broadcasts[0].round_trip, None);

        let present = [(20, false), (30, true), (40, false)].map(|(packets, is_current)| Present {
            broadcast: Some(&show),
            is_current,
            stats: stats(packets, packets),
        });
        let all = past.with(present.into_iter());
        assert_eq!(all.broadcasts.len(), 1);
        let [layer] = &all.broadcasts[0].layers[..] else { panic!("the layer that was never sent is shown") };
        let totals = LayerTotals {
            packets: 190,
            bytes: 190_000,
            lost: 8,
            recovered: 4,
            nacks: 12,
            keyframe_requests: 16,
        };
        assert_eq!(layer.totals, totals);
        assert!(layer.now.as_ref().is_some_and(|now| now.had_b_frames));
        assert_eq!(layer.now.as_ref().and_then(|now| now.profile.clone()), None);
        assert_eq!(all.broadcasts[0].round_trip, Some(Duration::from_millis(30)));

        let mut stats = stats(1, 10);
        (stats.layers[0].codec, stats.layers[0].profile) =
            (Some(Codec::H265), Some(Profile::H265 { profile: 2, tier: 0, level: 93 }));
        let main_10 = Some(StreamProfile { name: "main_10", level: Some("3.1".into()) });
        assert_eq!(now(&stats.layers[0]).profile, main_10);

        past.forget(&show);
        assert!(past.with(std::iter::empty()).broadcasts.is_empty());
    }
}
