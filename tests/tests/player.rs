//! The player as an element on other sites' pages, in a frame and on its own page: what it plays, tells, says and does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::other_site::{OtherSite, one_layer, three_layers};
use tests::program::{Program, node, until};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(20);
const CHROMIUM: &str = "/usr/bin/chromium";
const PLAYER: &str = "document.querySelector('media-tree-player')";

/// A program with its demo on air, somebody else's site, and a browser.
async fn stage(layers: Value) -> anyhow::Result<(Program, OtherSite, Browser)> {
    let program = node("up").with(&["--demo"]).start().await?;
    let site = OtherSite::start(&program, layers).await?;
    Ok((program, site, Browser::chromium().await?))
}

/// A page of the other site whose player has these attributes.
async fn embedded(browser: &Browser, site: &OtherSite, attributes: &str) -> anyhow::Result<Page> {
    let page = browser.open(&site.url(&format!("/page?{attributes}"))).await?;
    page.wait_until("window.told !== undefined", SOON).await?;
    Ok(page)
}

/// The player of this very program on its own page, playing.
async fn watch(browser: &Browser, program: &Program, query: &str) -> anyhow::Result<Page> {
    let page = browser.open(&program.url(&format!("/watch/demo{query}"))).await?;
    page.wait_until("mediaTree.state === 'live'", SOON).await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 0)", SOON).await?;
    Ok(page)
}

async fn text(page: &Page, expression: &str) -> anyhow::Result<String> {
    Ok(page.evaluate(expression).await?.as_str().with_context(|| format!("a text: {expression}"))?.to_owned())
}

