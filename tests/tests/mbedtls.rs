//! Publishers and viewers whose DTLS is mbedTLS, as that of OBS on Windows and macOS is.

use anyhow::{Context as _, ensure};
use client::Whep;
use futures_util::future::try_join_all;
use ice_dtls::Datagram;
use tests::installation::receive;
use tests::mbedtls::{self, ALL_SUITES, Fate, MTU, MbedTls, Mishap, Session, Toward};
use tests::offers::{LIBDATACHANNEL_VIEWER, OBS_PUBLISHER};
use tests::program::{self, Program, until};
use tests::tools;
use tokio::task::JoinHandle;

type Result<T = ()> = anyhow::Result<T>;

/// A handshake that is tried.
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    /// The broadcast that it publishes.
    broadcast: &'static str,
    mtu: u16,
    suite: &'static str,
    mishaps: &'static [Mishap],
}

const PLAIN: Case =
    Case { what: "nothing happens", broadcast: "plain", mtu: MTU, suite: ALL_SUITES, mishaps: &[] };

/// Waits until media of the broadcast flows through the node, which is media that it has opened.
async fn until_up(node: &Program, broadcast: &str) -> Result {
    let label = format!("broadcast=\"{broadcast}\"");
    let is_up = || async { Ok(node.metric_with("pipeline_up{", &label).await? == 1.0) };
    until(&format!("{broadcast} is up"), is_up).await
}

async fn publisher(mbedtls: &MbedTls, node: &Program, case: Case) -> Result<Session> {
    let peer = mbedtls.peer(case.mtu, case.suite).await?;
    peer.join(&node.url(&format!("/whip/{}", case.broadcast)), OBS_PUBLISHER, case.mishaps).await
}

async fn viewer(mbedtls: &MbedTls, node: &Program, case: Case) -> Result<Session> {
    let peer = mbedtls.peer(case.mtu, case.suite).await?;
    peer.join(&node.url("/whep/show"), LIBDATACHANNEL_VIEWER, case.mishaps).await
}

/// Publishes until the node has opened what it sends, and it what the node sends; gives the cipher suite.
async fn publishes(mbedtls: &MbedTls, node: &Program, case: Case) -> Result<String> {
    let publishing = async {
        let session = publisher(mbedtls, node, case).await?;
        let judged = async {
            until_up(node, case.broadcast).await?;
            session.until_heard(Datagram::Rtcp).await
        };
        tokio::select! {
            ended = session.play() => ended?,
            judged = judged => judged?,
        }
        anyhow::Ok(session.suite)
    };
    publishing.await.with_context(|| format!("it publishes, {}", case.what))
}

/// Watches `show` until it has opened media of it; gives the cipher suite.
async fn watches(mbedtls: &MbedTls, node: &Program, case: Case) -> Result<String> {
    let watching = async {
        let session = viewer(mbedtls, node, case).await?;
        session.until_heard(Datagram::Rtp).await?;
        anyhow::Ok(session.suite)
    };
    watching.await.with_context(|| format!("it watches, {}", case.what))
}

