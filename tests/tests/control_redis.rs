//! What viewers see when Redis dies, freezes, fails over or forgets, and when the leading controller dies.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::installation::{Installation, OPERATOR_TOKEN, Viewer, until_live, until_parents, view};
use tests::offers;
use tests::program::{Program, until};
use tests::redis::{Group, PARTS, Redis};
use tests::source::{Shape, Source};
use tests::tools;

type Result = anyhow::Result<()>;

/// Two seconds of pictures.
const PICTURES: usize = 60;
/// The controllers.
const NAMES: [&str; 2] = ["controller-1", "controller-2"];

fn has_redis(name: &str) -> bool {
    PARTS.iter().all(|part| tools::has(name, part))
}

/// Two controllers, an injection, two egress nodes, a publisher and a viewer.
struct Tree {
    controllers: [Program; 2],
    installation: Installation,
    egress: [Program; 2],
    injection: Program,
    _source: Source,
    viewer: Viewer,
}

impl Tree {
    async fn grow(store: &str) -> anyhow::Result<Self> {
        let installation = Installation::new(store);
        let controllers = [
            installation.node("controller", NAMES[0]).start().await?,
            installation.node("controller", NAMES[1]).start().await?,
        ];
        let injection = installation.node("injection", "in").start().await?;
        let egress = [
            installation.node("egress", "out-1").start().await?,
            installation.node("egress", "out-2").start().await?,
        ];
        for name in ["out-1", "out-2"] {
            until_parents(&controllers[0], name, &["in"]).await?;
        }
        let source = Source::publish(&controllers[0].url("/whip/show"), Shape::OBS).await?;
        until_live(&egress[0], "show").await?;
        until_live(&egress[1], "show").await?;
        let mut viewer = Viewer::join(&controllers[1].url("/whep/show")).await?;
        viewer.watch(PICTURES).await?;
        Ok(Self { controllers, installation, egress, injection, _source: source, viewer })
    }

    /// Somebody joins at a node while no controller is there.
    async fn join_at_egress(&self) -> Result {
        let joined = Viewer::join(&self.egress[0].url("/whep/show")).await;
        joined.context("join without a controller")?.watch(PICTURES / 4).await
    }

    /// Somebody joins while the store is away, at a node and through a front door.
    async fn join(&self) -> Result {
        for door in [&self.egress[0], &self.controllers[0]] {
            let mut viewer = Viewer::join(&door.url("/whep/show")).await.context("join without the store")?;
            viewer.watch(PICTURES / 4).await?;
        }
        Ok(())
    }

    async fn until_settled(&self) -> Result {
        until("a controller leads again and sees all nodes", async || {
            let view = view(&self.controllers[0]).await?;
            let ready = view["nodes"]
                .as_array()
                .map_or(0, |nodes| nodes.iter().filter(|node| node["health"] == "ready").count());
            Ok(view["is_settled"] == true && view["leader"].is_string() && ready >= 3)
        })
        .await
    }

    async fn decisions(&self) -> anyhow::Result<Vec<Value>> {
        let view = view(&self.controllers[0]).await?;
        Ok(view["decisions"].as_array().cloned().unwrap_or_default())
    }

    /// Makes what operators make.
    async fn make(&self, what: &str, made: &Value) -> Result {
        let request = Client::new().post(self.controllers[0].url(&format!("/api/v1/{what}"))).json(made);
        request.bearer_auth(OPERATOR_TOKEN).send().await?.error_for_status()?;
        Ok(())
    }

    /// Whether nobody without its key publishes the broadcast that has one.
    async fn refuses_strangers(&self) -> anyhow::Result<bool> {
        let offer = offers::crlf(offers::OBS_PUBLISHER);
        let request = Client::new().post(self.injection.url("/whip/friday"));
        let answer = request.header("Content-Type", "application/sdp").body(offer).send().await?;
        Ok(answer.status() == StatusCode::UNAUTHORIZED)
    }

    async fn until_leads(&self, controller: usize) -> Result {
        until("this controller leads", async || {
            Ok(view(&self.controllers[controller]).await?["is_leader"] == true)
        })
        .await
    }

