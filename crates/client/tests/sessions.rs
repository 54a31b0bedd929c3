//! Publisher and viewer over real sockets, against a server that is not the product's.

mod stage;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use client::{
    ConnectError, Ending, Impairment, Outgoing, ReceivedPacket, Whep, WhepSession, Whip, WhipSession, whep,
    whip,
};
use model::{Codec, Kind, Rid};
use stage::{Stage, TOKEN};

const TRACKS: &[Codec] = &[Codec::Opus, Codec::H264];
/// A whole keyframe in one packet, as far as RTP is concerned.
const KEYFRAME: &[u8] = &[0x65, 1, 2, 3];
const DELTA: &[u8] = &[0x41, 1, 2, 3];

async fn publisher(stage: &Stage, options: whip::Options) -> WhipSession {
    Whip::connect(&stage.url("/whip/demo"), Some(TOKEN), TRACKS, options).await.expect("publish")
}

async fn viewer(stage: &Stage, options: whep::Options) -> WhepSession {
    Whep::connect_with(&stage.url("/whep/demo"), None, options).await.expect("watch")
}

/// Publishes one small packet per millisecond until dropped: a keyframe first, deltas after it.
async fn stream(session: &WhipSession, packets: u32) {
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    for index in 0..packets {
        pace.tick().await;
        let payload = if index == 0 { KEYFRAME } else { DELTA };
        session.write(Kind::Video, index * 90, true, payload).await.expect("write");
        session.write(Kind::Audio, index * 48, false, &b"sound"[..]).await.expect("write");
    }
}

async fn receive_until(
    session: &mut WhepSession,
    enough: impl Fn(&[ReceivedPacket]) -> bool,
) -> Vec<ReceivedPacket> {
    let mut packets = Vec::new();
    let all = async {
        while !enough(&packets) {
            packets.push(session.receive().await.expect("the session goes on"));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("enough packets in 20 s");
    packets
}

/// Many packets of video, of which fewer than one in a hundred is missing: without repair, five would be.
fn is_repaired(packets: &[ReceivedPacket]) -> bool {
    let seqs: BTreeSet<u64> = of(Kind::Video, packets).iter().map(|packet| packet.seq_no.get()).collect();
    let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return false };
    let missing = (last - first + 1) as usize - seqs.len();
    seqs.len() > 400 && missing * 100 < seqs.len()
}

fn of(kind: Kind, packets: &[ReceivedPacket]) -> Vec<&ReceivedPacket> {
    packets.iter().filter(|packet| packet.kind == kind).collect()
}

#[tokio::test]
async fn what_is_published_arrives_as_it_was() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let mut whep = viewer(&stage, whep::Options::default()).await;
    let received = tokio::select! {
        () = stream(&whip, 100_000) => unreachable!("the viewer has enough before"),
        received = receive_until(&mut whep, |packets| packets.len() >= 400) => received,
    };
    for (kind, codec, ticks) in [(Kind::Video, Codec::H264, 90), (Kind::Audio, Codec::Opus, 48)] {
        let packets = of(kind, &received);
        assert!(packets.len() > 100, "{} packets of {kind}", packets.len());
        for pair in packets.windows(2) {
            assert_eq!(pair[1].seq_no.get(), pair[0].seq_no.get() + 1);
            assert_eq!(pair[1].timestamp, pair[0].timestamp + ticks);
        }
        assert!(packets.iter().all(|packet| packet.codec == codec && packet.marker == (kind == Kind::Video)));
        let age = SystemTime::now().duration_since(packets[0].capture_time.expect("capture time"));
        assert!(age.expect("captured in the past") < Duration::from_secs(20));
    }
    assert!(of(Kind::Video, &received).iter().skip(1).all(|packet| packet.payload == DELTA));
    let joining = whep.joining();
    assert!(joining.answered <= joining.connected);
    assert_eq!(whep.stats().unread, 0);
}

