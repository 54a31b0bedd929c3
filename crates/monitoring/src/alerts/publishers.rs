//! What publishers send.

use crate::alert::Severity::Warning;
use crate::alert::Shown::{Duration, Number, Share};
use crate::alert::{Alert, counter, gauge};
use crate::dashboards::RTP;

pub(super) fn all() -> Vec<Alert> {
    [encoding(), uplink()].concat()
}

/// The series of a trial: the picture of one broadcast.
fn of(metric: &str) -> String {
    format!("{metric}{{tree_id='t',node_id='in',node_type='injection',broadcast='b',kind='video',layer='0'}}")
}

fn encoding() -> Vec<Alert> {
    vec![
        Alert::new("MediaTreePublisherNoKeyframe", Warning, "media_tree_publisher_keyframe_age_seconds", "> 10")
            .says(
                "{{ $labels.broadcast }} has had no keyframe for 10 seconds",
                "New viewers wait for one, and losses stay visible until it comes. The encoder's keyframe interval is too \
                 long, or it ignores requests.",
                Duration,
            )
            .seen_on(RTP)
            .trial([gauge(of("media_tree_publisher_keyframe_age_seconds"), 1.0, 12.0)], [-10, 10, 10]),
        Alert::new(
            "MediaTreePublisherLongGop",
            Warning,
            "media_tree_publisher_keyframe_interval_seconds",
            "> 4",
        )
        .lasting("30s")
        .says(
            "{{ $labels.broadcast }} has keyframes more than 4 seconds apart",
            "New viewers are shown up to that much old media in fast motion, and it all is kept in memory. Set the \
             encoder's keyframe interval to 1 or 2 seconds.",
            Duration,
        )
        .seen_on(RTP)
        .trial([gauge(of("media_tree_publisher_keyframe_interval_seconds"), 2.0, 8.3)], [20, 50, 10]),
        Alert::new("MediaTreePublisherBFrames", Warning, "media_tree_publisher_b_frames", "== 1")
            .lasting("10s")
            .says(
                "{{ $labels.broadcast }} is encoded with B-frames",
                "Browsers show them jerking or not at all. Set the encoder to no B-frames (`bframes=0`, tune \
                 `zerolatency`, profile baseline).",
                Number,
            )
            .seen_on(RTP)
            .trial([gauge(of("media_tree_publisher_b_frames"), 0.0, 1.0)], [0, 30, 10]),
    ]
}

fn uplink() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreePublisherUplinkLoss",
            Warning,
            r#"sum without (kind, layer) (rate(media_tree_publisher_rtp_lost_total[1m]) + rate(media_tree_publisher_rtp_recovered_total[1m]))
               / sum without (kind, layer) (rate(media_tree_publisher_rtp_packets_total[1m]) + rate(media_tree_publisher_rtp_lost_total[1m]))"#,
            // Repair over one round trip mends about that much unseen; beyond it the uplink is too thin for the bit rate.
            "> 0.02",
        )
        .lasting("30s")
        .says(
            "The uplink of {{ $labels.broadcast }} loses packets",
            "More than 2 % do not come at first, before repair. The publisher's network is too thin or too busy for its \
             bit rate.",
            Share,
        )
        .seen_on(RTP)
        .trial(
            [
                counter(of("media_tree_publisher_rtp_packets_total"), 3000.0, 3000.0),
                counter(of("media_tree_publisher_rtp_recovered_total"), 0.0, 100.0),
                counter(of("media_tree_publisher_rtp_lost_total"), 0.0, 10.0),
            ],
            [30, 90, 70],
        ),
    ]
}
