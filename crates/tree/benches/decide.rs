//! What a decision costs: 1000 nodes with 40 000 viewers, at rest, from nothing, and when a relay dies.
#![allow(missing_docs, reason = "criterion's macros")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use support::World;
use tree::topology::decide;

fn world() -> World {
    let mut world = World::new(4, 96, 900);
    world.publish("second", "i001");
    world.each("e", |node| {
        if let Some(load) = &mut node.load {
            load.viewers = 44;
        }
    });
    world
}

fn decisions(criterion: &mut Criterion) {
    let fresh = world();
    criterion.bench_function("decide/1000 nodes/from nothing", |bencher| {
        bencher.iter(|| decide(black_box(&fresh.0)))
    });
    let mut settled = world();
    settled.settle();
    criterion.bench_function("decide/1000 nodes/at rest", |bencher| {
        bencher.iter(|| decide(black_box(&settled.0)))
    });
    settled.kill("r000");
    criterion.bench_function("decide/1000 nodes/a relay dies", |bencher| {
        bencher.iter(|| decide(black_box(&settled.0)))
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
