//! The parts that stand beside the servers, as processes, with a real publisher and real viewers.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use client::{Whep, Whip, WhipSession};
use model::{Codec, Kind};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);
/// A picture of one slice, IDR.
const PICTURE: &[u8] = &[0x65, 0x88, 0x84, 0x21, 0xa0];

struct Oracle {
    child: Child,
    base: String,
}

/// Three ports in a row that nobody uses: others for each call, and for each process that tests run in.
fn free_ports() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let start = 15_000 + (std::process::id() % 400) as u16 * 40 + TAKEN.fetch_add(8, Ordering::Relaxed);
    let is_free = |port: &u16| {
        TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
            && (1..3).all(|offset| UdpSocket::bind((Ipv4Addr::LOCALHOST, port + offset)).is_ok())
    };
    (start..u16::MAX - 4).step_by(4).find(is_free).expect("free ports")
}

async fn oracle(arguments: &[&str]) -> Oracle {
    let port = free_ports();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["oracle", "--address", "127.0.0.1", "--port", &port.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("an output")).lines();
    assert_eq!(lines.next_line().await.expect("an output").as_deref(), Some("ready"));
    Oracle { child, base: format!("http://127.0.0.1:{port}") }
}

async fn publisher(oracle: &Oracle) -> WhipSession {
    let url = format!("{}/whip/any", oracle.base);
    Whip::connect(&url, None, &[Codec::Opus, Codec::H264], client::whip::Options::default())
        .await
        .expect("on air")
}

/// Publishes pictures of three packets, with sound, until dropped.
fn on_air(publisher: WhipSession) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(Duration::from_millis(20));
        for number in 0u32.. {
            timer.tick().await;
            let sound = publisher.write(Kind::Audio, number * 960, false, vec![0x78; 80]).await;
            for place in 0..3 {
                let _ = publisher.write(Kind::Video, number * 1800, place == 2, PICTURE).await;
            }
            if sound.is_err() {
                return;
            }
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_of_the_oracle_gets_what_is_published() {
    let oracle = oracle(&[]).await;
    let publishing = on_air(publisher(&oracle).await);
    let mut viewer = Whep::connect(&format!("{}/whep/any", oracle.base), None).await.expect("joined");
    let (mut sound, mut picture) = (0, 0);
    while sound < 5 || picture < 15 {
        let packet =
            tokio::time::timeout(PATIENCE, viewer.receive()).await.expect("in time").expect("a packet");
        match packet.kind {
            Kind::Audio => sound += 1,
            Kind::Video => {
                assert_eq!(&packet.payload[..], PICTURE);
                picture += 1;
            }
        }
    }
    viewer.close().await.expect("left");
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_rtp_goes_to_a_port_for_each_track() {
    // Video goes to the port of audio plus two: find such a pair.
    let (audio, video) = loop {
        let audio = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = audio.local_addr().expect("bound").port();
        if let Ok(video) = UdpSocket::bind(("127.0.0.1", port.saturating_add(2))) {
            break (audio, video);
        }
    };
    let to = audio.local_addr().expect("bound").to_string();
    let oracle = oracle(&["--rtp-to", &to]).await;
    let publishing = on_air(publisher(&oracle).await);
    let seen = tokio::task::spawn_blocking(move || {
        [audio, video].map(|socket| {
            let mut buffer = [0; 2000];
            socket.set_read_timeout(Some(PATIENCE)).expect("set");
            let length = socket.recv(&mut buffer).expect("a packet");
            (buffer[1] & 0x7f, buffer[12..length].to_vec())
        })
    });
    let [audio, video] = seen.await.expect("seen");
    assert_eq!(audio, (111, vec![0x78; 80]));
    assert_eq!(video, (96, PICTURE.to_vec()));
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mix_of_a_publisher_is_taken_down() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("mix.json");
    let mut oracle = oracle(&["--mix", file.to_str().expect("text"), "--mix-seconds", "1"]).await;
    let publishing = on_air(publisher(&oracle).await);
    let ended = tokio::time::timeout(PATIENCE, oracle.child.wait()).await.expect("in time");
    assert!(ended.expect("ended").success());
    let mix: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("read")).expect("JSON");
    assert_eq!(mix["period_micros"], 1_000_000);
    let frames = mix["frames"].as_array().expect("frames");
    let picture = serde_json::json!([17, 17, 17]);
    let pictures = frames.iter().filter(|frame| frame["packet_bytes"] == picture).count();
    assert!(pictures > 25, "{pictures} of 50 pictures");
    publishing.abort();
}
