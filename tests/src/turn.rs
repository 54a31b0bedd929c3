//! A TURN server: coturn of Debian, for one test.

use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::program::{self, until};

/// Where it is.
pub const COTURN: &str = "/usr/bin/turnserver";
/// What it shares with nodes.
pub const SECRET: &str = "secret-of-tests";

/// It listens on loopback, and leads there. Ends with its value.
pub struct Turn {
    /// Its port, for UDP and TCP.
    pub port: u16,
    _process: Child,
    _folder: TempDir,
}

impl Turn {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// If it does not.
    pub async fn start() -> anyhow::Result<Self> {
        let port = program::free_ports()?;
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new(COTURN);
        command.args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"]);
        command.args(["--no-tls", "--no-dtls", "--no-cli", "--use-auth-secret", "--realm=example.net"]);
        command.arg(format!("--static-auth-secret={SECRET}")).arg(format!("--listening-port={port}"));
        command.arg(format!("--pidfile={}", file("pid"))).arg(format!("--userdb={}", file("users")));
        command.arg(format!("--log-file={}", file("log")));
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().context("start coturn")?;
        until("the TURN server listens", async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        })
        .await?;
        Ok(Self { port, _process: process, _folder: folder })
    }

    /// Its URL for this transport, `udp` or `tcp`.
    #[must_use]
    pub fn url(&self, transport: &str) -> String {
        format!("turn:127.0.0.1:{}?transport={transport}", self.port)
    }
}
