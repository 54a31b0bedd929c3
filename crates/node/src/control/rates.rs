//! What each broadcast that is published here takes: measured, and told with its record to those who place viewers and
//! children.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::PublisherId;
use model::{BroadcastId, Kind};
use registry::Rates;
use tokio::sync::watch;

use super::Published;
use crate::advice::Patient;

/// The first figure is wanted soon: until then a broadcast takes nothing, as far as anybody knows.
const FIRST_WINDOW: Duration = Duration::from_secs(2);
/// Later ones even out keyframes.
const WINDOW: Duration = Duration::from_secs(10);
/// What a datagram carries beside the payload: RTP header and extensions, and the tag of its seal.
const HEADER_BYTES: u64 = 40;

/// Looks at what publishers send, for as long as it is shown.
pub async fn measure(published: Arc<Published>, mut shown: watch::Receiver<Vec<Patient>>) {
    let mut meters: BTreeMap<BroadcastId, Meter> = BTreeMap::new();
    while shown.changed().await.is_ok() {
        let now = Instant::now();
        let publishers = shown.borrow_and_update().clone();
        let current: Vec<&Patient> = publishers.iter().filter(|patient| patient.is_current).collect();
        meters.retain(|id, _| current.iter().any(|patient| patient.broadcast == *id));
        for patient in current {
            let counts = counts(&patient.stats);
            let fresh = || Meter::new(now, patient.publisher, Vec::new());
            let meter = meters.entry(patient.broadcast.clone()).or_insert_with(fresh);
            if let Some(rates) = meter.look(now, patient.publisher, counts) {
                published.measured(&patient.broadcast, rates);
            }
        }
    }
}

/// Whether what was measured is so different from what is told that it is told anew: each time costs every node a word.
pub fn is_news(told: &Rates, measured: &Rates) -> bool {
    let fields = |rates: &Rates| {
        [rates.viewer_kbps, rates.viewer_packets, rates.child_kbps, rates.child_packets].map(u64::from)
    };
    let differs = |(told, measured): (u64, u64)| measured * 10 > told * 11 || measured * 10 < told * 7;
    fields(told).into_iter().zip(fields(measured)).any(differs)
}

/// What one layer has sent until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    kind: Kind,
    packets: u64,
    bytes: u64,
}

fn counts(stats: &ingest::Stats) -> Vec<Count> {
    let count = |layer: &ingest::LayerStats| Count {
        kind: layer.kind,
        packets: layer.packets,
        bytes: layer.bytes + layer.packets * HEADER_BYTES,
    };
    stats.layers.iter().map(count).collect()
}

/// Measures one publisher.
#[derive(Debug)]
struct Meter {
    publisher: PublisherId,
    since: Instant,
    before: Vec<Count>,
    window: Duration,
}

impl Meter {
    const fn new(since: Instant, publisher: PublisherId, before: Vec<Count>) -> Self {
        Self { publisher, since, before, window: FIRST_WINDOW }
    }

    /// What it takes, at the end of each window.
    fn look(&mut self, now: Instant, publisher: PublisherId, counts: Vec<Count>) -> Option<Rates> {
        let is_same = self.publisher == publisher && self.before.len() == counts.len();
        let goes_on =
            |(before, now): (&Count, &Count)| before.packets <= now.packets && before.kind == now.kind;
        let has_begun = counts.iter().any(|count| count.packets > 0);
        if !is_same || !has_begun || !self.before.iter().zip(&counts).all(goes_on) {
            *self = Self::new(now, publisher, counts);
            return None;
        }
        let time = now.saturating_duration_since(self.since);
        if time < self.window {
            return None;
        }
        let rates = rates(&self.before, &counts, time);
        (self.since, self.before, self.window) = (now, counts, WINDOW);
        Some(rates)
    }
}

/// A viewer takes the sound and one picture: the largest. A child takes everything.
fn rates(before: &[Count], after: &[Count], time: Duration) -> Rates {
    let in_a_second = |count: u64| count as f64 / time.as_secs_f64();
    let layers = before.iter().zip(after).map(|(before, after)| {
        let kbps = in_a_second(after.bytes.saturating_sub(before.bytes)) * 8.0 / 1000.0;
        (after.kind, kbps, in_a_second(after.packets - before.packets))
    });
    let layers: Vec<(Kind, f64, f64)> = layers.collect();
    let largest = |wanted: Kind| {
        let of_kind = layers.iter().filter(|(kind, ..)| *kind == wanted);
        of_kind.fold((0.0f64, 0.0f64), |most, (_, kbps, packets)| (most.0.max(*kbps), most.1.max(*packets)))
    };
    let (sound, picture) = (largest(Kind::Audio), largest(Kind::Video));
    let all = layers.iter().fold((0.0, 0.0), |sum, (_, kbps, packets)| (sum.0 + kbps, sum.1 + packets));
    Rates {
        viewer_kbps: (sound.0 + picture.0).ceil() as u32,
        viewer_packets: (sound.1 + picture.1).ceil() as u32,
        child_kbps: all.0.ceil() as u32,
        child_packets: all.1.ceil() as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound and two pictures, so many seconds after they began.
    fn counts(secs: u64) -> Vec<Count> {
        let layer =
            |kind, packets: u64, bytes: u64| Count { kind, packets: secs * packets, bytes: secs * bytes };
        vec![
            layer(Kind::Audio, 50, 10_000),
            layer(Kind::Video, 100, 100_000),
            layer(Kind::Video, 300, 300_000),
        ]
    }

    #[test]
    fn a_viewer_takes_the_largest_picture_and_a_child_takes_all() {
        let (start, me) = (Instant::now(), PublisherId(1));
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut meter = Meter::new(start, me, Vec::new());
        let told = (0..=13).filter_map(|secs| Some((secs, meter.look(at(secs), me, counts(secs))?)));
        let told: Vec<(u64, Rates)> = told.collect();
        let rates = Rates { viewer_kbps: 2480, viewer_packets: 350, child_kbps: 3280, child_packets: 450 };
        assert_eq!(told, [(2, rates), (12, rates)], "soon, and then less often");
        assert_eq!(meter.look(at(30), PublisherId(2), counts(1)), None, "another one begins anew");
        assert_eq!(meter.look(at(31), PublisherId(2), counts(2)), None);
        assert_eq!(meter.look(at(32), PublisherId(2), counts(3)), Some(rates));
    }

    #[test]
    fn small_changes_are_not_told() {
        let told = Rates { viewer_kbps: 1000, viewer_packets: 100, child_kbps: 2000, child_packets: 200 };
        let with = |viewer_kbps| Rates { viewer_kbps, ..told };
        assert!(!is_news(&told, &told) && !is_news(&told, &with(1100)) && !is_news(&told, &with(700)));
        assert!(is_news(&told, &with(1101)) && is_news(&told, &with(699)));
        assert!(is_news(&told, &Rates { child_packets: 300, ..told }));
    }
}
