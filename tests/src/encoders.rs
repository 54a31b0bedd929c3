//! Encoders that are not ours, as child processes: libdatachannel, which is the WebRTC of OBS, and ffmpeg's WHIP muxer.
//!
//! `cargo xtask test --install` puts their libraries below `target/encoders`; what uses them lies in `tests/encoders`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use model::Codec;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::clip::layers::Layer;
use crate::clip::{self, FFMPEG, FRAME_RATE};
use crate::probe::Clock;
use crate::program::PATIENCE;

/// Where `cargo xtask test --install` puts the libraries.
const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/encoders");
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/encoders");
const NODE: &str = "/usr/bin/node";
/// How much of a picture is encoded for Enhanced RTMP, to be played over and over.
const ENHANCED_SECONDS: &str = "4";
/// How long a good end may take.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// Where the libraries are.
#[must_use]
pub fn folder() -> &'static Path {
    Path::new(LIBRARIES)
}

/// What libdatachannel needs.
#[must_use]
pub fn parts_of_libdatachannel() -> [PathBuf; 3] {
    [NODE.into(), FFMPEG.into(), Path::new(LIBRARIES).join("node_modules/node-datachannel")]
}

/// What ffmpeg's WHIP muxer needs.
#[must_use]
pub fn parts_of_ffmpeg() -> [PathBuf; 2] {
    [FFMPEG.into(), python()]
}

fn python() -> PathBuf {
    Path::new(LIBRARIES).join("python/bin/python")
}

/// A certificate with an ECDSA key, as ffmpeg's options name it: the one that it makes by itself has an RSA key.
///
/// # Errors
/// If openssl cannot make it.
pub fn certificate_of_ffmpeg(folder: &Path) -> anyhow::Result<[String; 2]> {
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        let made = command.current_dir(folder).args(arguments.split(' ')).output().context("run openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        anyhow::Ok(())
    };
    openssl("ecparam -name prime256v1 -genkey -noout -out key.pem")?;
    openssl("req -new -x509 -key key.pem -subj /CN=ffmpeg -out certificate.pem")?;
    let file = |name: &str| folder.join(name).display().to_string();
    Ok([format!("cert_file={}", file("certificate.pem")), format!("key_file={}", file("key.pem"))])
}

/// A running encoder. Vanishes with its value.
pub struct Encoder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    stdin: Option<ChildStdin>,
    said: Vec<String>,
    _folder: TempDir,
}

impl Encoder {
    /// Publishes the recording with a keyframe every eight seconds as OBS does, deaf to keyframe requests.
    ///
    /// # Errors
    /// If the recording cannot be made or the encoder not be started.
    pub fn libdatachannel(url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        Self::obs(&[], url, token)
    }

    /// The same, and says that it is this version of OBS.
    ///
    /// # Errors
    /// If the recording cannot be made or the encoder not be started.
    pub fn of_version(version: &str, url: &str) -> anyhow::Result<Self> {
        Self::obs(&["--version", version], url, None)
    }

