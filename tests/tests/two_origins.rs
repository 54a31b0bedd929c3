//! Tokens over two origins: everybody asks the controller and is led to a node by 307. Browsers and HTTP libraries do not
//! send `Authorization` on to another origin, so a ticket in the path has to stand for it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::browser::Browser;
use tests::encoders::{self, Encoder};
use tests::installation::{Installation, until_live, until_parents};
use tests::program::{self, Program, until};
use tests::{tools, watching};

type Result = anyhow::Result<()>;

const PUBLISH: &str = "publish-secret-of-two-origins";
const VIEW: &str = "view-secret-of-two-origins";
const LENGTH: Duration = Duration::from_secs(5);

struct Tree {
    controller: Program,
    injection: Program,
    egress: Program,
}

impl Tree {
    async fn grow() -> anyhow::Result<Self> {
        let tokens = ["--publish-tokens", PUBLISH, "--view-tokens", VIEW];
        let controller = program::node("controller").with(&tokens).start().await?;
        let installation = Installation::of(&controller);
        let injection = installation.node("injection", "in").with(&tokens).start().await?;
        let egress = installation.node("egress", "out").with(&tokens).start().await?;
        until_parents(&controller, "out", &["in"]).await?;
        Ok(Self { controller, injection, egress })
    }

    async fn until_nobody_publishes(&self) -> Result {
        until("its session is gone", async || {
            Ok(self.injection.metric("media_tree_whip_sessions{").await? == 0.0)
        })
        .await
    }

    /// Somebody with a browser watches, at the controller's page.
    async fn watch(&self, name: &str, browser: &Browser, broadcast: &str) -> Result {
        let page = self.controller.url(&format!("/watch/{broadcast}"));
        let refused = browser.open(&format!("{page}#key=wrong")).await?;
        refused.wait_until("window.mediaTree?.state === 'key'", program::PATIENCE).await?;
        refused.close().await?;
        let player = watching::open_player(browser, &format!("{page}#key={VIEW}")).await?;
        let seen = watching::watch(&player, LENGTH).await?;
        println!("{name}: {seen}");
        ensure!(seen.frames_decoded > 60, "{seen}");
        ensure!(self.egress.metric("media_tree_viewers{").await? == 1.0, "the egress serves it");
        // Its goodbye goes to the other origin, too.
        player.close().await?;
        until(
            "the viewer is gone",
            async || Ok(self.egress.metric("media_tree_whep_sessions{").await? == 0.0),
        )
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_hold_over_two_origins() -> Result {
    const NAME: &str = "tokens_hold_over_two_origins";
    let parts = encoders::parts_of_libdatachannel().into_iter().chain(encoders::parts_of_ffmpeg());
    let parts = parts.map(|part| part.display().to_string());
    let browsers = ["/usr/bin/chromium", "/usr/bin/firefox-esr"].map(str::to_owned);
    if !parts.chain(browsers).all(|part| tools::has(NAME, &part)) {
        return Ok(());
    }
    let tree = Tree::grow().await?;
    let door = tree.controller.url("/whip/show");

    let folder = tempfile::tempdir()?;
    let certificate = encoders::certificate_of_ffmpeg(folder.path())?;
    let options = [&certificate[..], &[format!("authorization={PUBLISH}")]].concat();
    let mut ffmpeg = Encoder::ffmpeg(&door, &options)?;
    ffmpeg.until("state connected").await.context("ffmpeg through the controller")?;
    until_live(&tree.egress, "show").await?;
    ffmpeg.close().await?;
    tree.until_nobody_publishes().await.context("ffmpeg's goodbye")?;

    Encoder::libdatachannel(&door, Some("wrong"))?.until_failed().await.context("a wrong token")?;
    let mut obs = Encoder::libdatachannel(&door, Some(PUBLISH))?;
    obs.until("state connected").await.context("libdatachannel through the controller")?;
    until_live(&tree.egress, "show").await?;
    let chromium = Browser::chromium().await?;
    tree.watch("Chromium", &chromium, "show").await?;
    ensure!(obs.close().await? == "200");
    tree.until_nobody_publishes().await.context("the goodbye of an encoder like OBS")?;

    // Firefox has no H264 of its own; so a browser publishes for it.
    let page = format!("{}#key={PUBLISH}", tree.controller.url("/publish/second"));
    let publishing = watching::publish_test_picture(&chromium, &page, "vp8").await?;
    until_live(&tree.egress, "second").await?;
    tree.watch("Firefox", &Browser::firefox().await?, "second").await?;
    publishing.close().await?;
    tree.until_nobody_publishes().await.context("the goodbye of a publish page")?;
    for log in [tree.controller.log(), tree.injection.log(), tree.egress.log()] {
        ensure!(!log.contains(PUBLISH) && !log.contains(VIEW), "a token in a log");
    }
    Ok(())
}
