//! A tree that grows when many watch and shrinks when they have gone: real processes, started and stopped by their controller.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use client::WhepSession;
use serde_json::Value;
use tests::event_stream::{self, EventStream, Item};
use tests::growth::{self, FEW, LONG, Stage, join, make_tree};
use tests::installation::receive;
use tests::program::{self, PATIENCE, Program, until};
use tests::prometheus::{Alertmanager, PARTS, Prometheus, Setting};
use tests::questions::{dashboards, of_dashboard};
use tests::slack::Slack;
use tests::tools;

type Result = anyhow::Result<()>;

/// Nodes outlive their controller; nothing outlives a test.
struct Nodes(tempfile::TempDir);

impl Nodes {
    fn directory(&self) -> PathBuf {
        self.0.path().join("nodes")
    }

    /// Processes that run there.
    fn pids(&self) -> Vec<String> {
        let Ok(processes) = Path::new("/proc").read_dir() else { return Vec::new() };
        let is_there = |entry: &std::fs::DirEntry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(self.directory()))
        };
        processes
            .flatten()
            .filter(is_there)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// What all of them have printed.
    fn output(&self) -> String {
        let homes = self.directory().read_dir().into_iter().flatten().flatten();
        homes.filter_map(|home| std::fs::read_to_string(home.path().join("output")).ok()).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- output of provisioned nodes ---\n{}", self.output());
        }
        for pid in self.pids() {
            let _ = std::process::Command::new("kill").args(["-KILL", &pid]).status();
        }
    }
}

/// A controller that starts nodes in a directory of its own.
fn controller(nodes: &Nodes) -> program::Builder {
    // Beyond the ports that the kernel gives to those who connect somewhere, and those of `scaling_docker`.
    let port = 62_000 + std::process::id() % 80 * 40;
    growth::controller().with(&[
        "--scaling-directory",
        nodes.directory().to_str().unwrap_or_default(),
        "--scaling-port",
        &port.to_string(),
    ])
}

/// A tree that grows, and the nodes that its controller starts.
struct Grown {
    stage: Stage,
    nodes: Nodes,
}

impl Grown {
    async fn set() -> anyhow::Result<Self> {
        let nodes = Nodes(tempfile::tempdir()?);
        let stage = Stage::set(controller(&nodes)).await?;
        Ok(Self { stage, nodes })
    }

    /// Fills the egress node that was there, until the tree has a sub-tree.
    async fn grow(&self) -> anyhow::Result<Vec<WhepSession>> {
        self.stage.until_slots(&[("warm", 1), ("cold", 1)]).await?;
        ensure!(self.nodes.pids().len() >= 2, "the warm relay runs, under its supervisor");
        self.stage.fill().await
    }
}

/// A viewer that does as players do: told to go elsewhere, it makes its new session before it ends the old one.
struct Follower {
    session: WhepSession,
    events: EventStream,
}

impl Follower {
    async fn new(session: WhepSession) -> anyhow::Result<Self> {
        let stream = event_stream::create(session.url(), &["reconnect"]).await?;
        Ok(Self { session, events: EventStream::open(&stream).await? })
    }

    /// Watches until it is told to go elsewhere, and goes there.
    async fn follow(mut self) -> anyhow::Result<WhepSession> {
        let place = loop {
            tokio::select! {
                packet = self.session.receive() => {
                    packet.context("it was cut before it was told to go elsewhere")?;
                }
                item = self.events.next_within(LONG) => match item?.context("it was not told to go elsewhere")? {
                    Item::Comment => {}
                    Item::Event(kind, data) if kind == "reconnect" => break data["url"].clone(),
                    other => anyhow::bail!("{other:?}"),
                },
            }
        };
        let mut next = join(place.as_str().context("a place")?).await?;
        receive(&mut next, FEW).await?;
        receive(&mut self.session, 1).await.context("the old session is there until it is ended")?;
        self.session.close().await?;
        Ok(next)
    }
}

/// Prometheus, and what it cannot be configured without; ends with its value.
struct Watch {
    prometheus: Prometheus,
    _alertmanager: Alertmanager,
    _slack: Slack,
}

impl Watch {
    /// Looks at everything each second; `None` where it is not on this machine.
    async fn begin(name: &str, controller: &Program) -> anyhow::Result<Option<Self>> {
        if !PARTS.iter().all(|part| tools::has(name, part)) {
            return Ok(None);
        }
        let slack = Slack::start().await?;
        let alertmanager = Alertmanager::start(&slack.url()).await?;
        let setting = Setting { controller, alertmanager: &alertmanager, rules: &[] };
        let prometheus = Prometheus::start(setting).await?;
        Ok(Some(Self { prometheus, _alertmanager: alertmanager, _slack: slack }))
    }

