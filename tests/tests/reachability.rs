//! `media-tree check`: what keeps clients out is found from outside and told with advice.

use std::process::Stdio;

use anyhow::{Context as _, ensure};
use client::{Whep, Whip};
use model::Codec;
use serde_json::Value;
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program::{self, Program, until};
use tests::turn::{COTURN, SECRET, Turn};
use tests::{installation, tools};

type Result = anyhow::Result<()>;

/// What the program says, and with which code it ends.
async fn check(arguments: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
    let mut command = tokio::process::Command::new(program::path()?);
    command.arg("check").args(arguments).arg("--json").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let found = serde_json::from_str(&said)
        .with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), found))
}

/// The findings of a check, for viewers, publishers or (`null`) both.
fn findings<'a>(found: &'a Value, check: &str, side: &str) -> Vec<&'a Value> {
    let all = found["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_it =
        |finding: &&Value| finding["check"] == check && finding["side"].as_str().unwrap_or("null") == side;
    all.iter().filter(is_it).collect()
}

/// That there is one like it.
fn has(found: &Value, (check, side): (&str, &str), state: &str, words: &str) -> Result {
    let is_it = |finding: &&Value| finding["state"] == state && finding.to_string().contains(words);
    ensure!(
        findings(found, check, side).iter().any(is_it),
        "no {state} of {check} for {side} says {words:?}: {found:#}"
    );
    Ok(())
}

