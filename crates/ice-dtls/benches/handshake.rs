//! What one handshake costs in CPU: both ends of it, from the first check to keys, without a network.
//! Half of it is what a server pays for a viewer.
#![allow(missing_docs)]

use criterion::{Criterion, criterion_group, criterion_main};
use ice_dtls::Certificate;
use pair::Pair;
use std::sync::Arc;

#[allow(dead_code)]
#[path = "../tests/pair/mod.rs"]
mod pair;

fn handshake(criterion: &mut Criterion) {
    let certificate = || Arc::new(Certificate::generate().expect("a certificate"));
    let certificates = [certificate(), certificate()];
    criterion.bench_function("handshake, both ends", |bencher| {
        bencher.iter(|| {
            let mut pair = Pair::new(&certificates);
            pair.establish();
            assert_eq!(pair.ends[pair::SERVER].told.keys.len(), 1);
        });
    });
}

criterion_group!(benches, handshake);
criterion_main!(benches);
