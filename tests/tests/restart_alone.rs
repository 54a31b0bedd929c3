//! Nodes that begin anew while store and controller are away go on as they were told last.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::crowd::ANY_RATE;
use tests::installation::{self, Installation, Viewer, until_live, until_parents, view};
use tests::offers;
use tests::program::{self, Builder, Program, until};
use tests::source::{Shape, Source};

type Result = anyhow::Result<()>;

/// Two seconds of pictures.
const PICTURES: usize = 60;

/// What a small record takes.
const SLOT_BYTES: u64 = 2048;

/// Where nodes keep what they were told, and the key that it is sealed with.
struct State {
    folder: tempfile::TempDir,
}

impl State {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("key"), "b".repeat(64))?;
        Ok(Self { folder })
    }

    /// The node, with a state directory of its own.
    fn keeps(&self, name: &str, node: Builder) -> anyhow::Result<Builder> {
        let (directory, key) = (self.folder.path().join(name), self.folder.path().join("key"));
        Ok(node.with(&["--state-dir", text(&directory)?, "--state-key-file", text(&key)?]))
    }

    /// Where small records of a node lie, keys among them.
    fn records(&self, folder: &str) -> PathBuf {
        self.folder.path().join(folder).join("records-1k")
    }

    /// Places that they take.
    fn slots(&self, folder: &str) -> u64 {
        std::fs::metadata(self.records(folder)).map_or(0, |file| file.len().div_ceil(SLOT_BYTES))
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is text")
}

/// As the kernel ends what takes too much memory.
async fn kill(node: &mut Program) -> Result {
    node.signal("KILL")?;
    node.exit_code().await?;
    Ok(())
}

/// Kills a node; its successor begins on the same ports.
async fn replace(node: &mut Program, successor: Builder) -> Result {
    kill(node).await?;
    *node = successor.in_place_of(node).start().await?;
    Ok(())
}

/// A controller that keeps the store, an injection node, and in another region three relays and an egress node.
struct Tree {
    state: State,
    installation: Installation,
    controller: Program,
    injection: Program,
    relays: Vec<Program>,
    egress: Program,
}

const RELAYS: [&str; 3] = ["relay-1", "relay-2", "relay-3"];

