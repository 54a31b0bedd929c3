//! The latest statistics of one publisher, and what has changed between them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ingest::{Connection, LayerStats, Stats};
use model::{Bitrate, Kind, Ssrc};

/// Samples that are kept: twenty seconds at one a second.
const SAMPLES_MAX: usize = 21;
/// Nobody looked for so long: what was before says nothing of now.
const GAP_MAX: Duration = Duration::from_secs(5);

/// The latest samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<(Instant, Stats)>,
    /// When it was first connected.
    connected_at: Option<Instant>,
    /// When it was first seen.
    began_at: Option<Instant>,
}

/// What one layer has done in some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) now: &'a LayerStats,
    before: &'a LayerStats,
    pub(crate) elapsed: Duration,
}

/// What all layers of some kind have done together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) packets: u64,
    bytes: u64,
    /// Packets that did not come at first, whatever became of them.
    missed: u64,
    /// Packets that never came.
    given_up: u64,
    /// Packets that there were to come.
    expected: u64,
    pub(crate) elapsed: Duration,
}

impl Change<'_> {
    pub(crate) fn of(&self, read: fn(&LayerStats) -> u64) -> u64 {
        read(self.now).saturating_sub(read(self.before))
    }

    /// Media time that has passed.
    pub(crate) fn media(&self) -> Duration {
        self.now.facts.media.saturating_sub(self.before.facts.media)
    }

    /// Pictures in a second of media.
    pub(crate) fn frame_rate(&self) -> Option<f64> {
        let media = self.media().as_secs_f64();
        (media > 1.0).then(|| self.of(|layer| layer.facts.frames) as f64 / media)
    }

    pub(crate) fn is_flowing(&self) -> bool {
        self.of(|layer| layer.packets) > 0
    }
}

impl Sum {
    /// Share of the packets that did not come at first.
    pub(crate) fn missed_share(&self) -> f64 {
        share(self.missed, self.expected)
    }

    /// Share of the packets that never came.
    pub(crate) fn given_up_share(&self) -> f64 {
        share(self.given_up, self.expected)
    }

    pub(crate) fn bitrate(&self) -> Bitrate {
        Bitrate::of(self.bytes, self.elapsed)
    }

    fn of<'a>(changes: impl Iterator<Item = Change<'a>>) -> Self {
        let mut sum = Self::default();
        changes.for_each(|change| sum.add(&change));
        sum
    }

    fn add(&mut self, change: &Change<'_>) {
        self.packets += change.of(|layer| layer.packets);
        self.bytes += change.of(|layer| layer.bytes);
        self.missed += change.of(|layer| layer.lost + layer.recovered);
        self.given_up += change.of(|layer| layer.given_up);
        self.expected += change.of(|layer| layer.packets + layer.lost);
        self.elapsed = change.elapsed;
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl History {
    pub(crate) fn push(&mut self, now: Instant, stats: &Stats) {
        let is_old = |(at, _): &(Instant, Stats)| now.saturating_duration_since(*at) > GAP_MAX;
        if self.samples.back().is_some_and(is_old) {
            self.samples.clear();
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back((now, stats.clone()));
        self.began_at.get_or_insert(now);
        if matches!(stats.connection, Connection::Connected | Connection::Reliable) {
            self.connected_at.get_or_insert(now);
        }
    }

    pub(crate) fn newest(&self) -> Option<&(Instant, Stats)> {
        self.samples.back()
    }

    /// Since it was first seen.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.began_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// Since it was connected; `None` before that.
    pub(crate) fn connected_for(&self, now: Instant) -> Option<Duration> {
        self.connected_at.map(|at| now.saturating_duration_since(at))
    }

    /// What each layer has done in the last `seconds`; nothing as long as that is not known.
    pub(crate) fn changes(&self, seconds: u64) -> impl Iterator<Item = Change<'_>> {
        let newest = self.samples.len().checked_sub(1);
        let before = newest.and_then(|newest| self.sample_before(newest, Duration::from_secs(seconds)));
        newest.zip(before).into_iter().flat_map(|(newest, before)| self.between(before, newest))
    }

    /// The layers of a kind in the last `seconds`.
    pub(crate) fn changes_of(&self, kind: Kind, seconds: u64) -> impl Iterator<Item = Change<'_>> {
        self.changes(seconds).filter(move |change| change.now.kind == kind)
    }

    /// All layers together in the last `seconds`.
    pub(crate) fn sum(&self, seconds: u64) -> Sum {
        Sum::of(self.changes(seconds))
    }

    /// All layers of a kind together in the last `seconds`.
    pub(crate) fn sum_of(&self, kind: Kind, seconds: u64) -> Sum {
        Sum::of(self.changes_of(kind, seconds))
    }

    /// All layers together in each step from one sample to the next, oldest first.
    pub(crate) fn steps(&self) -> Vec<Sum> {
        (1..self.samples.len()).map(|index| Sum::of(self.between(index - 1, index))).collect()
    }

    /// Whether something of this stream came in the last two seconds.
    pub(crate) fn is_flowing(&self, ssrc: Ssrc) -> bool {
        self.changes(2).any(|change| change.now.ssrc == ssrc && change.is_flowing())
    }

    /// Mean jitter of a stream over the latest samples, so many of them: the figure itself dies away in a moment.
    pub(crate) fn jitter(&self, ssrc: Ssrc, samples: u32) -> Duration {
        let latest = self.samples.iter().rev().take(samples as usize);
        let layers = latest.filter_map(|(_, stats)| stats.layers.iter().find(|layer| layer.ssrc == ssrc));
        layers.map(|layer| layer.jitter).sum::<Duration>() / samples.max(1)
    }

    /// Whether there are layers of a kind that were offered, or, where nothing is offered, that have sent.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.newest().is_some_and(|(_, stats)| {
            let is_offered = stats.connection != Connection::Reliable;
            stats.layers.iter().any(|layer| layer.kind == kind && (is_offered || layer.packets > 0))
        })
    }

    /// The newest sample that is at least so much older, a tenth of a second more or less: nobody looks to the
    /// millisecond.
    fn sample_before(&self, newest: usize, span: Duration) -> Option<usize> {
        let (at, _) = &self.samples[newest];
        (0..newest).rev().find(|index| {
            at.saturating_duration_since(self.samples[*index].0) + Duration::from_millis(100) >= span
        })
    }

    fn between(&self, before: usize, after: usize) -> impl Iterator<Item = Change<'_>> {
        let ((then, old), (now, new)) = (&self.samples[before], &self.samples[after]);
        let elapsed = now.saturating_duration_since(*then);
        new.layers.iter().filter_map(move |layer| {
            let before = old.layers.iter().find(|other| other.ssrc == layer.ssrc)?;
            Some(Change { now: layer, before, elapsed })
        })
    }
}
