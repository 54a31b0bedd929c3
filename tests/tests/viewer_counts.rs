//! How many watch, as nodes, broadcasts and trees say: each viewer once, also after nodes have died.

use std::cell::Cell;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use serde_json::Value;
use tests::installation::{Installation, until_live, until_parents, view};
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};
use tests::supervised;
use tokio::process::Command;

type Result = anyhow::Result<()>;

/// What a controller says in one moment.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    tree: u64,
    broadcast: u64,
    /// By node that is not dead, in the order of names.
    nodes: Vec<(String, u64)>,
}

impl Counts {
    fn new(total: u64, nodes: &[(&str, u64)]) -> Self {
        let nodes = nodes.iter().map(|(name, viewers)| ((*name).to_owned(), *viewers)).collect();
        Self { tree: total, broadcast: total, nodes }
    }

    /// Nothing as long as the controller has not heard of tree and broadcast.
    async fn of(controller: &Program) -> anyhow::Result<Option<Self>> {
        let view = view(controller).await?;
        let entries = |list: &str| view[list].as_array().cloned().unwrap_or_default();
        // A number below zero is none.
        let viewers = |entry: &Value| entry.as_u64().with_context(|| format!("a number of viewers: {entry}"));
        let named = |list: &str, name: &str| entries(list).into_iter().find(|entry| entry["id"] == name);
        let (Some(tree), Some(broadcast)) = (named("trees", "main"), named("broadcasts", "show")) else {
            return Ok(None);
        };
        let mut nodes = Vec::new();
        for node in entries("nodes") {
            if node["role"] == "egress" && node["health"] != "dead" {
                let name = node["id"].as_str().context("a name")?.to_owned();
                nodes.push((name, viewers(&node["load"]["connected"])?));
            }
        }
        nodes.sort();
        let (tree, broadcast) = (viewers(&tree["viewers"])?, viewers(&broadcast["viewers"])?);
        Ok(Some(Self { tree, broadcast, nodes }))
    }

    /// Waits for these, and sees to it that there are never more than `most`.
    async fn until(self, controller: &Program, most: u64) -> Result {
        let latest = Cell::new(String::new());
        let are_counted = until("these are counted", async || {
            let Some(counts) = Self::of(controller).await? else { return Ok(false) };
            latest.set(format!("{counts:?}"));
            ensure!(counts.tree <= most && counts.broadcast <= most, "more than {most}");
            Ok(counts == self)
        });
        let are_counted = are_counted.await;
        are_counted.with_context(|| format!("{self:?} are wanted, the latest are {}", latest.take()))
    }
}

async fn join(egress: &Program) -> anyhow::Result<WhepSession> {
    Ok(Whep::connect(&egress.url("/whep/show"), None).await?)
}

/// What `media-tree` prints for operators.
async fn says(controller: &Program, command: &[&str]) -> anyhow::Result<Value> {
    let mut asked = Command::new(program::path()?);
    asked.args(command).args(["--json", "--api", &controller.url("")]);
    let output = asked.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_viewer_is_counted_once_whatever_dies() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let mut first = installation.node("egress", "out-1").start().await?;
    let second = installation.node("egress", "out-2").supervised().start().await?;
    for name in ["out-1", "out-2"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    until_live(&first, "show").await?;
    until_live(&second, "show").await?;
    let mut lost = vec![join(&first).await?, join(&first).await?];
    let mut viewers = vec![join(&second).await?];
    Counts::new(3, &[("out-1", 2), ("out-2", 1)]).until(&controller, 3).await?;

    // A node dies for good. Its viewers are counted with it until it is dead, and come to the other one meanwhile.
    first.signal("KILL")?;
    first.exit_code().await?;
    lost.clear();
    viewers.extend([join(&second).await?, join(&second).await?]);
    Counts::new(3, &[("out-2", 3)]).until(&controller, 5).await?;

    // It comes again under its name, and has nobody.
    first = installation.node("egress", "out-1").in_place_of(&first).start().await?;
    Counts::new(3, &[("out-1", 0), ("out-2", 3)]).until(&controller, 3).await?;
    until_live(&first, "show").await?;
    viewers.push(join(&first).await?);
    Counts::new(4, &[("out-1", 1), ("out-2", 3)]).until(&controller, 4).await?;

    // A process dies whose viewers go on with the next one.
    supervised::kill(&second).await?;
    let resumed = async || Ok(second.metric("media_tree_sessions_resumed_total").await? == 3.0);
    until("its viewers go on", resumed).await?;
    viewers.push(join(&second).await?);
    Counts::new(5, &[("out-1", 1), ("out-2", 4)]).until(&controller, 5).await?;
    viewers.swap_remove(0).close().await?;
    Counts::new(4, &[("out-1", 1), ("out-2", 3)]).until(&controller, 5).await?;

    let audience = says(&controller, &["viewer", "list"]).await?;
    let audience = audience.as_array().and_then(|all| all.first()).context("an audience")?;
    ensure!(audience["broadcast"] == "show" && audience["viewers"] == 4, "{audience:#}");
    let at = |name: &str| {
        let nodes = audience["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().find(|node| node["node"] == name).map(|node| node["viewers"].clone())
    };
    ensure!(at("out-1") == Some(1.into()) && at("out-2") == Some(3.into()), "{audience:#}");
    for command in [["broadcast", "show", "show"], ["tree", "show", "main"]] {
        let shown = says(&controller, &command).await?;
        ensure!(shown["viewers"] == 4, "{command:?}: {shown:#}");
    }
    let shown = says(&controller, &["node", "show", "out-2"]).await?;
    ensure!(shown["load"]["connected"] == 3 && shown["broadcasts"][0]["viewers"] == 3, "{shown:#}");
    drop((source, viewers));
    Ok(())
}