    /// What only a tree that grows has is shown on the dashboards, and its nodes say which slots brought them.
    async fn growth_is_seen(&self) -> Result {
        let all: Vec<_> = dashboards()?.iter().flat_map(of_dashboard).collect();
        let of_growth = all.iter().filter(|question| question.is_of_growth());
        let mut expressions: Vec<String> = of_growth.map(|question| question.expression.clone()).collect();
        ensure!(!expressions.is_empty(), "no panel asks for it");
        for (state, role) in [("warm", "relay"), ("attached", "egress")] {
            expressions.push(format!(r#"media_tree_node_slot{{state="{state}",node_type="{role}"}} == 1"#));
        }
        for expression in &expressions {
            let what = format!("{expression} has data");
            until(&what, async || self.prometheus.has_data(expression).await).await?;
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_grows_when_its_places_are_taken_and_shrinks_without_cutting_anybody() -> Result {
    const NAME: &str = "a_tree_grows_when_its_places_are_taken_and_shrinks_without_cutting_anybody";
    let grown = Grown::set().await?;
    let stage = &grown.stage;
    let watch = Watch::begin(NAME, &stage.controller).await?;
    let crowd = grown.grow().await?;
    let mut late = Vec::new();
    for _ in 0..2 {
        let mut viewer = stage.join().await?;
        receive(&mut viewer, FEW).await?;
        ensure!(!stage.is_at_first(viewer.url()), "that one is full");
        late.push(Follower::new(viewer).await?);
    }
    let c = &stage.controller;
    ensure!(c.metric_with("media_tree_slots{", r#"state="attached""#).await? == 1.0);
    ensure!(c.metric("media_tree_provision_seconds_count{").await? >= 2.0, "a warm relay and a sub-tree");
    ensure!(c.metric("media_tree_provision_failures_total{").await? == 0.0);
    ensure!(c.metric("media_tree_scaling_places{").await? > 0.0);
    ensure!(c.metric("media_tree_scaling_demand{").await? >= 0.0);
    if let Some(watch) = &watch {
        watch.growth_is_seen().await?;
    }

    for viewer in crowd {
        viewer.close().await?;
    }
    let moved = futures_util::future::join_all(late.into_iter().map(Follower::follow)).await;
    let mut viewers = moved.into_iter().collect::<anyhow::Result<Vec<WhepSession>>>()?;
    stage.until_slots(&[("warm", 1), ("cold", 1)]).await?;
    for viewer in &mut viewers {
        ensure!(stage.is_at_first(viewer.url()), "led to {}", viewer.url());
        receive(viewer, FEW).await?;
    }
    let decisions: Value = reqwest::get(stage.controller.url("/api/v1/decisions")).await?.json().await?;
    let kinds: Vec<&str> =
        decisions.as_array().into_iter().flatten().filter_map(|it| it["kind"].as_str()).collect();
    for kind in ["reserve", "grow", "attach", "drain", "decommission"] {
        ensure!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_killed_finds_its_nodes_again() -> Result {
    let mut grown = Grown::set().await?;
    let _crowd = grown.grow().await?;
    let (stage, nodes) = (&mut grown.stage, &grown.nodes);
    let mut viewer = stage.join().await?;
    receive(&mut viewer, FEW).await?;
    let before = nodes.pids();

    // Its store was in its memory, and is gone with it.
    stage.controller.signal("KILL")?;
    stage.controller.exit_code().await?;
    receive(&mut viewer, FEW).await.context("media needs no controller")?;
    stage.controller = controller(nodes).in_place_of(&stage.controller).start().await?;
    make_tree(&stage.controller).await?;
    stage.until_slots(&[("attached", 1), ("warm", 1), ("cold", 1)]).await?;
    receive(&mut viewer, FEW).await?;
    let mut after = nodes.pids();
    after.retain(|pid| before.contains(pid));
    ensure!(after.len() == before.len(), "the same processes run: {before:?} {:?}", nodes.pids());
    stage.until_healthy(6).await?;
    ensure!(tokio::time::timeout(PATIENCE, receive(&mut viewer, FEW)).await?.is_ok());
    Ok(())
}
