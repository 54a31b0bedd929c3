//! Publishers and viewers whose network lets no UDP out: browsers connect over TCP.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::browser::Browser;
use tests::network::{Hosts, PUBLISH_TOKEN, Path};
use tests::program::{self, PATIENCE, until};
use tests::{tools, watching};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

type Result = anyhow::Result<()>;

const CHROMIUM: &str = "/usr/bin/chromium";
const FIREFOX: &str = "/usr/bin/firefox-esr";
const WHILE: Duration = Duration::from_secs(5);
/// Nearly every network lets connections to this port out.
const HTTPS_PORT: u16 = 443;

#[tokio::test(flavor = "multi_thread")]
async fn browsers_publish_and_watch_where_no_udp_gets_through() -> Result {
    let name = "browsers_publish_and_watch_where_no_udp_gets_through";
    if !tools::has(name, CHROMIUM) || !tools::has(name, FIREFOX) || !tools::is_root(name) {
        return Ok(());
    }
    let hosts = Hosts::new(62, &["in", "out"])?;
    let path = Path { delay: Duration::from_millis(5), lets_no_udp: true, ..Path::default() };
    for host in ["in", "out"] {
        hosts.join(hosts.here(), hosts.host(host).address, path);
    }
    let injection = hosts.node("injection", "in", &[]).start().await?;
    let egress = hosts.node("egress", "out", &["in"]).with(&["--broadcasts", "show"]);
    let egress = egress.with_media_port(HTTPS_PORT).start().await?;
    let chromium = Browser::chromium().await?;
    let url = injection.url(&format!("/publish/show#key={PUBLISH_TOKEN}"));
    let _publisher = watching::publish_test_picture(&chromium, &url, "vp8").await.context("publish")?;
    for browser in [&chromium, &Browser::firefox().await?] {
        let page = watching::open_player(browser, &egress.url("/watch/show")).await.context("watch")?;
        let before = page.evaluate("mediaTree.stats()").await?;
        let wanted = before["framesDecoded"].as_u64().context("a count")? + 30 * WHILE.as_secs();
        page.wait_until(
            &format!("mediaTree.stats().then((stats) => stats.framesDecoded > {wanted})"),
            6 * WHILE,
        )
        .await
        .context("the picture goes on")?;
        ensure!(egress.metric("media_tree_media_tcp_connections{").await? == 1.0, "another way");
        ensure!(page.errors().is_empty(), "{:?}", page.errors());
        page.close().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_of_one_address_are_bounded_over_all_ports() -> Result {
    /// See `node::ice_tcp`.
    const OF_ONE_ADDRESS: usize = 64;
    let node = program::node("up").start().await?;
    let ports = [node.media_port, node.media_port + 1, node.ingest_port];
    let mut silent = Vec::new();
    for port in ports.into_iter().cycle().take(2 * OF_ONE_ADDRESS) {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await?);
    }
    let open = async || node.metric("media_tree_media_tcp_connections{").await;
    until("as many as may be are let in", async || Ok(open().await? == OF_ONE_ADDRESS as f64)).await?;
    // The others are closed at once, and those that say nothing after a while.
    for stream in &mut silent {
        let closed = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await.context("still open")?;
        ensure!(closed.unwrap_or(0) == 0);
    }
    until("nothing is left", async || Ok(open().await? == 0.0)).await
}
