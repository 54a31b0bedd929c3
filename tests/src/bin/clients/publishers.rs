//! Who publishes: browsers with the test picture, encoders with a recording or a live picture, GStreamer.

use anyhow::Context as _;
use tempfile::TempDir;
use tests::browser::{Browser, Page};
use tests::encoders::{self, Encoder};
use tests::gstreamer::GStreamer;
use tests::live_encoder::{Camera, Container, LiveEncoder};
use tests::network::PUBLISH_TOKEN;
use tests::obs_studio::{ObsStudio, Release};
use tests::probe::Clock;
use tests::program::Program;
use tests::sound_card;
use tests::watching;

/// A kind of publisher, with its codec where there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publisher {
    /// The publish page in Chromium.
    Chromium(&'static str),
    /// The same in Firefox.
    Firefox(&'static str),
    /// libdatachannel with OBS's offer and habits.
    Obs,
    /// OBS Studio itself over RTMP: the one before WHIP.
    ObsStudioRtmp,
    /// OBS Studio itself over WHIP.
    ObsStudioWhip,
    /// The same in two layers: more are more than two cores draw without a graphics card.
    ObsStudioLayers,
    /// ffmpeg's WHIP muxer.
    FfmpegWhip,
    /// ffmpeg over RTMP, encoding live.
    FfmpegRtmp,
    /// GStreamer's `webrtcbin`, as docs/gstreamer.md has it.
    GStreamer,
}

impl Publisher {
    /// As the report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chromium(_) => "Chromium, publish page",
            Self::Firefox(_) => "Firefox, publish page",
            Self::Obs => "libdatachannel with OBS's offer and habits, WHIP",
            Self::ObsStudioRtmp => "OBS Studio 29 (Debian's), RTMP",
            Self::ObsStudioWhip => "OBS Studio 30, WHIP",
            Self::ObsStudioLayers => "OBS Studio 32, WHIP, 2 layers",
            Self::FfmpegWhip => "ffmpeg (PyAV), WHIP",
            Self::FfmpegRtmp => "ffmpeg, RTMP, zerolatency",
            Self::GStreamer => "GStreamer webrtcbin, WHIP",
        }
    }

    /// Whether pictures have a longer way than others: over RTMP, or through OBS, whose sources and sound have buffers of their own.
    pub const fn has_long_way(self) -> bool {
        match self {
            Self::ObsStudioRtmp | Self::ObsStudioWhip | Self::ObsStudioLayers | Self::FfmpegRtmp => true,
            Self::Chromium(_) | Self::Firefox(_) | Self::Obs | Self::FfmpegWhip | Self::GStreamer => false,
        }
    }

    /// What must be on this machine beside what the tests use.
    pub fn parts(self) -> &'static [&'static str] {
        match self {
            Self::ObsStudioRtmp => Release::Debian12.parts(),
            Self::ObsStudioWhip => Release::Debian13.parts(),
            Self::ObsStudioLayers => Release::Debian14.parts(),
            Self::Firefox(_) => &sound_card::PARTS,
            Self::Chromium(_) | Self::Obs | Self::FfmpegWhip | Self::FfmpegRtmp | Self::GStreamer => &[],
        }
    }

    /// Begins to publish `show` at this node.
    pub async fn start(self, node: &Program) -> anyhow::Result<Publishing> {
        let (whip, page) = (node.url("/whip/show"), node.url(&format!("/publish/show#key={PUBLISH_TOKEN}")));
        let (inside, clock) = match self {
            Self::Chromium(codec) => {
                (publish(Browser::chromium().await?, &page, codec).await?, Clock::Capture)
            }
            Self::Firefox(codec) => {
                (publish(Browser::firefox_with_sound_card().await?, &page, codec).await?, Clock::Capture)
            }
            Self::Obs => play(Encoder::libdatachannel(&whip, Some(PUBLISH_TOKEN))?, None).await?,
            Self::ObsStudioRtmp => {
                let stream = format!("show?key={PUBLISH_TOKEN}");
                let obs = ObsStudio::rtmp(Release::Debian12, node.rtmp, &stream).await?;
                (Inside::ObsStudio(Box::new(obs)), Clock::Capture)
            }
            Self::ObsStudioWhip => over_whip(Release::Debian13, &whip).await?,
            Self::ObsStudioLayers => over_whip(Release::Debian14, &whip).await?,
            Self::FfmpegWhip => {
                let folder = tempfile::tempdir().context("a folder for a certificate")?;
                let [certificate, key] = encoders::certificate_of_ffmpeg(folder.path())?;
                let options = [certificate, key, format!("authorization={PUBLISH_TOKEN}")];
                play(Encoder::ffmpeg(&whip, &options)?, Some(folder)).await?
            }
            Self::FfmpegRtmp => {
                let encoder = LiveEncoder::rtmp(node.rtmp, &format!("show?key={PUBLISH_TOKEN}"));
                (Inside::Live(encoder), Clock::Capture)
            }
            Self::GStreamer => {
                let camera = Camera::start(Container::Matroska).await?;
                let mut gstreamer = GStreamer::publish_camera(&whip, PUBLISH_TOKEN, &camera).await?;
                gstreamer.until_state("connected").await?;
                (Inside::GStreamer(gstreamer, camera), Clock::Capture)
            }
        };
        Ok(Publishing { publisher: self, inside, clock, starts: 1 })
    }
}

