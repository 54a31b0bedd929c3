//! Sessions outlive processes: a node is killed under publishers and viewers, and its successor goes on with all of them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use client::demo::{self, Clip};
use client::{Whep, WhepSession, Whip};
use model::Codec;
use tests::browser::Browser;
use tests::crowd::{ANY_RATE, CROWD, Crowd, Watching};
use tests::encoders::{self, Encoder};
use tests::program::{self, Builder, Program, until};
use tests::{tools, watching};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// A picture later than this is more than the short freeze that is promised, however loaded the machine.
const FREEZE_MAX: Duration = Duration::from_secs(4);

/// Where nodes keep their records, and the key that they seal them with.
struct State {
    folder: tempfile::TempDir,
}

impl State {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("key"), "a".repeat(64))?;
        Ok(Self { folder })
    }

    fn directory(&self, role: &str) -> PathBuf {
        self.folder.path().join(role)
    }

    fn node(&self, role: &'static str) -> anyhow::Result<Builder> {
        let (directory, key) = (self.directory(role), self.folder.path().join("key"));
        let arguments = ["--state-dir", text(&directory)?, "--state-key-file", text(&key)?];
        Ok(program::node(role).with(&arguments).with(&ANY_RATE))
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is text")
}

/// Kills a node as the kernel would that is out of memory; its successor starts on the same ports. Gives the time until
/// that is ready.
async fn replace(program: &mut Program, successor: Builder) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    program.signal("KILL")?;
    program.exit_code().await?;
    *program = successor.in_place_of(program).start().await?;
    Ok(begun.elapsed())
}

async fn metric_is(program: &Program, name: &str, expected: f64) -> Result {
    let value = program.metric(name).await?;
    ensure!(value == expected, "{name} is {value}, not {expected}: {}", program.log());
    Ok(())
}

/// Nobody came anew: no POST, no DTLS.
async fn nobody_joined(program: &Program) -> Result {
    metric_is(program, "media_tree_http_requests_total{", 0.0).await?;
    metric_is(program, "media_tree_joins_total{", 0.0).await?;
    metric_is(program, "media_tree_publishes_total{", 0.0).await?;
    metric_is(program, "media_tree_record_refusals_total{", 0.0).await
}

/// Media flows on for so long.
async fn go_on(program: &Program, packets: f64) -> Result {
    let sent = || program.metric("media_tree_viewer_rtp_packets_total{");
    let before = sent().await?;
    until("viewers get media again", || async { Ok(sent().await? > before + packets) }).await
}

fn are_here(name: &str, parts: impl IntoIterator<Item = PathBuf>) -> bool {
    parts.into_iter().all(|part| tools::has(name, &part.to_string_lossy()))
}

async fn on_air(program: &Program) -> anyhow::Result<Encoder> {
    let mut encoder = Encoder::libdatachannel(&program.url("/whip/show"), None)?;
    encoder.until("state connected").await?;
    Ok(encoder)
}

