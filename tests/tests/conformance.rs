//! WHIP (RFC 9725) and WHEP, line by line, against the real program over HTTP. Each test is named after its line.

use std::time::Duration;

use anyhow::Context as _;
use client::{Whep, Whip};
use model::Codec;
use reqwest::{Client, Method, Response, StatusCode};
use tests::offers::{self, attributes, crlf, sections};
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
async fn w01_a_post_makes_a_session() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let response = post(&program, path, offer).await?;
        assert_eq!(response.status(), StatusCode::CREATED, "{path}");
        assert_eq!(header(&response, "content-type"), "application/sdp");
        assert!(
            header(&response, "location").starts_with(&program.url(path)),
            "{}",
            header(&response, "location")
        );
        assert!(response.text().await?.starts_with("v=0\r\n"));
    }
    Ok(())
}

#[tokio::test]
async fn w02_other_content_types_are_refused() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        for (content_type, expected) in [
            (Some("text/plain"), StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (None, StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (Some("application/sdp; charset=utf-8"), StatusCode::CREATED),
        ] {
            let mut request = Client::new().post(program.url(path)).body(crlf(offer));
            if let Some(content_type) = content_type {
                request = request.header("Content-Type", content_type);
            }
            assert_eq!(request.send().await?.status(), expected, "{path} {content_type:?}");
        }
    }
    Ok(())
}

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

#[tokio::test]
async fn w04_the_answer_follows_the_offer_section_by_section() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let answer = post(&program, path, offer).await?.text().await?;
        let (asked, answered) = (sections(offer), sections(&answer));
        assert_eq!(asked.len(), answered.len(), "{path}");
        for (asked, answered) in asked.iter().zip(&answered) {
            assert_eq!(asked.split(' ').next(), answered.split(' ').next());
            assert_eq!(attributes(asked, "mid"), attributes(answered, "mid"));
        }
        let group = attributes(&answer, "group");
        assert!(group.len() == 1 && group[0].starts_with("BUNDLE "), "{group:?}");
    }
    Ok(())
}