#[tokio::test]
async fn packets_lost_on_the_way_in_come_again_by_rtx() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let impairment = Impairment { lose_received: 0.05, seed: 3, ..Impairment::NONE };
    let mut whep = viewer(&stage, whep::Options { impairment, ..Default::default() }).await;
    let received = tokio::select! {
        () = stream(&whip, 100_000) => unreachable!("the viewer has enough before"),
        received = receive_until(&mut whep, is_repaired) => received,
    };
    assert!(received.iter().any(|packet| packet.via_rtx));
    assert!(whep.stats().video.via_rtx > 0);
}

#[tokio::test]
async fn packets_lost_on_the_way_out_are_asked_for_and_sent_again() {
    let stage = Stage::open().await;
    let impairment = Impairment { lose_sent: 0.05, seed: 4, ..Impairment::NONE };
    let whip = publisher(&stage, whip::Options { impairment, ..Default::default() }).await;
    let mut whep = viewer(&stage, whep::Options::default()).await;
    tokio::select! {
        () = stream(&whip, 100_000) => unreachable!("the viewer has enough before"),
        _ = receive_until(&mut whep, is_repaired) => {}
    }
}

#[tokio::test]
async fn a_viewer_without_a_keyframe_asks_for_one_and_the_publisher_learns_of_it() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let _whep = viewer(&stage, whep::Options::default()).await;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    let asked = async {
        for index in 0.. {
            pace.tick().await;
            if whip.keyframe_requests() > 0 {
                return;
            }
            whip.write(Kind::Video, index * 3000, true, DELTA).await.expect("write");
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("a keyframe request within 10 s");
}

#[tokio::test]
async fn a_viewer_told_not_to_ask_never_does_but_on_request() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let options = whep::Options { requests_keyframes: false, ..Default::default() };
    let mut whep = viewer(&stage, options).await;
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    let deltas = async {
        for index in 0..100_000u32 {
            pace.tick().await;
            whip.write(Kind::Video, index * 90, true, DELTA).await.expect("write");
        }
    };
    tokio::select! {
        () = deltas => unreachable!("the viewer has enough before"),
        _ = receive_until(&mut whep, |packets| packets.len() >= 600) => {}
    }
    assert_eq!(whip.keyframe_requests(), 0);
    whep.request_keyframe().await.expect("request");
    let asked = async {
        while whip.keyframe_requests() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("the request arrives");
}

#[tokio::test]
async fn sequence_numbers_roll_over_and_capture_times_can_be_left_out() {
    let stage = Stage::open().await;
    let options = whip::Options { first_seq_no: Some(65_400), capture_time: false, ..Default::default() };
    let whip = publisher(&stage, options).await;
    let mut whep = viewer(&stage, whep::Options::default()).await;
    let received = tokio::select! {
        () = stream(&whip, 100_000) => unreachable!("the viewer has enough before"),
        received = receive_until(&mut whep, |packets| packets.len() >= 600) => received,
    };
    let video = of(Kind::Video, &received);
    assert!(video[0].seq_no.get() < 65_536 && video[video.len() - 1].seq_no.get() > 65_536);
    assert!(video.windows(2).all(|pair| pair[1].seq_no.get() == pair[0].seq_no.get() + 1));
    assert!(received.iter().all(|packet| packet.capture_time.is_none()));
}

#[tokio::test]
async fn every_simulcast_layer_is_a_stream_of_its_own() {
    let stage = Stage::open().await;
    let layers: Vec<Rid> = ["0", "1", "2"].map(|rid| Rid::new(rid).expect("rid")).to_vec();
    let whip = publisher(&stage, whip::Options { layers: layers.clone(), ..Default::default() }).await;
    assert!(whip.answer().contains("a=simulcast:recv 0;1;2"), "{}", whip.answer());
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let sent = async {
        for index in 0u32.. {
            pace.tick().await;
            for rid in &layers {
                let (rid, payload) = (Some(rid.clone()), Bytes::from_static(DELTA));
                let captured = Instant::now();
                let timestamp = index * 3000;
                let packet = Outgoing { kind: Kind::Video, rid, timestamp, marker: true, captured, payload };
                whip.send(packet).await.expect("write");
            }
            if stage.layers_seen() == ["0", "1", "2"] {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), sent).await.expect("three layers within 10 s");
}

#[tokio::test]
async fn a_redirect_is_followed_with_the_token_and_a_circle_is_left() {
    let stage = Stage::open().await;
    let options = whip::Options { candidates_in_offer: false, rtx: false, ..Default::default() };
    let session =
        Whip::connect(&stage.url("/elsewhere/demo"), Some(TOKEN), TRACKS, options).await.expect("publish");
    assert_eq!(session.url(), stage.url("/session/1"));
    assert!(!session.answer().contains("rtx"));
    let circle = Whep::connect(&stage.url("/circle/demo"), None).await;
    assert!(matches!(circle, Err(ConnectError::Redirects { .. })));
}

#[tokio::test]
async fn a_refusal_tells_status_and_pause() {
    let stage = Stage::open().await;
    let refused =
        Whip::connect(&stage.url("/whip/demo"), Some("wrong"), TRACKS, whip::Options::default()).await;
    assert!(matches!(refused, Err(ConnectError::Refused { status: 401, .. })));
    let full = Whep::connect(&stage.url("/full/demo"), None).await;
    let Err(ConnectError::Refused { status: 503, retry_after, detail }) = full else {
        panic!("refused with 503")
    };
    assert_eq!((retry_after, detail.as_str()), (Some(Duration::from_secs(7)), "full"));
    for bad in ["https://127.0.0.1/whep/demo", "127.0.0.1/whep/demo", ""] {
        assert!(matches!(Whep::connect(bad, None).await, Err(ConnectError::Url { .. })), "{bad}");
    }
}

#[tokio::test]
async fn closing_deletes_the_session_on_the_server() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let whep = viewer(&stage, whep::Options::default()).await;
    whep.close().await.expect("DELETE answers 200");
    whip.close().await.expect("DELETE answers 200");
    assert_eq!(stage.deleted(), 2);
}

#[tokio::test]
async fn a_server_that_closes_is_noticed_at_once() {
    let stage = Stage::open().await;
    let whip = publisher(&stage, whip::Options::default()).await;
    let mut whep = viewer(&stage, whep::Options::default()).await;
    stage.close_all();
    let endings = async { (whip.closed().await, whep.closed().await) };
    let endings =
        tokio::time::timeout(Duration::from_secs(5), endings).await.expect("close_notify within 5 s");
    assert_eq!(endings, (Ending::ServerClosed, Ending::ServerClosed));
    assert_eq!(whip.write(Kind::Audio, 0, false, &b"sound"[..]).await, Err(Ending::ServerClosed));
    assert_eq!(whep.receive().await, None);
}

#[tokio::test]
async fn the_demo_clip_plays_in_time_and_comes_back_after_a_break() {
    let stage = Stage::open().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let url = stage.url("/whip/demo");
    let publishing = tokio::spawn(async move {
        client::demo::publish(&url, Some(TOKEN), async {
            let _ = stopped.await;
        })
        .await;
    });
    let mut whep = viewer(&stage, whep::Options::default()).await;
    let has_keyframe = |packets: &[ReceivedPacket]| {
        packets.iter().any(|packet| packet.kind == Kind::Video && packet.starts_keyframe)
            && packets.len() > 200
    };
    let received = receive_until(&mut whep, has_keyframe).await;
    for (kind, clock) in [(Kind::Video, 90_000.0), (Kind::Audio, 48_000.0)] {
        let packets = of(kind, &received);
        let (first, last) = (packets[0], packets[packets.len() - 1]);
        let media = f64::from(last.timestamp - first.timestamp) / clock;
        let real = last.arrival.duration_since(first.arrival).as_secs_f64();
        assert!((media - real).abs() < 0.2, "{kind}: {media} s of media in {real} s");
    }
    stage.close_all();
    assert_eq!(whep.closed().await, Ending::ServerClosed);
    let mut again = viewer(&stage, whep::Options::default()).await;
    receive_until(&mut again, has_keyframe).await;
    stop.send(()).expect("still publishing");
    publishing.await.expect("publisher ends");
    assert_eq!(stage.deleted(), 1);
}
