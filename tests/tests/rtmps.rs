//! RTMPS, plain and with the newer codecs of Enhanced RTMP, through the tree into the same player: ffmpeg of Debian for
//! H264, and for HEVC, VP9 and AV1 the newer ffmpeg in PyAV.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Whep, whep};
use model::{Codec, Kind};
use tempfile::TempDir;
use tests::browser::Browser;
use tests::encoders::{self, Encoder};
use tests::installation::until_live;
use tests::program::{self, PATIENCE, Program};
use tests::{tools, watching};
use tokio::process::{Child, Command};

type Result = anyhow::Result<()>;

const FFMPEG: &str = "/usr/bin/ffmpeg";
const FFPROBE: &str = "/usr/bin/ffprobe";
const CHROMIUM: &str = "/usr/bin/chromium";
const KEY: &str = "the-key-of-all-shows";
const WHILE: Duration = Duration::from_secs(3);

/// An injection node whose certificate is its own, and an egress node that browsers and clients can ask without.
struct Tree {
    injection: Program,
    egress: Program,
    _folder: TempDir,
}

impl Tree {
    async fn grow() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("chain"), made.cert.pem())?;
        std::fs::write(file("key"), made.signing_key.serialize_pem())?;
        let tls = ["--tls-certificate", &file("chain"), "--tls-key", &file("key")];
        let injection =
            program::node("injection").with(&tls).with(&["--publish-tokens", KEY]).start().await?;
        let parent = format!("127.0.0.1:{}", injection.link_port);
        let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
        Ok(Self { injection, egress, _folder: folder })
    }

    /// Where encoders publish to, over TLS.
    fn door(&self, broadcast: &str) -> String {
        format!("rtmps://{}/live/{broadcast}?key={KEY}", self.injection.rtmp)
    }

    /// Chromium watches and hears.
    async fn watch(&self, browser: &Browser, broadcast: &str, codec: &str) -> Result {
        let page = watching::open_player(browser, &self.egress.url(&format!("/watch/{broadcast}"))).await?;
        let seen = watching::watch(&page, WHILE).await?;
        println!("{broadcast}: {seen}");
        ensure!(seen.frames_decoded > 30 && seen.audio_energy > 0.0, "{broadcast}: {seen}");
        ensure!(seen.codec.to_uppercase().contains(codec), "{broadcast}: {seen}");
        page.close().await
    }
}

