//! Nodes that are told nothing but a store find each other, and heal by themselves.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use client::{Whep, Whip, demo, whep, whip};
use model::Codec;
use serde_json::json;
use tests::browser::Browser;
use tests::event_stream::{self, EventStream, Item};
use tests::installation::{self, Installation, Viewer, receive, until_live, until_parents, view};
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Shape, Source};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

/// Two seconds of pictures.
const PICTURES: usize = 60;
/// Some pictures, well within the time that viewers get to go elsewhere.
const FEW: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_share_a_store_find_each_other_and_lead_everybody_to_the_right_one() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;

    // Publisher and viewer both ask the controller, which carries no media.
    let source = Source::publish(&controller.url("/whip/show"), Shape::OBS).await?;
    until_live(&controller, "show").await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&controller.url("/whep/show")).await?;
    ensure!(viewer.url().starts_with(&egress.url("/whep/show/")), "led to {}", viewer.url());
    viewer.watch(PICTURES).await?;
    println!("through controller, injection and egress: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);

    // So does a viewer who asks the injection node, and a publisher who asks the egress node.
    let other = Viewer::join(&injection.url("/whep/show")).await?;
    ensure!(other.url().starts_with(&egress.url("/whep/")), "led to {}", other.url());
    let second = Source::publish(&egress.url("/whip/second"), Shape::TINY).await?;
    until_live(&egress, "second").await?;
    until("the controller counts viewers and broadcasts", async || {
        let view = view(&controller).await?;
        let broadcasts = view["broadcasts"].as_array().cloned().unwrap_or_default();
        let show = broadcasts.iter().find(|it| it["id"] == "show").context("show")?;
        Ok(broadcasts.len() == 2 && show["viewers"] == 2 && show["origin"] == "in")
    })
    .await?;
    drop((source, second));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_all_nodes_are_counted_to_each_of_them() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = [
        installation.node("egress", "out-1").start().await?,
        installation.node("egress", "out-2").start().await?,
    ];
    for name in ["out-1", "out-2"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    // Two at one node, one at the other: told at both as three.
    let mut viewers = Vec::new();
    for node in [&egress[0], &egress[0], &egress[1]] {
        until_live(node, "show").await?;
        viewers.push(Whep::connect(&node.url("/whep/show"), None).await?);
    }
    for viewer in [&viewers[0], &viewers[2]] {
        let stream = event_stream::create(viewer.url(), &["viewercount"]).await?;
        let mut reader = EventStream::open(&stream).await?;
        let counted = async {
            while reader.next().await? != Item::Event("viewercount".into(), json!({ "viewercount": 3 })) {}
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, counted).await.context("three viewers are counted")??;
    }
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_broadcast_is_404_everywhere_and_a_ticket_opens_once() -> Result {
    let tokens = ["--view-tokens", "view-secret-1", "--publish-tokens", "publish-secret-1"];
    let controller = program::node("controller").with(&tokens).start().await?;
    let installation = Installation::of(&controller);
    let _injection = installation.node("injection", "in").with(&tokens).start().await?;
    let egress = installation.node("egress", "out").with(&tokens).start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let endpoint = controller.url("/whip/show");
    let publisher = Whip::connect(
        &endpoint,
        Some("publish-secret-1"),
        &[Codec::Opus, Codec::H264],
        whip::Options::default(),
    );
    let publisher = publisher.await.context("publish through the controller with a token")?;
    let playing = tokio::spawn(async move { demo::play(&demo::Clip::built_in(), &publisher).await });
    until_live(&egress, "show").await?;

    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let post = async |path: &str, token: Option<&str>| {
        let mut request =
            client.post(controller.url(path)).header("Content-Type", "application/sdp").body("v=0");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await
    };
    assert_eq!(post("/whep/nothing", Some("view-secret-1")).await?.status(), 404);
    assert_eq!(post("/whep/show", None).await?.status(), 401);
    assert_eq!(post("/whep/show", Some("wrong")).await?.status(), 401);
    let there = post("/whep/show", Some("view-secret-1")).await?;
    assert_eq!(there.status(), 307);
    let location = there.headers()["location"].to_str()?.to_owned();
    ensure!(location.starts_with(&egress.url("/whep/show/t/")), "led to {location}");

    // The ticket stands for the token, once.
    let session = Whep::connect(&location, None).await.context("with the ticket")?;
    ensure!(session.url().starts_with(&egress.url("/whep/show/")));
    let again = Whep::connect(&location, None).await.err().context("a ticket opened twice")?;
    println!("the same ticket again: {again}");
    ensure!(!egress.log().contains(location.rsplit('/').next().unwrap_or_default()), "a ticket in the log");
    playing.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_at_the_controller_is_led_to_the_egress() -> Result {
    const NAME: &str = "a_browser_at_the_controller_is_led_to_the_egress";
    if !tools::has(NAME, "/usr/bin/chromium") {
        return Ok(());
    }
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = installation.node("egress", "out").start().await?;
    until_parents(&controller, "out", &["in"]).await?;
    let (publisher, viewer) = (Browser::chromium().await?, Browser::chromium().await?);
    let publish = controller.url("/publish/show");
    let _publishing = watching::publish_test_picture(&publisher, &publish, "h264").await?;
    until_live(&egress, "show").await?;
    let page = watching::open_player(&viewer, &controller.url("/watch/show")).await?;
    let seen = watching::watch(&page, Duration::from_secs(5)).await?;
    println!("publisher and viewer both at the controller's pages: {seen}");
    ensure!(seen.frames_decoded > 60, "{seen}");
    assert_eq!(egress.metric("media_tree_viewers{").await?, 1.0);
    let view = view(&controller).await?;
    assert_eq!(view["broadcasts"][0]["origin"], "in", "{view:#}");
    drop(injection);
    Ok(())
}

/// A tree in which every egress must have relays: it is in another region than the publishers.
struct Regions {
    controller: Program,
    installation: Installation,
    injection: Program,
    relays: Vec<Program>,
    egress: Program,
}

impl Regions {
    async fn grow() -> anyhow::Result<Self> {
        let controller = program::node("controller").start().await?;
        let installation = Installation::of(&controller);
        let injection = installation.node("injection", "in").with(&["--region", "here"]).start().await?;
        let mut relays = Vec::new();
        for name in ["relay-1", "relay-2", "relay-3"] {
            relays.push(installation.node("relay", name).with(&["--region", "there"]).start().await?);
        }
        let egress = installation.node("egress", "out").with(&["--region", "there"]).start().await?;
        Ok(Self { controller, installation, injection, relays, egress })
    }

    async fn parents(&self) -> anyhow::Result<Vec<String>> {
        installation::parents(&self.controller, "out").await
    }

    /// The relay of this name.
    fn relay(&self, name: &str) -> anyhow::Result<&Program> {
        let number: usize = name.trim_start_matches("relay-").parse().context("a relay")?;
        number.checked_sub(1).and_then(|index| self.relays.get(index)).context("a relay of this tree")
    }

    async fn until_two_relays(&self) -> Result {
        let waited = until("the egress has two relays", async || {
            let parents = self.parents().await?;
            Ok(parents.len() >= 2 && parents.iter().all(|parent| parent.starts_with("relay")))
        });
        if let Err(error) = waited.await {
            return Err(error.context(format!("{:#}", view(&self.controller).await?)));
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_dies_is_replaced_before_anybody_looks() -> Result {
    let tree = Regions::grow().await?;
    tree.until_two_relays().await?;
    let source = Source::publish(&tree.injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&tree.egress, "show").await?;
    let mut viewer = Viewer::join(&tree.egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;

    let before = tree.parents().await?;
    let name = before.first().context("a parent")?.clone();
    tree.relay(&name)?.signal("KILL")?;
    viewer.watch(PICTURES).await?;
    until("the dead relay is out of every decision", async || {
        let parents = tree.parents().await?;
        Ok(parents.len() >= 2 && !parents.contains(&name))
    })
    .await?;
    viewer.watch(PICTURES).await?;
    println!("parents {before:?}, {name} killed: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0, "two parents: no packet is missing");

    // Store and controller are gone as well, which are one process here: nobody names another parent, and there is one
    // that stands by.
    let left = tree.parents().await?;
    tree.controller.signal("KILL")?;
    let name = left.first().context("a parent")?;
    tree.relay(name)?.signal("KILL")?;
    viewer.watch(PICTURES).await?;
    let others = left.iter().filter(|other| *other != name && other.starts_with("relay"));
    for other in others {
        let other = tree.relay(other)?;
        until("media comes by the relay that is left", async || {
            Ok(other.metric("media_tree_link_destinations{").await? == 1.0)
        })
        .await?;
    }
    let mut joined =
        Viewer::join(&tree.egress.url("/whep/show")).await.context("join without a controller")?;
    joined.watch(PICTURES / 2).await?;
    viewer.watch(PICTURES).await?;
    println!("{name} of {left:?} killed without store and controller: {}", viewer.summary());
    assert_eq!(viewer.seens.missing() + joined.seens.missing(), 0, "no packet is missing");
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_restarts_changes_nothing() -> Result {
    let mut tree = Regions::grow().await?;
    tree.until_two_relays().await?;
    let source = Source::publish(&tree.injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&tree.egress, "show").await?;
    let mut viewer = Viewer::join(&tree.egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    let before = tree.parents().await?;

    // Store and controller are both gone: they are one process here.
    tree.controller.signal("KILL")?;
    tree.controller.exit_code().await?;
    viewer.watch(PICTURES).await?;
    let mut joined =
        Viewer::join(&tree.egress.url("/whep/show")).await.context("join without a controller")?;
    joined.watch(PICTURES / 2).await?;

    let again = program::node("controller").in_place_of(&tree.controller).start().await?;
    tree.controller = again;
    until("the controller has seen enough to decide", async || {
        let view = view(&tree.controller).await?;
        let nodes = view["nodes"].as_array().map_or(0, Vec::len);
        Ok(view["is_settled"] == true && nodes >= 5 && view["is_leader"] == true)
    })
    .await?;
    viewer.watch(2 * PICTURES).await?;
    assert_eq!(tree.parents().await?, before, "the same parents as before");
    println!("controller and its store killed and restarted: {}", viewer.summary());
    assert_eq!(viewer.seens.missing(), 0);
    drop((source, tree.installation));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_of_ones_own_says_how_many_parents_are_taken_from() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let template = json!({
        "name": "single", "based_on": "minimal", "relay": 2, "paths": 1, "standbys": 1, "direct_children_max": 0
    });
    let made = reqwest::Client::new().post(controller.url("/api/v1/trees"));
    let made = made.json(&json!({"id": "single", "template": template})).send().await?;
    assert_eq!(made.status(), 201);
    let node = |role, name| installation.node(role, name).with(&["--tree-id", "single"]);
    let injection = node("injection", "in").start().await?;
    let _relays = [node("relay", "relay-1").start().await?, node("relay", "relay-2").start().await?];
    let egress = node("egress", "out").start().await?;
    until_parents(&controller, "out", &["relay-1", "relay-2"]).await?;
    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    until("one relay carries it, the other one stands by", async || {
        let out = installation::node(&controller, "out").await?;
        let parents = out["parents"].as_array().cloned().unwrap_or_default();
        let mut joined: Vec<u64> = parents.iter().filter_map(|parent| parent["joined"].as_u64()).collect();
        joined.sort_unstable();
        ensure!(joined.iter().sum::<u64>() <= 1, "both carry it: {out:#}");
        Ok(joined == [0, 1])
    })
    .await?;
    drop(source);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_simultaneous_joins_spread_evenly() -> Result {
    const EGRESS: usize = 3;
    const JOINS: usize = 1000;
    let many =
        ["--request-rate", "100000", "--request-burst", "100000", "--client-pending-sessions-max", "2000"];
    let controller = program::node("controller").with(&many).start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").with(&many).start().await?;
    let mut egress = Vec::new();
    for name in ["out-1", "out-2", "out-3"] {
        egress.push(installation.node("egress", name).with(&many).start().await?);
    }
    for name in ["out-1", "out-2", "out-3"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
    for node in &egress {
        until_live(node, "show").await?;
    }
    // Only the way there is asked for: sessions of a thousand viewers are another test's.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let doors = [controller.url("/whep/show"), injection.url("/whep/show")];
    let asked = (0..JOINS).map(|index| {
        let request = client.post(&doors[index % doors.len()]).header("Content-Type", "application/sdp");
        async move {
            let answer = request.body("v=0").send().await?;
            ensure!(answer.status() == 307, "{}", answer.status());
            Ok(answer.headers()["location"].to_str()?.to_owned())
        }
    });
    let answers = futures_util::future::try_join_all(asked).await?;
    let spread = installation::spread(answers.iter().map(String::as_str));
    println!("{JOINS} joins through two front doors: {spread:?}");
    assert_eq!(spread.len(), EGRESS);
    let fair = JOINS / EGRESS;
    for count in spread.values() {
        assert!(count.abs_diff(fair) <= fair / 10, "{count} instead of {fair}");
    }
    drop(source);
    Ok(())
}

/// A broadcast that is live at two egress nodes.
struct Pair {
    controller: Program,
    first: Program,
    second: Program,
    _injection: Program,
    _source: Source,
}

impl Pair {
    async fn grow() -> anyhow::Result<Self> {
        let controller = program::node("controller").start().await?;
        let installation = Installation::of(&controller);
        let injection = installation.node("injection", "in").start().await?;
        let first = installation.node("egress", "out-1").start().await?;
        let second = installation.node("egress", "out-2").start().await?;
        for name in ["out-1", "out-2"] {
            until_parents(&controller, name, &["in"]).await?;
        }
        let source = Source::publish(&injection.url("/whip/show"), Shape::TINY).await?;
        until_live(&first, "show").await?;
        until_live(&second, "show").await?;
        Ok(Self { controller, first, second, _injection: injection, _source: source })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_sends_its_viewers_elsewhere_and_takes_none() -> Result {
    let Pair { controller, first, second, .. } = &Pair::grow().await?;
    let deaf = whep::Options { queue_packets_max: 0, ..whep::Options::default() };
    let sitting = Whep::connect_with(&first.url("/whep/show"), None, deaf).await?;
    let client = reqwest::Client::new();
    let order = client.post(controller.url("/api/v1/nodes/out-1/drain")).json(&json!({"deadline_secs": 3}));
    assert_eq!(order.send().await?.status(), 202);
    until("the node drains", async || {
        Ok(installation::node(controller, "out-1").await?["health"] == "draining")
    })
    .await?;
    let mut newcomer = Viewer::join(&first.url("/whep/show")).await?;
    ensure!(newcomer.url().starts_with(&second.url("/")), "led to {}", newcomer.url());
    newcomer.watch(PICTURES).await?;
    // Who does not listen to events is closed at the deadline.
    let ending = tokio::time::timeout(program::PATIENCE, sitting.closed()).await?;
    println!("a viewer that does not move by itself: {ending}");
    let back = client.post(controller.url("/api/v1/nodes/out-1/undrain"));
    assert_eq!(back.send().await?.status(), 202);
    until("the node is ready again", async || {
        Ok(installation::node(controller, "out-1").await?["health"] == "ready")
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_told_to_stop_sends_its_viewers_elsewhere_first() -> Result {
    let Pair { first, second, .. } = &Pair::grow().await?;
    let mut staying = Whep::connect(&first.url("/whep/show"), None).await?;
    let stream = event_stream::create(staying.url(), &["reconnect"]).await?;
    let mut events = EventStream::open(&stream).await?;
    let deaf = whep::Options { queue_packets_max: 0, ..whep::Options::default() };
    let sitting = Whep::connect_with(&first.url("/whep/show"), None, deaf).await?;

    first.signal("TERM")?;
    let Item::Event(kind, data) = events.next().await? else { anyhow::bail!("the stream ended") };
    assert_eq!(kind, "reconnect");
    let url = data["url"].as_str().context("a url")?;
    ensure!(url.starts_with(&second.url("/whep/show")), "sent to {url}");
    let mut moved = Viewer::join(url).await?;
    moved.watch(FEW).await?;
    // The old session lasts until its viewer ends it: there is no gap.
    receive(&mut staying, FEW).await.with_context(|| first.log())?;
    staying.close().await?;
    tokio::time::timeout(program::PATIENCE, sitting.closed()).await?;
    until("the node has ended", async || Ok(reqwest::get(first.url("/")).await.is_err())).await?;
    moved.watch(FEW).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_told_to_stop_is_left_by_its_children_first() -> Result {
    let tree = Regions::grow().await?;
    tree.until_two_relays().await?;
    let source = Source::publish(&tree.injection.url("/whip/show"), Shape::OBS).await?;
    until_live(&tree.egress, "show").await?;
    let mut viewer = Viewer::join(&tree.egress.url("/whep/show")).await?;
    viewer.watch(PICTURES).await?;
    let name = tree.parents().await?.first().context("a parent")?.clone();
    let leaving = tree.relay(&name)?;
    leaving.signal("TERM")?;
    let health = format!("http://{}/healthz", leaving.ops);
    until("the relay has ended", async || Ok(reqwest::get(&health).await.is_err())).await?;
    viewer.watch(PICTURES).await?;
    assert_eq!(viewer.seens.missing(), 0, "{}", viewer.summary());
    drop(source);
    Ok(())
}

/// Two trees with media at once: what happens in one is nothing to the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_goes_on_while_another_one_loses_its_nodes() -> Result {
    let controller = program::node("controller").start().await?;
    let made = reqwest::Client::new().post(controller.url("/api/v1/trees"));
    let made = made.json(&json!({"id": "friday", "template": "minimal"})).send().await?;
    assert_eq!(made.status(), 201);
    let installation = Installation::of(&controller);
    let mut nodes = Vec::new();
    for (tree, [injection, egress]) in [("main", ["in-m", "out-m"]), ("friday", ["in-f", "out-f"])] {
        for (role, name) in [("injection", injection), ("egress", egress)] {
            nodes.push(installation.node(role, name).with(&["--tree-id", tree]).start().await?);
        }
        // Of the other tree's injection node nobody takes anything.
        until_parents(&controller, egress, &[injection]).await?;
    }
    let [in_main, out_main, in_friday, out_friday] = &nodes[..] else { anyhow::bail!("four nodes") };
    let _sources = [
        Source::publish(&in_main.url("/whip/gala"), Shape::OBS).await?,
        Source::publish(&in_friday.url("/whip/show"), Shape::OBS).await?,
    ];
    // By one door to both: the broadcast says which tree it is.
    let mut viewers = Vec::new();
    for (broadcast, egress) in [("gala", out_main), ("show", out_friday)] {
        until_live(egress, broadcast).await?;
        let mut viewer = Viewer::join(&controller.url(&format!("/whep/{broadcast}"))).await?;
        ensure!(viewer.url().starts_with(&egress.url("/")), "led to {}", viewer.url());
        viewer.watch(FEW).await?;
        viewers.push(viewer);
    }
    let decided_on_main = async || {
        let decisions = view(&controller).await?["decisions"].as_array().cloned().unwrap_or_default();
        anyhow::Ok(decisions.iter().filter(|decision| decision["tree"] == "main").count())
    };
    let before = decided_on_main().await?;
    in_friday.signal("KILL")?;
    until("the other tree's injection node is dead", async || {
        let view = view(&controller).await?;
        let nodes = view["nodes"].as_array().cloned().unwrap_or_default();
        Ok(!nodes.iter().any(|node| node["id"] == "in-f" && node["health"] != "dead"))
    })
    .await?;
    viewers[0].watch(2 * PICTURES).await?;
    println!("another tree lost its injection node: {}", viewers[0].summary());
    assert_eq!(viewers[0].seens.missing(), 0);
    assert_eq!(decided_on_main().await?, before, "nothing was decided about the tree that is well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_are_made_shown_and_deleted() -> Result {
    let controller = program::node("controller").start().await?;
    let client = reqwest::Client::new();
    let trees = controller.url("/api/v1/trees");
    let made = client.post(&trees).json(&json!({"id": "friday", "template": "minimal"})).send().await?;
    assert_eq!(made.status(), 201);
    let twice = client.post(&trees).json(&json!({"id": "friday"})).send().await?;
    assert_eq!(
        (twice.status().as_u16(), twice.headers()["content-type"].to_str()?),
        (409, "application/problem+json")
    );
    let wrong = client.post(&trees).json(&json!({"id": "No Name"})).send().await?;
    assert_eq!(wrong.status(), 422);
    let friday = controller.url("/api/v1/trees/friday");
    until("the tree is shown", async || Ok(client.get(&friday).send().await?.status() == 200)).await?;
    let installation = Installation::of(&controller);
    let node = installation.node("injection", "in").with(&["--tree-id", "friday"]).start().await?;
    until("the tree has a node", async || {
        let tree: serde_json::Value = client.get(&friday).send().await?.json().await?;
        Ok(tree["nodes"] == 1)
    })
    .await?;
    assert_eq!(client.delete(&friday).send().await?.status(), 409, "a tree with nodes");
    drop(node);
    until("the tree can be deleted", async || Ok(client.delete(&friday).send().await?.status() == 204))
        .await?;
    let foreign = client.delete(&friday).header("Origin", "http://evil.example").send().await?;
    assert_eq!(foreign.status(), 403);
    Ok(())
}
