//! The publisher goes, and comes back or does not: what its viewers see.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::demo::{self, Clip};
use client::{ConnectError, Ending, Whep, WhepSession, Whip, WhipSession, whip};
use model::{Codec, Kind};
use tests::program::{self, PATIENCE, Program, until};
use tests::recording::Recording;
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

/// Pictures recorded from each publisher: two seconds.
const PICTURES: usize = 60;
/// A VP8 keyframe of 640×360 in one packet: descriptor (RFC 7741, section 4.2), frame tag, start code, size, padding.
const VP8_KEYFRAME: [u8; 11] = [0x10, 0x50, 0x01, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01];
/// The frame tag of a VP8 picture that is none.
const VP8_DELTA: [u8; 4] = [0x10, 0x51, 0x01, 0x00];

async fn publish(program: &Program, video: Codec) -> std::result::Result<WhipSession, ConnectError> {
    Whip::connect(&program.url("/whip/show"), None, &[Codec::Opus, video], whip::Options::default()).await
}

/// Plays the clip. Aborted, the publisher vanishes without a word.
fn play(session: WhipSession) -> JoinHandle<Ending> {
    tokio::spawn(async move { demo::play(&Clip::built_in(), &session).await })
}

/// Plays something that says of itself that it is VP8, 30 pictures a second and a keyframe every second.
fn play_vp8(session: WhipSession) -> JoinHandle<std::result::Result<(), Ending>> {
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(Duration::from_secs(1) / 30);
        for count in 0u32.. {
            clock.tick().await;
            let head: &[u8] = if count.is_multiple_of(30) { &VP8_KEYFRAME } else { &VP8_DELTA };
            let picture = [head, &[0x5a; 600]].concat();
            session.write(Kind::Video, count.wrapping_mul(3000), true, picture).await?;
            session.write(Kind::Audio, count.wrapping_mul(1600), false, vec![0xfc, 0xff, 0xfe]).await?;
        }
        Ok(())
    })
}

/// Records two more seconds.
async fn watch(recording: &mut Recording, viewer: &mut WhepSession) -> Result {
    let enough = recording.track(Kind::Video).fluency().pictures + PICTURES;
    recording.record(viewer, |so_far| so_far.track(Kind::Video).fluency().pictures >= enough).await
}

async fn live(program: &Program) -> Result {
    until("the broadcast is live", async || Ok(broadcasts(program).await?.contains("\"live\""))).await
}

