//! Whether media of each broadcast flows through this node: what `pipeline_up` shows of a live one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use link::exchange::BroadcastStats;
use model::BroadcastId;

/// Media that is to come and does not for so long is missing. Encoders send a picture that stands still once a second and
/// silence more often, and another parent takes over within one: nothing that is well is quiet for as long.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// What is remembered of the broadcasts that the exchange knows.
#[derive(Debug, Default)]
pub(super) struct Flows(BTreeMap<BroadcastId, Flow>);

#[derive(Debug)]
struct Flow {
    packets: u64,
    /// When all was as it should be last.
    well_at: Instant,
}

impl Flows {
    /// Looks at all of them; to be called about once a second.
    pub fn observe(&mut self, now: Instant, broadcasts: &BTreeMap<BroadcastId, BroadcastStats>) {
        self.0.retain(|id, _| broadcasts.contains_key(id));
        for (id, stats) in broadcasts {
            let packets = stats.audio.packets_received + stats.video.packets_received;
            let flow = self.0.entry(id.clone()).or_insert(Flow { packets, well_at: now });
            let is_well = if stats.is_due { packets != flow.packets } else { stats.is_offered };
            if is_well {
                flow.well_at = now;
            }
            flow.packets = packets;
        }
    }

    /// Whether its packets come; where nobody takes it, whether they would. One that was not looked at yet is well.
    pub fn is_up(&self, now: Instant, id: &BroadcastId) -> bool {
        self.0.get(id).is_none_or(|flow| now.saturating_duration_since(flow.well_at) < QUIET_MAX)
    }
}

#[cfg(test)]
mod tests {
    use link::exchange::StreamStats;

    use super::*;

    fn stats(is_due: bool, is_offered: bool, packets_received: u64) -> BroadcastStats {
        let video = StreamStats { packets_received, ..StreamStats::default() };
        BroadcastStats { is_due, is_offered, video, ..BroadcastStats::default() }
    }

    fn idle() -> BroadcastStats {
        stats(false, true, 0)
    }

    /// What is shown after each of these, half a second apart.
    fn shown(looks: impl IntoIterator<Item = BroadcastStats>) -> Vec<bool> {
        let (start, mut flows) = (Instant::now(), Flows::default());
        let id = BroadcastId::new("show").expect("an id");
        let look = |(count, stats): (u32, BroadcastStats)| {
            let now = start + Duration::from_millis(500) * count;
            flows.observe(now, &[(id.clone(), stats)].into());
            flows.is_up(now, &id)
        };
        (0..).zip(looks).map(look).collect()
    }

    fn last(looks: impl IntoIterator<Item = BroadcastStats>) -> Option<bool> {
        shown(looks).last().copied()
    }

    #[test]
    fn media_that_is_to_come_and_does_not_is_missed_after_five_seconds_and_until_it_comes() {
        let flowing = (1..=4).map(|packets| stats(true, true, packets));
        let silent = [stats(true, true, 4); 11];
        let shown = shown(flowing.chain(silent).chain([stats(true, true, 5)]));
        assert_eq!(shown[..13], [true; 13], "4.5 s without a packet");
        assert_eq!(shown[13..], [false, false, true]);
    }

    #[test]
    fn where_nobody_takes_it_it_is_up_as_long_as_somebody_offers_it() {
        assert_eq!(last([idle(); 60]), Some(true));
        let orphaned = [stats(false, false, 0); 11];
        assert_eq!(last([idle()].into_iter().chain(orphaned)), Some(false));
        assert_eq!(last([idle()].into_iter().chain(orphaned).chain([idle()])), Some(true));
    }

    #[test]
    fn who_begins_to_take_it_has_time_to_get_it_unless_nobody_offers_it() {
        let taken = [stats(true, true, 0); 9];
        assert_eq!(last([idle(); 60].into_iter().chain(taken)), Some(true));
        let orphaned = [stats(false, false, 0); 11];
        assert_eq!(last(orphaned.into_iter().chain([stats(true, false, 0)])), Some(false));
    }

    #[test]
    fn what_is_forgotten_begins_anew_and_what_was_not_looked_at_is_well() {
        let (start, mut flows) = (Instant::now(), Flows::default());
        let id = BroadcastId::new("show").expect("an id");
        assert!(flows.is_up(start, &id));
        flows.observe(start, &[(id.clone(), stats(true, false, 0))].into());
        assert!(!flows.is_up(start + QUIET_MAX, &id), "nobody looks any more");
        flows.observe(start + QUIET_MAX, &BTreeMap::new());
        assert!(flows.is_up(start + QUIET_MAX, &id));
    }
}
