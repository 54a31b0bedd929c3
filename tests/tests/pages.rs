//! The pages as people use them: what is live, publisher and player, in real browsers against the real program.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::program::{PATIENCE, Program, node, until};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(20);
/// Far below what ICE takes to give a vanished viewer up.
const AT_ONCE: Duration = Duration::from_secs(8);

async fn publish(browser: &Browser, program: &Program, broadcast: &str) -> anyhow::Result<Page> {
    watching::publish_test_picture(browser, &program.url(&format!("/publish/{broadcast}")), "vp8").await
}

async fn watch(browser: &Browser, program: &Program, broadcast: &str) -> anyhow::Result<Page> {
    let page = browser.open(&program.url(&format!("/watch/{broadcast}"))).await?;
    page.wait_until("mediaTree.state === 'live'", SOON).await?;
    Ok(page)
}

async fn viewers(program: &Program, broadcast: &str) -> anyhow::Result<u64> {
    let list: Value =
        serde_json::from_str(&reqwest::get(program.url("/api/v1/broadcasts")).await?.text().await?)?;
    let broadcasts = list.as_array().context("a list")?;
    let found =
        broadcasts.iter().find(|entry| entry["id"] == broadcast).context("the broadcast is listed")?;
    found["viewers"].as_u64().context("a number")
}

