//! The control plane under virtual time. `SIM_SEED=n` plays one seed, `SIM_SEEDS=n` so many from 0.

use std::time::Duration;

use sim::control::{flash, life};

/// Lives that are played where nothing else is asked for.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"))
}

#[test]
fn no_invariant_breaks_in_random_lives_of_control_planes() {
    let (first, count) = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, seeds) => (0, seeds.unwrap_or(SEEDS)),
    };
    let (mut failures, mut longest, mut excused) = (Vec::new(), Duration::ZERO, 0);
    for seed in first..first + count {
        match life::play(seed) {
            Ok(dark) => {
                longest = longest.max(dark.longest);
                excused += u64::from(dark.cut_off + dark.undecided + dark.no_place > 0);
            }
            Err(failure) => failures.push(failure.to_string()),
        }
    }
    println!(
        "{count} lives: longest without a path {longest:?}; {excused} with a counted reason to be longer"
    );
    let shown: Vec<_> = failures.iter().take(20).cloned().collect();
    assert!(failures.is_empty(), "{} of {count} lives failed:\n{}", failures.len(), shown.join("\n"));
}

#[test]
fn forty_thousand_viewers_join_in_a_minute_while_a_relay_and_an_egress_die() {
    let seed = number("SIM_SEED").unwrap_or(1);
    let summary = flash::play(seed).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    println!("seed {seed}: {summary:#?}");
    assert_eq!(summary.viewers, flash::VIEWERS, "everybody has a place");
    assert!(summary.children_lost > 0 && summary.viewers_lost > 0);
    assert_eq!(summary.dark, Duration::ZERO, "the second parent feeds on");
    assert!(summary.waits[1] < 2000, "99 of 100 have a place in {} ms", summary.waits[1]);
    assert!(summary.spread[1] - summary.spread[0] <= 20, "{:?}", summary.spread);
    assert_eq!(summary.nowhere, 0);
}

#[test]
fn a_silent_child_and_the_one_that_came_meanwhile_do_not_share_a_place() {
    life::play(176).expect("a good life");
}

#[test]
fn nodes_keep_their_places_when_the_store_has_lost_everything() {
    for seed in [2767, 3430, 3755, 4838] {
        life::play(seed).unwrap_or_else(|failure| panic!("{failure}"));
    }
}

#[test]
fn a_life_is_the_same_each_time() {
    assert_eq!(life::play(7).expect("a good life"), life::play(7).expect("a good life"));
}
