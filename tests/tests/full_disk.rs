//! A disk that is full: said once, counted, harmless to media, and made good when there is room again.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::crowd::ANY_RATE;
use tests::installation::{Installation, Viewer, until_live, until_parents};
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};
use tests::tools;

type Result = anyhow::Result<()>;

/// Two seconds of pictures.
const PICTURES: usize = 60;

/// A small file system of its own.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    fn mount() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=256k", "media-tree-test"]).arg(folder.path());
        ensure!(mount.status()?.success(), "no file system of one's own");
        Ok(Self { folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> anyhow::Result<String> {
        Ok(self.path(name).to_str().context("a path that is text")?.to_owned())
    }

    /// Takes all the room that is left.
    fn fill(&self) -> Result {
        let mut ballast = File::create(self.path("ballast"))?;
        loop {
            match ballast.write_all(&[0xee; 512]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives it back.
    fn free(&self) -> Result {
        Ok(std::fs::remove_file(self.path("ballast"))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At once for everybody, though a node may still have a file there.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Makes a broadcast that nobody publishes.
async fn make(controller: &Program, name: &str) -> anyhow::Result<StatusCode> {
    let made = Client::new().post(controller.url("/api/v1/broadcasts")).json(&json!({ "id": name }));
    Ok(made.send().await?.status())
}

/// The names of the broadcasts that a node knows.
async fn known(node: &Program) -> anyhow::Result<Vec<String>> {
    let list: Vec<Value> = reqwest::get(node.url("/api/v1/broadcasts")).await?.json().await?;
    Ok(list.iter().filter_map(|entry| Some(entry["id"].as_str()?.to_owned())).collect())
}

fn said(node: &Program, words: &str) -> usize {
    node.log().matches(words).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_disk_is_full_says_so_once_and_has_everything_when_there_is_room() -> Result {
    if !tools::is_root("a_store_whose_disk_is_full_says_so_once_and_has_everything_when_there_is_room") {
        return Ok(());
    }
    let disk = Disk::mount()?;
    let store = format!("embedded:{}", disk.text("store")?);
    let node = || program::node("controller").with(&["--store", &store]).with(&ANY_RATE);
    let mut controller = node().start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    ensure!(make(&controller, "first").await?.is_success());

    disk.fill()?;
    // The last page of the file may have room for some more.
    let mut made = Vec::new();
    let mut refused = None;
    for number in 0..100 {
        let name = format!("early-{number}");
        if !make(&controller, &name).await?.is_success() {
            refused = Some(name);
            break;
        }
        made.push(name);
    }
    refused.context("a full disk takes no hundred broadcasts")?;
    for number in 0..3 {
        ensure!(!make(&controller, &format!("late-{number}")).await?.is_success(), "there is no room");
    }
    ensure!(controller.metric("media_tree_store_failures_total{").await? >= 4.0);
    viewer.watch(PICTURES).await?;
    let mut joined = Viewer::join(&egress.url("/whep/show")).await?;
    joined.watch(PICTURES / 2).await?;
    assert_eq!(said(&controller, "the store file cannot be written"), 1, "{}", controller.log());

    // Nobody writes anything now: what is left over is written all the same.
    disk.free()?;
    let words = "the store file is written again";
    until("the file is written again", async || Ok(said(&controller, words) == 1)).await?;
    ensure!(make(&controller, "last").await?.is_success());
    controller.signal("KILL")?;
    controller.exit_code().await?;
    controller = node().in_place_of(&controller).start().await?;
    made.extend(["first", "last"].map(ToOwned::to_owned));
    until("what was made is there", async || {
        let known = known(&controller).await?;
        Ok(made.iter().all(|name| known.contains(name)))
    })
    .await?;
    viewer.watch(PICTURES).await?;
    println!("with a full disk: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_could_not_keep_what_it_was_told_keeps_it_when_there_is_room() -> Result {
    if !tools::is_root("a_node_that_could_not_keep_what_it_was_told_keeps_it_when_there_is_room") {
        return Ok(());
    }
    let disk = Disk::mount()?;
    let keys = tempfile::tempdir()?;
    let key = keys.path().join("key");
    std::fs::write(&key, "b".repeat(64))?;
    let key = key.to_str().context("a path that is text")?;
    let state = disk.text("state")?;
    let mut controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    disk.fill()?;
    let node = || installation.node("egress", "out").with(&["--state-dir", &state, "--state-key-file", key]);
    let mut egress = node().start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&egress, "show").await?;
    // No record of a session finds room either.
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    assert_eq!(viewer.seens.missing(), 0);
    until("it says so", async || Ok(said(&egress, "is not kept whole") == 1)).await?;
    ensure!(egress.metric("media_tree_record_put_failures_total{").await? > 0.0);

    disk.free()?;
    until("it is kept", async || Ok(said(&egress, "is kept whole again") == 1)).await?;
    assert_eq!(said(&egress, "is not kept whole"), 1, "{}", egress.log());
    controller.signal("KILL")?;
    controller.exit_code().await?;
    egress.signal("KILL")?;
    egress.exit_code().await?;
    egress = node().in_place_of(&egress).start().await?;
    until_live(&egress, "show").await.with_context(|| egress.log())?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    drop(source);
    Ok(())
}
