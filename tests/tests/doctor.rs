//! Broadcasters are told what they could do better, each in the place where they look.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use client::Whip;
use model::Codec;
use reqwest::{Client, StatusCode, header};
use serde_json::Value;
use tests::browser::{Browser, Page};
use tests::encoders::{self, Encoder};
use tests::installation::{Installation, until_live};
use tests::offers::{CHROMIUM_PUBLISHER, crlf};
use tests::operator::{Operator, SECRET};
use tests::program::{self, PATIENCE, Program, until};
use tests::tools;
use tokio::process::{Child, Command};

type Result = anyhow::Result<()>;

const FFMPEG: &str = "/usr/bin/ffmpeg";
const CHROMIUM: &str = "/usr/bin/chromium";
const TOKEN: &str = "the-secret-of-the-publisher";

/// ffmpeg over RTMP, with so many pictures between keyframes, 30 in a second.
fn encoder(program: &Program, name: &str, keyframe_interval: &str) -> anyhow::Result<Child> {
    let mut command = Command::new(FFMPEG);
    command.args(["-hide_banner", "-loglevel", "warning", "-re"]);
    command.args(["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
    command.args(["-f", "lavfi", "-i", "sine=frequency=440"]);
    command.args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]);
    command.args(["-sc_threshold", "0", "-g", keyframe_interval, "-b:v", "400k"]);
    command.args(["-c:a", "aac", "-ac", "2", "-f", "flv"]);
    command.arg(format!("rtmp://{}/live/{name}?key={TOKEN}", program.rtmp));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.spawn().context("start ffmpeg")
}

/// The codes that an operator is told of a broadcast.
async fn advised(program: &Program, broadcast: &str) -> anyhow::Result<Vec<String>> {
    let url = program.url(&format!("/api/v1/broadcasts/{broadcast}"));
    Ok(codes(&reqwest::get(url).await?.error_for_status()?.json().await?))
}

