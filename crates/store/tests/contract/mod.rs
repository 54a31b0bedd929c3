//! What every adapter of the store promises. Each test file that has an adapter includes this one and runs [`all`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{
    Collection, Expect, Key, PutError, Record, Store, StoreState, VALUE_BYTES_MAX, Version, Watch,
    WatchEvent, Write,
};

/// Anything that is to happen happens within this time, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// All promises that need no broken store. `store` is empty and nobody else writes to it.
pub async fn all(store: Arc<dyn Store>) {
    a_record_is_there_until_it_is_deleted(&*store).await;
    a_write_happens_only_over_what_it_expects(&*store).await;
    a_record_made_again_is_not_mistaken_for_the_old_one(&*store).await;
    of_many_writers_over_one_version_one_wins(&store).await;
    a_lease_ends_unless_it_is_put_again(&*store).await;
    a_watch_begins_with_all_and_follows_in_order(&*store).await;
    a_watch_of_one_record_sees_no_other(&*store).await;
    a_watch_sees_leases_end(&*store).await;
    a_value_may_be_large_but_not_larger(&*store).await;
    a_watch_that_nobody_reads_goes_on_with_a_snapshot(&store).await;
    a_list_has_everything_of_its_collection(&*store).await;
    assert_eq!(store.state(), StoreState::Up);
    let stats = store.stats();
    assert!(stats.operations > 100 && stats.failures == 0, "{stats:?}");
    assert!(stats.latency_sum > Duration::ZERO, "{stats:?}");
}

pub fn key(collection: Collection, id: &str) -> Key {
    Key::new(collection, id).expect("good id")
}

pub async fn event(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event in time");
    event.expect("the store is open")
}

/// Waits for the next snapshot.
pub async fn snapshot(watch: &mut Watch) -> Vec<Record> {
    loop {
        if let WatchEvent::Snapshot(records) = event(watch).await {
            return records;
        }
    }
}

fn conflict(outcome: Result<Version, PutError>) -> Option<Version> {
    match outcome {
        Err(PutError::Conflict { current }) => current.map(|record| record.version),
        other => panic!("not a conflict: {other:?}"),
    }
}

async fn a_record_is_there_until_it_is_deleted(store: &dyn Store) {
    let key = key(Collection::Trees, "a-record");
    assert_eq!(store.get(&key).await, Ok(None));
    // Every byte, so that no adapter takes values for text.
    let value: Bytes = (0..=255).collect::<Vec<u8>>().into();
    let version = store.put(&key, value.clone(), Write::any()).await.expect("put");
    let record = Record { key: key.clone(), value, version };
    assert_eq!(store.get(&key).await, Ok(Some(record.clone())));
    assert_eq!(store.list(Collection::Trees).await, Ok(vec![record]));
    assert_eq!(store.list(Collection::Broadcasts).await, Ok(vec![]));
    let second = store.put(&key, Bytes::new(), Write::any().durable()).await.expect("put");
    assert_ne!(version, second);
    assert_eq!(store.get(&key).await.expect("get").expect("there").value, "");
    assert_eq!(store.delete(&key, Expect::Any).await, Ok(true));
    assert_eq!(store.delete(&key, Expect::Any).await, Ok(false));
    assert_eq!(store.get(&key).await, Ok(None));
    assert_eq!(store.list(Collection::Trees).await, Ok(vec![]));
}

async fn a_write_happens_only_over_what_it_expects(store: &dyn Store) {
    let key = key(Collection::Broadcasts, "expecting");
    let nobody = Version { counter: 1, writer: 1 };
    assert_eq!(conflict(store.put(&key, "x".into(), Write::if_version(nobody)).await), None);
    assert_eq!(store.get(&key).await, Ok(None));
    let first = store.put(&key, "1".into(), Write::if_absent()).await.expect("absent");
    assert_eq!(conflict(store.put(&key, "x".into(), Write::if_absent()).await), Some(first));
    let second = store.put(&key, "2".into(), Write::if_version(first)).await.expect("the version");
    assert_eq!(conflict(store.put(&key, "x".into(), Write::if_version(first)).await), Some(second));
    let Err(PutError::Conflict { current: Some(current) }) = store.delete(&key, Expect::Version(first)).await
    else {
        panic!("the version is an old one");
    };
    assert_eq!((current.value, current.version), ("2".into(), second));
    assert!(matches!(store.delete(&key, Expect::Absent).await, Err(PutError::Conflict { .. })));
    assert_eq!(store.delete(&key, Expect::Version(second)).await, Ok(true));
    assert_eq!(store.delete(&key, Expect::Version(second)).await, Err(PutError::Conflict { current: None }));
    assert_eq!(store.delete(&key, Expect::Absent).await, Ok(false));
}

