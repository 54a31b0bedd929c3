//! What an operator sees of a running installation: figures, and the log.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession, Whip, WhipSession, demo, whip};
use model::Codec;
use reqwest::{Client, StatusCode, header};
use serde_json::Value;
use tests::installation::{Installation, Viewer, receive, until_live, until_parents};
use tests::offers;
use tests::program::{Program, node, until};
use tests::source::{Shape, Source};

type Result = anyhow::Result<()>;

async fn text(program: &Program) -> anyhow::Result<String> {
    Ok(reqwest::get(format!("http://{}/metrics", program.ops)).await?.text().await?)
}

/// A viewer of the demo clip, which goes on to receive until the test ends.
async fn demo() -> anyhow::Result<(Program, WhepSession, String)> {
    let program = node("up").with(&["--demo"]).start().await?;
    until("the demo is live", || async { Ok(program.metric("pipeline_up{").await? == 1.0) }).await?;
    let session = Whep::connect(&program.url("/whep/demo"), None).await?;
    let url = session.url().to_owned();
    Ok((program, session, url))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_and_a_viewer_are_seen_in_figures() -> Result {
    let (program, mut viewer, _) = demo().await?;
    let receiving = tokio::spawn(async move { while viewer.receive().await.is_some() {} });
    let video = r#"kind="video""#;
    until("the publisher's picture is described", || async {
        let text = text(&program).await?;
        let has =
            |name: &str, label: &str| text.lines().any(|line| line.starts_with(name) && line.contains(label));
        Ok(has("media_tree_publisher_stream_info{", r#"codec="H264""#)
            && has("media_tree_publisher_keyframe_age_seconds{", video)
            && has("media_tree_publisher_keyframe_interval_seconds{", video)
            && has("media_tree_publisher_b_frames{", video)
            && has("media_tree_publisher_jitter_seconds{", r#"kind="audio""#)
            && has("media_tree_publisher_av_skew_seconds{", "demo")
            && has("media_tree_ring_age_seconds{", video))
    })
    .await?;
    until("the viewer has reported how it receives", || async {
        let reports = program.metric_with("media_tree_viewer_loss_ratio_count{", video).await?;
        let jitter = program.metric_with("media_tree_viewer_jitter_seconds_count{", video).await?;
        let latency = program.metric("media_tree_end_to_end_latency_seconds_count{").await?;
        Ok(reports > 0.0 && jitter == reports && latency > 0.0)
    })
    .await?;
    ensure!(program.metric("media_tree_publisher_picture_height_pixels{").await? > 0.0);
    let age = program.metric("media_tree_publisher_keyframe_age_seconds{").await?;
    let interval = program.metric("media_tree_publisher_keyframe_interval_seconds{").await?;
    println!("a keyframe each {interval} s, the newest {age} s ago");
    for name in [
        "media_tree_publisher_rtp_packets_total{",
        "media_tree_publisher_bitrate_bits_per_second{",
        "media_tree_uptime_seconds{",
        "media_tree_open_files{",
        "media_tree_cpu_cores{",
        "media_tree_port_pool_size{",
        "media_tree_udp_media_sockets{",
        "media_tree_store_up{",
        "media_tree_store_operation_seconds_count{",
        "media_tree_controller_is_leader{",
        "media_tree_controller_reconcile_seconds_count{",
    ] {
        ensure!(program.metric(name).await? > 0.0, "{name} shows nothing");
    }
    ensure!(program.metric_with("media_tree_broadcasts{", r#"state="live""#).await? == 1.0);
    ensure!(program.metric("media_tree_port_pool_used{").await? == 1.0);
    receiving.abort();
    Ok(())
}

/// Plays to a publisher while this is done. Then it stays connected and sends nothing.
async fn while_played<T>(
    publisher: &WhipSession,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let clip = demo::Clip::built_in();
    tokio::select! {
        ending = demo::play(&clip, publisher) => anyhow::bail!("the publisher ended: {ending:?}"),
        done = work => done,
    }
}

/// Waits until each of these nodes says so of the only broadcast that it has a series of.
async fn until_pipelines(what: &str, wanted: &[(&Program, f64)]) -> Result {
    until(what, || async {
        for (node, wanted) in wanted {
            let text = text(node).await?;
            let values = text.lines().filter(|line| line.starts_with("pipeline_up{"));
            let values: Vec<f64> = values.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
            if values != [*wanted] {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn media_that_does_not_come_is_seen_where_it_is_missing() -> Result {
    let controller = node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let watched = installation.node("egress", "watched").start().await?;
    let idle = installation.node("egress", "idle").start().await?;
    for name in ["watched", "idle"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let codecs = [Codec::Opus, Codec::H264];
    let publisher =
        Whip::connect(&injection.url("/whip/show"), None, &codecs, whip::Options::default()).await?;
    let viewer = while_played(&publisher, async {
        until_live(&watched, "show").await?;
        let mut viewer = Whep::connect(&watched.url("/whep/show"), None).await?;
        receive(&mut viewer, 10).await?;
        let all = [(&injection, 1.0), (&watched, 1.0), (&idle, 1.0)];
        until_pipelines("media flows, and would where nobody watches", &all).await?;
        Ok(viewer)
    })
    .await?;
    let silent = [(&injection, 0.0), (&watched, 0.0), (&idle, 1.0)];
    until_pipelines("the publisher is connected and silent", &silent).await?;
    until_live(&watched, "show").await?;
    while_played(&publisher, async {
        let all = [(&injection, 1.0), (&watched, 1.0), (&idle, 1.0)];
        until_pipelines("media flows again", &all).await?;
        injection.signal("KILL")?;
        until_pipelines("no parent is left", &[(&watched, 0.0), (&idle, 0.0)]).await
    })
    .await?;
    drop(viewer);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_gets_the_format_that_it_asks_for() -> Result {
    let program = node("up").start().await?;
    let scrape = async |accept: &str| -> anyhow::Result<(String, String)> {
        let url = format!("http://{}/metrics", program.ops);
        let response = Client::new().get(url).header(header::ACCEPT, accept).send().await?;
        let content_type = response.headers()[header::CONTENT_TYPE].to_str()?.to_owned();
        Ok((content_type, response.text().await?))
    };
    let (content_type, text) = scrape("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await?;
    ensure!(content_type.starts_with("application/openmetrics-text"), "{content_type}");
    ensure!(text.ends_with("# EOF\n") && text.contains("# TYPE media_tree_joins counter\n"), "{text}");
    let (content_type, text) = scrape("text/plain").await?;
    ensure!(content_type.starts_with("text/plain; version=0.0.4"), "{content_type}");
    ensure!(!text.contains("# EOF") && text.contains("# TYPE media_tree_joins_total counter\n"), "{text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_player_reports_and_nobody_else_does() -> Result {
    let (program, viewer, url) = demo().await?;
    let client = Client::new();
    let post = async |url: &str, body: String| -> anyhow::Result<StatusCode> {
        Ok(client.post(format!("{url}/beacon")).body(body).send().await?.status())
    };
    let taken = r#"{"firstFrameMs":250,"latencyMs":180,"watchedMs":5000,"freezes":1,"freezeMs":300,
                    "packetsReceived":1000,"packetsLost":1}"#;
    assert_eq!(post(&url, taken.to_owned()).await?, StatusCode::NO_CONTENT);
    assert_eq!(post(&url, r#"{"latencyMs":-1}"#.to_owned()).await?, StatusCode::BAD_REQUEST);
    assert_eq!(post(&url, format!("{{}}{}", " ".repeat(2000))).await?, StatusCode::BAD_REQUEST);
    assert_eq!(post(&url, taken.to_owned()).await?, StatusCode::TOO_MANY_REQUESTS, "four in a row");
    let (endpoint, _) = url.rsplit_once('/').context("a session")?;
    let nobody = post(&format!("{endpoint}/{}", "0".repeat(32)), taken.to_owned()).await?;
    assert_eq!(nobody, StatusCode::NOT_FOUND);
    viewer.close().await.context("close")?;
    for _ in 0..2 {
        assert_eq!(post(&url, taken.to_owned()).await?, StatusCode::NO_CONTENT, "last words may come last");
    }
    for (result, count) in
        [("taken", 2.0), ("malformed", 2.0), ("too_often", 1.0), ("unknown_session", 1.0), ("late", 1.0)]
    {
        let label = format!("result=\"{result}\"");
        let found = program.metric_with("media_tree_player_reports_total{", &label).await?;
        assert_eq!(found, count, "{result}");
    }
    assert_eq!(program.metric("media_tree_player_latency_seconds_count{").await?, 2.0);
    assert_eq!(program.metric("media_tree_player_freezes_total{").await?, 2.0);
    Ok(())
}

/// The lines of a node's log, in order.
fn lines(program: &Program) -> Vec<Value> {
    program.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Those of them that say this.
fn said(program: &Program, message: &str) -> Vec<Value> {
    lines(program).into_iter().filter(|line| line["message"] == message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_whence_clients_come_only_if_it_is_asked_to() -> Result {
    // A proxy on this machine asks for them.
    const CLIENT: &str = "198.51.100.7";
    for is_asked in [false, true] {
        let setting = format!("--log-client-addresses={is_asked}");
        let more = ["--broadcasts=show", "--trusted-proxies=127.0.0.0/8", "--log-filter=debug", &setting];
        let program = node("up").with(&more).start().await?;
        let client = Client::new();
        for (path, offer) in
            [("/whip/show", offers::CHROMIUM_PUBLISHER), ("/whep/show", offers::CHROMIUM_VIEWER)]
        {
            let request = client.post(program.url(path)).header("X-Forwarded-For", CLIENT);
            let request = request.header(header::CONTENT_TYPE, "application/sdp").body(offers::crlf(offer));
            let answer = request.send().await?;
            ensure!(answer.status() == StatusCode::CREATED, "{path}: {}", answer.status());
            let session = answer.headers()[header::LOCATION].to_str()?.to_owned();
            client.delete(session).send().await?.error_for_status()?;
        }
        for message in ["publisher gone", "viewer gone"] {
            until(message, || async { Ok(!said(&program, message).is_empty()) }).await?;
        }
        let expected = if is_asked { Value::from(CLIENT) } else { Value::Null };
        for (message, count) in [("publisher accepted", 1), ("viewer accepted", 1), ("session deleted", 2)] {
            let lines = said(&program, message);
            ensure!(lines.len() == count, "{message}: {lines:?}");
            ensure!(lines.iter().all(|line| line["client_address"] == expected), "{lines:?}");
        }
        ensure!(program.log().contains(CLIENT) == is_asked, "{}", program.log());
    }
    Ok(())
}

/// The nodes whose logs have lines about this join of a viewer of `show`. Each line says what it is about in fields of its own.
fn found(nodes: &[&Program], join: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let all = nodes.iter().copied().flat_map(lines);
    for line in all.filter(|line| line.to_string().contains(join)) {
        ensure!(line["join"] == join, "not in the words of a message: {line}");
        for field in ["timestamp", "level", "target", "message", "tree_id", "node_id", "node_type"] {
            ensure!(line[field].is_string(), "no {field}: {line}");
        }
        ensure!(line["broadcast"] == "show", "{line}");
        ensure!(line["node_type"] != "egress" || line["viewer"].is_u64(), "{line}");
        found.extend(line["node_id"].as_str().map(str::to_owned));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_join_has_one_name_from_the_front_door_to_its_end() -> Result {
    let controller = node("controller").with(&["--node-id", "door"]).start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").with(&["--region", "here"]).start().await?;
    let there = ["--region", "there"];
    let relays = [
        installation.node("relay", "relay-1").with(&there).start().await?,
        installation.node("relay", "relay-2").with(&there).start().await?,
    ];
    let egress = installation.node("egress", "out").with(&there).start().await?;
    until_parents(&controller, "out", &["relay-1", "relay-2"]).await?;
    let source = Source::publish(&controller.url("/whip/show"), Shape::TINY).await?;
    until_live(&egress, "show").await?;
    let mut viewer = Viewer::join(&controller.url("/whep/show")).await?;
    viewer.watch(10).await?;

    let sent_on = said(&controller, "sent on to another node");
    ensure!(sent_on.len() == 2, "a publisher and a viewer: {sent_on:?}");
    let [publisher, viewer_join] = [&sent_on[0], &sent_on[1]].map(|line| line["join"].as_str().unwrap_or(""));
    ensure!(publisher.len() == 16 && viewer_join.len() == 16 && publisher != viewer_join, "{sent_on:?}");
    ensure!(sent_on.iter().all(|line| line["node_type"] == "controller"), "{sent_on:?}");
    ensure!(sent_on[1]["to"] == "out" && sent_on[1]["right"] == "view", "{sent_on:?}");
    let accepted = said(&injection, "publisher accepted");
    ensure!(accepted.iter().any(|line| line["join"] == publisher), "{accepted:?}");
    // The viewer is the first of its node, so both relays are asked for the broadcast in its name, and ask for it in turn.
    let asked = [(&relays[0], "out"), (&relays[1], "out"), (&injection, "relay-1"), (&injection, "relay-2")];
    for (parent, child) in asked {
        until(&format!("the join of {child} is told"), || async {
            let joins = said(parent, "a child takes the broadcast");
            Ok(joins.iter().any(|line| line["join"] == viewer_join && line["child"] == child))
        })
        .await?;
    }
    for message in ["viewer connected", "first frame"] {
        until(message, || async {
            Ok(said(&egress, message).iter().any(|line| line["join"] == viewer_join))
        })
        .await?;
    }

    let way = found(&[&controller, &injection, &relays[0], &relays[1], &egress], viewer_join)?;
    assert_eq!(way, BTreeSet::from(["door", "in", "out", "relay-1", "relay-2"].map(str::to_owned)));

    let leader = controller.metric("media_tree_controller_is_leader{").await?;
    assert_eq!(leader, 1.0);
    let ready = r#"role="egress",state="ready""#;
    assert_eq!(controller.metric_with("media_tree_controller_nodes{", ready).await?, 1.0);
    ensure!(
        controller.metric_with("media_tree_controller_decisions_total{", r#"kind="assign""#).await? >= 1.0
    );
    ensure!(egress.metric_with("media_tree_parent_rtp_packets_total{", r#"parent="relay-"#).await? > 0.0);
    for relay in &relays {
        until("the relay is fed", || async {
            Ok(relay.metric_with("media_tree_parent_rtp_packets_total{", r#"parent="in""#).await? > 0.0)
        })
        .await?;
    }
    ensure!(!text(&egress).await?.contains("media_tree_controller"), "no decisions are made there");
    drop((source, viewer));
    Ok(())
}
