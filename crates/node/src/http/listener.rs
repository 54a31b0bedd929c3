//! Accepting HTTP connections, with TLS or without, as many as there is room for.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use telemetry::node::ConnectionCounters;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::admission::{Admission, Place};
use super::connection::{Activity, Addresses, Stream, Transport};

/// A client that has not finished its TLS handshake by then is gone.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Open files that are not the public listener's: sockets of media, links and operations, records, pages.
const FILES_RESERVED: u32 = 512;

/// Connections for media over TCP.
const MEDIA_CONNECTIONS_MAX: u32 = 1024;

/// How many connections there may be.
#[derive(Debug, Clone)]
pub struct Limits {
    /// In all.
    pub connections_max: u32,
    /// Of one client address.
    pub client_connections_max: u32,
    /// They may have all of them.
    pub trusted_proxies: Vec<config::Network>,
}

impl Limits {
    /// The configured ones, as far as the system allows so many open files; raises what it allows this process first.
    #[must_use]
    pub fn new(config: &config::Limits, trusted_proxies: Vec<config::Network>) -> Self {
        // Each of media has a socket on loopback beside its own.
        let reserved = FILES_RESERVED + 2 * media_connections_max();
        let wanted = config.connections_max.saturating_add(reserved);
        let files = allow_open_files(wanted.into());
        let connections_max = config
            .connections_max
            .min(u32::try_from(files).unwrap_or(u32::MAX).saturating_sub(reserved).max(FILES_RESERVED / 2));
        if connections_max < config.connections_max {
            tracing::warn!(
                files,
                connections_max,
                "the system allows too few open files (ulimit -n) for limits.connections_max = {}",
                config.connections_max
            );
        }
        Self { connections_max, client_connections_max: config.client_connections_max, trusted_proxies }
    }
}

/// How many connections for media over TCP there may be, all ports together: few where the system allows few open files.
pub fn media_connections_max() -> u32 {
    use rustix::process::{Resource, getrlimit};
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    u32::try_from(files / 16).unwrap_or(u32::MAX).min(MEDIA_CONNECTIONS_MAX)
}

/// Raises the soft limit towards `wanted`, within the hard one; gives what holds then.
fn allow_open_files(wanted: u64) -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let allowed = getrlimit(Resource::Nofile);
    let Some(current) = allowed.current.filter(|current| *current < wanted) else { return wanted };
    let raised = allowed.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let limit = Rlimit { current: Some(raised), maximum: allowed.maximum };
    setrlimit(Resource::Nofile, limit).map_or(current, |()| raised)
}

/// Accepts connections for `axum::serve`; TLS handshakes run beside it and never block another client.
pub struct Listener {
    accepted: mpsc::Receiver<(Stream<Transport>, Addresses)>,
    local: SocketAddr,
}

impl Listener {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn new(
        tcp: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        limits: Limits,
        counters: ConnectionCounters,
    ) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        let (sender, accepted) = mpsc::channel(64);
        let acceptor = Acceptor {
            admission: Arc::new(Admission::new(limits, counters.admission())),
            tls: tls.map(TlsAcceptor::from),
            sender,
            counters,
        };
        tokio::spawn(acceptor.accept_all(tcp));
        Ok(Self { accepted, local })
    }
}

struct Acceptor {
    admission: Arc<Admission>,
    tls: Option<TlsAcceptor>,
    sender: mpsc::Sender<(Stream<Transport>, Addresses)>,
    counters: ConnectionCounters,
}

impl Acceptor {
    async fn accept_all(self, tcp: TcpListener) {
        while !self.sender.is_closed() {
            let (stream, peer, place) = self.admission.accept(&tcp, "of HTTP").await;
            let Ok(local) = stream.local_addr() else { continue };
            let _ = stream.set_nodelay(true);
            self.begin(stream, Addresses { peer, local, is_passed_on: false }, place).await;
        }
    }

    async fn begin(&self, stream: TcpStream, addresses: Addresses, place: Place) {
        let counters = self.counters.clone();
        let Some(tls) = self.tls.clone() else {
            let stream = Stream::new(Transport::Plain(stream), place, counters);
            let _ = self.sender.send((stream, addresses)).await;
            return;
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let stream = Stream::new(Transport::Tls(Box::new(stream)), place, counters);
                    let _ = sender.send((stream, addresses)).await;
                }
                Ok(Err(error)) => {
                    counters.tls_failed();
                    tracing::debug!(%error, "TLS handshake failed");
                }
                Err(_elapsed) => counters.too_slow(),
            }
        });
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream<Transport>;
    type Addr = Addresses;

    async fn accept(&mut self) -> (Self::Io, Addresses) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The acceptor lives as long as this receiver.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Addresses> {
        Ok(Addresses { peer: self.local, local: self.local, is_passed_on: false })
    }
}

/// What is known of the connection that a request came on.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) addresses: Addresses,
    pub(super) activity: Activity,
}

impl Connected<IncomingStream<'_, Listener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        Self { addresses: *stream.remote_addr(), activity: stream.io().activity() }
    }
}
