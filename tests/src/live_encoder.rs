//! An encoder that is live: ffmpeg over RTMP, with the time of capture painted into every picture as it is taken. And the
//! same pictures bare, as a camera for encoders that are not ffmpeg.
//!
//! ffmpeg gets one row of pixels for each picture when that is due, as from a camera, and paints it over a test picture;
//! its sound beeps at every full second. Whoever reads the code off the screen knows how long it took from the encoder's
//! input to the viewer's screen.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::clip::{self, FFMPEG, FRAME_RATE};

/// After its end it is started again, as in a loop of a shell.
const PAUSE: Duration = Duration::from_secs(1);
/// Until the first picture: ffmpeg starts meanwhile.
const LEAD: Duration = Duration::from_millis(500);

/// The encoder at work, and again whenever it has ended. Ends with its value.
pub struct LiveEncoder {
    starts: Arc<AtomicU64>,
    working: JoinHandle<()>,
}

impl LiveEncoder {
    /// Publishes to the RTMP listener at `address`; `stream` is name and key as encoders want them.
    #[must_use]
    pub fn rtmp(address: SocketAddr, stream: &str) -> Self {
        let url = format!("rtmp://{address}/live/{stream}");
        let starts = Arc::new(AtomicU64::new(0));
        let counted = starts.clone();
        let working = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = encode(&url).await {
                    eprintln!("ffmpeg over RTMP: {error:#}");
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { starts, working }
    }

    /// How often it was started.
    #[must_use]
    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

impl Drop for LiveEncoder {
    fn drop(&mut self) {
        self.working.abort();
    }
}

/// In which bare pictures and sound come from a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// Nothing waits in it.
    Nut,
    /// Each picture, and each piece of sound, waits for the next one. For GStreamer, whose demuxer of NUT never ends.
    Matroska,
}

/// A camera with a microphone: bare pictures and sound over TCP for whoever connects. Ends with its value.
pub struct Camera {
    /// Where it listens.
    pub address: SocketAddr,
    working: JoinHandle<()>,
}

impl Camera {
    /// Waits for one who connects, and after its end for the next one.
    ///
    /// # Errors
    /// If it cannot listen.
    pub async fn start(container: Container) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen as a camera")?;
        let address = listener.local_addr().context("the camera's address")?;
        let working = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                if let Err(error) = film(connection, container).await {
                    eprintln!("the camera: {error:#}");
                }
            }
        });
        Ok(Self { address, working })
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.working.abort();
    }
}

async fn encode(url: &str) -> anyhow::Result<()> {
    let mut ffmpeg = painter();
    ffmpeg
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "60"])
        .args(["-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k"])
        .args(["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-f", "flv", url])
        .stdout(Stdio::null());
    work(ffmpeg).await
}

async fn film(connection: TcpStream, container: Container) -> anyhow::Result<()> {
    let connection = connection.into_std()?;
    connection.set_nonblocking(false)?;
    let mut ffmpeg = painter();
    ffmpeg
        .args(["-c:v", "rawvideo", "-c:a", "pcm_s16le", "-ac", "2"])
        .args(match container {
            Container::Nut => &["-f", "nut"][..],
            Container::Matroska => &["-f", "matroska", "-cluster_time_limit", "1"],
        })
        .args(["-flush_packets", "1", "pipe:1"])
        .stdout(OwnedFd::from(connection));
    work(ffmpeg).await
}

/// Until ffmpeg ends.
async fn work(mut command: Command) -> anyhow::Result<()> {
    let mut ffmpeg = command.spawn().context("start ffmpeg")?;
    let mut rows = ffmpeg.stdin.take().context("its input")?;
    let (now, here) = (SystemTime::now().duration_since(UNIX_EPOCH)?, Instant::now());
    // The first picture is of a full second, as the first beep is.
    let first = Duration::from_secs((now + LEAD).as_secs() + 1);
    let begins = here + (first - now);
    for picture in 0u32.. {
        let since = Duration::from_secs(u64::from(picture)) / FRAME_RATE;
        tokio::time::sleep_until((begins + since).into()).await;
        let row = clip::code_row((first + since).as_millis() as u64);
        if rows.write_all(&row).await.is_err() {
            break;
        }
    }
    drop(rows);
    let status = ffmpeg.wait().await?;
    anyhow::bail!("it ended with {status}")
}

/// ffmpeg with its inputs; what becomes of pictures and sound is still to be said.
fn painter() -> Command {
    let rate = FRAME_RATE.to_string();
    let size = format!("{}x1", clip::CODE_BLOCKS);
    let picture = format!("testsrc2=s={}:r={rate}", clip::PICTURE);
    let sound = clip::beeps("44100");
    let paint = format!("{};[v]format=yuv420p[out]", clip::paint_code("v"));
    let mut command = Command::new(FFMPEG);
    command
        .args(["-hide_banner", "-loglevel", "error", "-probesize", "32", "-analyzeduration", "0"])
        .args(["-f", "rawvideo", "-pix_fmt", "gray", "-s", &size, "-framerate", &rate, "-i", "pipe:0"])
        .args(["-f", "lavfi", "-i", &picture])
        .args(["-re", "-f", "lavfi", "-i", &sound])
        .args(["-filter_complex", &paint, "-map", "[out]", "-map", "2:a"])
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command
}
