//! The RTMP listener: encoders without WHIP publish here.
//!
//! One task for each connection drives [`rtmp::Connection`], makes tree packets of what comes (`media`), and hands them to
//! the tree thread. Coding sound takes time that the tree thread does not have. The task reads no more while that thread is
//! behind, so what waits is bounded by the kernel's buffers, and the encoder notices.
//!
//! TLS is told from plain RTMP by the first byte.

mod connection;
mod media;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use telemetry::node::ConnectionCounters;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::http::{Admission, App, Limits};

/// Connections beyond the publishers that a node may have: those that do not publish yet.
const CONNECTIONS_SPARE: u32 = 64;
/// Connections of one client address.
const CLIENT_CONNECTIONS_MAX: u32 = 32;
/// Until the first byte, and for a TLS handshake.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// The first byte of TLS: a handshake record (RFC 8446, section 5.1). RTMP begins with its version, 3.
const TLS_HANDSHAKE: u8 = 22;

/// What the listener needs beside its socket.
pub struct Door {
    /// What requests share.
    pub app: Arc<App>,
    /// With a certificate, RTMPS is spoken to whoever begins with it.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Keys may cross the network in clear.
    pub allows_plain: bool,
}

/// Accepts connections for as long as the node lives.
///
/// # Errors
/// If the socket cannot be used.
pub fn serve(listener: std::net::TcpListener, door: Door) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let publishers = u32::try_from(door.app.publishers_max).unwrap_or(u32::MAX);
    let limits = Limits {
        connections_max: publishers.saturating_add(CONNECTIONS_SPARE),
        client_connections_max: CLIENT_CONNECTIONS_MAX,
        trusted_proxies: Vec::new(),
    };
    let admission = Arc::new(Admission::new(limits, ConnectionCounters::default()));
    let door = Arc::new(door);
    tokio::spawn(async move {
        loop {
            let (stream, peer, place) = admission.accept(&listener, "of RTMP").await;
            let door = door.clone();
            tokio::spawn(async move {
                if let Err(reason) = begin(&door, stream, peer).await {
                    tracing::debug!(reason = format!("{reason:#}"), "RTMP connection ended");
                }
                drop(place);
            });
        }
    });
    Ok(())
}

async fn begin(door: &Door, stream: TcpStream, peer: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let peeked = tokio::time::timeout(BEGIN_WITHIN, stream.peek(&mut first)).await??;
    anyhow::ensure!(peeked == 1, "it said nothing");
    if first[0] == TLS_HANDSHAKE {
        let Some(tls) = door.tls.clone() else { anyhow::bail!("TLS, and there is no certificate") };
        let stream = tokio::time::timeout(BEGIN_WITHIN, TlsAcceptor::from(tls).accept(stream)).await??;
        return connection::drive(&door.app, stream, peer).await;
    }
    anyhow::ensure!(
        door.allows_plain || peer.ip().to_canonical().is_loopback(),
        "RTMP without TLS from another machine: use rtmps://, or set ingest.insecure_rtmp"
    );
    connection::drive(&door.app, stream, peer).await
}
