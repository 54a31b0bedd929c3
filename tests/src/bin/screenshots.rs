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
    Ok(())
}

fn image(name: &str) -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    std::fs::create_dir_all(&folder).context("make docs/images")?;
    Ok(folder.join(name))
}
