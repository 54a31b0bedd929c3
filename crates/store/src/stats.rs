//! How a store fares: up or down, and counters.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::{PutError, Unavailable};

/// Whether the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// It did when last asked.
    Up,
    /// It does not.
    Down {
        /// When that began.
        since: Instant,
    },
}

/// Upper bounds of [`Stats::latency_counts`]: what memory, a network and a store in trouble take. No operation takes much
/// longer than the last of them.
pub const LATENCY_BOUNDS: [Duration; 10] = [
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    crate::ANSWER_WITHIN,
];

/// What happened since the store was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Gets, lists, puts and deletes that ended, however they did.
    pub operations: u64,
    /// Those of them that the store did not answer.
    pub failures: u64,
    /// Time that all of them took together.
    pub latency_sum: Duration,
    /// Operations that took at most as long as each of [`LATENCY_BOUNDS`] but longer than the one before, and those
    /// above all.
    pub latency_counts: [u64; LATENCY_BOUNDS.len() + 1],
    /// How often the store was looked for: at first, and after each loss.
    pub resolutions: u64,
    /// How often the store went from up to down.
    pub outages: u64,
    /// Stored values that are no records of this program, each time one was met.
    pub malformed: u64,
    /// How often a watch fell so far behind that it got a snapshot instead of changes.
    pub watch_overflows: u64,
}

/// Whether an outcome came from the store.
pub(crate) trait Answer {
    /// False if the store did not answer.
    fn is_answer(&self) -> bool;
}

impl<T> Answer for Result<T, PutError> {
    fn is_answer(&self) -> bool {
        !matches!(self, Err(PutError::Unavailable(_)))
    }
}

impl<T> Answer for Result<T, Unavailable> {
    fn is_answer(&self) -> bool {
        self.is_ok()
    }
}

/// The counters behind [`Stats`].
#[derive(Debug)]
pub(crate) struct Meter {
    operations: AtomicU64,
    failures: AtomicU64,
    latency_nanos: AtomicU64,
    latency_counts: [AtomicU64; LATENCY_BOUNDS.len() + 1],
    pub resolutions: AtomicU64,
    outages: AtomicU64,
    pub malformed: AtomicU64,
    pub watch_overflows: AtomicU64,
    state: Mutex<StoreState>,
}

impl Meter {
    pub fn new(state: StoreState) -> Self {
        Self {
            operations: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            latency_nanos: AtomicU64::new(0),
            latency_counts: [const { AtomicU64::new(0) }; LATENCY_BOUNDS.len() + 1],
            resolutions: AtomicU64::new(0),
            outages: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            watch_overflows: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// Runs an operation, counts it and times it.
    pub async fn measured<T: Answer>(&self, operation: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let outcome = operation.await;
        self.operation(since, outcome.is_answer());
        outcome
    }

    fn operation(&self, since: Instant, is_answered: bool) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(u64::from(!is_answered), Ordering::Relaxed);
        let took = since.elapsed();
        Self::count(&self.latency_counts[LATENCY_BOUNDS.partition_point(|bound| *bound < took)]);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what is true now. True if that is a change.
    pub fn set_up(&self, is_up: bool) -> bool {
        let mut state = self.lock();
        match (*state, is_up) {
            (StoreState::Up, true) | (StoreState::Down { .. }, false) => false,
            (StoreState::Down { .. }, true) => {
                *state = StoreState::Up;
                true
            }
            (StoreState::Up, false) => {
                *state = StoreState::Down { since: Instant::now() };
                Self::count(&self.outages);
                true
            }
        }
    }

    pub fn state(&self) -> StoreState {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn stats(&self) -> Stats {
        Stats {
            operations: self.operations.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            latency_sum: Duration::from_nanos(self.latency_nanos.load(Ordering::Relaxed)),
            latency_counts: self.latency_counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            resolutions: self.resolutions.load(Ordering::Relaxed),
            outages: self.outages.load(Ordering::Relaxed),
            malformed: self.malformed.load(Ordering::Relaxed),
            watch_overflows: self.watch_overflows.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operation_falls_into_the_bucket_that_holds_its_time() {
        let meter = Meter::new(StoreState::Up);
        for (micros, is_answered) in [(250, true), (251, true), (3000, true), (600_000, false)] {
            let operation = async {
                tokio::time::advance(Duration::from_micros(micros)).await;
                if is_answered { Ok(()) } else { Err(Unavailable::TimedOut { within: crate::ANSWER_WITHIN }) }
            };
            let _ = meter.measured(operation).await;
        }
        let stats = meter.stats();
        assert_eq!(stats.latency_counts, [1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((stats.operations, stats.failures), (4, 1));
        assert_eq!(stats.latency_sum, Duration::from_micros(603_501));
    }
}
