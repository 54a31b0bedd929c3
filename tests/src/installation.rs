//! Nodes that find each other through a store.

use std::collections::BTreeMap;

use anyhow::Context as _;
use client::{Whep, WhepSession};
use model::Kind;
use serde_json::Value;

use crate::program::{self, Builder, Program, until};
use crate::source::Seens;

/// How nodes are told where the store is.
#[derive(Debug, Clone)]
pub struct Installation {
    store: String,
}

impl Installation {
    /// Around this store.
    #[must_use]
    pub fn new(store: &str) -> Self {
        Self { store: store.to_owned() }
    }

    /// Around the store that this controller keeps for others.
    #[must_use]
    pub fn of(controller: &Program) -> Self {
        Self::new(&controller.url(""))
    }

    /// A node of this role and name that belongs to it, on a host of its own as far as it says.
    #[must_use]
    pub fn node(&self, role: &'static str, name: &str) -> Builder {
        program::node(role).with(&["--store", &self.store, "--node-id", name, "--host-name", name])
    }
}

/// Opens `/api/v1` of controllers that are started with it, to callers on other hosts.
pub const OPERATOR_TOKEN: &str = "operator-secret-of-tests";

/// What a controller says of everything.
///
/// # Errors
/// If it does not answer.
pub async fn view(controller: &Program) -> anyhow::Result<Value> {
    let request = reqwest::Client::new().get(controller.url("/api/v1/installation"));
    let answer = request.bearer_auth(OPERATOR_TOKEN).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// One node of it.
///
/// # Errors
/// If the controller does not answer, or does not know the node.
pub async fn node(controller: &Program, name: &str) -> anyhow::Result<Value> {
    let view = view(controller).await?;
    let nodes = view["nodes"].as_array().context("nodes")?;
    nodes.iter().find(|node| node["id"] == name).cloned().with_context(|| format!("node {name}"))
}

/// The parents of a node that are connected and heard.
///
/// # Errors
/// If the controller does not answer.
pub async fn parents(controller: &Program, name: &str) -> anyhow::Result<Vec<String>> {
    let Ok(node) = node(controller, name).await else { return Ok(Vec::new()) };
    let parents = node["parents"].as_array().cloned().unwrap_or_default();
    let alive = parents.iter().filter(|parent| parent["is_alive"] == true);
    let mut names: Vec<String> =
        alive.filter_map(|parent| Some(parent["node"].as_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// Waits until a node has exactly these parents.
///
/// # Errors
/// If it does not come so.
pub async fn until_parents(controller: &Program, name: &str, wanted: &[&str]) -> anyhow::Result<()> {
    let what = format!("{name} takes media from {wanted:?}");
    let waited = until(&what, async || Ok(parents(controller, name).await? == wanted));
    if let Err(error) = waited.await {
        let view = view(controller).await?;
        return Err(error.context(format!("{view:#}")));
    }
    Ok(())
}

/// Waits until `place` knows the broadcast as live.
///
/// # Errors
/// If it does not come so.
pub async fn until_live(place: &Program, broadcast: &str) -> anyhow::Result<()> {
    until(&format!("{broadcast} is live"), async || {
        let list: Value = reqwest::get(place.url("/api/v1/broadcasts")).await?.json().await?;
        let list = list.as_array().cloned().unwrap_or_default();
        Ok(list.iter().any(|entry| entry["id"] == broadcast && entry["state"] == "live"))
    })
    .await
}

/// A viewer whose picture packets are kept.
pub struct Viewer {
    session: WhepSession,
    /// What came.
    pub seens: Seens,
}

impl Viewer {
    /// Joins at `url`.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn join(url: &str) -> anyhow::Result<Self> {
        Ok(Self { session: Whep::connect(url, None).await?, seens: Seens::default() })
    }

    /// The URL of its session: it says which node it is at.
    #[must_use]
    pub fn url(&self) -> &str {
        self.session.url()
    }

    /// Watches for so many more pictures.
    ///
    /// # Errors
    /// If the session ends, or nothing comes for too long.
    pub async fn watch(&mut self, pictures: usize) -> anyhow::Result<()> {
        let enough = self.seens.pictures().len() + pictures;
        while self.seens.pictures().len() < enough {
            let packet = tokio::time::timeout(program::PATIENCE, self.session.receive());
            let packet = packet.await.context("no media comes")?.context("the session ended")?;
            self.seens.add(&packet);
        }
        Ok(())
    }

    /// What it saw, in words.
    #[must_use]
    pub fn summary(&self) -> String {
        format!("{} packets missing, longest pause {:?}", self.seens.missing(), self.seens.longest_pause())
    }
}

/// Receives so many pictures, whatever they show.
///
/// # Errors
/// If the session ends, or nothing comes for too long.
pub async fn receive(session: &mut WhepSession, pictures: usize) -> anyhow::Result<()> {
    let mut count = 0;
    while count < pictures {
        let packet = tokio::time::timeout(program::PATIENCE, session.receive());
        let packet = packet.await.context("no media comes")?.context("the session ended")?;
        count += usize::from(packet.kind == Kind::Video && packet.marker);
    }
    Ok(())
}

/// How many of these session URLs are at each origin.
#[must_use]
pub fn spread<'a>(urls: impl Iterator<Item = &'a str>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for url in urls {
        let origin = url.split("/whep/").next().unwrap_or_default().to_owned();
        *counts.entry(origin).or_default() += 1;
    }
    counts
}
