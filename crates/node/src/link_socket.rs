//! QUIC's half of the link port.
//!
//! One UDP port carries both the link channel (QUIC) and link media (SRTP), told apart by the first byte (RFC 9443),
//! so that the address a child has proved with its channel is the very address its media goes to, NAT or not.
//! The tree thread owns the socket; what is QUIC's it hands over here through a bounded queue.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use tokio::sync::mpsc;

/// Datagrams that may wait for QUIC; more are dropped, and QUIC sends them again.
const QUEUE_DATAGRAMS_MAX: usize = 1024;

/// One QUIC datagram as the tree thread received it.
#[derive(Debug)]
pub struct Datagram {
    /// Who sent it.
    pub source: SocketAddr,
    /// The address of ours that it came to.
    pub destination: IpAddr,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Whether a datagram on the link port is QUIC's: RTP has the top bits `10`, every QUIC v1 packet has the fixed bit.
#[must_use]
pub const fn is_quic(first_byte: u8) -> bool {
    first_byte & 0x40 != 0
}

/// The socket that QUIC believes in.
pub struct LinkSocket {
    socket: UdpSocket,
    is_ipv6: bool,
    received: Mutex<mpsc::Receiver<Datagram>>,
}

impl LinkSocket {
    /// From a clone of the link socket; the sender goes to the tree thread.
    ///
    /// # Errors
    /// If the socket has no address.
    pub fn new(socket: UdpSocket) -> io::Result<(Arc<Self>, mpsc::Sender<Datagram>)> {
        let (sender, receiver) = mpsc::channel(QUEUE_DATAGRAMS_MAX);
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        Ok((Arc::new(Self { socket, is_ipv6, received: Mutex::new(receiver) }), sender))
    }

    /// An address as the kernel and QUIC write it: with a socket of both families, IPv4 as IPv4-mapped IPv6. QUIC
    /// drops what comes from an address that is written otherwise than the one it dialled.
    fn as_dialled(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.is_ipv6 => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
            other => other,
        }
    }
}

impl fmt::Debug for LinkSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSocket").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A send that the kernel has no room for is lost like any datagram; QUIC repairs it.
#[derive(Debug)]
struct AlwaysWritable;

impl quinn::UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl quinn::AsyncUdpSocket for LinkSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn quinn::UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // An error would end the connection's driver for good. No route for the moment, a full firewall table: all of
        // that is loss to QUIC, and it repairs it or gives up by its own clock.
        if let Err(error) = self.socket.send_to(transmit.contents, self.as_dialled(transmit.destination)) {
            tracing::debug!(%error, "cannot send on a link channel");
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let mut count = 0;
        while count < bufs.len().min(meta.len()) {
            match received.poll_recv(cx) {
                Poll::Ready(Some(datagram)) if datagram.bytes.len() <= bufs[count].len() => {
                    bufs[count][..datagram.bytes.len()].copy_from_slice(&datagram.bytes);
                    meta[count] = RecvMeta {
                        addr: self.as_dialled(datagram.source),
                        len: datagram.bytes.len(),
                        stride: datagram.bytes.len(),
                        ecn: None,
                        dst_ip: Some(datagram.destination),
                    };
                    count += 1;
                }
                Poll::Ready(Some(_longer_than_quic_asked_for)) => {}
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending => break,
            }
        }
        if count == 0 { Poll::Pending } else { Poll::Ready(Ok(count)) }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_quic_from_rtp() {
        for quic in [0x40, 0x5f, 0xc0, 0xe3, 0xff] {
            assert!(is_quic(quic), "{quic:#x}");
        }
        for rtp in [0x80, 0x90, 0xbf] {
            assert!(!is_quic(rtp), "{rtp:#x}");
        }
    }

    #[test]
    fn a_datagram_comes_from_the_address_that_was_dialled() {
        for (bound, source, expected) in [
            ("127.0.0.1:0", "192.0.2.1:9", "192.0.2.1:9"),
            ("[::1]:0", "192.0.2.1:9", "[::ffff:192.0.2.1]:9"),
            ("[::1]:0", "[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            let Ok(udp) = UdpSocket::bind(bound) else { continue };
            let (socket, sender) = LinkSocket::new(udp).unwrap();
            let datagram = Datagram {
                source: source.parse().unwrap(),
                destination: IpAddr::from([192, 0, 2, 7]),
                bytes: Bytes::from_static(b"\xc0quic"),
            };
            sender.try_send(datagram).unwrap();
            let mut buffer = [0; 64];
            let mut meta = [RecvMeta::default()];
            let mut context = Context::from_waker(std::task::Waker::noop());
            let received = quinn::AsyncUdpSocket::poll_recv(
                &*socket,
                &mut context,
                &mut [IoSliceMut::new(&mut buffer)],
                &mut meta,
            );
            assert!(matches!(received, Poll::Ready(Ok(1))));
            assert_eq!((meta[0].addr, meta[0].len), (expected.parse().unwrap(), 5), "bound to {bound}");
        }
    }
}
