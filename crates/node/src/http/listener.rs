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
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// TLS handshakes under way at once; more wait in the kernel's backlog.
const TLS_HANDSHAKES_MAX: usize = 256;
/// A client that has not finished its TLS handshake by then is gone.
const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Both ends of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The client, or the proxy before it.
    pub peer: SocketAddr,
    /// The address of ours that it dialled.
    pub local: SocketAddr,
}

/// A connection in the clear or under TLS.
pub enum Stream {
    /// Plain HTTP.
    Plain(TcpStream),
    /// HTTPS.
    Tls(Box<TlsStream<TcpStream>>),
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
        let _ = stream.set_nodelay(true);
        let addresses = Addresses { peer, local };
        let Some(tls) = tls.clone() else {
            if sender.send((Stream::Plain(stream), addresses)).await.is_err() {
                return;
            }
            continue;
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else { return };
        let sender = sender.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    drop(permit);
                    let _ = sender.send((Stream::Tls(Box::new(stream)), addresses)).await;
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
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
