//! What a process has spent, looked at from outside: `/proc/PID/stat` every 100 ms.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine;

/// `USER_HZ` of every Linux that Rust runs on.
pub const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: u64 = 4096;
const INTERVAL: Duration = Duration::from_millis(100);

/// One look.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at_ms: f64,
    cpu_seconds: f64,
    resident_bytes: u64,
}

/// Looks at a process, its threads together, or at the whole machine, until dropped.
pub struct Meter {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Meter {
    /// Begins to look at the process with this id.
    #[must_use]
    pub fn of_process(process: u32) -> Self {
        Self::looking(move || {
            let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
            parse(&text)
        })
    }

    /// Begins to look at everything that runs here.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::looking(|| Some((machine::busy_seconds(), 0)))
    }

    fn looking(look: impl Fn() -> Option<(f64, u64)> + Send + 'static) -> Self {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let seen = samples.clone();
        let task = tokio::spawn(async move {
            let mut timer = tokio::time::interval(INTERVAL);
            timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                timer.tick().await;
                let at_ms = machine::unix_ms();
                let Some((cpu_seconds, resident_bytes)) = look() else { return };
                let sample = Sample { at_ms, cpu_seconds, resident_bytes };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
            }
        });
        Self { samples, task }
    }

    fn samples(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CPU seconds (user and system) spent between two moments, in milliseconds of the wall clock.
    #[must_use]
    pub fn cpu_seconds(&self, (from_ms, to_ms): (f64, f64)) -> f64 {
        let samples = self.samples();
        interpolated(&samples, to_ms) - interpolated(&samples, from_ms)
    }

    /// Resident bytes at a moment, as last seen before it.
    #[must_use]
    pub fn resident_bytes_at(&self, at_ms: f64) -> u64 {
        let samples = self.samples();
        let before = samples.partition_point(|sample| sample.at_ms <= at_ms).max(1) - 1;
        samples.get(before).map_or(0, |sample| sample.resident_bytes)
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// CPU seconds and resident bytes of proc_pid_stat(5); the name of the process may hold anything.
fn parse(stat: &str) -> Option<(f64, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    // The first of these fields is number 3, the state.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some((ticks as f64 / TICKS_PER_SECOND, field(24)? * PAGE_BYTES))
}

fn interpolated(samples: &[Sample], at_ms: f64) -> f64 {
    let after = samples.partition_point(|sample| sample.at_ms < at_ms);
    match (after.checked_sub(1).map(|before| samples[before]), samples.get(after)) {
        (Some(before), Some(after)) => {
            let share = (at_ms - before.at_ms) / (after.at_ms - before.at_ms);
            before.cpu_seconds + share * (after.cpu_seconds - before.cpu_seconds)
        }
        (Some(last), None) => last.cpu_seconds,
        (None, Some(first)) => first.cpu_seconds,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_hides_no_field() {
        let mut fields = vec!["S".to_owned()];
        fields.extend((4..=24).map(|number: u64| number.to_string()));
        let stat = format!("77 (a) b (c)) {}", fields.join(" "));
        assert_eq!(parse(&stat), Some((0.29, 24 * 4096)));
        assert_eq!(parse("77 (a"), None);
    }

    #[test]
    fn cpu_time_between_two_looks_is_shared_by_time() {
        let sample = |at_ms, cpu_seconds| Sample { at_ms, cpu_seconds, resident_bytes: 0 };
        let samples = [sample(0.0, 1.0), sample(100.0, 2.0), sample(200.0, 2.0)];
        assert_eq!(interpolated(&samples, 50.0), 1.5);
        assert_eq!(interpolated(&samples, 150.0), 2.0);
        assert_eq!(interpolated(&samples, 999.0), 2.0);
        assert_eq!(interpolated(&samples, -5.0), 1.0);
        assert_eq!(interpolated(&[], 5.0), 0.0);
    }
}