/// No page breaks a security policy, throws, or loads what is not there.
fn has_no_errors(page: &Page) -> Result {
    let errors = page.errors();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_site_plays_and_is_told_what_happens() -> Result {
    if !tools::has("a_page_of_another_site_plays", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let browser = Browser::chromium().await?;
    let publisher = watching::publish_test_picture(&browser, &program.url("/publish/clock"), "vp8").await?;
    let page = embedded(&browser, &site, &format!("src={}&muted=", program.url("/whep/clock"))).await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    let told = |type_: &str| {
        format!("told.filter(({{ type }}) => type === '{type_}').map(({{ detail }}) => detail)")
    };
    let decoded = format!("({}.at(-1)?.framesDecoded ?? 0)", told("stats"));
    page.wait_until(&format!("{decoded} > 10"), SOON).await?;
    let before = page.evaluate(&decoded).await?;
    page.wait_until(&format!("{decoded} > {before} && {}.at(-1).bitrate > 1000", told("stats")), SOON)
        .await?;
    let stats = page.evaluate(&format!("{}.at(-1)", told("stats"))).await?;
    assert_eq!((&stats["videoCodec"], &stats["audioCodec"]), (&"VP8".into(), &"opus".into()), "{stats}");
    assert_eq!(stats["server"], program.http.to_string());
    ensure!(stats["width"].as_u64().is_some_and(|width| width > 0), "{stats}");
    // What it was, in order, each once.
    let states = page.evaluate(&format!("{}.map(({{ state }}) => state)", told("state"))).await?;
    assert_eq!(states, json!(["connecting", "live"]));
    // It lies behind a shadow, where no style of the page reaches it, and its own has come.
    let position = format!("getComputedStyle({PLAYER}.shadowRoot.querySelector('video')).position");
    page.wait_until(&format!("{position} === 'absolute'"), SOON).await?;
    page.evaluate(&format!("{PLAYER}.muted = false")).await?;
    page.wait_until("told.some(({ type }) => type === 'volumechange')", SOON).await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.video.muted")).await?, false);

    assert_eq!(page.evaluate("told.some(({ type }) => type === 'ended')").await?, false);
    publisher.evaluate("document.getElementById('stop').click()").await?;
    page.wait_until("told.some(({ type }) => type === 'ended')", SOON).await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.state")).await?, "waiting");
    publisher.evaluate("document.getElementById('start').click()").await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    has_no_errors(&page)?;

    // Who takes the element away watches no more.
    page.evaluate(&format!("{PLAYER}.remove()")).await?;
    until("the viewer has left", || async { Ok(program.metric("media_tree_viewers{").await? == 0.0) }).await
}

#[tokio::test]
async fn attributes_do_what_they_say_while_it_plays() -> Result {
    if !tools::has("attributes_do_what_they_say", CHROMIUM) {
        return Ok(());
    }
    let (_program, site, browser) = stage(one_layer()).await?;
    let page = embedded(&browser, &site, "src=/layered/demo&muted=&lang=it").await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.message")).await?, "In diretta");
    assert_eq!(page.evaluate(&format!("{PLAYER}.video.muted")).await?, true);
    for (change, then) in [
        ("setAttribute('lang', 'de')", "shadowRoot.getElementById('play').title === 'Pause'"),
        (
            "setAttribute('lang', 'de')",
            "shadowRoot.getElementById('sound-on').innerText === 'Ton einschalten'",
        ),
        ("removeAttribute('muted')", "video.muted === false"),
        ("setAttribute('latency', 'smooth')", "shadowRoot.querySelector('[value=smooth]').checked"),
        // Sound alone, then the picture again: each in a session of its own.
        (
            "setAttribute('audio-only', '')",
            "stats().then(({ video, audio }) => !video && audio.packetsReceived > 20)",
        ),
        ("removeAttribute('audio-only')", "stats().then(({ video }) => video?.framesDecoded > 20)"),
        ("pause()", "video.paused"),
        ("play()", "video.paused === false"),
    ] {
        page.evaluate(&format!("{PLAYER}.{change}")).await?;
        page.wait_until(&format!("{PLAYER}.{then}"), SOON).await.context(change)?;
    }
    assert_eq!(page.evaluate(&format!("{PLAYER}.state")).await?, "live");
    // It never said that anything was wrong.
    let states =
        "[...new Set(told.filter(({ type }) => type === 'state').map(({ detail }) => detail.state))]";
    assert_eq!(page.evaluate(states).await?, json!(["connecting", "live"]));
    // Without an address there is nothing to play.
    page.evaluate(&format!("{PLAYER}.removeAttribute('src')")).await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.state")).await?, "idle");
    has_no_errors(&page)
}

#[tokio::test]
async fn firefox_plays_it_too() -> Result {
    let name = "firefox_plays_it_too";
    if !tools::has(name, CHROMIUM) || !tools::has(name, "/usr/bin/firefox-esr") {
        return Ok(());
    }
    let program = node("up").start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let (publisher, viewer) = (Browser::chromium().await?, Browser::firefox().await?);
    let publish = program.url("/publish/clock");
    let _publishing = watching::publish_test_picture(&publisher, &publish, "vp8").await?;
    let page = embedded(&viewer, &site, "src=/layered/clock&muted=&lang=it").await?;
    page.wait_until(&format!("{PLAYER}.stats().then((stats) => stats?.video?.framesDecoded > 30)"), SOON)
        .await?;
    assert_eq!(text(&page, &format!("{PLAYER}.message")).await?, "In diretta");
    let root = format!("{PLAYER}.shadowRoot");
    page.evaluate(&format!("{root}.getElementById('settings').click()")).await?;
    page.wait_until(&format!("{root}.getElementById('menu').open"), SOON).await?;
    // Firefox has its own button for it, and lets no page ask.
    let is_offered = page.evaluate(&format!("!{root}.getElementById('floating').hidden")).await?;
    assert_eq!(is_offered, page.evaluate("document.pictureInPictureEnabled === true").await?);
    has_no_errors(&page)
}

#[tokio::test]
async fn a_token_is_an_attribute_or_is_asked_for() -> Result {
    if !tools::has("a_token_is_an_attribute", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--demo", "--view-tokens", "SECRET-VIEW"]).start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let browser = Browser::chromium().await?;
    let src = program.url("/whep/demo");
    let given = embedded(&browser, &site, &format!("token=SECRET-VIEW&src={src}")).await?;
    given.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    let renew = format!(
        "(() => {{ const {{ video }} = {PLAYER}; {PLAYER}.setAttribute('token', 'ANOTHER'); \
         return {PLAYER}.state === 'live' && {PLAYER}.video === video && video.srcObject !== null; }})()"
    );
    ensure!(given.evaluate(&renew).await? == true, "who watches goes on watching");
    let asked = embedded(&browser, &site, &format!("src={src}")).await?;
    asked.wait_until(&format!("{PLAYER}.state === 'key'"), SOON).await?;
    let give = |key: &str| {
        format!(
            "(() => {{ const root = {PLAYER}.shadowRoot; root.getElementById('key').value = '{key}'; \
             root.querySelector('form button').click(); }})()"
        )
    };
    let is_asked = format!("!{PLAYER}.shadowRoot.querySelector('form').hidden && {PLAYER}.state === 'key'");
    ensure!(asked.evaluate(&is_asked).await? == true);
    // None of them is one, and another can be typed.
    for key in ["Bearer SECRET-VIEW", "SECRET\u{2013}VIEW"] {
        asked.evaluate(&give(key)).await?;
        let is_said = format!("{is_asked} && {PLAYER}.message.includes('the key has characters')");
        asked.wait_until(&is_said, SOON).await.with_context(|| key.to_owned())?;
    }
    asked.evaluate(&give(" SECRET-VIEW ")).await?;
    asked.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    ensure!(asked.evaluate(&format!("{PLAYER}.shadowRoot.querySelector('form').hidden")).await? == true);
    Ok(())
}

#[tokio::test]
async fn the_frame_plays_and_nothing_else_may_be_framed() -> Result {
    if !tools::has("the_frame_plays", CHROMIUM) {
        return Ok(());
    }
    let (program, site, browser) = stage(one_layer()).await?;
    for (path, ancestors) in [
        ("/", "'none'"),
        ("/watch/demo", "'none'"),
        ("/publish/demo", "'none'"),
        ("/dashboard", "'none'"),
        ("/embed/demo", "*"),
    ] {
        let answer = reqwest::get(program.url(path)).await?;
        let policy =
            answer.headers().get("content-security-policy").context("a policy")?.to_str()?.to_owned();
        ensure!(policy.ends_with(&format!("frame-ancestors {ancestors}")), "{path}: {policy}");
    }
    let framed = browser.open(&site.url("/frame/embed")).await?;
    // A page may not look into a frame of another site: the player in it tells its server what it has seen.
    until("the player in the frame has reported its first picture", || async {
        Ok(program.metric("media_tree_player_first_frame_seconds_count{").await? == 1.0)
    })
    .await?;
    has_no_errors(&framed)?;
    framed.close().await?;
    let refused = browser.open(&site.url("/frame/watch")).await?;
    until("the browser refuses to frame the page", || async {
        Ok(refused.errors().iter().any(|error| error.contains("frame-ancestors")))
    })
    .await?;

    // The page of the frame by itself.
    let page = browser.open(&program.url("/embed/demo?lang=de&muted=0&latency=smooth")).await?;
    page.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 30)", SOON).await?;
    page.wait_until(&format!("{PLAYER}.video.muted === false"), SOON).await?;
    ensure!(page.evaluate("document.querySelector('[value=smooth]').checked").await? == true);
    let fills = "innerWidth === document.querySelector('media-tree-player').clientWidth && \
                 innerHeight === document.querySelector('media-tree-player').clientHeight && \
                 document.documentElement.scrollHeight === innerHeight";
    ensure!(page.evaluate(fills).await? == true, "the player is the page");
    has_no_errors(&page)
}

#[tokio::test]
async fn keys_do_what_the_menu_says() -> Result {
    if !tools::has("keys_do_what_the_menu_says", CHROMIUM) {
        return Ok(());
    }
    let (program, site, browser) = stage(one_layer()).await?;
    let page = watch(&browser, &program, "").await?;
    let at = |id: &str| format!("document.getElementById('{id}')");
    let figures = format!("{}.innerText", at("figures"));
    for (key, then) in [
        ("m", format!("!{PLAYER}.muted && !{PLAYER}.video.muted && {}.hidden", at("sound-on"))),
        ("ArrowDown", format!("{PLAYER}.volume === 0.9 && Math.abs({PLAYER}.video.volume - 0.9) < 0.001")),
        ("ArrowUp", format!("{PLAYER}.volume === 1")),
        ("k", format!("{PLAYER}.paused && {PLAYER}.video.paused && {}.title === 'Play'", at("play"))),
        (" ", format!("!{PLAYER}.paused && !{PLAYER}.video.paused")),
        ("c", format!("{PLAYER}.captions && {}.getAttribute('aria-pressed') === 'true'", at("captions"))),
        ("i", format!("/640 × 360[^]*kbit.s/.test({figures}) && {figures}.includes('Round trip')")),
        ("?", format!("{}.open && {}.open", at("menu"), at("keys"))),
        (
            "Escape",
            format!("!{}.open && {}.getAttribute('aria-expanded') === 'false'", at("menu"), at("settings")),
        ),
        ("i", format!("{}.hidden", at("figures"))),
        ("f", format!("document.fullscreenElement === {PLAYER}")),
        ("f", "document.fullscreenElement === null".to_owned()),
        ("p", format!("document.pictureInPictureElement === {PLAYER}.video")),
        ("p", "document.pictureInPictureElement === null".to_owned()),
    ] {
        page.press(key).await?;
        page.wait_until(&then, SOON).await.with_context(|| format!("after {key:?}"))?;
    }
    // By keys alone to the menu, through it, and back to where the way began.
    page.evaluate(&format!("{}.focus()", at("settings"))).await?;
    page.press("Enter").await?;
    page.wait_until(&format!("{}.open", at("menu")), SOON).await?;
    ensure!(page.evaluate(&format!("{}.contains(document.activeElement)", at("menu"))).await? == true);
    page.press("Escape").await?;
    page.wait_until("document.activeElement.id === 'settings'", SOON).await?;
    has_no_errors(&page)?;

    // On the page of somebody else the keys are the player's only while it has the focus, and letters can be typed.
    let page = embedded(&browser, &site, "src=/layered/demo&muted=").await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    page.evaluate("document.getElementById('field').focus()").await?;
    page.press("m").await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.muted")).await?, true);
    page.evaluate(&format!("{PLAYER}.shadowRoot.getElementById('settings').focus()")).await?;
    page.press("m").await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.muted")).await?, false);
    Ok(())
}

#[tokio::test]
async fn one_layer_is_no_choice_and_three_are_chosen_from() -> Result {
    if !tools::has("one_layer_is_no_choice", CHROMIUM) {
        return Ok(());
    }
    let (program, site, browser) = stage(one_layer()).await?;
    let page = watch(&browser, &program, "").await?;
    page.evaluate("document.getElementById('settings').click()").await?;
    ensure!(page.evaluate("document.getElementById('quality').hidden").await? == true);
    ensure!(page.evaluate("document.getElementById('audio-only').checkVisibility()").await? == true);

    let page = embedded(&browser, &site, "src=/layered/demo").await?;
    page.wait_until(&format!("{PLAYER}.layers.length === 1"), SOON).await?;
    ensure!(
        site.asked().events.iter().all(|types| types == &json!(["active", "reconnect", "layers"])),
        "{:?}",
        site.asked()
    );
    let quality = format!("{PLAYER}.shadowRoot.getElementById('quality')");
    page.evaluate(&format!("{PLAYER}.shadowRoot.getElementById('settings').click()")).await?;
    ensure!(page.evaluate(&format!("{quality}.hidden")).await? == true);
    site.say_layers(three_layers());
    page.wait_until(&format!("{quality}.hidden === false"), SOON).await?;
    let names = format!("[...{quality}.querySelectorAll('label')].map((label) => label.innerText)");
    let expected = ["Automatic", "720p · 2.5 Mbit/s", "800 kbit/s", "q (not sent now)"];
    assert_eq!(page.evaluate(&names).await?, json!(expected));

    let choose = async |name: &str| {
        page.evaluate(&format!("{quality}.querySelector('[value=\"{name}\"]').click()")).await
    };
    let asked = async |expected: Value| {
        let is_asked = || async { Ok(json!(site.asked().layers) == expected) };
        until("the server is asked", is_asked).await.with_context(|| format!("{:?}", site.asked().layers))
    };
    let (middle, nothing) = (json!({ "mediaId": "0", "rid": "m" }), json!({ "mediaId": "0" }));
    choose("m").await?;
    asked(json!([middle])).await?;
    assert_eq!(page.evaluate(&format!("{PLAYER}.layer")).await?, "m");
    page.wait_until("told.some(({ type, detail }) => type === 'layers' && detail.layer === 'm')", SOON)
        .await?;
    // A session that takes the place of this one is told the same.
    page.evaluate(&format!("{PLAYER}.setAttribute('audio-only', '')")).await?;
    page.wait_until(&format!("{PLAYER}.stats().then(({{ video }}) => !video)"), SOON).await?;
    ensure!(
        page.evaluate(&format!("{quality}.hidden")).await? == true,
        "without a picture there is no choice"
    );
    page.evaluate(&format!("{PLAYER}.removeAttribute('audio-only')")).await?;
    asked(json!([middle, middle])).await?;
    page.wait_until(&format!("{quality}.hidden === false"), SOON).await?;
    choose("").await?;
    asked(json!([middle, middle, nothing])).await?;
    // What the server refuses is automatic again.
    let missing = json!({ "mediaId": "0", "rid": "q" });
    choose("q").await?;
    asked(json!([middle, middle, nothing, missing, nothing])).await?;
    page.wait_until(
        &format!("{PLAYER}.layer === null && {quality}.querySelector('[value=\"\"]').checked"),
        SOON,
    )
    .await?;
    let errors: Vec<String> =
        page.errors().into_iter().filter(|error| !error.contains("status of 422")).collect();
    ensure!(errors.is_empty(), "{errors:?}");
    Ok(())
}

#[tokio::test]
async fn the_little_window_goes_on_when_the_server_moves_its_viewers() -> Result {
    if !tools::has("the_little_window_goes_on", CHROMIUM) {
        return Ok(());
    }
    let (_program, site, browser) = stage(one_layer()).await?;
    let page = embedded(&browser, &site, "src=/layered/demo&muted=").await?;
    // By then it listens.
    page.wait_until(&format!("{PLAYER}.layers.length === 1"), SOON).await?;
    let floats = format!("{PLAYER}.shadowRoot.pictureInPictureElement === {PLAYER}.video");
    page.evaluate(&format!("{PLAYER}.video.requestPictureInPicture().then(() => null)")).await?;
    ensure!(page.evaluate(&floats).await? == true);
    page.evaluate(&format!("(() => {{ window.first = {PLAYER}.video; }})()")).await?;
    site.move_viewers();
    page.wait_until(&format!("{PLAYER}.video !== first && !first.isConnected && {floats}"), SOON).await?;
    let states =
        "[...new Set(told.filter(({ type }) => type === 'state').map(({ detail }) => detail.state))]";
    assert_eq!(page.evaluate(states).await?, json!(["connecting", "live"]));
    has_no_errors(&page)
}

#[tokio::test]
async fn layers_are_read_whatever_stands_in_them() -> Result {
    if !tools::has("layers_are_read", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    let read = async |data: Value| {
        page.evaluate(&format!("import('/assets/layers.js').then(({{ layersOf }}) => layersOf({data}, '0'))"))
            .await
    };
    for nothing in [
        json!(null),
        json!({}),
        json!({ "0": 7 }),
        json!({ "0": { "active": "h" } }),
        json!({ "1": { "active": [{ "rid": "h" }] } }),
    ] {
        assert_eq!(read(nothing.clone()).await?, json!([]), "{nothing}");
    }
    let data = json!({ "0": {
        "active": [
            { "encodingId": "low", "bitrate": 200_000, "width": "wide" },
            { "rid": "high", "bitrate": 1_000_000, "temporalLayerId": 0 },
            { "rid": "high", "bitrate": 2_000_000, "temporalLayerId": 1 },
            { "bitrate": 5 }, null, { "rid": 7 },
        ],
        "layers": [{ "rid": "high", "width": 1280, "height": 720 }, { "rid": "unheard of", "height": 9 }],
    } });
    let layer = |name: &str, bitrate: u32, (width, height): (Value, Value)| json!({ "name": name, "bitrate": bitrate, "width": width, "height": height, "isActive": true });
    let expected = [
        layer("high", 2_000_000, (1280.into(), 720.into())),
        layer("low", 200_000, (Value::Null, Value::Null)),
    ];
    assert_eq!(read(data).await?, json!(expected));
    // As this program tells them: in one list, in which only what is sent has a bitrate.
    let mut list = json!([
        { "rid": "high", "bitrate": 2_000_000, "width": 1280, "height": 720 },
        { "rid": "low", "bitrate": 200_000 },
    ]);
    assert_eq!(read(json!({ "0": list })).await?, json!(expected));
    list[0]["bitrate"] = Value::Null;
    let read_again = read(json!({ "0": list })).await?;
    assert_eq!((&read_again[0]["name"], &read_again[0]["isActive"]), (&json!("high"), &json!(false)));
    // Whether any of it is sent to this viewer.
    let is_held = async |data: Value| {
        page.evaluate(&format!("import('/assets/layers.js').then(({{ isHeld }}) => isHeld({data}, '0'))"))
            .await
    };
    for (data, expected) in [
        (json!(null), false),
        (json!({ "0": [null, { "rid": "high" }] }), false),
        (json!({ "0": { "held": true } }), false),
        (json!({ "1": [{ "held": true }] }), false),
        (json!({ "0": [{ "spatialLayerId": 0, "held": true }] }), true),
    ] {
        assert_eq!(is_held(data.clone()).await?, expected, "{data}");
    }
    // A picture without simulcast has a layer without a name: there is nothing to choose.
    assert_eq!(read(json!({ "0": [{ "spatialLayerId": 0, "bitrate": 500_000 }] })).await?, json!([]));
    has_no_errors(&page)
}

#[tokio::test]
async fn each_language_shows_its_words() -> Result {
    if !tools::has("each_language_shows_its_words", CHROMIUM) {
        return Ok(());
    }
    let (program, _site, browser) = stage(one_layer()).await?;
    for (language, sound, settings, behind) in [
        ("en", "Turn sound on", "Settings", "behind the camera"),
        ("de", "Ton einschalten", "Einstellungen", "hinter der Kamera"),
        ("it", "Attiva l’audio", "Impostazioni", "dopo la ripresa"),
    ] {
        let page = watch(&browser, &program, &format!("?lang={language}")).await?;
        assert_eq!(text(&page, "document.documentElement.lang").await?, language);
        assert_eq!(text(&page, "document.getElementById('player').lang").await?, language);
        assert_eq!(text(&page, "document.getElementById('sound-on').innerText").await?, sound);
        assert_eq!(text(&page, "document.getElementById('settings').title").await?, settings);
        let shows = format!("document.getElementById('delay').textContent.endsWith('{behind}')");
        page.wait_until(&shows, SOON).await?;
        has_no_errors(&page)?;
    }
    for (language, go_live, quality) in [
        ("en", "Go live", "High, 2.5 Mbit/s"),
        ("de", "Auf Sendung gehen", "Hoch, 2,5 Mbit/s"),
        ("it", "Vai in diretta", "Alta, 2,5 Mbit/s"),
    ] {
        let page = browser.open(&program.url(&format!("/publish/mine?lang={language}"))).await?;
        page.wait_until("window.mediaTree !== undefined", SOON).await?;
        assert_eq!(text(&page, "document.getElementById('start').innerText").await?, go_live);
        assert_eq!(text(&page, "document.getElementById('bitrate').selectedOptions[0].text").await?, quality);
        let wordless =
            "[...document.querySelectorAll('label, legend, button, option, summary, .hint:not(#copied), h1, .lead')]
            .filter((element) => element.textContent.trim() === '').map((element) => element.outerHTML)";
        assert_eq!(page.evaluate(wordless).await?, json!([]));
        has_no_errors(&page)?;
    }
    // Without a wish, the browser's languages count, the first of them that there is.
    let page = browser.open("about:blank").await?;
    for (preferred, word) in
        [("fr-FR,de-AT,en", "Einstellungen"), ("it-CH", "Impostazioni"), ("fr-FR", "Settings")]
    {
        page.prefer_language(preferred).await?;
        page.evaluate(&format!("location.href = '{}'", program.url(&format!("/watch/demo?{preferred}"))))
            .await?;
        let shows = format!("document.getElementById('settings')?.title === '{word}'");
        page.wait_until(&shows, SOON).await.context(preferred)?;
    }
    Ok(())
}

/// Where the pages are made of.
fn web() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web")
}

/// The modules that a module of `web/` imports, directly and not.
fn imported(module: &str, found: &mut BTreeSet<String>) -> Result {
    let source = std::fs::read_to_string(web().join(module)).with_context(|| module.to_owned())?;
    for line in source.lines() {
        let from = line.split_once("from \"./").or_else(|| line.split_once("import \"./"));
        let Some(name) = from.and_then(|(_, rest)| rest.split_once("\";")) else { continue };
        if found.insert(name.0.to_owned()) {
            imported(name.0, found)?;
        }
    }
    Ok(())
}

/// Else a page would ask for one after the other, a round trip for each.
#[test]
fn pages_of_the_player_load_all_its_modules_at_once() -> Result {
    for (page, module, before, after) in [
        ("watch.html", "watch.js", "<link rel=\"modulepreload\" href=\"/assets/", "\">"),
        ("embed.html", "embed-page.js", "<link rel=\"modulepreload\" href=\"/assets/", "\">"),
        ("embed.js", "player-element.js", "import \"/assets/", "\";"),
    ] {
        let mut needed = BTreeSet::new();
        imported(module, &mut needed)?;
        ensure!(needed.len() > 10, "{page}: {needed:?}");
        let source = std::fs::read_to_string(web().join(page))?;
        let names = source.lines().filter_map(|line| line.trim().strip_prefix(before)?.strip_suffix(after));
        assert_eq!(names.map(str::to_owned).collect::<BTreeSet<_>>(), needed, "{page}");
    }
    Ok(())
}

/// The texts of a language by key.
type Table = BTreeMap<String, String>;

fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

#[tokio::test]
async fn every_language_has_every_word_with_the_same_placeholders_and_none_is_idle() -> Result {
    if !tools::has("every_language_has_every_word", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    let load = "(async () => {
        const { LANGUAGES } = await import('/assets/words.js');
        const load = async (language) => [language, (await import(`/assets/words-${language}.js`)).default];
        return Object.fromEntries(await Promise.all(LANGUAGES.map(load)));
    })()";
    let tables: BTreeMap<String, Table> = serde_json::from_value(page.evaluate(load).await?)?;
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["de", "en", "it"]);
    let english = &tables["en"];
    for (language, table) in &tables {
        assert_eq!(table.keys().collect::<Vec<_>>(), english.keys().collect::<Vec<_>>(), "{language}");
        for (key, text) in table {
            ensure!(!text.trim().is_empty(), "{language}: {key} says nothing");
            assert_eq!(placeholders(text), placeholders(&english[key]), "{language}: {key}");
        }
    }
    let mut source = String::new();
    for entry in std::fs::read_dir(web())? {
        let path = entry?.path();
        let is_table = path.file_stem().is_some_and(|stem| stem.to_string_lossy().starts_with("words-"));
        if !is_table && path.extension().is_some_and(|extension| extension == "js" || extension == "html") {
            source += &std::fs::read_to_string(&path)?;
        }
    }
    let idle: Vec<&String> = english
        .keys()
        .filter(|key| {
            let is_of_a_family = ["nth_", "viewers_"].iter().any(|family| key.starts_with(family));
            let name = key.strip_prefix("figure_").unwrap_or(key);
            !is_of_a_family && !source.contains(&format!("\"{name}\""))
        })
        .collect();
    ensure!(idle.is_empty(), "nobody says {idle:?}");
    has_no_errors(&page)
}
