//! The control plane, and what is left to grow into.

use super::CONTROL;
use crate::dashboard::{Dashboard, Panel, Unit};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        CONTROL,
        "Scaling",
        "What the tree is made of, what is left to grow into, and what the controllers decide.",
    )
    .section("The installation", installation())
    .section("What is left", headroom())
    .section("Growing and shrinking", growing())
    .section("Controllers", controllers())
    .section("Store", store())
}

fn installation() -> [Panel; 6] {
    [
        Panel::number("Trees", Unit::Count, "Trees that the controllers know.")
            .asks("max(media_tree_controller_trees)", "trees"),
        Panel::number("Broadcasts", Unit::Count, "Broadcasts that the controllers know, live or waiting.")
            .asks("sum(max by (state) (media_tree_controller_broadcasts))", "broadcasts"),
        Panel::number("Viewers", Unit::Count, "Viewers that the nodes told the controllers of.")
            .asks("max(media_tree_controller_viewers)", "viewers"),
        Panel::number(
            "Shortcomings",
            Unit::Count,
            "What more or other nodes would mend; `media-tree status` says it in words.",
        )
        .asks("max(media_tree_controller_findings)", "shortcomings")
        .limits(0.5, 1.0)
        .alert("MediaTreeShortOfNodes"),
        Panel::lines("Nodes by role", Unit::Count, "Nodes that are ready.").asks(
            r#"sum by (role) (max by (role, state) (media_tree_controller_nodes{state="ready"}))"#,
            "{{role}}",
        ),
        Panel::lines("Nodes not ready", Unit::Count, "Draining, suspect (not heard for a moment) or dead.")
            .asks(
                r#"sum by (state) (max by (role, state) (media_tree_controller_nodes{state!="ready"}))"#,
                "{{state}}",
            ),
    ]
}

