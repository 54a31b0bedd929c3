//! Lines of WHIP (RFC 9725) and WHEP that take more than a URL to be seen whole: metrics, flags, signals, memory, and
//! what this server promises beyond the letter. `conformance.rs` tries all that can be seen from outside.

use std::time::Duration;

use anyhow::Context as _;
use client::{Whep, Whip};
use model::Codec;
use reqwest::{Client, Method, Response, StatusCode};
use tests::offers::{self, crlf};
use tests::program::{self, Program, until};

type Result = anyhow::Result<()>;

async fn up() -> anyhow::Result<Program> {
    program::node("up").with(&["--broadcasts", "show"]).start().await
}

async fn post(program: &Program, path: &str, offer: &str) -> anyhow::Result<Response> {
    let request = Client::new().post(program.url(path)).header("Content-Type", "application/sdp");
    Ok(request.body(crlf(offer)).send().await?)
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Both endpoints with an offer that fits.
const ENDPOINTS: [(&str, &str); 2] =
    [("/whip/show", offers::CHROMIUM_PUBLISHER), ("/whep/show", offers::CHROMIUM_VIEWER)];

#[tokio::test]
async fn w03_malformed_offers_are_refused_in_plain_words() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let whole = crlf(offer);
        let mut bad: Vec<String> = (0..whole.len()).step_by(211).map(|end| whole[..end].to_owned()).collect();
        bad.extend(["rubbish".to_owned(), "v=0\r\n".to_owned(), whole.replace("a=ice-pwd:", "a=x:")]);
        for text in bad {
            let response = post(&program, path, &text).await?;
            let status = response.status();
            // A cut between two sections may leave a smaller offer that is whole.
            assert!(status.is_client_error() || status == StatusCode::CREATED, "{path} {status}");
            if status.is_client_error() {
                assert_eq!(header(&response, "content-type"), "application/problem+json");
                let problem: serde_json::Value = serde_json::from_str(&response.text().await?)?;
                assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{problem}");
            }
        }
        let huge = post(&program, path, &"a=x\r\n".repeat(200_000)).await?;
        assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    Ok(())
}

async fn sessions(program: &Program, protocol: &str) -> anyhow::Result<f64> {
    program.metric(&format!("media_tree_{protocol}_sessions{{")).await
}

#[tokio::test]
async fn w08_a_silent_peer_is_freed_by_consent() -> Result {
    let program = up().await?;
    let publisher = publish(&program).await?;
    let viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    assert_eq!((sessions(&program, "whip").await?, sessions(&program, "whep").await?), (1.0, 1.0));
    // Both peers vanish without a word: no DELETE, no close_notify.
    drop(viewer);
    drop(publisher);
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(50)
        && sessions(&program, "whep").await? + sessions(&program, "whip").await? > 0.0
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!((sessions(&program, "whip").await?, sessions(&program, "whep").await?), (0.0, 0.0));
    Ok(())
}

async fn publish(program: &Program) -> anyhow::Result<client::WhipSession> {
    let codecs = [Codec::Opus, Codec::H264];
    Ok(Whip::connect(&program.url("/whip/show"), None, &codecs, client::whip::Options::default()).await?)
}

#[tokio::test]
async fn w09_delete_ends_a_session_with_200() -> Result {
    let program = up().await?;
    // The clients demand 200.
    publish(&program).await?.close().await?;
    Whep::connect(&program.url("/whep/show"), None).await?.close().await?;
    until("both sessions are freed", || async {
        Ok(sessions(&program, "whip").await? + sessions(&program, "whep").await? == 0.0)
    })
    .await?;
    for (path, offer) in ENDPOINTS {
        let created = post(&program, path, offer).await?;
        let location = header(&created, "location").to_owned();
        // OBS sends a second one where the first was not to its liking.
        for _ in 0..2 {
            assert_eq!(Client::new().delete(&location).send().await?.status(), StatusCode::OK);
        }
        let unknown = program.url(&format!("{path}/00000000-0000-4000-8000-000000000000"));
        assert_eq!(Client::new().delete(unknown).send().await?.status(), StatusCode::NOT_FOUND);
    }
    Ok(())
}

#[tokio::test]
async fn w10_the_server_says_goodbye_over_dtls() -> Result {
    let program = up().await?;
    let publisher = publish(&program).await?;
    let viewer = Whep::connect(&program.url("/whep/show"), None).await?;
    program.signal("TERM")?;
    let ended =
        tokio::time::timeout(program::PATIENCE, async { (viewer.closed().await, publisher.closed().await) });
    let ended = ended.await.context("close_notify")?;
    assert_eq!(ended, (client::Ending::ServerClosed, client::Ending::ServerClosed));
    Ok(())
}

#[tokio::test]
async fn w35_nothing_is_answered_with_301_or_302() -> Result {
    let program = up().await?;
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    for path in ["/whip/show", "/whep/show", "/whip/show/", "/whep/unknown", "/whip/Bad"] {
        let request = client.post(program.url(path)).header("Content-Type", "application/sdp");
        let status = request.body(crlf(offers::CHROMIUM_VIEWER)).send().await?.status();
        assert!(!matches!(status.as_u16(), 301 | 302), "{path} {status}");
    }
    Ok(())
}

