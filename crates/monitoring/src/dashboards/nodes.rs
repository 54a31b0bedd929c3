//! Machines and processes.

use super::NODES;
use crate::dashboard::{Dashboard, Panel, Unit};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        NODES,
        "Nodes",
        "Machines and processes: how busy, how full, what they drop, what crashed.",
    )
    .section("How busy", busy())
    .section("Trouble", trouble())
    .section("HTTP", http())
    .section("Processes", processes())
}

const NODE: &str = "{{node_id}}";

fn busy() -> [Panel; 9] {
    [
        Panel::lines("Processor", Unit::Percent, "Of what the cgroup's quota and the affinity allow.")
            .asks("node_cpu_usage_percent{<node>}", NODE)
            .limits(60.0, 80.0)
            .maximum(100.0)
            .alert("MediaTreeNodeCpuHigh"),
        Panel::lines("Memory", Unit::Bytes, "Resident memory of the process.")
            .asks("node_memory_used_bytes{<node>}", NODE),
        Panel::lines(
            "Shards",
            Unit::Share,
            "The part of the latest second in which each serving thread was busy.",
        )
        .asks("media_tree_egress_shard_load{<node>}", "{{node_id}} {{shard}}")
        .limits(0.6, 0.85)
        .maximum(1.0)
        .alert("MediaTreeShardOverloaded"),
        Panel::lines("Received", Unit::BitRate, "UDP payload received by the media sockets.")
            .asks("rate(node_network_receive_bytes_total{<node>}[$__rate_interval]) * 8", NODE),
        Panel::lines("Sent", Unit::BitRate, "UDP payload sent by the media sockets.")
            .asks("rate(node_network_transmit_bytes_total{<node>}[$__rate_interval]) * 8", NODE),
        Panel::bars(
            "Port pool",
            Unit::Percent,
            "Taken part of the places for viewers (egress) or publishers (injection).",
        )
        .asks("port_pool_utilization{<node>}", NODE)
        .limits(70.0, 85.0)
        .maximum(100.0)
        .alert("MediaTreePortPoolHigh"),
        Panel::lines("Places taken", Unit::Count, "Places for viewers or publishers that are taken.")
            .asks("media_tree_port_pool_used{<node>}", NODE),
        Panel::bars("Open files", Unit::Share, "Of those that the process may open.")
            .asks("media_tree_open_files{<node>} / media_tree_open_files_max{<node>}", NODE)
            .limits(0.6, 0.8)
            .maximum(1.0)
            .alert("MediaTreeOpenFilesHigh"),
        Panel::lines(
            "Longest round trip on links",
            Unit::Seconds,
            "To a parent (upstream) or a child (downstream).",
        )
        .asks("media_tree_link_round_trip_seconds{<node>}", "{{node_id}} {{direction}}"),
    ]
}

