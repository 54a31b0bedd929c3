//! Plain RTP in: ffmpeg and GStreamer of Debian send it with the session description that they write, or that is written
//! for them; viewers watch.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use model::{Codec, Kind};
use serde_json::Value;
use tests::browser::Browser;
use tests::installation::{receive, until_live};
use tests::program::{self, PATIENCE, Program, until};
use tests::{tools, watching};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};

type Result = anyhow::Result<()>;

const FFMPEG: &str = "/usr/bin/ffmpeg";
const CHROMIUM: &str = "/usr/bin/chromium";
const GSTREAMER: [&str; 4] = [
    "/usr/bin/gst-launch-1.0",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstrtpmanager.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstx264.so",
    "/usr/lib/x86_64-linux-gnu/gstreamer-1.0/libgstopus.so",
];
/// Two seconds of pictures.
const PICTURES: usize = 60;
/// What a browser sends at most, and no viewer shall get more than it.
const PAYLOAD_BYTES_MAX: usize = 1200;

/// ffmpeg as gear: a moving picture and a tone to two ports.
struct Gear {
    folder: tempfile::TempDir,
    /// Its picture goes there, its sound to the next but one.
    port: u16,
    /// More options of its encoder of pictures.
    more: &'static [&'static str],
}

impl Gear {
    fn new(more: &'static [&'static str]) -> anyhow::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, port: program::free_ports()?, more })
    }

    fn description(&self) -> PathBuf {
        self.folder.path().join("studio.sdp")
    }

    fn start(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(FFMPEG);
        command.args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=30",
        ]);
        command.args(["-re", "-f", "lavfi", "-i", "sine=frequency=440"]);
        command.args([
            "-map",
            "0:v",
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-g",
            "30",
        ]);
        command.args(["-b:v", "1500k", "-pix_fmt", "yuv420p"]).args(self.more);
        command.args(["-f", "rtp", &format!("rtp://127.0.0.1:{}", self.port)]);
        command.args(["-map", "1:a", "-c:a", "libopus", "-ac", "2"]);
        command.args(["-f", "rtp", &format!("rtp://127.0.0.1:{}", self.port + 2)]);
        command.arg("-sdp_file").arg(self.description());
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        command.spawn().context("start ffmpeg")
    }

    /// The argument with which a node takes it, once its description is written.
    async fn argument(&self, broadcast: &str) -> anyhow::Result<String> {
        until("ffmpeg has described what it sends", async || {
            let text = std::fs::read_to_string(self.description()).unwrap_or_default();
            Ok(text.contains("m=video") && text.contains("opus"))
        })
        .await?;
        Ok(format!("--rtp-in={broadcast}={}", self.description().display()))
    }
}

