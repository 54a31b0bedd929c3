//! The server-sent events of WHEP, line by line, against the real program over HTTP. Each test is named after its line.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::{Whep, WhepSession, Whip, WhipSession};
use model::Codec;
use reqwest::{Client, Method, StatusCode};
use serde_json::json;
use tests::event_stream::{self, EventStream, Item};
use tests::program::{self, Program, until};
use tests::{offers, tools};
use tokio::io::{AsyncBufReadExt as _, BufReader};

type Result = anyhow::Result<()>;

const EXTENSION: &str = "urn:ietf:params:whep:ext:core:server-sent-events";
/// Long enough for what does not come.
const MOMENT: Duration = Duration::from_millis(700);

async fn up() -> anyhow::Result<Program> {
    program::node("up").with(&["--broadcasts", "show"]).start().await
}

/// A session that is answered and not connected; it lives for 15 s. Its URL and the `Link` headers.
async fn session(program: &Program) -> anyhow::Result<(String, Vec<String>)> {
    let request = Client::new().post(program.url("/whep/show")).header("Content-Type", "application/sdp");
    let created = request.body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?;
    assert_eq!(created.status(), StatusCode::CREATED);
    let links = created.headers().get_all("link").iter().map(|link| Ok(link.to_str()?.to_owned()));
    let links = links.collect::<anyhow::Result<_>>()?;
    Ok((created.headers().get("location").context("a Location")?.to_str()?.to_owned(), links))
}

async fn viewer(program: &Program) -> anyhow::Result<WhepSession> {
    Ok(Whep::connect(&program.url("/whep/show"), None).await?)
}

async fn publish(program: &Program) -> anyhow::Result<WhipSession> {
    let codecs = [Codec::Opus, Codec::H264];
    Ok(Whip::connect(&program.url("/whip/show"), None, &codecs, client::whip::Options::default()).await?)
}

async fn streams(program: &Program) -> anyhow::Result<f64> {
    program.metric("media_tree_event_streams{").await
}

fn event(kind: &str) -> Item {
    Item::Event(kind.to_owned(), json!({}))
}