/// No page breaks its own security policy, throws, or loads what is not there.
fn has_no_errors(page: &Page) -> Result {
    let errors = page.errors();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

#[tokio::test]
async fn the_first_page_lists_the_demo_and_its_player_plays_picture_and_sound() -> Result {
    if !tools::has("the_first_page_lists_the_demo", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let browser = Browser::chromium().await?;
    let first = browser.open(&program.url("/")).await?;
    first.wait_until("document.querySelector('.badge.live') !== null", SOON).await?;
    let listed = first.evaluate("document.querySelector('.broadcast h2').textContent").await?;
    assert_eq!(listed, "demo");
    let link = first.evaluate("document.querySelector('.broadcast .watch').href").await?;
    let player = browser.open(link.as_str().context("a link")?).await?;
    player.wait_until("mediaTree.state === 'live'", SOON).await?;
    player.evaluate("document.getElementById('sound-on').click()").await?;
    player
        .wait_until("mediaTree.stats().then((s) => s.framesDecoded > 60 && s.audioEnergy > 0.01)", SOON)
        .await?;
    let stats = player.evaluate("mediaTree.stats()").await?;
    assert_eq!((&stats["videoCodec"], &stats["audioCodec"]), (&"H264".into(), &"opus".into()));
    assert_eq!(stats["packetsLost"], 0);
    let reports = || program.metric_with("media_tree_player_reports_total{", "result=\"taken\"");
    until("the player has reported", || async { Ok(reports().await? == 1.0) }).await?;
    ensure!(program.metric("media_tree_player_first_frame_seconds_count{").await? == 1.0);
    ensure!(program.metric("media_tree_player_latency_seconds_count{").await? == 1.0);
    ensure!(program.metric("media_tree_player_watched_seconds_total{").await? > 1.0);
    // It says its last words before it goes.
    player.evaluate("location.href = '/'").await?;
    until("the player has said its last words", || async { Ok(reports().await? == 2.0) }).await?;
    has_no_errors(&first)?;
    has_no_errors(&player)
}

#[tokio::test]
async fn the_first_page_speaks_the_language_of_its_reader() -> Result {
    if !tools::has("the_first_page_speaks_the_language_of_its_reader", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let browser = Browser::chromium().await?;
    for (language, summary, [watch, publish, name], facts) in [
        ("en", "One broadcast is live.", ["Watch demo", "Publish demo", "friday-night"], "on air for"),
        ("de", "Eine Sendung läuft.", ["Ansehen: demo", "Senden: demo", "freitagabend"], "auf Sendung"),
        (
            "it",
            "Una trasmissione è in diretta.",
            ["Guarda demo", "Trasmetti demo", "venerdi-sera"],
            "in diretta da",
        ),
    ] {
        let page = browser.open(&program.url(&format!("/?lang={language}"))).await?;
        page.wait_until(&format!("document.getElementById('summary').textContent === '{summary}'"), SOON)
            .await?;
        let said = "[document.documentElement.lang,
            ...['watch', 'publish'].map((name) => document.querySelector(`.broadcast .${name}`).ariaLabel),
            document.getElementById('name').placeholder]";
        assert_eq!(page.evaluate(said).await?, serde_json::json!([language, watch, publish, name]));
        let has_facts = format!("document.querySelector('.broadcast p').textContent.includes('{facts}')");
        page.wait_until(&has_facts, SOON).await?;
        let wordless = "[...document.querySelectorAll('h1, h2, label, button, .hint, .lead, .actions a')]
            .filter((element) => element.textContent.trim() === '').map((element) => element.outerHTML)";
        assert_eq!(page.evaluate(wordless).await?, serde_json::json!([]), "{language}");
        has_no_errors(&page)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_test_picture_can_be_read_where_it_is_watched_and_closed_windows_leave_at_once() -> Result {
    if !tools::has("a_test_picture_can_be_read", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let publisher = publish(&browser, &program, "clock").await?;
    let player = watch(&browser, &program, "clock").await?;
    let read = player.evaluate("mediaTree.timecode()").await?;
    let behind = read["behind"].as_i64().with_context(|| format!("no clock in the picture: {read}"))?;
    ensure!((0..2000).contains(&behind), "{behind} ms behind");
    has_no_errors(&publisher)?;
    has_no_errors(&player)?;
    assert_eq!(viewers(&program, "clock").await?, 1);
    player.close().await?;
    let left = until("the viewer has left", || async { Ok(viewers(&program, "clock").await? == 0) });
    tokio::time::timeout(AT_ONCE, left).await.context("a closed window leaves at once")?
}

/// Clicks the button beside a field; gives the field's value and what the button hands to the clipboard.
async fn copied(page: &Page, field: &str) -> anyhow::Result<(Value, Value)> {
    let click = format!(
        "(async () => {{
            const written = new Promise((resolve) => {{ Clipboard.prototype.writeText = async (text) => resolve(text); }});
            document.querySelector('[data-copy=\"{field}\"]').click();
            return await written;
        }})()"
    );
    let written = page.evaluate(&click).await?;
    Ok((page.evaluate(&format!("document.getElementById('{field}').value")).await?, written))
}

#[tokio::test]
async fn the_publish_page_has_what_encoders_want_for_whip_and_where_rtmp_is_taken_for_rtmp() -> Result {
    if !tools::has("the_publish_page_has_what_encoders_want", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/publish/show#key=a%2Bb%26c")).await?;
    page.evaluate("document.getElementById('encoder').open = true").await?;
    page.wait_until("document.getElementById('rtmp-server').checkVisibility()", SOON).await?;
    for (field, expected) in [
        ("obs-service", "WHIP".to_owned()),
        ("obs-server", program.url("/whip/show")),
        ("obs-token", "a+b&c".to_owned()),
        ("rtmp-server", format!("rtmp://127.0.0.1:{}/live", program.rtmp.port())),
        ("rtmp-key", "show?key=a%2Bb%26c".to_owned()),
    ] {
        let (shown, written) = copied(&page, field).await?;
        assert_eq!((&shown, &written), (&expected.as_str().into(), &expected.as_str().into()), "{field}");
    }
    page.evaluate("document.getElementById('key').value = ''").await?;
    page.evaluate("document.getElementById('key').dispatchEvent(new Event('input'))").await?;
    assert_eq!(copied(&page, "rtmp-key").await?.0, "show");
    // Browsers write down that nobody published.
    ensure!(page.errors().iter().all(|error| error.contains("404")), "{:?}", page.errors());

    // A node that takes no RTMP names none.
    let parent = format!("127.0.0.1:{}", program.link_port);
    let egress = node("egress").with(&["--parents", &parent]).start().await?;
    let page = browser.open(&egress.url("/publish/show")).await?;
    page.evaluate("document.getElementById('encoder').open = true").await?;
    page.wait_until(
        "performance.getEntriesByName(new URL('/api/v1/publishing', location).href)
            .some((entry) => entry.responseEnd > 0 && entry.responseStatus === 200)",
        SOON,
    )
    .await?;
    let seen = "['obs-server', 'rtmp-server'].map((id) => document.getElementById(id).checkVisibility())";
    assert_eq!(page.evaluate(seen).await?, serde_json::json!([true, false]));
    ensure!(page.errors().iter().all(|error| error.contains("404")), "{:?}", page.errors());
    Ok(())
}

#[tokio::test]
async fn a_player_waits_for_its_broadcaster_and_goes_on_without_a_reload() -> Result {
    if !tools::has("a_player_waits_for_its_broadcaster", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let player = browser.open(&program.url("/watch/clock")).await?;
    player.wait_until("mediaTree.state === 'waiting'", SOON).await?;
    let words = player.evaluate("document.getElementById('badge').textContent").await?;
    ensure!(words.as_str().is_some_and(|words| words.starts_with("Waiting")), "{words}");
    let publisher = publish(&browser, &program, "clock").await?;
    player.wait_until("mediaTree.state === 'live'", SOON).await?;
    publisher.evaluate("document.getElementById('stop').click()").await?;
    player.wait_until("mediaTree.state === 'waiting'", SOON).await?;
    publisher.evaluate("document.getElementById('start').click()").await?;
    player.wait_until("mediaTree.state === 'live'", SOON).await?;
    player.wait_until("mediaTree.timecode().then((read) => read !== null && read.behind < 2000)", SOON).await
}

#[tokio::test]
async fn a_player_and_a_publisher_whose_server_is_gone_say_so_and_try_again() -> Result {
    if !tools::has("a_player_and_a_publisher_whose_server_ends", "/usr/bin/chromium") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let publisher = publish(&browser, &program, "clock").await?;
    let player = watch(&browser, &program, "clock").await?;
    program.signal("KILL")?;
    player.wait_until("mediaTree.state === 'reconnecting'", AT_ONCE).await?;
    player.wait_until("document.getElementById('badge').textContent.includes('2nd try')", AT_ONCE).await?;
    publisher.wait_until("mediaTree.state === 'reconnecting'", PATIENCE).await
}

#[tokio::test]
async fn a_device_that_is_gone_takes_its_own_part_with_it_and_no_more() -> Result {
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/publish/show?source=camera&codec=vp8")).await?;
    page.wait_until("window.mediaTree !== undefined", SOON).await?;
    page.evaluate("document.getElementById('form').requestSubmit()").await?;
    page.wait_until("mediaTree.state === 'live'", SOON).await?;
    let is_shown = "document.getElementById('camera').value === \
                    document.getElementById('preview').srcObject.getVideoTracks()[0].getSettings().deviceId";
    page.wait_until(is_shown, SOON).await?;
    for (kind, said, state) in
        [("Audio", "The microphone is gone.", "live"), ("Video", "The camera is gone.", "idle")]
    {
        let goes = format!(
            "(() => {{ const [track] = document.getElementById('preview').srcObject.get{kind}Tracks(); \
             track.stop(); track.dispatchEvent(new Event('ended')); \
             return [document.getElementById('error').textContent, mediaTree.state]; }})()"
        );
        ensure!(page.evaluate(&goes).await? == json!([said, state]), "{kind}");
    }
    has_no_errors(&page)
}

#[tokio::test]
async fn firefox_publishes_and_watches() -> Result {
    if !tools::has("firefox_publishes_and_watches", "/usr/bin/firefox-esr") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::firefox().await?;
    let publisher = publish(&browser, &program, "clock").await?;
    let player = watch(&browser, &program, "clock").await?;
    player.evaluate("document.getElementById('mute').click()").await?;
    player
        .wait_until("mediaTree.stats().then((s) => s.framesDecoded > 30 && s.audioEnergy > 0.001)", SOON)
        .await?;
    let read = player.evaluate("mediaTree.timecode()").await?;
    ensure!(read["behind"].as_i64().is_some_and(|behind| (0..2000).contains(&behind)), "{read}");
    has_no_errors(&publisher)?;
    has_no_errors(&player)
}
