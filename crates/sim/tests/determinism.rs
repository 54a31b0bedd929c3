//! A seed is a test only if it always plays the same.

use std::collections::BTreeSet;

use sim::scenario;

#[test]
fn the_same_seed_leaves_the_same_trace_and_another_one_another() {
    let traces: Vec<_> = (100..104).map(|seed| scenario::play(seed).expect("a good life")).collect();
    let again: Vec<_> = (100..104).map(|seed| scenario::play(seed).expect("a good life")).collect();
    assert_eq!(traces, again);
    assert_eq!(traces.iter().collect::<BTreeSet<_>>().len(), traces.len());
}
