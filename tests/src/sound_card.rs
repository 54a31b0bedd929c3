//! A sound card that nobody hears: PulseAudio with a sink that keeps time and throws everything away.
//!
//! What browsers have instead of a missing card waits for the processor: Firefox's stand-in sleeps between buffers, so its
//! clock is some percent slow, and pictures wait for it.

mod ear;

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use ear::Ear;

/// What must be on this machine.
pub const PARTS: [&str; 2] = ["/usr/bin/pulseaudio", "/usr/bin/parec"];
/// The sink's name.
const SINK: &str = "card";
/// Of the sink, in Hz.
const SAMPLE_RATE: u32 = 48_000;
const START_MAX: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ends with its value.
pub struct SoundCard {
    ear: Ear,
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
        let sink = format!("module-null-sink sink_name={SINK} rate={SAMPLE_RATE}");
        let mut server = Command::new("pulseaudio")
            .args(["-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1"])
            .args(["--load", &sink, "--load", &protocol])
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
        Ok(Self { ear: Ear::listen(&socket)?, _server: server, _folder: folder, socket })
    }

    /// When it began to play beeps since the last time, in ms since 1970.
    ///
    /// # Errors
    /// If nobody listens to it any more.
    pub fn beeps(&self) -> anyhow::Result<Vec<f64>> {
        self.ear.take()
    }

    /// Where it listens, for `PULSE_SERVER` of who plays.
    #[must_use]
    pub fn address(&self) -> String {
        format!("unix:{}", self.socket.display())
    }
}
