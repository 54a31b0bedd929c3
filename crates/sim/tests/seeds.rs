//! Random lives of random trees. `SIM_SEED=n` plays one seed, `SIM_SEEDS=n` so many from 0.

use sim::scenario;

/// Seeds that are played where nothing else is asked for.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number of seeds, or a seed"))
}

#[test]
fn no_invariant_breaks_in_random_lives() {
    let (first, count) = match (number("SIM_SEED"), number("SIM_SEEDS")) {
        (Some(seed), _) => (seed, 1),
        (None, seeds) => (0, seeds.unwrap_or(SEEDS)),
    };
    let failures: Vec<_> = (first..first + count).filter_map(|seed| scenario::play(seed).err()).collect();
    let lines: Vec<_> = failures.iter().take(20).map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} of {count} lives failed:\n{}", failures.len(), lines.join("\n"));
}
