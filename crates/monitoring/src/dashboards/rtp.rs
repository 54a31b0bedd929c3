//! Media on its way: from publishers, and from hop to hop.

use super::RTP;
use crate::dashboard::{Dashboard, Panel, Unit};

pub(super) fn dashboard() -> Dashboard {
    Dashboard::new(
        RTP,
        "RTP",
        "Media on its way: what publishers send, and what each hop takes, repairs and passes on.",
    )
    .section("Publishers: what they send", sent())
    .section("Publishers: how it is encoded", encoded())
    .section("Publishers: over RTMP", over_rtmp())
    .section("In the tree: media", media())
    .section("In the tree: loss and repair", repair())
    .section("In the tree: parents", parents())
}

/// A rate of the chosen broadcasts, by these labels.
fn rate(metric: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({metric}{{<broadcast>}}[$__rate_interval]))")
}

const LAYER: &str = "{{broadcast}} {{kind}} {{layer}}";
const BY_LAYER: &str = "broadcast, kind, layer";

fn sent() -> [Panel; 9] {
    [
        Panel::lines(
            "Packets",
            Unit::PacketRate,
            "RTP packets that came from publishers, by kind and simulcast layer.",
        )
        .asks(&rate("media_tree_publisher_rtp_packets_total", BY_LAYER), LAYER),
        Panel::lines(
            "Bit rate",
            Unit::BitRate,
            "Payload that came from publishers, by kind and simulcast layer.",
        )
        .asks(&format!("{} * 8", rate("media_tree_publisher_rtp_bytes_total", BY_LAYER)), LAYER),
        Panel::lines(
            "Uplink loss before and after repair",
            Unit::Share,
            "Packets that did not come at first, and those that never came.",
        )
        .asks(
            &format!(
                "({lost} + {recovered}) / ({packets} + {lost})",
                lost = rate("media_tree_publisher_rtp_lost_total", "broadcast"),
                recovered = rate("media_tree_publisher_rtp_recovered_total", "broadcast"),
                packets = rate("media_tree_publisher_rtp_packets_total", "broadcast"),
            ),
            "{{broadcast}} before",
        )
        .asks(
            &format!(
                "{lost} / ({packets} + {lost})",
                lost = rate("media_tree_publisher_rtp_lost_total", "broadcast"),
                packets = rate("media_tree_publisher_rtp_packets_total", "broadcast"),
            ),
            "{{broadcast}} after",
        )
        .limits(0.01, 0.02)
        .alert("MediaTreePublisherUplinkLoss"),
        Panel::lines("Jitter", Unit::Seconds, "How unevenly packets come from publishers (RFC 3550).").asks(
            "max by (broadcast, kind, layer) (media_tree_publisher_jitter_seconds{<broadcast>})",
            LAYER,
        ),
        Panel::lines("Round trip to publishers", Unit::Seconds, "Repair takes at least this long.").asks(
            "max by (broadcast) (media_tree_publisher_round_trip_seconds{<broadcast>})",
            "{{broadcast}}",
        ),
        Panel::lines(
            "Asked of publishers",
            Unit::EventRate,
            "NACK messages and keyframe requests sent to publishers.",
        )
        .asks(&rate("media_tree_publisher_nacks_total", "broadcast"), "{{broadcast}} NACK")
        .asks(&rate("media_tree_publisher_keyframe_requests_total", "broadcast"), "{{broadcast}} keyframe"),
        Panel::lines("Publishers' sessions", Unit::Count, "WHIP sessions that exist, connected or not.")
            .asks("sum by (node_id) (media_tree_whip_sessions{<node>})", "{{node_id}}"),
        Panel::lines(
            "Publishers that came",
            Unit::EventRate,
            "How their requests ended, take-overs of a broadcast, and what came of waiting for a place.",
        )
        .asks("sum by (result) (rate(media_tree_publishes_total{<node>}[$__rate_interval]))", "{{result}}")
        .asks("sum(rate(media_tree_publisher_take_overs_total{<node>}[$__rate_interval]))", "take-over")
        .asks(
            "sum by (result) (rate(media_tree_publisher_waits_total{<node>}[$__rate_interval]))",
            "waited: {{result}}",
        ),
        Panel::lines(
            "Not used of what publishers sent",
            Unit::PacketRate,
            "Packets that were dropped, by reason.",
        )
        .asks(
            "sum by (reason) (rate(media_tree_injection_drops_total{<node>}[$__rate_interval]))",
            "{{reason}}",
        ),
    ]
}

