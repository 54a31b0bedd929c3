//! Viewers that change their server: sent away by `reconnect`, or because it died. What a person at the player sees.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tests::baseline;
use tests::browser::{Browser, Page};
use tests::event_stream;
use tests::front_door::FrontDoor;
use tests::installation::{Installation, until_live, until_parents};
use tests::program::{self, PATIENCE, Program, until};
use tests::screening::{self, Screening};
use tests::supervised;
use tests::tools;
use tests::watching;
use tokio::process::Command;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
/// Watched before and after.
const WHILE: Duration = Duration::from_secs(5);
/// Longer than this beyond the usual, a picture stands for another reason than a machine full of other work. What was seen
/// is printed.
const FREEZE: Duration = Duration::from_millis(500);
/// A player whose egress host is lost is back by itself within this time, however busy the machine is.
const BACK_WITHIN: Duration = Duration::from_secs(30);

/// One injection node with a browser that publishes, two egress nodes, and a front door before them.
struct Stage {
    a: Program,
    b: Program,
    door: FrontDoor,
    _injection: Program,
    publisher: Page,
    _browser: Browser,
}

impl Stage {
    async fn set() -> anyhow::Result<Self> {
        let injection = program::node("injection").start().await?;
        let parent = format!("127.0.0.1:{}", injection.link_port);
        let egress = || program::node("egress").with(&["--parents", &parent]);
        let b = egress().start().await?;
        let a = egress().with(&["--page-origins", &b.url("")]).start().await?;
        let browser = Browser::chromium().await?;
        let page = watching::publish_test_picture(&browser, &injection.url("/publish/show"), "h264").await?;
        for egress in [&a, &b] {
            until("the broadcast is known", || async {
                Ok(reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?.contains("live"))
            })
            .await?;
        }
        let door = FrontDoor::open(&[a.http, b.http]).await?;
        Ok(Self { a, b, door, _injection: injection, publisher: page, _browser: browser })
    }

    /// A player that came to this page, and with it to the first server, and is followed for a while.
    async fn watch(&self, browser: &Browser, url: &str) -> anyhow::Result<Page> {
        let page = watching::open_player(browser, url).await?;
        page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
        ensure!(server(&page).await? == self.a.http.to_string(), "the first server comes first");
        until("the player listens", || async { Ok(self.a.metric("media_tree_event_streams{").await? > 0.0) })
            .await?;
        screening::follow(&page).await?;
        tokio::time::sleep(WHILE).await;
        Ok(page)
    }
}

async fn server(page: &Page) -> anyhow::Result<String> {
    Ok(page.evaluate("mediaTree.server").await?.as_str().context("a server")?.to_owned())
}

async fn until_served_by(page: &Page, server: SocketAddr) -> Result {
    let is_there = format!("mediaTree.server === '{server}' && mediaTree.state === 'live'");
    page.wait_until(&is_there, PATIENCE).await
}

async fn sessions(program: &Program) -> anyhow::Result<f64> {
    program.metric("media_tree_whep_sessions{").await
}