/// Puts `show` on air, for as long as the test takes.
async fn on_air(mbedtls: &MbedTls, node: &Program) -> Result<JoinHandle<Result>> {
    let session = publisher(mbedtls, node, Case { broadcast: "show", ..PLAIN }).await?;
    let playing = tokio::spawn(async move { session.play().await });
    until_up(node, "show").await?;
    Ok(playing)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_obs_publishes_with_mbedtls_comes_to_viewers() -> Result {
    if !tools::has("what_obs_publishes_with_mbedtls_comes_to_viewers", mbedtls::HEADER) {
        return Ok(());
    }
    let mbedtls = MbedTls::compile().await?;
    let node = program::node("up").start().await?;
    let playing = on_air(&mbedtls, &node).await?;
    let mut browser = Whep::connect(&node.url("/whep/show"), None).await?;
    receive(&mut browser, 30).await?;
    watches(&mbedtls, &node, PLAIN).await?;
    ensure!(!playing.is_finished(), "the publisher's way has ended");
    Ok(())
}

/// By the broadcast that tries it. Where a suite's hash is SHA-384, mbedTLS proves its P-256 key with that, too.
const SUITES: [(&str, &str); 3] = [
    ("chacha", "TLS-ECDHE-ECDSA-WITH-CHACHA20-POLY1305-SHA256"),
    ("aes-256", "TLS-ECDHE-ECDSA-WITH-AES-256-GCM-SHA384"),
    ("aes-128", "TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_suite_that_both_have_gives_the_same_keys() -> Result {
    if !tools::has("every_suite_that_both_have_gives_the_same_keys", mbedtls::HEADER) {
        return Ok(());
    }
    let mbedtls = MbedTls::compile().await?;
    let node = program::node("up").start().await?;
    let _playing = on_air(&mbedtls, &node).await?;
    for (broadcast, suite) in SUITES {
        let case = Case { what: suite, broadcast, suite, ..PLAIN };
        let agreed = tokio::try_join!(publishes(&mbedtls, &node, case), watches(&mbedtls, &node, case))?;
        ensure!(agreed == (suite.to_owned(), suite.to_owned()), "{agreed:?} for {suite}");
    }
    Ok(())
}

const fn mishap(toward: Toward, number: usize, fate: Fate) -> Mishap {
    Mishap { toward, number, fate }
}

/// The client's flight takes three datagrams of so many bytes, which cut its certificate and the proof of it in two.
const SMALL: u16 = 280;

const MISHAPS: [Case; 10] = [
    PLAIN,
    Case {
        what: "the hello is lost",
        broadcast: "lost-hello",
        mishaps: &[mishap(Toward::Node, 0, Fate::Lost)],
        ..PLAIN
    },
    Case {
        what: "the server's flight is lost",
        broadcast: "lost-certificate",
        mishaps: &[mishap(Toward::Peer, 0, Fate::Lost)],
        ..PLAIN
    },
    Case {
        what: "the client's flight is lost",
        broadcast: "lost-proof",
        mishaps: &[mishap(Toward::Node, 1, Fate::Lost)],
        ..PLAIN
    },
    Case {
        what: "the last flight is lost",
        broadcast: "lost-finished",
        mishaps: &[mishap(Toward::Peer, 1, Fate::Lost)],
        ..PLAIN
    },
    Case {
        what: "every flight comes twice",
        broadcast: "twice",
        mishaps: &[
            mishap(Toward::Node, 0, Fate::Twice),
            mishap(Toward::Node, 1, Fate::Twice),
            mishap(Toward::Peer, 0, Fate::Twice),
            mishap(Toward::Peer, 1, Fate::Twice),
        ],
        ..PLAIN
    },
    Case { what: "datagrams are small", broadcast: "small", mtu: SMALL, ..PLAIN },
    Case {
        what: "of small datagrams one is lost",
        broadcast: "small-lost",
        mtu: SMALL,
        mishaps: &[mishap(Toward::Node, 2, Fate::Lost)],
        ..PLAIN
    },
    Case {
        what: "of small datagrams the first is late",
        broadcast: "small-late",
        mtu: SMALL,
        mishaps: &[mishap(Toward::Node, 1, Fate::Late)],
        ..PLAIN
    },
    Case {
        what: "of small datagrams the last is early",
        broadcast: "small-early",
        mtu: SMALL,
        mishaps: &[mishap(Toward::Node, 2, Fate::Late)],
        ..PLAIN
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn flights_may_be_lost_doubled_late_and_in_pieces() -> Result {
    if !tools::has("flights_may_be_lost_doubled_late_and_in_pieces", mbedtls::HEADER) {
        return Ok(());
    }
    let mbedtls = MbedTls::compile().await?;
    let node = program::node("up").start().await?;
    let _playing = on_air(&mbedtls, &node).await?;
    let publishing = try_join_all(MISHAPS.map(|case| publishes(&mbedtls, &node, case)));
    let watching = try_join_all(MISHAPS.map(|case| watches(&mbedtls, &node, case)));
    tokio::try_join!(publishing, watching)?;
    Ok(())
}