#[tokio::test]
async fn w05_a_publisher_may_offer_sendonly_or_sendrecv() -> Result {
    let program = up().await?;
    for direction in ["a=sendonly", "a=sendrecv"] {
        let offer = offers::CHROMIUM_PUBLISHER.replace("a=sendonly", direction);
        let response = post(&program, "/whip/show", &offer).await?;
        assert_eq!(response.status(), StatusCode::CREATED, "{direction}");
        for section in sections(&response.text().await?) {
            assert!(section.contains("a=recvonly"), "{section}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn w06_the_wrong_direction_is_refused() -> Result {
    let program = up().await?;
    for (path, offer, right) in [
        ("/whip/show", offers::CHROMIUM_PUBLISHER, "a=sendonly"),
        ("/whep/show", offers::CHROMIUM_VIEWER, "a=recvonly"),
    ] {
        let wrong = if right == "a=sendonly" { "a=recvonly" } else { "a=sendonly" };
        for direction in [wrong, "a=inactive"] {
            let response = post(&program, path, &offer.replace(right, direction)).await?;
            assert!(response.status().is_client_error(), "{path} {direction} {}", response.status());
        }
    }
    Ok(())
}

#[tokio::test]
async fn w07_get_answers_without_content() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        assert_eq!(reqwest::get(program.url(path)).await?.status(), StatusCode::NO_CONTENT, "{path}");
        let created = post(&program, path, offer).await?;
        let session = reqwest::get(header(&created, "location")).await?;
        assert_eq!(session.status(), StatusCode::NO_CONTENT, "{path}");
        assert!(session.text().await?.is_empty());
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
async fn w11_preflight_works_without_a_token() -> Result {
    let program = program::node("up")
        .with(&["--broadcasts", "show", "--publish-tokens", "publish-secret", "--view-tokens", "view-secret"])
        .start()
        .await?;
    for path in ["/whip/show", "/whep/show", "/whip/show/00000000-0000-4000-8000-000000000000"] {
        let request = Client::new().request(Method::OPTIONS, program.url(path));
        let request = request.header("Origin", "https://elsewhere.example");
        let request = request.header("Access-Control-Request-Method", "POST");
        let response = request.header("Access-Control-Request-Headers", "authorization").send().await?;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        for method in ["POST", "PATCH", "DELETE"] {
            assert!(header(&response, "access-control-allow-methods").contains(method));
        }
        for name in ["Authorization", "Content-Type", "If-Match"] {
            assert!(header(&response, "access-control-allow-headers").contains(name));
        }
        for name in ["Location", "ETag", "Link", "Retry-After"] {
            assert!(header(&response, "access-control-expose-headers").contains(name));
        }
    }
    Ok(())
}

#[tokio::test]
async fn w12_options_names_the_media_type() -> Result {
    let program = up().await?;
    for (path, _) in ENDPOINTS {
        let response = Client::new().request(Method::OPTIONS, program.url(path)).send().await?;
        assert_eq!(
            (response.status(), header(&response, "accept-post")),
            (StatusCode::OK, "application/sdp")
        );
    }
    Ok(())
}

#[tokio::test]
async fn w22_the_answer_has_all_candidates() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let answer = post(&program, path, offer).await?.text().await?;
        assert!(!attributes(&answer, "candidate").is_empty(), "{answer}");
        assert!(!attributes(&answer, "end-of-candidates").is_empty(), "{answer}");
    }
    Ok(())
}

#[tokio::test]
async fn w30_everything_shares_one_transport() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        for section in sections(&post(&program, path, offer).await?.text().await?) {
            for flag in ["rtcp-mux", "rtcp-mux-only"] {
                assert_eq!(attributes(&section, flag).len(), 1, "{path} {flag}\n{section}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn w31_a_second_video_is_refused() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let video =
            sections(offer).into_iter().find(|section| section.starts_with("m=video")).context("video")?;
        let mid = attributes(&video, "mid")[0].to_owned();
        let second = video.replace(&format!("a=mid:{mid}"), "a=mid:second");
        let group = attributes(offer, "group")[0];
        let offer = offer.replace(&format!("a=group:{group}"), &format!("a=group:{group} second"));
        let status = post(&program, path, &format!("{}{second}", crlf(&offer))).await?.status();
        assert!(matches!(status.as_u16(), 400 | 422), "{path} {status}");
    }
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
async fn e01_a_viewer_may_offer_recvonly_or_sendrecv() -> Result {
    let program = up().await?;
    for direction in ["a=recvonly", "a=sendrecv"] {
        let offer = offers::CHROMIUM_VIEWER.replace("a=recvonly", direction);
        let response = post(&program, "/whep/show", &offer).await?;
        assert_eq!(response.status(), StatusCode::CREATED, "{direction}");
        for section in sections(&response.text().await?) {
            assert!(section.contains("a=sendonly"), "{section}");
        }
    }
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

#[tokio::test]
async fn e06_audio_and_video_are_one_stream() -> Result {
    let program = up().await?;
    let answer = post(&program, "/whep/show", offers::CHROMIUM_VIEWER).await?.text().await?;
    let streams: std::collections::BTreeSet<&str> =
        attributes(&answer, "msid").iter().filter_map(|msid| msid.split(' ').next()).collect();
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert_eq!(attributes(&answer, "msid").len(), 2);
    Ok(())
}

#[tokio::test]
async fn t01_a_publisher_without_candidates_connects() -> Result {
    let program = up().await?;
    let options =
        client::whip::Options { candidates_in_offer: false, rtx: false, ..client::whip::Options::default() };
    let session =
        Whip::connect(&program.url("/whip/show"), None, &[Codec::Opus, Codec::H264], options).await?;
    session.close().await?;
    Ok(())
}

#[tokio::test]
async fn t02_the_location_is_absolute_and_has_no_query() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let created = post(&program, path, offer).await?;
        let location = header(&created, "location");
        assert!(location.starts_with("http://") && !location.contains('?'), "{location}");
    }
    Ok(())
}

#[tokio::test]
async fn t03_the_answer_is_short_and_begins_with_a_reachable_ipv4_candidate() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS.into_iter().chain([("/whip/show", offers::FFMPEG_PUBLISHER)]) {
        let answer = post(&program, path, offer).await?.text().await?;
        assert!(answer.len() < 8192, "{} bytes", answer.len());
        let first: Vec<&str> = attributes(&answer, "candidate")[0].split(' ').collect();
        assert_eq!(
            (first[2].to_ascii_lowercase().as_str(), first[4], first[6], first[7]),
            ("udp", "127.0.0.1", "typ", "host")
        );
    }
    Ok(())
}

#[tokio::test]
async fn t04_a_passive_offer_makes_the_server_the_dtls_client() -> Result {
    let program = up().await?;
    let answer = post(&program, "/whip/show", offers::FFMPEG_PUBLISHER).await?.text().await?;
    assert!(attributes(&answer, "setup").iter().all(|setup| *setup == "active"), "{answer}");
    let offer = offers::CHROMIUM_VIEWER.replace("a=setup:actpass", "a=setup:passive");
    let answer = post(&program, "/whep/show", &offer).await?.text().await?;
    assert!(attributes(&answer, "setup").iter().all(|setup| *setup == "active"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn t06_attributes_that_clients_leave_out_are_not_missed() -> Result {
    let program = up().await?;
    for (path, offer) in ENDPOINTS {
        let bare: String = crlf(offer)
            .split_inclusive("\r\n")
            .filter(|line| {
                let dispensable = ["a=rtcp-mux-only", "a=msid", "a=extmap-allow-mixed", "a=rtcp-rsize"];
                !dispensable.iter().any(|attribute| line.starts_with(attribute))
            })
            .collect();
        assert_eq!(post(&program, path, &bare).await?.status(), StatusCode::CREATED, "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn t07_lines_end_with_crlf_and_layers_stand_on_one_line() -> Result {
    let program = up().await?;
    let answer = post(&program, "/whip/show", offers::OBS_SIMULCAST).await?.text().await?;
    assert_eq!(answer.matches('\n').count(), answer.matches("\r\n").count());
    assert_eq!(attributes(&answer, "simulcast"), ["recv 0;1;2"], "{answer}");
    assert_eq!(post(&program, "/whip/show", offers::OBS_PUBLISHER).await?.status(), StatusCode::CREATED);
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
    assert_eq!(early.status(), StatusCode::CONFLICT);
    assert!(header(&early, "retry-after").parse::<u32>()? > 0);
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
