//! Accepting HTTP connections, with TLS or without, and knowing both their addresses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// TLS handshakes under way at once; the newest are closed above that.
const TLS_HANDSHAKES_MAX: usize = 256;
/// A client that has not finished its TLS handshake by then is gone.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which a client has sent nothing for so long is closed; players ask now and then, pages each second.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections at once; the newest are closed above that.
const CONNECTIONS_MAX: usize = 16_384;

/// Both ends of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The client, or the proxy before it.
    pub peer: SocketAddr,
    /// The address of ours that it dialled.
    pub local: SocketAddr,
}

/// A connection in the clear or under TLS, closed when its client falls silent.
pub struct Stream {
    transport: Transport,
    /// When silence has lasted too long.
    idle: Pin<Box<tokio::time::Sleep>>,
    _place: OwnedSemaphorePermit,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn new(transport: Transport, place: OwnedSemaphorePermit) -> Self {
        Self { transport, idle: Box::pin(tokio::time::sleep(IDLE_TIMEOUT)), _place: place }
    }
}

/// Accepts connections for `axum::serve`; TLS handshakes run beside it and never block another client.
pub struct Listener {
    accepted: mpsc::Receiver<(Stream, Addresses)>,
    local: SocketAddr,
}

impl Listener {
    /// Takes over a bound socket.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn new(tcp: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        let local = tcp.local_addr()?;
        let (sender, accepted) = mpsc::channel(64);
        tokio::spawn(accept_all(tcp, tls.map(TlsAcceptor::from), sender));
        Ok(Self { accepted, local })
    }
}

async fn accept_all(tcp: TcpListener, tls: Option<TlsAcceptor>, sender: mpsc::Sender<(Stream, Addresses)>) {
    let handshakes = Arc::new(Semaphore::new(TLS_HANDSHAKES_MAX));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let (stream, peer) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: the next client must not find a spinning loop.
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(local) = stream.local_addr() else { continue };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let _ = stream.set_nodelay(true);
        let addresses = Addresses { peer, local };
        let Some(tls) = tls.clone() else {
            if sender.send((Stream::new(Transport::Plain(stream), place), addresses)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else { continue };
        let sender = sender.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    drop(permit);
                    let stream = Stream::new(Transport::Tls(Box::new(stream)), place);
                    let _ = sender.send((stream, addresses)).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
            }
        });
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = Addresses;

    async fn accept(&mut self) -> (Stream, Addresses) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The acceptor lives as long as this receiver.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Addresses> {
        Ok(Addresses { peer: self.local, local: self.local })
    }
}

impl Connected<IncomingStream<'_, Listener>> for Addresses {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        *stream.remote_addr()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        if polled.is_ready() {
            this.idle.as_mut().reset(tokio::time::Instant::now() + IDLE_TIMEOUT);
            return polled;
        }
        this.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