async fn a_record_made_again_is_not_mistaken_for_the_old_one(store: &dyn Store) {
    let key = key(Collection::Broadcasts, "again");
    let mut versions = Vec::new();
    for _ in 0..5 {
        let version = store.put(&key, "same".into(), Write::if_absent()).await.expect("put");
        for old in &versions {
            assert_eq!(conflict(store.put(&key, "x".into(), Write::if_version(*old)).await), Some(version));
        }
        versions.push(version);
        assert_eq!(store.delete(&key, Expect::Version(version)).await, Ok(true));
    }
}

async fn of_many_writers_over_one_version_one_wins(store: &Arc<dyn Store>) {
    const WRITERS: u32 = 8;
    const ROUNDS: u32 = 10;
    let key = key(Collection::Leaders, "race");
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (store, key) = (store.clone(), key.clone());
        writers.spawn(async move {
            let mut won = 0;
            while won < ROUNDS {
                let current = store.get(&key).await.expect("get");
                let count = current.as_ref().map_or(0, |record| number(&record.value));
                let expect = current.map_or(Expect::Absent, |record| Expect::Version(record.version));
                match store.put(&key, (count + 1).to_string().into(), Write::expecting(expect)).await {
                    Ok(_) => won += 1,
                    Err(PutError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("writer");
    }
    let last = store.get(&key).await.expect("get").expect("there");
    assert_eq!(number(&last.value), WRITERS * ROUNDS, "no increment was lost");
    assert_eq!(store.delete(&key, Expect::Any).await, Ok(true));
}

fn number(value: &[u8]) -> u32 {
    std::str::from_utf8(value).expect("text").parse().expect("number")
}

async fn a_lease_ends_unless_it_is_put_again(store: &dyn Store) {
    let lease = Duration::from_millis(600);
    let (kept, left) = (key(Collection::Nodes, "kept"), key(Collection::Nodes, "left"));
    let began = tokio::time::Instant::now();
    let old = store.put(&left, "x".into(), Write::any().lease(lease)).await.expect("put");
    assert!(store.get(&left).await.expect("get").is_some() || began.elapsed() >= lease);
    let mut watch = store.watch_one(&left);
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let mut is_gone = false;
    while !is_gone {
        tokio::select! {
            event = event(&mut watch) => {
                is_gone = event == WatchEvent::Gone(left.clone()) || event == WatchEvent::Snapshot(vec![]);
            }
            _ = ticks.tick() => {
                store.put(&kept, "x".into(), Write::any().lease(Duration::from_secs(15))).await.expect("put");
            }
        }
    }
    assert!(began.elapsed() >= lease, "ended after {:?}", began.elapsed());
    assert_eq!(store.get(&left).await, Ok(None));
    let listed = store.list(Collection::Nodes).await.expect("list");
    assert_eq!(listed.iter().map(|record| &record.key).collect::<Vec<_>>(), [&kept]);
    assert_eq!(conflict(store.put(&left, "x".into(), Write::if_version(old)).await), None);
    // A put without a lease takes the lease away.
    store.put(&left, "x".into(), Write::any().lease(lease)).await.expect("put");
    store.put(&left, "x".into(), Write::any()).await.expect("put");
    let ends = key(Collection::Nodes, "ends");
    store.put(&ends, "x".into(), Write::any().lease(lease)).await.expect("put");
    let mut watch = store.watch(Collection::Nodes);
    while event(&mut watch).await != WatchEvent::Gone(ends.clone()) {}
    assert!(store.get(&left).await.expect("get").is_some());
    for key in [kept, left] {
        assert_eq!(store.delete(&key, Expect::Any).await, Ok(true));
    }
}

async fn a_watch_begins_with_all_and_follows_in_order(store: &dyn Store) {
    let (first, second) = (key(Collection::Assignments, "first"), key(Collection::Assignments, "second"));
    let version = store.put(&first, "before".into(), Write::any()).await.expect("put");
    let mut watches = [store.watch(Collection::Assignments), store.watch(Collection::Assignments)];
    for watch in &mut watches {
        let there = Record { key: first.clone(), value: "before".into(), version };
        assert_eq!(event(watch).await, WatchEvent::Snapshot(vec![there]));
    }
    let mut expected = Vec::new();
    for round in 0..50 {
        let (key, value) = (if round % 2 == 0 { &first } else { &second }, Bytes::from(round.to_string()));
        let version = store.put(key, value.clone(), Write::any()).await.expect("put");
        expected.push(WatchEvent::Put(Record { key: key.clone(), value, version }));
        if round % 10 == 9 {
            store.delete(key, Expect::Any).await.expect("delete");
            expected.push(WatchEvent::Gone(key.clone()));
        }
    }
    for watch in &mut watches {
        for expected in &expected {
            assert_eq!(event(watch).await, *expected);
        }
    }
    assert_eq!(store.delete(&first, Expect::Any).await, Ok(true));
    drop(watches);
    // One that begins later sees nothing of that, or the end of it: news of the last step may still be on its way.
    let mut later = store.watch(Collection::Assignments);
    match event(&mut later).await {
        WatchEvent::Snapshot(records) if records.is_empty() => {}
        WatchEvent::Snapshot(records) => {
            assert_eq!(records.iter().map(|record| &record.key).collect::<Vec<_>>(), [&first]);
            assert_eq!(event(&mut later).await, WatchEvent::Gone(first));
        }
        other => panic!("it begins with {other:?}"),
    }
}

async fn a_watch_of_one_record_sees_no_other(store: &dyn Store) {
    let (mine, other) = (key(Collection::Assignments, "mine"), key(Collection::Assignments, "mine-too"));
    let mut watch = store.watch_one(&mine);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    store.put(&other, "x".into(), Write::any()).await.expect("put");
    let version = store.put(&mine, "y".into(), Write::any()).await.expect("put");
    let record = Record { key: mine.clone(), value: "y".into(), version };
    assert_eq!(event(&mut watch).await, WatchEvent::Put(record.clone()));
    assert_eq!(event(&mut store.watch_one(&mine)).await, WatchEvent::Snapshot(vec![record]));
    store.delete(&other, Expect::Any).await.expect("delete");
    store.delete(&mine, Expect::Any).await.expect("delete");
    assert_eq!(event(&mut watch).await, WatchEvent::Gone(mine));
}

async fn a_watch_sees_leases_end(store: &dyn Store) {
    let (short, long) = (key(Collection::Places, "short"), key(Collection::Places, "long"));
    let mut watch = store.watch(Collection::Places);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    for (key, lease) in [(&long, 2500), (&short, 300)] {
        let write = Write::any().lease(Duration::from_millis(lease));
        let version = store.put(key, "x".into(), write).await.expect("put");
        assert_eq!(
            event(&mut watch).await,
            WatchEvent::Put(Record { key: key.clone(), value: "x".into(), version })
        );
    }
    assert_eq!(event(&mut watch).await, WatchEvent::Gone(short));
    // A watch that begins in the middle of a lease knows when it ends too.
    let mut later = store.watch(Collection::Places);
    while event(&mut later).await != WatchEvent::Gone(long.clone()) {}
    assert_eq!(event(&mut watch).await, WatchEvent::Gone(long));
}

async fn a_value_may_be_large_but_not_larger(store: &dyn Store) {
    let key = key(Collection::Declared, "large");
    let value = Bytes::from(vec![0xAB; VALUE_BYTES_MAX]);
    let mut watch = store.watch(Collection::Declared);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    let version = store.put(&key, value.clone(), Write::any()).await.expect("put");
    let larger = Bytes::from(vec![0xAB; VALUE_BYTES_MAX + 1]);
    let refused = store.put(&key, larger, Write::any()).await;
    assert_eq!(refused, Err(PutError::TooLarge { bytes: VALUE_BYTES_MAX + 1 }));
    let record = Record { key: key.clone(), value, version };
    assert_eq!(store.get(&key).await, Ok(Some(record.clone())));
    assert_eq!(event(&mut watch).await, WatchEvent::Put(record));
    assert_eq!(store.delete(&key, Expect::Any).await, Ok(true));
}

async fn a_watch_that_nobody_reads_goes_on_with_a_snapshot(store: &Arc<dyn Store>) {
    const WRITES: usize = 1500;
    let key = key(Collection::Decisions, "busy");
    let mut idle = store.watch(Collection::Decisions);
    let mut reader = store.watch(Collection::Decisions);
    assert_eq!(event(&mut idle).await, WatchEvent::Snapshot(vec![]));
    let mut last = None;
    for _ in 0..WRITES {
        last = Some(store.put(&key, "x".into(), Write::any()).await.expect("put"));
    }
    // Once another watch has seen the last write, the idle one was told of it too.
    loop {
        let version = match event(&mut reader).await {
            WatchEvent::Snapshot(records) => records.first().map(|record| record.version),
            WatchEvent::Put(record) => Some(record.version),
            WatchEvent::Gone(_) => None,
        };
        if version == last {
            break;
        }
    }
    let records = snapshot(&mut idle).await;
    assert_eq!(records.first().map(|record| record.version), last);
    assert!(store.stats().watch_overflows > 0);
    store.delete(&key, Expect::Any).await.expect("delete");
    assert_eq!(event(&mut idle).await, WatchEvent::Gone(key));
}

async fn a_list_has_everything_of_its_collection(store: &dyn Store) {
    let keys: Vec<Key> =
        (0..300).map(|index| key(Collection::Broadcasts, &format!("of-many-{index:03}"))).collect();
    for key in &keys {
        store.put(key, key.to_string().into(), Write::if_absent()).await.expect("put");
    }
    let listed = store.list(Collection::Broadcasts).await.expect("list");
    assert_eq!(listed.iter().map(|record| &record.key).collect::<Vec<_>>(), keys.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|record| record.value == record.key.to_string()));
    for key in &keys {
        store.delete(key, Expect::Any).await.expect("delete");
    }
    assert_eq!(store.list(Collection::Broadcasts).await, Ok(vec![]));
}
