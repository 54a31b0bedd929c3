//! A whole HTTP server over pipes in memory, under a clock that jumps to the next deadline.

use std::net::IpAddr;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::routing::get;
use axum::serve::IncomingStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::super::admission::Admission;
use super::super::listener::Limits;
use super::*;

/// What a pipe holds until the other end takes it.
const PIPE_BYTES: usize = 4096;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

struct Pipes(mpsc::Receiver<Stream<DuplexStream>>);

impl axum::serve::Listener for Pipes {
    type Io = Stream<DuplexStream>;
    type Addr = Addresses;

    async fn accept(&mut self) -> (Self::Io, Addresses) {
        let Some(stream) = self.0.recv().await else { return std::future::pending().await };
        (stream, addresses())
    }

    fn local_addr(&self) -> io::Result<Addresses> {
        Ok(addresses())
    }
}

impl Connected<IncomingStream<'_, Pipes>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Pipes>) -> Self {
        Self { addresses: *stream.remote_addr(), activity: stream.io().activity() }
    }
}

fn addresses() -> Addresses {
    Addresses { peer: (CLIENT, 1).into(), local: (CLIENT, 2).into(), is_passed_on: false }
}

/// A body of one byte every 30 s.
struct Slow(u32, Pin<Box<Sleep>>);

impl HttpBody for Slow {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.0 == 0 {
            return Poll::Ready(None);
        }
        ready!(self.1.as_mut().poll(cx));
        self.0 -= 1;
        self.1 = Box::pin(sleep(Duration::from_secs(30)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b".")))))
    }
}

/// A server; gives the pipes that clients hold.
struct Server {
    pipes: mpsc::Sender<Stream<DuplexStream>>,
    admission: Arc<Admission>,
    counters: ConnectionCounters,
}

impl Server {
    fn start() -> Self {
        let counters = ConnectionCounters::default();
        let limits = Limits { connections_max: 8, client_connections_max: 2, trusted_proxies: Vec::new() };
        let router = Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/slow", get(|| async { Body::new(Slow(20, Box::pin(sleep(Duration::ZERO)))) }))
            .route("/large", get(|| async { "x".repeat(10 * PIPE_BYTES) }))
            .layer(axum::middleware::from_fn(answer));
        let (pipes, receiver) = mpsc::channel(8);
        let service = router.into_make_service_with_connect_info::<Connection>();
        tokio::spawn(async move { axum::serve(Pipes(receiver), service).await });
        Self { pipes, admission: Arc::new(Admission::new(limits, counters.admission())), counters }
    }

    async fn connect(&self) -> DuplexStream {
        let (ours, theirs) = duplex(PIPE_BYTES);
        let place = self.admission.admit(CLIENT).expect("a place");
        let stream = Stream::over(theirs, false, place, self.counters.clone());
        self.pipes.send(stream).await.expect("the server runs");
        ours
    }
}

async fn hello(client: &mut DuplexStream) {
    client.write_all(GET).await.expect("open");
    let mut received = Vec::new();
    while !received.ends_with(b"hello") {
        assert!(client.read_buf(&mut received).await.expect("open") > 0, "closed early");
    }
}

/// Reads to the end; gives what came and how long it took, in whole seconds.
async fn ends(client: &mut DuplexStream) -> (Vec<u8>, u64) {
    let begun = Instant::now();
    let mut received = Vec::new();
    client.read_to_end(&mut received).await.expect("closed in order");
    (received, begun.elapsed().as_secs())
}

/// Sends a byte of a head every second until the server hangs up; gives the seconds it took.
async fn drip(client: &mut DuplexStream) -> u64 {
    let begun = Instant::now();
    loop {
        tokio::select! {
            (_, _) = ends(client) => return begun.elapsed().as_secs(),
            () = sleep(Duration::from_secs(1)) => {}
        }
        // The server may have hung up in this very moment.
        let _ = client.write_all(b"x").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_in_ends_with_its_connection_after_ten_seconds() {
    let server = Server::start();
    let mut first = server.connect().await;
    assert_eq!(drip(&mut first).await, 10, "counted from connecting");
    let mut later = server.connect().await;
    hello(&mut later).await;
    sleep(Duration::from_secs(40)).await;
    later.write_all(b"GET").await.expect("open");
    assert_eq!(drip(&mut later).await, 10, "counted from the first byte");
    let mut silent = server.connect().await;
    assert_eq!(ends(&mut silent).await.1, 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_idles_for_a_minute_after_each_answer() {
    let server = Server::start();
    let mut client = server.connect().await;
    for _ in 0..3 {
        hello(&mut client).await;
        sleep(Duration::from_secs(59)).await;
    }
    hello(&mut client).await;
    assert_eq!(ends(&mut client).await, (Vec::new(), 60));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_progress_is_never_cut() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("open");
    let (received, seconds) = ends(&mut client).await;
    assert!(received.ends_with(b"0\r\n\r\n"), "the whole answer came");
    assert_eq!(seconds, 19 * 30);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_given_up_and_its_place_is_free() {
    let server = Server::start();
    let mut clients = [server.connect().await, server.connect().await];
    assert!(server.admission.admit(CLIENT).is_none(), "both places are taken");
    for client in &mut clients {
        client.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("open");
    }
    sleep(Duration::from_secs(59)).await;
    assert!(server.admission.admit(CLIENT).is_none(), "patience");
    // One of them takes a little, and has time again.
    clients[0].read_exact(&mut [0; PIPE_BYTES]).await.expect("open");
    sleep(Duration::from_secs(2)).await;
    let place = server.admission.admit(CLIENT).expect("the place of the other");
    assert!(server.admission.admit(CLIENT).is_none(), "the first is still there");
    drop(place);
    assert_eq!(ends(&mut clients[1]).await.0.len(), PIPE_BYTES);
    let (received, seconds) = ends(&mut clients[0]).await;
    assert!(received.len() > 9 * PIPE_BYTES && seconds == 60, "{} bytes, {seconds} s", received.len());
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_cut_before_it_fills_memory() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.expect("open");
    let mut sent = 0;
    while client.write_all(&[b'x'; 1024]).await.is_ok() {
        sent += 1024;
        assert!(sent < 2 * HEAD_BYTES_MAX, "no end");
    }
}

#[tokio::test(start_paused = true)]
async fn heads_of_different_requests_do_not_add_up() {
    let server = Server::start();
    let mut client = server.connect().await;
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(3000));
    for _ in 0..3 * HEAD_BYTES_MAX / request.len() {
        client.write_all(request.as_bytes()).await.expect("open");
        let mut received = Vec::new();
        while !received.ends_with(b"hello") {
            assert!(client.read_buf(&mut received).await.expect("open") > 0, "closed early");
        }
    }
}
