//! Takes the pictures of `docs/images/` from the running program: `cargo xtask screenshots`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tests::browser::Browser;
use tests::program::{self, PATIENCE};
use tests::watching;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let node = program::node("up").with(&["--demo"]).start().await?;
    program::until("the demo is live", || async {
        Ok(reqwest::get(node.url("/api/v1/broadcasts")).await?.text().await?.contains("live"))
    })
    .await?;
    let browser = Browser::chromium().await?;

    let player = watching::open_player(&browser, &node.url("/watch/demo")).await?;
    player.resize(1100, 760).await?;
    player.wait_until("mediaTree.stats().then((stats) => stats.framesDecoded > 60)", PATIENCE).await?;
    player.screenshot(&image("watch.png")?).await?;

    let live = browser.open(&node.url("/")).await?;
    live.resize(1100, 500).await?;
    live.wait_until("document.body.textContent.includes('demo')", PATIENCE).await?;
    live.screenshot(&image("live.png")?).await?;

    let publisher = watching::publish_test_picture(&browser, &node.url("/publish/mine"), "h264").await?;
    publisher.resize(1100, 1000).await?;
    publisher.screenshot(&image("publish.png")?).await?;
    dashboard(&browser).await
}

/// A small tree with viewers, one of whose nodes is being drained.
async fn dashboard(browser: &Browser) -> anyhow::Result<()> {
    let up = program::node("up").with(&["--demo", "--node-id", "up-1"]).start().await?;
    let (store, mut egress, mut players) = (up.url(""), Vec::new(), Vec::new());
    for name in ["egress-1", "egress-2"] {
        let arguments = ["--store", &store, "--node-id", name, "--host-name", name];
        let node = program::node("egress").with(&arguments).start().await?;
        players.push(watching::open_player(browser, &node.url("/watch/demo")).await?);
        egress.push(node);
    }
    let page = browser.open(&up.url("/dashboard")).await?;
    page.resize(1400, 620).await?;
    page.wait_until("document.querySelectorAll('.links .carries').length === 2", PATIENCE).await?;
    let drain = up.url("/api/v1/nodes/egress-2/drain");
    let ordered = reqwest::Client::new().post(drain).json(&serde_json::json!({ "deadline_secs": 60 }));
    ordered.send().await?.error_for_status()?;
    page.wait_until("document.getElementById('nodes').textContent.includes('draining')", PATIENCE).await?;
    // By then the links have a rate.
    page.wait_until("mediaTree.updates > 8", PATIENCE).await?;
    page.screenshot(&image("dashboard.png")?).await
}

fn image(name: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    std::fs::create_dir_all(&folder).context("make docs/images")?;
    Ok(folder.join(name))
}