fn encoded() -> [Panel; 7] {
    [
        Panel::lines(
            "Keyframe interval",
            Unit::Seconds,
            "Media time between the latest two keyframes. One or two seconds are good; browsers send them when asked.",
        )
        .asks("max by (broadcast, layer) (media_tree_publisher_keyframe_interval_seconds{<broadcast>})", "{{broadcast}} {{layer}}")
        .limits(3.2, 4.0)
        .alert("MediaTreePublisherLongGop"),
        Panel::lines("Age of the newest keyframe", Unit::Seconds, "Without a new one, newcomers and losses wait.")
            .asks("max by (broadcast, layer) (media_tree_publisher_keyframe_age_seconds{<broadcast>})", "{{broadcast}} {{layer}}")
            .limits(5.0, 10.0)
            .alert("MediaTreePublisherNoKeyframe"),
        Panel::lines("B-frames", Unit::Count, "1 where a stream has had B-frames since its publisher came; the advice says whether it still has.")
            .asks("max by (broadcast, layer) (media_tree_publisher_b_frames{<broadcast>})", "{{broadcast}} {{layer}}")
            .limits(0.5, 1.0)
            .alert("MediaTreePublisherBFrames"),
        Panel::lines(
            "Advice for publishers",
            Unit::Count,
            "1 while a publisher could do better in the way that the code names: see broadcasters.md.",
        )
        .asks("max by (broadcast, code) (media_tree_publisher_advice{<broadcast>})", "{{broadcast}} {{code}}"),
        Panel::lines(
            "Picture after sound",
            Unit::Seconds,
            "How much later the picture arrives than the sound captured at the same moment.",
        )
        .asks("max by (broadcast) (media_tree_publisher_av_skew_seconds{<broadcast>})", "{{broadcast}}")
        .signed(),
        Panel::lines("Picture size", Unit::Count, "Width and height in pixels.")
            .asks("max by (broadcast, layer) (media_tree_publisher_picture_width_pixels{<broadcast>})", "{{broadcast}} {{layer}} width")
            .asks("max by (broadcast, layer) (media_tree_publisher_picture_height_pixels{<broadcast>})", "{{broadcast}} {{layer}} height"),
        Panel::table("Codecs", Unit::Count, "Codec, profile and level of each stream.").asks(
            "max by (broadcast, kind, layer, codec, profile, level) (media_tree_publisher_stream_info{<broadcast>})",
            "",
        ),
    ]
}

fn over_rtmp() -> [Panel; 6] {
    [
        Panel::lines("Connections", Unit::Count, "Connections that RTMP listeners hold, publishing or not.")
            .asks("sum by (node_id) (media_tree_rtmp_connections{<node>})", "{{node_id}}"),
        Panel::lines(
            "Connections ended",
            Unit::EventRate,
            "Connections that were refused or ended, by reason; the log of the node says more.",
        )
        .asks(
            "sum by (reason) (rate(media_tree_rtmp_connection_ends_total{<node>}[$__rate_interval]))",
            "{{reason}}",
        ),
        Panel::lines("Received", Unit::BitRate, "What came over RTMP: media and what it is wrapped in.").asks(
            "sum by (node_id) (rate(media_tree_rtmp_received_bytes_total{<node>}[$__rate_interval])) * 8",
            "{{node_id}}",
        ),
        Panel::lines(
            "Waiting in memory",
            Unit::Bytes,
            "Messages that are not whole and answers that are not taken, of all connections.",
        )
        .asks("sum by (node_id) (media_tree_rtmp_pending_bytes{<node>})", "{{node_id}}"),
        Panel::lines(
            "Sound",
            Unit::EventRate,
            "Frames of sound: coded anew, passed on as Opus, left out because they came twice or are damaged.",
        )
        .asks(&rate("media_tree_rtmp_audio_frames_total", "broadcast, fate"), "{{broadcast}} {{fate}}"),
        Panel::lines(
            "Gaps and jumps",
            Unit::EventRate,
            "Gaps in the sound, by what they were filled with; jumps of an encoder's clock; messages that came too late, and \
             those of no use.",
        )
        .asks(&rate("media_tree_rtmp_audio_gaps_total", "broadcast, repair"), "{{broadcast}} gap, {{repair}}")
        .asks(&rate("media_tree_rtmp_clock_jumps_total", "broadcast"), "{{broadcast}} jump")
        .asks(&rate("media_tree_rtmp_late_messages_total", "broadcast"), "{{broadcast}} late message")
        .asks(&rate("media_tree_rtmp_skipped_messages_total", "broadcast"), "{{broadcast}} message"),
    ]
}

