//! What viewers see.

use super::VIEWERS;
use crate::dashboard::{Dashboard, Panel, Unit};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        VIEWERS,
        "Viewers' experience",
        "What viewers see: how they join, how late and how whole media reaches them.",
    )
    .section("Joining", joining())
    .section("As nodes see it", served())
    .section("As players report it", played())
    .section("What viewers ask for", asked())
}

/// The middle and the slowest twentieth of a histogram over all chosen nodes.
fn spread(panel: Panel, metric: &str) -> Panel {
    let part = |part: f64| {
        format!("histogram_quantile({part}, sum by (le) (rate({metric}_bucket{{<node>}}[$__rate_interval])))")
    };
    panel.asks(&part(0.5), "half").asks(&part(0.95), "95 %")
}

fn mean(metric: &str, by: &str) -> String {
    format!(
        "sum by ({by}) (rate({metric}_sum{{<node>}}[$__rate_interval])) / sum by ({by}) (rate({metric}_count{{<node>}}[$__rate_interval]))"
    )
}

fn joining() -> [Panel; 6] {
    [
        Panel::lines("Viewers that came", Unit::EventRate, "By how it ended.")
            .asks("sum by (result) (rate(media_tree_joins_total{<node>}[$__rate_interval]))", "{{result}}")
            .alert("MediaTreeJoinsFail"),
        spread(
            Panel::lines(
                "Time to connect",
                Unit::Seconds,
                "From POST to media being able to flow: two round trips and a handshake.",
            ),
            "media_tree_join_connect_seconds",
        ),
        spread(
            Panel::lines(
                "Time to the first picture",
                Unit::Seconds,
                "From POST to the first whole keyframe being sent.",
            ),
            "media_tree_time_to_first_frame_seconds",
        )
        .limits(0.3, 1.0)
        .alert("MediaTreeFirstFrameSlow"),
        Panel::lines(
            "Handshakes that failed",
            Unit::EventRate,
            "By reason. `no_check`: the viewer cannot reach the node's UDP ports.",
        )
        .asks(
            "sum by (reason) (rate(media_tree_handshake_failures_total{<node>}[$__rate_interval]))",
            "{{reason}}",
        ),
        Panel::lines("Viewers", Unit::Count, "Connected, and WHEP sessions that exist, connected or not.")
            .asks("sum by (node_id) (media_tree_viewers{<broadcast>})", "{{node_id}} viewers")
            .asks("sum by (node_id) (media_tree_whep_sessions{<node>})", "{{node_id}} sessions"),
        Panel::lines(
            "Catching up",
            Unit::Count,
            "Viewers that wait for a keyframe, those that are being shown the latest group of pictures, and those whose \
             connections carry sound alone.",
        )
        .asks("sum by (node_id) (media_tree_viewers_waiting{<node>})", "{{node_id}} waiting")
        .asks("sum by (node_id) (media_tree_viewers_replaying{<node>})", "{{node_id}} catching up")
        .asks("sum by (node_id) (media_tree_viewers_sound_only{<node>})", "{{node_id}} sound only"),
    ]
}

fn served() -> [Panel; 6] {
    [
        spread(
            Panel::lines(
                "Latency",
                Unit::Seconds,
                "From capture to sending, for each video frame and live viewer.",
            ),
            "media_tree_end_to_end_latency_seconds",
        )
        .limits(0.3, 0.5)
        .alert("MediaTreeLatencyBurnsFast"),
        Panel::lines(
            "Loss on the last mile",
            Unit::Share,
            "Mean of viewers' receiver reports, before repair.",
        )
        .asks(&mean("media_tree_viewer_loss_ratio", "kind"), "{{kind}}")
        .limits(0.01, 0.02)
        .alert("MediaTreeViewerLossHigh"),
        spread(
            Panel::lines(
                "Spread of that loss",
                Unit::Share,
                "What half of the reports, and 95 % of them, stay below.",
            ),
            "media_tree_viewer_loss_ratio",
        ),
        spread(
            Panel::lines("Jitter", Unit::Seconds, "As viewers report it."),
            "media_tree_viewer_jitter_seconds",
        ),
        spread(
            Panel::lines("Round trip to viewers", Unit::Seconds, "As their receiver reports tell it."),
            "media_tree_viewer_round_trip_seconds",
        ),
        Panel::lines(
            "Packets to viewers",
            Unit::PacketRate,
            "By kind, repeats not counted; and packets sent again.",
        )
        .asks(
            "sum by (kind) (rate(media_tree_viewer_rtp_packets_total{<node>}[$__rate_interval]))",
            "{{kind}}",
        )
        .asks("sum(rate(media_tree_viewer_rtx_packets_total{<node>}[$__rate_interval]))", "sent again"),
    ]
}

