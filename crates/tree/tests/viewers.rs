//! Totals are what nodes said last: counted once, never below zero.

mod support;

use std::collections::BTreeMap;

use model::BroadcastId;
use proptest::prelude::*;
use support::{broadcast_id, node_id, tree_id};
use tree::viewers::{Report, ViewerCounts};
use tree::{Incarnation, Version};

fn report(run: u64, version: u64, broadcasts: &[(&str, u32)]) -> Report {
    Report {
        tree: tree_id(),
        incarnation: Incarnation { counter: run, random: 9 },
        version: Version { counter: version, writer: version },
        viewers: broadcasts.iter().fold(0u32, |sum, (_, viewers)| sum.saturating_add(*viewers)),
        broadcasts: broadcasts.iter().map(|(name, viewers)| (broadcast_id(name), *viewers)).collect(),
    }
}

#[test]
fn a_node_counts_with_its_latest_report() {
    let mut counts = ViewerCounts::new();
    assert!(counts.report(&node_id("e1"), report(1, 1, &[("a", 5), ("b", 2)])));
    assert!(counts.report(&node_id("e2"), report(1, 1, &[("a", 3)])));
    assert_eq!(counts.of_tree(&tree_id()), 10);
    assert!(counts.report(&node_id("e1"), report(1, 2, &[("a", 1)])));
    assert!(!counts.report(&node_id("e1"), report(1, 2, &[("a", 100)])), "the same report again");
    assert_eq!(counts.of_broadcast(&tree_id(), &broadcast_id("a")), 4);
    assert_eq!(counts.of_broadcast(&tree_id(), &broadcast_id("b")), 0);
    let names: Vec<&BroadcastId> = counts.broadcasts().map(|(_, broadcast, _)| broadcast).collect();
    assert_eq!(names, [&broadcast_id("a")]);
}

#[test]
fn a_restarted_node_is_not_counted_twice_and_the_run_before_not_again() {
    let mut counts = ViewerCounts::new();
    counts.report(&node_id("e1"), report(1, 8, &[("a", 200)]));
    counts.report(&node_id("e1"), report(2, 9, &[("a", 200)]));
    assert_eq!(counts.of_tree(&tree_id()), 200);
    assert!(!counts.report(&node_id("e1"), report(1, 10, &[("a", 7)])), "a ghost");
    counts.remove(&node_id("e1"));
    counts.remove(&node_id("e1"));
    assert_eq!((counts.of_tree(&tree_id()), counts.of_node(&node_id("e1"))), (0, 0));
}

#[test]
fn a_report_that_contradicts_itself_does_no_harm() {
    let mut counts = ViewerCounts::new();
    let odd = Report { viewers: 1, ..report(1, 1, &[("a", 5), ("a", 6), ("b", u32::MAX)]) };
    counts.report(&node_id("e1"), odd);
    assert_eq!(counts.of_broadcast(&tree_id(), &broadcast_id("a")), 6);
    assert_eq!(counts.of_node(&node_id("e1")), u64::from(u32::MAX));
    counts.remove(&node_id("e1"));
    assert_eq!(counts.of_broadcast(&tree_id(), &broadcast_id("a")), 0);
}

proptest! {
    #[test]
    fn totals_are_the_sum_of_the_latest_reports(
        steps in prop::collection::vec((0u64..6, 0u64..3, 0u8..10, 0u32..50, 0u32..50), 1..100),
    ) {
        let mut counts = ViewerCounts::new();
        let mut model: BTreeMap<u64, (u64, u32, u32)> = BTreeMap::new();
        for (version, (node, run, event, first, second)) in (0..).zip(steps) {
            let id = node_id(&format!("e{node}"));
            if event == 0 {
                counts.remove(&id);
                model.remove(&node);
            } else if counts.report(&id, report(run, version, &[("a", first), ("b", second)])) {
                prop_assert!(model.get(&node).is_none_or(|known| known.0 <= run));
                model.insert(node, (run, first, second));
            }
            let of = |name: &str| counts.of_broadcast(&tree_id(), &broadcast_id(name));
            prop_assert_eq!(of("a"), model.values().map(|known| u64::from(known.1)).sum::<u64>());
            prop_assert_eq!(of("b"), model.values().map(|known| u64::from(known.2)).sum::<u64>());
            prop_assert_eq!(counts.of_tree(&tree_id()), of("a") + of("b"));
        }
    }
}