fn headroom() -> [Panel; 6] {
    [
        Panel::lines("Free places", Unit::Count, "Places for viewers (egress) and publishers (injection) that are not taken.")
            .asks("sum by (tree_id, node_type) (media_tree_port_pool_size{<node>} - media_tree_port_pool_used{<node>})", "{{tree_id}} {{node_type}}"),
        Panel::lines("Fullest node", Unit::Percent, "The largest taken part of any node's places.")
            .asks("max by (tree_id) (port_pool_utilization{<node>})", "{{tree_id}}")
            .limits(70.0, 85.0)
            .maximum(100.0)
            .alert("MediaTreePortPoolHigh"),
        Panel::lines("Processor of egress nodes", Unit::Percent, "The mean over five minutes, by which more are wanted.")
            .asks(r#"avg by (tree_id) (avg_over_time(node_cpu_usage_percent{<node>,node_type=~"egress|all"}[5m]))"#, "{{tree_id}}")
            .limits(60.0, 80.0)
            .maximum(100.0)
            .alert("MediaTreeNodeCpuHigh"),
        Panel::lines("Viewers coming", Unit::EventRate, "Viewers a second that connect.")
            .asks(r#"sum by (tree_id) (rate(media_tree_joins_total{<node>,result="connected"}[$__rate_interval]))"#, "{{tree_id}}"),
        Panel::lines("Busiest shard", Unit::Share, "New viewers are refused where it is above 85 %.")
            .asks("max by (tree_id) (media_tree_egress_shard_load{<node>})", "{{tree_id}}")
            .limits(0.6, 0.85)
            .maximum(1.0)
            .alert("MediaTreeShardOverloaded"),
        Panel::lines("Children of nodes", Unit::Count, "Links to children and from parents that are alive; a node takes 64 children.")
            .asks("media_tree_link_children{<node>}", "{{node_id}} children")
            .asks("media_tree_link_parents{<node>}", "{{node_id}} parents")
            .limits(48.0, 64.0),
    ]
}

fn growing() -> [Panel; 7] {
    [
        Panel::lines("Slots", Unit::Count, "Slots that trees grow by: the reserve (warm, cold), sub-trees, and what is on its way.")
            .asks("sum by (state) (max by (tree_id, state) (media_tree_slots{<tree>}))", "{{state}}")
            .alert("MediaTreeNoWarmSlot"),
        Panel::lines("Headroom", Unit::Share, "The part of all places that is neither taken nor expected to be. Trees grow when less than 25 % is left, unless configured otherwise.")
            .asks("1 - max(media_tree_scaling_demand{<tree>}) / max(media_tree_scaling_places{<tree>})", "left")
            .limits(0.25, 0.1)
            .maximum(1.0)
            .signed(),
        Panel::lines("Places and demand", Unit::Count, "Viewers that egress nodes take by what theirs cost them now, and viewers that are there or expected.")
            .asks("max(media_tree_scaling_places{<tree>})", "places")
            .asks("max(media_tree_scaling_demand{<tree>})", "there or expected"),
        Panel::lines("Time until healthy, p95", Unit::Seconds, "From the order to start a sub-tree or a warm relay until all its nodes were healthy.")
            .asks("histogram_quantile(0.95, sum by (le) (rate(media_tree_provision_seconds_bucket{<tree>}[$__rate_interval])))", "until healthy")
            .limits(60.0, 90.0),
        Panel::lines("Nodes that did not come", Unit::Count, "Nodes that were wanted and could not be started, or were not healthy in time.")
            .asks("sum by (reason) (increase(media_tree_provision_failures_total{<tree>}[$__rate_interval]))", "{{reason}}")
            .limits(0.5, 1.0)
            .alert("MediaTreeProvisioningFailed"),
        Panel::lines("Waiting for approval", Unit::Count, "Sub-trees that are to come or go as soon as an operator lets them: `media-tree tree slots`.")
            .asks("max(media_tree_scaling_proposals{<tree>})", "wait"),
        Panel::table("Nodes of slots", Unit::Count, "The state of the slot that brought a node: its role in the growth of its tree. `none`: it was there without.")
            .asks("max by (tree_id, node_type, node_id, state) (media_tree_node_slot{<node>} == 1)", ""),
    ]
}

fn controllers() -> [Panel; 6] {
    let quantile = |metric: &str| {
        format!(
            "histogram_quantile(0.95, sum by (node_id, le) (rate({metric}_bucket{{<node>}}[$__rate_interval])))"
        )
    };
    [
        Panel::lines("Decisions", Unit::EventRate, "What was decided, by kind; a quiet tree decides nothing.")
            .asks("sum by (kind) (rate(media_tree_controller_decisions_total{<node>}[$__rate_interval]))", "{{kind}}"),
        Panel::lines("Decisions not carried out", Unit::EventRate, "They are tried again each second.")
            .asks("sum by (node_id) (rate(media_tree_controller_decision_failures_total{<node>}[$__rate_interval]))", "{{node_id}}")
            .alert("MediaTreeDecisionsFail"),
        Panel::lines("Who leads", Unit::Count, "1 for the controller that decides, and for those that have seen enough to.")
            .asks("media_tree_controller_is_leader{<node>}", "{{node_id}} leads")
            .asks("media_tree_controller_is_settled{<node>}", "{{node_id}} has seen enough")
            .alert("MediaTreeNoControllerLeader"),
        Panel::lines("Changes of leader", Unit::Count, "Times that a controller began to lead.")
            .asks("media_tree_controller_leaderships_total{<node>}", "{{node_id}}"),
        Panel::lines("Time to decide, p95", Unit::Seconds, "Computing the plan.")
            .asks(&quantile("media_tree_controller_decide_seconds"), "{{node_id}}"),
        Panel::lines("Time of a whole look, p95", Unit::Seconds, "Reading, deciding and writing; a look begins each second.")
            .asks(&quantile("media_tree_controller_reconcile_seconds"), "{{node_id}}")
            .limits(0.5, 1.0),
    ]
}

fn store() -> [Panel; 6] {
    let rate = |metric: &str| format!("sum by (node_id) (rate({metric}{{<node>}}[$__rate_interval]))");
    [
        Panel::lines("Store reached", Unit::Count, "1 where the process reaches the store.")
            .asks("media_tree_store_up{<node>}", "{{node_id}}")
            .limits(1.0, 0.5)
            .alert("MediaTreeStoreUnreachable"),
        Panel::lines("Operations", Unit::EventRate, "Reads and writes, and those that got no answer.")
            .asks(&rate("media_tree_store_operations_total"), "{{node_id}}")
            .asks(&rate("media_tree_store_failures_total"), "{{node_id}} without answer"),
        Panel::lines("Time of an operation, p95", Unit::Seconds, "As each process sees it.")
            .asks(
                "histogram_quantile(0.95, sum by (node_id, le) (rate(media_tree_store_operation_seconds_bucket{<node>}[$__rate_interval])))",
                "{{node_id}}",
            )
            .limits(0.1, 0.5),
        Panel::lines("Outages", Unit::Count, "Times that the store went away, as each process saw it.")
            .asks("media_tree_store_outages_total{<node>}", "{{node_id}}"),
        Panel::lines("Looks for the server", Unit::Count, "With Sentinel each look may find another server.")
            .asks("media_tree_store_resolutions_total{<node>}", "{{node_id}}"),
        Panel::lines("Records not understood, news missed", Unit::Count, "Values of another program, and watches read anew.")
            .asks("media_tree_store_malformed_total{<node>}", "{{node_id}} not understood")
            .asks("media_tree_store_watch_overflows_total{<node>}", "{{node_id}} missed"),
    ]
}
