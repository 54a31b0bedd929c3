//! An installation whose nodes stand on hosts of their own, so that hosts can be lost: a controller with its store, and
//! nodes that know nothing but that.

use std::time::Duration;

use crate::installation::{OPERATOR_TOKEN, view};
use crate::network::{Host, Hosts, PUBLISH_TOKEN, Path};
use crate::program::{Builder, Program, until};
use crate::source::{Shape, Source};

/// Nothing gets through.
pub const CUT: Path =
    Path { loss: 1.0, delay: Duration::ZERO, jitter: Duration::ZERO, bitrate: None, lets_no_udp: false };
/// The usual way.
pub const CLEAR: Path = Path { loss: 0.0, ..CUT };
/// Pictures of the encoder that healing is watched with: a keyframe each second.
pub const LIVELY: Shape = Shape { frames_a_group: 30, ..Shape::OBS };

/// A controller with its store on a host of its own, and hosts for nodes.
pub struct Installation {
    /// All of them.
    pub hosts: Hosts,
    store: String,
    /// The controller, which is the store, too.
    pub controller: Program,
}

impl Installation {
    /// Hosts of these names, and the controller at work.
    ///
    /// # Errors
    /// If there can be no hosts, or the controller does not start.
    pub async fn begin(seed: u64, names: &[&str]) -> anyhow::Result<Self> {
        Self::begin_with(seed, names, &[]).await
    }

    /// The same, with more arguments for the controller.
    ///
    /// # Errors
    /// As [`Installation::begin`].
    pub async fn begin_with(seed: u64, names: &[&str], arguments: &[&str]) -> anyhow::Result<Self> {
        let hosts = Hosts::new(seed, &[&["controller"], names].concat())?;
        let controller = hosts.node("controller", "controller", &[]).with(arguments);
        let controller = controller.with(&["--operator-tokens", OPERATOR_TOKEN]).start().await?;
        Ok(Self { store: controller.url(""), hosts, controller })
    }

    /// A node of this role on the host that has its name.
    #[must_use]
    pub fn node(&self, role: &'static str, name: &str) -> Builder {
        self.hosts.node(role, name, &[]).with(&[
            "--store",
            &self.store,
            "--node-id",
            name,
            "--host-name",
            name,
        ])
    }

    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &str) -> &Host {
        self.hosts.host(name)
    }

    /// An encoder that publishes `show`, asking at this door.
    ///
    /// # Errors
    /// If it cannot.
    pub async fn publish(&self, door: &Program) -> anyhow::Result<Source> {
        Source::publish_as(&door.url("/whip/show"), Some(PUBLISH_TOKEN), LIVELY).await
    }

    /// As the controller sees it; `gone` where it does not know the node any more.
    ///
    /// # Errors
    /// If the controller does not answer.
    pub async fn health(&self, name: &str) -> anyhow::Result<String> {
        let view = view(&self.controller).await?;
        let node = view["nodes"].as_array().into_iter().flatten().find(|node| node["id"] == name);
        Ok(node.and_then(|node| node["health"].as_str()).unwrap_or("gone").to_owned())
    }

    /// Waits until the controller sees it so.
    ///
    /// # Errors
    /// If it does not come so.
    pub async fn until_health(&self, name: &str, wanted: &str) -> anyhow::Result<()> {
        until(&format!("{name} is {wanted}"), async || Ok(self.health(name).await? == wanted)).await
    }
}