fn played() -> [Panel; 6] {
    [
        spread(
            Panel::lines("First picture on screen", Unit::Seconds, "From POST to the first picture that was shown."),
            "media_tree_player_first_frame_seconds",
        )
        .limits(0.5, 1.5),
        spread(
            Panel::lines("Latency on screen", Unit::Seconds, "From capture to the screen."),
            "media_tree_player_latency_seconds",
        )
        .limits(0.3, 0.5),
        Panel::lines("Frozen", Unit::Share, "The part of the watched time in which the picture stood still.")
            .asks(
                "sum by (node_id) (rate(media_tree_player_freeze_seconds_total{<node>}[$__rate_interval]))
                 / sum by (node_id) (rate(media_tree_player_watched_seconds_total{<node>}[$__rate_interval]))",
                "{{node_id}}",
            )
            .limits(0.005, 0.01)
            .alert("MediaTreePlayersFreeze"),
        Panel::lines("Freezes", Unit::EventRate, "How often pictures stood still.")
            .asks("sum by (node_id) (rate(media_tree_player_freezes_total{<node>}[$__rate_interval]))", "{{node_id}}"),
        Panel::lines("Loss", Unit::Share, "Mean of what players report, after repair.")
            .asks(&mean("media_tree_player_loss_ratio", "node_id"), "{{node_id}}")
            .limits(0.001, 0.01),
        Panel::lines("Reports", Unit::EventRate, "Reports of players, by what became of them.")
            .asks("sum by (result) (rate(media_tree_player_reports_total{<node>}[$__rate_interval]))", "{{result}}"),
    ]
}

fn asked() -> [Panel; 7] {
    [
        Panel::lines("Packets asked for again", Unit::PacketRate, "By viewers, of nodes.")
            .asks("sum by (node_id) (rate(media_tree_viewer_nacked_packets_total{<node>}[$__rate_interval]))", "{{node_id}}"),
        Panel::lines("Keyframes asked for", Unit::EventRate, "By viewers, and those of them that were passed on to the tree.")
            .asks("sum(rate(media_tree_viewer_keyframe_requests_total{<node>}[$__rate_interval]))", "asked")
            .asks("sum(rate(media_tree_shard_keyframe_requests_total{<node>}[$__rate_interval]))", "passed on"),
        Panel::lines("Caught up and restarted", Unit::EventRate, "Viewers caught up from cached media, and started anew from a cached keyframe.")
            .asks("sum(rate(media_tree_replays_total{<node>}[$__rate_interval]))", "caught up")
            .asks("sum(rate(media_tree_viewer_restarts_total{<node>}[$__rate_interval]))", "restarted"),
        Panel::lines("Bit rate", Unit::BitRate, "To viewers: live by kind, the part of the picture that caught viewers up, and packets sent again.")
            .asks("sum by (kind) (rate(media_tree_viewer_rtp_bytes_total{<node>}[$__rate_interval])) * 8", "{{kind}}")
            .asks("sum(rate(media_tree_viewer_replay_bytes_total{<node>}[$__rate_interval])) * 8", "catching up")
            .asks("sum(rate(media_tree_viewer_rtx_bytes_total{<node>}[$__rate_interval])) * 8", "sent again")
            .asks("sum(rate(media_tree_viewer_probe_bytes_total{<node>}[$__rate_interval])) * 8", "probes"),
        Panel::lines("Layers", Unit::EventRate, "Viewers of simulcast broadcasts that got another layer, by why; and probes whether a better one would fit.")
            .asks("sum by (reason) (rate(media_tree_viewer_layer_switches_total{<node>}[$__rate_interval]))", "{{reason}}")
            .asks("sum(rate(media_tree_viewer_probes_total{<node>}[$__rate_interval]))", "probes")
            .asks("sum(rate(media_tree_viewer_probes_failed_total{<node>}[$__rate_interval]))", "probes that failed"),
        Panel::lines("Event streams", Unit::Count, "Streams of WHEP events that are open.")
            .asks("sum by (node_id) (media_tree_event_streams{<node>})", "{{node_id}}"),
        Panel::lines("Sent elsewhere", Unit::EventRate, "Viewers told to go to another node, and event streams that nobody read.")
            .asks("sum(rate(media_tree_viewers_sent_away_total{<node>}[$__rate_interval]))", "sent elsewhere")
            .asks("sum(rate(media_tree_event_readers_stuck_total{<node>}[$__rate_interval]))", "not read"),
    ]
}