/// Waits for sound and for so many pictures, each packet as small as any path takes. Gives the payloads that a viewer could
/// begin with: parameter sets, and beginnings of keyframes.
async fn watch(viewer: &mut WhepSession, pictures: usize) -> anyhow::Result<Vec<Vec<u8>>> {
    let (mut seen, mut sounds, mut keyframes) = (0, 0, Vec::new());
    while seen < pictures || sounds == 0 {
        let packet = tokio::time::timeout(PATIENCE, viewer.receive());
        let packet = packet.await.context("no media comes")?.context("the session ended")?;
        ensure!(packet.payload.len() <= PAYLOAD_BYTES_MAX, "{} bytes", packet.payload.len());
        match packet.kind {
            Kind::Audio => sounds += 1,
            Kind::Video => {
                ensure!(packet.codec == Codec::H264);
                seen += usize::from(packet.marker);
                if packet.starts_keyframe {
                    keyframes.push(packet.payload.to_vec());
                }
            }
        }
    }
    Ok(keyframes)
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_sends_plain_rtp_and_viewers_go_on_over_strangers_and_its_restart() -> Result {
    const NAME: &str = "ffmpeg_sends_plain_rtp_and_viewers_go_on_over_strangers_and_its_restart";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let gear = Gear::new(&[])?;
    let mut first = gear.start()?;
    let argument = gear.argument("show").await?;
    let injection = program::node("injection").with(&[&argument]).start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
    until_live(&egress, "show").await?;
    let list: Value = reqwest::get(egress.url("/api/v1/broadcasts")).await?.json().await?;
    ensure!(list[0]["tracks"].as_array().map_or(0, Vec::len) == 2, "{list:#}");
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    ensure!(!watch(&mut viewer, PICTURES).await?.is_empty(), "keyframes come");

    // Somebody else sends the same and worse to the same ports.
    let stranger = UdpSocket::bind("127.0.0.1:0").await?;
    for round in 0..2000u32 {
        let port = gear.port + 2 * (round % 2) as u16;
        let payload_type = if port == gear.port { 96 } else { 97 };
        let mut packet = vec![0x80, payload_type, (round >> 8) as u8, round as u8];
        packet.extend([round.to_be_bytes(), (round / 500).to_be_bytes()].concat());
        packet.extend([0x65; 200]);
        stranger.send_to(&packet, ("127.0.0.1", port)).await?;
        stranger.send_to(&[round as u8; 40], ("127.0.0.1", port)).await?;
    }
    watch(&mut viewer, PICTURES).await?;
    until("strangers are counted", async || {
        Ok(injection.metric_with("media_tree_injection_drops_total", "reason=\"unknown_source\"").await?
            > 500.0)
    })
    .await?;
    let published = || injection.log().matches("plain RTP is published").count();
    ensure!(published() == 1, "{}", injection.log());

    // It dies and comes back: the viewer stays in its session.
    first.kill().await?;
    let mut second = gear.start()?;
    until("the second run is on the air", async || Ok(published() == 2)).await?;
    watch(&mut viewer, 2 * PICTURES).await?;
    println!("{NAME}: {} bytes resident", injection.resident_bytes());

    second.kill().await?;
    until("nobody publishes any more", async || {
        Ok(injection.metric("media_tree_whip_sessions{").await? == 0.0)
    })
    .await?;
    ensure!(injection.log().contains("no media has come for 5 seconds"), "{}", injection.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parameter_sets_of_the_description_reach_viewers_and_browsers() -> Result {
    const NAME: &str = "parameter_sets_of_the_description_reach_viewers_and_browsers";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let gear = Gear::new(&["-flags", "+global_header"])?;
    let _sending = gear.start()?;
    let argument = gear.argument("show").await?;
    ensure!(std::fs::read_to_string(gear.description())?.contains("sprop-parameter-sets"));
    let node = program::node("up").with(&[&argument]).start().await?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    let keyframes = watch(&mut viewer, PICTURES).await?;
    // The first slice of a picture begins with macroblock 0, whose number is coded as one bit (RFC 6184, section 5.8; ITU-T
    // H.264, section 7.3.3). Before it come two units in one payload (RFC 6184, section 5.7.1), the first of them a sequence
    // parameter set.
    let is_picture =
        |payload: &[u8]| payload[0] & 0x1f == 28 && payload[1] & 0x9f == 0x85 && payload[2] & 0x80 != 0;
    let has_sets = |payload: &[u8]| payload[0] & 0x1f == 24 && payload[3] & 0x1f == 7;
    let pictures: Vec<usize> = (0..keyframes.len()).filter(|index| is_picture(&keyframes[*index])).collect();
    ensure!(!pictures.is_empty(), "no keyframe comes");
    for picture in pictures {
        let before = picture.checked_sub(1).map(|before| &keyframes[before]);
        ensure!(before.is_some_and(|before| has_sets(before)), "keyframe {picture} has no parameter sets");
    }
    if !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let browser = Browser::chromium().await?;
    let page = watching::open_player(&browser, &node.url("/watch/show")).await?;
    let seen = watching::watch(&page, std::time::Duration::from_secs(8)).await?;
    println!("{NAME}: {seen}");
    ensure!(seen.frames_decoded > 100 && seen.audio_energy > 0.0, "{seen}");
    page.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervised_node_that_dies_goes_on_with_what_is_sent() -> Result {
    const NAME: &str = "a_supervised_node_that_dies_goes_on_with_what_is_sent";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let gear = Gear::new(&[])?;
    let _sending = gear.start()?;
    let argument = gear.argument("show").await?;
    let node = program::node("up").with(&[&argument]).supervised().start().await?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    watch(&mut viewer, PICTURES).await?;
    let worker = node.worker_id().context("a worker")?;
    std::process::Command::new("kill").args(["-KILL", &worker.to_string()]).status()?;
    until("the next process publishes it", async || {
        Ok(node.log().matches("plain RTP is published").count() == 2)
    })
    .await?;
    watch(&mut viewer, PICTURES).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_sends_to_a_group_with_reports_and_only_its_source_is_listened_to() -> Result {
    const NAME: &str = "gstreamer_sends_to_a_group_with_reports_and_only_its_source_is_listened_to";
    if !GSTREAMER.iter().all(|part| tools::has(NAME, part)) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let port = program::free_ports()?;
    let description = |source: &str| {
        format!(
            "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=studio\nt=0 0\nc=IN IP4 232.255.7.3/1\n\
             a=source-filter: incl IN IP4 232.255.7.3 {source}\n\
             m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 packetization-mode=1\n\
             m=audio {} RTP/AVP 97\na=rtpmap:97 OPUS/48000/2\n",
            port + 2
        )
    };
    let file = |name: &str, source: &str| -> anyhow::Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, description(source))?;
        Ok(path.display().to_string())
    };
    let (right, wrong) = (file("right.sdp", "127.0.0.1")?, file("wrong.sdp", "127.0.0.2")?);
    let inputs = format!("--rtp-in=show={right},other={wrong}");
    let node = program::node("up").with(&[&inputs, "--rtp-in-address", "127.0.0.1"]).start().await?;
    let _sending = gstreamer(port)?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    watch(&mut viewer, PICTURES).await?;
    // Known once both have said what their clocks show, and small: they come from one pipeline.
    until("both have reported", async || {
        let text = reqwest::get(format!("http://{}/metrics", node.ops)).await?.text().await?;
        Ok(text.lines().any(|line| line.starts_with("media_tree_publisher_av_skew_seconds{")))
    })
    .await?;
    let skew = node.metric("media_tree_publisher_av_skew_seconds{").await?;
    println!("{NAME}: the picture comes {skew} s after the sound");
    ensure!(skew.abs() < 0.3, "{skew}");
    ensure!(!node.log().contains("broadcast=other"), "{}", node.log());
    Ok(())
}

/// The pipeline of `docs/operating/rtp.md`, to a group on loopback.
fn gstreamer(port: u16) -> anyhow::Result<Child> {
    let to = |port: u16, more: &str| {
        format!(
            "udpsink host=232.255.7.3 port={port} multicast-iface=lo ttl-mc=1 bind-address=127.0.0.1 {more}"
        )
    };
    let reports = "sync=false async=false";
    let pipeline = format!(
        "rtpbin name=rtp \
         videotestsrc is-live=true ! video/x-raw,width=640,height=360,framerate=30/1 ! \
         x264enc tune=zerolatency key-int-max=30 bitrate=1000 ! rtph264pay pt=96 config-interval=-1 ! rtp.send_rtp_sink_0 \
         rtp.send_rtp_src_0 ! {} rtp.send_rtcp_src_0 ! {} \
         audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample ! opusenc ! rtpopuspay pt=97 ! \
         rtp.send_rtp_sink_1 rtp.send_rtp_src_1 ! {} rtp.send_rtcp_src_1 ! {}",
        to(port, ""),
        to(port + 1, reports),
        to(port + 2, ""),
        to(port + 3, reports),
    );
    let mut command = Command::new(GSTREAMER[0]);
    command.arg("-q").args(pipeline.split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().context("start GStreamer")
}

/// Starts a node that refuses its configuration; gives what it says.
async fn refused(arguments: &[&str]) -> anyhow::Result<String> {
    let mut node: Program = program::node("up").with(arguments).spawn()?;
    let code = node.exit_code().await?;
    ensure!(code == Some(64), "{code:?}: {}", node.log());
    Ok(node.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_received_is_told_at_the_start() -> Result {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, text: &str| -> anyhow::Result<String> {
        let path: &Path = &folder.path().join(name);
        std::fs::write(path, text)?;
        Ok(format!("--rtp-in=show={}", path.display()))
    };
    let head = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\n";
    let aac =
        write("aac.sdp", &format!("{head}m=audio 5004 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/48000/2\n"))?;
    let said = refused(&[&aac]).await?;
    ensure!(said.contains("MPEG4-GENERIC") && said.contains("aac.sdp"), "{said}");
    let said = refused(&["--rtp-in=show=/nowhere/studio.sdp"]).await?;
    ensure!(said.contains("/nowhere/studio.sdp"), "{said}");

    // A port that somebody has is named, too, with the broadcast that wants it.
    let taken = UdpSocket::bind("127.0.0.1:0").await?;
    let port = taken.local_addr()?.port();
    let vp8 =
        write("vp8.sdp", &format!("{head}m=video {port} RTP/AVP 96\na=rtpmap:96 VP8/90000\na=rtcp-mux\n"))?;
    let mut node = program::node("up").with(&[&vp8]).spawn()?;
    ensure!(node.exit_code().await? == Some(1));
    ensure!(
        node.log().contains(&format!("127.0.0.1:{port}")) && node.log().contains("show"),
        "{}",
        node.log()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_publisher_that_takes_over_is_not_driven_out_again() -> Result {
    const NAME: &str = "another_publisher_that_takes_over_is_not_driven_out_again";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let gear = Gear::new(&[])?;
    let _sending = gear.start()?;
    let argument = gear.argument("show").await?;
    let node = program::node("up").with(&[&argument]).start().await?;
    until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    receive(&mut viewer, PICTURES / 2).await?;
    let mut other = Command::new(FFMPEG)
        .args([
            "-hide_banner",
            "-loglevel",
            "error",
            "-re",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=30",
        ])
        .args([
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-g",
            "30",
            "-pix_fmt",
            "yuv420p",
        ])
        .args(["-f", "flv", &format!("rtmp://{}/live/show", node.rtmp)])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    until("it has given way", async || Ok(node.log().contains("another publisher has the broadcast")))
        .await?;
    receive(&mut viewer, 3 * PICTURES).await?;
    let published = || node.log().matches("plain RTP is published").count();
    ensure!(published() == 1, "{}", node.log());
    other.kill().await?;
    until("it is back", async || Ok(published() == 2)).await?;
    watch(&mut viewer, PICTURES).await?;
    Ok(())
}
