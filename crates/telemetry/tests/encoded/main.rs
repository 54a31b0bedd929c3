//! What Prometheus sees: assertions on the encoded text only.

mod control;
mod players;
mod publishers;
mod rtmp;

use std::time::{Duration, Instant};

use model::{BroadcastId, Kind, NodeId, Role, TreeId};
use telemetry::controller::SlotState;
use telemetry::egress::ShardTotals;
use telemetry::link::{BroadcastTotals, ParentTotals, RtpTotals, Snapshot};
use telemetry::process::{Holdings, Usage};
use telemetry::{
    CueResult, DropReasons, Endpoint, HandshakeFailure, Identity, JoinResult, NodeDrop, RecordRefusal,
    Telemetry,
};

fn telemetry() -> Telemetry {
    let identity = Identity {
        tree: TreeId::new("t1").expect("id"),
        node: NodeId::new("n1").expect("id"),
        role: Role::Egress,
    };
    let reasons =
        DropReasons { egress: &["too_late", "nack_budget"], link: &["forged"], injection: &["malformed"] };
    Telemetry::new(&identity, reasons)
}

fn telemetry_of(role: Role) -> Telemetry {
    let identity =
        Identity { tree: TreeId::new("t1").expect("id"), node: NodeId::new("n1").expect("id"), role };
    Telemetry::new(&identity, DropReasons::default())
}

fn demo() -> BroadcastId {
    BroadcastId::new("demo").expect("id")
}

/// The value of the series with this name and these labels, in any order, beside those of the node.
fn value(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    value_of_role(text, "egress", name, labels)
}

fn value_of_role(text: &str, role: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let node = [r#"tree_id="t1""#, r#"node_id="n1""#, &format!("node_type=\"{role}\"")];
    let mut wanted: Vec<&str> = labels.iter().chain(&node).copied().collect();
    wanted.sort_unstable();
    text.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, rest) = series.split_once('{')?;
        let mut found_labels: Vec<&str> = rest.strip_suffix('}')?.split(',').collect();
        found_labels.sort_unstable();
        (found == name && found_labels == wanted).then(|| value.parse().ok())?
    })
}

