//! A tree that grows when its places are taken: its controller, its first nodes, its publisher, its viewers.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use serde_json::{Value, json};

use crate::installation::{receive, until_live, until_parents};
use crate::program::{self, PATIENCE, Program, until};
use crate::source::{Shape, Source};

/// The tree. The controller itself belongs to another one, which has no other node and keeps no reserve.
pub const TREE: &str = "grown";
/// Places of each egress node.
const PLACES: usize = 4;
/// Some pictures.
pub const FEW: usize = 10;
/// A sub-tree that goes takes a cool-down and what its viewers and nodes take. Nothing waits that long when all is well.
pub const LONG: Duration = Duration::from_secs(180);

/// A controller that lets trees grow, of which one has to say how it starts nodes.
#[must_use]
pub fn controller() -> program::Builder {
    program::node("controller").with(&[
        "--scaling=on",
        "--scaling-lead=1s",
        "--scaling-cool-down=5s",
        "--scaling-in-percent=60",
        // What it starts is configured as it is itself.
        "--viewers-max",
        &PLACES.to_string(),
    ])
}

/// A controller, an injection node, an egress node, and a publisher.
pub struct Stage {
    /// The controller.
    pub controller: Program,
    egress: Program,
    _injection: Program,
    _source: Source,
}

/// Joins, and comes again when told to try again soon, as players do: places are promised for some seconds.
///
/// # Errors
/// If it is refused for another reason, or for too long.
pub async fn join(url: &str) -> anyhow::Result<WhepSession> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Whep::connect(url, None).await {
            Ok(session) => return Ok(session),
            Err(error) if error.to_string().contains("503") && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// A tree of two nodes, with sub-trees of two.
///
/// # Errors
/// If the controller refuses.
pub async fn make_tree(controller: &Program) -> anyhow::Result<()> {
    let shape = json!({
        "id": TREE, "relay": 0, "egress": 1, "sub_tree_egress": 2, "warm_slots": 1, "cold_slots": 1, "nodes_max": 12
    });
    let made = reqwest::Client::new().post(controller.url("/api/v1/trees")).json(&shape).send().await?;
    ensure!(made.status() == 201, "{}", made.text().await?);
    Ok(())
}

impl Stage {
    /// Starts them all, and waits until there is something to see.
    ///
    /// # Errors
    /// If one of them does not start.
    pub async fn set(controller: program::Builder) -> anyhow::Result<Self> {
        let controller = controller.start().await?;
        make_tree(&controller).await?;
        let store = controller.url("");
        let of_tree =
            |role, name| program::node(role).with(&["--store", &store, "--node-id", name, "--tree-id", TREE]);
        let injection = of_tree("injection", "in").start().await?;
        let egress = of_tree("egress", "out").with(&["--viewers-max", &PLACES.to_string()]).start().await?;
        until_parents(&controller, "out", &["in"]).await?;
        let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
        until_live(&controller, "show").await?;
        until_live(&egress, "show").await?;
        Ok(Self { controller, egress, _injection: injection, _source: source })
    }

    /// Joins where the controller sends viewers.
    ///
    /// # Errors
    /// As [`join`].
    pub async fn join(&self) -> anyhow::Result<WhepSession> {
        join(&self.controller.url("/whep/show")).await
    }

    async fn slots(&self) -> anyhow::Result<Vec<Value>> {
        let list: Value = reqwest::get(self.controller.url("/api/v1/slots")).await?.json().await?;
        list.as_array().cloned().context("a list")
    }

    /// Waits until as many slots as these are in these states.
    ///
    /// # Errors
    /// If it does not come so; with what was decided.
    pub async fn until_slots(&self, wanted: &[(&str, usize)]) -> anyhow::Result<()> {
        let count = |slots: &[Value], state: &str| slots.iter().filter(|slot| slot["state"] == state).count();
        let all: usize = wanted.iter().map(|(_, number)| number).sum();
        let reached = async {
            loop {
                // A controller that was just started does not answer yet.
                if let Ok(slots) = self.slots().await
                    && slots.len() == all
                    && wanted.iter().all(|(state, number)| count(&slots, state) == *number)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(LONG, reached).await.is_err() {
            let decisions = reqwest::get(self.controller.url("/api/v1/decisions")).await?.text().await?;
            anyhow::bail!("not {wanted:?}: {:#?} {decisions}", self.slots().await?);
        }
        Ok(())
    }

    /// Fills the egress node that was there, until the tree has a sub-tree.
    ///
    /// # Errors
    /// If viewers cannot join there, or no sub-tree comes.
    pub async fn fill(&self) -> anyhow::Result<Vec<WhepSession>> {
        let mut viewers = Vec::new();
        for _ in 0..PLACES {
            let mut viewer = self.join().await?;
            receive(&mut viewer, FEW).await?;
            ensure!(self.is_at_first(viewer.url()), "led to {}", viewer.url());
            viewers.push(viewer);
        }
        self.until_slots(&[("attached", 1), ("warm", 1), ("cold", 1)]).await?;
        Ok(viewers)
    }

    /// Waits until so many nodes of the tree are ready, those that were there first included.
    ///
    /// # Errors
    /// If it does not come so.
    pub async fn until_healthy(&self, count: usize) -> anyhow::Result<()> {
        until(&format!("{count} nodes are ready"), async || {
            let view: Value = reqwest::get(self.controller.url("/api/v1/installation")).await?.json().await?;
            let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
            Ok(nodes.iter().filter(|node| node["tree"] == TREE && node["health"] == "ready").count() == count)
        })
        .await
    }

    /// Whether a session is at the egress node that was there first.
    #[must_use]
    pub fn is_at_first(&self, session: &str) -> bool {
        session.starts_with(&self.egress.url("/whep/"))
    }
}
