//! Captions and other timed data: from a publisher's data channel or over HTTP, through the tree, to who watches.

use anyhow::ensure;
use client::Whep;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::event_stream::{self, EventStream, Item};
use tests::installation::Installation;
use tests::program::{self, PATIENCE, Program, until};
use tests::source::{Shape, Source};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
const TOKEN: &str = "publish-secret-of-captions";

/// Injection, relay and egress, each a process of its own.
struct Tree {
    injection: Program,
    _relay: Program,
    egress: Program,
}

impl Tree {
    async fn grow() -> anyhow::Result<Self> {
        let injection = program::node("injection").start().await?;
        let start = async |role, parent: &Program| {
            let parent = format!("127.0.0.1:{}", parent.link_port);
            program::node(role).with(&["--parents", &parent]).start().await
        };
        let relay = start("relay", &injection).await?;
        let egress = start("egress", &relay).await?;
        Ok(Self { injection, _relay: relay, egress })
    }
}

async fn until_known(egress: &Program) -> Result {
    until("the broadcast is known at the egress", || async {
        Ok(reqwest::get(egress.url("/api/v1/broadcasts")).await?.text().await?.contains("\"live\""))
    })
    .await
}

/// Cues that the node took of publishers, or refused, by result.
async fn counted(injection: &Program, result: &str) -> anyhow::Result<f64> {
    injection.metric_with("media_tree_cues_total{", &format!("result=\"{result}\"")).await
}

/// Nothing of this page is handed over by HTTP from now on.
async fn without_http(publisher: &Page) -> Result {
    let without = "(window.fetch = ((real) => (url, ...rest) => (String(url).endsWith('/cues')
        ? Promise.reject(new TypeError('no HTTP here')) : real(url, ...rest)))(window.fetch.bind(window)), true)";
    publisher.evaluate(without).await?;
    Ok(())
}

async fn say(publisher: &Page, cue: &Value) -> Result {
    publisher.wait_until(&format!("mediaTree.sendCue({cue})"), PATIENCE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caption_over_a_data_channel_is_on_screen_behind_the_tree() -> Result {
    if !tools::has("a_caption_over_a_data_channel_is_on_screen_behind_the_tree", CHROMIUM) {
        return Ok(());
    }
    let tree = Tree::grow().await?;
    let (publishing, viewing) = (Browser::chromium().await?, Browser::chromium().await?);
    let url = tree.injection.url("/publish/show");
    let publisher = watching::publish_test_picture(&publishing, &url, "vp8").await?;
    without_http(&publisher).await?;
    until_known(&tree.egress).await?;
    let player = watching::open_player(&viewing, &tree.egress.url("/watch/show")).await?;
    player
        .evaluate(
            "(window.cues = [], document.querySelector('media-tree-player')
                .addEventListener('cue', ({ detail }) => cues.push(detail)), true)",
        )
        .await?;
    until("its player listens", || async {
        Ok(tree.egress.metric("media_tree_event_streams{").await? == 1.0)
    })
    .await?;
    assert_eq!(player.evaluate("document.getElementById('captions').hidden").await?, true, "none so far");
    player.press("c").await?;

    let caption =
        json!({ "kind": "caption", "text": "Grüezi <b>miteinand</b>", "language": "de-CH", "duration": 60 });
    say(&publisher, &caption).await?;
    let shown = "document.getElementById('caption').innerText === 'Grüezi <b>miteinand</b>'";
    player.wait_until(shown, PATIENCE).await?;
    for (expression, expected) in [
        ("document.getElementById('caption').lang", json!("de-CH")),
        ("document.getElementById('captions').hidden", json!(false)),
        ("document.getElementById('captions').getAttribute('aria-pressed')", json!("true")),
        ("localStorage.getItem('media-tree captions')", json!("on")),
        ("[cues[0].kind, cues[0].text, cues[0].duration]", json!(["caption", "Grüezi <b>miteinand</b>", 60])),
        ("Math.abs(Date.now() - cues[0].time) < 120000", json!(true)),
    ] {
        assert_eq!(player.evaluate(expression).await?, expected, "{expression}");
    }
    player.press("c").await?;
    player.wait_until("document.getElementById('caption').innerText === ''", PATIENCE).await?;
    player.press("c").await?;
    player.wait_until(shown, PATIENCE).await?;

    say(&publisher, &json!({ "kind": "metadata", "data": { "slide": 7 } })).await?;
    player
        .wait_until("cues.some(({ kind, data }) => kind === 'metadata' && data.slide === 7)", PATIENCE)
        .await?;
    assert_eq!(player.evaluate("document.getElementById('caption').innerText !== ''").await?, true);
    say(&publisher, &json!({ "kind": "caption", "text": "" })).await?;
    player.wait_until("document.getElementById('caption').innerText === ''", PATIENCE).await?;

    assert_eq!(counted(&tree.injection, "accepted").await?, 3.0);
    until("they are counted where they are told", || async {
        Ok(tree.egress.metric("media_tree_cues_told_total{").await? == 3.0)
    })
    .await?;
    ensure!(player.errors().is_empty(), "{:?}", player.errors());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_floods_over_a_data_channel_disturb_nobody() -> Result {
    if !tools::has("garbage_and_floods_over_a_data_channel_disturb_nobody", CHROMIUM) {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let (publishing, viewing) = (Browser::chromium().await?, Browser::chromium().await?);
    // The channel that the page makes is at hand for whatever it would not send.
    let page = publishing.open(&program.url("/publish/show?source=clock&codec=vp8")).await?;
    page.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    let keep = "(RTCPeerConnection.prototype.createDataChannel = ((make) => function (...parts) {
        return (window.channel = make.apply(this, parts));
    })(RTCPeerConnection.prototype.createDataChannel), true)";
    page.evaluate(keep).await?;
    page.evaluate("document.getElementById('form').requestSubmit()").await?;
    page.wait_until("window.channel?.readyState === 'open'", PATIENCE).await?;
    let player = watching::open_player(&viewing, &program.url("/watch/show")).await?;
    let before = player.evaluate("mediaTree.stats()").await?;
    let flood = "(() => {
        const texts = ['{', '[]', 'null', '{\"kind\":\"caption\"}', 'a'.repeat(5000), 'b'.repeat(60000)];
        for (let turn = 0; turn < 50; turn += 1) for (const text of texts) channel.send(text);
        channel.send(new Uint8Array([255, 254, 0]));
        return true;
    })()";
    page.evaluate(flood).await?;
    until("garbage is refused and counted", || async {
        let refused = [counted(&program, "unreadable").await?, counted(&program, "too_large").await?];
        Ok(refused.iter().all(|count| *count > 0.0))
    })
    .await?;
    let more = |number: u64| format!("mediaTree.stats().then((stats) => stats.framesDecoded > {number})");
    let decoded = player.evaluate("mediaTree.stats()").await?["framesDecoded"].as_u64().unwrap_or(0);
    player.wait_until(&more(decoded + 60), PATIENCE).await?;
    assert_eq!(counted(&program, "accepted").await?, 0.0);
    let after = player.evaluate("mediaTree.stats()").await?;
    assert_eq!(after["packetsLost"], before["packetsLost"], "{after}");
    assert_eq!(page.evaluate("mediaTree.state").await?, "live");
    assert_eq!(player.evaluate("mediaTree.state").await?, "live");
    Ok(())
}

