//! Machines and processes.

use crate::alert::Severity::{Critical, Warning};
use crate::alert::Shown::{Duration, Number, Percent, Share};
use crate::alert::{Alert, counter, gauge};
use crate::dashboards::NODES;

pub(super) fn all() -> Vec<Alert> {
    [busy(), gone(), full(), wrong()].concat()
}

fn busy() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeNodeCpuHigh",
            Warning,
            // A minute's mean, so that one idle look does not begin the five minutes anew.
            "avg_over_time(node_cpu_usage_percent[1m])",
            "> 80",
        )
        .lasting("5m")
        .says(
            "{{ $labels.node_id }} uses more than 80 % of its processor",
            "For five minutes. Above about 90 % media comes late, and new viewers are refused.",
            Percent,
        )
        .seen_on(NODES)
        .trial([gauge("node_cpu_usage_percent{tree_id='t',node_id='a',node_type='egress'}", 20.0, 95.0)], [
            330, 380, 60,
        ]),
        Alert::new("MediaTreePortPoolHigh", Warning, "port_pool_utilization", "> 85")
            .lasting("1m")
            .says(
                "{{ $labels.node_id }} is nearly full",
                "More than 85 % of its places for viewers or publishers are taken. When they are gone, clients are sent \
                 to another node; if there is none they get 503.",
                Percent,
            )
            .seen_on(NODES)
            .trial([gauge("port_pool_utilization{tree_id='t',node_id='a',node_type='egress'}", 40.0, 90.0)], [
                50, 80, 10,
            ]),
    ]
}

fn gone() -> Vec<Alert> {
    vec![
        Alert::new("MediaTreeNodeDown", Critical, r#"up{job="media-tree"}"#, "== 0")
            .lasting("30s")
            .says(
                "{{ $labels.node_id }} does not answer",
                "The {{ $labels.node_type }} node at {{ $labels.instance }} has not been scraped for 30 seconds: the \
                 process or its host is gone, or the network between.",
                Number,
            )
            .seen_on(NODES)
            .trial([gauge("up{job='media-tree',tree_id='t',node_id='a',node_type='relay'}", 1.0, 0.0)], [
                20, 50, 10,
            ]),
        Alert::new(
            "MediaTreeNodeCrashLooping",
            Critical,
            // An uptime that falls is another process. Three in a quarter of an hour are no upgrade.
            "resets(media_tree_uptime_seconds[15m])",
            ">= 3",
        )
        .says(
            "{{ $labels.node_id }} starts again and again",
            "Its process was replaced three times within 15 minutes. Each time viewers may miss a second or two.",
            Number,
        )
        .seen_on(NODES)
        // Falls at each step.
        .trial([counter("media_tree_uptime_seconds{tree_id='t',node_id='a',node_type='relay'}", 10.0, -4.0)], [
            10, 60, 880,
        ]),
    ]
}

fn full() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeOpenFilesHigh",
            Warning,
            "media_tree_open_files / media_tree_open_files_max",
            "> 0.8",
        )
        .lasting("1m")
        .says(
            "{{ $labels.node_id }} runs out of open files",
            "At its limit the node takes no more HTTP connections. Raise `ulimit -n`.",
            Share,
        )
        .seen_on(NODES)
        .trial(
            [
                gauge("media_tree_open_files{tree_id='t',node_id='a',node_type='egress'}", 100.0, 900.0),
                gauge("media_tree_open_files_max{tree_id='t',node_id='a',node_type='egress'}", 1024.0, 1024.0),
            ],
            [50, 80, 10],
        ),
        Alert::new(
            "MediaTreeShardOverloaded",
            Warning,
            "max without (shard) (avg_over_time(media_tree_egress_shard_load[1m]))",
            // Where new viewers are refused by default (`limits.shard_load_max_percent`).
            "> 0.85",
        )
        .lasting("30s")
        .says(
            "A shard of {{ $labels.node_id }} is too busy",
            "One thread that serves viewers was busy for more than 85 % of a minute: new viewers are refused there.",
            Share,
        )
        .seen_on(NODES)
        .trial(
            [gauge("media_tree_egress_shard_load{tree_id='t',node_id='a',node_type='egress',shard='0'}", 0.2, 0.97)],
            [60, 100, 30],
        ),
    ]
}

fn wrong() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeNodeDrops",
            Warning,
            r#"sum without (reason) (rate(media_tree_node_drops_total{reason!="stranger"}[1m]))"#,
            "> 1",
        )
        .lasting("1m")
        .says(
            "{{ $labels.node_id }} drops packets that it should have sent",
            "Queues or the kernel's send buffer are full, or the kernel refuses to send: viewers see freezes.",
            Number,
        )
        .seen_on(NODES)
        .trial(
            [counter(
                "media_tree_node_drops_total{tree_id='t',node_id='a',node_type='egress',reason='send_buffer_full'}",
                0.0,
                100.0,
            )],
            [50, 90, 70],
        ),
        Alert::new(
            "MediaTreeCertificateExpiring",
            Warning,
            "media_tree_tls_certificate_expiry_timestamp_seconds - time()",
            // Renewals come at a third of a 90 days' life, 30 days before the end: by 14 days one has failed.
            "< 14 * 86400",
        )
        .lasting("1m")
        .says(
            "The certificate of {{ $labels.node_id }} ends soon",
            "In less than 14 days publishers and viewers will not be able to connect to it.",
            Duration,
        )
        .seen_on(NODES)
        .trial(
            [gauge(
                "media_tree_tls_certificate_expiry_timestamp_seconds{tree_id='t',node_id='a',node_type='egress'}",
                9_000_000.0,
                1_000_000.0,
            )],
            [50, 80, 10],
        ),
    ]
}