fn trouble() -> [Panel; 6] {
    [
        Panel::lines("Answers Prometheus", Unit::Count, "0 where a node that the controller knows does not answer.")
            .asks(r#"up{job="media-tree",<node>}"#, NODE)
            .limits(1.0, 0.5)
            .alert("MediaTreeNodeDown"),
        Panel::lines("Crashes", Unit::Count, "Times that the process died and its supervisor started it again.")
            .asks("increase(media_tree_pipeline_crashes_total{<node>}[$__rate_interval])", NODE)
            .alert("MediaTreePipelineCrashed"),
        Panel::lines("Uptime", Unit::Seconds, "Since the process began; it falls when another one takes over.")
            .asks("media_tree_uptime_seconds{<node>}", NODE)
            .alert("MediaTreeNodeCrashLooping"),
        Panel::lines("Dropped by nodes", Unit::PacketRate, "Datagrams, packets and commands, by reason.")
            .asks("sum by (node_id, reason) (rate(media_tree_node_drops_total{<node>}[$__rate_interval]))", "{{node_id}} {{reason}}")
            .alert("MediaTreeNodeDrops"),
        Panel::lines("Dropped by shards", Unit::PacketRate, "What shards did not send or not take, by reason.")
            .asks("sum by (reason) (rate(media_tree_egress_drops_total{<node>}[$__rate_interval]))", "{{reason}}"),
        Panel::lines(
            "Sockets on the slow path",
            Unit::Count,
            "Media sockets without UDP segmentation offload: the kernel or the device does not have it, and sending costs \
             several times the processor.",
        )
        .asks("media_tree_udp_media_sockets{<node>} - media_tree_udp_segmentation_active{<node>}", NODE),
    ]
}

fn http() -> [Panel; 7] {
    [
        Panel::lines("Requests", Unit::EventRate, "By what they were for.")
            .asks("sum by (endpoint) (rate(media_tree_http_requests_total{<node>}[$__rate_interval]))", "{{endpoint}}"),
        Panel::lines("Answers that are not good", Unit::EventRate, "How requests ended that did not succeed.").asks(
            r#"sum by (result) (rate(media_tree_http_requests_total{<node>,result!~"ok|redirect"}[$__rate_interval]))"#,
            "{{result}}",
        ),
        Panel::lines("Connections", Unit::Count, "Of the public listener, and of publishers and viewers over TCP.")
            .asks("media_tree_http_connections{<node>}", NODE)
            .asks("media_tree_media_tcp_connections{<node>}", "media {{node_id}}"),
        Panel::lines("Connections refused or ended", Unit::EventRate, "By the public listener and those for media, by reason.")
            .asks("sum by (reason) (rate(media_tree_http_connection_drops_total{<node>}[$__rate_interval]))", "{{reason}}")
            .asks("sum by (reason) (rate(media_tree_media_tcp_connection_drops_total{<node>}[$__rate_interval]))", "media {{reason}}"),
        Panel::lines("Not let in", Unit::EventRate, "Requests without a good token, by reason.")
            .asks("sum by (reason) (rate(media_tree_access_refusals_total{<node>}[$__rate_interval]))", "{{reason}}"),
        Panel::lines("Events for your server", Unit::EventRate, "Webhook events by outcome, and how many wait.")
            .asks("sum by (result) (rate(media_tree_webhook_events_total{<node>}[$__rate_interval]))", "{{result}}")
            .asks("sum(media_tree_webhook_events_waiting{<node>})", "waiting")
            .alert("MediaTreeWebhookEventsLost"),
        Panel::lines("Spans for a collector", Unit::EventRate, "Traces of joins, by what became of their spans; none without `traces.otlp`.")
            .asks("sum by (result) (rate(media_tree_trace_spans_total{<node>}[$__rate_interval]))", "{{result}}"),
    ]
}

fn processes() -> [Panel; 6] {
    [
        Panel::table("Versions", Unit::Count, "The program that runs on each node.")
            .asks("max by (tree_id, node_type, node_id, version) (media_tree_build_info{<node>})", ""),
        Panel::bars("Processors", Unit::Count, "What 100 % of a node's processor is.")
            .asks("media_tree_cpu_cores{<node>}", NODE),
        Panel::bars("Certificate ends in", Unit::Seconds, "For nodes that speak HTTPS themselves.")
            .asks("media_tree_tls_certificate_expiry_timestamp_seconds{<node>} - time()", NODE)
            .limits(30.0 * 86_400.0, 14.0 * 86_400.0)
            .signed()
            .alert("MediaTreeCertificateExpiring"),
        Panel::lines("Session records", Unit::Count, "Sessions that outlive the process.")
            .asks("media_tree_records{<node>}", NODE),
        Panel::lines("Session records written", Unit::EventRate, "And those that could not be written.")
            .asks(
                "sum by (node_id) (rate(media_tree_record_puts_total{<node>}[$__rate_interval]))",
                "{{node_id}} written",
            )
            .asks(
                "sum by (node_id) (rate(media_tree_record_put_failures_total{<node>}[$__rate_interval]))",
                "{{node_id}} failed",
            )
            .alert("MediaTreeSessionsNotRecorded"),
        Panel::lines(
            "Sessions after a crash or upgrade",
            Unit::Count,
            "Those that went on, and those that did not, by reason.",
        )
        .asks("sum by (node_id) (media_tree_sessions_resumed_total{<node>})", "{{node_id}} went on")
        .asks(
            "sum by (node_id, reason) (media_tree_record_refusals_total{<node>})",
            "{{node_id}} {{reason}}",
        ),
    ]
}
