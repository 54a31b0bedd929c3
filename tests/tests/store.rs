//! The store in real Redis servers: the contract, and what their deaths, freezes and failovers do to it.

#[path = "../../crates/store/tests/contract/mod.rs"]
mod contract;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use contract::{event, key, snapshot};
use store::{
    Collection, Key, Options, PutError, Store, StoreState, Unavailable, Version, Watch, WatchEvent, Write,
    open,
};
use tests::far;
use tests::program::until;
use tests::redis::{Gaps, Group, PARTS, Redis};
use tests::tools;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

type Result = anyhow::Result<()>;

/// What has not ended by then hangs: operations promise [`store::ANSWER_WITHIN`], a failover takes 2.5 s on an idle
/// machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn has_redis(name: &str) -> bool {
    PARTS.iter().all(|part| tools::has(name, part))
}

fn store(url: &str) -> Arc<dyn Store> {
    open(url, &Options::default()).expect("the URL is good")
}

async fn until_up(store: &Arc<dyn Store>) -> Result {
    until("the store is up", || async { Ok(store.state() == StoreState::Up) }).await
}

/// A put that must end, whatever its outcome.
async fn put_in_time(store: &Arc<dyn Store>, key: &Key) -> std::result::Result<Version, PutError> {
    timeout(PATIENCE, store.put(key, "x".into(), Write::any())).await.expect("an outcome in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() -> Result {
    if !has_redis("redis_keeps_the_contract") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    contract::all(store(&redis.url())).await;
    let keys = redis.ask(&["KEYS", "*"])?;
    assert!(keys.lines().all(|key| key.starts_with("media-tree:")), "{keys}");
    // Two databases of one server are two stores.
    let other = store(&format!("{}/5", redis.url()));
    contract::all(other).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_on_another_continent_is_reached() -> Result {
    if !has_redis("a_redis_on_another_continent_is_reached") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let far = far::listen((Ipv4Addr::LOCALHOST, redis.port).into(), Duration::from_millis(125)).await?;
    let (store, key) = (store(&format!("redis://{far}")), key(Collection::Broadcasts, "b"));
    until_up(&store).await?;
    let mut watch = store.watch(Collection::Broadcasts);
    assert_eq!(snapshot(&mut watch).await, []);
    let version = put_in_time(&store, &key).await?;
    timeout(PATIENCE, until_seen(&mut watch, version)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_behind_sentinels_keeps_the_contract() -> Result {
    if !has_redis("redis_behind_sentinels_keeps_the_contract") {
        return Ok(());
    }
    let group = Group::start().await?;
    contract::all(store(&group.url())).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_dead_operations_fail_in_time_and_watches_wait_for_its_return() -> Result {
    if !has_redis("while_redis_is_dead_operations_fail_in_time_and_watches_wait_for_its_return") {
        return Ok(());
    }
    let mut redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Broadcasts, "b"));
    put_in_time(&store, &key).await?;
    let mut watch = store.watch(Collection::Broadcasts);
    let mut watch_of_one = store.watch_one(&key);
    assert_eq!(snapshot(&mut watch).await.len(), 1);
    assert_eq!(snapshot(&mut watch_of_one).await.len(), 1);
    redis.kill()?;
    for _ in 0..5 {
        let outcome = put_in_time(&store, &key).await;
        assert!(matches!(outcome, Err(PutError::Unavailable(_))), "{outcome:?}");
    }
    // Who holds the connection may be a moment later to see it than who uses it.
    until("it is seen", async || Ok(matches!(store.state(), StoreState::Down { .. }))).await?;
    redis.start_again().await?;
    // It kept nothing; everybody is told that.
    assert_eq!(snapshot(&mut watch).await, []);
    assert_eq!(snapshot(&mut watch_of_one).await, []);
    until_up(&store).await?;
    let version = put_in_time(&store, &key).await?;
    for watch in [&mut watch, &mut watch_of_one] {
        timeout(PATIENCE, until_seen(watch, version)).await?;
    }
    let stats = store.stats();
    assert!(stats.failures >= 5 && stats.outages >= 1 && stats.resolutions >= 2, "{stats:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_unavailable_in_time_and_goes_on_when_it_thaws() -> Result {
    if !has_redis("a_frozen_redis_is_unavailable_in_time_and_goes_on_when_it_thaws") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Broadcasts, "b"));
    let mut watch = store.watch(Collection::Broadcasts);
    assert_eq!(snapshot(&mut watch).await, []);
    redis.signal("STOP")?;
    for _ in 0..3 {
        let outcome = put_in_time(&store, &key).await;
        let expected = Unavailable::TimedOut { within: store::ANSWER_WITHIN };
        assert_eq!(outcome, Err(PutError::Unavailable(expected)));
    }
    assert!(matches!(store.state(), StoreState::Down { .. }));
    redis.signal("CONT")?;
    // The write that nobody heard back from may have happened: the snapshot tells.
    snapshot(&mut watch).await;
    until_up(&store).await?;
    let version = put_in_time(&store, &key).await?;
    timeout(PATIENCE, until_seen(&mut watch, version)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_refuses_writes_and_keeps_its_connections() -> Result {
    if !has_redis("a_full_redis_refuses_writes_and_keeps_its_connections") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Broadcasts, "b"));
    put_in_time(&store, &key).await?;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"])?;
    let before = store.stats();
    for _ in 0..3 {
        let outcome = put_in_time(&store, &key).await;
        assert!(matches!(outcome, Err(PutError::Unavailable(Unavailable::Refused(_)))), "{outcome:?}");
    }
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"])?;
    put_in_time(&store, &key).await?;
    let after = store.stats();
    assert_eq!(
        (after.outages, after.resolutions),
        (before.outages, before.resolutions),
        "nobody dialled anew"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_is_noticed_without_any_operation() -> Result {
    if !has_redis("a_freeze_is_noticed_without_any_operation") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let store = store(&redis.url());
    until_up(&store).await?;
    redis.signal("STOP")?;
    until("the store is down", || async { Ok(matches!(store.state(), StoreState::Down { .. })) }).await?;
    redis.signal("CONT")?;
    until_up(&store).await
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_redis_is_noticed_without_any_write() -> Result {
    if !has_redis("emptied_redis_is_noticed_without_any_write") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Broadcasts, "b"));
    for _ in 0..5 {
        store.put(&key, "x".into(), Write::any()).await?;
    }
    let mut watch = store.watch(Collection::Broadcasts);
    assert_eq!(snapshot(&mut watch).await.len(), 1);
    redis.ask(&["FLUSHALL"])?;
    assert_eq!(snapshot(&mut watch).await, []);
    // The count of writes begins again, and what comes now is not taken for old.
    let version = store.put(&key, "y".into(), Write::if_absent()).await?;
    assert_eq!(version.counter, 1);
    assert!(matches!(event(&mut watch).await, WatchEvent::Put(record) if record.version == version));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_into_redis_is_counted_and_left_alone() -> Result {
    if !has_redis("what_others_write_into_redis_is_counted_and_left_alone") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Trees, "odd"));
    redis.ask(&["SET", "media-tree:trees:odd", "no record"])?;
    redis.ask(&["SADD", "media-tree:trees", "odd", "NO ID"])?;
    redis.ask(&["PUBLISH", "media-tree:0:trees", "no message"])?;
    assert!(matches!(store.get(&key).await, Err(Unavailable::Malformed(_))));
    assert_eq!(store.list(Collection::Trees).await, Ok(vec![]));
    let outcome = store.put(&key, "x".into(), Write::if_absent()).await;
    assert!(matches!(outcome, Err(PutError::Unavailable(Unavailable::Malformed(_)))), "{outcome:?}");
    assert_eq!(redis.ask(&["GET", "media-tree:trees:odd"])?, "no record");
    assert!(store.stats().malformed >= 3, "{:?}", store.stats());
    store.put(&key, "x".into(), Write::any()).await?;
    assert_eq!(store.list(Collection::Trees).await.map(|records| records.len()), Ok(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_the_server_forgot_is_given_again() -> Result {
    if !has_redis("a_script_that_the_server_forgot_is_given_again") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let (store, key) = (store(&redis.url()), key(Collection::Trees, "t"));
    put_in_time(&store, &key).await?;
    redis.ask(&["SCRIPT", "FLUSH"])?;
    put_in_time(&store, &key).await?;
    assert_eq!(store.stats().failures, 0);
    Ok(())
}

/// Writes and watches all the time while something happens to the group.
struct Busy {
    store: Arc<dyn Store>,
    watch: Watch,
    key: Key,
    writes: Gaps,
    events: Gaps,
    snapshots: u32,
    acknowledged: Vec<Version>,
}

impl Busy {
    async fn start(group: &Group) -> anyhow::Result<Self> {
        let store = store(&group.url());
        until_up(&store).await?;
        let mut watch = store.watch(Collection::Nodes);
        snapshot(&mut watch).await;
        let key = key(Collection::Nodes, "busy");
        let (writes, events) = (Gaps::default(), Gaps::default());
        Ok(Self { store, watch, key, writes, events, snapshots: 0, acknowledged: vec![] })
    }

    /// Writes every 20 ms until `is_over`, each write in time.
    async fn run(&mut self, mut is_over: impl FnMut(&Self) -> anyhow::Result<bool>) -> Result {
        let mut ticks = interval(Duration::from_millis(20));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let deadline = Instant::now() + PATIENCE;
        while !is_over(self)? {
            anyhow::ensure!(Instant::now() < deadline, "not over: {self:?}");
            ticks.tick().await;
            if let Ok(version) = put_in_time(&self.store, &self.key).await {
                self.writes.success();
                self.acknowledged.push(version);
            }
            while let Ok(Some(event)) = timeout(Duration::ZERO, self.watch.next()).await {
                self.events.success();
                self.snapshots += u32::from(matches!(event, WatchEvent::Snapshot(_)));
            }
        }
        Ok(())
    }

    /// What was written last is seen by the watch, and everybody agrees on it.
    async fn settle(&mut self, what: &str) -> Result {
        let last = self.store.put(&self.key, "last".into(), Write::any().durable()).await?;
        timeout(PATIENCE, until_seen(&mut self.watch, last)).await?;
        let mut distinct = self.acknowledged.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), self.acknowledged.len(), "no version is given twice");
        let (writes, events) = (self.writes.worst, self.events.worst);
        println!("{what}: no write for {writes:?}, no event for {events:?}, {:?}", self.store.stats());
        Ok(())
    }
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { store, writes, events, snapshots, .. } = self;
        write!(
            f,
            "{:?} {:?} writes {writes:?} events {events:?} snapshots {snapshots}",
            store.state(),
            store.stats()
        )
    }
}

async fn until_seen(watch: &mut Watch, version: Version) {
    loop {
        let is_it = match event(watch).await {
            WatchEvent::Snapshot(records) => records.iter().any(|record| record.version == version),
            WatchEvent::Put(record) => record.version == version,
            WatchEvent::Gone(_) => false,
        };
        if is_it {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_replaced_and_does_not_win_when_it_returns() -> Result {
    if !has_redis("a_killed_master_is_replaced_and_does_not_win_when_it_returns") {
        return Ok(());
    }
    let mut group = Group::start().await?;
    let mut busy = Busy::start(&group).await?;
    busy.run(|busy| Ok(busy.acknowledged.len() > 20)).await?;
    group.servers[0].kill()?;
    let before = busy.acknowledged.len();
    busy.run(|busy| Ok(busy.snapshots > 0 && busy.acknowledged.len() > before + 20)).await?;
    let new = group.master_port()?;
    assert_ne!(new, group.servers[0].port);
    // It comes back as a master until it is demoted; nobody must follow it.
    group.servers[0].start_again().await?;
    let old = &group.servers[0];
    let is_demoted = |_: &Busy| Ok(old.ask(&["ROLE"])?.starts_with("slave"));
    let resolutions = busy.store.stats().resolutions;
    busy.run(is_demoted).await?;
    assert_eq!(busy.store.stats().resolutions, resolutions, "the new master is kept");
    assert_eq!(group.master_port()?, new);
    busy.settle("kill -9 of the master").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_is_followed() -> Result {
    if !has_redis("a_planned_failover_is_followed") {
        return Ok(());
    }
    let group = Group::start().await?;
    let mut busy = Busy::start(&group).await?;
    busy.run(|busy| Ok(busy.acknowledged.len() > 20)).await?;
    group.fail_over()?;
    let old = group.servers[0].port;
    let is_moved = |busy: &Busy| Ok(group.master_port()? != old && busy.snapshots > 0);
    busy.run(is_moved).await?;
    let before = busy.acknowledged.len();
    busy.run(|busy| Ok(busy.acknowledged.len() > before + 20)).await?;
    busy.settle("planned failover").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_master_is_replaced_and_does_not_win_when_it_thaws() -> Result {
    if !has_redis("a_frozen_master_is_replaced_and_does_not_win_when_it_thaws") {
        return Ok(());
    }
    let group = Group::start().await?;
    let mut busy = Busy::start(&group).await?;
    busy.run(|busy| Ok(busy.acknowledged.len() > 20)).await?;
    let frozen = &group.servers[0];
    frozen.signal("STOP")?;
    let before = busy.acknowledged.len();
    busy.run(|busy| Ok(busy.snapshots > 0 && busy.acknowledged.len() > before + 20)).await?;
    frozen.signal("CONT")?;
    busy.run(|_| Ok(frozen.ask(&["ROLE"])?.starts_with("slave"))).await?;
    assert_ne!(group.master_port()?, frozen.port);
    busy.settle("SIGSTOP of the master").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_write_says_when_no_replica_has_it() -> Result {
    if !has_redis("a_durable_write_says_when_no_replica_has_it") {
        return Ok(());
    }
    let group = Group::start().await?;
    let (store, key) = (store(&group.url()), key(Collection::Leaders, "l"));
    let first = store.put(&key, "x".into(), Write::any().durable()).await?;
    // The replicas follow no more, and the master does not know it yet.
    for replica in &group.servers[1..] {
        replica.signal("STOP")?;
    }
    let outcome = store.put(&key, "y".into(), Write::if_version(first).durable()).await;
    let Err(PutError::Unconfirmed { version }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(store.get(&key).await?.map(|record| record.version), Some(version));
    // Once it knows, it takes no writes: that is told, and nothing is written.
    let refused = || async {
        Ok(matches!(put_in_time(&store, &key).await, Err(PutError::Unavailable(Unavailable::Refused(_)))))
    };
    until("writes are refused", refused).await?;
    for replica in &group.servers[1..] {
        replica.signal("CONT")?;
    }
    until("writes are taken again", || async { Ok(put_in_time(&store, &key).await.is_ok()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_write_once_a_second_into_one_redis() -> Result {
    const NODES: usize = 1000;
    const STORES: usize = 20;
    const SECONDS: u32 = 5;
    if !has_redis("a_thousand_nodes_write_once_a_second_into_one_redis") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let controller = store(&redis.url());
    let mut watch = controller.watch(Collection::Nodes);
    snapshot(&mut watch).await;
    let began = (Instant::now(), redis.processor_time()?);
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..STORES {
        let store = store(&redis.url());
        writers.spawn(async move {
            beat(&store, number * NODES / STORES..(number + 1) * NODES / STORES, SECONDS).await
        });
    }
    let (mut latency, mut puts) = (Duration::ZERO, 0);
    let mut seen = 0;
    loop {
        tokio::select! {
            event = event(&mut watch) => seen += usize::from(matches!(event, WatchEvent::Put(_))),
            ended = writers.join_next() => match ended {
                Some(stats) => {
                    let stats = stats??;
                    (latency, puts) = (latency + stats.latency_sum, puts + stats.operations);
                }
                None => break,
            },
        }
    }
    let (wall, processor) = (began.0.elapsed(), redis.processor_time()? - began.1);
    let rate = puts as f64 / wall.as_secs_f64();
    let load = processor.as_secs_f64() / wall.as_secs_f64() * 100.0;
    let mean = latency / u32::try_from(puts)?;
    println!(
        "{puts} heartbeats of 1.5 KB in {wall:?} ({rate:.0}/s): redis-server used {load:.1} % of a core, {mean:?} each"
    );
    assert_eq!(puts, u64::from(SECONDS) * NODES as u64);
    assert_eq!(controller.list(Collection::Nodes).await?.len(), NODES);
    assert!(seen > NODES, "the controller saw {seen}");
    Ok(())
}

/// Each node of the range writes once a second, spread over the second.
async fn beat(
    store: &Arc<dyn Store>,
    nodes: std::ops::Range<usize>,
    seconds: u32,
) -> anyhow::Result<store::Stats> {
    until_up(store).await?;
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(nodes.len())?);
    let value = bytes::Bytes::from(vec![b'x'; 1500]);
    for _ in 0..seconds {
        for node in nodes.clone() {
            ticks.tick().await;
            let (store, value) = (store.clone(), value.clone());
            let key = key(Collection::Nodes, &format!("node-{node}"));
            store.put(&key, value, Write::any().lease(Duration::from_secs(10))).await?;
        }
    }
    Ok(store.stats())
}
