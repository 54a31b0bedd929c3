//! Records of sessions: sealed files that follow the sessions of the real program.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::demo::{self, Clip};
use client::{Whep, WhepSession, Whip};
use model::Codec;
use tests::offers::attributes;
use tests::program::{self, Program, until};
use tests::tools;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Result = anyhow::Result<()>;

/// Where a node keeps its records, and the key that it seals them with.
struct State {
    folder: tempfile::TempDir,
}

impl State {
    fn new() -> anyhow::Result<Self> {
        let state = Self { folder: tempfile::tempdir()? };
        state.use_key('a')?;
        Ok(state)
    }

    fn use_key(&self, digit: char) -> Result {
        Ok(std::fs::write(self.key_file(), digit.to_string().repeat(64))?)
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn key_file(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    async fn node(&self) -> anyhow::Result<Program> {
        let (directory, key_file) = (self.directory(), self.key_file());
        let arguments = ["--state-dir", text(&directory)?, "--state-key-file", text(&key_file)?];
        program::node("up").with(&arguments).with(&["--broadcasts", "show"]).start().await
    }

    /// Every file and folder.
    fn entries(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = vec![self.directory()];
        let mut next = 0;
        while let Some(path) = found.get(next).cloned() {
            if path.is_dir() {
                for entry in path.read_dir()? {
                    found.push(entry?.path());
                }
            }
            next += 1;
        }
        Ok(found)
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is text")
}

/// A publisher that plays the built-in clip.
struct OnAir {
    answer: String,
    url: String,
    stop: oneshot::Sender<()>,
    playing: JoinHandle<std::result::Result<(), client::CloseError>>,
}

impl OnAir {
    async fn start(program: &Program) -> anyhow::Result<Self> {
        let codecs = [Codec::Opus, Codec::H264];
        let options = client::whip::Options::default();
        let session = Whip::connect(&program.url("/whip/show"), None, &codecs, options).await?;
        let (stop, stopped) = oneshot::channel();
        let (answer, url) = (session.answer().to_owned(), session.url().to_owned());
        let playing = tokio::spawn(async move {
            let clip = Clip::built_in();
            tokio::select! {
                _ending = demo::play(&clip, &session) => {}
                _word = stopped => {}
            }
            session.close().await
        });
        Ok(Self { answer, url, stop, playing })
    }

    async fn stop(self) -> Result {
        let _ = self.stop.send(());
        Ok(self.playing.await??)
    }
}

async fn watch(program: &Program) -> anyhow::Result<WhepSession> {
    Ok(Whep::connect(&program.url("/whep/show"), None).await?)
}

async fn until_records(program: &Program, count: f64) -> Result {
    let what = format!("{count} records");
    until(&what, || async { Ok(program.metric("media_tree_records{").await? == count) }).await
}

async fn kill(mut program: Program) -> Result {
    program.signal("KILL")?;
    program.exit_code().await?;
    Ok(())
}

#[tokio::test]
async fn sessions_have_sealed_records_that_end_with_them() -> Result {
    let state = State::new()?;
    let program = state.node().await?;
    let publisher = OnAir::start(&program).await?;
    let viewers = [watch(&program).await?, watch(&program).await?];
    until_records(&program, 3.0).await?;

    let answers = [publisher.answer.as_str(), viewers[0].answer(), viewers[1].answer()];
    let urls = [publisher.url.as_str(), viewers[0].url(), viewers[1].url()];
    let mut secrets: Vec<&str> = urls.iter().filter_map(|url| url.rsplit('/').next()).collect();
    for name in ["ice-ufrag", "ice-pwd", "ssrc"] {
        secrets.extend(answers.iter().flat_map(|answer| attributes(answer, name)));
    }
    secrets.extend(["show", "profile-level-id"]);
    assert!(secrets.len() > 10, "{secrets:?}");
    let mut record_bytes = 0;
    for path in state.entries()? {
        let mode = path.metadata()?.permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        if path.is_dir() {
            continue;
        }
        let bytes = std::fs::read(&path)?;
        record_bytes += bytes.len();
        for secret in &secrets {
            let is_there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_there, "{secret} stands in {}", path.display());
        }
    }
    assert!(record_bytes > 3 * 500, "{record_bytes}");

    for (ended, viewer) in viewers.into_iter().enumerate() {
        viewer.close().await?;
        until_records(&program, 2.0 - ended as f64).await?;
    }
    publisher.stop().await?;
    until_records(&program, 0.0).await?;
    kill(program).await?;
    let log = state.node().await?.log();
    assert!(!log.contains("earlier process") && !log.contains("another key"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_drained_node_leaves_no_records() -> Result {
    let state = State::new()?;
    let mut program = state.node().await?;
    let publisher = OnAir::start(&program).await?;
    let viewer = watch(&program).await?;
    until_records(&program, 2.0).await?;
    program.signal("TERM")?;
    program.exit_code().await?;
    let log = state.node().await?.log();
    assert!(!log.contains("earlier process"), "{log}");
    viewer.vanish();
    drop(publisher);
    Ok(())
}

#[tokio::test]
async fn records_of_another_key_are_refused_one_by_one() -> Result {
    let state = State::new()?;
    let program = state.node().await?;
    let publisher = OnAir::start(&program).await?;
    let viewers = [watch(&program).await?, watch(&program).await?];
    until_records(&program, 3.0).await?;
    kill(program).await?;
    drop((publisher, viewers));

    state.use_key('b')?;
    let program = state.node().await?;
    let log = program.log();
    assert!(log.contains("sealed with another key") && !log.contains("damaged"), "{log}");
    let refused = || program.metric_with("media_tree_record_refusals_total{", r#"reason="foreign""#);
    assert!(refused().await? >= 3.0, "{log}");
    assert_eq!(program.metric("media_tree_sessions_resumed_total").await?, 0.0);
    watch(&program).await?.close().await?;
    Ok(())
}

#[tokio::test]
async fn without_a_key_nothing_is_written_and_the_log_says_so() -> Result {
    let state = State::new()?;
    let directory = state.directory();
    let program =
        program::node("up").with(&["--state-dir", text(&directory)?, "--broadcasts", "show"]).start().await?;
    let viewer = watch(&program).await?;
    assert!(program.log().contains("no key, no resume"), "{}", program.log());
    assert_eq!(program.metric("media_tree_record_puts_total").await?, 0.0);
    assert!(!directory.exists());
    viewer.close().await?;
    Ok(())
}

/// A file system of its own; unmounted with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> anyhow::Result<Self> {
        std::fs::create_dir(&at)?;
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16k,mode=700", "media-tree-test", text(&at)?])
            .status()?;
        anyhow::ensure!(mount.success(), "mount a small disk");
        Ok(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_stops_no_media() -> Result {
    if !tools::is_root("a_full_disk_stops_no_media") {
        return Ok(());
    }
    let state = State::new()?;
    let _disk = SmallDisk::mount(state.directory())?;
    let program = state.node().await?;
    let publisher = OnAir::start(&program).await?;
    let viewers = [watch(&program).await?, watch(&program).await?, watch(&program).await?];
    for viewer in &viewers {
        until("media flows", || async { Ok(viewer.stats().video.packets > 100) }).await?;
    }
    assert!(program.metric("media_tree_record_put_failures_total").await? > 0.0);
    assert!(program.metric("media_tree_records{").await? < 4.0);
    let log = program.log();
    let complaints = log.matches("session records are not written").count();
    assert!((1..=3).contains(&complaints), "once a minute for each store: {log}");
    for viewer in viewers {
        viewer.close().await?;
    }
    publisher.stop().await
}

#[tokio::test]
async fn a_hundred_viewers_cost_few_writes() -> Result {
    const VIEWERS: usize = 100;
    let state = State::new()?;
    let program = state.node().await?;
    let publisher = OnAir::start(&program).await?;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let options = client::whep::Options { queue_packets_max: 0, ..Default::default() };
        viewers.push(Whep::connect_with(&program.url("/whep/show"), None, options).await?);
    }
    until_records(&program, 1.0 + VIEWERS as f64).await?;
    until("everybody is live", || async { Ok(program.metric("media_tree_viewers_replaying").await? == 0.0) })
        .await?;

    let puts = || program.metric("media_tree_record_puts_total");
    let packets = || program.metric("media_tree_viewer_rtp_packets_total");
    let (begun, puts_before, packets_before) = (Instant::now(), puts().await?, packets().await?);
    until("a while has passed", || async { Ok(begun.elapsed() > Duration::from_secs(12)) }).await?;
    let elapsed = begun.elapsed().as_secs_f64();
    let writes = (puts().await? - puts_before) / elapsed;
    let sent = (packets().await? - packets_before) / elapsed;
    println!("{VIEWERS} viewers: {writes:.1} records written a second for {sent:.0} packets a second");
    assert!(sent > 50.0 * VIEWERS as f64, "{sent} packets a second");
    // Blocks of 128 sequence numbers and 64 reports, and the publisher's once a second.
    assert!(writes < sent / 100.0, "{writes} a second for {sent} packets");
    assert_eq!(program.metric("media_tree_record_put_failures_total").await?, 0.0);
    publisher.stop().await
}
