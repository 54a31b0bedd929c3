//! What publishers send.

use std::time::{Duration, Instant};

use model::{Bitrate, Codec, Kind};
use telemetry::publishers::{Layer, LayerNow, LayerTotals, Publisher, StreamProfile};

use crate::{demo, telemetry, value};

fn layer(kind: Kind, layer: u8, now: Option<LayerNow>) -> Layer {
    let totals =
        LayerTotals { packets: 100, bytes: 50_000, lost: 1, recovered: 2, nacks: 3, keyframe_requests: 4 };
    Layer { kind, layer, totals, now }
}

fn layer_now() -> LayerNow {
    LayerNow {
        jitter: Duration::from_millis(4),
        bitrate: Bitrate::kbps(2500),
        keyframe_interval: Some(Duration::from_secs(8)),
        keyframe_at: Some(Instant::now() - Duration::from_secs(20)),
        codec: Some(Codec::H264),
        profile_level_id: Some([0x64, 0x00, 0x1f]),
        profile: None,
        size: Some((1280, 720)),
        had_b_frames: true,
    }
}

#[test]
fn how_each_layer_of_a_publisher_arrives_is_shown() {
    let telemetry = telemetry();
    let opus = LayerNow {
        keyframe_interval: None,
        keyframe_at: None,
        codec: Some(Codec::Opus),
        profile_level_id: None,
        size: None,
        had_b_frames: false,
        ..layer_now()
    };
    let profile = Some(StreamProfile { name: "main_10", level: Some("4.1".into()) });
    let other = LayerNow { codec: Some(Codec::H265), profile_level_id: None, profile, ..layer_now() };
    let publisher = Publisher {
        broadcast: demo(),
        round_trip: Some(Duration::from_millis(30)),
        picture_delay: Some(-0.05),
        layers: vec![
            layer(Kind::Audio, 0, Some(opus)),
            layer(Kind::Video, 0, Some(layer_now())),
            layer(Kind::Video, 1, None),
            layer(Kind::Video, 2, Some(other)),
        ],
    };
    telemetry.injection.published().set(vec![publisher]);
    let text = telemetry.encode();
    let demo = r#"broadcast="demo""#;
    let audio = [demo, r#"kind="audio""#, r#"layer="0""#];
    let best = [demo, r#"kind="video""#, r#"layer="0""#];
    let gone = [demo, r#"kind="video""#, r#"layer="1""#];
    for (name, labels, expected) in [
        ("media_tree_publisher_rtp_packets_total", &audio[..], Some(100.0)),
        ("media_tree_publisher_rtp_bytes_total", &best, Some(50_000.0)),
        ("media_tree_publisher_rtp_lost_total", &gone, Some(1.0)),
        ("media_tree_publisher_rtp_recovered_total", &best, Some(2.0)),
        ("media_tree_publisher_nacks_total", &best, Some(3.0)),
        ("media_tree_publisher_keyframe_requests_total", &best, Some(4.0)),
        ("media_tree_publisher_jitter_seconds", &audio, Some(0.004)),
        ("media_tree_publisher_jitter_seconds", &gone, None),
        ("media_tree_publisher_bitrate_bits_per_second", &best, Some(2_500_000.0)),
        ("media_tree_publisher_keyframe_interval_seconds", &best, Some(8.0)),
        ("media_tree_publisher_keyframe_interval_seconds", &audio, None),
        ("media_tree_publisher_keyframe_age_seconds", &audio, None),
        ("media_tree_publisher_picture_width_pixels", &best, Some(1280.0)),
        ("media_tree_publisher_picture_height_pixels", &best, Some(720.0)),
        ("media_tree_publisher_b_frames", &best, Some(1.0)),
        ("media_tree_publisher_b_frames", &audio, None),
        ("media_tree_publisher_round_trip_seconds", &[demo], Some(0.03)),
        ("media_tree_publisher_av_skew_seconds", &[demo], Some(-0.05)),
    ] {
        assert_eq!(value(&text, name, labels), expected, "{name} {labels:?}");
    }
    let age = value(&text, "media_tree_publisher_keyframe_age_seconds", &best);
    assert!(age.is_some_and(|age| age >= 20.0), "{age:?}");
    let coded = |labels: &[&'static str], more: &[&'static str]| {
        let labels: Vec<&str> = labels.iter().chain(more).copied().collect();
        value(&text, "media_tree_publisher_stream_info", &labels)
    };
    let high = [r#"codec="H264""#, r#"profile="high""#, r#"level="3.1""#];
    assert_eq!(coded(&best, &high), Some(1.0));
    let main_10 = [r#"codec="H265""#, r#"profile="main_10""#, r#"level="4.1""#];
    assert_eq!(coded(&[demo, r#"kind="video""#, r#"layer="2""#], &main_10), Some(1.0));
    assert_eq!(coded(&audio, &[r#"codec="opus""#, r#"profile="""#, r#"level="""#]), Some(1.0));

    telemetry.injection.published().set(Vec::new());
    assert!(!telemetry.encode().contains("broadcast="), "series end with the broadcast");
}

#[test]
fn advice_is_one_while_it_is_told_and_nought_afterwards() {
    let telemetry = telemetry();
    let codes = vec![("b-frames", true), ("keyframe-interval", false)];
    let advised = ::telemetry::advice::Advised { broadcast: demo(), codes };
    telemetry.injection.advice().set(vec![advised]);
    let text = telemetry.encode();
    let advice = |code| value(&text, "media_tree_publisher_advice", &[r#"broadcast="demo""#, code]);
    assert_eq!(advice(r#"code="b-frames""#), Some(1.0));
    assert_eq!(advice(r#"code="keyframe-interval""#), Some(0.0));
    assert_eq!(advice(r#"code="interlaced""#), None);
}