#[test]
fn every_series_says_which_node_it_is_of() {
    let telemetry = telemetry();
    telemetry.node.pipelines([(demo(), true)].into());
    let text = telemetry.encode();
    let series: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(series.len() > 100, "{} series", series.len());
    for line in series {
        for label in [r#"tree_id="t1""#, r#"node_id="n1""#, r#"node_type="egress""#] {
            assert!(line.contains(label), "{label} is not in {line}");
        }
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn every_counter_exists_at_zero_from_the_start() {
    let text = telemetry().encode();
    for (name, label) in [
        ("node_network_receive_bytes_total", None),
        ("node_network_transmit_bytes_total", None),
        ("media_tree_joins_total", Some(r#"result="connected""#)),
        ("media_tree_joins_total", Some(r#"result="not_connected""#)),
        ("media_tree_publishes_total", Some(r#"result="full""#)),
        ("media_tree_publisher_take_overs_total", None),
        ("media_tree_handshake_failures_total", Some(r#"reason="unsupported_certificate""#)),
        ("media_tree_node_drops_total", Some(r#"reason="send_buffer_full""#)),
        ("media_tree_egress_drops_total", Some(r#"reason="nack_budget""#)),
        ("media_tree_link_drops_total", Some(r#"reason="forged""#)),
        ("media_tree_injection_drops_total", Some(r#"reason="malformed""#)),
        ("media_tree_viewer_rtp_packets_total", Some(r#"kind="video""#)),
        ("media_tree_viewer_rtx_packets_total", None),
        ("media_tree_viewer_keyframe_requests_total", None),
        ("media_tree_end_to_end_latency_seconds_count", None),
        ("media_tree_time_to_first_frame_seconds_count", None),
        ("media_tree_http_connections", None),
        ("media_tree_media_tcp_connections", None),
        ("media_tree_media_tcp_connection_drops_total", Some(r#"reason="too_slow""#)),
        ("media_tree_http_connection_drops_total", Some(r#"reason="client_full""#)),
        ("media_tree_rtmp_connections", None),
        ("media_tree_rtmp_connection_ends_total", Some(r#"reason="b_frames""#)),
        ("media_tree_rtmp_received_bytes_total", None),
        ("media_tree_rtmp_pending_bytes", None),
        ("media_tree_records", None),
        ("media_tree_record_puts_total", None),
        ("media_tree_record_put_failures_total", None),
        ("media_tree_sessions_resumed_total", None),
        ("media_tree_record_refusals_total", Some(r#"reason="foreign""#)),
        ("media_tree_event_streams", None),
        ("media_tree_viewers_sent_away_total", None),
        ("media_tree_event_readers_stuck_total", None),
        ("media_tree_cues_told_total", None),
        ("media_tree_cues_total", Some(r#"result="accepted""#)),
        ("media_tree_cues_total", Some(r#"result="rate""#)),
        ("media_tree_pipeline_crashes_total", None),
        ("media_tree_port_pool_used", None),
        ("media_tree_udp_media_sockets", None),
        ("port_pool_utilization", None),
        ("node_cpu_usage_percent", None),
        ("node_memory_used_bytes", None),
    ] {
        let labels: Vec<&str> = label.into_iter().collect();
        assert_eq!(value(&text, name, &labels), Some(0.0), "{name} {label:?}");
    }
    let requests = [r#"endpoint="whep""#, r#"result="rate_limited""#];
    assert_eq!(value(&text, "media_tree_http_requests_total", &requests), Some(0.0));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    assert_eq!(value(&text, "media_tree_build_info", &[&version]), Some(1.0));
}

#[test]
fn every_metric_is_described_once_and_its_help_is_a_sentence() {
    let telemetry = telemetry();
    telemetry.link.publish(snapshot(2));
    let text = telemetry.encode();
    let mut names = std::collections::BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = line.split_once(' ').expect("a help");
        assert!(names.insert(name.to_owned()), "{name} is described twice");
        assert!(help.starts_with(|c: char| c.is_uppercase() || c == '1'), "{name}: {help}");
        let is_fixed = name.starts_with("node_") || name == "port_pool_utilization" || name == "pipeline_up";
        assert!(is_fixed || name.starts_with("media_tree_"), "{name}");
    }
    let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
    assert_eq!(names.len(), types);
}

#[test]
fn records_of_all_stores_add_up() {
    let telemetry = telemetry();
    let [first, second] = [telemetry.node.records(), telemetry.node.records()];
    first.held(0, 5);
    first.held(5, 4);
    second.held(0, 2);
    first.put();
    second.put();
    second.put_failed();
    first.resumed();
    second.resumed();
    second.refused(RecordRefusal::Stale);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_records", &[]), Some(6.0));
    assert_eq!(value(&text, "media_tree_record_puts_total", &[]), Some(2.0));
    assert_eq!(value(&text, "media_tree_record_put_failures_total", &[]), Some(1.0));
    assert_eq!(value(&text, "media_tree_sessions_resumed_total", &[]), Some(2.0));
    let stale = [r#"reason="stale""#];
    assert_eq!(value(&text, "media_tree_record_refusals_total", &stale), Some(1.0));
}

#[test]
fn connections_are_counted_whoever_holds_the_counters() {
    let telemetry = telemetry();
    let [first, second] = [telemetry.node.connections(), telemetry.node.connections()];
    let [let_in, also_let_in] = [first.admission(), second.admission()];
    let_in.opened();
    also_let_in.opened();
    also_let_in.closed();
    let_in.full();
    also_let_in.client_full();
    also_let_in.client_full();
    first.tls_failed();
    first.too_slow();
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_http_connections", &[]), Some(1.0));
    for (reason, count) in [("full", 1.0), ("client_full", 2.0), ("tls_failed", 1.0), ("too_slow", 1.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(
            value(&text, "media_tree_http_connection_drops_total", &[&label]),
            Some(count),
            "{reason}"
        );
    }
}

#[test]
fn what_the_machine_gives_is_shown() {
    let telemetry = telemetry();
    telemetry.node.usage(&Usage { cpu_percent: 42.5, memory_bytes: 1 << 20 });
    telemetry.node.port_pool(25, 200);
    let network = telemetry.node.network();
    network.received(10);
    network.sent(2, 20);
    network.sent(1, 5);
    let text = telemetry.encode();
    assert_eq!(value(&text, "node_cpu_usage_percent", &[]), Some(42.5));
    assert_eq!(value(&text, "node_memory_used_bytes", &[]), Some(1_048_576.0));
    assert_eq!(value(&text, "port_pool_utilization", &[]), Some(12.5));
    assert_eq!(value(&text, "media_tree_port_pool_used", &[]), Some(25.0));
    assert_eq!(value(&text, "media_tree_port_pool_size", &[]), Some(200.0));
    assert_eq!(value(&text, "node_network_receive_bytes_total", &[]), Some(10.0));
    assert_eq!(value(&text, "node_network_transmit_bytes_total", &[]), Some(25.0));
}

#[test]
fn what_the_process_holds_and_how_it_came_to_be_is_shown() {
    let telemetry = telemetry();
    let certificate = "media_tree_tls_certificate_expiry_timestamp_seconds";
    assert!(!telemetry.encode().contains(certificate), "plain HTTP has none");
    telemetry.node.holdings(&Holdings { open_files: 30, open_files_max: Some(1024), processors: 0.5 });
    telemetry.node.uptime(Duration::from_millis(1500));
    telemetry.node.crashed(2);
    telemetry.node.certificate_expires(Duration::from_secs(1_900_000_000));
    telemetry.node.broadcasts(3, 1);
    telemetry.node.media_sockets().inc_by(2);
    let text = telemetry.encode();
    for (name, labels, expected) in [
        ("media_tree_open_files", &[][..], 30.0),
        ("media_tree_open_files_max", &[], 1024.0),
        ("media_tree_cpu_cores", &[], 0.5),
        ("media_tree_uptime_seconds", &[], 1.5),
        ("media_tree_pipeline_crashes_total", &[], 2.0),
        (certificate, &[], 1_900_000_000.0),
        ("media_tree_broadcasts", &[r#"state="live""#], 3.0),
        ("media_tree_broadcasts", &[r#"state="waiting""#], 1.0),
        ("media_tree_udp_media_sockets", &[], 2.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
    }
}

#[test]
fn a_node_says_how_far_its_slot_has_come() {
    let telemetry = telemetry();
    let shown = || {
        let text = telemetry.encode();
        let has =
            |word: &&str| value(&text, "media_tree_node_slot", &[&format!("state=\"{word}\"")]) == Some(1.0);
        let words = ["none", "cold", "warming", "warm", "growing", "attached", "draining", "stopping"];
        words.into_iter().filter(|word| has(word)).collect::<Vec<_>>()
    };
    assert_eq!(shown(), ["none"]);
    for (state, word) in [(SlotState::Warm, "warm"), (SlotState::Attached, "attached")] {
        telemetry.node.slot(Some(state));
        assert_eq!(shown(), [word]);
    }
    telemetry.node.slot(None);
    assert_eq!(shown(), ["none"]);
}

#[test]
fn a_node_without_slots_is_full() {
    let telemetry = telemetry();
    telemetry.node.port_pool(0, 0);
    assert_eq!(value(&telemetry.encode(), "port_pool_utilization", &[]), Some(100.0));
}

#[test]
fn joins_are_counted_by_how_they_ended() {
    let telemetry = telemetry();
    telemetry.egress.connected(Duration::from_millis(40));
    telemetry.egress.join(JoinResult::Full);
    telemetry.egress.handshake_failed(HandshakeFailure::NoCheck);
    telemetry.egress.first_frame(Duration::from_millis(250));
    telemetry.egress.sessions(3);
    telemetry.egress.mountpoints(2);
    telemetry.injection.connected(Duration::from_millis(40));
    telemetry.injection.take_over();
    telemetry.injection.sessions(1);
    let text = telemetry.encode();
    for (name, label, expected) in [
        ("media_tree_joins_total", r#"result="connected""#, 1.0),
        ("media_tree_joins_total", r#"result="full""#, 1.0),
        ("media_tree_joins_total", r#"result="not_connected""#, 1.0),
        ("media_tree_joins_total", r#"result="refused""#, 0.0),
        ("media_tree_handshake_failures_total", r#"reason="no_check""#, 1.0),
        ("media_tree_join_connect_seconds_bucket", r#"le="0.02""#, 0.0),
        ("media_tree_join_connect_seconds_bucket", r#"le="0.05""#, 1.0),
        ("media_tree_join_connect_seconds_bucket", r#"le="+Inf""#, 1.0),
        ("media_tree_time_to_first_frame_seconds_bucket", r#"le="0.3""#, 1.0),
        ("media_tree_publishes_total", r#"result="connected""#, 1.0),
        ("media_tree_publish_connect_seconds_bucket", r#"le="0.05""#, 1.0),
    ] {
        assert_eq!(value(&text, name, &[label]), Some(expected), "{name} {label}");
    }
    assert_eq!(value(&text, "media_tree_whep_sessions", &[]), Some(3.0));
    assert_eq!(value(&text, "media_tree_mountpoints", &[]), Some(2.0));
    assert_eq!(value(&text, "media_tree_whip_sessions", &[]), Some(1.0));
    assert_eq!(value(&text, "media_tree_publisher_take_overs_total", &[]), Some(1.0));
}

#[test]
fn http_requests_are_counted_by_what_they_were_for_and_how_they_ended() {
    let telemetry = telemetry();
    for (status, result) in [
        (201, "ok"),
        (304, "ok"),
        (307, "redirect"),
        (400, "bad_request"),
        (401, "unauthorized"),
        (404, "not_found"),
        (409, "conflict"),
        (412, "conflict"),
        (429, "rate_limited"),
        (503, "unavailable"),
        (500, "error"),
    ] {
        let label = format!("result=\"{result}\"");
        let labels = [r#"endpoint="whep""#, label.as_str()];
        let before = value(&telemetry.encode(), "media_tree_http_requests_total", &labels).expect("exists");
        telemetry.node.request(Endpoint::Whep, status);
        let after = value(&telemetry.encode(), "media_tree_http_requests_total", &labels);
        assert_eq!(after, Some(before + 1.0), "{status}");
    }
}

#[test]
fn shards_are_added_up() {
    let telemetry = telemetry();
    for audio_packets in [3, 4] {
        let shard = telemetry.egress.shard();
        shard.publish(&ShardTotals {
            viewers_waiting: 1,
            viewers_sound_only: 3,
            layer_switches_sound_only: 5,
            audio_packets,
            video_bytes: 1000,
            rtx_packets: 2,
            transport_feedback: 6,
            ..ShardTotals::default()
        });
        shard.publish_drops([5, 6]);
        let mut latency = [0; telemetry::egress::LATENCY_SECONDS.len() + 1];
        (latency[0], latency[3], latency[12]) = (1, 10, 2);
        shard.publish_latency(latency, Duration::from_millis(500));
        shard.publish_load(audio_packets as f64 / 16.0);
        shard.publish_loss(Kind::Video, [3, 0, 0, 1], 0.015);
        shard.publish_jitter(Kind::Audio, [0, 4], Duration::from_millis(8));
        shard.publish_round_trip([0, 0, 0, 0, 1, 1], Duration::from_millis(50));
        telemetry.egress.handshakes().inc();
    }
    let text = telemetry.encode();
    for (name, labels, expected) in [
        ("media_tree_viewers_waiting", &[][..], 2.0),
        ("media_tree_viewers_sound_only", &[], 6.0),
        ("media_tree_viewer_layer_switches_total", &[r#"reason="sound_only""#], 10.0),
        ("media_tree_viewer_rtp_packets_total", &[r#"kind="audio""#], 7.0),
        ("media_tree_viewer_rtp_bytes_total", &[r#"kind="video""#], 2000.0),
        ("media_tree_viewer_rtx_packets_total", &[], 4.0),
        ("media_tree_viewer_transport_feedback_total", &[], 12.0),
        ("media_tree_egress_drops_total", &[r#"reason="too_late""#], 10.0),
        ("media_tree_egress_drops_total", &[r#"reason="nack_budget""#], 12.0),
        ("media_tree_end_to_end_latency_seconds_bucket", &[r#"le="0.005""#], 2.0),
        ("media_tree_end_to_end_latency_seconds_bucket", &[r#"le="0.02""#], 2.0),
        ("media_tree_end_to_end_latency_seconds_bucket", &[r#"le="0.035""#], 22.0),
        ("media_tree_end_to_end_latency_seconds_bucket", &[r#"le="1.0""#], 22.0),
        ("media_tree_end_to_end_latency_seconds_bucket", &[r#"le="+Inf""#], 26.0),
        ("media_tree_end_to_end_latency_seconds_count", &[], 26.0),
        ("media_tree_end_to_end_latency_seconds_sum", &[], 1.0),
        ("media_tree_viewer_loss_ratio_bucket", &[r#"kind="video""#, r#"le="0.0""#], 6.0),
        ("media_tree_viewer_loss_ratio_bucket", &[r#"kind="video""#, r#"le="0.015625""#], 8.0),
        ("media_tree_viewer_loss_ratio_sum", &[r#"kind="video""#], 0.03),
        ("media_tree_viewer_loss_ratio_count", &[r#"kind="audio""#], 0.0),
        ("media_tree_viewer_jitter_seconds_bucket", &[r#"kind="audio""#, r#"le="0.002""#], 8.0),
        ("media_tree_viewer_round_trip_seconds_bucket", &[r#"le="0.02""#], 2.0),
        ("media_tree_viewer_round_trip_seconds_sum", &[], 0.1),
        ("media_tree_egress_shard_load", &[r#"shard="0""#], 0.1875),
        ("media_tree_egress_shard_load", &[r#"shard="1""#], 0.25),
        ("media_tree_handshakes_held", &[], 2.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
    }
}

#[test]
fn event_streams_and_what_becomes_of_them_are_counted() {
    let telemetry = telemetry();
    telemetry.egress.event_streams(3);
    telemetry.egress.sent_away();
    telemetry.egress.event_readers_stuck(2);
    telemetry.egress.cues_told(5);
    telemetry.injection.cues().count(CueResult::Unreadable);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_event_streams", &[]), Some(3.0));
    assert_eq!(value(&text, "media_tree_viewers_sent_away_total", &[]), Some(1.0));
    assert_eq!(value(&text, "media_tree_event_readers_stuck_total", &[]), Some(2.0));
    assert_eq!(value(&text, "media_tree_cues_told_total", &[]), Some(5.0));
    assert_eq!(value(&text, "media_tree_cues_total", &[r#"result="unreadable""#]), Some(1.0));
}

fn parent() -> ParentTotals {
    ParentTotals {
        is_alive: true,
        broadcasts: 1,
        round_trip: Some(Duration::from_millis(20)),
        packets: 100,
        duplicates: 90,
        recovered: 5,
        nacked: 7,
    }
}

fn snapshot(packets_in: u64) -> Snapshot {
    let video = RtpTotals {
        packets_in,
        packets_out: 3,
        lost: 4,
        recovered: 5,
        nacked_in: 6,
        nacked_out: 7,
        keyframe_requests_in: 8,
        keyframe_requests_out: 1,
        ring_bytes: 9,
        ring_since: Some(Instant::now() - Duration::from_secs(12)),
        ..RtpTotals::default()
    };
    let audio = RtpTotals::default();
    let broadcast = BroadcastTotals { id: demo(), destinations: 2, parents: 1, streams: 3, audio, video };
    Snapshot {
        broadcasts: vec![broadcast],
        parents_alive: 1,
        children: 2,
        parents: [(NodeId::new("relay-1").expect("id"), parent())].into(),
        parent_round_trip: Some(Duration::from_millis(20)),
        child_round_trip: None,
    }
}

#[test]
fn links_and_the_media_of_each_broadcast_are_shown() {
    let telemetry = telemetry();
    telemetry.link.publish(snapshot(2));
    telemetry.link.drops().publish([11]);
    telemetry.injection.drops().publish([12]);
    let text = telemetry.encode();
    let (demo, video) = (r#"broadcast="demo""#, r#"kind="video""#);
    for (name, labels, expected) in [
        ("media_tree_link_parents", &[][..], 1.0),
        ("media_tree_link_children", &[], 2.0),
        ("media_tree_link_round_trip_seconds", &[r#"direction="upstream""#], 0.02),
        ("media_tree_link_destinations", &[demo], 2.0),
        ("media_tree_link_sources", &[demo], 1.0),
        ("media_tree_link_streams", &[demo], 3.0),
        ("media_tree_rtp_packets_total", &[demo, video, r#"direction="in""#], 2.0),
        ("media_tree_rtp_packets_total", &[demo, video, r#"direction="out""#], 3.0),
        ("media_tree_rtp_packets_total", &[demo, r#"kind="audio""#, r#"direction="in""#], 0.0),
        ("media_tree_rtp_lost_total", &[demo, video], 4.0),
        ("media_tree_rtp_recovered_total", &[demo, video], 5.0),
        ("media_tree_nacked_packets_total", &[demo, video, r#"direction="in""#], 6.0),
        ("media_tree_nacked_packets_total", &[demo, video, r#"direction="out""#], 7.0),
        ("media_tree_keyframe_requests_total", &[demo, video, r#"direction="in""#], 8.0),
        ("media_tree_keyframe_requests_total", &[demo, video, r#"direction="out""#], 1.0),
        ("media_tree_ring_bytes", &[demo, video], 9.0),
        ("media_tree_parent_up", &[r#"parent="relay-1""#], 1.0),
        ("media_tree_parent_broadcasts", &[r#"parent="relay-1""#], 1.0),
        ("media_tree_parent_round_trip_seconds", &[r#"parent="relay-1""#], 0.02),
        ("media_tree_parent_rtp_packets_total", &[r#"parent="relay-1""#], 100.0),
        ("media_tree_parent_rtp_duplicates_total", &[r#"parent="relay-1""#], 90.0),
        ("media_tree_parent_rtp_recovered_total", &[r#"parent="relay-1""#], 5.0),
        ("media_tree_parent_nacked_packets_total", &[r#"parent="relay-1""#], 7.0),
        ("media_tree_link_drops_total", &[r#"reason="forged""#], 11.0),
        ("media_tree_injection_drops_total", &[r#"reason="malformed""#], 12.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
    }
    assert_eq!(value(&text, "media_tree_link_round_trip_seconds", &[r#"direction="downstream""#]), None);
    let age = value(&text, "media_tree_ring_age_seconds", &[demo, video]);
    assert!(age.is_some_and(|age| age >= 12.0), "{age:?}");
    let empty = value(&text, "media_tree_ring_age_seconds", &[demo, r#"kind="audio""#]);
    assert_eq!(empty, None, "nothing is in the ring");
}

#[test]
fn the_series_of_a_broadcast_end_with_it() {
    let telemetry = telemetry();
    telemetry.link.publish(snapshot(2));
    telemetry.node.pipelines([(demo(), false)].into());
    telemetry.egress.viewers(&demo(), 7);
    let text = telemetry.encode();
    assert_eq!(value(&text, "pipeline_up", &[r#"broadcast="demo""#]), Some(0.0));
    assert_eq!(value(&text, "media_tree_viewers", &[r#"broadcast="demo""#]), Some(7.0));
    telemetry.remove_broadcast(&demo(), false);
    telemetry.node.pipelines([].into());
    telemetry.link.publish(Snapshot::default());
    assert!(!telemetry.encode().contains("broadcast="));
}

#[test]
fn drops_of_the_runtime_are_counted_by_reason() {
    let telemetry = telemetry();
    telemetry.node.drops(NodeDrop::Stranger).inc();
    telemetry.node.drops(NodeDrop::SendBufferFull).inc_by(3);
    telemetry.node.segmentation().inc_by(2);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_node_drops_total", &[r#"reason="stranger""#]), Some(1.0));
    assert_eq!(value(&text, "media_tree_node_drops_total", &[r#"reason="send_buffer_full""#]), Some(3.0));
    assert_eq!(value(&text, "media_tree_udp_segmentation_active", &[]), Some(2.0));
}
