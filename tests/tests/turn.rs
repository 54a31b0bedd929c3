//! Browsers whose only way leads through a TURN server, with the credentials that the node gives them.

use std::time::Duration;

use anyhow::ensure;
use tests::browser::{Browser, Page};
use tests::program::{Program, node};
use tests::tools;
use tests::turn::{COTURN, SECRET, Turn};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
const SOON: Duration = Duration::from_secs(20);

/// Lets a page's peers use relays alone, and keeps them. Pages learn of TURN servers from the answer to a session, and use them
/// for those that come after one that could not connect: the first one is made, and ended, here.
const RELAYS_ALONE: &str = r#"(async () => {
  const { postOffer, deleteSession } = await import("/assets/endpoint.js");
  const Peer = window.RTCPeerConnection;
  const first = new Peer();
  first.addTransceiver("audio", { direction: "DIRECTION" });
  first.addTransceiver("video", { direction: "DIRECTION" });
  await first.setLocalDescription(await first.createOffer());
  await deleteSession(await postOffer("ENDPOINT", first.localDescription.sdp, null, AbortSignal.timeout(5000)));
  first.close();
  window.peers = [];
  window.RTCPeerConnection = class extends Peer {
    constructor(configuration) {
      super({ ...configuration, iceTransportPolicy: "relay" });
      window.peers.push(this);
    }
  };
})()"#;
/// The kind of candidate that the latest peer uses.
const WAY: &str = "peers.at(-1).getStats().then((report) => {
  const all = [...report.values()];
  const pair = all.find(({ type, nominated, state }) => type === 'candidate-pair' && nominated && state === 'succeeded');
  return report.get(pair?.localCandidateId)?.candidateType ?? null;
})";

/// A page of the node whose peers use relays alone on their way to `endpoint`.
async fn open(
    browser: &Browser,
    node: &Program,
    (endpoint, direction): (&str, &str),
) -> anyhow::Result<Page> {
    let page = browser.open(&node.url("/")).await?;
    page.wait_until("document.readyState === 'complete'", SOON).await?;
    page.evaluate(&RELAYS_ALONE.replace("ENDPOINT", endpoint).replace("DIRECTION", direction)).await?;
    Ok(page)
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_publish_and_watch_through_a_turn_server() -> Result {
    let name = "browsers_publish_and_watch_through_a_turn_server";
    if !tools::has(name, CHROMIUM) || !tools::has(name, COTURN) {
        return Ok(());
    }
    let turn = Turn::start().await?;
    let browser = Browser::chromium_that_trusts(&turn.key_hash).await?;
    for transport in ["tls", "tcp", "udp"] {
        let program = node("up")
            .environment(&[("MEDIA_TREE_ICE_SERVERS", turn.url(transport))])
            .with(&["--turn-secret", SECRET])
            .start()
            .await?;
        let publisher = open(&browser, &program, ("/whip/show", "sendonly")).await?;
        publisher
            .evaluate(
                r#"(async () => {
                  const [{ Publisher }, sources] = await Promise.all([
                    import("/assets/publisher.js"),
                    import("/assets/sources.js"),
                  ]);
                  window.source = await sources.open("clock", "show", {});
                  window.publisher = new Publisher("/whip/show");
                  const picture = { codec: "vp8", bitrate: 500_000, isLayered: false };
                  publisher.start({ stream: source.stream, token: null, ...picture });
                })()"#,
            )
            .await?;
        publisher.wait_until("window.publisher?.state === 'live'", SOON).await?;
        ensure!(publisher.evaluate(WAY).await? == "relay", "{transport}: the publisher's way");

        let viewer = open(&browser, &program, ("/whep/show", "recvonly")).await?;
        viewer
            .evaluate(
                r#"(async () => {
                  const { Player } = await import("/assets/player.js");
                  window.player = new Player(document.body, "/whep/show");
                  player.start(null);
                })()"#,
            )
            .await?;
        viewer.wait_until("window.player?.state === 'live'", SOON).await?;
        viewer.wait_until("player.stats().then((stats) => stats.video?.framesDecoded > 60)", SOON).await?;
        ensure!(viewer.evaluate(WAY).await? == "relay", "{transport}: the viewer's way");
        viewer.evaluate("player.stop()").await?;
        publisher.evaluate("publisher.stop()").await?;
        viewer.close().await?;
        publisher.close().await?;
    }
    Ok(())
}
