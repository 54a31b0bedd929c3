//! Waiting for the word to stop.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long sessions get to end by themselves before they are closed.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// SIGTERM and SIGINT of this process.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Takes the signals over from the kernel's default.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
