//! Records as the store holds them.

use std::sync::Arc;

use model::{NodeId, TreeId};
use proptest::prelude::*;
use store::{Collection, Embedded, Key, Store as _, Write};

use crate::*;

fn node() -> NodeRecord {
    NodeRecord {
        node: NodeId::new("egress-1").expect("id"),
        tree: TreeId::new("main").expect("id"),
        role: model::Role::Egress,
        incarnation: Incarnation { counter: 7, random: u64::MAX },
        report: 3,
        region: "eu".into(),
        zone: None,
        host: "h1".into(),
        link: Some("10.0.0.1:51000".into()),
        links: Vec::new(),
        url: None,
        ops: None,
        state: NodeState::Ready,
        capacity: Capacity::default(),
        load: Load { viewers: 2, cpu_percent: Some(12.5), ..Load::default() },
        parents: Vec::new(),
        broadcasts: Vec::new(),
        advice: Vec::new(),
        version: "0.1.0".into(),
    }
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let bytes = encode(&node());
    assert_eq!(decode::<NodeRecord>(&bytes).expect("ours"), node());
}

#[test]
fn fields_of_a_later_minor_version_are_passed_over() {
    let mut value: serde_json::Value = serde_json::from_slice(&encode(&node())).expect("JSON");
    value["colour"] = "green".into();
    let bytes = serde_json::to_vec(&value).expect("JSON");
    assert_eq!(decode::<NodeRecord>(&bytes).expect("ours"), node());
}

#[test]
fn what_earlier_versions_do_not_tell_is_not_known() {
    let mut value: serde_json::Value = serde_json::from_slice(&encode(&node())).expect("JSON");
    assert!(value["capacity"].get("egress_mbps").is_none(), "what is not told is not written");
    value["capacity"] = serde_json::json!({ "viewers": 7, "publishers": 0, "children": 64 });
    let record = decode::<NodeRecord>(&serde_json::to_vec(&value).expect("JSON")).expect("an earlier one's");
    assert_eq!((record.capacity.viewers, record.capacity.egress_mbps), (7, None));
    assert_eq!(record.load.promised_mbps, None);
    let earlier =
        br#"{"schema":1,"broadcast":"show","tree":"main","origin":"i","epoch":null,"state":"live"}"#;
    assert_eq!(decode::<BroadcastRecord>(earlier).expect("an earlier one's").rates, None);
}

#[test]
fn a_newer_schema_is_recognised_and_not_taken_apart() {
    let bytes = br#"{"schema": 2, "everything": "else"}"#;
    assert!(matches!(decode::<NodeRecord>(bytes), Err(DecodeError::Newer { found: 2, known: 1 })));
}

#[tokio::test]
async fn a_newer_record_is_never_written_over() {
    let store = Arc::new(Embedded::in_memory());
    let registry = Registry::new(store.clone());
    let key = Key::new(Collection::Trees, "main").expect("key");
    let newer = br#"{"schema": 9}"#.as_slice();
    store.put(&key, newer.into(), Write::any()).await.expect("put");
    let changed = registry.update::<TreeRecord>("main", |_| panic!("it cannot be read")).await;
    assert!(matches!(changed, Err(RegistryError::Decode(DecodeError::Newer { .. }))));
    assert!(registry.list::<TreeRecord>().await.expect("the store is there").is_empty());
}

#[tokio::test]
async fn two_who_change_one_record_both_succeed() {
    let registry = Registry::new(Arc::new(Embedded::in_memory()));
    let drain = |id| Drain { id, deadline_secs: 60 };
    let id = NodeId::new("n").expect("id");
    let first = Assignment { node: id.clone(), parents: Vec::new(), paths: 2, term: 1, drain: None };
    registry.put(&first, Write::any()).await.expect("put");
    let (other, mut is_first) = (registry.clone(), true);
    let changed = registry.update::<Assignment>("n", |found| {
        let found = found.expect("it is there").clone();
        if std::mem::take(&mut is_first) {
            let other = other.clone();
            let parent =
                AssignedParent { node: NodeId::new("p").expect("id"), link: "h:1".into(), links: Vec::new() };
            let write = Assignment { parents: vec![parent], ..found.clone() };
            futures_executor(other, write);
        }
        Some(Assignment { drain: Some(drain(1)), ..found })
    });
    assert!(changed.await.expect("after a lost race"));
    let found = registry.get::<Assignment>("n").await.expect("there").expect("there").record;
    assert_eq!((found.parents.len(), found.drain), (1, Some(drain(1))));
}

/// Lets somebody else write in the middle of a change: the embedded store answers without waiting.
fn futures_executor(registry: Registry, record: Assignment) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        runtime.block_on(async { registry.put(&record, Write::any()).await.expect("put") });
    });
    thread.join().expect("written");
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<NodeRecord>(&bytes);
        let _ = decode::<BroadcastRecord>(&bytes);
    }

    #[test]
    fn decisions_stay_within_a_record(reasons in proptest::collection::vec("\\PC{0,600}", 0..150)) {
        let mut record = DecisionsRecord::new(TreeId::new("main").expect("id"));
        for reason in reasons {
            record.push(Decision {
                at: u64::MAX,
                controller: "c".repeat(63),
                kind: "assign".into(),
                node: Some("n".repeat(63)),
                reason,
            });
        }
        prop_assert!(record.decisions.len() <= DECISIONS_MAX);
        prop_assert!(encode(&record).len() <= store::VALUE_BYTES_MAX);
    }
}

#[test]
fn a_full_part_of_the_places_fits_a_record() {
    let longest = "x".repeat(63);
    let place = Place {
        node: NodeId::new(&longest).expect("id"),
        tree: TreeId::new(&longest).expect("id"),
        role: model::Role::Controller,
        region: longest.clone(),
        health: "draining".into(),
        url: Some(format!("https://{}", "h".repeat(120))),
        report: (u64::MAX, u64::MAX),
        capacity: Capacity {
            viewers: u32::MAX,
            publishers: u32::MAX,
            children: u32::MAX,
            egress_mbps: Some(u32::MAX),
            packets_per_second: Some(u32::MAX),
        },
        load: Some(Load {
            viewers: u32::MAX,
            cpu_percent: Some(99.987_654_321),
            promised_mbps: Some(9_999.987_654_321),
            promised_packets_per_second: Some(f64::from(u32::MAX)),
            ..Load::default()
        }),
        parents: vec![longest; 4],
    };
    let record = PlacesRecord { part: "16".into(), parts: 17, nodes: vec![place; PLACES_MAX] };
    assert!(encode(&record).len() <= store::VALUE_BYTES_MAX, "{} bytes", encode(&record).len());
}

#[test]
fn the_slots_of_the_largest_tree_fit_a_record() {
    let node = |number: u32| SlotNode {
        node: NodeId::new(&format!("egress-{number:012}")).expect("id"),
        role: model::Role::Egress,
    };
    let slot = |number: u32| SlotEntry {
        number,
        state: "attached".into(),
        since: 1_800_000_000,
        place: "process.a-machine-with-a-name.example.net".into(),
        nodes: (0..10).map(|index| node(number * 10 + index)).collect(),
        failures: 0,
        drain: 1_800_000_000_000,
        proposal: None,
    };
    let tree = TreeId::new("main").expect("id");
    let record = SlotsRecord { tree, term: 1, slots: (0..80).map(slot).collect() };
    assert!(encode(&record).len() < store::VALUE_BYTES_MAX, "{}", encode(&record).len());
}
