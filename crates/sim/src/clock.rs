//! Virtual time. Real time stands still as far as the cores are concerned.

use std::time::{Duration, Instant};

use model::NtpTime;

/// Where the wallclock stands when a simulation begins, since the Unix epoch.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// The clock of a whole tree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    now: Instant,
}

impl Default for Clock {
    /// The only look at a real clock: an [`Instant`] cannot be made otherwise. Nothing depends on which it is.
    fn default() -> Self {
        let start = Instant::now();
        Self { start, now: start }
    }
}

impl Clock {
    /// The present.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// When the simulation began.
    #[must_use]
    pub const fn start(&self) -> Instant {
        self.start
    }

    /// Time since the simulation began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now.saturating_duration_since(self.start)
    }

    /// The wallclock at some moment.
    #[must_use]
    pub fn wallclock(&self, at: Instant) -> NtpTime {
        NtpTime::from_unix(BEGINNING + at.saturating_duration_since(self.start))
    }

    /// Lets time pass; never back.
    pub fn advance(&mut self, to: Instant) {
        self.now = self.now.max(to);
    }
}
