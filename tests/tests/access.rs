//! Who may publish and who may watch, and what an operator's server hears of it: over real HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use access::tickets::{Grant, Issue, Tickets};
use anyhow::Context as _;
use client::demo::{self, Clip};
use client::{Whep, Whip, whip};
use model::{BroadcastId, Codec, NodeId, Right};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use tests::offers;
use tests::operator::{Operator, SECRET, Signer, in_order};
use tests::program::{self, Program, until};

type Result = anyhow::Result<()>;

const HOUR: i64 = 3600;
const VIEWER: (&str, &str) = ("/whep/show", offers::CHROMIUM_VIEWER);
const PUBLISHER: (&str, &str) = ("/whip/show", offers::OBS_PUBLISHER);

/// A request with a token, or without.
async fn send(
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<(&str, String)>,
) -> anyhow::Result<Response> {
    let mut request = Client::new().request(method, url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some((content_type, body)) = body {
        request = request.header("Content-Type", content_type).body(body);
    }
    Ok(request.send().await?)
}

async fn post(
    program: &Program,
    (path, offer): (&str, &str),
    token: Option<&str>,
) -> anyhow::Result<Response> {
    let body = Some(("application/sdp", offers::crlf(offer)));
    send(Method::POST, &program.url(path), token, body).await
}

/// Status, and code of the problem.
async fn outcome(response: Response) -> anyhow::Result<(u16, String)> {
    let (status, text) = (response.status().as_u16(), response.text().await?);
    let problem = serde_json::from_str::<Value>(&text).unwrap_or_default();
    Ok((status, problem["code"].as_str().unwrap_or_default().to_owned()))
}

/// The session of a 201.
fn location(response: &Response) -> anyhow::Result<String> {
    anyhow::ensure!(response.status() == StatusCode::CREATED, "{}", response.status());
    Ok(response.headers().get("location").context("a location")?.to_str()?.to_owned())
}

async fn refusals(program: &Program, reason: &str) -> anyhow::Result<f64> {
    let label = format!("reason=\"{reason}\"");
    program.metric_with("media_tree_access_refusals_total{", &label).await
}

#[tokio::test]
async fn w38_a_json_web_token_opens_what_it_says_on_endpoints_and_sessions() -> Result {
    let operator = Operator::start()?;
    let program = program::node("up").with(&["--broadcasts", "show", "--jwt-jwks", &operator.url("/keys")]);
    let program = program.start().await?;
    let foreign = Signer::new("first")?;
    for (door, right, other_right) in [(VIEWER, "view", "publish"), (PUBLISHER, "publish", "view")] {
        let good = operator.token(right, "sh*", HOUR)?;
        let bad = [
            (None, (401, "token-missing")),
            (Some("no-jwt-at-all".to_owned()), (401, "token-rejected")),
            (Some(foreign.token(right, "show", HOUR)?), (401, "token-rejected")),
            (Some(operator.token(right, "show", -HOUR)?), (401, "token-expired")),
            (Some(operator.token(right, "other", HOUR)?), (403, "insufficient")),
            (Some(operator.token(other_right, "show", HOUR)?), (403, "insufficient")),
        ];
        for (token, (status, code)) in &bad {
            let response = post(&program, door, token.as_deref()).await?;
            let challenge = response.headers().get("www-authenticate").context("a challenge")?.to_str()?;
            assert!(challenge.starts_with("Bearer"), "{challenge}");
            assert_eq!(outcome(response).await?, (*status, (*code).to_owned()), "POST {}", door.0);
        }
        let session = location(&post(&program, door, Some(&good)).await?)?;
        for (token, (status, code)) in &bad {
            for method in [Method::PATCH, Method::DELETE] {
                let response = send(method.clone(), &session, token.as_deref(), None).await?;
                assert_eq!(outcome(response).await?, (*status, (*code).to_owned()), "{method} {}", door.0);
            }
        }
        let fragment = ("application/trickle-ice-sdpfrag", "a=end-of-candidates\r\n".to_owned());
        let patched = send(Method::PATCH, &session, Some(&good), Some(fragment)).await?;
        assert!(patched.status() != StatusCode::UNAUTHORIZED && patched.status() != StatusCode::FORBIDDEN);
        assert_eq!(send(Method::DELETE, &session, Some(&good), None).await?.status(), StatusCode::OK);
        let preflight = send(Method::OPTIONS, &program.url(door.0), None, None).await?;
        assert_eq!(preflight.status(), StatusCode::OK, "W39");
    }
    for (reason, count) in [("token_missing", 6.0), ("token_expired", 6.0), ("insufficient", 12.0)] {
        assert_eq!(refusals(&program, reason).await?, count, "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn the_token_that_made_a_session_ends_it_even_after_it_has_expired() -> Result {
    let operator = Operator::start()?;
    let keys = operator.url("/keys");
    let program =
        program::node("up").with(&["--broadcasts", "show", "--jwt-jwks", &keys, "--jwt-leeway", "0ms"]);
    let program = program.start().await?;
    let short = operator.token("view", "show", 4)?;
    let session = location(&post(&program, VIEWER, Some(&short)).await?)?;
    until("the token has expired", async || {
        Ok(outcome(post(&program, VIEWER, Some(&short)).await?).await?.1 == "token-expired")
    })
    .await?;
    let another = operator.token("view", "show", -1)?;
    assert_eq!(
        send(Method::DELETE, &session, Some(&another), None).await?.status(),
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(send(Method::DELETE, &session, Some(&short), None).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test]
async fn new_keys_are_fetched_when_they_are_needed_and_old_ones_kept_while_nobody_gives_any() -> Result {
    let mut operator = Operator::start()?;
    let program = program::node("up").with(&["--broadcasts", "show", "--jwt-jwks", &operator.url("/keys")]);
    let program = program.start().await?;
    let old = operator.token("view", "show", HOUR)?;
    assert_eq!(post(&program, VIEWER, Some(&old)).await?.status(), StatusCode::CREATED);
    operator.rotate(Signer::new("second")?);
    let new = operator.token("view", "show", HOUR)?;
    until("the new key is known", async || {
        Ok(post(&program, VIEWER, Some(&new)).await?.status() == StatusCode::CREATED)
    })
    .await?;
    assert_eq!(outcome(post(&program, VIEWER, Some(&old)).await?).await?.1, "token-rejected", "withdrawn");
    operator.stop();
    let unknown = Signer::new("third")?.token("view", "show", HOUR)?;
    until("it is noticed that nobody gives keys", async || {
        Ok(outcome(post(&program, VIEWER, Some(&unknown)).await?).await?.1 == "access-unavailable")
    })
    .await?;
    assert_eq!(post(&program, VIEWER, Some(&new)).await?.status(), StatusCode::CREATED, "the last good keys");
    Ok(())
}

#[tokio::test]
async fn a_ticket_opens_one_door_of_one_node_once_and_is_written_nowhere() -> Result {
    const KEY: &str = "a-cluster-key-for-this-test";
    let name = ["--node-id", "target", "--broadcasts", "show", "--cluster-key", KEY];
    let access = ["--view-tokens", "a-view-token", "--publish-tokens", "a-publish-token"];
    let log = ["--log-filter", "debug"];
    let program = program::node("up").with(&name).with(&access).with(&log).start().await?;
    let tickets = Tickets::new(KEY.as_bytes());
    let (broadcast, node) = (BroadcastId::new("show")?, NodeId::new("target")?);
    let (other_broadcast, other_node) = (BroadcastId::new("other")?, NodeId::new("another")?);
    let mut nonce = 0;
    let mut issue = |right, broadcast: &BroadcastId, target: &NodeId| -> anyhow::Result<String> {
        nonce += 1;
        let wallclock = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let credential = Some(tickets.credentials().credential("a-view-token"));
        let issue = Issue { wallclock, nonce: [nonce; 16], is_checked: true, credential };
        Ok(tickets.issue(&Grant { right, broadcast, target }, &issue).as_str().to_owned())
    };
    let by = async |(endpoint, offer): (&str, &str), ticket: &str| {
        outcome(post(&program, (&format!("/{endpoint}/show/t/{ticket}"), offer), None).await?).await
    };
    let refused = (401, "ticket-rejected".to_owned());
    let (whep, whip) = (("whep", VIEWER.1), ("whip", PUBLISHER.1));

    let good = issue(Right::View, &broadcast, &node)?;
    assert_eq!(by(whip, &good).await?, refused, "another right");
    for foreign in [
        issue(Right::View, &other_broadcast, &node)?,
        issue(Right::View, &broadcast, &other_node)?,
        issue(Right::Publish, &broadcast, &node)?,
        good.replacen(|_: char| true, "_", 1),
        "x".to_owned(),
    ] {
        assert_eq!(by(whep, &foreign).await?, refused);
    }
    let path = format!("/whep/show/t/{good}");
    let session = location(&post(&program, (&path, VIEWER.1), None).await?)?;
    assert!(!session.contains(&good), "{session}");
    assert_eq!(by(whep, &good).await?, refused, "used");
    assert_eq!(refusals(&program, "ticket_used").await?, 1.0);
    // What the issuer checked goes with the session, and nothing else does.
    for (token, status) in [(None, 401), (Some("a-publish-token"), 401), (Some("a-view-token"), 200)] {
        assert_eq!(send(Method::DELETE, &session, token, None).await?.status().as_u16(), status);
    }
    let publisher = issue(Right::Publish, &broadcast, &node)?;
    assert_eq!(by(whip, &publisher).await?.0, 201);
    let preflight = send(Method::OPTIONS, &program.url(&path), None, None).await?;
    assert_eq!(preflight.status(), StatusCode::OK, "browsers ask before they follow");

    let metrics = reqwest::get(format!("http://{}/metrics", program.ops)).await?.text().await?;
    for secret in [&good[..], &publisher, "a-view-token", "a-publish-token", KEY] {
        assert!(!program.log().contains(secret) && !metrics.contains(secret), "{secret} is shown");
    }
    Ok(())
}

#[tokio::test]
async fn the_operators_server_is_asked_and_nobody_comes_in_without_its_word() -> Result {
    let mut operator = Operator::start()?;
    let url = operator.url("/may");
    let webhook = ["--webhooks-access", &url, "--webhooks-secret", SECRET, "--webhooks-access-cache", "1h"];
    let program = program::node("up").with(&["--broadcasts", "show", "--view-tokens", "a-view-token"]);
    let program = program.with(&webhook).start().await?;

    let session = location(&post(&program, VIEWER, Some("ask-about-me")).await?)?;
    assert_eq!(post(&program, VIEWER, Some("ask-about-me")).await?.status(), StatusCode::CREATED);
    assert_eq!(post(&program, VIEWER, Some("a-view-token")).await?.status(), StatusCode::CREATED);
    let questions = operator.questions();
    assert_eq!(questions.len(), 1, "the same is asked once, and a known token not at all: {questions:?}");
    let question = &questions[0];
    assert_eq!(question.body["action"], "view");
    assert_eq!(question.body["broadcast"], "show");
    assert_eq!(question.body["client"], "127.0.0.1");
    assert_eq!(question.body["token"], "ask-about-me");
    assert!(question.is_signed_with(SECRET) && !question.is_signed_with("another-secret"));
    assert!(!question.clone().tampered().is_signed_with(SECRET));
    assert!(question.age()? < 60);

    operator.decide(StatusCode::FORBIDDEN);
    assert_eq!(
        outcome(post(&program, PUBLISHER, Some("ask-about-me")).await?).await?,
        (403, "insufficient".into())
    );
    operator.decide(StatusCode::UNAUTHORIZED);
    assert_eq!(outcome(post(&program, VIEWER, None).await?).await?, (401, "token-missing".into()));
    assert_eq!(operator.questions()[2].body["token"], Value::Null);

    operator.stop();
    let response = post(&program, VIEWER, Some("a-stranger")).await?;
    response.headers().get("retry-after").context("when to come back")?.to_str()?.parse::<u32>()?;
    assert_eq!(outcome(response).await?, (503, "access-unavailable".into()));
    assert_eq!(refusals(&program, "unavailable").await?, 1.0);
    assert_eq!(post(&program, VIEWER, Some("a-view-token")).await?.status(), StatusCode::CREATED);
    assert_eq!(
        send(Method::DELETE, &session, Some("ask-about-me"), None).await?.status(),
        StatusCode::OK,
        "whoever made a session ends it without anybody being asked"
    );
    assert!(!program.log().contains("ask-about-me") && !program.log().contains("/may"), "{}", program.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_and_its_viewers_are_told_in_order_even_if_the_server_was_away() -> Result {
    let mut operator = Operator::start()?;
    operator.stop();
    let url = operator.url("/events");
    let webhook = ["--webhooks-events", &url, "--webhooks-secret", SECRET];
    let often = ["--webhooks-viewers-interval", "10ms", "--node-id", "one", "--tree-id", "concert"];
    let program = program::node("up").with(&webhook).with(&often).start().await?;
    let codecs = [Codec::Opus, Codec::H264];
    let session = Whip::connect(&program.url("/whip/show"), None, &codecs, whip::Options::default()).await?;
    let publisher = tokio::spawn(async move { demo::play(&Clip::built_in(), &session).await });
    until("an attempt has failed", async || {
        let failed = r#"result="attempt_failed""#;
        Ok(program.metric_with("media_tree_webhook_events_total{", failed).await? >= 1.0)
    })
    .await?;
    operator.resume()?;
    let viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    let told = |kind: &str| operator.events().iter().filter(|letter| letter.kind() == kind).count();
    until("the viewer is told", async || Ok(told("viewers") == 1)).await?;
    viewer.close().await?;
    until("it is told that nobody watches", async || Ok(told("viewers") == 2)).await?;
    publisher.abort();
    // Its end is not noticed for a while; a node that stops tells what there is to tell.
    program.signal("TERM")?;
    until("the end is told", async || Ok(told("unpublished") == 1)).await?;

    let mut events = operator.events();
    // Counts of the whole installation come when they come; here it is this node.
    let audiences = events.iter().filter(|letter| letter.kind() == "audience");
    let audiences: Vec<_> = audiences.map(|letter| letter.body["viewers"].as_u64()).collect();
    assert_eq!(audiences.first(), Some(&Some(1)), "{audiences:?}");
    events.retain(|letter| letter.kind() != "audience");
    let kinds: Vec<&str> = events.iter().map(tests::operator::Letter::kind).collect();
    in_order(&kinds, &["published", "viewers", "viewers", "unpublished"])?;
    assert_eq!(kinds.len(), 4, "{kinds:?}");
    for letter in &events {
        assert!(letter.is_signed_with(SECRET) && !letter.is_signed_with("another-secret"), "{letter:?}");
        assert!(!letter.clone().tampered().is_signed_with(SECRET));
        let told = ["broadcast", "node", "tree"].map(|key| letter.body[key].as_str().unwrap_or_default());
        assert_eq!(told, ["show", "one", "concert"]);
    }
    assert_eq!((&events[1].body["viewers"], &events[2].body["viewers"]), (&1.into(), &0.into()));
    assert!(events[0].body["run"].is_string() && events[0].body["run"] == events[3].body["run"]);
    let ids: std::collections::BTreeSet<&str> =
        events.iter().filter_map(|letter| letter.body["id"].as_str()).collect();
    assert_eq!(ids.len(), 4, "each has an id of its own");
    let late = Duration::from_secs_f64(events[0].body["at"].as_f64().context("when")?);
    assert!(late <= SystemTime::now().duration_since(UNIX_EPOCH)?);
    Ok(())
}