    fn obs(options: &[&str], url: &str, token: Option<&str>) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the recording")?;
        let video = folder.path().join("video");
        write_samples(&video, &clip::h264_pictures()?)?;
        let audio = folder.path().join("audio");
        write_samples(&audio, &clip::sounds()?)?;
        let mut command = Command::new(NODE);
        command.arg(Path::new(SCRIPTS).join("obs.mjs")).args(options).arg(url).args([video, audio]);
        command.args(token);
        Self::start(command, folder)
    }

    /// Publishes the recording in these layers as OBS 32.1 and later do: every packet says which layer it is of. Deaf to
    /// keyframe requests, and to NACKs, too.
    ///
    /// # Errors
    /// If the sound cannot be made or the encoder not be started.
    pub fn in_layers(url: &str, layers: &[Layer]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the recording")?;
        let mut videos = Vec::new();
        for layer in layers {
            let video = folder.path().join(&layer.rid);
            let pictures = layer.pictures.iter().map(|payloads| framed(payloads));
            write_samples(&video, &pictures.collect::<anyhow::Result<Vec<_>>>()?)?;
            videos.push(video.display().to_string());
        }
        let audio = folder.path().join("audio");
        write_samples(&audio, &clip::sounds()?)?;
        let mut command = Command::new(NODE);
        command.arg(Path::new(SCRIPTS).join("obs.mjs")).args(["--layers", url, &videos.join(",")]).arg(audio);
        Self::start(command, folder)
    }

    /// Publishes the same pictures with ffmpeg's muxer; `options` are its own, such as `cert_file=...`.
    ///
    /// # Errors
    /// If the recording cannot be made or the encoder not be started.
    pub fn ffmpeg(url: &str, options: &[String]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the recording")?;
        let video = folder.path().join("video.h264");
        std::fs::write(&video, clip::h264_pictures()?.concat()).context("write the pictures")?;
        let recording = folder.path().join("recording.mkv");
        let rate = FRAME_RATE.to_string();
        let made = std::process::Command::new(FFMPEG)
            .args(["-v", "error", "-framerate", &rate, "-i"])
            .arg(&video)
            .args(["-f", "lavfi", "-i", &clip::beeps("48000"), "-c:v", "copy"])
            .args(["-c:a", "libopus", "-ac", "2", "-shortest"])
            .arg(&recording)
            .output()
            .context("start ffmpeg")?;
        ensure!(made.status.success(), "no recording: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = Command::new(python());
        let length = clip::LENGTH.as_secs().to_string();
        command.arg(Path::new(SCRIPTS).join("ffmpeg.py")).arg(&recording).args([url, &length]).args(options);
        Self::start(command, folder)
    }

    /// Publishes a moving picture in H265, VP9 or AV1, and a tone, over RTMP: the newer ffmpeg writes tags of Enhanced RTMP
    /// for them. A keyframe every second.
    ///
    /// # Errors
    /// If the recording cannot be made or the encoder not be started.
    pub fn enhanced_rtmp(url: &str, codec: Codec) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the recording")?;
        let recording = folder.path().join("recording.mkv");
        let (video, audio) = match codec {
            Codec::H265 => (
                "libx265 -preset ultrafast -x265-params keyint=30:min-keyint=30:scenecut=0:bframes=0:log-level=error",
                "libopus",
            ),
            Codec::Vp9 => {
                ("libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0", "aac")
            }
            Codec::Av1 => ("libaom-av1 -usage realtime -cpu-used 8", "aac"),
            Codec::Opus | Codec::H264 | Codec::Vp8 => bail!("{codec} is none of Enhanced RTMP here"),
        };
        let mut command = std::process::Command::new(FFMPEG);
        command.args(["-v", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
        command.args([
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000",
            "-t",
            ENHANCED_SECONDS,
            "-c:v",
        ]);
        command.args(video.split(' ')).args(["-g", "30", "-b:v", "500k", "-pix_fmt", "yuv420p"]);
        let made =
            command.args(["-c:a", audio, "-ac", "2"]).arg(&recording).output().context("start ffmpeg")?;
        ensure!(made.status.success(), "no recording: {}", String::from_utf8_lossy(&made.stderr));
        let mut command = Command::new(python());
        command.arg(Path::new(SCRIPTS).join("ffmpeg.py")).arg(&recording).args([url, ENHANCED_SECONDS]);
        Self::start(command, folder)
    }

    fn start(mut command: Command, folder: TempDir) -> anyhow::Result<Self> {
        command.current_dir(LIBRARIES).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().context("start the encoder")?;
        let stdout = child.stdout.take().context("its output")?;
        let stdin = child.stdin.take();
        Ok(Self { child, lines: BufReader::new(stdout).lines(), stdin, said: Vec::new(), _folder: folder })
    }

    /// Waits for a line that begins with `word` and gives the rest of it.
    ///
    /// # Errors
    /// If the encoder ends before, or does not say it in time.
    pub async fn until(&mut self, word: &str) -> anyhow::Result<String> {
        let search = async {
            while let Some(line) = self.lines.next_line().await? {
                let found = line.strip_prefix(word).map(|rest| rest.trim().to_owned());
                self.said.push(line);
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            bail!("the encoder ended before {word:?}; it said {:?}", self.said)
        };
        tokio::time::timeout(PATIENCE, search).await.with_context(|| format!("no {word:?} in time"))?
    }

    /// Waits until it plays the recording; gives what its pictures' codes say. To be asked once it is connected.
    ///
    /// # Errors
    /// If it does not begin in time.
    pub async fn clock(&mut self) -> anyhow::Result<Clock> {
        let began = self.until("began").await?.parse().context("when it began")?;
        Ok(Clock::Recording { began, length: clip::LENGTH })
    }

    /// Whether its process is no more.
    ///
    /// # Errors
    /// If that cannot be known.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it gives up by itself.
    ///
    /// # Errors
    /// If it does not in time, or ends as if all was well.
    pub async fn until_failed(mut self) -> anyhow::Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.context("it goes on")??;
        ensure!(!status.success(), "it ended as if all was well");
        Ok(())
    }

    /// Ends it as its user does: the session is deleted. Gives what it says of that.
    ///
    /// # Errors
    /// If it does not end well.
    pub async fn close(mut self) -> anyhow::Result<String> {
        self.stdin = None;
        let said = self.until("deleted").await?;
        let status = tokio::time::timeout(GOODBYE_MAX, self.child.wait()).await.context("it goes on")??;
        ensure!(status.success(), "it ended with {status}");
        Ok(said)
    }
}

/// Writes each sample with its length before it.
fn write_samples(path: &Path, samples: &[impl AsRef<[u8]>]) -> anyhow::Result<()> {
    std::fs::write(path, framed(samples)?).with_context(|| format!("write {}", path.display()))
}

/// The samples, each with its length before it.
fn framed(samples: &[impl AsRef<[u8]>]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    for sample in samples {
        let sample = sample.as_ref();
        all.extend_from_slice(&u32::try_from(sample.len())?.to_be_bytes());
        all.extend_from_slice(sample);
    }
    Ok(all)
}
