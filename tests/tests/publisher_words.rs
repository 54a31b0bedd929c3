//! What the page of the publisher says while it is not on the air: why it waits, beside its count of tries, and why it does not.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;
use tests::browser::Browser;
use tests::program::node;
use tests::{tools, watching};

type Result = anyhow::Result<()>;

/// A page is quick where nothing is wrong, the machine may be busy.
const SOON: Duration = Duration::from_secs(20);
/// The tries of a publisher, and some time to spare.
const PATIENCE: Duration = Duration::from_secs(40);
const CHROMIUM: &str = "/usr/bin/chromium";

/// A publisher whose attempts are answered by a script; it notes down what it says.
const SCRIPTED: &str = r#"
  (async () => {
    const problem = (status, code, headers = {}) => {
      const fields = { code, detail: "In English." };
      return new Response(JSON.stringify(fields), { status, headers: { "Content-Type": "application/problem+json", ...headers } });
    };
    const later = { "Retry-After": "1" };
    const answers = [
      () => problem(500, "answer-failed"),
      () => { throw new TypeError("Failed to fetch"); },
      () => problem(409, "occupied"),
      () => problem(503, "overloaded", later),
      () => problem(429, "rate-limited", later),
      () => problem(503, "access-unavailable", later),
      // The next attempt is one without a data channel.
      () => problem(422, "no-usable-codec"),
      () => problem(422, "no-usable-codec"),
    ];
    const plain = window.fetch;
    window.fetch = async (url, options) => {
      const answer = options?.method === "POST" && String(url).endsWith("/whip/show") ? answers.shift() : null;
      if (answer) window.asked.push(performance.now());
      return answer ? answer() : plain(url, options);
    };
    window.asked = [];
    window.said = [];
    const modules = ["publisher", "sources", "words"].map((name) => import(`/assets/${name}.js`));
    const [{ Publisher }, sources, { wordsFor }] = await Promise.all(modules);
    window.source = await sources.open("clock", "show", {});
    window.publisher = new Publisher("/whip/show", wordsFor(LANGUAGE));
    publisher.addEventListener("change", () => said.push(`${publisher.state}: ${publisher.message}`));
    publisher.start({ stream: source.stream, token: null, codec: "vp8", bitrate: 500_000, isLayered: false });
  })()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_said_in_words_beside_the_count_of_tries() -> Result {
    if !tools::has("every_refusal_is_said_in_words_beside_the_count_of_tries", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").start().await?;
    let browser = Browser::chromium().await?;
    for (language, wanted) in [
        (
            "en",
            [
                "connecting: Connecting",
                "reconnecting: Something went wrong in the server; reconnecting",
                "reconnecting: Reconnecting, 2nd try",
                "reconnecting: Somebody else publishes under this name; reconnecting, 3rd try",
                "reconnecting: The server is busy; reconnecting, 4th try",
                "reconnecting: Too many tries from this address; reconnecting, 5th try",
                "reconnecting: The server cannot check keys at the moment; reconnecting, 6th try",
                "refused: The server refused: it does not take this codec; choose another one",
            ],
        ),
        (
            "de",
            [
                "connecting: Verbinde",
                "reconnecting: Im Server ist ein Fehler aufgetreten; verbinde neu",
                "reconnecting: Verbinde neu, 2. Versuch",
                "reconnecting: Unter diesem Namen sendet schon jemand; verbinde neu, 3. Versuch",
                "reconnecting: Der Server ist ausgelastet; verbinde neu, 4. Versuch",
                "reconnecting: Zu viele Versuche von dieser Adresse; verbinde neu, 5. Versuch",
                "reconnecting: Der Server kann Schlüssel zurzeit nicht prüfen; verbinde neu, 6. Versuch",
                "refused: Der Server lehnt ab: Er nimmt diesen Codec nicht an; wählen Sie einen anderen",
            ],
        ),
        (
            "it",
            [
                "connecting: Connessione in corso",
                "reconnecting: Si è verificato un errore nel server; nuova connessione",
                "reconnecting: Nuova connessione, 2º tentativo",
                "reconnecting: Qualcun altro trasmette già con questo nome; nuova connessione, 3º tentativo",
                "reconnecting: Il server è occupato; nuova connessione, 4º tentativo",
                "reconnecting: Troppi tentativi da questo indirizzo; nuova connessione, 5º tentativo",
                "reconnecting: Il server ora non può verificare le chiavi; nuova connessione, 6º tentativo",
                "refused: Il server ha rifiutato: non accetta questo codec; sceglierne un altro",
            ],
        ),
    ] {
        let page = browser.open(&program.url("/")).await?;
        page.evaluate(&SCRIPTED.replace("LANGUAGE", &format!("'{language}'"))).await?;
        page.wait_until("window.publisher?.state === 'refused'", PATIENCE).await?;
        assert_eq!(page.evaluate("said").await?, json!(wanted), "{language}");
        // Never sooner than the server has asked for.
        let pauses = "asked.slice(1).map((at, index) => at - asked[index])";
        let pauses: Vec<f64> = serde_json::from_value(page.evaluate(pauses).await?)?;
        ensure!(pauses.len() == 7 && pauses[3..6].iter().all(|pause| *pause >= 1000.0), "{pauses:?}");
        page.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_publishes_under_a_name_that_is_taken_is_told_so_and_goes_on_when_it_is_free() -> Result {
    if !tools::has("who_publishes_under_a_name_that_is_taken", CHROMIUM) {
        return Ok(());
    }
    let program = node("up").with(&["--publisher-conflict", "refuse"]).start().await?;
    let browser = Browser::chromium().await?;
    let first = watching::publish_test_picture(&browser, &program.url("/publish/show"), "vp8").await?;
    let mut waiting = Vec::new();
    for (language, words) in [
        ("en", "Somebody else publishes under this name; reconnecting, "),
        ("de", "Unter diesem Namen sendet schon jemand; verbinde neu, "),
        ("it", "Qualcun altro trasmette già con questo nome; nuova connessione, "),
    ] {
        let url = program.url(&format!("/publish/show?lang={language}&source=clock&codec=vp8"));
        let page = browser.open(&url).await?;
        page.wait_until("window.mediaTree !== undefined", SOON).await?;
        page.evaluate("document.getElementById('form').requestSubmit()").await?;
        let says = format!("document.getElementById('badge').textContent.startsWith('{words}')");
        page.wait_until(&says, SOON).await?;
        ensure!(page.evaluate("mediaTree.state").await? == "reconnecting", "{language}");
        waiting.push(page);
    }
    for page in &waiting[1..] {
        page.evaluate("document.getElementById('stop').click()").await?;
    }
    first.evaluate("document.getElementById('stop').click()").await?;
    waiting[0].wait_until("mediaTree.state === 'live'", SOON).await
}
