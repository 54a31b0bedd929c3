//! What viewers see.

use crate::alert::Severity::{Critical, Warning};
use crate::alert::Shown::{Duration, Share};
use crate::alert::{Alert, counter};
use crate::dashboards::VIEWERS;

pub(super) fn all() -> Vec<Alert> {
    [late_media(), network(), pictures()].concat()
}

const LATE: &str =
    "media_tree_end_to_end_latency_seconds_bucket{tree_id='t',node_id='a',node_type='egress',le='0.5'}";
const ALL: &str = "media_tree_end_to_end_latency_seconds_count{tree_id='t',node_id='a',node_type='egress'}";
const JOINS: &str = "media_tree_joins_total{tree_id='t',node_id='a',node_type='egress',result='connected'}";
const NO_JOINS: &str = "media_tree_joins_total{tree_id='t',node_id='a',node_type='egress',result='full'}";

/// The part of frames that left for viewers later than the promised 500 ms after capture, in this time.
fn late(window: &str) -> String {
    let rate = |name: &str, labels: &str| {
        format!("sum by (tree_id) (rate(media_tree_end_to_end_latency_seconds_{name}{labels}[{window}]))")
    };
    let (soon, all) = (rate("bucket", r#"{le="0.5"}"#), rate("count", ""));
    format!("1 - {soon} / {all}")
}

fn late_media() -> Vec<Alert> {
    vec![
        // The promise is that 95 % of frames leave within 500 ms: 5 % may be late. An event lasts hours, not a month, so
        // its budget is looked at over an hour: burnt four times too fast it is gone in a quarter of that.
        Alert::new("MediaTreeLatencyBurnsFast", Critical, &late("5m"), "> 0.2")
            .only_while(&format!("and on (tree_id) ({}) > 0.2", late("1m")))
            .lasting("30s")
            .says(
                "Media of {{ $labels.tree_id }} is late for everybody",
                "More than 20 % of the frames of the last five minutes left later than 500 ms after capture: four times \
                 what the promise (95 % in time) allows.",
                Share,
            )
            .seen_on(VIEWERS)
            .trial([counter(LATE, 100.0, 30.0), counter(ALL, 100.0, 100.0)], [60, 240, 90]),
        Alert::new("MediaTreeLatencyBurnsSlowly", Warning, &late("1h"), "> 0.05")
            .only_while(&format!("and on (tree_id) ({}) > 0.05", late("5m")))
            .lasting("5m")
            .says(
                "Media of {{ $labels.tree_id }} is late too often",
                "More than 5 % of the frames of the last hour left later than 500 ms after capture, and it goes on.",
                Share,
            )
            .seen_on(VIEWERS)
            .trial([counter(LATE, 100.0, 85.0), counter(ALL, 100.0, 100.0)], [300, 580, 310]),
    ]
}

fn network() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeViewerLossHigh",
            Warning,
            "sum by (tree_id, node_id, node_type) (rate(media_tree_viewer_loss_ratio_sum[5m]))
             / sum by (tree_id, node_id, node_type) (rate(media_tree_viewer_loss_ratio_count[5m]))",
            "> 0.02",
        )
        .lasting("1m")
        .says(
            "Viewers of {{ $labels.node_id }} lose packets",
            "They report more than 2 % on average, before repair: the network between this node and them is too busy, \
             rather than one viewer's own.",
            Share,
        )
        .seen_on(VIEWERS)
        .trial(
            [
                counter("media_tree_viewer_loss_ratio_sum{tree_id='t',node_id='a',node_type='egress',kind='video'}", 0.0, 1.0),
                counter("media_tree_viewer_loss_ratio_count{tree_id='t',node_id='a',node_type='egress',kind='video'}", 10.0, 10.0),
            ],
            [60, 180, 300],
        ),
        Alert::new(
            "MediaTreeJoinsFail",
            Critical,
            // Who was refused or left by itself is not a failure of ours.
            r#"sum by (tree_id, node_id, node_type) (rate(media_tree_joins_total{result=~"full|overloaded|not_connected"}[1m]))
               / sum by (tree_id, node_id, node_type) (rate(media_tree_joins_total{result!~"refused|deleted"}[1m]))"#,
            "> 0.1",
        )
        .lasting("1m")
        .says(
            "Viewers cannot join at {{ $labels.node_id }}",
            "More than one in ten found the node full or too busy, or was answered and never connected (a firewall in \
             front of the media ports?).",
            Share,
        )
        .seen_on(VIEWERS)
        .trial([counter(JOINS, 10.0, 10.0), counter(NO_JOINS, 0.0, 10.0)], [50, 90, 70]),
    ]
}

fn pictures() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeFirstFrameSlow",
            Warning,
            "histogram_quantile(0.95, sum by (tree_id, node_id, node_type, le) (rate(media_tree_time_to_first_frame_seconds_bucket[5m])))",
            "> 1",
        )
        .lasting("1m")
        .says(
            "Viewers of {{ $labels.node_id }} wait for their first picture",
            "One in twenty waits longer than a second from joining to a whole keyframe.",
            Duration,
        )
        .seen_on(VIEWERS)
        .trial(
            [
                counter("media_tree_time_to_first_frame_seconds_bucket{tree_id='t',node_id='a',node_type='egress',le='0.5'}", 10.0, 5.0),
                counter("media_tree_time_to_first_frame_seconds_bucket{tree_id='t',node_id='a',node_type='egress',le='2'}", 10.0, 10.0),
                counter("media_tree_time_to_first_frame_seconds_bucket{tree_id='t',node_id='a',node_type='egress',le='+Inf'}", 10.0, 10.0),
            ],
            [60, 300, 330],
        ),
        Alert::new(
            "MediaTreePlayersFreeze",
            Warning,
            "sum by (tree_id, node_id, node_type) (rate(media_tree_player_freeze_seconds_total[5m]))
             / sum by (tree_id, node_id, node_type) (rate(media_tree_player_watched_seconds_total[5m]))",
            "> 0.01",
        )
        .lasting("1m")
        .says(
            "Pictures freeze for viewers of {{ $labels.node_id }}",
            "Their players report that the picture stood still for more than 1 % of the time.",
            Share,
        )
        .seen_on(VIEWERS)
        .trial(
            [
                counter("media_tree_player_freeze_seconds_total{tree_id='t',node_id='a',node_type='egress'}", 0.0, 5.0),
                counter("media_tree_player_watched_seconds_total{tree_id='t',node_id='a',node_type='egress'}", 100.0, 100.0),
            ],
            [60, 180, 310],
        ),
    ]
}
