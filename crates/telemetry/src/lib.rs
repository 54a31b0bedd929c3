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

pub mod access;
pub mod advice;
mod collect;
pub mod controller;
mod drops;
pub mod egress;
mod exposition;
pub mod injection;
mod labels;
pub mod link;
pub mod log;
pub mod node;
pub mod player;
pub mod process;
pub mod publishers;
mod reference;
pub mod rtmp;
pub mod store;
pub mod traces;

use std::sync::atomic::{AtomicUsize, Ordering};

use model::{BroadcastId, NodeId, Role, TreeId};
use prometheus_client::registry::Registry;

pub use collect::Distribution;
pub use drops::DropCounters;
pub use exposition::Exposition;
pub use labels::{
    Closed, CueResult, Endpoint, HandshakeFailure, HttpResult, JoinResult, NodeDrop, RecordRefusal,
    WaitResult,
};
pub use reference::reference;

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
    /// Of every sample.
    labels: String,
    /// Bytes that the latest scrape had: what is made at its full size need not grow.
    size: AtomicUsize,
    /// The node as a whole.
    pub node: node::Metrics,
    /// Publishers.
    pub injection: injection::Metrics,
    /// Encoders that publish over RTMP.
    pub rtmp: rtmp::Metrics,
    /// Links between nodes, and the media that goes over them.
    pub link: link::Metrics,
    /// Viewers.
    pub egress: egress::Metrics,
    /// What players report of themselves.
    pub player: player::Metrics,
    /// Who was not let in, and what an operator's server heard.
    pub access: access::Metrics,
    /// The store of the installation.
    pub store: store::Metrics,
    /// What became of spans.
    pub traces: traces::Metrics,
    /// Decisions. They are shown by processes that can have a controller.
    pub controller: controller::Metrics,
}

impl Telemetry {
    /// Declares every metric; all of them that do not belong to a broadcast exist from now on, at 0.
    #[must_use]
    pub fn new(identity: &Identity, reasons: DropReasons<'_>) -> Self {
        let Identity { tree, node, role } = identity;
        // Nothing in these names needs an escape.
        let labels = format!(r#"tree_id="{tree}",node_id="{node}",node_type="{role}""#);
        let mut registry = Registry::default();
        Self {
            node: node::Metrics::register(&mut registry),
            injection: injection::Metrics::register(&mut registry, reasons.injection),
            rtmp: rtmp::Metrics::register(&mut registry),
            link: link::Metrics::register(&mut registry, reasons.link),
            egress: egress::Metrics::register(&mut registry, reasons.egress),
            player: player::Metrics::register(&mut registry),
            access: access::Metrics::register(&mut registry),
            store: store::Metrics::register(&mut registry),
            traces: traces::Metrics::register(&mut registry),
            controller: match identity.role {
                Role::All | Role::Controller => controller::Metrics::register(&mut registry),
                Role::Injection | Role::Relay | Role::Egress => controller::Metrics::default(),
            },
            registry,
            labels,
            size: AtomicUsize::new(0),
        }
    }

    /// Ends the series of a broadcast that is no more. Those of encoders stay while one of them `is_published`: it holds
    /// them, and begins the next broadcast of this name.
    pub fn remove_broadcast(&self, broadcast: &BroadcastId, is_published: bool) {
        self.egress.remove_broadcast(broadcast);
        if !is_published {
            self.rtmp.remove_broadcast(broadcast);
        }
    }

    /// Everything, as the scraper wants it.
    #[must_use]
    pub fn encode_as(&self, exposition: Exposition) -> String {
        let capacity = self.size.load(Ordering::Relaxed);
        let text = exposition::written(&self.registry, &self.labels, exposition, capacity);
        self.size.store(text.len(), Ordering::Relaxed);
        text
    }

    /// Everything, in the text format of OpenMetrics 1.0.
    #[must_use]
    pub fn encode(&self) -> String {
        self.encode_as(Exposition::OpenMetrics)
    }
}

/// The part of the registry in which names begin with `media_tree_`.
fn own_names(registry: &mut Registry) -> &mut Registry {
    registry.sub_registry_with_prefix("media_tree")
}
