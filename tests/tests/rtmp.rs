//! Encoders without WHIP publish over RTMP: ffmpeg of Debian, through the tree, into a browser.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::Whep;
use model::Kind;
use serde_json::Value;
use tests::browser::Browser;
use tests::installation::{receive, until_live};
use tests::program::{self, PATIENCE, Program, until};
use tests::{tools, watching};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;

type Result = anyhow::Result<()>;

const FFMPEG: &str = "/usr/bin/ffmpeg";
const CHROMIUM: &str = "/usr/bin/chromium";
/// Two seconds of pictures.
const PICTURES: usize = 60;

/// ffmpeg with a moving picture and a tone; `more` are options of its encoders.
fn encoder(program: &Program, stream: &str, more: &[&str]) -> anyhow::Result<Child> {
    encoder_to(program.rtmp, stream, more)
}

/// The same, to whoever listens at an address.
fn encoder_to(address: SocketAddr, stream: &str, more: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new(FFMPEG);
    command.args(["-hide_banner", "-loglevel", "warning", "-re"]);
    command.args([
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=640x360:rate=30",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440",
    ]);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-g",
        "30",
        "-b:v",
        "800k",
        "-pix_fmt",
        "yuv420p",
    ]);
    command.args(["-c:a", "aac", "-ar", "44100", "-ac", "2"]).args(more);
    command.args(["-f", "flv", &format!("rtmp://{address}/live/{stream}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().context("start ffmpeg")
}

/// All that ffmpeg sends to publish `show`, and its media; see `crates/rtmp/tests`.
const RECORDED: &[u8] = include_bytes!("../../crates/rtmp/tests/data/ffmpeg-h264-aac.rtmp");

/// How often connections over RTMP ended in this way.
async fn ended(node: &Program, reason: &str) -> anyhow::Result<f64> {
    let label = format!("reason=\"{reason}\"");
    node.metric_with("media_tree_rtmp_connection_ends_total{", &label).await
}

const LIVE: [&str; 2] = ["-tune", "zerolatency"];

/// What ffmpeg says that does not come in.
async fn refused(mut encoder: Child) -> anyhow::Result<String> {
    let ended = tokio::time::timeout(PATIENCE, encoder.wait()).await.context("ffmpeg goes on")??;
    ensure!(!ended.success(), "ffmpeg was let in");
    let output = encoder.wait_with_output().await?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes_over_rtmp_and_a_browser_watches() -> Result {
    const NAME: &str = "ffmpeg_publishes_over_rtmp_and_a_browser_watches";
    if !tools::has(NAME, FFMPEG) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let injection =
        program::node("injection").with(&["--publish-tokens", "show=the-key-of-show"]).start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
    let mut first = encoder(&injection, "show?key=the-key-of-show", &LIVE)?;
    until_live(&egress, "show").await?;
    let list: Value = reqwest::get(egress.url("/api/v1/broadcasts")).await?.json().await?;
    ensure!(list[0]["tracks"].as_array().map_or(0, Vec::len) == 2, "{list:#}");

    let browser = Browser::chromium().await?;
    let page = watching::open_player(&browser, &egress.url("/watch/show")).await?;
    let seen = watching::watch(&page, Duration::from_secs(8)).await?;
    println!("{NAME}: {seen}");
    ensure!(seen.frames_decoded > 100 && seen.audio_energy > 0.0, "{seen}");
    ensure!(seen.codec.contains("264"), "{seen}");

    // It dies, and another one goes on: the viewer stays.
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES).await?;
    first.kill().await?;
    let _second = encoder(&injection, "show?key=the-key-of-show", &LIVE)?;
    until("the second encoder is on the air", async || {
        Ok(injection.log().matches("publisher over RTMP accepted").count() == 2)
    })
    .await?;
    receive(&mut viewer, 2 * PICTURES).await?;
    let sound = tokio::time::timeout(PATIENCE, async {
        while let Some(packet) = viewer.receive().await {
            if packet.kind == Kind::Audio {
                return true;
            }
        }
        false
    });
    ensure!(sound.await?, "sound goes on, too");
    ensure!(!injection.log().contains("the-key-of-show"), "{}", injection.log());
    Ok(())
}

/// Leads one connection to `to`, and carries nothing to it while it is told to hold it back: what its peer sends meanwhile
/// comes afterwards.
async fn way(to: SocketAddr, mut is_held: watch::Receiver<bool>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut from, mut to) = (listener.accept().await?.0, TcpStream::connect(to).await?);
        let (mut sent, mut answered) = (vec![0; 16 << 10], vec![0; 16 << 10]);
        loop {
            tokio::select! {
                read = from.read(&mut sent), if !*is_held.borrow() => match read? {
                    0 => return anyhow::Ok(()),
                    length => to.write_all(&sent[..length]).await?,
                },
                read = to.read(&mut answered) => match read? {
                    0 => return Ok(()),
                    length => from.write_all(&answered[..length]).await?,
                },
                changed = is_held.changed() => changed?,
            }
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_of_the_encoders_network_viewers_are_live_again() -> Result {
    const NAME: &str = "after_a_cut_of_the_encoders_network_viewers_are_live_again";
    const CUT: Duration = Duration::from_secs(6);
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let program = program::node("up").with(&["--publish-tokens", "show=the-key-of-show"]).start().await?;
    let (hold, is_held) = watch::channel(false);
    let _encoder = encoder_to(way(program.rtmp, is_held).await?, "show?key=the-key-of-show", &LIVE)?;
    until_live(&program, "show").await?;
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let (mut pictures, mut last) = (0, 0);
    // The cut comes after some pictures, and after it what is on its way.
    while let Ok(packet) = tokio::time::timeout(Duration::from_secs(1), viewer.receive()).await {
        let packet = packet.context("the session ended")?;
        if packet.kind == Kind::Video {
            last = packet.timestamp;
            pictures += usize::from(packet.marker);
            hold.send_if_modified(|is_held| {
                let is_due = pictures >= 2 * PICTURES && !*is_held;
                *is_held |= is_due;
                is_due
            });
        }
    }
    tokio::time::sleep(CUT).await;
    hold.send(false)?;
    let first = tokio::time::timeout(PATIENCE, async {
        loop {
            let packet = viewer.receive().await.context("the session ended")?;
            if packet.kind == Kind::Video {
                return anyhow::Ok(packet);
            }
        }
    });
    let first = first.await.context("the picture is back")??;
    let gap = f64::from(first.timestamp.wrapping_sub(last)) / 90e3;
    let late = program.metric("media_tree_rtmp_late_messages_total{").await?;
    println!("{NAME}: {gap:.1} s of pictures were left out, {late} messages");
    // What was made during the cut is of the past, but for what may count as live.
    ensure!(first.starts_keyframe && gap >= CUT.as_secs_f64(), "{gap} s");
    ensure!(late > 100.0 && program.metric("media_tree_rtmp_clock_jumps_total{").await? == 0.0);
    receive(&mut viewer, PICTURES).await?;
    ensure!(program.metric("media_tree_publishes_total{").await? == 1.0, "it is the same connection");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_come_in_is_told_why() -> Result {
    const NAME: &str = "who_does_not_come_in_is_told_why";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let node = program::node("up").with(&["--publish-tokens", "show=the-key-of-show"]).start().await?;
    for (stream, words) in [
        ("show?key=another-key-than-that", "token"),
        ("show", "token"),
        ("Not-A-Name?key=the-key-of-show", "name of a broadcast"),
    ] {
        let said = refused(encoder(&node, stream, &LIVE)?).await?;
        ensure!(said.contains(words), "{stream}: {said}");
    }
    // Pictures that come in another order than they are shown have no place in WebRTC.
    let said = refused(encoder(&node, "show?key=the-key-of-show", &["-bf", "2"])?).await?;
    println!("{NAME}: B-frames: {}", said.trim());
    until("why is told to whoever operates", async || Ok(node.log().contains("B-frames"))).await?;
    until("and to whoever may publish, since encoders do not show it", async || {
        let asked = reqwest::Client::new().get(node.url("/whip/show/advice")).bearer_auth("the-key-of-show");
        let answer: serde_json::Value = asked.send().await?.json().await?;
        Ok(answer["advice"][0]["code"] == "b-frames")
    })
    .await?;
    until("its session has ended", async || Ok(node.metric("media_tree_whip_sessions{").await? == 0.0))
        .await?;
    until("every end is counted", async || {
        let (key, name) = (ended(&node, "access_refused").await?, ended(&node, "not_taken").await?);
        Ok((key, name, ended(&node, "b_frames").await?) == (2.0, 1.0, 1.0))
    })
    .await?;
    let refused = node.metric_with("media_tree_publishes_total{", r#"result="refused""#).await?;
    ensure!(refused == 3.0, "{refused} publishers were refused");
    ensure!(node.metric("media_tree_rtmp_connections{").await? == 0.0, "and none is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_what_is_not_taken_is_told_which_setting_helps() -> Result {
    const NAME: &str = "who_sends_what_is_not_taken_is_told_which_setting_helps";
    const KEY: &str = "the-key-of-all-shows";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let node = program::node("up").with(&["--publish-tokens", KEY]).start().await?;
    let cases = [
        ("surround", ["-ac", "6"], "audio-channels", "mono or stereo"),
        ("sorenson", ["-c:v", "flv"], "codec-refused", "FLV codec 2"),
    ];
    for (broadcast, setting, ..) in &cases {
        let more = [&LIVE[..], setting].concat();
        let said = refused(encoder(&node, &format!("{broadcast}?key={KEY}"), &more)?).await?;
        println!("{NAME}: {broadcast}: {}", said.trim());
    }
    for (broadcast, _, code, words) in cases {
        until("why is told to whoever operates", async || Ok(node.log().contains(words))).await?;
        until("and to whoever may publish, with what helps", async || {
            let resource = node.url(&format!("/whip/{broadcast}/advice"));
            let asked = reqwest::Client::new().get(resource).bearer_auth(KEY);
            let answer: Value = asked.send().await?.json().await?;
            Ok(answer["advice"][0]["code"] == code && answer["advice"][1].is_null())
        })
        .await?;
        let label = format!(r#"broadcast="{broadcast}",code="{code}""#);
        let told = node.metric_with("media_tree_publisher_advice{", &label).await?;
        ensure!(told == 1.0, "{label}: {told}");
    }
    until("every end is counted", async || Ok(ended(&node, "media").await? == 2.0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn mp3_over_rtmp_is_heard() -> Result {
    const NAME: &str = "mp3_over_rtmp_is_heard";
    if !tools::has(NAME, FFMPEG) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let _encoder = encoder(&node, "show", &[&LIVE[..], &["-c:a", "libmp3lame"]].concat())?;
    until_live(&node, "show").await?;
    let browser = Browser::chromium().await?;
    let page = watching::open_player(&browser, &node.url("/watch/show")).await?;
    let seen = watching::watch(&page, Duration::from_secs(4)).await?;
    println!("{NAME}: {seen}");
    ensure!(seen.frames_decoded > 50 && seen.audio_energy > 0.0, "{seen}");
    let recoded = node.metric_with("media_tree_rtmp_audio_frames_total{", r#"fate="recoded""#).await?;
    ensure!(recoded > 100.0, "{recoded} frames are decoded and coded anew");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transport_stream_is_published_as_it_is() -> Result {
    if !tools::has("a_transport_stream_is_published_as_it_is", FFMPEG) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let recorded = folder.path().join("recorded.ts").display().to_string();
    // As a camera, a contribution encoder or a recorder has it: ffmpeg has no configuration of its sound when it begins.
    let encode = "-v error -f lavfi -i testsrc2=s=320x180:r=30 -f lavfi -i sine=frequency=440 -t 20 -c:v libx264 -preset ultrafast \
                  -tune zerolatency -g 30 -pix_fmt yuv420p -c:a aac";
    let made = Command::new(FFMPEG).args(encode.split_whitespace()).arg(&recorded).status().await?;
    ensure!(made.success(), "no recording");
    let node = program::node("up").start().await?;
    let mut command = Command::new(FFMPEG);
    command.args(["-v", "error", "-re", "-i", &recorded, "-c", "copy", "-f", "flv"]);
    command.arg(format!("rtmp://{}/live/show", node.rtmp)).kill_on_drop(true);
    let _encoder = command.spawn().context("start ffmpeg")?;
    until_live(&node, "show").await?;
    until("picture and sound are there", async || {
        let list: Value = reqwest::get(node.url("/api/v1/broadcasts")).await?.json().await?;
        Ok(list[0]["tracks"].as_array().map_or(0, Vec::len) == 2)
    })
    .await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_rtmp_disturbs_nobody() -> Result {
    const NAME: &str = "what_is_no_rtmp_disturbs_nobody";
    /// Connections that one address may hold; see `node::rtmp`.
    const OF_ONE_ADDRESS: usize = 32;
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let node = program::node("up").start().await?;
    let _encoder = encoder(&node, "show", &LIVE)?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES / 2).await?;
    let before = node.resident_bytes();

    let mut silent = Vec::new();
    for _ in 0..4 * OF_ONE_ADDRESS {
        silent.push(TcpStream::connect(node.rtmp).await?);
    }
    // Those beyond the bound are closed at once, the others wait in vain for something to be said.
    for stream in &mut silent[OF_ONE_ADDRESS..] {
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.context("still open")?;
        ensure!(closed.unwrap_or(0) == 0);
    }
    let many = ended(&node, "client_full").await?;
    ensure!(many >= 3.0 * OF_ONE_ADDRESS as f64, "{many} were too many");
    drop(silent);
    until("their places are free", async || Ok(node.metric("media_tree_rtmp_connections{").await? == 1.0))
        .await?;
    // 10 MB that are no RTMP: the first bytes end it.
    let mut stream = TcpStream::connect(node.rtmp).await?;
    let mut garbage = vec![0xa5; 10 << 20];
    garbage[0] = 3;
    let sent = tokio::time::timeout(PATIENCE, stream.write_all(&garbage)).await.context("it is all read")?;
    ensure!(sent.is_err(), "it is all taken");
    until("it is counted", async || Ok(ended(&node, "protocol").await? == 1.0)).await?;
    receive(&mut viewer, PICTURES).await?;
    ensure!(node.resident_bytes() < before + (16 << 20), "{} after {before}", node.resident_bytes());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_breaks_the_rules_as_it_begins_leaves_nothing_behind() -> Result {
    let node = program::node("up").start().await?;
    let end = RECORDED.windows(4).rposition(|bytes| bytes == b"live").context("the end of `publish`")? + 4;
    for _ in 0..3 {
        let mut stream = TcpStream::connect(node.rtmp).await?;
        // What follows `publish` in the same segment is a chunk of a message that has not begun.
        stream.write_all(&[&RECORDED[..end], &[0xff; 64]].concat()).await?;
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        let _reset = ended.context("it is not ended")?;
    }
    until("every publisher is gone", async || Ok(node.metric("media_tree_whip_sessions{").await? == 0.0))
        .await?;
    let accepted = node.log().matches("publisher over RTMP accepted").count();
    ensure!(accepted == 3, "{accepted} came as far as that: {}", node.log());
    until("each is counted", async || Ok(ended(&node, "protocol").await? == 3.0)).await?;
    ensure!(node.metric("media_tree_rtmp_pending_bytes{").await? == 0.0, "nothing waits any more");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_encoder_sends_is_counted_though_its_broadcast_ended_as_it_came() -> Result {
    const FRAMES: &str = "media_tree_rtmp_audio_frames_total{";
    let node = program::node("up").with(&["--grace-period=2s"]).start().await?;
    let begins = RECORDED.windows(4).rposition(|bytes| bytes == b"live").context("the end of `publish`")? + 4;
    let (publish, media) = RECORDED.split_at(begins);
    let accepted = |count| {
        let node = &node;
        async move {
            until("it is let in", async || {
                Ok(node.log().matches("publisher over RTMP accepted").count() == count)
            })
            .await
        }
    };
    let mut first = TcpStream::connect(node.rtmp).await?;
    first.write_all(RECORDED).await?;
    until("its sound is counted", async || Ok(node.metric(FRAMES).await? > 0.0)).await?;
    drop(first);
    // The next one comes, and says nothing until the broadcast of the first one is no more.
    until("the first is gone", async || Ok(node.log().contains("publisher gone"))).await?;
    let mut second = TcpStream::connect(node.rtmp).await?;
    second.write_all(publish).await?;
    accepted(2).await?;
    until("the broadcast ends", async || Ok(node.log().contains("broadcast retired"))).await?;
    let before = node.metric(FRAMES).await?;
    second.write_all(media).await?;
    until("the sound of the second is counted, too", async || Ok(node.metric(FRAMES).await? > before))
        .await?;
    drop(second);
    let has_series = async || -> anyhow::Result<bool> {
        let text = reqwest::get(format!("http://{}/metrics", node.ops)).await?.text().await?;
        Ok(text.contains(FRAMES))
    };
    until("its series end with the broadcast", async || Ok(!has_series().await?)).await?;
    // And with an encoder that never begins.
    let mut third = TcpStream::connect(node.rtmp).await?;
    third.write_all(publish).await?;
    accepted(3).await?;
    until("its series are there", async || has_series().await).await?;
    drop(third);
    until("its series end with it", async || Ok(!has_series().await?)).await
}
