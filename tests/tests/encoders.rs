//! Encoders that are not ours publish: libdatachannel as OBS uses it, and ffmpeg.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tests::baseline;
use tests::browser::Browser;
use tests::encoders::{self, Encoder};
use tests::program::{self, PATIENCE, Program, until};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// More than one group of pictures.
const LENGTH: Duration = Duration::from_secs(10);

fn are_here(name: &str, parts: impl IntoIterator<Item = PathBuf>) -> bool {
    tools::has(name, CHROMIUM) && parts.into_iter().all(|part| tools::has(name, &part.to_string_lossy()))
}

async fn until_live(program: &Program) -> Result {
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await
}

/// One viewer joins somewhere in a group of pictures and stays for longer than one.
async fn watch(name: &str, program: &Program) -> Result {
    let viewer = Browser::chromium().await?;
    let direct = baseline::loopback(&viewer, "h264", LENGTH).await?;
    let player = watching::open_player(&viewer, &program.url("/watch/show")).await?;
    let seen = watching::watch(&player, LENGTH).await?;
    let (frames, freezes) = (seen.frames_decoded, seen.freeze_count);
    println!(
        "{name}: {frames} pictures ({:.1}/s), {freezes} freezes (direct {}), {} packets lost, first picture after {:?}, \
         sound energy {:.4}",
        seen.frames_per_second, direct.freeze_count, seen.packets_lost, seen.first_frame, seen.audio_energy
    );
    assert_eq!(seen.codec, "H264");
    assert!(frames > 60, "{seen}");
    assert!(freezes <= direct.freeze_count + 1, "{seen}, direct {direct:?}");
    assert_eq!(seen.packets_lost, 0, "{seen}");
    assert!(seen.audio_energy > 0.0, "there is sound: {seen}");
    player.close().await
}

#[tokio::test]
async fn libdatachannel_publishes_as_obs_does() -> Result {
    let name = "libdatachannel_publishes_as_obs_does";
    if !are_here(name, encoders::parts_of_libdatachannel()) {
        return Ok(());
    }
    let program = program::node("up").with(&["--publish-tokens", "secret-of-the-encoder"]).start().await?;
    let url = program.url("/whip/show");
    Encoder::libdatachannel(&url, Some("wrong"))?.until_failed().await.context("a wrong token")?;
    let mut obs = Encoder::libdatachannel(&url, Some("secret-of-the-encoder"))?;
    assert_eq!(obs.until("candidates").await?, "0", "as OBS, it offers before it has candidates");
    obs.until("state connected").await?;
    until_live(&program).await?;
    watch(name, &program).await?;
    assert_eq!(obs.close().await?, "200");
    until("its session is gone", || async { Ok(program.metric("media_tree_whip_sessions{").await? == 0.0) })
        .await
}

#[tokio::test]
async fn an_encoder_like_obs_takes_over_from_itself_after_a_crash() -> Result {
    let name = "an_encoder_like_obs_takes_over_from_itself_after_a_crash";
    if !are_here(name, encoders::parts_of_libdatachannel()) {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let url = program.url("/whip/show");
    let mut first = Encoder::libdatachannel(&url, None)?;
    first.until("state connected").await?;
    until_live(&program).await?;
    let viewer = Browser::chromium().await?;
    let player = watching::open_player(&viewer, &program.url("/watch/show")).await?;
    drop(first);
    let mut second = Encoder::libdatachannel(&url, None)?;
    second.until("state connected").await?;
    let decoded = player.evaluate("mediaTree.stats().then((stats) => stats.framesDecoded)").await?;
    let more = format!("mediaTree.stats().then((stats) => stats.framesDecoded > {decoded} + 60)");
    player.wait_until(&more, PATIENCE).await.context("the viewer goes on in its session")?;
    assert_eq!(program.metric("media_tree_whep_sessions{").await?, 1.0);
    second.close().await.map(drop)
}

#[tokio::test]
async fn ffmpeg_publishes_with_a_certificate_of_its_own() -> Result {
    let name = "ffmpeg_publishes_with_a_certificate_of_its_own";
    if !are_here(name, encoders::parts_of_ffmpeg()) {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let certificate = encoders::certificate_of_ffmpeg(folder.path())?;
    let options = [&certificate[..], &["authorization=secret-of-the-encoder".to_owned()]].concat();
    let program = program::node("up").with(&["--publish-tokens", "secret-of-the-encoder"]).start().await?;
    let mut ffmpeg = Encoder::ffmpeg(&program.url("/whip/show"), &options)?;
    ffmpeg.until("state connected").await?;
    until_live(&program).await?;
    watch(name, &program).await?;
    ffmpeg.close().await?;
    until("its session is gone", || async { Ok(program.metric("media_tree_whip_sessions{").await? == 0.0) })
        .await
}
