//! Metrics, log and span set-up. Every metric is declared here once; cores return plain stats.
//!
//! [`Telemetry`] is the registry of one process with a set of handles for each component. Three ways lead to it:
//! rare events call a handle ([`egress::Metrics::join`]); hot loops store their stats into atomics
//! ([`egress::ShardCounters`], [`node::NetworkCounters`]) that are read at scrape time; whole tables that come and go
//! with broadcasts and links are handed over as a snapshot ([`link::Metrics::publish`]). No path takes a lock or looks
//! up a label for a packet.
//!
//! Labels are closed sets, plus the name of the broadcast; what belongs to a broadcast ends with it
//! ([`Telemetry::remove_broadcast`]). SSRC, viewer and address are never labels.
#![forbid(unsafe_code)]

mod collect;
mod drops;
pub mod egress;
pub mod injection;
mod labels;
pub mod link;
pub mod log;
pub mod node;
pub mod process;

use std::borrow::Cow;

use model::{BroadcastId, NodeId, Role, TreeId};
use prometheus_client::registry::Registry;

pub use drops::DropCounters;
pub use labels::{Endpoint, HandshakeFailure, HttpResult, JoinResult, NodeDrop};

/// The media type of [`Telemetry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who reports: the labels of every metric.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `tree_id`.
    pub tree: TreeId,
    /// `node_id`.
    pub node: NodeId,
    /// `node_type`.
    pub role: Role,
}

/// Drop reasons of the cores, as their `as_str` gives them. Given at the start so that every counter exists from then
/// on: a counter that is born at 1 hides its first event from `increase()`.
#[derive(Debug, Clone, Copy, Default)]
pub struct DropReasons<'a> {
    /// Of the fan-out core.
    pub egress: &'a [&'static str],
    /// Of the link core.
    pub link: &'a [&'static str],
    /// Of the publishers' core.
    pub injection: &'a [&'static str],
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    /// The node as a whole.
    pub node: node::Metrics,
    /// Publishers.
    pub injection: injection::Metrics,
    /// Links between nodes, and the media that goes over them.
    pub link: link::Metrics,
    /// Viewers.
    pub egress: egress::Metrics,
}

impl Telemetry {
    /// Declares every metric; all of them that do not belong to a broadcast exist from now on, at 0.
    #[must_use]
    pub fn new(identity: &Identity, reasons: DropReasons<'_>) -> Self {
        let label = |name: &'static str, value: String| (Cow::Borrowed(name), Cow::Owned(value));
        let mut registry = Registry::with_labels(
            [
                label("tree_id", identity.tree.to_string()),
                label("node_id", identity.node.to_string()),
                label("node_type", identity.role.to_string()),
            ]
            .into_iter(),
        );
        Self {
            node: node::Metrics::register(&mut registry),
            injection: injection::Metrics::register(&mut registry, reasons.injection),
            link: link::Metrics::register(&mut registry, reasons.link),
            egress: egress::Metrics::register(&mut registry, reasons.egress),
            registry,
        }
    }

    /// Ends the series of a broadcast that is no more.
    pub fn remove_broadcast(&self, broadcast: &BroadcastId) {
        self.node.remove_broadcast(broadcast);
        self.egress.remove_broadcast(broadcast);
    }

    /// Everything, in the text format of OpenMetrics 1.0 ([`CONTENT_TYPE`]).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string does not fail");
        text
    }
}

/// The part of the registry in which names begin with `media_tree_`.
fn own_names(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix("media_tree")
}
