//! Clients that take more than their share of the public listener.

use std::net::SocketAddr;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use reqwest::{Client, StatusCode};
use tests::joining::Door;
use tests::offers;
use tests::program::{self, Program, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

type Result = anyhow::Result<()>;

/// A connection from this address of the machine that sends the beginning of a request and no more.
async fn half_open(program: &Program, from: [u8; 4]) -> anyhow::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let mut stream = socket.connect(program.http).await.context("connect")?;
    // The node may have closed it already.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-").await;
    Ok(stream)
}

/// Whether the first page comes to a client at this address.
async fn is_served(program: &Program, at: [u8; 4]) -> anyhow::Result<bool> {
    let client = Client::builder().local_address(std::net::IpAddr::from(at)).build()?;
    Ok(client.get(program.url("/")).send().await?.status().is_success())
}

async fn drops(program: &Program, reason: &str) -> anyhow::Result<f64> {
    let text = reqwest::get(format!("http://{}/metrics", program.ops)).await?.text().await?;
    let is_it = |line: &&str| {
        line.starts_with("media_tree_http_connection_drops_total{")
            && line.contains(&format!("reason=\"{reason}\""))
    };
    let line = text.lines().find(is_it).context("no such reason")?;
    Ok(line.rsplit(' ').next().context("a value")?.parse()?)
}

#[tokio::test]
async fn half_open_connections_keep_nobody_out_and_end() -> Result {
    const HALF_OPEN: usize = 500;
    let program = program::node("up").start().await?;
    let mut held = try_join_all((0..HALF_OPEN).map(|_| half_open(&program, [127, 0, 0, 1]))).await?;
    until("all are connected", || async {
        Ok(program.metric("media_tree_http_connections{").await? >= HALF_OPEN as f64)
    })
    .await?;
    assert!(is_served(&program, [127, 0, 0, 1]).await?, "a newcomer at their very address");
    assert!(is_served(&program, [127, 0, 0, 2]).await?);
    until("they are given up", || async { Ok(drops(&program, "too_slow").await? == HALF_OPEN as f64) })
        .await?;
    for stream in &mut held {
        // An end or a reset: either way there is nothing more.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    Ok(())
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() -> Result {
    const OF_ONE: usize = 50;
    let limits = ["--connections-max", "200", "--client-connections-max", &OF_ONE.to_string()];
    let program = program::node("up").with(&limits).start().await?;
    let _held = try_join_all((0..400).map(|_| half_open(&program, [127, 0, 0, 3]))).await?;
    until("the rest is refused", || async {
        Ok(drops(&program, "client_full").await? == (400 - OF_ONE) as f64)
    })
    .await?;
    assert!(is_served(&program, [127, 0, 0, 4]).await?, "there is room for others");
    assert_eq!(drops(&program, "full").await?, 0.0);
    assert!(program.log().matches("HTTP connections refused").count() <= 2, "{}", program.log());
    Ok(())
}

#[tokio::test]
async fn one_address_does_not_take_all_pending_sessions() -> Result {
    const OF_ONE: usize = 10;
    let limits = ["--broadcasts", "show", "--pending-sessions-max", "40"];
    let share = ["--client-pending-sessions-max", &OF_ONE.to_string()];
    let program = program::node("up").with(&limits).with(&share).start().await?;
    let client = Client::new();
    let mut taken = 0;
    for _ in 0..40 {
        let request = client.post(program.url("/whep/show")).header("Content-Type", "application/sdp");
        let response = request.body(offers::crlf(offers::CHROMIUM_VIEWER)).send().await?;
        if response.status() == StatusCode::CREATED {
            taken += 1;
            continue;
        }
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("Content-Type"), Some("application/problem+json"));
        header("Retry-After").context("Retry-After")?.parse::<u32>()?;
        assert!(response.text().await?.contains("too-many-pending"));
    }
    assert_eq!(taken, OF_ONE);
    let door = Door::new(&program, "show")?;
    assert_eq!(door.post().await?.0, 201, "there is room for others");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_trusted_proxy_have_their_limits_each() -> Result {
    let rate = ["--request-rate", "1", "--request-burst", "3"];
    let proxied = program::node("up").with(&rate).with(&["--trusted-proxies", "127.0.0.1"]).start().await?;
    let other = program::node("up").with(&rate).start().await?;
    let client = Client::new();
    let refused = async |program: &Program, behind: &'static str| {
        let mut refused = 0;
        for _ in 0..6 {
            let request = client.delete(program.url("/whep/show/none")).header("X-Forwarded-For", behind);
            refused += u32::from(request.send().await?.status() == StatusCode::TOO_MANY_REQUESTS);
        }
        anyhow::Ok(refused)
    };
    // One more may be let in while the others ask.
    for behind in ["198.51.100.1", "203.0.113.5, 198.51.100.2", "198.51.100.3"] {
        assert!((2..=3).contains(&refused(&proxied, behind).await?), "three at once for {behind}");
    }
    assert!(refused(&other, "198.51.100.1").await? >= 2);
    assert!(refused(&other, "198.51.100.2").await? >= 5, "what nobody vouches for changes nothing");
    Ok(())
}
