//! Sockets that take what the floor sends and count it: what viewers' sockets are to a server.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use udp_batch::{Options, ReceiveBatch, Socket};

use std::os::fd::AsRawFd as _;

/// The sockets take ports from here on.
pub const FIRST_PORT: u16 = 20_000;
/// After the last datagram was sent, so long may the last one take.
const LINGER: Duration = Duration::from_millis(200);

/// Drains `sockets` sockets until standard input ends, then prints how many datagrams came.
///
/// # Errors
/// If a socket cannot be bound or polled.
pub fn run(address: IpAddr, sockets: u16, is_coalescing: bool) -> anyhow::Result<()> {
    let options = Options { receive_buffer_bytes: 1 << 20, is_coalescing, ..Options::default() };
    let bind = |number| Socket::bind(SocketAddr::new(address, FIRST_PORT + number), &options);
    let sockets: Vec<Socket> = (0..sockets).map(bind).collect::<Result<_, _>>().context("bind a socket")?;
    let mut poll = Poll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
    }
    let waker = Waker::new(poll.registry(), Token(sockets.len()))?;
    let is_over = AtomicBool::new(false);
    super::ready()?;
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            is_over.store(true, Ordering::Relaxed);
            let _ = waker.wake();
        });
        count(&mut poll, &sockets, &is_over)
    })?;
    println!("{received}");
    Ok(())
}

fn count(poll: &mut Poll, sockets: &[Socket], is_over: &AtomicBool) -> anyhow::Result<u64> {
    let mut batch = ReceiveBatch::new();
    let mut events = Events::with_capacity(1024);
    let mut received = 0;
    loop {
        let is_ending = is_over.load(Ordering::Relaxed);
        poll.poll(&mut events, is_ending.then_some(LINGER))?;
        if is_ending && events.is_empty() {
            return Ok(received);
        }
        for event in &events {
            let Some(socket) = sockets.get(event.token().0) else { continue };
            loop {
                if socket.receive(&mut batch)? == 0 {
                    break;
                }
                received += batch.iter_mut().count() as u64;
            }
        }
    }
}
