//! An encoder that is live: ffmpeg over RTMP, with the time of capture painted into every picture as it is taken.
//!
//! ffmpeg gets one row of pixels for each picture when that is due, as from a camera, and paints it over a test picture;
//! its sound beeps at every full second. Whoever reads the code off the screen knows how long it took from the encoder's
//! input to the viewer's screen.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
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
                if let Err(error) = work(&url).await {
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

/// Until ffmpeg ends.
async fn work(url: &str) -> anyhow::Result<()> {
    let mut ffmpeg = start(url)?;
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

fn start(url: &str) -> anyhow::Result<Child> {
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
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "60"])
        .args(["-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k"])
        .args(["-c:a", "aac", "-b:a", "96k", "-ac", "2", "-f", "flv", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    command.spawn().context("start ffmpeg")
}
