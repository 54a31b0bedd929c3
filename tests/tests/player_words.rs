//! What the player says and does in each state that is not live: every refusal in words, asked again as long as it takes; a
//! connection that carries sound alone; a buffer that was wished for.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::browser::{Browser, Page};
use tests::other_site::{OtherSite, one_layer};
use tests::program::node;
use tests::{tools, watching};

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(20);
/// The longest that a player waits before it asks again, and some time to play.
const PATIENCE: Duration = Duration::from_secs(40);
const CHROMIUM: &str = "/usr/bin/chromium";
const PLAYER: &str = "document.querySelector('media-tree-player')";

/// A player whose first attempts are answered by a script, the others by the server; it notes down what it says.
const SCRIPTED: &str = r#"
  (async () => {
    const problem = (status, fields, headers = {}) =>
      new Response(JSON.stringify(fields), { status, headers: { "Content-Type": "application/problem+json", ...headers } });
    const answers = [
      () => problem(404, { detail: "There is no such broadcast." }),
      () => problem(409, { detail: "Nobody publishes." }, { "Retry-After": "1" }),
      () => problem(503, { detail: "Full." }, { "Retry-After": "1" }),
      () => problem(429, { detail: "Too often." }, { "Retry-After": "1" }),
      () => { throw new TypeError("Failed to fetch"); },
      () => problem(422, { code: "no-common-codec", codec: "H265", detail: "It is H.265." }),
      () => problem(400, { detail: "The offer is broken." }),
      () => problem(401, { detail: "A token is needed." }),
    ];
    const plain = window.fetch;
    window.fetch = async (url, options) => {
      const answer = options?.method === "POST" && String(url).endsWith("/whep/demo") ? answers.shift() : null;
      if (answer) window.asked.push(performance.now());
      return answer ? answer() : plain(url, options);
    };
    window.asked = [];
    window.said = [];
    const [{ Player }, { wordsFor }] = await Promise.all([import("/assets/player.js"), import("/assets/words.js")]);
    window.player = new Player(document.body, "/whep/demo");
    player.words = wordsFor(LANGUAGE);
    player.addEventListener("change", () => {
      const line = `${player.state}: ${player.message}`;
      if (player.state !== "idle" && said.at(-1) !== line) said.push(line);
    });
    player.start(null);
  })()
"#;