#[tokio::test]
async fn e07_the_answer_names_the_entry_of_the_extension_and_its_events() -> Result {
    let program = up().await?;
    let (session, links) = session(&program).await?;
    let events = "active,inactive,layers,viewercount,reconnect";
    let expected =
        format!("<{session}/events>; rel=\"{EXTENSION}\"; events=\"{events}\"; more-events=\"cue\"");
    let layers = format!("<{session}/layer>; rel=\"urn:ietf:params:whep:ext:core:layer\"");
    assert_eq!(links, [expected, layers]);
    let request = Client::new().post(program.url("/whip/show")).header("Content-Type", "application/sdp");
    let publisher = request.body(offers::crlf(offers::CHROMIUM_PUBLISHER)).send().await?;
    assert_eq!(publisher.headers().get("link"), None, "publishers have no such extension");
    for (path, methods) in [("", "POST"), ("/00000000-0000-4000-8000-000000000000", "GET DELETE")] {
        let request = Client::new().request(Method::OPTIONS, format!("{session}/events{path}"));
        let preflight = request.header("Origin", "https://elsewhere.example").send().await?;
        assert_eq!(preflight.status(), StatusCode::OK);
        let header = |name: &str| {
            let value = preflight.headers().get(name);
            value.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        for method in methods.split(' ') {
            assert!(header("allow").contains(method), "{path}");
            assert!(header("access-control-allow-methods").contains(method), "{path}");
        }
        assert!(header("access-control-allow-headers").contains("Authorization"), "{path}");
        assert!(header("access-control-expose-headers").contains("Link"), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn e08_a_stream_is_made_for_known_events_only() -> Result {
    let program = up().await?;
    let (session, _) = session(&program).await?;
    let bad = [r#"["active","scte35"]"#, r#"["ACTIVE"]"#, r#"{"active":true}"#, "active", "[[", "[1]"];
    for body in bad {
        let refused = event_stream::subscribe(&session, body).await?;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(refused.headers().get("location"), None, "{body}");
        assert_eq!(refused.headers()["content-type"], "application/problem+json", "{body}");
    }
    let entry = format!("{session}/events");
    let plain = Client::new().post(&entry).header("Content-Type", "text/plain").body("[]").send().await?;
    assert_eq!(plain.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(streams(&program).await?, 0.0, "nothing was made");

    let stream = event_stream::create(&session, &["active", "inactive"]).await?;
    assert!(stream.starts_with(&format!("{entry}/")), "{stream}");
    let all = Client::new().post(&entry).send().await?;
    assert_eq!(all.status(), StatusCode::CREATED, "without a body every event is meant");
    let third = event_stream::subscribe(&session, "[]").await?;
    assert_eq!(third.status(), StatusCode::TOO_MANY_REQUESTS, "a session has its bound");
    assert_eq!(streams(&program).await?, 2.0);

    let unknown = entry.replace("/events", "x/events");
    assert_eq!(Client::new().post(&unknown).send().await?.status(), StatusCode::NOT_FOUND);
    let other = reqwest::get(format!("{entry}/00000000-0000-4000-8000-000000000000")).await?;
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    Ok(())
}

#[tokio::test]
async fn e08_who_may_not_watch_may_not_listen() -> Result {
    let program = program::node("up")
        .with(&["--broadcasts", "show", "--view-tokens", "secret-of-tests"])
        .start()
        .await?;
    let request = Client::new().post(program.url("/whep/show")).header("Content-Type", "application/sdp");
    let created =
        request.bearer_auth("secret-of-tests").body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?;
    let entry = format!("{}/events", created.headers()["location"].to_str()?);
    assert_eq!(Client::new().post(&entry).send().await?.status(), StatusCode::UNAUTHORIZED);
    let made = Client::new().post(&entry).bearer_auth("secret-of-tests").send().await?;
    assert_eq!(made.status(), StatusCode::CREATED);
    let stream = made.headers()["location"].to_str()?;
    // An EventSource cannot say more than the URL, which nobody guesses.
    EventStream::open(stream).await?;
    assert_eq!(Client::new().delete(stream).send().await?.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        Client::new().delete(stream).bearer_auth("secret-of-tests").send().await?.status(),
        StatusCode::OK
    );
    Ok(())
}

#[tokio::test]
async fn e09_only_what_was_asked_for_is_told() -> Result {
    let program = up().await?;
    let viewer = viewer(&program).await?;
    let stream = event_stream::create(viewer.url(), &["reconnect"]).await?;
    let mut reader = EventStream::open(&stream).await?;
    let _playing = play(publish(&program).await?);
    until("the broadcast is live", || async {
        Ok(reqwest::get(program.url("/api/v1/broadcasts")).await?.text().await?.contains("live"))
    })
    .await?;
    assert_eq!(reader.next_within(MOMENT).await?, Some(Item::Comment), "the head of the stream");
    assert_eq!(reader.next_within(MOMENT).await?, None);
    event_stream::move_viewers(program.ops, "https://b.example", 0).await?;
    let url = json!({ "url": "https://b.example/whep/show" });
    assert_eq!(reader.next().await?, Item::Event("reconnect".into(), url));
    viewer.close().await?;
    Ok(())
}

#[tokio::test]
async fn e09_a_stream_ends_by_delete_and_with_its_session() -> Result {
    let program = up().await?;
    let (session, _) = session(&program).await?;
    let deleted = event_stream::create(&session, &["active"]).await?;
    let mut reader = EventStream::open(&deleted).await?;
    assert_eq!(Client::new().delete(&deleted).send().await?.status(), StatusCode::OK);
    assert_eq!(reader.next().await?, Item::End);
    assert_eq!(reqwest::get(&deleted).await?.status(), StatusCode::NOT_FOUND);
    assert_eq!(Client::new().delete(&deleted).send().await?.status(), StatusCode::NOT_FOUND);

    let left = event_stream::create(&session, &["active"]).await?;
    let mut reader = EventStream::open(&left).await?;
    assert_eq!(Client::new().delete(&session).send().await?.status(), StatusCode::OK);
    assert_eq!(reader.next().await?, Item::End);
    assert_eq!(reqwest::get(&left).await?.status(), StatusCode::NOT_FOUND);
    assert_eq!(streams(&program).await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn e09_a_stream_has_one_reader_the_latest() -> Result {
    let program = up().await?;
    let (session, _) = session(&program).await?;
    let stream = event_stream::create(&session, &["reconnect"]).await?;
    let mut first = EventStream::open(&stream).await?;
    let mut second = EventStream::open(&stream).await?;
    assert_eq!(first.next().await?, Item::End);
    event_stream::move_viewers(program.ops, "https://b.example", 0).await?;
    assert!(matches!(second.next().await?, Item::Event(kind, _) if kind == "reconnect"));
    Ok(())
}

#[tokio::test]
async fn e10_a_stream_follows_the_publisher_and_begins_with_no_inactive() -> Result {
    let program = up().await?;
    let viewer = viewer(&program).await?;
    let stream = event_stream::create(viewer.url(), &["active", "inactive"]).await?;
    let mut reader = EventStream::open(&stream).await?;
    assert_eq!(reader.next_within(MOMENT).await?, Some(Item::Comment), "the head of the stream");
    assert_eq!(reader.next_within(MOMENT).await?, None, "no initial inactive");

    let playing = play(publish(&program).await?);
    assert_eq!(reader.next().await?, event("active"));
    let late = event_stream::create(viewer.url(), &["active", "inactive"]).await?;
    let mut late = EventStream::open(&late).await?;
    assert_eq!(late.next().await?, event("active"), "who comes while it is live is told so");

    let begun = Instant::now();
    playing.send(()).map_err(|()| anyhow::anyhow!("the publisher has ended"))?;
    assert_eq!(reader.next().await?, event("inactive"));
    println!("inactive {:?} after the publisher's goodbye", begun.elapsed());
    let _playing = play(publish(&program).await?);
    assert_eq!(reader.next().await?, event("active"), "a new run");
    assert_eq!(late.next().await?, event("inactive"));
    assert_eq!(late.next().await?, event("active"));
    viewer.close().await?;
    Ok(())
}

/// Plays the clip until it is told to stop, or the sender is gone; says goodbye then.
fn play(session: WhipSession) -> tokio::sync::oneshot::Sender<()> {
    let (stop, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let clip = client::demo::Clip::built_in();
        tokio::select! {
            _ = client::demo::play(&clip, &session) => {}
            _ = stopped => {}
        }
        let _ = session.close().await;
    });
    stop
}

#[tokio::test]
async fn viewers_are_counted_to_viewers_and_seldom() -> Result {
    let program = up().await?;
    let first = viewer(&program).await?;
    until("it is counted", || async { Ok(program.metric("media_tree_viewers{").await? == 1.0) }).await?;
    let stream = event_stream::create(first.url(), &["viewercount"]).await?;
    let mut reader = EventStream::open(&stream).await?;
    let count = |count: u64| Item::Event("viewercount".into(), json!({ "viewercount": count }));
    assert_eq!(reader.next().await?, count(1));
    let told = Instant::now();
    // Held to the end.
    let others = futures_util::future::try_join_all((0..4).map(|_| viewer(&program))).await?;
    assert_eq!(reader.next().await?, count(5), "not head by head");
    let between = told.elapsed();
    assert!(between > Duration::from_millis(4900), "counts {between:?} apart");
    drop(others);
    first.close().await?;
    Ok(())
}

#[tokio::test]
async fn a_stream_without_news_is_kept_alive() -> Result {
    let program = up().await?;
    let viewer = viewer(&program).await?;
    let stream = event_stream::create(viewer.url(), &["reconnect"]).await?;
    let mut reader = EventStream::open(&stream).await?;
    let begun = Instant::now();
    assert_eq!(reader.next_within(MOMENT).await?, Some(Item::Comment));
    assert_eq!(reader.next_within(Duration::from_secs(20)).await?, Some(Item::Comment));
    assert!((14..20).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    viewer.close().await?;
    Ok(())
}

#[tokio::test]
async fn e13_viewers_are_sent_away_one_after_another_and_counted() -> Result {
    const LISTENING: usize = 6;
    let program = up().await?;
    let mut readers = Vec::new();
    for _ in 0..LISTENING {
        let (session, _) = session(&program).await?;
        let stream = event_stream::create(&session, &["reconnect"]).await?;
        readers.push(EventStream::open(&stream).await?);
    }
    let (silent, _) = session(&program).await?;
    let begun = Instant::now();
    let arrivals = readers.iter_mut().map(|reader| async move { (reader.next().await, begun.elapsed()) });
    let order = event_stream::move_viewers(program.ops, "http://127.0.0.1:9", 3);
    let (report, arrivals) = tokio::join!(order, futures_util::future::join_all(arrivals));
    assert_eq!(report?, json!({ "told": LISTENING, "not_subscribed": 1, "no_place": 0 }));
    let mut times = Vec::new();
    for (event, at) in arrivals {
        let url = json!({ "url": "http://127.0.0.1:9/whep/show" });
        assert_eq!(event?, Item::Event("reconnect".into(), url));
        times.push(at);
    }
    times.sort();
    println!("told after {times:?}");
    assert!(times[LISTENING - 1] - times[0] > Duration::from_millis(1500), "not all at once: {times:?}");

    // Who begins to listen later is told then, and nobody is told twice.
    let late = event_stream::create(&silent, &["reconnect"]).await?;
    let mut late = EventStream::open(&late).await?;
    assert!(matches!(late.next().await?, Item::Event(kind, _) if kind == "reconnect"));
    event_stream::move_viewers(program.ops, "http://127.0.0.1:9/", 0).await?;
    assert_eq!(late.next_within(MOMENT).await?, None);
    assert_eq!(program.metric("media_tree_viewers_sent_away_total").await?, (2 * LISTENING + 1) as f64);
    Ok(())
}

#[tokio::test]
async fn orders_to_send_viewers_away_are_checked() -> Result {
    let program = up().await?;
    let url = format!("http://{}/viewers/move", program.ops);
    for order in [
        json!({ "to": "b.example" }),
        json!({ "to": "file:///etc" }),
        json!({ "to": "https://b.example/whep" }),
        json!({ "to": "https://b.example", "over_seconds": 601 }),
        json!({ "to": "https://b.example", "now": true }),
        json!({}),
    ] {
        let status = Client::new().post(&url).json(&order).send().await?.status();
        assert!(status.is_client_error(), "{order}: {status}");
    }
    // What a foreign web page can post without asking first.
    let plain = Client::new().post(&url).header("Content-Type", "text/plain");
    let status = plain.body(r#"{"to":"https://b.example"}"#).send().await?.status();
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Ok(())
}

#[tokio::test]
async fn streams_work_over_http2_and_tls() -> Result {
    let name = "streams_work_over_http2_and_tls";
    if !tools::has(name, "/usr/bin/openssl") || !tools::has(name, "/usr/bin/curl") {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout", &file("key"), "-out", &file("chain")])
        .output()?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let arguments = ["--broadcasts", "show", "--tls-certificate", &file("chain"), "--tls-key", &file("key")];
    let program = program::node("up").with(&arguments).start().await?;
    std::fs::write(file("offer"), offers::crlf(offers::CHROMIUM_VIEWER))?;

    let offer = format!("@{}", file("offer"));
    let url = format!("https://{}/whep/show", program.http);
    let created = curl(&["-H", "Content-Type: application/sdp", "--data-binary", &offer, &url]).await?;
    let session = location(&created)?;
    let json = "Content-Type: application/json";
    let made = curl(&["-H", json, "--data-binary", r#"["reconnect"]"#, &format!("{session}/events")]).await?;
    let stream = location(&made)?;
    let mut reader = curl_command(&["-N", &stream]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(reader.stdout.take().context("stdout is piped")?).lines();
    assert_eq!(lines.next_line().await?.as_deref().map(str::trim), Some("HTTP/2 200"));
    event_stream::move_viewers(program.ops, "https://b.example", 0).await?;
    let mut read = Vec::new();
    while read.last().is_none_or(|line: &String| !line.starts_with("data: ")) {
        read.push(lines.next_line().await?.context("the stream ended")?);
    }
    let told = ["event: reconnect", r#"data: {"url":"https://b.example/whep/show"}"#];
    assert_eq!(read[read.len() - 2..], told, "{read:?}");
    curl(&["-X", "DELETE", &stream]).await?;
    assert!(reader.wait().await?.success(), "the stream ends in good order");
    Ok(())
}

/// Heads and body of what is answered over HTTP/2.
async fn curl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = curl_command(arguments).output().await?;
    Ok(String::from_utf8(output.stdout)?)
}

fn curl_command(arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("curl");
    command.args(["-s", "-i", "-k", "--http2", "--max-time", "25"]).args(arguments);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn location(answer: &str) -> anyhow::Result<String> {
    let line = answer.lines().find_map(|line| line.strip_prefix("location: "));
    Ok(line.with_context(|| format!("no Location: {answer}"))?.trim().to_owned())
}
