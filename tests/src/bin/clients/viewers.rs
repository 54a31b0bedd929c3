//! Who watches: the player in browsers, GStreamer.

use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use tests::browser::{Browser, Page};
use tests::gstreamer::GStreamer;
use tests::probe::{self, Clock, Samples};
use tests::program::{PATIENCE, Program};
use tests::screen::Screen;
use tests::sound_card::{self, SoundCard};
use tests::watching::{self, Viewing};

/// What plays for so long, plays.
const PLAYING_PICTURES: u32 = 30;
const POLL_INTERVAL: Duration = Duration::from_millis(100);
const GSTREAMER_PARTS: [&str; 3] = {
    let [server, recorder] = sound_card::PARTS;
    [server, recorder, "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstpulseaudio.so"]
};

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
            Self::Chromium | Self::Firefox => &sound_card::PARTS,
            Self::GStreamer => &GSTREAMER_PARTS,
        }
    }

    /// Starts its program, which takes more of the processor than it needs afterwards, before anybody is watched.
    pub async fn prepare(self) -> anyhow::Result<Prepared> {
        match self {
            Self::Chromium => Ok(Prepared::Browser(Browser::chromium_with_sound_card().await?)),
            Self::Firefox => Ok(Prepared::Browser(Browser::firefox_with_sound_card().await?)),
            Self::GStreamer => Ok(Prepared::GStreamer(Screen::new()?, SoundCard::start().await?)),
        }
    }
}

/// A viewer that has not begun.
pub enum Prepared {
    Browser(Browser),
    /// What it shows and plays on.
    GStreamer(Screen, SoundCard),
}

impl Prepared {
    /// Watches `show` at this node, and has a picture.
    pub async fn watch(self, node: &Program) -> anyhow::Result<Watching> {
        match self {
            Self::Browser(browser) => {
                let page = watching::open_player(&browser, &node.url("/watch/show")).await?;
                probe::begin(&page, probe::PLAYER).await.context("look at the player")?;
                Ok(Watching::Page { page, browser: Box::new(browser) })
            }
            Self::GStreamer(screen, sound_card) => {
                let gstreamer = GStreamer::watch_on(&node.url("/whep/show"), &screen, &sound_card).await?;
                resumed(&screen, PLAYING_PICTURES, PATIENCE).await?;
                let (gstreamer, sound_card) = (Box::new(gstreamer), Box::new(sound_card));
                Ok(Watching::GStreamer { gstreamer, screen, sound_card })
            }
        }
    }
}

/// A viewer at work. Ends with its value.
pub enum Watching {
    /// The player's page.
    Page { page: Page, browser: Box<Browser> },
    /// The program of docs/gstreamer.md, its pictures and its sound.
    GStreamer { gstreamer: Box<GStreamer>, screen: Screen, sound_card: Box<SoundCard> },
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

impl Seen {
    fn of(viewing: Viewing, samples: &Samples, clock: Clock) -> Self {
        Self {
            has_sound: viewing.audio_energy > 0.0 || !samples.beeps.is_empty(),
            ages: samples.ages(clock),
            lip_sync: samples.lip_sync(),
            viewing,
            ..Self::default()
        }
    }
}

impl Watching {
    /// Watches for `length`; `clock` says what the code of the picture means.
    pub async fn watch(&self, length: Duration, clock: Clock) -> anyhow::Result<Seen> {
        let screen = match self {
            Self::Page { page, browser } => return watch_page(browser, page, length, clock).await,
            Self::GStreamer { screen, .. } => screen,
        };
        self.take().await?;
        let (before, begun) = (screen.pictures(), Instant::now());
        tokio::time::sleep(length).await;
        let pictures = screen.pictures() - before;
        let samples = self.take().await?;
        let viewing = Viewing {
            frames_decoded: pictures,
            frames_per_second: pictures as f64 / begun.elapsed().as_secs_f64(),
            freeze_count: samples.freezes,
            freezes: Duration::from_secs_f64(samples.frozen_ms / 1000.0),
            codec: "H264".into(),
            ..Viewing::default()
        };
        Ok(Seen::of(viewing, &samples, clock))
    }

    /// From now on a picture is waited for.
    pub async fn arm(&self) -> anyhow::Result<()> {
        match self {
            Self::Page { page, .. } => probe::arm(page).await,
            Self::GStreamer { screen, .. } => {
                screen.arm();
                Ok(())
            }
        }
    }

    /// Waits until it plays again since [`Watching::arm`], and gives when the first picture came.
    pub async fn until_playing(&self, patience: Duration) -> anyhow::Result<SystemTime> {
        match self {
            Self::Page { page, .. } => probe::until_playing(page, PLAYING_PICTURES, patience).await,
            Self::GStreamer { screen, .. } => resumed(screen, PLAYING_PICTURES, patience).await,
        }
    }

    /// How old its pictures are for the next while, in ms.
    pub async fn ages(&self, length: Duration, clock: Clock) -> anyhow::Result<Vec<f64>> {
        self.take().await?;
        tokio::time::sleep(length).await;
        Ok(self.take().await?.ages(clock))
    }

    /// What was seen and heard since the last time.
    async fn take(&self) -> anyhow::Result<Samples> {
        match self {
            Self::Page { page, browser } => probe::take(browser, page).await,
            Self::GStreamer { screen, sound_card, .. } => {
                Ok(Samples { beeps: sound_card.beeps()?, ..screen.take() })
            }
        }
    }

    /// Ends it as its user does.
    pub async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Page { page, browser: _browser } => page.close().await,
            Self::GStreamer { gstreamer, .. } => gstreamer.close().await,
        }
    }
}

/// When the first picture since the screen was armed came.
async fn resumed(screen: &Screen, pictures: u32, patience: Duration) -> anyhow::Result<SystemTime> {
    let first = async {
        loop {
            if let Some(first) = screen.resumed(pictures) {
                return first;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    tokio::time::timeout(patience, first).await.with_context(|| format!("no pictures within {patience:?}"))
}

/// What a page that is looked at shows for a while.
pub async fn watch_page(
    browser: &Browser,
    page: &Page,
    length: Duration,
    clock: Clock,
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
    Ok(Seen { knows_loss: true, knows_first_frame: true, ..Seen::of(viewing, &samples, clock) })
}