fn media() -> [Panel; 9] {
    [
        Panel::lines("Packets: picture", Unit::PacketRate, "RTP packets that each node took (in) and sent to children (out).")
            .asks(
                r#"sum by (node_id, direction) (rate(media_tree_rtp_packets_total{<broadcast>,kind="video"}[$__rate_interval]))"#,
                "{{node_id}} {{direction}}",
            ),
        Panel::lines("Packets: sound", Unit::PacketRate, "RTP packets that each node took (in) and sent to children (out).")
            .asks(
                r#"sum by (node_id, direction) (rate(media_tree_rtp_packets_total{<broadcast>,kind="audio"}[$__rate_interval]))"#,
                "{{node_id}} {{direction}}",
            ),
        Panel::lines("Bit rate", Unit::BitRate, "Bytes of those packets, by broadcast and kind, over all nodes.")
            .asks(&format!("{} * 8", rate("media_tree_rtp_bytes_total", "broadcast, kind, direction")), "{{broadcast}} {{kind}} {{direction}}"),
        Panel::lines("Flows", Unit::Count, "1 where media of the broadcast comes to the node, or would if anybody took it there; 0 where it is missing.")
            .asks("min by (node_id, broadcast) (pipeline_up{<broadcast>})", "{{broadcast}} at {{node_id}}")
            .alert("MediaTreePipelineInterrupted"),
        Panel::lines("Destinations and sources", Unit::Count, "Children that a broadcast is sent to, parents that it comes from, and RTP streams that come: layers nobody below watches do not.")
            .asks("sum by (node_id) (media_tree_link_destinations{<broadcast>})", "{{node_id}} destinations")
            .asks("sum by (node_id) (media_tree_link_sources{<broadcast>})", "{{node_id}} sources")
            .asks("sum by (node_id) (media_tree_link_streams{<broadcast>})", "{{node_id}} streams"),
        Panel::lines("Broadcasts known", Unit::Count, "By node: live, or waiting for their publisher.")
            .asks("sum by (node_id, state) (media_tree_broadcasts{<node>})", "{{node_id}} {{state}}"),
        Panel::lines("Mountpoints", Unit::Count, "Broadcasts that each node offers to viewers.")
            .asks("sum by (node_id) (media_tree_mountpoints{<node>})", "{{node_id}}"),
        Panel::lines("Kept in memory", Unit::Bytes, "Recent media in the rings, from which gaps and newcomers are filled.")
            .asks("sum by (node_id, kind) (media_tree_ring_bytes{<broadcast>})", "{{node_id}} {{kind}}"),
        Panel::lines("Age of what is kept", Unit::Seconds, "The oldest packet in the rings; it should reach back to the latest keyframe.")
            .asks("max by (node_id, kind) (media_tree_ring_age_seconds{<broadcast>})", "{{node_id}} {{kind}}"),
    ]
}