/// POSTs to `/whip/show/cues` of a node; its status.
async fn post(node: &Program, token: Option<&str>, body: &str) -> anyhow::Result<StatusCode> {
    let request = Client::new().post(node.url("/whip/show/cues")).header("Content-Type", "application/json");
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    Ok(request.body(body.to_owned()).send().await?.status())
}

const CAPTION: &str = r#"{"kind":"caption","text":"hello"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn over_http_cues_are_taken_of_whoever_may_publish_and_only_so_many() -> Result {
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).start().await?;
    assert_eq!(post(&program, None, CAPTION).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&program, Some(TOKEN), CAPTION).await?, StatusCode::NOT_FOUND, "nobody publishes");
    let _source = Source::publish_as(&program.url("/whip/show"), Some(TOKEN), Shape::OBS).await?;
    until_known(&program).await?;
    let mut viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let stream = event_stream::create(viewer.url(), &["cue"]).await?;
    let mut reader = EventStream::open(&stream).await?;

    let long = format!(r#"{{"kind":"caption","text":"{}"}}"#, "a".repeat(5000));
    for (body, status) in [
        ("{", StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"kind":"picture"}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (&*long, StatusCode::PAYLOAD_TOO_LARGE),
        (CAPTION, StatusCode::NO_CONTENT),
    ] {
        assert_eq!(post(&program, Some(TOKEN), body).await?, status, "{body:.60}");
    }
    let plain = Client::new().post(program.url("/whip/show/cues")).bearer_auth(TOKEN).body(CAPTION);
    assert_eq!(plain.send().await?.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let Item::Event(kind, data) = reader.next().await? else { anyhow::bail!("the stream ends") };
    assert_eq!((&*kind, &data["kind"], &data["text"]), ("cue", &json!("caption"), &json!("hello")));
    ensure!(data["time"].as_u64().is_some_and(|time| time > 1_600_000_000_000), "{data}");

    // Nobody watches for long what floods everybody.
    let mut refused = 0;
    for _ in 0..300 {
        let status = post(&program, Some(TOKEN), CAPTION).await?;
        ensure!([StatusCode::NO_CONTENT, StatusCode::TOO_MANY_REQUESTS].contains(&status), "{status}");
        refused += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    ensure!(refused > 0 && counted(&program, "rate").await? > 0.0, "{refused} of 300 refused");
    ensure!(matches!(reader.next().await?, Item::Event(kind, _) if kind == "cue"));
    let packet = tokio::time::timeout(PATIENCE, viewer.receive()).await?;
    ensure!(packet.is_some(), "the session has ended");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_posts_to_another_node_is_led_to_the_one_that_it_is_published_to() -> Result {
    let tokens = ["--publish-tokens", TOKEN];
    let controller = program::node("controller").with(&tokens).start().await?;
    let injection = Installation::of(&controller).node("injection", "in").with(&tokens).start().await?;
    let _source = Source::publish_as(&injection.url("/whip/show"), Some(TOKEN), Shape::OBS).await?;
    until("the caption is taken", async || {
        Ok(post(&controller, Some(TOKEN), CAPTION).await? == StatusCode::NO_CONTENT)
    })
    .await?;
    ensure!(counted(&injection, "accepted").await? > 0.0, "at the node that has the publisher");
    Ok(())
}

#[tokio::test]
async fn a_player_hears_the_data_channel_of_another_server_where_it_is_told_to() -> Result {
    if !tools::has("a_player_hears_the_data_channel_of_another_server", CHROMIUM) {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    // A server that lives in the page.
    let begin = "(async () => {
        await import('/assets/player-element.js');
        const answer = async (offer) => {
            const peer = (window.server = new RTCPeerConnection());
            peer.addEventListener('datachannel', ({ channel }) => {
                const say = () => ['{', '7', JSON.stringify({ kind: 'caption', text: 'hello' })].forEach((text) => channel.send(text));
                if (channel.readyState === 'open') say();
                else channel.addEventListener('open', say);
            });
            await peer.setRemoteDescription({ type: 'offer', sdp: offer });
            await peer.setLocalDescription(await peer.createAnswer());
            while (peer.iceGatheringState !== 'complete') {
                await new Promise((resolve) => peer.addEventListener('icegatheringstatechange', resolve, { once: true }));
            }
            const response = new Response(peer.localDescription.sdp, { status: 201, headers: { Location: '/fake/1' } });
            return Object.defineProperty(response, 'url', { value: `${location.origin}/fake` });
        };
        const real = window.fetch;
        window.fetch = (url, options) => {
            if (!String(url).includes('/fake')) return real(url, options);
            return options.method === 'POST' && options.headers['Content-Type'] === 'application/sdp'
                ? answer(options.body) : Promise.resolve(new Response(null, { status: 204 }));
        };
        window.heard = [];
        const player = document.createElement('media-tree-player');
        for (const [name, value] of [['src', '/fake'], ['data-channel', ''], ['captions', '']]) player.setAttribute(name, value);
        player.addEventListener('cue', ({ detail }) => heard.push(detail));
        document.body.append(player);
        return true;
    })()";
    page.evaluate(begin).await?;
    page.wait_until("heard.length > 0", PATIENCE).await?;
    let heard = page.evaluate("heard").await?;
    assert_eq!(
        heard,
        json!([{ "kind": "caption", "time": null, "text": "hello", "language": null, "duration": null }])
    );
    let caption =
        "document.querySelector('media-tree-player').shadowRoot.getElementById('caption').innerText";
    page.wait_until(&format!("{caption} === 'hello'"), PATIENCE).await
}

#[tokio::test]
async fn a_caption_never_overtakes_the_one_before_it() -> Result {
    if !tools::has("a_caption_never_overtakes_the_one_before_it", CHROMIUM) {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    // The picture was ten seconds behind when the first one came, and has caught up when the others do.
    let begin = "(async () => {
        const { Cues } = await import('/assets/cues.js');
        window.told = [];
        const cues = new Cues(({ text }) => told.push(text));
        const time = Date.now();
        const add = (text, behind) => cues.add({ kind: 'caption', text, time }, behind);
        [['one', 10_000], ['two', 200], ['three', 0], ['three', 0], ['four', 8000]].forEach((said) => add(...said));
        return true;
    })()";
    page.evaluate(begin).await?;
    page.wait_until("told.length > 0", PATIENCE).await?;
    assert_eq!(page.evaluate("told").await?, json!(["one", "two", "three"]));
    Ok(())
}
