//! How long to wait before trying again, and how long to try.

use std::time::Duration;

/// The shortest and the longest pause.
const MIN: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(1);
/// The longest attempt.
const PATIENCE_MAX: Duration = Duration::from_secs(3);

/// The pause before the next attempt in an outage that has lasted so long: a tenth of it, so that looking for the store
/// adds little to its absence.
pub(crate) fn after(outage: Duration) -> Duration {
    (outage / 10).clamp(MIN, MAX)
}

/// How long an attempt may take that usually takes up to `usual`, in an outage that has lasted so long: what is frozen
/// must not hold up the others, and a store on another continent must be reached in the end.
pub(crate) fn patience(usual: Duration, outage: Duration) -> Duration {
    (outage / 4).clamp(usual, usual.max(PATIENCE_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_from_50_ms_to_a_second() {
        let seconds = [0, 1, 4, 60].map(|seconds| after(Duration::from_secs(seconds)).as_millis());
        assert_eq!(seconds, [50, 100, 400, 1000]);
    }

    #[test]
    fn patience_grows_with_an_outage() {
        let usual = Duration::from_millis(500);
        let millis = [0, 4, 60].map(|seconds| patience(usual, Duration::from_secs(seconds)).as_millis());
        assert_eq!(millis, [500, 1000, 3000]);
    }
}