async fn until_nobody_is_left(node: &Program, viewers: f64) -> Result {
    until("its sessions are gone", async || {
        let publishers = node.metric("media_tree_whip_sessions{").await?;
        Ok((publishers, node.metric("media_tree_whep_sessions{").await?) == (viewers, viewers))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_is_well_and_its_broadcast_is_left_alone() -> Result {
    let node = program::node("up").start().await?;
    until("it says who reaches it", async || Ok(node.log().contains("only this machine reaches it"))).await?;
    let codecs = [Codec::Opus, Codec::H264];
    let publisher =
        Whip::connect(&node.url("/whip/show"), None, &codecs, client::whip::Options::default()).await?;
    let playing = tokio::spawn(async move {
        client::demo::play(&client::demo::Clip::built_in(), &publisher).await;
        drop(publisher);
    });
    installation::until_live(&node, "show").await?;
    let mut viewer = Whep::connect(&node.url("/whep/show"), None).await?;
    installation::receive(&mut viewer, 30).await?;
    for url in [node.url("/"), node.url("/whep/show"), node.url("/whip/show")] {
        let (code, found) = check(&[&url]).await?;
        ensure!(code == Some(0) && found["is_good"] == true, "{found:#}");
        has(&found, ("http", "null"), "good", "takes connections")?;
        for side in ["whip", "whep"] {
            has(&found, ("browsers", side), "good", "CORS")?;
            has(&found, ("addresses", side), "note", "own machine")?;
            has(&found, ("udp", side), "good", "127.0.0.1")?;
            has(&found, ("tcp", side), "good", "127.0.0.1")?;
            has(&found, ("connection", side), "good", "connected")?;
        }
        has(&found, ("turn", "whep"), "note", "no TURN server")?;
        has(&found, ("media", "whep"), "good", "picture and sound come")?;
        until_nobody_is_left(&node, 1.0).await?;
    }
    // Whoever was on air is, and nothing is left of the check.
    let before = viewer.stats().video.packets;
    until("the picture goes on", async || Ok(viewer.stats().video.packets > before)).await?;
    // A broadcast whose publisher has gone waits for it for a minute, as any does.
    let known: Value = reqwest::get(node.url("/api/v1/broadcasts")).await?.json().await?;
    let known = known.as_array().context("a list")?;
    let is_left = |entry: &&Value| entry["state"] == "live" || entry["viewers"] != 0;
    let left: Vec<&Value> = known.iter().filter(is_left).map(|entry| &entry["id"]).collect();
    ensure!(left == ["show"], "{known:?}");
    playing.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_without_udp_is_told_with_the_port_to_open() -> Result {
    const NAME: &str = "a_firewall_without_udp_is_told_with_the_port_to_open";
    if !tools::is_root(NAME) {
        return Ok(());
    }
    let hosts = Hosts::new(71, &["node"])?;
    let node = hosts.node("up", "node", &[]).start().await?;
    let (url, token) = (node.url("/"), ["--token", PUBLISH_TOKEN]);
    let (code, found) = check(&[&[url.as_str()], &token[..]].concat()).await?;
    ensure!(code == Some(0), "{found:#}");
    has(&found, ("addresses", "whep"), "note", "same network")?;
    has(&found, ("certificate", "null"), "warning", "plain HTTP")?;
    let path = Path { lets_no_udp: true, ..Path::default() };
    hosts.join(hosts.here(), hosts.host("node").address, path);
    let (code, found) = check(&[&[url.as_str()], &token[..]].concat()).await?;
    ensure!(code == Some(1) && found["is_good"] == false, "{found:#}");
    has(&found, ("udp", "whip"), "bad", &format!("Open UDP port {}", node.ingest_port))?;
    has(&found, ("tcp", "whip"), "good", &node.ingest_port.to_string())?;
    has(&found, ("connection", "whip"), "skipped", "UDP")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_is_comes_with_advice() -> Result {
    // Nobody listens on this port: the listener that had it is gone.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (code, found) = check(&[&format!("http://{closed}/")]).await?;
    ensure!(code == Some(1), "{found:#}");
    has(&found, ("http", "null"), "bad", "is the node running")?;
    let (code, found) = check(&["https://no-such-name.invalid/"]).await?;
    ensure!(code == Some(1), "{found:#}");
    has(&found, ("name", "null"), "bad", "DNS")?;
    // Of those that are offered the first one leads nowhere (RFC 5737): ffmpeg would not come in.
    let node = program::node("up").with(&["--public-ip", "192.0.2.7"]).start().await?;
    let (code, found) = check(&[&node.url("/")]).await?;
    ensure!(code == Some(0), "others come in: {found:#}");
    has(&found, ("udp", "whip"), "warning", "192.0.2.7")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_told() -> Result {
    let folder = tempfile::tempdir()?;
    let node = async |name: &str| -> anyhow::Result<(Program, String, String)> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
        let file = |kind: &str| folder.path().join(format!("{name}-{kind}")).display().to_string();
        let (chain, key) = (file("chain"), file("key"));
        std::fs::write(&chain, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        let arguments =
            ["--tls-certificate", &chain, "--tls-key", &key, "--publish-tokens", "secret-of-tests"];
        let node = program::node("up").with(&arguments).start().await?;
        let url = format!("https://{}/", node.http);
        Ok((node, url, chain))
    };
    let (_good, url, chain) = node("127.0.0.1").await?;
    let token = ["--token", "secret-of-tests"];
    let (code, found) = check(&[&[url.as_str(), "--ca", &chain], &token[..]].concat()).await?;
    ensure!(code == Some(0), "{found:#}");
    has(&found, ("certificate", "null"), "good", "valid until 4096-01-01")?;
    // A stranger to this machine: clients stay away, and all else works.
    let (code, found) = check(&[&[url.as_str()], &token[..]].concat()).await?;
    ensure!(code == Some(1), "{found:#}");
    has(&found, ("certificate", "null"), "bad", "authority")?;
    has(&found, ("connection", "whep"), "good", "connected")?;
    // Who shows no token is told which one to give, and the viewers' side cannot be tried either.
    let (code, found) = check(&[&url, "--ca", &chain]).await?;
    ensure!(code == Some(1), "{found:#}");
    has(&found, ("session", "whip"), "skipped", "--token")?;
    let (_other, url, chain) = node("other.example").await?;
    let (code, found) = check(&[&[url.as_str(), "--ca", &chain], &token[..]].concat()).await?;
    ensure!(code == Some(1), "{found:#}");
    has(&found, ("certificate", "null"), "bad", "not for 127.0.0.1")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn turn_servers_that_are_told_are_asked() -> Result {
    const NAME: &str = "turn_servers_that_are_told_are_asked";
    if !tools::has(NAME, COTURN) {
        return Ok(());
    }
    let turn = Turn::start().await?;
    let places = ["udp", "tcp"].map(|transport| turn.url(transport));
    // Nobody is there.
    let silent = format!("turns:127.0.0.1:{}?transport=tcp", turn.port + 5);
    let servers = [&places[..], std::slice::from_ref(&silent)].concat().join(",");
    let node = program::node("up").environment(&[("MEDIA_TREE_ICE_SERVERS", servers)]);
    let node = node.with(&["--turn-secret", SECRET]).start().await?;
    let (code, found) = check(&[&node.url("/")]).await?;
    ensure!(code == Some(0), "{found:#}");
    for place in &places {
        has(&found, ("turn", "whep"), "good", place)?;
    }
    has(&found, ("turn", "whep"), "warning", &silent)
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_in_words() -> Result {
    let node = program::node("up").with(&["--media-tcp=false"]).start().await?;
    let mut command = tokio::process::Command::new(program::path()?);
    let output = command.args(["check", &node.url("/")]).stdin(Stdio::null()).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{said}");
    for words in
        ["good     publishers, UDP", "note     viewers, TCP", "> Set media.tcp = true", "all is well"]
    {
        ensure!(said.contains(words), "{words:?} is not in {said}");
    }
    Ok(())
}
