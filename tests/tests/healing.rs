//! What viewers see when hosts, links and clocks fail: nodes on hosts of their own that know nothing but a store, real
//! media all the while.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tests::apart::{CLEAR, CUT, Installation, LIVELY};
use tests::installation::{self, OPERATOR_TOKEN, Viewer, until_live, until_parents, view};
use tests::losses::{self, CHROMIUM, InjectionLost};
use tests::network::{Hosts, PUBLISH_TOKEN};
use tests::program::{Program, until};
use tests::redis::{PARTS, Redis};
use tests::source::Source;
use tests::tools;

type Result = anyhow::Result<()>;

/// Two seconds of pictures.
const PICTURES: usize = 60;

/// The host of the injection node is lost: the broadcaster comes in somewhere else, and viewers stay where they are. The
/// old host comes back to life with a publishing run that is over.
#[tokio::test(flavor = "multi_thread")]
async fn viewers_stay_when_the_injection_host_is_lost() -> Result {
    const NAME: &str = "viewers_stay_when_the_injection_host_is_lost";
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let it = Installation::begin(31, &["in-1", "in-2", "out"]).await?;
    let first = it.node("injection", "in-1").start().await?;
    let second = it.node("injection", "in-2").start().await?;
    let egress = it.node("egress", "out").start().await?;
    until_parents(&it.controller, "out", &["in-1", "in-2"]).await?;
    let mut source = it.publish(&it.controller).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&it.controller.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;

    let is_first = source.url().starts_with(&first.url("/"));
    let (lost, lost_node) = if is_first { ("in-1", &first) } else { ("in-2", &second) };
    let left = if is_first { &second } else { &first };
    it.hosts.partition(it.host(lost));
    let cut = Instant::now();
    source.lost().await;
    let noticed = cut.elapsed();
    // What a broadcaster's program does: tries again until it is let in.
    let again = loop {
        match it.publish(&it.controller).await {
            Ok(source) => break source,
            Err(error) => println!("{NAME}: not yet: {error:#}"),
        }
    };
    ensure!(again.url().starts_with(&left.url("/")), "led to {}", again.url());
    let back = cut.elapsed();
    viewer.watch(PICTURES).await?;
    println!(
        "{NAME}: the encoder noticed after {noticed:.1?}, was back after {back:.1?}; {}",
        viewer.summary()
    );
    ensure!(matches!(it.health(lost).await?.as_str(), "dead" | "gone"));

    // Healed: the run of the old host is over, whatever it believes.
    it.hosts.heal(it.host(lost));
    it.until_health(lost, "ready").await?;
    until("the old run is fenced", async || {
        let view = view(&it.controller).await?;
        let broadcasts = view["broadcasts"].as_array().cloned().unwrap_or_default();
        let show: Vec<_> = broadcasts.iter().filter(|it| it["id"] == "show").collect();
        let is_gone = lost_node.metric("media_tree_whip_sessions{").await? == 0.0;
        Ok(is_gone && show.len() == 1 && show[0]["origin"] != lost)
    })
    .await?;
    viewer.watch(PICTURES).await?;
    let mut late = Viewer::join(&it.controller.url("/whep/show")).await?;
    late.watch(PICTURES).await?;
    drop(again);
    Ok(())
}

/// The same with a second publisher that stands by on another host: nobody has to come back.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_on_another_host_goes_on_when_the_injection_host_is_lost() -> Result {
    const NAME: &str = "a_backup_on_another_host_goes_on_when_the_injection_host_is_lost";
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let seen = losses::injection_with_backup(38).await?;
    println!("{NAME}: the viewer saw {seen:?}");
    Ok(())
}

/// The publisher's network is gone for 20 seconds: the last picture stays, then it goes on in the same sessions.
#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_goes_on_when_the_publishers_network_is_back() -> Result {
    const NAME: &str = "a_broadcast_goes_on_when_the_publishers_network_is_back";
    const GONE: Duration = Duration::from_secs(20);
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let seen = losses::network_of_publisher(32, GONE).await?;
    println!("{NAME}: the next picture came {:.1?} after its return; {} missing", seen.dark, seen.missing);
    Ok(())
}

