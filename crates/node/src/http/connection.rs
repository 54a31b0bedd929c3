//! One HTTP connection and how long it may take: what a client owes, and until when.
//!
//! - It owes the whole head of a request within [`HEAD_TIMEOUT`] of connecting, and of the first byte of any later one.
//! - Between requests it owes nothing for [`IDLE_TIMEOUT`].
//! - While it is answered, it owes to take some byte of the answer within [`IDLE_TIMEOUT`]; answers may last for ever.
//!
//! That the body of a request comes in time is the business of whoever reads it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use telemetry::node::ConnectionCounters;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;

use super::admission::Place;
use super::listener::Connection;

/// A request's head is whole by then. Real ones come in one or two packets.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request, or with an answer that nobody takes, ends then; players ask now and then.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a head, with whatever comes right behind it. Above what any browser sends.
const HEAD_BYTES_MAX: usize = 128 * 1024;

/// Both ends of the connection a request came on.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The client: as a trusted proxy names it, or who dialled.
    pub peer: SocketAddr,
    /// The address of ours that it dialled.
    pub local: SocketAddr,
    /// Whether the request says that a proxy has passed it on, trusted or not.
    pub is_passed_on: bool,
}

/// Bytes in the clear or under TLS.
pub enum Transport {
    /// HTTP.
    Plain(TcpStream),
    /// HTTPS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// HTTP/2 has frames of its own beside requests, so bytes need not be the beginning of one.
    fn is_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// Requests of one connection. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    /// Whose head was whole, ever: an answer may be over before anybody looks.
    begun: AtomicUsize,
    /// That are being answered.
    answering: AtomicUsize,
}

impl Activity {
    fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }

    fn is_answering(&self) -> bool {
        self.0.answering.load(Ordering::Relaxed) > 0
    }

    fn answering(&self) -> Answering {
        self.0.answering.fetch_add(1, Ordering::Relaxed);
        self.0.begun.fetch_add(1, Ordering::Relaxed);
        Answering(self.clone())
    }
}

/// A request that is being answered, to the last byte of the body.
struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Tells the connection that a request of it is being answered, and the request which addresses it came between.
pub async fn answer(
    ConnectInfo(connection): ConnectInfo<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let answering = connection.activity.answering();
    request.extensions_mut().insert(ConnectInfo(connection.addresses));
    let response = next.run(request).await;
    response.map(|body| Body::new(AnswerBody { body, _answering: answering }))
}

struct AnswerBody {
    body: Body,
    _answering: Answering,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rest of a head, of which so many bytes came.
    Head(usize),
    /// The next request.
    Idle,
    /// The end of an answer.
    Answer,
}

/// A connection that ends when its client owes something too long.
pub struct Stream<T> {
    transport: T,
    is_http2: bool,
    activity: Activity,
    /// Requests that had begun when last looked at.
    begun: usize,
    phase: Phase,
    /// When patience ends.
    deadline: Pin<Box<Sleep>>,
    counters: ConnectionCounters,
    _place: Place,
}

impl Stream<Transport> {
    /// A connection that was just made.
    pub fn new(transport: Transport, place: Place, counters: ConnectionCounters) -> Self {
        let is_http2 = transport.is_http2();
        Self::over(transport, is_http2, place, counters)
    }
}

impl<T> Stream<T> {
    fn over(transport: T, is_http2: bool, place: Place, counters: ConnectionCounters) -> Self {
        Self {
            transport,
            is_http2,
            activity: Activity::default(),
            begun: 0,
            phase: Phase::Head(0),
            deadline: Box::pin(sleep(HEAD_TIMEOUT)),
            counters,
            _place: place,
        }
    }

    /// Where its requests are counted.
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let patience = if matches!(phase, Phase::Head(_)) { HEAD_TIMEOUT } else { IDLE_TIMEOUT };
        self.deadline.as_mut().reset(Instant::now() + patience);
    }

    fn received(&mut self, bytes: usize) -> io::Result<()> {
        self.follow();
        match self.phase {
            Phase::Idle if bytes > 0 && !self.is_http2 => self.enter(Phase::Head(bytes)),
            Phase::Head(before) => self.phase = Phase::Head(before + bytes),
            Phase::Idle | Phase::Answer => {}
        }
        if matches!(self.phase, Phase::Head(bytes) if bytes > HEAD_BYTES_MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(())
    }

    fn sent(&mut self, bytes: usize) {
        self.follow();
        if bytes > 0 && !matches!(self.phase, Phase::Head(_)) {
            self.enter(self.phase);
        }
    }

    /// Takes up what the requests have come to.
    fn follow(&mut self) {
        let begun = self.activity.begun();
        if std::mem::replace(&mut self.begun, begun) != begun {
            self.enter(Phase::Answer);
        }
        if self.phase == Phase::Answer && !self.activity.is_answering() {
            self.enter(Phase::Idle);
        }
    }

    /// Ready when patience has ended.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.follow();
        ready!(self.deadline.as_mut().poll(cx));
        // Idle ends are everyday; the others are somebody's fault.
        if self.phase != Phase::Idle {
            self.counters.too_slow();
        }
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A client that keeps sending does not put the end off.
        if let Poll::Ready(error) = this.poll_patience(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.transport).poll_read(cx, buf))?;
        Poll::Ready(this.received(buf.filled().len() - before))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.transport).poll_write(cx, buf) {
            Poll::Ready(written) => {
                this.sent(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => this.poll_patience(cx).map(Err),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.transport).poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => this.poll_patience(cx).map(Err),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.transport).poll_shutdown(cx) {
            Poll::Ready(shut) => Poll::Ready(shut),
            Poll::Pending => this.poll_patience(cx).map(Err),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
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

#[cfg(test)]
mod tests;
