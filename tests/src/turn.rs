//! A TURN server: coturn of Debian, for one test.

use std::process::Stdio;

use anyhow::Context as _;
use aws_lc_rs::digest::{self, SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::PublicKeyData as _;
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
    /// Its port for TLS.
    tls_port: u16,
    /// SHA-256 of its certificate's public key in base64, as Chromium wants to be told whom it may trust.
    pub key_hash: String,
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
        let tls_port = port + 1;
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).display().to_string();
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        std::fs::write(file("certificate"), made.cert.pem())?;
        std::fs::write(file("key"), made.signing_key.serialize_pem())?;
        let public_key = made.signing_key.subject_public_key_info();
        let key_hash = BASE64_STANDARD.encode(digest::digest(&SHA256, &public_key));
        let mut command = Command::new(COTURN);
        command.args(["-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", "--allow-loopback-peers"]);
        command.args(["--no-dtls", "--no-cli", "--use-auth-secret", "--realm=example.net"]);
        command.arg(format!("--static-auth-secret={SECRET}")).arg(format!("--listening-port={port}"));
        command.arg(format!("--tls-listening-port={tls_port}"));
        command.arg(format!("--cert={}", file("certificate"))).arg(format!("--pkey={}", file("key")));
        command.arg(format!("--pidfile={}", file("pid"))).arg(format!("--userdb={}", file("users")));
        command.arg(format!("--log-file={}", file("log")));
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let process = command.spawn().context("start coturn")?;
        until("the TURN server listens", async || {
            Ok(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok())
        })
        .await?;
        Ok(Self { port, tls_port, key_hash, _process: process, _folder: folder })
    }

    /// Its URL for this transport: `udp`, `tcp` or `tls`.
    #[must_use]
    pub fn url(&self, transport: &str) -> String {
        match transport {
            "tls" => format!("turns:127.0.0.1:{}?transport=tcp", self.tls_port),
            _ => format!("turn:127.0.0.1:{}?transport={transport}", self.port),
        }
    }
}
