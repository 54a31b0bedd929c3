//! GStreamer as publisher and as viewer: runs the program of `docs/gstreamer.md` as it stands there.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::live_encoder::Camera;
use crate::program::PATIENCE;
use crate::screen::Screen;
use crate::sound_card::SoundCard;

/// Debian's interpreter, whose packages have GStreamer's bindings.
pub const PYTHON: &str = "/usr/bin/python3";
/// What must be there beside it: bindings, `webrtcbin`, an H264 encoder, ICE.
pub const PARTS: [&str; 5] = [
    PYTHON,
    "/usr/lib/python3/dist-packages/gi/__init__.py",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstwebrtc.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstx264.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstnice.so",
];

/// For HEVC besides: an encoder and a decoder.
pub const PARTS_OF_HEVC: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstx265.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstlibav.so",
];

const PAGE: &str = include_str!("../../docs/gstreamer.md");
/// How long it may take to end when asked to.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// The running program.
pub struct GStreamer {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    _folder: TempDir,
}

/// Pictures and sounds that it decoded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoded {
    /// Pictures.
    pub pictures: u64,
    /// Buffers of sound.
    pub sounds: u64,
}

impl GStreamer {
    /// Publishes a test picture and a tone to the WHIP endpoint `url`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn publish(url: &str) -> anyhow::Result<Self> {
        Self::publish_as(url, "H264").await
    }

    /// Publishes what this camera sees and hears, with a token; it has to speak Matroska.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn publish_camera(url: &str, token: &str, camera: &Camera) -> anyhow::Result<Self> {
        let (host, port) = (camera.address.ip(), camera.address.port());
        let film = format!(
            "tcpclientsrc host={host} port={port} ! matroskademux name=camera camera.video_0 ! queue"
        );
        let sound = String::from("camera.audio_0 ! queue");
        Self::start("publish", url, "H264", &[("TOKEN", token.into()), ("VIDEO", film), ("AUDIO", sound)])
            .await
    }

    /// The same with another codec, in the words of SDP.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn publish_as(url: &str, codec: &str) -> anyhow::Result<Self> {
        Self::start("publish", url, codec, &[]).await
    }

    /// Watches what is published so.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn watch_as(url: &str, codec: &str) -> anyhow::Result<Self> {
        Self::start("watch", url, codec, &[]).await
    }

    /// Watches the WHEP endpoint `url`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn watch(url: &str) -> anyhow::Result<Self> {
        Self::watch_as(url, "H264").await
    }

    /// Watches the WHEP endpoint `url` as who looks at this screen and hears this sound card.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn watch_on(url: &str, screen: &Screen, sound_card: &SoundCard) -> anyhow::Result<Self> {
        let ends =
            [("VIDEO", screen.sink()), ("AUDIO", "pulsesink".into()), ("PULSE_SERVER", sound_card.address())];
        Self::start("watch", url, "H264", &ends).await
    }

    async fn start(
        mode: &str,
        url: &str,
        codec: &str,
        environment: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the program")?;
        std::fs::write(folder.path().join("webrtc.py"), block("python")?).context("write the program")?;
        let mut command = Command::new(PYTHON);
        command.current_dir(folder.path()).args(["webrtc.py", mode, url, codec]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().context("start Python")?;
        let mut output = BufReader::new(child.stdout.take().context("its output")?).lines();
        // It is never kept from speaking, whether anybody asks or not.
        let (said, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = output.next_line().await {
                let _ = said.send(line);
            }
        });
        Ok(Self { child, lines, _folder: folder })
    }

    /// Whether its process is no more.
    ///
    /// # Errors
    /// If that cannot be known.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until its peer connection is in this state, in the words of WebRTC.
    ///
    /// # Errors
    /// If it is not in time, or the program ends before.
    pub async fn until_state(&mut self, state: &str) -> anyhow::Result<()> {
        let wanted = format!("state {state}");
        self.until_line(|line| (line == wanted).then_some(())).await.with_context(|| wanted.clone())
    }

    /// Waits until it has decoded at least so much, and gives what it decoded.
    ///
    /// # Errors
    /// If it has not in time, or the program ends before.
    pub async fn until_decoded(&mut self, least: Decoded) -> anyhow::Result<Decoded> {
        let enough = |line: &str| {
            decoded(line).filter(|seen| seen.pictures >= least.pictures && seen.sounds >= least.sounds)
        };
        self.until_line(enough).await.with_context(|| format!("{least:?}"))
    }

    async fn until_line<T>(&mut self, mut wanted: impl FnMut(&str) -> Option<T>) -> anyhow::Result<T> {
        let search = async {
            let mut seen = Vec::new();
            while let Some(line) = self.lines.recv().await {
                if let Some(found) = wanted(&line) {
                    return Ok(found);
                }
                seen.push(line);
            }
            anyhow::bail!("GStreamer ended; it said {seen:?}")
        };
        tokio::time::timeout(PATIENCE, search).await.context("GStreamer does not get there")?
    }

    /// Ends it as Ctrl-C does: the session is deleted.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn close(mut self) -> anyhow::Result<()> {
        let id = self.child.id().context("it has ended already")?;
        let interrupted = Command::new("kill").args(["-INT", &id.to_string()]).status().await?;
        ensure!(interrupted.success(), "kill -INT failed");
        let status = tokio::time::timeout(GOODBYE_MAX, self.child.wait()).await.context("it goes on")??;
        ensure!(status.success(), "GStreamer ended with {status}");
        Ok(())
    }
}

/// `decoded 30 pictures, 50 sounds`.
fn decoded(line: &str) -> Option<Decoded> {
    let (pictures, sounds) = line.strip_prefix("decoded ")?.split_once(" pictures, ")?;
    let sounds = sounds.strip_suffix(" sounds")?;
    Some(Decoded { pictures: pictures.parse().ok()?, sounds: sounds.parse().ok()? })
}

/// The page's first block in this language.
fn block(language: &str) -> anyhow::Result<&'static str> {
    let fence = format!("```{language}\n");
    let (_, rest) = PAGE.split_once(&fence).with_context(|| format!("the page has no {language}"))?;
    let (block, _) = rest.split_once("```").context("a block ends")?;
    Ok(block)
}
