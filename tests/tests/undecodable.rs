//! What a browser cannot show: it is refused in words where its offer says so, and said in words where only its decoder
//! shows it. Never a black picture.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use client::demo::Clip;
use client::{Whip, WhipSession, whip};
use model::{Codec, Kind};
use serde_json::Value;
use tests::browser::{Browser, Page};
use tests::program::{Program, node, until};
use tests::{offers, tools, watching};
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(30);
const CHROMIUM: &str = "/usr/bin/chromium";
const FRAME_INTERVAL: Duration = Duration::from_millis(40);
const FRAMES_A_KEYFRAME: u32 = 25;

/// Parameter sets of x265 for 320x240 in 10 bits, and what looks like slices behind them.
const VPS: [u8; 23] =
    [0x40, 0x01, 0x0c, 0x01, 0xff, 0xff, 0x02, 0x20, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0x95, 0x98];
const SPS_MAIN_10: [u8; 40] = [
    0x42, 0x01, 0x01, 0x02, 0x20, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x3c, 0xa0, 0x0a, 0x08, 0x0f, 0x13,
    0x65, 0x95, 0x9a, 0x49, 0x32, 0xbc, 0x05, 0xa0, 0x20, 0, 0, 3, 0, 0x20, 0, 0, 3,
];
const IDR: [u8; 6] = [0x26, 0x01, 0xaf, 0x5a, 0x5a, 0x5a];
const TRAIL: [u8; 6] = [0x02, 0x01, 0xd0, 0x5a, 0x5a, 0x5a];

/// VP8 (RFC 7741) whose first partition is longer, as it says, than all of the picture: 320x180, and a delta.
const BROKEN_VP8: [u8; 20] = [
    0x10, 0xf0, 0xff, 0xff, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a,
    0x5a, 0x5a, 0x5a,
];
const BROKEN_VP8_DELTA: [u8; 8] = [0x10, 0xf1, 0xff, 0xff, 0x5a, 0x5a, 0x5a, 0x5a];

/// The packets of a picture; `true` for a keyframe.
type Pictures = fn(bool) -> Vec<Vec<u8>>;

/// In H.265 with 10 bits.
fn main_10(is_keyframe: bool) -> Vec<Vec<u8>> {
    if is_keyframe { vec![VPS.to_vec(), SPS_MAIN_10.to_vec(), IDR.to_vec()] } else { vec![TRAIL.to_vec()] }
}

/// A publisher of such pictures, with sound. Vanishes with its value.
struct Broadcast(JoinHandle<()>);

