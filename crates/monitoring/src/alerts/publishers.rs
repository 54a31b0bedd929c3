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

/// What the broadcaster doctor finds.
const ADVICE: &str = "media_tree_publisher_advice";

/// The series of a trial: what it finds of one broadcast.
fn advised(code: &str) -> String {
    format!("{ADVICE}{{tree_id='t',node_id='in',node_type='injection',broadcast='b',code='{code}'}}")
}

/// What the broadcaster doctor finds: it knows which publishers send keyframes when asked, which layers are sent at all,
/// and what follows from what; and it waits some seconds before it tells and before it tells no more.
fn found(name: &'static str, code: &str) -> Alert {
    Alert::new(name, Warning, &format!("media_tree_publisher_advice{{code=\"{code}\"}}"), "== 1")
        .seen_on(RTP)
        // A code has a series from the first time that it is told.
        .measured_by(ADVICE)
        .trial([gauge(advised(code), 0.0, 1.0)], [-10, 10, 10])
}

fn encoding() -> Vec<Alert> {
    vec![
        found("MediaTreePublisherNoKeyframe", "no-keyframe").says(
            "{{ $labels.broadcast }} has had no keyframe for more than 10 seconds",
            "New viewers wait for one, and losses stay visible until it comes. The encoder's keyframe interval is too \
             long, and it does not send one when asked.",
            Number,
        ),
        long_gop(),
        found("MediaTreePublisherBFrames", "b-frames").says(
            "{{ $labels.broadcast }} is encoded with B-frames",
            "Browsers show them jerking or not at all. Set the encoder to no B-frames (`bframes=0`, tune `zerolatency`, \
             profile baseline).",
            Number,
        ),
    ]
}

/// The broadcaster doctor advises from 3.2 s on; from 4 s on somebody of the operator's is told. A publisher that sends
/// keyframes when asked may let them be rare, which the doctor knows.
fn long_gop() -> Alert {
    const CODE: &str = "keyframe-interval";
    let advice = format!("media_tree_publisher_advice{{code=\"{CODE}\"}}");
    Alert::new(
        "MediaTreePublisherLongGop",
        Warning,
        "max by (tree_id, node_id, node_type, broadcast) (media_tree_publisher_keyframe_interval_seconds)",
        "> 4",
    )
    .only_while(&format!("and on (tree_id, node_id, broadcast) {advice} == 1"))
    .says(
        "{{ $labels.broadcast }} has keyframes more than 4 seconds apart",
        "New viewers are shown up to that much old media in fast motion, and it all is kept in memory. Set the \
         encoder's keyframe interval to 1 or 2 seconds.",
        Duration,
    )
    .seen_on(RTP)
    .measured_by(ADVICE)
    .trial(
        [
            gauge(of("media_tree_publisher_keyframe_interval_seconds"), 2.0, 8.0),
            gauge(advised(CODE), 0.0, 1.0),
        ],
        [-10, 10, 10],
    )
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
