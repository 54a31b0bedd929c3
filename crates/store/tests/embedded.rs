//! The embedded store keeps the contract, and its file keeps what has no lease.

mod contract;

use std::sync::Arc;
use std::time::Duration;

use contract::{event, key};
use store::{Collection, Embedded, Expect, PutError, RECORDS_MAX, Store, WatchEvent, Write};

#[tokio::test(flavor = "multi_thread")]
async fn in_memory_it_keeps_the_contract() {
    contract::all(Arc::new(Embedded::in_memory())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_file_it_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("folder");
    contract::all(Arc::new(Embedded::with_file(&folder.path().join("store")).expect("open"))).await;
}

#[tokio::test]
async fn what_has_no_lease_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("store");
    let (stays, leased, becomes_leased, deleted) = (
        key(Collection::Trees, "stays"),
        key(Collection::Trees, "leased"),
        key(Collection::Trees, "becomes-leased"),
        key(Collection::Trees, "deleted"),
    );
    let store = Embedded::with_file(&path).expect("open");
    let lease = Duration::from_secs(100);
    store.put(&leased, "x".into(), Write::any().lease(lease)).await.expect("put");
    for key in [&stays, &becomes_leased, &deleted] {
        store.put(key, "x".into(), Write::any()).await.expect("put");
    }
    store.put(&becomes_leased, "y".into(), Write::any().lease(lease)).await.expect("put");
    store.delete(&deleted, Expect::Any).await.expect("delete");
    let before = store.get(&stays).await.expect("get").expect("there");
    drop(store);
    let store = Embedded::with_file(&path).expect("open again");
    assert_eq!(store.list(Collection::Trees).await, Ok(vec![before.clone()]));
    let after = store.put(&stays, "z".into(), Write::if_version(before.version)).await.expect("put");
    assert!(after.counter > before.version.counter);
}

#[tokio::test]
async fn a_watch_ends_with_the_store() {
    let store = Embedded::in_memory();
    let mut watch = store.watch(Collection::Nodes);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    drop(store);
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn leases_follow_the_monotonic_clock_to_the_millisecond() {
    let store = Embedded::in_memory();
    let key = key(Collection::Nodes, "n");
    let mut watch = store.watch(Collection::Nodes);
    assert_eq!(event(&mut watch).await, WatchEvent::Snapshot(vec![]));
    let began = tokio::time::Instant::now();
    for _ in 0..5 {
        store.put(&key, "x".into(), Write::any().lease(Duration::from_secs(10))).await.expect("put");
        assert!(matches!(event(&mut watch).await, WatchEvent::Put(_)));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(store.get(&key).await.expect("get").is_some());
    }
    assert_eq!(event(&mut watch).await, WatchEvent::Gone(key));
    let late = began.elapsed() - Duration::from_secs(4 * 9 + 10);
    assert!(late <= Duration::from_millis(1), "{late:?} late");
}

#[tokio::test]
async fn a_flood_of_names_ends_at_the_bound() {
    let store = Embedded::in_memory();
    for index in 0..RECORDS_MAX {
        let key = key(Collection::Places, &format!("s{index}"));
        store.put(&key, "x".into(), Write::if_absent()).await.expect("put");
    }
    let (one_more, there) = (key(Collection::Places, "one-more"), key(Collection::Places, "s0"));
    assert_eq!(store.put(&one_more, "x".into(), Write::any()).await, Err(PutError::Full));
    store.put(&there, "y".into(), Write::any()).await.expect("what is there may change");
    store.delete(&there, Expect::Any).await.expect("delete");
    store.put(&one_more, "x".into(), Write::any()).await.expect("there is room again");
}
