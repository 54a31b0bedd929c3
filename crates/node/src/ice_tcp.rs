//! ICE over TCP (RFC 6544), for publishers and viewers whose network lets no UDP out.
//!
//! A connection to the port number of a media socket becomes a peer of that socket over loopback: each frame (RFC 4571)
//! is one datagram. The engines know nothing of it. What a connection does not take in time stays in the kernel's buffer of
//! its loopback socket and is lost beyond it, as on any narrow path.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{Buf as _, BytesMut};
use rustix::net::sockopt::set_socket_send_buffer_size;
use telemetry::node::ConnectionCounters;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::http::{Admission, Limits, media_connections_max};

/// Of one client address: an office behind one has some viewers.
const CLIENT_CONNECTIONS_MAX: u32 = 64;
/// The first check comes at once.
const BEGIN_WITHIN: Duration = Duration::from_secs(10);
/// Peers check every few seconds that we still consent (RFC 7675, section 5.1).
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// A peer that takes nothing for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Longer datagrams do not come over UDP either.
const FRAME_MAX: usize = 2048;
const LENGTH_BYTES: usize = 2;
/// The type of a STUN Binding request (RFC 8489, section 5).
const BINDING_REQUEST: [u8; 2] = [0, 1];
/// What waits in the kernel for a slow connection: a third of a second at 3 Mbit/s. More would be delay.
const SEND_BUFFER_BYTES: usize = 128 << 10;
/// What leaves in one write at most.
const BATCH_BYTES: usize = 16 << 10;

/// Who may connect, to all ports of a node together.
pub fn admission(counters: &ConnectionCounters) -> Arc<Admission> {
    let limits = Limits {
        connections_max: media_connections_max(),
        client_connections_max: CLIENT_CONNECTIONS_MAX,
        trusted_proxies: Vec::new(),
    };
    Arc::new(Admission::new(limits, counters.admission()))
}

/// Accepts connections for a media socket that is bound to `media`, for as long as the node lives.
///
/// # Errors
/// If the listener cannot be used.
pub fn serve(
    listener: std::net::TcpListener,
    media: SocketAddr,
    (admission, counters): (Arc<Admission>, ConnectionCounters),
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let media = on_this_host(media);
    tokio::spawn(async move {
        loop {
            let (stream, _peer, place) = admission.accept(&listener, "of media").await;
            let counters = counters.clone();
            tokio::spawn(async move {
                if let Err(reason) = carry(stream, media).await {
                    if reason.is::<Elapsed>() {
                        counters.too_slow();
                    }
                    tracing::debug!(reason = format!("{reason:#}"), "media over TCP ended");
                }
                drop(place);
            });
        }
    });
    Ok(())
}

/// Where a socket that is bound to this address is reached from the same host.
fn on_this_host(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

async fn carry(stream: TcpStream, media: SocketAddr) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES)?;
    let (mut reader, writer) = stream.into_split();
    let mut received = BytesMut::with_capacity(FRAME_MAX);
    let first =
        timeout(BEGIN_WITHIN, frame(&mut reader, &mut received)).await.context("it said nothing")??;
    ensure!(first.starts_with(&BINDING_REQUEST), "it does not begin with a check");
    let unspecified: IpAddr =
        if media.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((unspecified, 0)).await?;
    socket.connect(media).await?;
    socket.send(&first).await?;
    tokio::select! {
        ended = from_peer(reader, received, &socket) => ended,
        ended = to_peer(writer, &socket) => ended,
    }
}

async fn from_peer(
    mut reader: OwnedReadHalf,
    mut received: BytesMut,
    socket: &UdpSocket,
) -> anyhow::Result<()> {
    loop {
        let frame =
            timeout(SILENCE_MAX, frame(&mut reader, &mut received)).await.context("it is silent")??;
        // A full buffer there is loss, as it is for everybody else.
        let _ = socket.send(&frame).await;
    }
}

async fn to_peer(mut writer: OwnedWriteHalf, socket: &UdpSocket) -> anyhow::Result<()> {
    let (mut datagram, mut batch) = ([0; FRAME_MAX], Vec::with_capacity(BATCH_BYTES));
    loop {
        batch.clear();
        let mut length = socket.recv(&mut datagram).await?;
        // Whatever has come meanwhile leaves in the same write.
        loop {
            batch.extend_from_slice(&u16::try_from(length)?.to_be_bytes());
            batch.extend_from_slice(&datagram[..length]);
            if batch.len() >= BATCH_BYTES - FRAME_MAX {
                break;
            }
            let Ok(more) = socket.try_recv(&mut datagram) else { break };
            length = more;
        }
        timeout(WRITE_WITHIN, writer.write_all(&batch)).await.context("it takes nothing any more")??;
    }
}

/// The next frame (RFC 4571, section 2); `received` keeps what came behind it.
async fn frame(reader: &mut OwnedReadHalf, received: &mut BytesMut) -> anyhow::Result<BytesMut> {
    loop {
        if let Some(length) = received.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length))) {
            ensure!(length <= FRAME_MAX, "a frame of {length} bytes");
            if received.len() >= LENGTH_BYTES + length {
                received.advance(LENGTH_BYTES);
                return Ok(received.split_to(length));
            }
        }
        ensure!(reader.read_buf(received).await? > 0, "it has closed the connection");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK: [u8; 20] = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    /// A listener before a socket that sends everything back twice.
    async fn echo() -> SocketAddr {
        let media = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let media_address = media.local_addr().expect("an address");
        let counters = ConnectionCounters::default();
        serve(listener, media_address, (admission(&counters), counters)).expect("it serves");
        tokio::spawn(async move {
            let mut datagram = [0; FRAME_MAX];
            while let Ok((length, from)) = media.recv_from(&mut datagram).await {
                for _ in 0..2 {
                    media.send_to(&datagram[..length], from).await.expect("sent");
                }
            }
        });
        address
    }

    fn framed(datagram: &[u8]) -> Vec<u8> {
        [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
    }

    #[tokio::test]
    async fn frames_are_datagrams_however_they_are_cut() {
        let mut stream = TcpStream::connect(echo().await).await.expect("connected");
        let sent = [framed(&CHECK), framed(&[7; 1200])].concat();
        for piece in sent.chunks(333) {
            stream.write_all(piece).await.expect("written");
        }
        let mut came = vec![0; 2 * sent.len()];
        stream.read_exact(&mut came).await.expect("read");
        let twice = |datagram: &[u8]| framed(datagram).repeat(2);
        assert_eq!(came, [twice(&CHECK), twice(&[7; 1200])].concat());
    }

    #[tokio::test]
    async fn what_does_not_begin_with_a_check_or_is_too_long_is_closed() {
        let address = echo().await;
        let long = [framed(&CHECK), vec![0xff; 4]].concat();
        for (sent, answered) in
            [(b"GET / HTTP/1.1\r\n\r\n".to_vec(), false), (framed(&[22, 254, 253]), false), (long, true)]
        {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(&sent).await.expect("written");
            let mut came = Vec::new();
            let _reset = stream.read_to_end(&mut came).await;
            assert!(answered || came.is_empty(), "{came:?}");
        }
    }
}
