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

/// Whether a viewer's session is at this node. Whoever joins may be sent on to the other one.
fn is_at(viewer: &WhepSession, node: &Program) -> bool {
    viewer.url().starts_with(&node.url(""))
}

/// What is to be counted: all viewers, at `out-1` and `out-2` as far as they are there.
fn counted(viewers: &[WhepSession], nodes: [Option<&Program>; 2]) -> Counts {
    let nodes = nodes.into_iter().zip(["out-1", "out-2"]).filter_map(|(node, name)| {
        let node = node?;
        let here = viewers.iter().filter(|viewer| is_at(viewer, node)).count();
        Some((name.to_owned(), here as u64))
    });
    let total = viewers.len() as u64;
    Counts { tree: total, broadcast: total, nodes: nodes.collect() }
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
    let mut viewers = vec![join(&first).await?, join(&first).await?, join(&second).await?];
    counted(&viewers, [Some(&first), Some(&second)]).until(&controller, 3).await?;

    // A node dies for good. Its viewers are counted with it until it is dead, and come to the other one meanwhile.
    first.signal("KILL")?;
    first.exit_code().await?;
    let lost = viewers.extract_if(.., |viewer| is_at(viewer, &first)).count();
    ensure!(lost > 0, "it had somebody");
    for _ in 0..lost {
        viewers.push(join(&second).await?);
    }
    counted(&viewers, [None, Some(&second)]).until(&controller, 3 + lost as u64).await?;

    // It comes again under its name, and has nobody.
    first = installation.node("egress", "out-1").in_place_of(&first).start().await?;
    counted(&viewers, [Some(&first), Some(&second)]).until(&controller, 3).await?;
    until_live(&first, "show").await?;
    viewers.push(join(&first).await?);
    counted(&viewers, [Some(&first), Some(&second)]).until(&controller, 4).await?;

    // A process dies whose viewers go on with the next one.
    let held = viewers.iter().filter(|viewer| is_at(viewer, &second)).count();
    supervised::kill(&second).await?;
    let resumed = async || Ok(second.metric("media_tree_sessions_resumed_total").await? == held as f64);
    until("its viewers go on", resumed).await?;
    viewers.push(join(&second).await?);
    counted(&viewers, [Some(&first), Some(&second)]).until(&controller, 5).await?;
    viewers.swap_remove(0).close().await?;
    counted(&viewers, [Some(&first), Some(&second)]).until(&controller, 5).await?;

    let audience = says(&controller, &["viewer", "list"]).await?;
    let audience = audience.as_array().and_then(|all| all.first()).context("an audience")?;
    ensure!(audience["broadcast"] == "show" && audience["viewers"] == 4, "{audience:#}");
    let at = |name: &str| {
        let nodes = audience["nodes"].as_array().cloned().unwrap_or_default();
        nodes.into_iter().find(|node| node["node"] == name).map(|node| node["viewers"].clone())
    };
    let here = |node: &Program| viewers.iter().filter(|viewer| is_at(viewer, node)).count();
    let [here_first, here_second] = [&first, &second].map(here);
    let is_told = |name: &str, viewers: usize| match at(name) {
        Some(told) => told == viewers,
        None => viewers == 0,
    };
    ensure!(is_told("out-1", here_first) && is_told("out-2", here_second), "{audience:#}");
    for command in [["broadcast", "show", "show"], ["tree", "show", "main"]] {
        let shown = says(&controller, &command).await?;
        ensure!(shown["viewers"] == 4, "{command:?}: {shown:#}");
    }
    let shown = says(&controller, &["node", "show", "out-2"]).await?;
    let told = [&shown["load"]["connected"], &shown["broadcasts"][0]["viewers"]];
    ensure!(told.iter().all(|told| **told == here_second), "{shown:#}");
    drop((source, viewers));
    Ok(())
}