#[tokio::test]
async fn an_endpoint_may_end_with_a_slash() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let made = post(&program, &format!("{path}/"), offer).await?;
        assert_eq!(made.status(), StatusCode::CREATED, "{path}");
        let session = header(&made, "location").to_owned();
        assert!(session.starts_with(&program.url(&format!("{path}/"))), "{session}");
        assert_eq!(Client::new().delete(&session).send().await?.status(), StatusCode::OK, "{session}");
    }
    Ok(())
}

#[tokio::test]
async fn w44_session_urls_cannot_be_guessed() -> Result {
    let program = up().await?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let created = post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?;
        let id = header(&created, "location").rsplit('/').next().context("id")?.to_owned();
        assert!(id.len() == 36 && id.as_bytes()[14] == b'4', "{id}");
        assert!(seen.insert(id));
    }
    Ok(())
}

#[tokio::test]
async fn w46_sessions_that_never_connect_are_gone_after_15_s() -> Result {
    let program = up().await?;
    for _ in 0..300 {
        assert_eq!(
            post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?.status(),
            StatusCode::CREATED
        );
    }
    let full = program.resident_bytes();
    assert_eq!(sessions(&program, "whep").await?, 300.0);
    until("idle sessions are gone", || async { Ok(sessions(&program, "whep").await? == 0.0) }).await?;
    for _ in 0..300 {
        assert_eq!(
            post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?.status(),
            StatusCode::CREATED
        );
    }
    let again = program.resident_bytes();
    assert!(again < full + full / 4, "memory does not grow: {full} bytes, then {again}");
    Ok(())
}

#[tokio::test]
async fn w13_w37_ice_servers_come_with_the_session_and_not_with_a_preflight() -> Result {
    let servers = "stun:stun.example.net,turns:turn.example.net:443?transport=tcp";
    let program = program::node("up").environment(&[("MEDIA_TREE_ICE_SERVERS", servers.into())]);
    let program = program.with(&["--broadcasts", "show", "--turn-secret", "shared-with-the-turn-server"]);
    let program = program.start().await?;
    let links = |response: &Response| {
        let all = response.headers().get_all("link").iter();
        let all = all.filter_map(|value| value.to_str().ok()).filter(|link| link.contains("ice-server"));
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut names = Vec::new();
    for (path, offer) in ENDPOINTS {
        let given = links(&post(&program, path, offer).await?);
        assert_eq!(given[0], "<stun:stun.example.net>; rel=\"ice-server\"");
        let turn = "<turns:turn.example.net:443?transport=tcp>; rel=\"ice-server\"; username=\"";
        let turn = given[1].strip_prefix(turn).context("a TURN server")?;
        let (username, rest) = turn.split_once('"').context("a user name")?;
        assert!(
            rest.contains("; credential=\"") && rest.contains("; credential-type=\"password\""),
            "{rest}"
        );
        let ends: u64 = username.split(':').next().unwrap_or_default().parse()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
        assert!((now + 11 * 3600..now + 13 * 3600).contains(&ends), "{username}");
        names.push(username.to_owned());
        for preflight in [true, false] {
            let mut request = Client::new().request(Method::OPTIONS, program.url(path));
            if preflight {
                request = request.header("Access-Control-Request-Method", "POST");
            }
            assert_eq!(links(&request.send().await?), [] as [&str; 0], "{path}");
        }
    }
    assert_ne!(names[0], names[1], "each session has its own");
    assert!(!program.log().contains("shared-with"), "{}", program.log());
    Ok(())
}

#[tokio::test]
async fn e03_where_viewers_may_not_wait_they_are_told_when_to_come_back() -> Result {
    let program = program::node("up").with(&["--broadcasts", "show", "--viewers-wait=false"]).start().await?;
    let early = post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?;
    // Nobody has heard of the other one yet.
    for early in [&early, &post(&program, "/whep/other", offers::CHROMIUM_VIEWER).await?] {
        assert_eq!(early.status(), StatusCode::CONFLICT);
        assert!(header(early, "retry-after").parse::<u32>()? > 0);
    }
    // A page of another origin can read when to come back.
    assert!(header(&early, "access-control-expose-headers").contains("Retry-After"));
    assert_eq!(header(&early, "access-control-allow-origin"), "*");
    let codecs = [Codec::Opus, Codec::H264];
    let (url, options) = (program.url("/whip/show"), client::whip::Options::default());
    let publisher = Whip::connect(&url, None, &codecs, options).await?;
    let playing = tokio::spawn(async move {
        client::demo::play(&client::demo::Clip::built_in(), &publisher).await;
    });
    until("a viewer is let in", || async {
        Ok(post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?.status() == StatusCode::CREATED)
    })
    .await?;
    playing.abort();
    Ok(())
}
#[tokio::test]
async fn e02_a_viewers_malformed_offer_is_refused() -> Result {
    let program = up().await?;
    let request = Client::new().post(program.url("/whep/show")).header("Content-Type", "application/json");
    assert_eq!(request.body("{}").send().await?.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(post(&program, "/whep/show", "v=0\r\nx").await?.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        post(&program, "/whep/nobody", offers::CHROMIUM_VIEWER).await?.status(),
        StatusCode::NOT_FOUND
    );
    Ok(())
}
