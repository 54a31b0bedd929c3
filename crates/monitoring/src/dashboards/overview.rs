//! Is all well? What is live, who watches, are the promises kept.

use super::OVERVIEW;
use crate::dashboard::{Dashboard, Panel, Unit};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        OVERVIEW,
        "Overview",
        "Is all well? What is live, who watches, and whether the promises are kept.",
    )
    .section("Now", now())
    .section("Promises", promises())
    .section("What is live", live())
}

fn now() -> [Panel; 12] {
    [
        Panel::number("Live broadcasts", Unit::Count, "Broadcasts whose media comes to at least one node.")
            .asks("sum(max by (tree_id, broadcast) (pipeline_up{<broadcast>}))", "live"),
        Panel::number("Viewers", Unit::Count, "Viewers with ICE and DTLS connected.")
            .asks("sum(media_tree_viewers{<broadcast>})", "viewers"),
        Panel::number("Sent to viewers", Unit::BitRate, "What all nodes that serve viewers send.").asks(
            r#"sum(rate(node_network_transmit_bytes_total{<node>,node_type=~"egress|all"}[$__rate_interval])) * 8"#,
            "sent",
        ),
        Panel::number(
            "Latency to sending, p95",
            Unit::Seconds,
            "From capture to sending, of 95 % of the frames of all viewers. Promised: below 500 ms.",
        )
        .asks(&latency(0.95), "p95")
        .limits(0.3, 0.5)
        .alert("MediaTreeLatencyBurnsFast"),
        Panel::number("Loss", Unit::Share, "Packets that no repair in the tree brought back. Promised: below 0.1 %.")
            .asks(LOSS, "loss")
            .limits(0.0005, 0.001)
            .alert("MediaTreeLossHigh"),
        Panel::number(
            "First picture sent, p95",
            Unit::Seconds,
            "From a viewer's POST to its first whole keyframe being sent, of 95 % of those who came lately.",
        )
        .asks(&first_frame(0.95), "p95")
        .limits(0.3, 1.0)
        .alert("MediaTreeFirstFrameSlow"),
        Panel::number("Nodes", Unit::Count, "Nodes that answer Prometheus.")
            .asks(r#"sum(up{job="media-tree",<node>})"#, "nodes"),
        Panel::number("Nodes down", Unit::Count, "Nodes that the controller knows and that do not answer Prometheus.")
            .asks(r#"sum(1 - up{job="media-tree",<node>})"#, "down")
            .limits(0.5, 1.0)
            .alert("MediaTreeNodeDown"),
        Panel::number("Crashes", Unit::Count, "Pipelines that crashed and were started again, in the chosen time.")
            .asks("sum(increase(media_tree_pipeline_crashes_total{<node>}[$__range]))", "crashes")
            .limits(0.5, 1.0)
            .alert("MediaTreePipelineCrashed"),
        Panel::number("Leading controllers", Unit::Count, "One leads; the others wait.")
            .asks("sum(media_tree_controller_is_leader)", "leading")
            .limits(1.0, 0.5)
            .alert("MediaTreeNoControllerLeader"),
        Panel::number(
            "Store",
            Unit::Share,
            "The part of the processes with a store that reach it. Media goes on without.",
        )
        .asks("avg(media_tree_store_up{<node>})", "reached by")
        .limits(1.0, 0.99)
        .alert("MediaTreeStoreUnreachable"),
        Panel::number("Alerts", Unit::Count, "Alerts of Media-Tree that fire.")
            .asks(r#"count(ALERTS{alertname=~"MediaTree.*",alertstate="firing"}) or vector(0)"#, "firing")
            .limits(0.5, 1.0),
    ]
}

const LOSS: &str = r#"sum(rate(media_tree_rtp_lost_total{<broadcast>}[$__rate_interval]))
    / (sum(rate(media_tree_rtp_lost_total{<broadcast>}[$__rate_interval]))
       + sum(rate(media_tree_rtp_packets_total{<broadcast>,direction="in"}[$__rate_interval])))"#;

fn latency(part: f64) -> String {
    let rates = "sum by (le) (rate(media_tree_end_to_end_latency_seconds_bucket{<node>}[$__rate_interval]))";
    format!("histogram_quantile({part}, {rates})")
}

fn first_frame(part: f64) -> String {
    let rates = "sum by (le) (increase(media_tree_time_to_first_frame_seconds_bucket{<node>}[$__range]))";
    format!("histogram_quantile({part}, {rates})")
}

/// What players report.
fn reported(part: f64, metric: &str) -> String {
    format!("histogram_quantile({part}, sum by (le) (rate({metric}_bucket{{<node>}}[$__rate_interval])))")
}

fn promises() -> [Panel; 5] {
    [
        Panel::lines("Latency to sending", Unit::Seconds, "From capture to sending, for each video frame and live viewer.")
            .asks(&latency(0.5), "half of the frames")
            .asks(&latency(0.95), "95 %")
            .asks(&latency(0.99), "99 %")
            .limits(0.3, 0.5)
            .alert("MediaTreeLatencyBurnsFast"),
        Panel::lines(
            "Late frames",
            Unit::Share,
            "Frames that left later than 500 ms after capture: 5 % may, over an hour.",
        )
        .asks(
            r#"1 - sum by (tree_id) (rate(media_tree_end_to_end_latency_seconds_bucket{<node>,le="0.5"}[$__rate_interval]))
               / sum by (tree_id) (rate(media_tree_end_to_end_latency_seconds_count{<node>}[$__rate_interval]))"#,
            "{{tree_id}}",
        )
        .limits(0.05, 0.2)
        .alert("MediaTreeLatencyBurnsSlowly"),
        Panel::lines("Loss after repair", Unit::Share, "Packets that no repair brought back, by the hop that gave up.")
            .asks(
                r#"sum by (node_id) (rate(media_tree_rtp_lost_total{<broadcast>}[$__rate_interval]))
                   / (sum by (node_id) (rate(media_tree_rtp_lost_total{<broadcast>}[$__rate_interval]))
                      + sum by (node_id) (rate(media_tree_rtp_packets_total{<broadcast>,direction="in"}[$__rate_interval])))"#,
                "{{node_id}}",
            )
            .limits(0.0005, 0.001)
            .alert("MediaTreeLossHigh"),
        Panel::lines("Latency on screen, p95", Unit::Seconds, "From capture to the screen, as 95 % of the players' reports say.")
            .asks(&reported(0.95, "media_tree_player_latency_seconds"), "95 %")
            .limits(0.3, 0.5),
        Panel::lines(
            "First picture on screen, p95",
            Unit::Seconds,
            "From POST to the first picture that was shown, as 95 % of the players' reports say.",
        )
        .asks(&reported(0.95, "media_tree_player_first_frame_seconds"), "95 %")
        .limits(0.5, 1.5),
    ]
}

fn live() -> [Panel; 3] {
    [
        Panel::table("Broadcasts", Unit::Count, "What is known, and how many watch it.")
            .asks("sum by (tree_id, broadcast) (media_tree_viewers{<broadcast>})", ""),
        Panel::lines("Viewers of each broadcast", Unit::Count, "Viewers with ICE and DTLS connected.")
            .asks("sum by (broadcast) (media_tree_viewers{<broadcast>})", "{{broadcast}}"),
        Panel::lines(
            "Published",
            Unit::BitRate,
            "What publishers send, all layers together, over the last two seconds.",
        )
        .asks(
            "sum by (broadcast) (media_tree_publisher_bitrate_bits_per_second{<broadcast>})",
            "{{broadcast}}",
        ),
    ]
}