fn codes(document: &Value) -> Vec<String> {
    let advice = document["advice"].as_array().into_iter().flatten();
    advice.filter_map(|one| one["code"].as_str()).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keyframes_ten_seconds_apart_are_told_everywhere_and_a_good_encoder_hears_nothing() -> Result {
    const NAME: &str = "keyframes_ten_seconds_apart_are_told_everywhere_and_a_good_encoder_hears_nothing";
    if !tools::has(NAME, FFMPEG) {
        return Ok(());
    }
    let operator = Operator::start()?;
    let url = operator.url("/events");
    let webhook = ["--webhooks-events", &url, "--webhooks-secret", SECRET];
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).with(&webhook).start().await?;
    let _good = encoder(&program, "good", "60")?;
    until_live(&program, "good").await?;
    let _bad = encoder(&program, "bad", "300")?;
    let heard = RefCell::new(BTreeSet::new());
    until("the operator is told", async || {
        Ok(advised(&program, "bad").await.unwrap_or_default().contains(&"keyframe-interval".to_owned()))
    })
    .await?;
    // The good one has been there for longer, and for longer than any of this takes to be told.
    until("the second keyframe, ten seconds after the first", async || {
        let more = advised(&program, "good").await?;
        heard.borrow_mut().extend(more);
        let document: Value = reqwest::get(program.url("/api/v1/broadcasts/bad")).await?.json().await?;
        Ok(document["advice"][0]["what"].as_str().is_some_and(|what| what.contains("10.0 s apart")))
    })
    .await?;
    ensure!(advised(&program, "bad").await? == ["keyframe-interval"], "and nothing else");
    ensure!(heard.borrow().is_empty(), "the good encoder is told {heard:?}");

    let metric = "media_tree_publisher_advice{";
    let series = async |label: &str| program.metric_with(metric, label).await;
    ensure!(
        series(r#"code="keyframe-interval""#).await? == 1.0 && series(r#"broadcast="good""#).await? == 0.0
    );
    let public: Value = reqwest::get(program.url("/api/v1/broadcasts")).await?.json().await?;
    ensure!(!public.to_string().contains("advice"), "it is not for everybody: {public:#}");
    let shown = Command::new(program::path()?)
        .args(["broadcast", "show", "bad", "--api", &program.url("")])
        .output()
        .await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    println!("{shown}");
    ensure!(shown.contains("Keyframes are 10.0 s apart.") && shown.contains("Settings, Output"), "{shown}");
    until("the operator's server is told", async || {
        let events = operator.events();
        let of_bad = events.iter().filter(|it| it.kind() == "advice" && it.body["broadcast"] == "bad");
        Ok(of_bad.map(|it| codes(&it.body)).collect::<Vec<_>>() == [["keyframe-interval"]])
    })
    .await?;
    ensure!(operator.events().iter().all(|it| it.kind() != "advice" || it.body["broadcast"] == "bad"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_obs_that_does_not_repair_what_is_lost_is_told_by_its_version() -> Result {
    const NAME: &str = "an_obs_that_does_not_repair_what_is_lost_is_told_by_its_version";
    if !encoders::parts_of_libdatachannel().iter().all(|part| tools::has(NAME, &part.to_string_lossy())) {
        return Ok(());
    }
    let program = program::node("up").start().await?;
    let mut new = Encoder::of_version("30.2.0", &program.url("/whip/new"))?;
    new.until("state connected").await?;
    let mut old = Encoder::of_version("30.1.2", &program.url("/whip/old"))?;
    old.until("state connected").await?;
    until("the operator is told of the old one", async || {
        Ok(advised(&program, "old").await.unwrap_or_default().contains(&"encoder-old".to_owned()))
    })
    .await?;
    let of_new = advised(&program, "new").await?;
    ensure!(!of_new.contains(&"encoder-old".to_owned()), "it was there before: {of_new:?}");
    let log = program.log();
    let is_named = |version: &str| log.contains(&format!(r#""obs":"{version}""#));
    ensure!(is_named("30.1.2") && is_named("30.2.0"), "the log names both: {log}");
    ensure!(old.close().await? == "200" && new.close().await? == "200");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_whose_udp_is_blocked_is_told_under_its_session_and_nobody_else_is() -> Result {
    let operator = Operator::start()?;
    let url = operator.url("/events");
    let webhook = ["--webhooks-events", &url, "--webhooks-secret", SECRET];
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).with(&webhook).start().await?;
    let client = Client::new();
    let post = client.post(program.url("/whip/show")).bearer_auth(TOKEN);
    let answer =
        post.header(header::CONTENT_TYPE, "application/sdp").body(crlf(CHROMIUM_PUBLISHER)).send().await?;
    ensure!(answer.status() == StatusCode::CREATED, "{}", answer.status());
    let location = answer.headers()[header::LOCATION].to_str()?.to_owned();
    let resource = reqwest::Url::parse(&program.url("/"))?.join(&location)?.to_string() + "/advice";

    ensure!(client.get(&resource).send().await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(client.get(&resource).bearer_auth("another").send().await?.status() == StatusCode::UNAUTHORIZED);
    ensure!(
        client.delete(&resource).bearer_auth(TOKEN).send().await?.status() == StatusCode::METHOD_NOT_ALLOWED
    );
    until("its publisher is told that nothing comes over UDP", async || {
        let answer = client.get(&resource).bearer_auth(TOKEN).send().await?;
        // Who asks as often as this is told to wait.
        Ok(answer.status() == StatusCode::OK && codes(&answer.json().await?) == ["udp-blocked"])
    })
    .await?;
    until("the operator's server is told, too", async || {
        let events = operator.events();
        Ok(events.iter().any(|it| it.kind() == "advice" && codes(&it.body) == ["udp-blocked"]))
    })
    .await?;
    until("the session is over", async || {
        Ok(client.get(&resource).bearer_auth(TOKEN).send().await?.status() == StatusCode::NOT_FOUND)
    })
    .await?;
    let metric = program.metric_with("media_tree_publisher_advice{", r#"code="udp-blocked""#).await?;
    ensure!(metric == 1.0, "it is remembered for whoever looks a moment later");
    Ok(())
}

/// The publish page with the panel for encoders open.
async fn panel(browser: &Browser, program: &Program, path: &str, token: &str) -> anyhow::Result<Page> {
    let page = browser.open(&program.url(&format!("/publish/{path}#key={token}"))).await?;
    page.wait_until("window.mediaTree !== undefined", PATIENCE).await?;
    page.evaluate("document.getElementById('encoder').open = true").await?;
    Ok(page)
}

/// Waits until the panel says this and lists so many pieces of advice.
async fn until_told(page: &Page, state: &str, pieces: usize) -> Result {
    let told = format!(
        "document.getElementById('encoder-state').textContent === '{state}'
            && document.getElementById('encoder-advice').childElementCount === {pieces}"
    );
    page.wait_until(&told, PATIENCE).await.context(state.to_owned())
}

async fn first_piece(page: &Page) -> anyhow::Result<(Value, Value)> {
    let text = page.evaluate("document.querySelector('#encoder-advice li').innerText").await?;
    Ok((page.evaluate("document.querySelector('#encoder-advice li').className").await?, text))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_tells_whoever_publishes_with_an_encoder_over_whip_what_could_be_better() -> Result {
    if !tools::has("the_publish_page_tells_whoever_publishes_with_an_encoder_over_whip", CHROMIUM) {
        return Ok(());
    }
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).start().await?;
    let browser = Browser::chromium().await?;
    let page = panel(&browser, &program, "show", TOKEN).await?;
    let stranger = panel(&browser, &program, "show", "wrong").await?;
    let nobody = "Nobody publishes yet. When your encoder does, this tells what could be better.";
    until_told(&page, nobody, 0).await?;
    until_told(&stranger, "The server does not take the key above.", 0).await?;

    let url = program.url("/whip/show");
    let tracks = [Codec::Opus, Codec::H264];
    let encoder = Whip::connect(&url, Some(TOKEN), &tracks, client::whip::Options::default()).await?;
    until_told(&page, "What could be better", 1).await?;
    let (severity, text) = first_piece(&page).await?;
    ensure!(severity == "problem", "{severity}");
    ensure!(text.as_str().is_some_and(|text| text.contains("Neither sound nor picture comes")), "{text}");
    let clip = client::demo::Clip::built_in();
    tokio::select! {
        ending = client::demo::play(&clip, &encoder) => anyhow::bail!("{ending}"),
        told = until_told(&page, "Your encoder is on the air, and all is well.", 0) => told?,
    }
    until_told(&stranger, "The server does not take the key above.", 0).await?;
    // Browsers write down that nobody published.
    ensure!(page.errors().iter().all(|error| error.contains("404")), "{:?}", page.errors());
    // Of a server that does not answer it is not said for ever what it said last.
    program.signal("STOP")?;
    let told = until_told(&page, "The server does not tell at the moment how your encoder does.", 0).await;
    program.signal("CONT")?;
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_for_a_broadcast_is_told_at_every_node_to_whoever_may_publish_it() -> Result {
    let tokens = ["--publish-tokens", TOKEN];
    let controller = program::node("controller").with(&tokens).start().await?;
    let injection = Installation::of(&controller).node("injection", "in").with(&tokens).start().await?;
    let http = Client::new();
    let resource = controller.url("/whip/show/advice");
    let get = |url: &str| http.get(url).bearer_auth(TOKEN).send();
    let nobody = get(&resource).await?;
    ensure!(nobody.status() == StatusCode::NOT_FOUND, "{}", nobody.status());
    ensure!(nobody.headers()[header::CONTENT_TYPE] == "application/problem+json");
    ensure!(nobody.json::<Value>().await?["code"] == "not-published");
    ensure!(get(&controller.url("/whip/Not-A-Name/advice")).await?.status() == StatusCode::NOT_FOUND);

    let url = injection.url("/whip/show");
    let tracks = [Codec::Opus, Codec::H264];
    let encoder = Whip::connect(&url, Some(TOKEN), &tracks, client::whip::Options::default()).await?;
    // Before it is on the air only the node that it has come to knows of it.
    until("the node itself tells what is wrong", async || {
        let answer = get(&injection.url("/whip/show/advice")).await?;
        Ok(answer.status() == StatusCode::OK && codes(&answer.json().await?) == ["no-media"])
    })
    .await?;
    let led = until("who asks the controller is led to that node", async || {
        let answer = get(&resource).await?;
        let is_led = answer.url().as_str().starts_with(&injection.url("/whip/show/t/"));
        Ok(answer.status() == StatusCode::OK && is_led && answer.json::<Value>().await?["advice"].is_array())
    });
    let clip = client::demo::Clip::built_in();
    tokio::select! {
        ending = client::demo::play(&clip, &encoder) => anyhow::bail!("{ending}"),
        led = led => led?,
    }
    for node in [&controller, &injection] {
        let resource = node.url("/whip/show/advice");
        let statuses = [
            http.get(&resource).send().await?.status(),
            http.get(&resource).bearer_auth("another").send().await?.status(),
            http.post(&resource).bearer_auth(TOKEN).send().await?.status(),
        ];
        let expected = [StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::METHOD_NOT_ALLOWED];
        ensure!(statuses == expected, "{resource}: {statuses:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_publish_page_tells_an_rtmp_encoder_in_the_language_of_its_reader() -> Result {
    const NAME: &str = "the_publish_page_tells_an_rtmp_encoder_in_the_language_of_its_reader";
    if !tools::has(NAME, FFMPEG) || !tools::has(NAME, CHROMIUM) {
        return Ok(());
    }
    let program = program::node("up").with(&["--publish-tokens", TOKEN]).start().await?;
    let _encoder = encoder(&program, "show", "165")?;
    let browser = Browser::chromium().await?;
    for (query, state, what, remedy) in [
        ("?lang=de", "Was besser ginge", "Keyframes kommen im Abstand von 5,5 s.", "Einstellungen, Ausgabe"),
        ("?lang=it", "Che cosa si può migliorare", "I keyframe distano 5,5 s", "Impostazioni, Uscita"),
        ("?lang=en", "What could be better", "Keyframes are 5.5 s apart.", "Settings, Output"),
    ] {
        let page = panel(&browser, &program, &format!("show{query}"), TOKEN).await?;
        until_told(&page, state, 1).await?;
        let says = format!("document.querySelector('#encoder-advice li').innerText.startsWith('{what}')");
        page.wait_until(&says, PATIENCE).await.with_context(|| what.to_owned())?;
        let (severity, text) = first_piece(&page).await?;
        ensure!(severity == "warning" && text.as_str().is_some_and(|text| text.contains(remedy)), "{text}");
        ensure!(page.errors().is_empty(), "{:?}", page.errors());
    }
    // What the page does not know it says in the server's words.
    let page = browser.open(&program.url("/publish/other?lang=de")).await?;
    let shown = "(async () => {
        const [{ showAdvice }, { Words }] = await Promise.all([import('/assets/advice.js'), import('/assets/words.js')]);
        const list = document.createElement('ul');
        const piece = { severity: 'advice', what: 'It is new.', remedy: 'Learn it.', figures: {} };
        const codes = ['of-tomorrow', 'toString', 'keyframe-interval', 'silence'];
        showAdvice(list, codes.map((code) => ({ ...piece, code })), new Words('de'));
        return [...list.children].map(({ lang, textContent }) => [lang, textContent]);
    })()";
    let shown = page.evaluate(shown).await?;
    for index in 0..3 {
        ensure!(shown[index] == serde_json::json!(["en", "It is new. Learn it."]), "{shown:#}");
    }
    ensure!(shown[3][0] == "de", "{shown:#}");
    Ok(())
}