fn repair() -> [Panel; 6] {
    let by = "node_id";
    let (lost, recovered) =
        (rate("media_tree_rtp_lost_total", by), rate("media_tree_rtp_recovered_total", by));
    let taken = r#"sum by (node_id) (rate(media_tree_rtp_packets_total{<broadcast>,direction="in"}[$__rate_interval]))"#;
    [
        Panel::lines(
            "Loss before repair",
            Unit::Share,
            "Packets that did not come at first, by the hop that missed them.",
        )
        .asks(&format!("({lost} + {recovered}) / ({taken} + {lost})"), "{{node_id}}")
        .limits(0.01, 0.05),
        Panel::lines(
            "Loss after repair",
            Unit::Share,
            "Packets given up, by the hop that gave up: everybody below misses them.",
        )
        .asks(&format!("{lost} / ({taken} + {lost})"), "{{node_id}}")
        .limits(0.0005, 0.001)
        .alert("MediaTreeLossHigh"),
        Panel::lines(
            "Repair",
            Unit::PacketRate,
            "Packets asked for by children (in) or of parents (out), and sent again.",
        )
        .asks(
            &rate("media_tree_nacked_packets_total", "node_id, direction"),
            "{{node_id}} asked {{direction}}",
        )
        .asks(&rate("media_tree_rtp_resent_total", by), "{{node_id}} sent again"),
        Panel::lines(
            "Twice",
            Unit::PacketRate,
            "Packets received again: with two parents each packet comes twice.",
        )
        .asks(&rate("media_tree_rtp_duplicates_total", by), "{{node_id}}"),
        Panel::lines(
            "Keyframe requests",
            Unit::EventRate,
            "Asked by viewers and children (in), passed on upstream (out), and the difference: answered by another one's keyframe.",
        )
        .asks(&rate("media_tree_keyframe_requests_total", "node_id, direction"), "{{node_id}} {{direction}}")
        .asks(
            r#"sum by (node_id) (rate(media_tree_keyframe_requests_total{<broadcast>,direction="in"}[$__rate_interval]))
               - sum by (node_id) (rate(media_tree_keyframe_requests_total{<broadcast>,direction="out"}[$__rate_interval]))"#,
            "{{node_id}} not passed on",
        ),
        Panel::lines(
            "Not processed on links",
            Unit::PacketRate,
            "Link media and messages that were dropped, by reason.",
        )
        .asks("sum by (reason) (rate(media_tree_link_drops_total{<node>}[$__rate_interval]))", "{{reason}}"),
    ]
}

fn parents() -> [Panel; 6] {
    let of = |metric: &str| format!("sum by (node_id, parent) (rate({metric}{{<node>}}[$__rate_interval]))");
    let link = "{{node_id}} from {{parent}}";
    [
        Panel::lines(
            "Parents heard",
            Unit::Count,
            "1 where the parent is connected and heard. Two give media without a gap.",
        )
        .asks("min by (node_id, parent) (media_tree_parent_up{<node>})", link),
        Panel::lines(
            "Broadcasts taken",
            Unit::Count,
            "Broadcasts that a node takes from each parent now; a standby has none.",
        )
        .asks("sum by (node_id, parent) (media_tree_parent_broadcasts{<node>})", link),
        Panel::lines("Round trip", Unit::Seconds, "To each parent, as the link measures it.")
            .asks("max by (node_id, parent) (media_tree_parent_round_trip_seconds{<node>})", link),
        Panel::lines("First with a packet", Unit::PacketRate, "Packets that came from this parent first.")
            .asks(&of("media_tree_parent_rtp_packets_total"), link),
        Panel::lines(
            "Too late with a packet",
            Unit::PacketRate,
            "Copies of packets that were there already.",
        )
        .asks(&of("media_tree_parent_rtp_duplicates_total"), link),
        Panel::lines(
            "Repair by parents",
            Unit::PacketRate,
            "Packets asked of each parent, and gaps that it filled.",
        )
        .asks(&of("media_tree_parent_nacked_packets_total"), "{{node_id}} asked {{parent}}")
        .asks(&of("media_tree_parent_rtp_recovered_total"), "{{node_id}} filled by {{parent}}"),
    ]
}