    fn assert_nothing_missing(&self, what: &str) {
        println!("{what}: {}", self.viewer.summary());
        assert_eq!(self.viewer.seens.missing(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_redis_is_killed_frozen_or_empty() -> Result {
    if !has_redis("nobody_notices_that_redis_is_killed_frozen_or_empty") {
        return Ok(());
    }
    let mut redis = Redis::server().await?;
    let mut tree = Tree::grow(&redis.url()).await?;
    tree.make("trees", &json!({"id": "gala", "template": "minimal"})).await?;
    tree.make("broadcasts", &json!({"id": "friday"})).await?;
    until("the key is needed", async || tree.refuses_strangers().await).await?;
    let before = tree.decisions().await?.len();

    redis.signal("STOP")?;
    until("the controllers see that the store is frozen", async || {
        Ok(view(&tree.controllers[0]).await?["is_store_up"] == false)
    })
    .await?;
    tree.join().await?;
    tree.viewer.watch(PICTURES).await?;
    redis.signal("CONT")?;
    tree.until_settled().await?;
    tree.assert_nothing_missing("Redis frozen");

    redis.kill()?;
    until("the controllers see that the store is gone", async || {
        Ok(view(&tree.controllers[0]).await?["is_store_up"] == false)
    })
    .await?;
    tree.join().await?;
    tree.viewer.watch(PICTURES).await?;
    // It comes back empty: it kept nothing on disk.
    redis.start_again().await?;
    until("everything is in the store again", async || {
        let nodes = redis.ask(&["KEYS", "media-tree:nodes*"])?;
        let broadcasts = redis.ask(&["KEYS", "media-tree:broadcasts*"])?;
        let made = redis.ask(&["KEYS", "media-tree:*"])?;
        assert!(tree.refuses_strangers().await?, "a broadcast has lost its key");
        Ok(nodes.contains("out-1")
            && nodes.contains("in")
            && broadcasts.contains("show")
            && made.contains(":gala")
            && made.contains(":friday"))
    })
    .await?;
    tree.until_settled().await?;
    tree.viewer.watch(2 * PICTURES).await?;
    for name in ["out-1", "out-2"] {
        until_parents(&tree.controllers[0], name, &["in"]).await?;
    }
    tree.assert_nothing_missing("Redis killed and empty");
    println!("decisions before: {before}, after: {}", tree.decisions().await?.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_that_sentinel_fails_over() -> Result {
    if !has_redis("nobody_notices_that_sentinel_fails_over") {
        return Ok(());
    }
    let group = Group::start().await?;
    let mut tree = Tree::grow(&group.url()).await?;
    let old = group.master_port()?;
    group.fail_over()?;
    until("another server is master", async || Ok(group.master_port()? != old)).await?;
    tree.until_settled().await?;
    tree.join().await?;
    tree.viewer.watch(PICTURES).await?;
    tree.assert_nothing_missing("failed over by Sentinel");
    Ok(())
}

/// How often any node was told its parents, by the store's own count.
fn assignments_written(redis: &Redis) -> anyhow::Result<u64> {
    let count = redis.ask(&["GET", "media-tree:assignments!revision"])?;
    count.parse().with_context(|| format!("a count: {count:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_controller_leads_when_the_leader_dies() -> Result {
    if !has_redis("another_controller_leads_when_the_leader_dies") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let mut tree = Tree::grow(&redis.url()).await?;
    let leader = view(&tree.controllers[0]).await?["leader"].as_str().context("a leader")?.to_owned();
    let mut names = NAMES;
    if leader == NAMES[1] {
        tree.controllers.swap(0, 1);
        names.swap(0, 1);
    }
    let (written, decided) = (assignments_written(&redis)?, tree.decisions().await?.len());
    assert!(written > 0, "the count is the right one");
    let died = Instant::now();
    tree.controllers[0].signal("KILL")?;
    tree.controllers[0].exit_code().await?;
    tree.until_leads(1).await?;
    println!("the other controller leads after {:?}", died.elapsed());

    // Then no controller is left, and one comes again: whoever leads leaves everything as it is.
    tree.controllers[1].signal("KILL")?;
    tree.join_at_egress().await?;
    let again = tree.installation.node("controller", names[0]).in_place_of(&tree.controllers[0]);
    tree.controllers[0] = again.start().await?;
    tree.until_leads(0).await?;
    tree.until_settled().await?;
    tree.viewer.watch(PICTURES).await?;
    assert_eq!(assignments_written(&redis)?, written, "no node was told anything");
    assert_eq!(tree.decisions().await?.len(), decided, "nothing was decided");
    // It decides: a new node gets its parents.
    let third = tree.installation.node("egress", "out-3").start().await?;
    until_parents(&tree.controllers[0], "out-3", &["in"]).await?;
    tree.viewer.watch(PICTURES).await?;
    tree.assert_nothing_missing("both controllers killed, one came again");

    // A clean stop gives the lease back; a controller that comes waits for nobody.
    let again = tree.installation.node("controller", "controller-3").start().await?;
    until("the newcomer knows the leader", async || {
        Ok(view(&again).await?["leader"].as_str() == Some(names[0]))
    })
    .await?;
    let stopped = Instant::now();
    tree.controllers[0].signal("TERM")?;
    until("the newcomer leads", async || Ok(view(&again).await?["is_leader"] == true)).await?;
    println!("after a clean stop the next one leads after {:?}", stopped.elapsed());
    drop(third);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_sees_one_write_a_second_and_node() -> Result {
    if !has_redis("redis_sees_one_write_a_second_and_node") {
        return Ok(());
    }
    let redis = Redis::server().await?;
    let tree = Tree::grow(&redis.url()).await?;
    tree.until_settled().await?;
    let writes = || -> anyhow::Result<u64> {
        let stats = redis.ask(&["INFO", "commandstats"])?;
        let line =
            stats.lines().find(|line| line.starts_with("cmdstat_set:")).context("nothing was written")?;
        let calls = line.split("calls=").nth(1).and_then(|rest| rest.split(',').next());
        Ok(calls.context("a count")?.parse()?)
    };
    let (before, began) = (writes()?, Instant::now());
    until("ten seconds have passed in the store", async || Ok(began.elapsed() > Duration::from_secs(10)))
        .await?;
    let rate = (writes()? - before) as f64 / began.elapsed().as_secs_f64();
    // Three nodes and two controllers report; the leader renews its lease and writes the list of places.
    println!("{rate:.1} writes a second with three nodes and two controllers");
    assert!(rate < 8.0, "{rate:.1} writes a second");
    let asked = redis.ask(&["INFO", "commandstats"])?;
    assert!(!asked.contains("cmdstat_keys:") && !asked.contains("cmdstat_scan:"), "{asked}");
    Ok(())
}