#[tokio::test(flavor = "multi_thread")]
async fn e13_a_viewer_sent_to_another_server_sees_no_gap() -> Result {
    let name = "e13_a_viewer_sent_to_another_server_sees_no_gap";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let stage = Stage::set().await?;
    let browser = Browser::chromium().await?;
    let direct = baseline::loopback(&browser, "h264", WHILE).await?;
    let page = stage.watch(&browser, &stage.a.url("/watch/show")).await?;
    let before = screening::screening(&page).await?;

    let begun = Instant::now();
    let origin = format!("http://{}", stage.b.http);
    let report = event_stream::move_viewers(stage.a.ops, &origin, 0).await?;
    assert_eq!(report["told"], 1, "{report}");
    until_served_by(&page, stage.b.http).await?;
    let took = begun.elapsed();
    until("the old session is closed", || async { Ok(sessions(&stage.a).await? == 0.0) }).await?;
    assert_eq!(sessions(&stage.b).await?, 1.0);
    tokio::time::sleep(WHILE).await;

    let after = screening::screening(&page).await?;
    let usual = before.longest(0.0);
    let moved = after.longest(before.pictures.last().context("pictures before")?.at);
    println!(
        "moved in {took:?}: {after}; longest picture {} ms, before the move {} ms; direct: {} freezes ({} ms)",
        moved.as_millis(),
        usual.as_millis(),
        direct.freeze_count,
        direct.freezes.as_millis()
    );
    assert_eq!(after.states, ["live"], "a viewer is not told of what it cannot see");
    assert!(after.stops.is_empty(), "{:?}", after.stops);
    let [switch] = after.switches()[..] else { anyhow::bail!("one switch: {after}") };
    // A machine that freezes without any server between does so here too.
    let allowed = direct.freezes.max(usual) + FREEZE;
    assert!(switch.gap <= allowed && moved <= allowed, "stood for {moved:?}, allowed {allowed:?}");
    assert!(switch.step_ms > -200.0, "the picture went back: {after}");
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

/// Supervised nodes with a store, as operators run them: the node of a player is drained by the command line, then the one
/// that it went to is killed, then the publisher's.
#[tokio::test(flavor = "multi_thread")]
async fn a_player_sees_no_gap_when_its_node_is_drained_and_stays_when_it_is_killed() -> Result {
    const NAMES: [&str; 2] = ["out-1", "out-2"];
    let name = "a_player_sees_no_gap_when_its_node_is_drained_and_stays_when_it_is_killed";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let node = |role, name| installation.node(role, name).supervised().start();
    let injection = node("injection", "in").await?;
    let egress = [node("egress", NAMES[0]).await?, node("egress", NAMES[1]).await?];
    let publisher = Browser::chromium().await?;
    for name in NAMES {
        until_parents(&controller, name, &["in"]).await?;
    }
    let publishing =
        watching::publish_test_picture(&publisher, &controller.url("/publish/show"), "h264").await?;
    for egress in &egress {
        until_live(egress, "show").await?;
    }
    let browser = Browser::chromium().await?;
    let page = watching::open_player(&browser, &controller.url("/watch/show")).await?;
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let at = usize::from(sessions(&egress[1]).await? > 0.0);
    let (left, next) = (&egress[at], &egress[1 - at]);
    until("the player listens", || async { Ok(left.metric("media_tree_event_streams{").await? > 0.0) })
        .await?;
    screening::follow(&page).await?;
    more_pictures(&page).await?;

    let mut order = Command::new(program::path()?);
    order.args(["node", "drain", NAMES[at], "--deadline", "20s", "--api", &controller.url("")]);
    let output = order.output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until_served_by(&page, next.http).await?;
    until("the old session is closed", || async { Ok(sessions(left).await? == 0.0) }).await?;
    more_pictures(&page).await?;
    let seen = screening::screening(&page).await?;
    println!("{name}: drained: {seen}; longest picture {} ms", seen.longest(0.0).as_millis());
    assert_eq!(seen.states, ["live"], "a viewer is not told of what it cannot see");
    assert!(seen.stops.is_empty(), "{:?}", seen.stops);
    let [switch] = seen.switches()[..] else { anyhow::bail!("one switch: {seen}") };
    assert!(switch.step_ms > -200.0, "the picture went back: {seen}");
    ensure!(page.errors().is_empty(), "{:?}", page.errors());

    for (role, struck) in [("egress", next), ("injection", &injection)] {
        let from = page.evaluate("performance.now()").await?.as_f64().context("a time")?;
        let back = supervised::kill(struck).await?;
        until("its session goes on", || async {
            Ok(struck.metric("media_tree_sessions_resumed_total").await? == 1.0)
        })
        .await?;
        more_pictures(&page).await?;
        let seen = screening::screening(&page).await?;
        println!(
            "{name}: kill -9 of {role}: back after {} ms, longest picture {} ms: {seen}",
            back.as_millis(),
            seen.longest(from).as_millis()
        );
        assert!(seen.stops.is_empty(), "{:?}", seen.stops);
    }
    ensure!(publishing.evaluate("mediaTree.state").await? == "live", "the publisher's session goes on");
    Ok(())
}

/// Three more seconds on screen.
async fn more_pictures(page: &Page) -> Result {
    let shown = page.evaluate("screening.pictures.length").await?.as_u64().context("a count")?;
    page.wait_until(&format!("screening.pictures.length > {shown} + 90"), PATIENCE).await
}

/// The gap between the last picture of a server and the first of the next, of a player whose server is killed.
async fn lose_server(page: &Page, lost: &Program, next: &Program) -> anyhow::Result<Screening> {
    lost.signal("KILL")?;
    until_served_by(page, next.http).await?;
    tokio::time::sleep(WHILE).await;
    screening::screening(page).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_whose_server_is_killed_is_back_through_its_front_door() -> Result {
    let name = "a_player_whose_server_is_killed_is_back_through_its_front_door";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let stage = Stage::set().await?;
    let browser = Browser::chromium().await?;
    let page = stage.watch(&browser, &stage.door.url("/watch/show")).await?;
    let seen = lose_server(&page, &stage.a, &stage.b).await?;
    println!("killed: {seen}");
    let [switch] = seen.switches()[..] else { anyhow::bail!("one switch: {seen}") };
    assert!(switch.gap < BACK_WITHIN, "{seen}");
    assert_eq!(seen.states, ["live", "reconnecting", "live"], "said in words, and over");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_finds_back_by_itself_when_the_place_it_came_from_is_gone() -> Result {
    let name = "a_player_finds_back_by_itself_when_the_place_it_came_from_is_gone";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let stage = Stage::set().await?;
    let browser = Browser::chromium().await?;
    let page = stage.watch(&browser, &stage.door.url("/watch/show")).await?;
    let origin = format!("http://{}", stage.b.http);
    event_stream::move_viewers(stage.a.ops, &origin, 0).await?;
    until_served_by(&page, stage.b.http).await?;
    more_pictures(&page).await?;
    // The front door closes, then the server that has the viewer now dies: what is left is the first server, which the
    // player has met behind the door.
    stage.door.send_to(&[]);
    let seen = lose_server(&page, &stage.b, &stage.a).await?;
    println!("killed with the front door closed: {seen}");
    assert_eq!(seen.states, ["live", "reconnecting", "live"]);
    let switches = seen.switches();
    assert_eq!(switches.len(), 2, "{seen}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_is_told_at_once_that_the_broadcaster_has_gone() -> Result {
    let name = "a_player_is_told_at_once_that_the_broadcaster_has_gone";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let stage = Stage::set().await?;
    let browser = Browser::chromium().await?;
    let page = stage.watch(&browser, &stage.door.url("/watch/show")).await?;
    let publisher = &stage.publisher;
    let begun = Instant::now();
    publisher.evaluate("document.getElementById('stop').click()").await?;
    page.wait_until("mediaTree.state === 'waiting'", PATIENCE).await?;
    println!("said to be waiting {:?} after the broadcaster stopped", begun.elapsed());
    let words = page.evaluate("document.getElementById('badge').textContent").await?;
    assert_eq!(words, "Waiting for the broadcaster");
    publisher.evaluate("document.getElementById('start').click()").await?;
    page.wait_until("mediaTree.state === 'live'", PATIENCE).await?;
    let seen = screening::screening(&page).await?;
    assert_eq!(seen.states, ["live", "waiting", "live"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_plays_from_a_server_without_events() -> Result {
    let name = "a_player_plays_from_a_server_without_events";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").with(&["--demo"]).start().await?;
    // As a server without extensions answers.
    let browser = Browser::chromium().await?;
    let page = browser.open(&node.url("/")).await?;
    page.wait_until("document.querySelector('.badge.live') !== null", PATIENCE).await?;
    let play = r#"
        (async () => {
            const ask = window.fetch;
            window.fetch = async (...request) => {
                const response = await ask(...request);
                response.headers.get = (name) => (name === "Link" ? null : Headers.prototype.get.call(response.headers, name));
                return response;
            };
            const { Player } = await import("/assets/player.js");
            window.player = new Player(document.body, "/whep/demo");
            player.start(null);
        })()
    "#;
    page.evaluate(play).await?;
    page.wait_until("player.state === 'live'", PATIENCE).await?;
    page.wait_until("player.stats().then((stats) => stats.video.framesDecoded > 60)", PATIENCE).await?;
    assert_eq!(node.metric("media_tree_event_streams{").await?, 0.0);
    assert_eq!(sessions(&node).await?, 1.0);
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

/// Over HTTP/1.1 a browser has six connections to a server for all its pages.
#[tokio::test(flavor = "multi_thread")]
async fn however_many_listen_a_page_still_loads() -> Result {
    const LISTENING: usize = 4;
    let name = "however_many_listen_a_page_still_loads";
    if !tools::has(name, CHROMIUM) {
        return Ok(());
    }
    let node = program::node("up").with(&["--broadcasts", "show"]).start().await?;
    let mut viewers = Vec::new();
    for _ in 0..2 * LISTENING {
        viewers.push(client::Whep::connect(&node.url("/whep/show"), None).await?);
    }
    let entries: Vec<String> = viewers.iter().map(|viewer| format!("{}/events", viewer.url())).collect();
    let browser = Browser::chromium().await?;
    let page = browser.open(&node.url("/")).await?;
    let listen = format!(
        r#"
        (async () => {{
            const {{ SessionEvents }} = await import("/assets/whep-events.js");
            const listen = (url) => new SessionEvents({{ url, types: null }}, null, ["reconnect"], () => {{}});
            window.listening = {}.map(listen);
        }})()
        "#,
        serde_json::to_string(&entries)?
    );
    page.evaluate(&listen).await?;
    let streams = async || node.metric("media_tree_event_streams{").await;
    until("as many listen as may", || async { Ok(streams().await? == LISTENING as f64) }).await?;
    let loaded = browser.open(&node.url("/watch/show")).await?;
    loaded.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    assert_eq!(streams().await?, LISTENING as f64);
    // Whoever ends makes room. Its stream on the server lives as long as its session.
    page.evaluate("listening.forEach((events, index) => index % 2 || events.close())").await?;
    until("others listen then", || async { Ok(streams().await? > LISTENING as f64) }).await
}
