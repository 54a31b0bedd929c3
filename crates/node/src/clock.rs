//! This node's wallclock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::NtpTime;

/// Time since 1970.
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The same as the media plane counts it.
#[must_use]
pub fn wallclock() -> NtpTime {
    NtpTime::from_unix(unix_time())
}
