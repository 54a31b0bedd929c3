//! A viewer whose address changes keeps its stream; one that names an address which is not its own moves nothing.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::joining::{Door, Joined, Step};
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Shape, Source};
use tokio::net::UdpSocket;

type Result = anyhow::Result<()>;

/// A second and more at 30 pictures of 9 packets and 50 sounds.
const A_WHILE: usize = 400;

async fn on_air() -> anyhow::Result<(Program, Source)> {
    let program = program::node("up").start().await?;
    let source = Source::publish(&program.url("/whip/show"), Shape::OBS).await?;
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    Ok((program, source))
}

fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [0x80..=0xbf, kind, ..] if !(192..224).contains(kind))
}

/// Reads until so many packets of media have come.
async fn media(socket: &UdpSocket, count: usize) -> Result {
    let mut buffer = [0; 2048];
    let mut seen = 0;
    while seen < count {
        let length = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.context("no media")??;
        seen += usize::from(is_rtp(&buffer[..length]));
    }
    Ok(())
}

/// All that waits to be read: datagrams of media, other datagrams, bytes.
fn waiting(socket: &UdpSocket) -> (usize, usize, usize) {
    let mut buffer = [0; 2048];
    let (mut media, mut others, mut bytes) = (0, 0, 0);
    while let Ok((length, _)) = socket.try_recv_from(&mut buffer) {
        bytes += length;
        if is_rtp(&buffer[..length]) {
            media += 1;
        } else {
            others += 1;
        }
    }
    (media, others, bytes)
}

/// Goes over to another socket, as a phone does that leaves its wireless network.
async fn goes_over(viewer: &Joined) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((viewer.server().ip(), 0)).await?;
    socket.connect(viewer.server()).await?;
    socket.send(&viewer.check()).await?;
    let mut buffer = [0; 2048];
    loop {
        let length =
            tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await.context("not a word")??;
        let datagram = &buffer[..length];
        ensure!(!is_rtp(datagram), "media before the address is proved");
        if let Some(answer) = viewer.answer_to(datagram) {
            socket.send(&answer).await?;
            return Ok(socket);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_moves_takes_its_stream_along() -> Result {
    let (program, _source) = on_air().await?;
    let viewer = Door::new(&program, "show")?.join(Step::Connected).await?;
    media(&viewer.socket, A_WHILE).await?;
    let new = goes_over(&viewer).await?;
    media(&new, 50).await?;
    waiting(&viewer.socket);
    media(&new, A_WHILE).await?;
    assert_eq!(waiting(&viewer.socket).0, 0, "nothing goes to where it was");
    // And back: an address that was proved needs no second proof.
    viewer.socket.send(&viewer.check()).await?;
    media(&viewer.socket, A_WHILE).await?;
    assert_eq!(program.metric("media_tree_viewers{").await?, 1.0, "it is one session all along");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_does_not_answer_gets_no_media() -> Result {
    let (program, _source) = on_air().await?;
    let viewer = Door::new(&program, "show")?.join(Step::Connected).await?;
    media(&viewer.socket, 50).await?;
    // What a forged source is to the server: checks come from there, and answers to its own do not.
    let victim = UdpSocket::bind((viewer.server().ip(), 0)).await?;
    let check = viewer.check();
    let mut sent = 0;
    let mut timer = tokio::time::interval(Duration::from_millis(5));
    let watching = media(&viewer.socket, 3 * A_WHILE);
    tokio::pin!(watching);
    loop {
        tokio::select! {
            seen = &mut watching => break seen?,
            _ = timer.tick() => sent += victim.send_to(&check, viewer.server()).await?,
        }
    }
    let (media_packets, others, bytes) = waiting(&victim);
    println!(
        "{sent} bytes of checks from an address that answers none: {others} datagrams, {bytes} bytes to it"
    );
    assert_eq!(media_packets, 0);
    assert!(others > 0 && bytes < 3 * sent, "{bytes} bytes for {sent}");
    Ok(())
}
