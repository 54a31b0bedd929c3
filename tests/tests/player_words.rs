//! What the player says and does in each state that is not live: every refusal in words, asked again as long as it takes; a
//! connection that carries sound alone; a buffer that was wished for.

use std::path::Path;
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
      () => problem(400, { code: "offer-unreadable", detail: "The offer is broken." }),
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
                "reconnecting: Too many tries from this address; reconnecting, 2nd try",
                "reconnecting: Reconnecting, 3rd try",
                "unplayable: This browser cannot play H.265, the format of this broadcast",
                "refused: The server refused: it cannot use what this browser offers",
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
                "reconnecting: Zu viele Versuche von dieser Adresse; verbinde neu, 2. Versuch",
                "reconnecting: Verbinde neu, 3. Versuch",
                "unplayable: Dieser Browser kann H.265 nicht abspielen, das Format dieser Sendung",
                "refused: Der Server lehnt ab: Mit dem, was dieser Browser anbietet, kann er nichts anfangen",
                "key: Zum Zusehen ist ein Schlüssel nötig",
            ],
        ),
        (
            "it",
            [
                "connecting: Connessione in corso",
                "waiting: In attesa: non c’è ancora una trasmissione con questo nome",
                "waiting: In attesa della trasmissione",
                "reconnecting: Il server è occupato; nuova connessione",
                "reconnecting: Troppi tentativi da questo indirizzo; nuova connessione, 2º tentativo",
                "reconnecting: Nuova connessione, 3º tentativo",
                "unplayable: Questo browser non può riprodurre H.265, il formato di questa trasmissione",
                "refused: Il server ha rifiutato: non sa usare quello che offre questo browser",
                "key: Per guardare serve una chiave",
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

/// The words in a source that begin like this, in double quotes.
fn quoted<'a>(source: &'a str, beginning: &str) -> Vec<&'a str> {
    source.split('"').skip(1).step_by(2).filter(|word| word.starts_with(beginning)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_webrtc_is_told_so() -> Result {
    if !tools::has("a_browser_without_webrtc", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/publish/show?source=clock")).await?;
    page.wait_until("window.mediaTree !== undefined", SOON).await?;
    let watch = r#"(async () => {
      delete window.RTCPeerConnection;
      document.getElementById("form").requestSubmit();
      const { Player } = await import("/assets/player.js");
      window.player = new Player(document.createElement("div"), "/whep/show");
      player.start(null);
    })()"#;
    page.evaluate(watch).await?;
    page.wait_until("mediaTree.state === 'refused' && player.state === 'refused'", SOON).await?;
    let said = page.evaluate("[document.getElementById('error').textContent, player.message]").await?;
    let word = "This browser has WebRTC switched off.";
    assert_eq!(said, json!([word, word]));
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_has_no_words_for_it_says_in_those_of_the_server() -> Result {
    if !tools::has("what_the_page_has_no_words_for", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/")).await?;
    let say = r#"
        (async () => {
          const modules = ["endpoint", "refusals", "words"].map((name) => import(`/assets/${name}.js`));
          const [{ Refused }, { refusal }, { LANGUAGES, Words }] = await Promise.all(modules);
          const problems = [
            [422, { detail: "Taken with one size.", problem: { code: "offer-simulcast", detail: "Taken with one size." } }],
            [400, { detail: "There is no moon.", problem: { code: "moon-missing", detail: "There is no moon." } }],
            [400, { detail: "Bad Gateway" }],
            [418, {}],
          ];
          const refusals = problems.map(([status, reason]) => new Refused(status, null, reason));
          return LANGUAGES.map((name) => [name, ...refusals.map((error) => refusal(error, new Words(name)))]);
        })()
    "#;
    let wanted = json!([
        [
            "de",
            "Der Server lehnt ab: Er nimmt das Bild in diesen Größen nicht an; wählen Sie eine einzige",
            "Der Server lehnt ab: There is no moon.",
            "Der Server lehnt ab: Bad Gateway",
            "Der Server lehnt ab: Er antwortet mit 418",
        ],
        [
            "en",
            "The server refused: it does not take the picture in these sizes; choose a single one",
            "The server refused: There is no moon.",
            "The server refused: Bad Gateway",
            "The server refused: it answered 418",
        ],
        [
            "it",
            "Il server ha rifiutato: non accetta l’immagine in queste dimensioni; sceglierne una sola",
            "Il server ha rifiutato: There is no moon.",
            "Il server ha rifiutato: Bad Gateway",
            "Il server ha rifiutato: ha risposto 418",
        ],
    ]);
    assert_eq!(page.evaluate(say).await?, wanted);
    Ok(())
}

#[test]
fn whatever_can_be_wrong_with_an_offer_is_said_in_words() -> Result {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let problems = std::fs::read_to_string(root.join("crates/signaling/src/http/problem.rs"))?;
    let page = std::fs::read_to_string(root.join("web/refusals.js"))?;
    let (codes, known) = (quoted(&problems, "offer-"), quoted(&page, "offer-"));
    ensure!(codes.len() > 10, "{codes:?}");
    for code in codes {
        ensure!(known.contains(&code), "{code} is not said");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_cannot_be_told_to_hold_media_back_offers_no_delay() -> Result {
    if !tools::has("a_browser_that_cannot_be_told_to_hold_media_back", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--demo"]).start().await?;
    let browser = Browser::chromium().await?;
    let page = browser.open(&program.url("/watch/demo?latency=smooth")).await?;
    page.wait_until("window.mediaTree?.state === 'live'", SOON).await?;
    let is_offered = "(document.getElementById('settings').click(),
        document.getElementById('latency').checkVisibility())";
    assert_eq!(page.evaluate(is_offered).await?, true);
    page.evaluate("document.getElementById('menu').close()").await?;
    // As in Safari.
    page.evaluate("delete RTCRtpReceiver.prototype.jitterBufferTarget").await?;
    assert_eq!(page.evaluate(is_offered).await?, false);
    ensure!(page.errors().is_empty(), "{:?}", page.errors());
    Ok(())
}