impl Broadcast {
    async fn start(program: &Program, codec: Codec, pictures: Pictures) -> anyhow::Result<Self> {
        let tracks = [Codec::Opus, codec];
        let session =
            Whip::connect(&program.url("/whip/show"), None, &tracks, whip::Options::default()).await?;
        let sending = tokio::spawn(async move {
            // Both end with the session and not before.
            let _ends = tokio::join!(send_pictures(&session, pictures), send_sounds(&session));
        });
        until("the broadcast is known", || async {
            let listed = reqwest::get(program.url("/api/v1/broadcasts")).await?.text().await?;
            Ok(listed.contains("\"live\""))
        })
        .await?;
        Ok(Self(sending))
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send_pictures(session: &WhipSession, pictures: Pictures) -> std::result::Result<(), client::Ending> {
    let mut tick = tokio::time::interval(FRAME_INTERVAL);
    for frame in 0u32.. {
        tick.tick().await;
        let packets = pictures(frame % FRAMES_A_KEYFRAME == 0);
        let timestamp = frame.wrapping_mul(90 * FRAME_INTERVAL.as_millis() as u32);
        let last = packets.len() - 1;
        for (index, packet) in packets.into_iter().enumerate() {
            session.write(Kind::Video, timestamp, index == last, packet).await?;
        }
    }
    Ok(())
}

async fn send_sounds(session: &WhipSession) -> std::result::Result<(), client::Ending> {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let clip = Clip::built_in();
    for (index, sound) in (0u32..).zip(clip.sounds.iter().cycle()) {
        tick.tick().await;
        session.write(Kind::Audio, index.wrapping_mul(960), true, sound.clone()).await?;
    }
    Ok(())
}

async fn post(program: &Program, offer: &str) -> anyhow::Result<(u16, String)> {
    let request = reqwest::Client::new().post(program.url("/whep/show"));
    let response = request.header("Content-Type", "application/sdp").body(offer.to_owned()).send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// What the player says on its picture.
async fn notice(page: &Page) -> anyhow::Result<String> {
    let shown = "((notice) => (notice.checkVisibility() ? notice.textContent : ''))(document.getElementById('notice'))";
    Ok(page.evaluate(shown).await?.as_str().context("a text")?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn h265_is_refused_with_its_name_where_it_was_not_offered() -> Result {
    let program = node("up").start().await?;
    let _broadcast = Broadcast::start(&program, Codec::H265, main_10).await?;

    // What the publisher claims is Main; what it sends is known with its first keyframe. A run so young that it may not have
    // sent anything refuses nobody.
    let told = "This player cannot play the broadcast: its picture is H.265 (Main 10, level 2), and the player takes VP8, \
                VP9, H.264, AV1.";
    until("the profile is known", || async {
        let (status, body) = post(&program, offers::FIREFOX_VIEWER).await?;
        if status == 201 {
            return Ok(false);
        }
        let problem: Value = serde_json::from_str(&body).context(body)?;
        ensure!((status, &problem["code"]) == (406, &"no-common-codec".into()), "{problem}");
        ensure!(problem["codec"] == "H265", "{problem}");
        Ok(problem["detail"] == told)
    })
    .await?;
    // Who offers H265 but not ten bits of it is told just that, and who offers them is served.
    let without = offers::CHROMIUM_VIEWER.replace("profile-id=2;tier-flag", "profile-id=1;tier-flag");
    let (status, body) = post(&program, &without).await?;
    let problem: Value = serde_json::from_str(&body).context(body)?;
    assert_eq!((status, &problem["code"]), (406, &"no-common-profile".into()), "{problem}");
    assert_eq!(problem["profile"], "Main 10");
    let (status, answer) = post(&program, offers::CHROMIUM_VIEWER).await?;
    assert_eq!(status, 201, "{answer}");

    if !tools::has("h265_is_refused_with_its_name_where_it_was_not_offered", CHROMIUM) {
        return Ok(());
    }
    // Debian's Chromium neither offers nor decodes it.
    let browser = Browser::chromium().await?;
    for (language, words) in [
        ("en", "This browser cannot play H.265, the format of this broadcast"),
        ("de", "Dieser Browser kann H.265 nicht abspielen, das Format dieser Sendung"),
        ("it", "Questo browser non può riprodurre H.265, il formato di questa trasmissione"),
    ] {
        let page = browser.open(&program.url(&format!("/watch/show?lang={language}"))).await?;
        page.wait_until("window.mediaTree?.state === 'unplayable'", SOON).await?;
        assert_eq!(notice(&page).await?, words);
        page.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_was_offered_and_never_comes_refuses_nobody() -> Result {
    // For so long nobody is refused anyhow.
    const YOUNG_SECONDS: u64 = 3;
    let injection = node("injection").start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let program = node("egress").with(&["--parents", &parent]).start().await?;
    let (url, tracks) = (injection.url("/whip/show"), [Codec::Opus, Codec::H265]);
    let session = Arc::new(Whip::connect(&url, None, &tracks, whip::Options::default()).await?);
    let sounds = tokio::spawn({
        let session = session.clone();
        async move { send_sounds(&session).await }
    });
    until("the run is no longer young", || async {
        let listed: Value = reqwest::get(program.url("/api/v1/broadcasts")).await?.json().await?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let (state, since) = (&listed[0]["state"], listed[0]["since"].as_u64());
        Ok(state == "live" && since.is_some_and(|since| now > since + YOUNG_SECONDS))
    })
    .await?;
    let (status, answer) = post(&program, offers::FIREFOX_VIEWER).await?;
    assert_eq!(status, 201, "the sound can be heard: {answer}");
    let pictures = tokio::spawn(async move { send_pictures(&session, main_10).await });
    until("there is a picture that Firefox cannot decode", || async {
        let (status, body) = post(&program, offers::FIREFOX_VIEWER).await?;
        Ok(status == 406 && body.contains("no-common-codec"))
    })
    .await?;
    sounds.abort();
    pictures.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_and_cannot_be_decoded_is_no_black_picture() -> Result {
    if !tools::has("what_arrives_and_cannot_be_decoded", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let _broadcast = Broadcast::start(&program, Codec::Vp8, |is_keyframe| {
        vec![if is_keyframe { BROKEN_VP8.to_vec() } else { BROKEN_VP8_DELTA.to_vec() }]
    })
    .await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/watch/show")).await?;
    page.wait_until("window.mediaTree?.state === 'unplayable'", SOON).await?;
    assert_eq!(notice(&page).await?, "The picture arrives, but this browser cannot decode it (VP8)");
    // The sound is there, and stays.
    page.evaluate("document.getElementById('sound-on').click()").await?;
    let heard = "document.querySelector('media-tree-player').stats().then(({ audio }) => audio?.packetsReceived ?? 0)";
    let before = page.evaluate(heard).await?.as_u64().context("a number")?;
    page.wait_until(&format!("{heard}.then((heard) => heard > {before} + 100)"), SOON).await?;
    assert_eq!(page.evaluate("mediaTree.state").await?, "unplayable");
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_that_stops_while_the_sound_goes_on_is_called_so() -> Result {
    if !tools::has("a_picture_that_stops_while_the_sound_goes_on", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let publisher = watching::publish_test_picture(&browser, &program.url("/publish/show"), "vp8").await?;
    let page = browser.open(&program.url("/watch/show")).await?;
    page.wait_until("window.mediaTree?.state === 'live'", SOON).await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 10)", SOON).await?;
    page.evaluate("void (window.ended = 0)").await?;
    let count =
        "document.querySelector('media-tree-player').addEventListener('ended', () => { ended += 1; })";
    page.evaluate(&format!("void {count}")).await?;
    let tracks = "document.getElementById('preview').srcObject";
    publisher.evaluate(&format!("{tracks}.getVideoTracks().forEach((track) => track.stop())")).await?;
    page.wait_until("mediaTree.state === 'stalled'", SOON).await?;
    assert_eq!(notice(&page).await?, "The picture has stopped, the sound goes on");
    assert_eq!(page.evaluate("window.ended").await?, 0, "the broadcaster is there");
    // With the sound gone, too, it is the broadcaster who is away.
    publisher.evaluate("document.getElementById('stop').click()").await?;
    page.wait_until("mediaTree.state === 'waiting'", SOON).await?;
    publisher.evaluate("document.getElementById('start').click()").await?;
    page.wait_until("mediaTree.state === 'live'", SOON).await?;
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}