async fn until_live(program: &Program) -> Result {
    until("the broadcast is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_goes_on_with_an_encoder_like_obs_and_a_crowd() -> Result {
    let name = "a_killed_node_goes_on_with_an_encoder_like_obs_and_a_crowd";
    if !are_here(name, encoders::parts_of_libdatachannel()) {
        return Ok(());
    }
    let state = State::new()?;
    let mut program = state.node("up")?.start().await?;
    let obs = on_air(&program).await?;
    until_live(&program).await?;
    let viewer = Watching::begin(&program).await?;
    let crowd = Crowd::gather(&program, "15s").await?;
    go_on(&program, 20_000.0).await?;

    let after = replace(&mut program, state.node("up")?).await?;
    println!("{name}: ready after {} ms", after.as_millis());
    metric_is(&program, "media_tree_sessions_resumed_total", CROWD as f64 + 2.0).await?;
    metric_is(&program, "media_tree_whip_sessions{", 1.0).await?;
    metric_is(&program, "media_tree_whep_sessions{", CROWD as f64 + 1.0).await?;
    metric_is(&program, "media_tree_viewers{", CROWD as f64 + 1.0).await?;
    go_on(&program, 20_000.0).await?;
    nobody_joined(&program).await?;
    crowd.judge(name).await?;
    viewer.judge(name, FREEZE_MAX).await?;
    assert_eq!(obs.close().await?, "200", "the publisher's URL is still one");
    until("all sessions are gone", || async { Ok(program.metric("media_tree_records{").await? == 0.0) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_of_every_role_go_on() -> Result {
    let name = "killed_nodes_of_every_role_go_on";
    if !are_here(name, encoders::parts_of_libdatachannel()) {
        return Ok(());
    }
    let state = State::new()?;
    let mut injection = state.node("injection")?.start().await?;
    let parent = format!("127.0.0.1:{}", injection.link_port);
    let relay_node = || Ok::<_, anyhow::Error>(state.node("relay")?.with(&["--parents", &parent]));
    let mut relay = relay_node()?.start().await?;
    let parent = format!("127.0.0.1:{}", relay.link_port);
    let egress_node = || Ok::<_, anyhow::Error>(state.node("egress")?.with(&["--parents", &parent]));
    let mut egress = egress_node()?.start().await?;
    let obs = on_air(&injection).await?;
    until_live(&egress).await?;
    let viewer = Watching::begin(&egress).await?;
    let crowd = Crowd::gather(&egress, "25s").await?;
    go_on(&egress, 20_000.0).await?;

    let after = replace(&mut injection, state.node("injection")?).await?;
    metric_is(&injection, "media_tree_sessions_resumed_total", 1.0).await?;
    go_on(&egress, 40_000.0).await?;
    nobody_joined(&injection).await?;
    println!("{name}: injection ready after {} ms", after.as_millis());

    let after = replace(&mut relay, relay_node()?).await?;
    go_on(&egress, 40_000.0).await?;
    println!("{name}: relay ready after {} ms", after.as_millis());

    let after = replace(&mut egress, egress_node()?).await?;
    metric_is(&egress, "media_tree_sessions_resumed_total", CROWD as f64 + 1.0).await?;
    go_on(&egress, 40_000.0).await?;
    metric_is(&egress, "media_tree_viewers{", CROWD as f64 + 1.0).await?;
    nobody_joined(&egress).await?;
    println!("{name}: egress ready after {} ms", after.as_millis());

    crowd.judge(name).await?;
    viewer.judge(name, FREEZE_MAX).await?;
    assert_eq!(obs.close().await?, "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_stay_when_their_node_is_killed() -> Result {
    let name = "browsers_stay_when_their_node_is_killed";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let state = State::new()?;
    let mut program = state.node("up")?.start().await?;
    let (publisher, viewer) = (Browser::chromium().await?, Browser::chromium().await?);
    let publishing =
        watching::publish_test_picture(&publisher, &program.url("/publish/show"), "h264").await?;
    until_live(&program).await?;
    let player = watching::open_player(&viewer, &program.url("/watch/show")).await?;
    watching::watch(&player, Duration::from_secs(3)).await?;

    let after = replace(&mut program, state.node("up")?).await?;
    let seen = watching::watch(&player, Duration::from_secs(8)).await?;
    println!("{name}: ready after {} ms; the viewer saw {seen}", after.as_millis());
    metric_is(&program, "media_tree_sessions_resumed_total", 2.0).await?;
    metric_is(&program, "media_tree_joins_total{", 0.0).await?;
    metric_is(&program, "media_tree_publishes_total{", 0.0).await?;
    ensure!(seen.frames_decoded > 100, "{seen}");
    ensure!(seen.freezes < FREEZE_MAX, "{seen}");
    player.close().await?;
    publishing.close().await
}

/// A publisher that plays the built-in clip.
struct OnAir {
    stop: oneshot::Sender<()>,
    playing: JoinHandle<std::result::Result<(), client::CloseError>>,
}

impl OnAir {
    async fn start(program: &Program) -> anyhow::Result<Self> {
        let codecs = [Codec::Opus, Codec::H264];
        let options = client::whip::Options::default();
        let session = Whip::connect(&program.url("/whip/show"), None, &codecs, options).await?;
        let (stop, stopped) = oneshot::channel();
        let playing = tokio::spawn(async move {
            let clip = Clip::built_in();
            tokio::select! {
                _ending = demo::play(&clip, &session) => {}
                _word = stopped => {}
            }
            session.close().await
        });
        Ok(Self { stop, playing })
    }

    async fn stop(self) -> Result {
        let _ = self.stop.send(());
        Ok(self.playing.await??)
    }
}

/// How a sealed record begins, and where its kind stands.
const MAGIC: &[u8] = b"MTR\x01";
const KIND_AT: usize = 4;
const VIEWER: u8 = 2;

/// Changes both versions of one viewer's record, whichever shard has it and whatever its size.
fn tamper(directory: &Path) -> Result {
    let mut looked_at = Vec::new();
    for shard in std::fs::read_dir(directory)? {
        for file in std::fs::read_dir(shard?.path())? {
            let path = file?.path();
            let mut bytes = std::fs::read(&path)?;
            looked_at.push(format!("{} of {} bytes", path.display(), bytes.len()));
            let Some(half_bytes) = half_bytes(&path) else { continue };
            let is_viewers = |half: &[u8]| {
                half.starts_with(MAGIC) && half.get(KIND_AT).is_some_and(|kind| *kind == VIEWER)
            };
            let slots = bytes.chunks_mut(2 * half_bytes);
            let slot = slots.into_iter().find_map(|slot| {
                let is_wanted = slot.chunks(half_bytes).any(is_viewers);
                is_wanted.then_some(slot)
            });
            if let Some(slot) = slot {
                for half in slot.chunks_mut(half_bytes) {
                    half.get_mut(100).into_iter().for_each(|byte| *byte ^= 1);
                }
                return Ok(std::fs::write(&path, &bytes)?);
            }
        }
    }
    anyhow::bail!("no viewer's record in {looked_at:?}")
}

/// Bytes of half a slot of a file such as `records-4k`.
fn half_bytes(path: &Path) -> Option<usize> {
    let name = path.file_name()?.to_str()?;
    let size = name.strip_prefix("records-")?.strip_suffix('k')?;
    Some(size.parse::<usize>().ok()? << 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_record_is_refused_and_the_others_go_on() -> Result {
    let state = State::new()?;
    let mut program = state.node("up")?.start().await?;
    let publisher = OnAir::start(&program).await?;
    until_live(&program).await?;
    let viewers = [
        Whep::connect(&program.url("/whep/show"), None).await?,
        Whep::connect(&program.url("/whep/show"), None).await?,
        Whep::connect(&program.url("/whep/show"), None).await?,
    ];
    until("all have records", || async { Ok(program.metric("media_tree_records{").await? == 4.0) }).await?;

    program.signal("KILL")?;
    program.exit_code().await?;
    tamper(&state.directory("up"))?;
    let program = state.node("up")?.in_place_of(&program).start().await?;
    metric_is(&program, "media_tree_sessions_resumed_total", 3.0).await?;
    let damaged = program.metric_with("media_tree_record_refusals_total{", r#"reason="damaged""#).await?;
    ensure!(damaged == 1.0, "{damaged} damaged: {}", program.log());
    ensure!(program.log().contains("session of an earlier process is not resumed"), "{}", program.log());
    metric_is(&program, "media_tree_viewers{", 2.0).await?;
    go_on(&program, 300.0).await?;
    publisher.stop().await?;
    viewers.into_iter().for_each(WhepSession::vanish);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_an_absent_publisher_stay_through_a_restart() -> Result {
    let state = State::new()?;
    let mut program = state.node("up")?.start().await?;
    let first = OnAir::start(&program).await?;
    until_live(&program).await?;
    let viewer = Watching::begin(&program).await?;
    go_on(&program, 300.0).await?;
    first.stop().await?;
    until("the broadcast waits", || async { Ok(program.metric("pipeline_up{").await? == 0.0) }).await?;

    replace(&mut program, state.node("up")?).await?;
    metric_is(&program, "media_tree_sessions_resumed_total", 1.0).await?;
    metric_is(&program, "media_tree_viewers{", 1.0).await?;
    let listed = reqwest::get(program.url("/api/v1/broadcasts")).await?.text().await?;
    ensure!(listed.contains("\"waiting\""), "the broadcast is known still: {listed}");
    let second = OnAir::start(&program).await?;
    go_on(&program, 300.0).await?;
    viewer.judge("a publisher came back after a restart", Duration::MAX).await?;
    second.stop().await
}
