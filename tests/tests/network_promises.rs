//! What the networks of nodes carry is promised once: who would be too much goes elsewhere, or nowhere.

use anyhow::{Context as _, ensure};
use client::{Whep, WhepSession};
use futures_util::future::join_all;
use serde_json::Value;
use tests::installation::{self, Installation, until_live, until_parents, view};
use tests::offers::{CHROMIUM_VIEWER, crlf};
use tests::program::{self, Program, until};
use tests::source::{Shape, Source};

type Result = anyhow::Result<()>;

/// Waits until the controller knows what one viewer of the broadcast takes, in kbit/s.
async fn measured(controller: &Program, broadcast: &str) -> anyhow::Result<u64> {
    let of = |view: &Value| -> Option<u64> {
        let broadcasts = view["broadcasts"].as_array()?;
        broadcasts.iter().find(|it| it["id"] == broadcast)?["rates"]["viewer_kbps"].as_u64()
    };
    until("what the broadcast takes is known", async || Ok(of(&view(controller).await?).is_some())).await?;
    of(&view(controller).await?).context("it is known")
}

async fn join_at(node: &Program) -> Option<WhepSession> {
    Whep::connect(&node.url("/whep/show"), None).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_node_takes_the_viewers_whom_the_first_ones_network_does_not_carry() -> Result {
    let controller = program::node("controller").start().await?;
    let installation = Installation::of(&controller);
    let injection = installation.node("injection", "in").start().await?;
    // Everybody asks the narrow one. Both get their share of the viewers; no share is more than the network carries.
    let narrow = installation.node("egress", "narrow").with(&["--egress-mbps", "12"]).start().await?;
    let wide = installation.node("egress", "wide").with(&["--egress-mbps", "40"]).start().await?;
    for name in ["narrow", "wide"] {
        until_parents(&controller, name, &["in"]).await?;
    }
    let source = Source::publish(&injection.url("/whip/show"), Shape::OBS).await?;
    let kbps = measured(&controller, "show").await?;
    let places = 12_000 / kbps;
    println!("a viewer takes {kbps} kbit/s: the narrow node carries {places}");
    ensure!((1..=12).contains(&places), "the source is not what this test needs: {kbps} kbit/s");
    for node in [&narrow, &wide] {
        until_live(node, "show").await?;
    }

    // All at once: nobody has sent anything to them yet.
    let wanted = places + 6;
    let viewers = join_all((0..wanted).map(|_| join_at(&narrow))).await;
    let viewers: Vec<WhepSession> = viewers.into_iter().flatten().collect();
    ensure!(viewers.len() as u64 == wanted, "{} of {wanted} are in", viewers.len());
    let spread = installation::spread(viewers.iter().map(WhepSession::url));
    println!("they are at {spread:?}");
    // What is measured anew meanwhile counts, too.
    let places = 12_000 / kbps.min(measured(&controller, "show").await?);
    let at_narrow = spread.get(&narrow.url("")).copied().unwrap_or(0) as u64;
    ensure!(at_narrow > 0 && at_narrow <= places, "{at_narrow} at the narrow node, which carries {places}");
    until("the controller shows what is promised", async || {
        let node = installation::node(&controller, "narrow").await?;
        let promised = node["load"]["promised_mbps"].as_f64().unwrap_or(0.0);
        Ok(node["capacity"]["egress_mbps"] == 12 && promised > 0.0 && promised <= 12.0)
    })
    .await?;

    // With the wide one gone nobody else is let in once the narrow one is full, and who is in stays.
    wide.signal("KILL")?;
    drop(wide);
    let more = join_all((0..places + 3).map(|_| join_at(&narrow))).await;
    let more: Vec<WhepSession> = more.into_iter().flatten().collect();
    let here = more.iter().filter(|viewer| viewer.url().starts_with(&narrow.url(""))).count() as u64;
    ensure!(at_narrow + here <= places, "{at_narrow} and {here} at the narrow node, which carries {places}");
    until("the narrow node is full", async || {
        let asked = reqwest::Client::new().post(narrow.url("/whep/show"));
        let asked = asked.header("Content-Type", "application/sdp").body(crlf(CHROMIUM_VIEWER));
        // Until the other node is known to be dead, one is sent there.
        let Ok(answer) = asked.send().await else { return Ok(false) };
        Ok(answer.status() == 503 && answer.text().await?.contains("network"))
    })
    .await?;
    drop((source, viewers));
    Ok(())
}
