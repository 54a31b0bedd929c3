//! A broadcast that an operator made before anybody published it: its viewers wait, its key publishes it, nothing else
//! does.

use anyhow::ensure;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tests::installation::{self, Installation, Viewer};
use tests::offers;
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};

type Result = anyhow::Result<()>;

/// What a publisher with this token meets.
async fn publish(program: &Program, token: Option<&str>) -> anyhow::Result<(StatusCode, String)> {
    let mut request = Client::new().post(program.url("/whip/friday"));
    request = request.header("Content-Type", "application/sdp").body(offers::crlf(offers::OBS_PUBLISHER));
    request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let answer = request.send().await?;
    let status = answer.status();
    let problem = serde_json::from_str::<Value>(&answer.text().await?).unwrap_or_default();
    Ok((status, problem["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_wait_for_who_has_the_key() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    let egress = installation.node("egress", "out").start().await?;
    installation::until_parents(&controller, "out", &["in"]).await?;
    ensure!(Viewer::join(&egress.url("/whep/friday")).await.is_err(), "nobody has heard of it");

    let made = Client::new().post(controller.url("/api/v1/broadcasts")).json(&json!({"id": "friday"}));
    let made: Value = made.send().await?.error_for_status()?.json().await?;
    let key = made["publish_key"].as_str().unwrap_or_default().to_owned();
    until("every node knows it", async || {
        let mut is_known = true;
        for node in [&controller, &injection, &egress] {
            let list: Value = reqwest::get(node.url("/api/v1/broadcasts")).await?.json().await?;
            let list = list.as_array().cloned().unwrap_or_default();
            is_known &= list.iter().any(|entry| entry["id"] == "friday" && entry["state"] == "waiting");
        }
        Ok(is_known)
    })
    .await?;
    // Early viewers come by the controller, too, and are sent on.
    let mut early = Viewer::join(&controller.url("/whep/friday")).await?;
    ensure!(early.url().starts_with(&egress.url("/")), "{}", early.url());
    until("the controller counts who waits", async || {
        let view = installation::view(&controller).await?;
        let broadcast = view["broadcasts"].as_array().and_then(|list| list.first()).cloned();
        let broadcast = broadcast.unwrap_or_default();
        Ok(broadcast["viewers"] == 1 && broadcast["origin"].is_null() && broadcast["created"].is_u64())
    })
    .await?;

    // Without configured tokens everybody on this machine may publish, but not this one.
    for node in [&injection, &controller] {
        ensure!(publish(node, None).await? == (StatusCode::UNAUTHORIZED, "token-missing".into()));
        let wrong = publish(node, Some("surely-not-the-key")).await?;
        ensure!(wrong == (StatusCode::UNAUTHORIZED, "token-rejected".into()));
    }
    // The key lets in at the controller, which sends the publisher on with a ticket.
    let source = Source::publish_as(&controller.url("/whip/friday"), Some(&key), Shape::TINY).await?;
    ensure!(source.url().starts_with(&injection.url("/")), "{}", source.url());
    early.watch(20).await?;

    let path = "/api/v1/broadcasts/friday/publish-key";
    let changed = Client::new().post(controller.url(path)).json(&json!({})).send().await?;
    ensure!(changed.error_for_status_ref()?.headers()["cache-control"] == "no-store");
    let changed: Value = changed.json().await?;
    let new_key = changed["publish_key"].as_str().unwrap_or_default().to_owned();
    until("the old key opens nothing", async || {
        Ok(publish(&injection, Some(&key)).await?.0 == StatusCode::UNAUTHORIZED)
    })
    .await?;
    early.watch(20).await?;
    drop(source);
    let source = Source::publish_as(&injection.url("/whip/friday"), Some(&new_key), Shape::TINY).await?;
    early.watch(20).await?;

    for program in [&controller, &injection, &egress] {
        let log = program.log();
        ensure!(!log.contains(&key) && !log.contains(&new_key), "a key in the log: {log}");
    }
    drop(source);
    Ok(())
}
