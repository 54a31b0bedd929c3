//! Captions and other timed data of publishers: what is taken of them, and how much.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::PublisherId;
use link::exchange::Exchange;
use model::{BroadcastId, NtpTime};
use signaling::cue::{self, CueError};
use telemetry::CueResult;
use telemetry::injection;

use super::{Origin, Publishers};

/// What one broadcast may have in the long run, bytes per second: each viewer gets all of it.
const BYTES_PER_SECOND: u32 = 4096;
/// And at once: two of the longest.
const BYTES_AT_ONCE: u32 = 2 * cue::BYTES_MAX as u32;
/// A short one costs as much as this many bytes: 16 in a second, 32 at once.
const COST_MIN: u32 = 256;
/// Broadcasts whose allowance is remembered; with more of them, some begin anew.
const BROADCASTS_MAX: usize = 4096;

/// Who takes them.
pub(super) struct Intake {
    allowances: BTreeMap<BroadcastId, Allowance>,
    counters: injection::Cues,
}

struct Allowance {
    left: u32,
    since: Instant,
}

impl Allowance {
    /// Takes what a document costs, if it is there.
    fn take(&mut self, now: Instant, bytes: usize) -> bool {
        let elapsed = now.saturating_duration_since(self.since).min(Duration::from_secs(10));
        let earned = (elapsed.as_millis() as u64 * u64::from(BYTES_PER_SECOND) / 1000) as u32;
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BYTES_AT_ONCE);
            self.since = now;
        }
        let cost = u32::try_from(bytes).unwrap_or(u32::MAX).max(COST_MIN);
        let is_enough = self.left >= cost;
        if is_enough {
            self.left -= cost;
        }
        is_enough
    }
}

impl Intake {
    pub(super) const fn new(counters: injection::Cues) -> Self {
        Self { allowances: BTreeMap::new(), counters }
    }

    fn judge(
        &mut self,
        now: Instant,
        broadcast: &BroadcastId,
        document: &[u8],
    ) -> Result<Arc<str>, CueResult> {
        if document.len() > cue::BYTES_MAX {
            return Err(CueResult::TooLarge);
        }
        if self.allowances.len() >= BROADCASTS_MAX && !self.allowances.contains_key(broadcast) {
            self.allowances.pop_first();
        }
        let full = || Allowance { left: BYTES_AT_ONCE, since: now };
        let allowance = self.allowances.entry(broadcast.clone()).or_insert_with(full);
        if !allowance.take(now, document.len()) {
            return Err(CueResult::Rate);
        }
        let cue = cue::parse(document).map_err(|error| match error {
            CueError::TooLarge => CueResult::TooLarge,
            CueError::Unreadable => CueResult::Unreadable,
        })?;
        Ok(cue.into())
    }

    pub(super) fn forget(&mut self, broadcast: &BroadcastId) {
        self.allowances.remove(broadcast);
    }
}

impl Publishers {
    /// Takes what a publisher says beside its media, `from` it or for it, and tells what became of it.
    pub(in crate::tree) fn cue(
        &mut self,
        now: Instant,
        (broadcast, from): (&BroadcastId, Option<PublisherId>),
        (captured, document): (NtpTime, &[u8]),
        exchange: &mut Exchange,
    ) -> CueResult {
        let publisher = self.origins.get(broadcast).and_then(Origin::publisher);
        let is_current = publisher.is_some_and(|current| from.is_none_or(|from| from == current));
        let judged =
            if is_current { self.cues.judge(now, broadcast, document) } else { Err(CueResult::NotPublished) };
        let result = judged.map_or_else(
            |refused| refused,
            |cue| {
                let is_taken = exchange.publish_cue(now, broadcast, captured, cue);
                if is_taken { CueResult::Accepted } else { CueResult::NotPublished }
            },
        );
        self.cues.counters.count(result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broadcast_has_few_cues_in_a_second() {
        let mut now = Instant::now();
        let mut allowance = Allowance { left: BYTES_AT_ONCE, since: now };
        assert_eq!((0..1000).filter(|_| allowance.take(now, 10)).count(), 32);
        let mut taken = 0;
        for _ in 0..10_000 {
            now += Duration::from_millis(1);
            taken += usize::from(allowance.take(now, 10));
        }
        assert!((150..=160).contains(&taken), "{taken} in ten seconds");
        now += Duration::from_secs(10);
        assert!(allowance.take(now, cue::BYTES_MAX) && allowance.take(now, cue::BYTES_MAX));
        assert!(!allowance.take(now, 1));
    }
}
