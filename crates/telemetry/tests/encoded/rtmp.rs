//! Encoders over RTMP.

use telemetry::rtmp::{RtmpEnd, Totals};

use crate::{demo, telemetry, value};

#[test]
fn every_connection_ends_in_one_way() {
    let telemetry = telemetry();
    let admission = telemetry.rtmp.admission();
    admission.opened();
    admission.opened();
    admission.full();
    admission.closed();
    telemetry.rtmp.ended(RtmpEnd::AccessRefused);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_rtmp_connections", &[]), Some(1.0));
    for (reason, count) in [("full", 1.0), ("access_refused", 1.0), ("closed", 0.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(value(&text, "media_tree_rtmp_connection_ends_total", &[&label]), Some(count), "{reason}");
    }
}

#[test]
fn what_waits_goes_with_its_connection() {
    let telemetry = telemetry();
    let [mut first, mut second] = [telemetry.rtmp.connection(), telemetry.rtmp.connection()];
    first.show(1000, 600);
    second.show(500, 70);
    first.show(1800, 20);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_rtmp_pending_bytes", &[]), Some(90.0));
    drop(second);
    let text = telemetry.encode();
    assert_eq!(value(&text, "media_tree_rtmp_pending_bytes", &[]), Some(20.0));
    assert_eq!(value(&text, "media_tree_rtmp_received_bytes_total", &[]), Some(2300.0));
}

#[test]
fn what_becomes_of_sound_is_shown_until_the_broadcast_ends() {
    const FRAMES: &str = "media_tree_rtmp_audio_frames_total";
    let telemetry = telemetry();
    let broadcast = r#"broadcast="demo""#;
    let mut first = telemetry.rtmp.publisher(&demo());
    let text = telemetry.encode();
    for (name, label) in [
        (FRAMES, r#"fate="damaged""#),
        ("media_tree_rtmp_audio_gaps_total", r#"repair="silence""#),
        ("media_tree_rtmp_audio_gaps_total", r#"repair="none""#),
    ] {
        assert_eq!(value(&text, name, &[broadcast, label]), Some(0.0), "{name} from the start");
    }
    first.show(Totals { recoded_frames: 100, damaged_frames: 1, ..Totals::default() });
    first.show(Totals { recoded_frames: 150, damaged_frames: 1, clock_jumps: 1, ..Totals::default() });
    // The next publisher of the broadcast begins at 0, and adds to it.
    let mut second = telemetry.rtmp.publisher(&demo());
    second.show(Totals {
        recoded_frames: 7,
        filled_gaps: 2,
        late_messages: 4,
        skipped_messages: 3,
        ..Totals::default()
    });
    let text = telemetry.encode();
    for (name, labels, count) in [
        (FRAMES, &[broadcast, r#"fate="recoded""#][..], 157.0),
        (FRAMES, &[broadcast, r#"fate="damaged""#], 1.0),
        (FRAMES, &[broadcast, r#"fate="passed""#], 0.0),
        ("media_tree_rtmp_audio_gaps_total", &[broadcast, r#"repair="silence""#], 2.0),
        ("media_tree_rtmp_clock_jumps_total", &[broadcast], 1.0),
        ("media_tree_rtmp_late_messages_total", &[broadcast], 4.0),
        ("media_tree_rtmp_skipped_messages_total", &[broadcast], 3.0),
    ] {
        assert_eq!(value(&text, name, labels), Some(count), "{name} {labels:?}");
    }

    telemetry.remove_broadcast(&demo(), true);
    assert!(telemetry.encode().contains("broadcast="), "an encoder has come and not begun");
    telemetry.remove_broadcast(&demo(), false);
    second.show(Totals { recoded_frames: 8, ..Totals::default() });
    let text = telemetry.encode();
    assert!(!text.contains(broadcast), "nothing of it is left");
}
