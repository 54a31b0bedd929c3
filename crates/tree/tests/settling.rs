//! Decisions come to an end, whatever the tree and whatever befell it: they ask for nothing once it is done.
//!
//! `TREE_SEED=n` plays one drawn tree, `TREE_SEEDS=n` so many, from `TREE_FIRST=n` on, which is 0 where it is not said.

mod support;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::drawn::{Drawn, Event, apply, drawn, event, world};
use tree::template::Limits;
use tree::topology::decide;

/// Trees that are drawn where nothing else is asked for.
const SEEDS: u64 = 3000;

type Life = (Vec<Drawn>, Vec<Vec<Event>>);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of drawn trees, or one"))
}

fn draw(seed: u64) -> Life {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    let nodes = prop::collection::vec(drawn(), 1..60);
    let events = prop::collection::vec(prop::collection::vec(event(), 1..4), 0..25);
    (nodes, events).new_tree(&mut runner).expect("nothing is filtered").current()
}

/// How many decisions it took from nothing, and after the last event; `None`: it did not end.
fn play(life: &Life) -> [Option<usize>; 2] {
    play_within(life, |_| {})
}

/// The same in a tree of another template.
fn play_within((nodes, events): &Life, limits: impl FnOnce(&mut Limits)) -> [Option<usize>; 2] {
    let mut world = world(nodes);
    world.template(|template| limits(&mut template.limits));
    let first = world.decisions();
    for (number, events) in events.iter().enumerate() {
        for (place, event) in events.iter().enumerate() {
            apply(&mut world, event, number * 10 + place);
        }
        world.store(&decide(&world.0));
    }
    world.connect();
    [first, world.decisions()]
}

fn settle(seeds: &[u64]) {
    for seed in seeds {
        let decisions = play(&draw(*seed));
        assert!(decisions.iter().all(Option::is_some), "drawn tree {seed}: {decisions:?}");
    }
}

#[test]
fn a_relay_that_came_in_for_its_places_does_not_go_because_it_is_there() {
    settle(&[2914, 43_589, 72_172, 105_280]);
}

#[test]
fn nobody_gives_up_a_place_that_the_other_one_does_not_take() {
    settle(&[2494]);
}

#[test]
fn a_place_that_was_given_up_is_not_taken_for_a_parent_nearer_by() {
    settle(&[101_807, 101_908]);
}

#[test]
fn decisions_come_to_an_end() {
    let (first, count) = match (number("TREE_SEED"), number("TREE_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, seeds) => (number("TREE_FIRST").unwrap_or(0), seeds.unwrap_or(SEEDS)),
    };
    let (mut unsettled, mut most) = (Vec::new(), [0; 2]);
    for seed in first..first + count {
        match play(&draw(seed)) {
            [Some(from_nothing), Some(at_last)] => most = [most[0].max(from_nothing), most[1].max(at_last)],
            [None, _] | [_, None] => unsettled.push(seed),
        }
    }
    println!("{count} drawn trees: at most {} decisions from nothing, {} after events", most[0], most[1]);
    assert!(unsettled.is_empty(), "{} of {count} do not settle: {unsettled:?}", unsettled.len());
}

/// Trees that are drawn for each template of its own.
const SEEDS_OF_TEMPLATES: u64 = 150;

#[test]
fn decisions_come_to_an_end_whatever_the_template() {
    type Change = fn(&mut Limits);
    let templates: [(&str, Change); 6] = [
        ("one parent", |limits| (limits.paths, limits.standbys) = (1, 0)),
        ("five parents", |limits| (limits.paths, limits.standbys) = (3, 2)),
        ("relays always", |limits| limits.direct_children_max = 0),
        ("no relays", |limits| (limits.relay_levels_max, limits.direct_children_max) = (0, 3)),
        ("one relay in a row", |limits| (limits.relay_levels_max, limits.direct_children_max) = (1, 2)),
        ("relays of five children", |limits| limits.relay_children_max = Some(5)),
    ];
    let count = number("TREE_SEEDS").unwrap_or(SEEDS_OF_TEMPLATES);
    let first = number("TREE_FIRST").unwrap_or(0);
    for (name, limits) in templates {
        let is_endless = |seed: &u64| play_within(&draw(*seed), limits).iter().any(Option::is_none);
        let unsettled: Vec<u64> = (first..first + count).filter(is_endless).collect();
        assert!(unsettled.is_empty(), "{name}: {} of {count} do not settle: {unsettled:?}", unsettled.len());
    }
}