async fn scripted(browser: &Browser, url: &str, language: &str) -> anyhow::Result<Page> {
    let page = browser.open(url).await?;
    page.evaluate(&SCRIPTED.replace("LANGUAGE", &format!("'{language}'"))).await?;
    Ok(page)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_said_in_words_and_asked_again_until_a_key_is_needed() -> Result {
    if !tools::has("every_refusal_is_said_in_words", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let browser = Browser::chromium().await?;
    for (language, wanted) in [
        (
            "en",
            [
                "connecting: Connecting",
                "waiting: Waiting: there is no broadcast of this name yet",
                "waiting: Waiting for the broadcaster",
                "reconnecting: The server is busy; reconnecting",
                "reconnecting: The server is busy; reconnecting, 2nd try",
                "reconnecting: Reconnecting, 3rd try",
                "unplayable: This browser cannot play H.265, the format of this broadcast",
                "refused: The server refused: The offer is broken.",
                "key: A key is needed to watch",
            ],
        ),
        (
            "de",
            [
                "connecting: Verbinde",
                "waiting: Warte: Eine Sendung mit diesem Namen gibt es noch nicht",
                "waiting: Warte auf die Sendung",
                "reconnecting: Der Server ist ausgelastet; verbinde neu",
                "reconnecting: Der Server ist ausgelastet; verbinde neu, 2. Versuch",
                "reconnecting: Verbinde neu, 3. Versuch",
                "unplayable: Dieser Browser kann H.265 nicht abspielen, das Format dieser Sendung",
                "refused: Der Server lehnt ab: The offer is broken.",
                "key: Zum Zusehen ist ein Schlüssel nötig",
            ],
        ),
    ] {
        let page = scripted(&browser, &program.url("/"), language).await?;
        page.wait_until("window.player?.state === 'key'", PATIENCE * 2).await?;
        assert_eq!(page.evaluate("said").await?, json!(wanted), "{language}");
        // Never sooner than the server has asked for.
        let pauses = "asked.slice(1).map((at, index) => at - asked[index])";
        let pauses: Vec<f64> = serde_json::from_value(page.evaluate(pauses).await?)?;
        ensure!(pauses.len() == 7 && pauses[1..4].iter().all(|pause| *pause >= 1000.0), "{pauses:?}");
        // With a key it plays: this server asks for none.
        page.evaluate("player.start('secret')").await?;
        page.wait_until("player.state === 'live'", SOON).await?;
        page.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_asked_again_without_end_and_without_haste() -> Result {
    const TRIES: usize = 9;
    if !tools::has("a_server_that_is_away_is_asked_again", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    let play = format!(
        r#"
        (async () => {{
          const plain = window.fetch;
          window.asked = [];
          window.fetch = async (url, options) => {{
            if (options?.method !== "POST" || asked.length === {TRIES}) return plain(url, options);
            asked.push(performance.now());
            throw new TypeError("Failed to fetch");
          }};
          const {{ Player }} = await import("/assets/player.js");
          window.player = new Player(document.body, "/whep/demo");
          player.start(null);
        }})()
        "#
    );
    page.evaluate(&play).await?;
    page.wait_until("window.player?.state === 'live'", PATIENCE * 2).await?;
    let pauses: Vec<f64> =
        serde_json::from_value(page.evaluate("asked.slice(1).map((at, index) => at - asked[index])").await?)?;
    ensure!(pauses.len() == TRIES - 1, "{pauses:?}");
    // Once it has been in vain a few times, there are seconds between two tries.
    ensure!(pauses[TRIES - 4..].iter().all(|pause| *pause >= 5000.0), "{pauses:?}");
    Ok(())
}

/// The layers of a server that holds the picture back, for a connection that carries sound alone.
fn held() -> Value {
    json!({ "0": [{ "rid": "h", "bitrate": 500_000, "width": 640, "height": 360, "held": true }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_sound_alone_is_called_so_while_it_does() -> Result {
    if !tools::has("a_connection_that_carries_sound_alone", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let browser = Browser::chromium().await?;
    let publisher = watching::publish_test_picture(&browser, &program.url("/publish/clock"), "vp8").await?;
    let page = browser.open(&site.url("/page?src=/layered/clock&muted=")).await?;
    page.wait_until("window.told !== undefined", SOON).await?;
    page.wait_until(&format!("{PLAYER}.state === 'live'"), SOON).await?;
    page.wait_until(&format!("{PLAYER}.stats().then((stats) => stats.video?.framesDecoded > 10)"), SOON)
        .await?;
    site.say_layers(held());
    let tracks = "document.getElementById('preview').srcObject";
    publisher.evaluate(&format!("{tracks}.getVideoTracks().forEach((track) => track.stop())")).await?;
    for (language, words) in [
        ("en", "Your connection carries sound only for now; the picture comes back by itself"),
        ("de", "Ihre Verbindung trägt im Moment nur den Ton; das Bild kommt von selbst wieder"),
        ("it", "Per ora la connessione regge solo l’audio; l’immagine torna da sola"),
    ] {
        page.evaluate(&format!("{PLAYER}.setAttribute('lang', '{language}')")).await?;
        let says = format!("{PLAYER}.state === 'stalled' && {PLAYER}.message === '{words}'");
        page.wait_until(&says, SOON).await?;
    }
    // What stands still for another reason is called otherwise.
    page.evaluate(&format!("{PLAYER}.setAttribute('lang', 'en')")).await?;
    site.say_layers(one_layer());
    page.wait_until(&format!("{PLAYER}.message === 'The picture has stopped, the sound goes on'"), SOON)
        .await?;
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn smooth_holds_more_back_than_lowest() -> Result {
    if !tools::has("smooth_holds_more_back_than_lowest", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let site = OtherSite::start(&program, one_layer()).await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&site.url("/page?src=/layered/demo&muted=")).await?;
    page.wait_until("window.told !== undefined", SOON).await?;
    let held_back = "(told.filter(({ type }) => type === 'stats').at(-1)?.detail.bufferMs ?? null)";
    page.wait_until(&format!("{held_back} !== null && {held_back} < 250"), SOON).await?;
    page.evaluate(&format!("{PLAYER}.setAttribute('latency', 'smooth')")).await?;
    page.wait_until(&format!("{held_back} > 400"), PATIENCE).await?;
    page.evaluate(&format!("{PLAYER}.setAttribute('latency', 'lowest')")).await?;
    page.wait_until(&format!("{held_back} < 250"), PATIENCE).await?;
    Ok(())
}
