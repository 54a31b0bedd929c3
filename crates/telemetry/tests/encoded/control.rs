//! Controllers and the store.

use std::time::Duration;

use model::Role;
use telemetry::controller::{self, DecisionKind, NodeState, ProvisionFailure, ScalingSnapshot, SlotState};
use telemetry::{Distribution, store};

use crate::{telemetry, telemetry_of, value, value_of_role};

#[test]
fn a_controller_shows_what_it_sees_and_does() {
    let telemetry = telemetry_of(Role::Controller);
    let value = |name: &str, labels: &[&str]| value_of_role(&telemetry.encode(), "controller", name, labels);
    assert_eq!(value("media_tree_controller_decisions_total", &[r#"kind="assign""#]), Some(0.0));
    assert_eq!(value("media_tree_controller_is_leader", &[]), None, "nothing was seen yet");
    let controller = &telemetry.controller;
    controller.decided(DecisionKind::Assign);
    controller.decision_failed();
    controller.computed(Duration::from_millis(2));
    let seen = controller::Snapshot {
        is_leader: true,
        is_settled: true,
        trees: 1,
        nodes: [((Role::Egress, NodeState::Ready), 16), ((Role::Relay, NodeState::Dead), 1)].into(),
        broadcasts: (2, 1),
        viewers: 40_000,
        findings: 1,
    };
    for is_leader in [true, true, false, true] {
        let seen = controller::Snapshot { is_leader, ..seen.clone() };
        controller.looked(seen, Duration::from_millis(20));
    }
    for (name, labels, expected) in [
        ("media_tree_controller_is_leader", &[][..], 1.0),
        ("media_tree_controller_is_settled", &[], 1.0),
        ("media_tree_controller_leaderships_total", &[], 2.0),
        ("media_tree_controller_trees", &[], 1.0),
        ("media_tree_controller_viewers", &[], 40_000.0),
        ("media_tree_controller_findings", &[], 1.0),
        ("media_tree_controller_nodes", &[r#"role="egress""#, r#"state="ready""#], 16.0),
        ("media_tree_controller_nodes", &[r#"role="relay""#, r#"state="dead""#], 1.0),
        ("media_tree_controller_nodes", &[r#"role="relay""#, r#"state="ready""#], 0.0),
        ("media_tree_controller_broadcasts", &[r#"state="live""#], 2.0),
        ("media_tree_controller_broadcasts", &[r#"state="waiting""#], 1.0),
        ("media_tree_controller_decisions_total", &[r#"kind="assign""#], 1.0),
        ("media_tree_controller_decisions_total", &[r#"kind="end""#], 0.0),
        ("media_tree_controller_decision_failures_total", &[], 1.0),
        ("media_tree_controller_decide_seconds_count", &[], 1.0),
        ("media_tree_controller_reconcile_seconds_count", &[], 4.0),
    ] {
        assert_eq!(value(name, labels), Some(expected), "{name} {labels:?}");
    }
}

#[test]
fn a_controller_shows_how_trees_grow_while_it_sees_to_it() {
    let telemetry = telemetry_of(Role::Controller);
    let value = |name: &str, labels: &[&str]| value_of_role(&telemetry.encode(), "controller", name, labels);
    let controller = &telemetry.controller;
    assert_eq!(value("media_tree_slots_warm_wanted", &[]), None, "it does not act");
    controller.provisioned(Duration::from_secs(3));
    controller.provision_failed(ProvisionFailure::NotHealthy, 2);
    controller.scaled(Some(ScalingSnapshot {
        slots: [(SlotState::Warm, 1), (SlotState::Attached, 3)].into(),
        warm_wanted: 1,
        places: 40_000,
        demand: 30_000,
        proposals: 1,
    }));
    for (name, labels, expected) in [
        ("media_tree_slots", &[r#"state="warm""#][..], 1.0),
        ("media_tree_slots", &[r#"state="attached""#], 3.0),
        ("media_tree_slots", &[r#"state="cold""#], 0.0),
        ("media_tree_slots_warm_wanted", &[], 1.0),
        ("media_tree_scaling_places", &[], 40_000.0),
        ("media_tree_scaling_demand", &[], 30_000.0),
        ("media_tree_scaling_proposals", &[], 1.0),
        ("media_tree_provision_seconds_count", &[], 1.0),
        ("media_tree_provision_seconds_sum", &[], 3.0),
        ("media_tree_provision_failures_total", &[r#"reason="not_healthy""#], 2.0),
        ("media_tree_provision_failures_total", &[r#"reason="timed_out""#], 0.0),
    ] {
        assert_eq!(value(name, labels), Some(expected), "{name} {labels:?}");
    }
    controller.scaled(None);
    assert_eq!(value("media_tree_slots", &[r#"state="warm""#]), None, "another one acts");
}

#[test]
fn a_node_that_cannot_decide_has_no_series_of_decisions() {
    for role in [Role::Injection, Role::Relay, Role::Egress] {
        assert!(!telemetry_of(role).encode().contains("media_tree_controller"), "{role}");
    }
    assert!(telemetry_of(Role::All).encode().contains("media_tree_controller_decisions"));
}

#[test]
fn the_store_is_shown_where_there_is_one() {
    let telemetry = telemetry();
    assert!(!telemetry.encode().contains("media_tree_store"));
    telemetry.store.publish(store::Snapshot {
        is_up: true,
        operations: 7,
        failures: 2,
        outages: 1,
        operation_seconds: Distribution::new([0.001, 0.01], [4, 2, 1], 0.5),
        ..store::Snapshot::default()
    });
    let text = telemetry.encode();
    for (name, labels, expected) in [
        ("media_tree_store_up", &[][..], 1.0),
        ("media_tree_store_operations_total", &[], 7.0),
        ("media_tree_store_failures_total", &[], 2.0),
        ("media_tree_store_outages_total", &[], 1.0),
        ("media_tree_store_malformed_total", &[], 0.0),
        ("media_tree_store_operation_seconds_bucket", &[r#"le="0.01""#], 6.0),
        ("media_tree_store_operation_seconds_bucket", &[r#"le="+Inf""#], 7.0),
        ("media_tree_store_operation_seconds_sum", &[], 0.5),
    ] {
        assert_eq!(value(&text, name, labels), Some(expected), "{name} {labels:?}");
    }
}
