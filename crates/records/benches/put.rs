//! What writing a record costs: sealing and one `pwrite` into the page cache.

use std::hint::black_box;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use records::{RecordId, SealingKey, Store};

fn put(criterion: &mut Criterion) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    let mut store =
        Store::open(&folder.path().join("state"), &SealingKey::generate([7; 32])).expect("opened");
    let now = SystemTime::now();
    for (name, bytes, records) in
        [("a viewer, 600 bytes, of 1000", 600, 1000), ("a publisher, 12 KB, of 8", 12_000, 8)]
    {
        let record = vec![1; bytes];
        let mut number = 0;
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                number = (number + 1) % records;
                let id = RecordId { kind: 1, number };
                black_box(store.put(now, id, &record)).expect("written");
            });
        });
    }
}

criterion_group!(benches, put);
criterion_main!(benches);