async fn broadcasts(program: &Program) -> anyhow::Result<String> {
    Ok(reqwest::get(program.url("/api/v1/broadcasts")).await?.text().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_when_another_publisher_takes_over() -> Result {
    let injection = program::node("injection").start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let egress = program::node("egress").with(&["--parents", &parent]).start().await?;
    let first = play(publish(&injection, Codec::H264).await?);
    live(&egress).await?;
    let mut viewer = Whep::connect(&egress.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    watch(&mut recording, &mut viewer).await?;

    // The first one is on the air until the second one's media comes, and is told then.
    let second = play(publish(&injection, Codec::H264).await?);
    let posted = Instant::now();
    let ending = tokio::time::timeout(PATIENCE, first).await.context("the first one goes on")??;
    println!(
        "the first publisher was told {:?} after the second one had its answer: {ending}",
        posted.elapsed()
    );
    assert_eq!(ending, Ending::ServerClosed);
    watch(&mut recording, &mut viewer).await?;
    second.abort();
    println!("another publisher took over from one on the air: {}", recording.summary());
    for kind in [Kind::Audio, Kind::Video] {
        let track = recording.track(kind);
        assert_eq!(track.missing(), [0; 0], "{kind} sequence numbers leave a gap");
        assert_eq!(track.backward_steps(), [], "{kind} timestamps go back");
        assert_eq!(track.ssrcs.len(), 1, "{kind} is another stream now");
    }
    assert!(recording.track(Kind::Video).keyframes >= 2);
    assert_eq!(injection.metric("media_tree_publisher_take_overs_total{").await?, 1.0);
    assert_eq!(egress.metric("media_tree_viewers{").await?, 1.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_when_the_next_publisher_sends_another_codec() -> Result {
    let program = program::node("up").start().await?;
    let first = play_vp8(publish(&program, Codec::Vp8).await?);
    live(&program).await?;
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    watch(&mut recording, &mut viewer).await?;

    first.abort();
    let second = play(publish(&program, Codec::H264).await?);
    watch(&mut recording, &mut viewer).await?;
    second.abort();
    println!("VP8, then H264: {}", recording.summary());
    let video = recording.track(Kind::Video);
    assert_eq!(video.codecs, [Codec::Vp8, Codec::H264]);
    assert_eq!(video.missing(), [0; 0], "sequence numbers leave a gap");
    assert_eq!(video.backward_steps(), [], "timestamps go back");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_outlives_a_goodbye_by_its_grace_period() -> Result {
    let program = program::node("up").with(&["--grace-period", "2s"]).start().await?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let session = publish(&program, Codec::H264).await?;
    let publisher = tokio::spawn(async move {
        let clip = Clip::built_in();
        tokio::select! {
            ending = demo::play(&clip, &session) => anyhow::bail!("the publisher ended: {ending}"),
            _ = stopped => Ok(session.close().await?),
        }
    });
    live(&program).await?;
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    watch(&mut recording, &mut viewer).await?;

    let _ = stop.send(());
    publisher.await??;
    let gone = Instant::now();
    until("the broadcast waits", async || Ok(broadcasts(&program).await?.contains("\"waiting\""))).await?;
    assert_eq!(program.metric("media_tree_viewers{").await?, 1.0, "the viewer stays for the grace period");
    let ending = tokio::time::timeout(PATIENCE, viewer.closed()).await?;
    let after = gone.elapsed();
    until("the broadcast is gone", async || Ok(!broadcasts(&program).await?.contains("show"))).await?;
    println!("no publisher came back: {ending} {} ms after the goodbye", after.as_millis());
    assert_eq!(ending, Ending::ServerClosed);
    ensure!(after >= Duration::from_millis(1900), "the viewer was sent away early, after {after:?}");
    let refused = Whep::connect(&program.url("/whep/show"), None).await;
    assert!(matches!(refused, Err(ConnectError::Refused { status: 404, .. })), "{:?}", refused.err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publisher_is_refused_where_that_is_configured() -> Result {
    let program = program::node("up").with(&["--publisher-conflict", "refuse"]).start().await?;
    let first = play(publish(&program, Codec::H264).await?);
    live(&program).await?;
    let second = publish(&program, Codec::H264).await;
    assert!(matches!(second, Err(ConnectError::Refused { status: 409, .. })), "{:?}", second.err());
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    watch(&mut recording, &mut viewer).await?;
    println!("a second publisher was refused: {}", recording.summary());
    assert_eq!(recording.track(Kind::Video).missing(), [0; 0], "the first publisher was disturbed");
    assert_eq!(program.metric("media_tree_publisher_take_overs_total{").await?, 0.0);
    first.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_when_a_backup_goes_on_for_a_publisher_that_vanished() -> Result {
    let program = program::node("up").with(&["--publisher-conflict", "backup"]).start().await?;
    let first = play(publish(&program, Codec::H264).await?);
    live(&program).await?;
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let mut recording = Recording::default();
    let backup = play(publish(&program, Codec::H264).await?);
    watch(&mut recording, &mut viewer).await?;
    assert_eq!(program.metric("media_tree_publisher_take_overs_total{").await?, 0.0, "the backup waits");

    first.abort();
    let vanished = Instant::now();
    until("the backup goes on", async || {
        Ok(program.metric("media_tree_publisher_take_overs_total{").await? == 1.0)
    })
    .await?;
    let after = vanished.elapsed();
    watch(&mut recording, &mut viewer).await?;
    backup.abort();
    println!(
        "the backup went on {} ms after the first publisher vanished: {}",
        after.as_millis(),
        recording.summary()
    );
    ensure!(after < Duration::from_secs(5), "it took {after:?}");
    for kind in [Kind::Audio, Kind::Video] {
        let track = recording.track(kind);
        assert_eq!(track.missing(), [0; 0], "{kind} sequence numbers leave a gap");
        assert_eq!(track.backward_steps(), [], "{kind} timestamps go back");
    }
    assert!(broadcasts(&program).await?.contains("\"live\""));
    assert_eq!(program.metric("media_tree_viewers{").await?, 1.0);
    Ok(())
}
