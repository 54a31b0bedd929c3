//! Who watches: the player in browsers, GStreamer.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use tests::browser::{Browser, Page};
use tests::gstreamer::{Decoded, GStreamer};
use tests::probe::{self, Clock, Samples};
use tests::program::Program;
use tests::watching::{self, Viewing};

use crate::publishers::SOUND_CARD;

/// What plays for so long, plays.
const PLAYING_PICTURES: u32 = 30;
/// GStreamer tells once a second what it has decoded.
const SECOND: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// A second with fewer pictures than this is a frozen one.
const PICTURES_A_SECOND_MIN: u64 = 15;

/// A kind of viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// The watch page in Chromium.
    Chromium,
    /// The same in Firefox.
    Firefox,
    /// GStreamer's `webrtcbin`, as docs/gstreamer.md has it.
    GStreamer,
}

impl Viewer {
    /// As the report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chromium => "Chromium",
            Self::Firefox => "Firefox",
            Self::GStreamer => "GStreamer",
        }
    }

    /// What must be on this machine beside what the tests use.
    pub const fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Chromium | Self::Firefox => SOUND_CARD,
            Self::GStreamer => &[],
        }
    }

    /// Watches `show` at this node, and has a picture.
    pub async fn start(self, node: &Program) -> anyhow::Result<Watching> {
        let url = node.url("/watch/show");
        match self {
            Self::Chromium => open(Browser::chromium_with_sound_card().await?, &url).await,
            Self::Firefox => open(Browser::firefox_with_sound_card().await?, &url).await,
            Self::GStreamer => {
                let mut gstreamer = GStreamer::watch(&node.url("/whep/show")).await?;
                gstreamer.until_decoded(Decoded { pictures: 1, sounds: 1 }).await?;
                Ok(Watching::GStreamer { gstreamer, armed_at: Decoded::default() })
            }
        }
    }
}

async fn open(browser: Browser, url: &str) -> anyhow::Result<Watching> {
    let page = watching::open_player(&browser, url).await?;
    probe::begin(&page, probe::PLAYER).await.context("look at the player")?;
    Ok(Watching::Page { page, browser: Box::new(browser) })
}

/// A viewer at work. Ends with its value.
pub enum Watching {
    /// The player's page.
    Page { page: Page, browser: Box<Browser> },
    GStreamer {
        gstreamer: GStreamer,
        /// What it had decoded when it was armed.
        armed_at: Decoded,
    },
}

/// What was seen and heard.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Counts of the browser.
    pub viewing: Viewing,
    /// Packets lost are not known of every viewer.
    pub knows_loss: bool,
    /// Nor is the first picture's time.
    pub knows_first_frame: bool,
    pub has_sound: bool,
    /// How old pictures were on screen, in ms, in their order.
    pub ages: Vec<f64>,
    /// How much later than its picture each beep was heard, in ms.
    pub lip_sync: Vec<f64>,
}

impl Watching {
    /// Watches for `length`; `clock` says what the code of the picture means.
    pub async fn watch(&mut self, length: Duration, clock: Option<Clock>) -> anyhow::Result<Seen> {
        match self {
            Self::Page { page, browser } => watch_page(browser, page, length, clock).await,
            Self::GStreamer { gstreamer, .. } => watch_gstreamer(gstreamer, length).await,
        }
    }

    /// From now on a picture is waited for.
    pub async fn arm(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Page { page, .. } => probe::arm(page).await,
            Self::GStreamer { gstreamer, armed_at } => {
                *armed_at = gstreamer.latest();
                Ok(())
            }
        }
    }

    /// Waits until it plays again since [`Watching::arm`], and gives when the first picture came.
    pub async fn until_playing(&mut self, patience: Duration) -> anyhow::Result<SystemTime> {
        match self {
            Self::Page { page, .. } => probe::until_playing(page, PLAYING_PICTURES, patience).await,
            Self::GStreamer { gstreamer, armed_at } => {
                let until = Instant::now() + patience;
                let wanted = armed_at.pictures + u64::from(PLAYING_PICTURES);
                let mut first = None;
                loop {
                    let pictures = gstreamer.latest().pictures;
                    if pictures > armed_at.pictures {
                        first.get_or_insert_with(SystemTime::now);
                    }
                    if let Some(first) = first.filter(|_| pictures >= wanted) {
                        return Ok(first);
                    }
                    anyhow::ensure!(Instant::now() < until, "no pictures within {patience:?}");
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
            }
        }
    }

    /// How old its pictures are for the next while, in ms.
    pub async fn ages(&self, length: Duration, clock: Clock) -> anyhow::Result<Vec<f64>> {
        let Self::Page { page, browser } = self else { return Ok(Vec::new()) };
        probe::take(browser, page).await?;
        tokio::time::sleep(length).await;
        Ok(probe::take(browser, page).await?.ages(clock))
    }

    /// Ends it as its user does.
    pub async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Page { page, browser: _browser } => page.close().await,
            Self::GStreamer { gstreamer, .. } => gstreamer.close().await,
        }
    }
}

/// What a page that is looked at shows for a while.
pub async fn watch_page(
    browser: &Browser,
    page: &Page,
    length: Duration,
    clock: Option<Clock>,
) -> anyhow::Result<Seen> {
    // A page that was not allowed to play with sound at first has muted itself meanwhile.
    page.evaluate(watching::UNMUTE).await?;
    probe::take(browser, page).await?;
    let before = page.evaluate("mediaTree.stats()").await?;
    let begun = Instant::now();
    tokio::time::sleep(length).await;
    let after = page.evaluate("mediaTree.stats()").await?;
    let mut viewing = Viewing::between(&before, &after, begun.elapsed());
    let samples: Samples = probe::take(browser, page).await?;
    if after["freezeCount"].is_null() {
        viewing.freeze_count = samples.freezes;
        viewing.freezes = Duration::from_secs_f64(samples.frozen_ms / 1000.0);
    }
    Ok(Seen {
        has_sound: viewing.audio_energy > 0.0 || !samples.beeps.is_empty(),
        knows_loss: true,
        knows_first_frame: true,
        ages: clock.map(|clock| samples.ages(clock)).unwrap_or_default(),
        lip_sync: clock.map(|_| samples.lip_sync()).unwrap_or_default(),
        viewing,
    })
}

async fn watch_gstreamer(gstreamer: &mut GStreamer, length: Duration) -> anyhow::Result<Seen> {
    let before = gstreamer.latest();
    let begun = Instant::now();
    let (mut last, mut frozen) = (before, 0);
    while begun.elapsed() < length {
        let next = gstreamer.until_decoded(Decoded::default()).await?;
        frozen += u64::from(next.pictures < last.pictures + PICTURES_A_SECOND_MIN);
        last = next;
    }
    let pictures = last.pictures - before.pictures;
    let viewing = Viewing {
        frames_decoded: pictures,
        frames_per_second: pictures as f64 / begun.elapsed().as_secs_f64(),
        freeze_count: frozen,
        freezes: SECOND * u32::try_from(frozen)?,
        codec: "H264".into(),
        ..Viewing::default()
    };
    Ok(Seen { viewing, has_sound: last.sounds > before.sounds, ..Seen::default() })
}
