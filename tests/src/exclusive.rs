//! What one test at a time does on this machine, also beside other test programs.

use std::fs::File;

use anyhow::Context as _;

/// What others wait for.
#[derive(Debug, Clone, Copy)]
pub enum Exclusive {
    /// A crowd of viewers: two of them at once are more than two cores carry.
    Crowd,
    /// What finds out little beside somebody else's load: a browser that codes several sizes sends fewer when it is short
    /// of time.
    Machine,
    /// A daemon of Docker: one machine has one, and whoever started it ends it for all.
    Docker,
}

/// One that was taken. Ends with its value, and with its process.
#[derive(Debug)]
pub struct Taken {
    _lock: File,
}

impl Exclusive {
    /// Waits for it.
    ///
    /// # Errors
    /// If the file that stands for it cannot be made.
    pub async fn take(self) -> anyhow::Result<Taken> {
        let name = match self {
            Self::Crowd => "media-tree-tests-crowd.lock",
            Self::Machine => "media-tree-tests-machine.lock",
            Self::Docker => "media-tree-tests-docker.lock",
        };
        let path = std::env::temp_dir().join(name);
        let lock = File::options().create(true).append(true).open(&path);
        let lock = lock.with_context(|| format!("open {}", path.display()))?;
        tokio::task::spawn_blocking(move || lock.lock().map(|()| Taken { _lock: lock }))
            .await?
            .context("wait for the others on this machine")
    }
}
