//! The control plane, and monitoring itself.

use crate::alert::Severity::{Critical, Warning};
use crate::alert::Shown::Number;
use crate::alert::{Alert, counter, gauge, gone};
use crate::dashboards::{CONTROL, OVERVIEW};

pub(super) fn all() -> Vec<Alert> {
    [deciding(), growing(), consequences()].concat()
}

fn deciding() -> Vec<Alert> {
    vec![
        Alert::new("MediaTreeStoreUnreachable", Critical, "sum by (tree_id) (1 - media_tree_store_up)", "> 0")
            .lasting("15s")
            .says(
                "Nodes of {{ $labels.tree_id }} cannot reach the store",
                "Media goes on, and known broadcasts can be joined. New broadcasts do not become known at other nodes, \
                 and nothing is decided, until the store is back.",
                Number,
            )
            .seen_on(CONTROL)
            .trial([gauge("media_tree_store_up{tree_id='t',node_id='a',node_type='relay'}", 1.0, 0.0)], [
                10, 40, 10,
            ]),
        Alert::new(
            "MediaTreeNoControllerLeader",
            Critical,
            // With all controllers gone there is no series at all.
            "(sum(media_tree_controller_is_leader) or vector(0))",
            "< 1",
        )
        // Trees whose parents are all given by hand have no store and need no controller.
        .only_while("and on () count(media_tree_store_up) > 0")
        .lasting("30s")
        .says(
            "No controller leads",
            "Media goes on, and nodes replace silent parents from their standbys; nothing else is decided until a \
             controller is back.",
            Number,
        )
        .seen_on(CONTROL)
        .trial(
            [
                gone("media_tree_controller_is_leader{tree_id='t',node_id='c',node_type='controller'}", 1.0),
                gauge("media_tree_store_up{tree_id='t',node_id='a',node_type='relay'}", 1.0, 1.0),
            ],
            [20, 50, 10],
        ),
        Alert::new(
            "MediaTreeDecisionsFail",
            Warning,
            "increase(media_tree_controller_decision_failures_total[5m])",
            "> 0",
        )
        .lasting("1m")
        .says(
            "{{ $labels.node_id }} could not carry out what it decided",
            "It tries again each second. If that goes on, the store refuses its writes.",
            Number,
        )
        .seen_on(CONTROL)
        .trial(
            [counter("media_tree_controller_decision_failures_total{tree_id='t',node_id='c',node_type='controller'}", 0.0, 1.0)],
            [50, 80, 310],
        ),
    ]
}

fn growing() -> Vec<Alert> {
    let series = |name: &str| format!("{name},tree_id='t',node_id='c',node_type='controller'}}");
    vec![
        Alert::new("MediaTreeNoWarmSlot", Warning, r#"max(media_tree_slots{state="warm"})"#, "< 1")
            // Templates without slots want none, and so does who does not let trees grow.
            .only_while("and on () max(media_tree_slots_warm_wanted) > 0")
            .lasting("3m")
            .says(
                "No warm slot is left",
                "The next sub-tree begins without a relay that runs already, and the reserve is not filled again: \
                 `media-tree status` says why.",
                Number,
            )
            .seen_on(CONTROL)
            .trial(
                [
                    gauge(series("media_tree_slots{state='warm'"), 1.0, 0.0),
                    gauge("media_tree_slots_warm_wanted{tree_id='t',node_id='c',node_type='controller'}", 1.0, 1.0),
                ],
                [170, 200, 10],
            ),
        Alert::new(
            "MediaTreeProvisioningFailed",
            Warning,
            "increase(media_tree_provision_failures_total[10m])",
            "> 0",
        )
        .says(
            "Nodes that were wanted did not come: {{ $labels.reason }}",
            "They could not be started, or were not healthy in time. It is tried again later and later; until then the tree \
             does not grow.",
            Number,
        )
        .seen_on(CONTROL)
        .trial([counter(series("media_tree_provision_failures_total{reason='refused'"), 0.0, 1.0)], [-10, 20, 620]),
    ]
}

fn consequences() -> Vec<Alert> {
    vec![
        Alert::new("MediaTreeShortOfNodes", Warning, "max(media_tree_controller_findings)", "> 0")
            .lasting("2m")
            .says(
                "More or other nodes would mend something",
                "The controller found something that it cannot put right with the nodes it has: a node without second \
                 parent, too few relays, a region without injection. `media-tree status` says what.",
                Number,
            )
            .seen_on(CONTROL)
            .trial([gauge("media_tree_controller_findings{tree_id='t',node_id='c',node_type='controller'}", 0.0, 2.0)], [
                110, 140, 10,
            ]),
        Alert::new(
            "MediaTreeWebhookEventsLost",
            Warning,
            r#"increase(media_tree_webhook_events_total{result="dropped"}[5m])"#,
            "> 0",
        )
        .says(
            "Your server did not take events of {{ $labels.node_id }}",
            "Events about broadcasts were given up after several tries, or because too many waited.",
            Number,
        )
        .seen_on(CONTROL)
        .trial(
            [counter("media_tree_webhook_events_total{tree_id='t',node_id='a',node_type='injection',result='dropped'}", 0.0, 1.0)],
            [-10, 20, 310],
        ),
        Alert::new(
            "MediaTreeMonitoringBlind",
            Critical,
            r#"(count(up{job="media-tree"}) or vector(0))"#,
            "< 1",
        )
        .lasting("1m")
        .says(
            "Prometheus knows no node at all",
            "The controller's list of targets (`/api/v1/targets`) is empty, refused or out of reach: nothing of \
             Media-Tree is being watched.",
            Number,
        )
        .seen_on(OVERVIEW)
        .trial([gone("up{job='media-tree',tree_id='t',node_id='a'}", 1.0)], [
            50, 80, 10,
        ]),
    ]
}
