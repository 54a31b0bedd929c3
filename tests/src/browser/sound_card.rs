//! A sound card that nobody hears: PulseAudio with a sink that keeps time and throws everything away.
//!
//! Firefox's own stand-in for a missing card sleeps between buffers, so its clock is some percent slow, and pictures wait for it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

const START_MAX: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ends with its value.
pub(super) struct SoundCard {
    _server: Child,
    _folder: TempDir,
    socket: PathBuf,
}

impl SoundCard {
    /// # Errors
    /// If PulseAudio is not on this machine or does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for PulseAudio")?;
        let socket = folder.path().join("native");
        let protocol = format!("module-native-protocol-unix auth-anonymous=1 socket={}", socket.display());
        let mut server = Command::new("pulseaudio")
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"])
            .args(["--load", "module-null-sink rate=48000", "--load", &protocol])
            .env("HOME", folder.path())
            .env("XDG_RUNTIME_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("start pulseaudio")?;
        let deadline = Instant::now() + START_MAX;
        while UnixStream::connect(&socket).await.is_err() {
            if let Some(status) = server.try_wait()? {
                bail!("pulseaudio ended: {status}");
            }
            anyhow::ensure!(Instant::now() < deadline, "pulseaudio does not come up");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(Self { _server: server, _folder: folder, socket })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }
}
