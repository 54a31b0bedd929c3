//! The RTMP listener: encoders without WHIP publish here.
//!
//! One task for each connection drives [`rtmp::Connection`], makes tree packets of what comes (`media`), and hands them to
//! the tree thread. Coding sound takes time that the tree thread does not have. The task reads no more while that thread is
//! behind, so what waits is bounded by the kernel's buffers, and the encoder notices.
//!
//! TLS is told from plain RTMP by the first byte.

mod connection;
mod media;
mod refused;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use telemetry::rtmp::RtmpEnd;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::error::Elapsed;
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

/// How a connection ended.
struct Ended {
    how: RtmpEnd,
    /// In words for the log.
    reason: String,
}

impl Ended {
    fn new(how: RtmpEnd, reason: impl Into<String>) -> Self {
        Self { how, reason: reason.into() }
    }

    /// From what ended it.
    fn by(error: &anyhow::Error) -> Self {
        Self::new(how(error), format!("{error:#}"))
    }
}

fn how(error: &anyhow::Error) -> RtmpEnd {
    if error.is::<Elapsed>() {
        return RtmpEnd::TooSlow;
    }
    match error.downcast_ref::<rtmp::Error>() {
        // All else is of the socket.
        None => RtmpEnd::Network,
        Some(rtmp::Error::Handshake(_)) => RtmpEnd::Handshake,
        Some(rtmp::Error::Tag(_)) => RtmpEnd::Media,
        Some(rtmp::Error::Address(_)) => RtmpEnd::NotTaken,
        Some(rtmp::Error::NeverPublished | rtmp::Error::AnswersNotRead) => RtmpEnd::TooSlow,
        Some(rtmp::Error::Silent) => RtmpEnd::Silent,
        Some(_) => RtmpEnd::Protocol,
    }
}

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
    let admission = Arc::new(Admission::new(limits, door.app.metrics.rtmp().admission()));
    let door = Arc::new(door);
    tokio::spawn(async move {
        loop {
            let (stream, peer, place) = admission.accept(&listener, "of RTMP").await;
            let door = door.clone();
            tokio::spawn(async move {
                let Ended { how, reason } =
                    begin(&door, stream, peer).await.unwrap_or_else(|error| Ended::by(&error));
                tracing::debug!(reason, "RTMP connection ended");
                door.app.metrics.rtmp().ended(how);
                drop(place);
            });
        }
    });
    Ok(())
}

async fn begin(door: &Door, stream: TcpStream, peer: SocketAddr) -> anyhow::Result<Ended> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    let peeked = tokio::time::timeout(BEGIN_WITHIN, stream.peek(&mut first)).await??;
    if peeked == 0 {
        return Ok(Ended::new(RtmpEnd::Closed, "it said nothing"));
    }
    if first[0] == TLS_HANDSHAKE {
        let Some(tls) = door.tls.clone() else {
            return Ok(Ended::new(RtmpEnd::TlsFailed, "TLS, and there is no certificate"));
        };
        return match tokio::time::timeout(BEGIN_WITHIN, TlsAcceptor::from(tls).accept(stream)).await? {
            Ok(stream) => connection::drive(&door.app, stream, peer).await,
            Err(error) => Ok(Ended::new(RtmpEnd::TlsFailed, error.to_string())),
        };
    }
    if !door.allows_plain && !peer.ip().to_canonical().is_loopback() {
        let reason = "RTMP without TLS from another machine: use rtmps://, or set ingest.insecure_rtmp";
        return Ok(Ended::new(RtmpEnd::Insecure, reason));
    }
    connection::drive(&door.app, stream, peer).await
}
