//! How long to wait before trying again.

use std::time::Duration;

/// The shortest and the longest pause.
const MIN: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(1);

/// The pause before the next attempt in an outage that has lasted so long: a tenth of it, so that looking for the store
/// adds little to its absence.
pub(crate) fn after(outage: Duration) -> Duration {
    (outage / 10).clamp(MIN, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_50_ms_to_a_second() {
        let seconds = [0, 1, 4, 60].map(|seconds| after(Duration::from_secs(seconds)).as_millis());
        assert_eq!(seconds, [50, 100, 400, 1000]);
    }
}
