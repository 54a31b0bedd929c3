//! What players report.

use std::time::Duration;

use telemetry::player::{Report, ReportResult};

use crate::{telemetry, value};

#[test]
fn reports_of_players_feed_histograms() {
    let telemetry = telemetry();
    let report = Report {
        first_frame: Some(Duration::from_millis(250)),
        latency: Some(Duration::from_millis(450)),
        watched: Duration::from_secs(30),
        freezes: 2,
        frozen: Duration::from_millis(1500),
        packets_received: 9995,
        packets_lost: 5,
    };
    telemetry.player.taken(&report);
    telemetry.player.taken(&Report { watched: Duration::from_secs(10), ..Report::default() });
    telemetry.player.report(ReportResult::TooOften);
    let text = telemetry.encode();
    for (name, labels, expected) in [
        ("media_tree_player_reports_total", &[r#"result="taken""#][..], 2.0),
        ("media_tree_player_reports_total", &[r#"result="too_often""#], 1.0),
        ("media_tree_player_reports_total", &[r#"result="malformed""#], 0.0),
        ("media_tree_player_first_frame_seconds_bucket", &[r#"le="0.2""#], 0.0),
        ("media_tree_player_first_frame_seconds_bucket", &[r#"le="0.3""#], 1.0),
        ("media_tree_player_first_frame_seconds_count", &[], 1.0),
        ("media_tree_player_latency_seconds_bucket", &[r#"le="0.4""#], 0.0),
        ("media_tree_player_latency_seconds_bucket", &[r#"le="0.5""#], 1.0),
        ("media_tree_player_loss_ratio_bucket", &[r#"le="0.0005""#], 1.0),
        ("media_tree_player_loss_ratio_count", &[], 1.0),
        ("media_tree_player_freezes_total", &[], 2.0),
        ("media_tree_player_freeze_seconds_total", &[], 1.5),
        ("media_tree_player_watched_seconds_total", &[], 40.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
    }
}