async fn publish(browser: Browser, url: &str, codec: &str) -> anyhow::Result<Inside> {
    Ok(Inside::Page(watching::publish_test_picture(&browser, url, codec).await?, Box::new(browser)))
}

async fn over_whip(release: Release, url: &str) -> anyhow::Result<(Inside, Clock)> {
    let obs = ObsStudio::whip(release, url, PUBLISH_TOKEN).await?;
    Ok((Inside::ObsStudio(Box::new(obs)), Clock::Capture))
}

async fn play(mut encoder: Encoder, folder: Option<TempDir>) -> anyhow::Result<(Inside, Clock)> {
    encoder.until("state connected").await?;
    let clock = encoder.clock().await?;
    Ok((Inside::Encoder(encoder, folder), clock))
}

/// A publisher at work. Ends with its value.
pub struct Publishing {
    publisher: Publisher,
    inside: Inside,
    /// What the code of its picture says.
    pub clock: Clock,
    /// How often its process was started.
    starts: u64,
}

enum Inside {
    Page(Page, Box<Browser>),
    /// With what it reads while it runs.
    Encoder(Encoder, Option<TempDir>),
    Live(LiveEncoder),
    ObsStudio(Box<ObsStudio>),
    /// With what it films with.
    GStreamer(GStreamer, Camera),
}

impl Publishing {
    /// Starts its process again if that has ended, as in a loop of a shell.
    pub async fn revive(&mut self, node: &Program) -> anyhow::Result<()> {
        let has_ended = match &mut self.inside {
            Inside::Encoder(encoder, _) => encoder.has_ended()?,
            Inside::ObsStudio(obs) => obs.has_ended()?,
            Inside::GStreamer(gstreamer, _) => gstreamer.has_ended()?,
            Inside::Page(..) | Inside::Live(_) => false,
        };
        if has_ended {
            let starts = self.starts + 1;
            *self = self.publisher.start(node).await.context("it had ended, and was started again")?;
            self.starts = starts;
        }
        Ok(())
    }

    /// How often its process was started.
    pub fn starts(&self) -> u64 {
        match &self.inside {
            Inside::Live(encoder) => encoder.starts(),
            Inside::Page(..) | Inside::Encoder(..) | Inside::ObsStudio(_) | Inside::GStreamer(..) => {
                self.starts
            }
        }
    }

    /// Pictures that it has encoded so far, if it says.
    pub async fn encoded(&self) -> anyhow::Result<Option<u64>> {
        let Inside::Page(page, _) = &self.inside else { return Ok(None) };
        Ok(page.evaluate("mediaTree.stats().then((stats) => stats.framesEncoded)").await?.as_u64())
    }

    /// Ends it as its user does.
    pub async fn close(self) -> anyhow::Result<()> {
        match self.inside {
            Inside::Page(page, _browser) => page.close().await,
            Inside::Encoder(encoder, _folder) => encoder.close().await.map(drop),
            Inside::Live(encoder) => {
                drop(encoder);
                Ok(())
            }
            Inside::ObsStudio(obs) => {
                let status = obs.close().await?;
                println!(
                    "OBS left out {} of {} pictures because its connection was slow, those of the cuts among them",
                    status.left_out, status.pictures
                );
                Ok(())
            }
            Inside::GStreamer(gstreamer, _camera) => gstreamer.close().await,
        }
    }
}