/// ffmpeg of Debian; it takes any certificate, as encoders do that are told nothing else.
fn h264(url: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(FFMPEG);
    command.args(["-v", "warning", "-re", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30"]);
    command.args(["-f", "lavfi", "-i", "sine=frequency=440", "-c:v", "libx264", "-preset", "ultrafast"]);
    command.args(["-tune", "zerolatency", "-g", "30", "-b:v", "800k", "-pix_fmt", "yuv420p"]);
    command.args(["-c:a", "aac", "-ac", "2", "-f", "flv", url]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("start ffmpeg")
}

#[tokio::test(flavor = "multi_thread")]
async fn h264_over_rtmps_is_seen_and_heard() -> Result {
    const NAME: &str = "h264_over_rtmps_is_seen_and_heard";
    if !tools::has(NAME, FFMPEG) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let tree = Tree::grow().await?;
    let mut wrong = h264(&tree.door("show").replace(KEY, "another-key"))?;
    let ended = tokio::time::timeout(PATIENCE, wrong.wait()).await.context("a wrong key goes on")??;
    ensure!(!ended.success(), "a wrong key is let in");
    let _encoder = h264(&tree.door("show"))?;
    until_live(&tree.egress, "show").await?;
    tree.watch(&Browser::chromium().await?, "show", "264").await?;
    ensure!(!tree.injection.log().contains(KEY), "{}", tree.injection.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_codecs_over_enhanced_rtmp_reach_the_same_player() -> Result {
    const NAME: &str = "newer_codecs_over_enhanced_rtmp_reach_the_same_player";
    let parts = encoders::parts_of_ffmpeg().map(|part| part.display().to_string());
    if !parts.into_iter().chain([CHROMIUM, FFPROBE].map(str::to_owned)).all(|part| tools::has(NAME, &part)) {
        return Ok(());
    }
    let tree = Tree::grow().await?;
    let mut on_air = Vec::new();
    for (broadcast, codec) in [("vp9", Codec::Vp9), ("av1", Codec::Av1), ("hevc", Codec::H265)] {
        let mut encoder = Encoder::enhanced_rtmp(&tree.door(broadcast), codec)?;
        encoder.until("state connected").await.with_context(|| format!("{codec} is published"))?;
        on_air.push(encoder);
        until_live(&tree.egress, broadcast).await?;
    }
    let browser = Browser::chromium().await?;
    tree.watch(&browser, "vp9", "VP9").await?;
    tree.watch(&browser, "av1", "AV1").await?;

    // Debian's Chromium has no HEVC, and says so; what others get is what ffmpeg can show.
    let page = browser.open(&tree.egress.url("/watch/hevc?lang=en")).await?;
    page.wait_until("window.mediaTree?.state === 'unplayable'", PATIENCE).await.context("HEVC is refused")?;
    let notice = page.evaluate("document.getElementById('notice').textContent").await?;
    ensure!(notice == "This browser cannot play H.265, the format of this broadcast", "{notice}");
    let (pictures, sounds) = hevc(&tree.egress.url("/whep/hevc")).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("received.hevc");
    std::fs::write(&file, &pictures)?;
    let mut command = Command::new(FFPROBE);
    command.args(["-v", "error", "-f", "hevc", "-count_frames", "-show_entries"]);
    command.args(["stream=codec_name,width,height,nb_read_frames", "-of", "csv=p=0"]).arg(&file);
    let output = command.stdin(Stdio::null()).output().await?;
    let (seen, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("hevc: {} and {sounds} packets of sound", seen.trim());
    let fields: Vec<&str> = seen.trim().split(',').collect();
    ensure!(fields.get(..3) == Some(&["hevc", "320", "180"]), "{seen}{complaints}");
    let frames: usize = fields.get(3).context("a count")?.parse()?;
    ensure!(frames >= PICTURES && complaints.is_empty() && sounds > 0, "{seen}{complaints}");
    Ok(())
}

/// Two seconds of pictures.
const PICTURES: usize = 60;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// So many HEVC pictures as a viewer gets them, as a file (RFC 7798), and how much sound came with them.
async fn hevc(url: &str) -> anyhow::Result<(Vec<u8>, usize)> {
    let options = whep::Options { codecs: vec![Codec::Opus, Codec::H265], ..whep::Options::default() };
    let mut viewer = Whep::connect_with(url, None, options).await?;
    let (mut file, mut pictures, mut sounds) = (Vec::new(), 0, 0);
    while pictures < PICTURES {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await.context("no media comes")?;
        let packet = packet.context("the session ended")?;
        if packet.kind == Kind::Audio {
            sounds += 1;
            continue;
        }
        ensure!(packet.codec == Codec::H265, "{}", packet.codec);
        append(&mut file, &packet.payload).context("a payload of HEVC")?;
        pictures += usize::from(packet.marker);
    }
    viewer.close().await?;
    Ok((file, sounds))
}

/// Writes what one RTP payload carries: a unit, several, or a part of one.
fn append(file: &mut Vec<u8>, payload: &[u8]) -> Option<()> {
    const AGGREGATION: u8 = 48;
    const FRAGMENT: u8 = 49;
    let &[first, second, ref rest @ ..] = payload else { return None };
    match first >> 1 & 0x3f {
        AGGREGATION => {
            let mut rest = rest;
            while let Some((length, behind)) = rest.split_first_chunk::<2>() {
                let (unit, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                file.extend_from_slice(&START_CODE);
                file.extend_from_slice(unit);
                rest = behind;
            }
        }
        FRAGMENT => {
            let (&header, part) = rest.split_first()?;
            if header & 0x80 != 0 {
                file.extend_from_slice(&START_CODE);
                file.extend_from_slice(&[first & 0x81 | (header & 0x3f) << 1, second]);
            }
            file.extend_from_slice(part);
        }
        _ => {
            file.extend_from_slice(&START_CODE);
            file.extend_from_slice(payload);
        }
    }
    Some(())
}
