//! A node's container: what an engine is told of it, and what it tells.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use model::{NodeId, Role, TreeId};
use serde::{Deserialize, Serialize};

use super::{CONFIGURATION, USER};
use crate::NodeSpec;

/// Every node's container has it: who made it.
pub(super) const PLACE: &str = "media-tree.place";
const NODE: &str = "media-tree.node";
const TREE: &str = "media-tree.tree";
const SLOT: &str = "media-tree.slot";
const ROLE: &str = "media-tree.role";
/// First and last, for operators and firewalls too.
const PORTS: &str = "media-tree.ports";

/// What `/dev/shm` may grow to: records of sessions lie there.
const SHARED_MEMORY_BYTES: u64 = 256 << 20;

/// The name of a node's container.
pub(super) fn name(node: &NodeId) -> String {
    format!("media-tree-{node}")
}

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It was never started.
    Created,
    Running,
    Ended,
}

/// A container that was made for a node, by whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Container {
    pub id: String,
    pub place: String,
    pub spec: NodeSpec,
    pub ports: RangeInclusive<u16>,
    pub state: State,
    /// In the engine's words.
    pub status: String,
}

/// What an engine is told: `POST /containers/create`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Create<'a> {
    image: &'a str,
    cmd: [&'a str; 3],
    user: &'a str,
    labels: BTreeMap<&'static str, String>,
    host_config: HostConfig,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfig {
    network_mode: &'static str,
    restart_policy: RestartPolicy,
    shm_size: u64,
    cap_drop: [&'static str; 1],
    security_opt: [&'static str; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: &'static str,
}

impl<'a> Create<'a> {
    pub fn new(image: &'a str, place: &str, spec: &'a NodeSpec, ports: &RangeInclusive<u16>) -> Self {
        let labels = [
            (PLACE, place.to_owned()),
            (NODE, spec.node.to_string()),
            (TREE, spec.tree.to_string()),
            (SLOT, spec.slot.to_string()),
            (ROLE, spec.role.to_string()),
            (PORTS, format!("{}-{}", ports.start(), ports.end())),
        ];
        Self {
            image,
            cmd: [spec.role.as_str(), "--config", CONFIGURATION],
            user: USER,
            labels: labels.into(),
            host_config: HostConfig {
                // A train of packets is one system call, and thousands of viewers are no table of translations.
                network_mode: "host",
                // One keeper of how often it ended and how long it waits: the controller.
                restart_policy: RestartPolicy { name: "no" },
                shm_size: SHARED_MEMORY_BYTES,
                cap_drop: ["ALL"],
                security_opt: ["no-new-privileges"],
            },
        }
    }
}

/// One of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    id: String,
    state: String,
    #[serde(default)]
    status: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Entry {
    /// `None` for what is no node's, and for what is just being removed.
    pub fn container(self) -> Option<Container> {
        container(self.id, &self.labels.unwrap_or_default(), (self.state.as_str(), self.status))
    }
}

/// What `GET /containers/{id}/json` says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Inspected {
    id: String,
    state: InspectedState,
    config: InspectedConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedState {
    status: String,
    #[serde(default)]
    exit_code: i64,
    #[serde(default, rename = "OOMKilled")]
    is_out_of_memory: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedConfig {
    labels: Option<BTreeMap<String, String>>,
}

impl Inspected {
    /// As [`Entry::container`].
    pub fn container(self) -> Option<Container> {
        let out_of_memory = if self.state.is_out_of_memory { ", out of memory" } else { "" };
        let status = format!("{} ({}){out_of_memory}", self.state.status, self.state.exit_code);
        container(self.id, &self.config.labels.unwrap_or_default(), (self.state.status.as_str(), status))
    }
}

fn container(
    id: String,
    labels: &BTreeMap<String, String>,
    (state, status): (&str, String),
) -> Option<Container> {
    let label = |name: &str| labels.get(name).map(String::as_str);
    let (first, last) = label(PORTS)?.split_once('-')?;
    let spec = NodeSpec {
        node: NodeId::new(label(NODE)?).ok()?,
        tree: TreeId::new(label(TREE)?).ok()?,
        slot: label(SLOT)?.parse().ok()?,
        role: label(ROLE)?.parse::<Role>().ok()?,
    };
    let state = match state {
        "created" => State::Created,
        "running" | "paused" | "restarting" => State::Running,
        "exited" | "dead" => State::Ended,
        _ => return None,
    };
    let ports = first.parse().ok()?..=last.parse().ok()?;
    Some(Container { id, place: label(PLACE)?.to_owned(), spec, ports, state, status })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> NodeSpec {
        NodeSpec {
            node: NodeId::new("egress-1").expect("a name"),
            tree: TreeId::new("main").expect("a name"),
            slot: 7,
            role: Role::Egress,
        }
    }

    #[test]
    fn what_is_told_comes_back_and_has_no_secret() {
        let spec = spec();
        let told =
            serde_json::to_value(Create::new("media-tree:1", "docker.here", &spec, &(20_000..=20_003)))
                .expect("JSON");
        assert_eq!(told["Cmd"], json!(["egress", "--config", "/media-tree/node.toml"]));
        assert_eq!(told["HostConfig"]["NetworkMode"], "host");
        assert_eq!(told["HostConfig"]["RestartPolicy"], json!({ "Name": "no" }));
        assert!(told.get("Env").is_none());
        let entry =
            json!({ "Id": "abc", "State": "exited", "Status": "Exited (137)", "Labels": told["Labels"] });
        let entry: Entry = serde_json::from_value(entry).expect("an entry");
        let container = entry.container().expect("a node's");
        assert_eq!((&container.spec, &container.place[..]), (&spec, "docker.here"));
        assert_eq!((container.ports, container.state), (20_000..=20_003, State::Ended));
        let inspected = json!({
            "Id": "abc", "Config": { "Labels": told["Labels"] },
            "State": { "Status": "exited", "ExitCode": 137, "OOMKilled": true }
        });
        let inspected: Inspected = serde_json::from_value(inspected).expect("inspected");
        assert_eq!(inspected.container().expect("a node's").status, "exited (137), out of memory");
    }

    #[test]
    fn what_others_run_is_no_node() {
        for entry in [
            json!({ "Id": "a", "State": "running" }),
            json!({ "Id": "a", "State": "running", "Labels": null }),
            json!({ "Id": "a", "State": "running", "Labels": { "media-tree.place": "docker.here" } }),
        ] {
            let entry: Entry = serde_json::from_value(entry).expect("an entry");
            assert_eq!(entry.container(), None);
        }
    }
}
