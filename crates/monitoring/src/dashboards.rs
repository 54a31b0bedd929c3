//! Every dashboard.

mod control;
mod nodes;
mod overview;
mod rtp;
mod viewers;

use crate::dashboard::{Annotation, Dashboard};

/// Uid of the dashboard to begin with.
pub const OVERVIEW: &str = "media-tree-overview";
/// Uid of the dashboard of media in the tree.
pub const RTP: &str = "media-tree-rtp";
/// Uid of the dashboard of machines and processes.
pub const NODES: &str = "media-tree-nodes";
/// Uid of the dashboard of the control plane and what is left to grow into.
pub const CONTROL: &str = "media-tree-scaling";
/// Uid of the dashboard of what viewers see.
pub const VIEWERS: &str = "media-tree-viewers";

/// All that are drawn from metrics.
#[must_use]
pub fn all() -> Vec<Dashboard> {
    vec![
        overview::dashboard(),
        rtp::dashboard(),
        nodes::dashboard(),
        control::dashboard(),
        viewers::dashboard(),
    ]
}

/// What is drawn over every panel.
pub const ANNOTATIONS: [Annotation; 3] = [
    Annotation {
        name: "Deployment",
        // A version that the node did not have a minute ago.
        expression: "max by (tree_id, node_id, version) (media_tree_build_info{<tree>}) \
                     unless max by (tree_id, node_id, version) (media_tree_build_info{<tree>} offset 1m)",
        text: "{{node_id}} runs version {{version}}",
        color: "blue",
    },
    Annotation {
        name: "Change of the tree",
        expression: "sum by (tree_id, kind) (increase(media_tree_controller_decisions_total{<tree>}[1m])) > 0",
        text: "The controller decided: {{kind}}",
        color: "purple",
    },
    Annotation {
        name: "Crash",
        expression: "sum by (tree_id, node_id) (increase(media_tree_pipeline_crashes_total{<tree>}[1m])) > 0",
        text: "The pipeline of {{node_id}} crashed",
        color: "red",
    },
];