fn node(
    (state, installation): (&State, &Installation),
    (role, name, region): (&'static str, &str, &str),
) -> anyhow::Result<Builder> {
    state.keeps(name, installation.node(role, name).with(&["--region", region]))
}

impl Tree {
    async fn grow() -> anyhow::Result<Self> {
        let state = State::new()?;
        let controller = program::node("controller").start().await?;
        let installation = Installation::of(&controller);
        let of = (&state, &installation);
        let injection = node(of, ("injection", "in", "here"))?.start().await?;
        let mut relays = Vec::new();
        for name in RELAYS {
            relays.push(node(of, ("relay", name, "there"))?.start().await?);
        }
        let egress = node(of, ("egress", "out", "there"))?.start().await?;
        until_parents(&controller, "out", &RELAYS).await?;
        Ok(Self { state, installation, controller, injection, relays, egress })
    }

    fn egress(&self) -> anyhow::Result<Builder> {
        node((&self.state, &self.installation), ("egress", "out", "there"))
    }

    async fn replace_relays(&mut self) -> Result {
        for relay in &mut self.relays {
            kill(relay).await?;
        }
        for (relay, name) in self.relays.iter_mut().zip(RELAYS) {
            let successor = node((&self.state, &self.installation), ("relay", name, "there"))?;
            *relay = successor.in_place_of(relay).start().await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_without_store_and_controller_outlives_the_deaths_of_its_nodes() -> Result {
    let mut tree = Tree::grow().await?;
    let source = Source::publish(&tree.injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&tree.egress, "show").await?;
    let mut viewer = Viewer::join(&tree.egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    kill(&mut tree.controller).await?;

    let successor = tree.egress()?;
    replace(&mut tree.egress, successor).await?;
    until_live(&tree.egress, "show").await.with_context(|| tree.egress.log())?;
    let mut joined = Viewer::join(&tree.egress.url("/whep/show")).await.context("join at a new egress")?;
    for viewer in [&mut viewer, &mut joined] {
        viewer.watch(PICTURES).await.with_context(|| tree.egress.log())?;
    }
    println!("egress killed without a store: {}", viewer.summary());

    tree.replace_relays().await?;
    for viewer in [&mut viewer, &mut joined] {
        viewer.watch(PICTURES).await.with_context(|| tree.relays[0].log())?;
    }
    let mut late = Viewer::join(&tree.egress.url("/whep/show")).await.context("join below new relays")?;
    late.watch(PICTURES).await?;
    println!("all relays killed without a store: {}", viewer.summary());

    // The store is back, and knows nothing: the links are the memory, and nobody moves.
    tree.controller = program::node("controller").in_place_of(&tree.controller).start().await?;
    until("the controller has seen enough to decide", async || {
        let view = view(&tree.controller).await?;
        let nodes = view["nodes"].as_array().map_or(0, Vec::len);
        Ok(view["is_settled"] == true && nodes >= 5 && view["is_leader"] == true)
    })
    .await?;
    until_parents(&tree.controller, "out", &RELAYS).await?;
    for viewer in [&mut viewer, &mut joined, &mut late] {
        viewer.watch(PICTURES).await?;
    }
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_says_counts_more_than_what_was_kept() -> Result {
    let mut tree = Tree::grow().await?;
    kill(&mut tree.egress).await?;
    let order = Client::new().post(tree.controller.url("/api/v1/nodes/relay-1/drain"));
    let order = order.json(&json!({"deadline_secs": 600})).send().await?;
    ensure!(order.status() == StatusCode::ACCEPTED, "{}", order.status());
    until("the relay drains", async || {
        Ok(installation::node(&tree.controller, "relay-1").await?["health"] == "draining")
    })
    .await?;
    tree.egress = tree.egress()?.in_place_of(&tree.egress).start().await?;
    until_parents(&tree.controller, "out", &["relay-2", "relay-3"]).await?;
    // From now on that is what is kept.
    kill(&mut tree.controller).await?;
    let successor = tree.egress()?;
    replace(&mut tree.egress, successor).await?;
    until("the egress has its latest parents", async || {
        Ok(tree.egress.metric("media_tree_link_parents{").await? == 2.0)
    })
    .await?;
    ensure!(!tree.egress.log().contains("relay-1"), "{}", tree.egress.log());
    Ok(())
}

/// What a publisher with this token meets.
async fn publish(node: &Program, broadcast: &str, token: Option<&str>) -> anyhow::Result<(u16, String)> {
    let request = Client::new().post(node.url(&format!("/whip/{broadcast}")));
    let request = request.header("Content-Type", "application/sdp").body(offers::crlf(offers::OBS_PUBLISHER));
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let problem = serde_json::from_str::<Value>(&answer.text().await?).unwrap_or_default();
    Ok((status, problem["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_and_their_keys_are_known_after_a_restart_without_the_store() -> Result {
    let state = State::new()?;
    let mut controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let of = (&state, &installation);
    let mut injection = node(of, ("injection", "in", "here"))?.start().await?;
    let mut egress = node(of, ("egress", "out", "here"))?.start().await?;
    let forgetful = || installation.node("egress", "forgetful").with(&["--region", "here"]);
    let mut bare = forgetful().start().await?;
    for name in ["out", "forgetful"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let made = Client::new().post(controller.url("/api/v1/broadcasts")).json(&json!({"id": "friday"}));
    let made: Value = made.send().await?.error_for_status()?.json().await?;
    let key = made["publish_key"].as_str().context("a key")?.to_owned();
    // What is on disk is what the node has been told.
    for folder in ["in/control-injection", "out/control-egress"] {
        let least = if folder.starts_with("in") { 1 } else { 2 };
        let what = "the broadcast is kept beside the parents";
        until(what, async || Ok(state.slots(folder) >= least)).await?;
        let sealed = std::fs::read(state.records(folder))?;
        ensure!(!sealed.windows(6).any(|bytes| bytes == b"friday"), "not in the clear");
    }
    kill(&mut controller).await?;
    let successors =
        [node(of, ("injection", "in", "here"))?, node(of, ("egress", "out", "here"))?, forgetful()];
    for (node, successor) in [&mut injection, &mut egress, &mut bare].into_iter().zip(successors) {
        replace(node, successor).await?;
    }

    let mut early = Viewer::join(&egress.url("/whep/friday")).await.context("wait for who has the key")?;
    ensure!(Viewer::join(&bare.url("/whep/friday")).await.is_err(), "who keeps nothing knows nothing");
    ensure!(publish(&injection, "friday", None).await? == (401, "token-missing".into()));
    ensure!(
        publish(&injection, "friday", Some("some-other-key-of-16")).await? == (401, "token-rejected".into())
    );
    // Whether anything else has a key by now, nobody can say.
    ensure!(publish(&injection, "monday", None).await? == (503, "access-unavailable".into()));
    let source = Source::publish_as(&injection.url("/whip/friday"), Some(&key), Shape::TINY).await?;
    early.watch(PICTURES).await.with_context(|| egress.log())?;
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_broken_disk_did_not_let_go_is_erased_when_it_works_again() -> Result {
    let state = State::new()?;
    let mut controller = program::node("controller").with(&ANY_RATE).start().await?;
    let installation = Installation::of(&controller);
    let builder = || node((&state, &installation), ("injection", "in", "here"));
    let mut injection = builder()?.outlives_file_limit().start().await?;
    let client = Client::new();
    let make = async |name: &str| -> anyhow::Result<String> {
        let made = client.post(controller.url("/api/v1/broadcasts")).json(&json!({ "id": name }));
        let made: Value = made.send().await?.error_for_status()?.json().await?;
        Ok(made["publish_key"].as_str().context("a key")?.to_owned())
    };
    let kept = async |count: u64| {
        until("the keys are kept", async || Ok(state.slots("in/control-injection") >= count)).await
    };
    // The last one lies beyond the limit, and the node's log does not.
    let others = 64;
    for number in 0..others {
        make(&format!("show-{number}")).await?;
    }
    kept(others).await?;
    let key = make("friday").await?;
    kept(others + 1).await?;

    injection.limit_files(Some(others * SLOT_BYTES))?;
    let deleted = client.delete(controller.url("/api/v1/broadcasts/friday")).send().await?;
    ensure!(deleted.status().is_success(), "{}", deleted.status());
    let said = |words: &str| injection.log().matches(words).count();
    until("it says so", async || Ok(said("is not kept whole") == 1)).await?;
    injection.limit_files(None)?;
    until("it says that it is over", async || Ok(said("is kept whole again") == 1)).await?;
    assert_eq!(said("is not kept whole"), 1, "{}", injection.log());

    kill(&mut controller).await?;
    replace(&mut injection, builder()?).await?;
    ensure!(publish(&injection, "friday", Some(&key)).await? == (503, "access-unavailable".into()));
    Ok(())
}
