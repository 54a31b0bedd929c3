//! What a browser sees that watches a test picture: the figures of a viewing.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use crate::baseline::{self, Baseline};
use crate::browser::{Browser, Page};
use crate::program::{self, PATIENCE, Program};

/// Muted sound is not played, and what is not played has no energy. The player is told, which may else mute its element again.
pub const UNMUTE: &str = "document.querySelector('media-tree-player, video').muted = false";

/// What was seen in one viewing.
#[derive(Debug, Clone, Default)]
pub struct Viewing {
    /// Pictures decoded while watched.
    pub frames_decoded: u64,
    /// Pictures per second.
    pub frames_per_second: f64,
    /// Freezes, as the browser counts them.
    pub freeze_count: u64,
    /// How long they took together.
    pub freezes: Duration,
    /// Sound energy received.
    pub audio_energy: f64,
    /// RTP packets lost for good.
    pub packets_lost: i64,
    /// From the POST to the first picture shown.
    pub first_frame: Duration,
    /// Glass to glass, sorted.
    pub latencies: Vec<Duration>,
    /// What the browser decodes.
    pub codec: String,
}

impl Viewing {
    /// What statistics of the player tell that were taken at both ends of a while of this length; without latencies.
    #[must_use]
    pub fn between(before: &Value, after: &Value, length: Duration) -> Self {
        let number = |value: &Value, name: &str| value[name].as_f64().unwrap_or(0.0);
        let difference = |name: &str| number(after, name) - number(before, name);
        Self {
            frames_decoded: difference("framesDecoded") as u64,
            frames_per_second: difference("framesDecoded") / length.as_secs_f64(),
            freeze_count: difference("freezeCount") as u64,
            freezes: Duration::from_secs_f64(difference("totalFreezesDuration").max(0.0)),
            audio_energy: difference("audioEnergy"),
            packets_lost: difference("packetsLost") as i64,
            first_frame: Duration::from_secs_f64(number(after, "firstFrameMs").max(0.0) / 1000.0),
            latencies: Vec::new(),
            codec: after["videoCodec"].as_str().unwrap_or("?").to_owned(),
        }
    }

    /// The latency that `share` of the samples do not exceed.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get((last as f64 * share).round() as usize).copied()
    }
}

impl fmt::Display for Viewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |share| self.latency(share).map_or(-1, |latency| latency.as_millis() as i64);
        write!(
            f,
            "{}: {} frames ({:.1}/s), {} freezes ({} ms), {} packets lost, sound energy {:.4}, first frame {} ms, glass \
             to glass p50 {} ms p95 {} ms ({} samples)",
            self.codec,
            self.frames_decoded,
            self.frames_per_second,
            self.freeze_count,
            self.freezes.as_millis(),
            self.packets_lost,
            self.audio_energy,
            self.first_frame.as_millis(),
            millis(0.5),
            millis(0.95),
            self.latencies.len()
        )
    }
}

/// Publishes the test picture through one node and watches it through another, which may be the same, for `length`; and
/// for as long a direct connection between two peers of one page, which shows what this machine can do at all.
///
/// # Errors
/// If a page breaks or no picture comes.
pub async fn publish_and_watch(
    injection: &Program,
    egress: &Program,
    codec: &str,
    length: Duration,
) -> anyhow::Result<(Viewing, Baseline)> {
    let direct = baseline::loopback(&Browser::chromium().await?, codec, length).await?;
    Ok((publish_and_watch_through(injection, egress, codec, length).await?, direct))
}

/// The same without the direct connection.
///
/// # Errors
/// If a page breaks or no picture comes.
pub async fn publish_and_watch_through(
    injection: &Program,
    egress: &Program,
    codec: &str,
    length: Duration,
) -> anyhow::Result<Viewing> {
    let (publisher, viewer) = (Browser::chromium().await?, Browser::chromium().await?);
    let _publishing = publish_test_picture(&publisher, &injection.url("/publish/show"), codec).await?;
    program::until("the broadcast is known at the egress", || async {
        Ok(reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?.contains("live"))
    })
    .await?;
    let player = open_player(&viewer, &egress.url("/watch/show")).await?;
    watch(&player, length).await
}

/// Publishes the test picture with clock and tone from a page; ends with the page.
///
/// # Errors
/// If the page does not come to be live.
pub async fn publish_test_picture(browser: &Browser, url: &str, codec: &str) -> anyhow::Result<Page> {
    let (address, fragment) = url.split_once('#').unwrap_or((url, ""));
    let sign = if address.contains('?') { '&' } else { '?' };
    let page = browser.open(&format!("{address}{sign}source=clock&codec={codec}#{fragment}")).await?;
    page.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    page.evaluate("document.getElementById('form').requestSubmit()").await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesEncoded > 10)", PATIENCE)
        .await
        .context("the test picture is not encoded")?;
    Ok(page)
}

/// Opens the player and waits for its first pictures.
///
/// # Errors
/// If no picture comes.
pub async fn open_player(browser: &Browser, url: &str) -> anyhow::Result<Page> {
    let page = browser.open(url).await?;
    page.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 0)", PATIENCE)
        .await
        .context("no picture is decoded")?;
    page.evaluate(UNMUTE).await?;
    Ok(page)
}

/// Watches for `length`.
///
/// # Errors
/// If the page breaks.
pub async fn watch(page: &Page, length: Duration) -> anyhow::Result<Viewing> {
    // A page that was not allowed to play with sound at first has muted itself meanwhile.
    page.evaluate(UNMUTE).await?;
    let before = page.evaluate("mediaTree.stats()").await?;
    let begun = Instant::now();
    let mut latencies = Vec::new();
    while begun.elapsed() < length {
        let code = page.evaluate("mediaTree.timecode()").await?;
        if let Some(behind) = code["behind"].as_f64() {
            latencies.push(Duration::from_secs_f64(behind.max(0.0) / 1000.0));
        }
        // The samples of a second tell as much as those of every picture, and cost the machine less.
        page.evaluate("new Promise((resolve) => setTimeout(resolve, 200))").await?;
    }
    let after = page.evaluate("mediaTree.stats()").await?;
    let mut viewing = Viewing::between(&before, &after, begun.elapsed());
    latencies.sort();
    viewing.latencies = latencies;
    Ok(viewing)
}
