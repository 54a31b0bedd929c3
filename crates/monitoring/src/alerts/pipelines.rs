//! Media on its way through a node.

use crate::alert::Severity::{Critical, Warning};
use crate::alert::Shown::{Number, Share};
use crate::alert::{Alert, counter, gauge};
use crate::dashboards::{NODES, RTP};

pub(super) fn all() -> Vec<Alert> {
    [broken(), lossy()].concat()
}

fn broken() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreePipelineCrashed",
            Critical,
            "increase(media_tree_pipeline_crashes_total[5m])",
            "> 0",
        )
        .says(
            "The pipeline of {{ $labels.node_id }} crashed",
            "Its process died within the last five minutes and was started again by its supervisor. Publishers and \
             viewers go on in their sessions; some may miss a second or two.",
            Number,
        )
        .seen_on(NODES)
        .trial([counter("media_tree_pipeline_crashes_total{tree_id='t',node_id='a',node_type='egress'}", 0.0, 1.0)], [
            -10, 20, 310,
        ]),
        Alert::new(
            "MediaTreePipelineInterrupted",
            Critical,
            r#"pipeline_up{node_type=~"relay|egress"}"#,
            "== 0",
        )
        .only_while(r#"and on (tree_id, broadcast) pipeline_up{node_type=~"injection|all"} == 1"#)
        .lasting("30s")
        .says(
            "{{ $labels.broadcast }} does not reach {{ $labels.node_id }}",
            "Media of the broadcast comes from its publisher and not to this node, though it is taken there, or no parent \
             offers it: viewers here and below see nothing.",
            Number,
        )
        .seen_on(RTP)
        .trial(
            [
                gauge("pipeline_up{tree_id='t',node_id='in',node_type='injection',broadcast='b'}", 1.0, 1.0),
                gauge("pipeline_up{tree_id='t',node_id='out',node_type='egress',broadcast='b'}", 1.0, 0.0),
            ],
            [20, 50, 10],
        ),
    ]
}

fn lossy() -> Vec<Alert> {
    vec![
        Alert::new(
            "MediaTreeLossHigh",
            Critical,
            r#"sum without (kind) (rate(media_tree_rtp_lost_total[1m]))
               / (sum without (kind) (rate(media_tree_rtp_lost_total[1m]))
                  + sum without (kind, direction) (rate(media_tree_rtp_packets_total{direction="in"}[1m])))"#,
            // The promise: less than one packet in a thousand is missing at a viewer.
            "> 0.001",
        )
        .lasting("1m")
        .says(
            "{{ $labels.broadcast }} loses packets on the way to {{ $labels.node_id }}",
            "More than 0.1 % is missing after repair, for everybody below this node.",
            Share,
        )
        .seen_on(RTP)
        .trial(
            [
                counter(
                    "media_tree_rtp_lost_total{tree_id='t',node_id='a',node_type='relay',broadcast='b',kind='video'}",
                    0.0,
                    20.0,
                ),
                counter(
                    "media_tree_rtp_packets_total{tree_id='t',node_id='a',node_type='relay',broadcast='b',kind='video',direction='in'}",
                    3000.0,
                    3000.0,
                ),
            ],
            [50, 90, 70],
        ),
        Alert::new(
            "MediaTreeSessionsNotRecorded",
            Warning,
            "increase(media_tree_record_put_failures_total[5m])",
            "> 0",
        )
        .says(
            "{{ $labels.node_id }} cannot write session records",
            "Sessions without a record end with the process, if it crashes or is upgraded. The state directory is full \
             or not writable.",
            Number,
        )
        .seen_on(NODES)
        .trial(
            [counter("media_tree_record_put_failures_total{tree_id='t',node_id='a',node_type='egress'}", 0.0, 1.0)],
            [-10, 20, 310],
        ),
    ]
}