/// A parent's packets do not arrive any more, while it hears its child well: the child goes elsewhere. Then the same
/// between a node and the controller.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_one_way_is_routed_around() -> Result {
    const NAME: &str = "what_is_cut_off_one_way_is_routed_around";
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let it = Installation::begin(33, &["in", "relay-1", "relay-2", "relay-3", "out"]).await?;
    let injection = it.node("injection", "in").with(&["--region", "here"]).start().await?;
    let mut relays = Vec::new();
    for name in ["relay-1", "relay-2", "relay-3"] {
        relays.push(it.node("relay", name).with(&["--region", "there"]).start().await?);
    }
    let egress = it.node("egress", "out").with(&["--region", "there"]).start().await?;
    let parents = async || installation::parents(&it.controller, "out").await;
    until("the egress has two relays", async || {
        let parents = parents().await?;
        Ok(parents.len() >= 2 && parents.iter().all(|parent| parent.starts_with("relay")))
    })
    .await?;
    let source = it.publish(&injection).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;

    let used = async || {
        let mut used = Vec::new();
        for (relay, name) in relays.iter().zip(["relay-1", "relay-2", "relay-3"]) {
            if relay.metric("media_tree_link_destinations{").await? == 1.0 {
                used.push(name);
            }
        }
        anyhow::Ok(used)
    };
    let mute = used().await?.first().copied().context("no relay is used")?;
    let (mute_address, out) = (it.host(mute).address, it.host("out").address);
    it.hosts.one_way(mute_address, out, CUT);
    viewer.watch(2 * PICTURES).await?;
    until("another relay is used", async || {
        let used = used().await?;
        Ok(used.iter().filter(|name| **name != mute).count() >= 2)
    })
    .await?;
    viewer.watch(PICTURES).await?;
    println!("{NAME}: {mute} cannot speak to its child: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0, "there was a second parent");
    it.hosts.one_way(mute_address, out, CLEAR);

    // What the egress says does not reach the controller: it is dead to it, and serves on.
    let controller = it.host("controller").address;
    it.hosts.one_way(out, controller, CUT);
    it.until_health("out", "dead").await?;
    viewer.watch(PICTURES).await?;
    assert_eq!(viewer.seens.missing(), 0, "a node serves without a controller");
    it.hosts.one_way(out, controller, CLEAR);
    it.until_health("out", "ready").await?;
    viewer.watch(PICTURES).await?;
    println!("{NAME}: out cannot speak to the controller: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);
    drop(source);
    Ok(())
}

/// Clocks that are a minute ahead and a minute behind: everybody finds everybody, tickets open, pictures flow. A broadcast
/// goes from a node that is ahead to one that is two minutes behind it: the later run wins, whatever the clocks say.
#[tokio::test(flavor = "multi_thread")]
async fn clocks_may_be_off_by_a_minute() -> Result {
    const NAME: &str = "clocks_may_be_off_by_a_minute";
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    if !tools::is_root(NAME) || !tools::has(NAME, &library) {
        return Ok(());
    }
    let off = |offset: &str| {
        let variable = |name, value: &str| (name, value.to_owned());
        [
            variable("LD_PRELOAD", &library),
            variable("FAKETIME", offset),
            variable("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    };
    let it = Installation::begin(34, &["in-1", "in-2", "out-1", "out-2"]).await?;
    let first = it.node("injection", "in-1").environment(&off("+60s")).start().await?;
    // Of four viewers each gets two.
    let room = ["--viewers-max", "2"];
    let ahead = it.node("egress", "out-1").with(&room).environment(&off("+60s")).start().await?;
    let right = it.node("egress", "out-2").with(&room).start().await?;
    for name in ["out-1", "out-2"] {
        until_parents(&it.controller, name, &["in-1"]).await?;
    }
    let source = it.publish(&it.controller).await?;
    for egress in [&ahead, &right] {
        until_live(egress, "show").await?;
    }
    let second = it.node("injection", "in-2").environment(&off("-60s")).start().await?;
    for name in ["out-1", "out-2"] {
        until_parents(&it.controller, name, &["in-1", "in-2"]).await?;
    }
    // The controller's tickets, at a node ahead of it and at one beside it; and the injection node's, a minute behind.
    let mut viewers = Vec::new();
    for door in [&it.controller, &it.controller, &second, &second] {
        viewers.push(Viewer::join(&door.url("/whep/show")).await?);
    }
    let served = installation::spread(viewers.iter().map(Viewer::url));
    ensure!(served.len() == 2, "both nodes are used: {served:?}");
    for viewer in &mut viewers {
        viewer.watch(PICTURES).await?;
        assert_eq!(viewer.seens.missing(), 0);
        println!("{NAME}: at {}: {}", viewer.url(), viewer.summary());
    }
    for name in ["in-1", "in-2", "out-1", "out-2"] {
        ensure!(it.health(name).await? == "ready", "{name}");
    }

    let order = reqwest::Client::new().post(it.controller.url("/api/v1/nodes/in-1/drain"));
    let order = order.bearer_auth(OPERATOR_TOKEN).json(&serde_json::json!({ "deadline_secs": 60 }));
    order.send().await?.error_for_status()?;
    it.until_health("in-1", "draining").await?;
    let later = it.publish(&it.controller).await?;
    ensure!(later.url().starts_with(&second.url("/")), "led to {}", later.url());
    until("the earlier publisher is superseded", async || {
        Ok(first.metric("media_tree_whip_sessions{").await? == 0.0)
    })
    .await?;
    for viewer in &mut viewers {
        viewer.watch(PICTURES).await?;
        println!("{NAME}: superseded by a node two minutes behind: {}", viewer.summary());
        assert_eq!(viewer.seens.missing(), 0, "sequence numbers leave no gap");
    }
    drop((source, later));
    Ok(())
}

/// Some nodes and one of two controllers are cut off from Redis: media goes on, and afterwards all agree.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_from_redis_splits_no_brain() -> Result {
    const NAME: &str = "a_partition_from_redis_splits_no_brain";
    if !tools::is_root(NAME) || !PARTS.iter().all(|part| tools::has(NAME, part)) {
        return Ok(());
    }
    let hosts = Hosts::new(35, &["c-1", "c-2", "in", "out-1", "out-2"])?;
    let redis = Redis::server_at(hosts.here()).await?;
    let node = |role, name: &str| {
        let node = hosts.node(role, name, &[]).with(&["--operator-tokens", OPERATOR_TOKEN]);
        node.with(&["--store", &redis.url(), "--node-id", name, "--host-name", name])
    };
    let controllers = [node("controller", "c-1").start().await?, node("controller", "c-2").start().await?];
    let injection = node("injection", "in").start().await?;
    let cut_off = node("egress", "out-1").start().await?;
    let egress = node("egress", "out-2").start().await?;
    for name in ["out-1", "out-2"] {
        until_parents(&controllers[0], name, &["in"]).await?;
    }
    let source = Source::publish_as(&injection.url("/whip/show"), Some(PUBLISH_TOKEN), LIVELY).await?;
    let mut viewers = Vec::new();
    for egress in [&cut_off, &egress] {
        until_live(egress, "show").await?;
        viewers.push(Viewer::join(&egress.url("/whep/show")).await?);
    }
    let leader = async |controller: &Program| {
        anyhow::Ok(view(controller).await?["leader"].as_str().unwrap_or_default().to_owned())
    };
    let before = leader(&controllers[0]).await?;
    let other = usize::from(before == "c-1");

    for name in [before.as_str(), "out-1"] {
        hosts.join(hosts.here(), hosts.host(name).address, CUT);
    }
    // Viewers come from here too: only the way between the nodes is cut, so those who watch already are asked.
    until("the other controller leads", async || {
        Ok(leader(&controllers[other]).await? != before && !leader(&controllers[other]).await?.is_empty())
    })
    .await?;
    until("the node that is cut off is out of every decision", async || {
        // Forgotten is out, too.
        let view = view(&controllers[other]).await?;
        let nodes = view["nodes"].as_array().context("nodes")?;
        Ok(nodes.iter().all(|node| node["id"] != "out-1" || node["health"] == "dead"))
    })
    .await?;
    viewers[1].watch(PICTURES).await?;
    for name in [before.as_str(), "out-1"] {
        hosts.join(hosts.here(), hosts.host(name).address, CLEAR);
    }
    until("all agree again", async || {
        let (one, two) = (leader(&controllers[0]).await?, leader(&controllers[1]).await?);
        let is_back =
            installation::node(&controllers[0], "out-1").await.is_ok_and(|node| node["health"] == "ready");
        Ok(!one.is_empty() && one == two && is_back)
    })
    .await?;
    for viewer in &mut viewers {
        viewer.watch(2 * PICTURES).await?;
        println!("{NAME}: {}", viewer.summary());
    }
    assert_eq!(viewers[1].seens.missing(), 0);
    until_parents(&controllers[0], "out-1", &["in"]).await?;
    drop(source);
    Ok(())
}

/// The egress host falls off the network without a word: the player in the browser is back by itself on another one.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_whose_egress_host_is_lost_is_back_by_itself() -> Result {
    const NAME: &str = "a_player_whose_egress_host_is_lost_is_back_by_itself";
    if !tools::is_root(NAME) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let seen = losses::egress(36).await?;
    println!("{NAME}: {seen}");
    ensure!(seen.switches().len() == 1, "straight to the other one: {seen}");
    ensure!(seen.stops.is_empty(), "the last picture stayed: {:?}", seen.stops);
    assert_eq!(seen.states, ["live", "reconnecting", "live"], "said in words, and over");
    Ok(())
}

/// The injection host falls off the network without a word under a page that publishes: the page is back by itself on
/// another host, and the viewer stays in its session.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_page_whose_injection_host_is_lost_is_back_by_itself() -> Result {
    const NAME: &str = "a_publish_page_whose_injection_host_is_lost_is_back_by_itself";
    if !tools::is_root(NAME) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let InjectionLost { noticed, live, viewer } = losses::injection(37).await?;
    println!("{NAME}: noticed after {noticed:.1?}, live again after {live:.1?}, the viewer saw {viewer:?}");
    assert_eq!(viewer.missing, 0, "sequence numbers leave no gap");
    Ok(())
}
