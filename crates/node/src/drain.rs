//! How long a node that is told to stop waits for its sessions.

use std::time::Duration;

/// How long sessions get to end by themselves before they are closed.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(2);
