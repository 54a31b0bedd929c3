//! One bound UDP socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::receive::ReceiveBatch;
use crate::sys;

/// So many segmented messages refused one after another, and the socket gives segmentation up. A single refusal may be
/// one path's own affair (a segment above its MTU, IPsec), and a hostile path must not slow down the others.
const REFUSALS_MAX: u32 = 8;
/// Says that segmentation is off for good; refusals are counted below it.
const OFF: u32 = u32::MAX;

/// How to open a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What the kernel may hold for us to read, in bytes. The kernel's `net.core.rmem_max` limits it unless the
    /// process has `CAP_NET_ADMIN`. Default 4 MiB: 80 ms at 400 Mbit/s.
    pub receive_buffer_bytes: usize,
    /// What the kernel may hold on its way to the device, in bytes; limited by `net.core.wmem_max` likewise.
    /// Default 4 MiB.
    pub send_buffer_bytes: usize,
    /// An IPv6 socket takes IPv4 too. Default true.
    pub is_dual_stack: bool,
    /// Use UDP segmentation offload where the kernel has it. Default true.
    pub is_segmenting: bool,
    /// Take trains of equal datagrams from the kernel as one message (UDP GRO) where it has that;
    /// [`ReceiveBatch::iter_mut`] cuts them apart. Saves most of the cost of receiving trains, and on one host of
    /// sending them, and costs a little where datagrams come one by one. Default false.
    pub is_coalescing: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            is_dual_stack: true,
            is_segmenting: true,
            is_coalescing: false,
        }
    }
}

/// A bound, non-blocking UDP socket that tells and chooses local addresses.
#[derive(Debug)]
pub struct Socket {
    inner: UdpSocket,
    local: SocketAddr,
    /// Segmented messages refused in a row, or [`OFF`].
    refusals: AtomicU32,
    /// Messages that come may be trains.
    is_coalescing: bool,
}

impl Socket {
    /// Binds `address`; port 0 takes a free one, `[::]` takes IPv4 and IPv6.
    ///
    /// # Errors
    /// If the kernel refuses the address or one of the options that the crate relies on. Smaller buffers than asked
    /// for are no error.
    pub fn bind(address: SocketAddr, options: &Options) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(!options.is_dual_stack)?;
            sys::set_option(socket.as_fd(), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        } else {
            sys::set_option(socket.as_fd(), libc::SOL_IP, libc::IP_PKTINFO, 1)?;
        }
        buffer(
            &socket,
            libc::SO_RCVBUFFORCE,
            options.receive_buffer_bytes,
            socket2::Socket::set_recv_buffer_size,
        )?;
        buffer(
            &socket,
            libc::SO_SNDBUFFORCE,
            options.send_buffer_bytes,
            socket2::Socket::set_send_buffer_size,
        )?;
        socket.bind(&address.into())?;
        Self::take(socket, options)
    }

    /// Takes a socket that another process has bound with the same options and handed over.
    ///
    /// # Errors
    /// If it is no bound UDP socket.
    pub fn adopt(descriptor: OwnedFd, options: &Options) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        if socket.protocol()? != Some(Protocol::UDP) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "what was handed over is no UDP socket"));
        }
        socket.set_nonblocking(true)?;
        Self::take(socket, options)
    }

    fn take(socket: socket2::Socket, options: &Options) -> io::Result<Self> {
        // Setting the default of zero changes nothing and is refused by kernels before 4.18.
        let has_segmentation = options.is_segmenting
            && sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
        // Before 5.0 the kernel has no such option, and datagrams come one by one.
        let is_coalescing =
            options.is_coalescing && sys::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
        let inner = UdpSocket::from(socket);
        let local = inner.local_addr()?;
        let refusals = AtomicU32::new(if has_segmentation { 0 } else { OFF });
        Ok(Self { inner, local, refusals, is_coalescing })
    }

    /// The address it is bound to.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Another handle of the same socket.
    ///
    /// # Errors
    /// If the process has no file descriptor left.
    pub fn try_clone_udp(&self) -> io::Result<UdpSocket> {
        self.inner.try_clone()
    }

    /// What the kernel really grants for receiving, in bytes as it counts them (twice what was asked for).
    ///
    /// # Errors
    /// Never in practice.
    pub fn receive_buffer_bytes(&self) -> io::Result<usize> {
        SockRef::from(&self.inner).recv_buffer_size()
    }

    /// Whether neighbouring datagrams of one path are sent as one message. False where the kernel or the device cannot.
    #[must_use]
    pub fn gso_active(&self) -> bool {
        self.refusals.load(Ordering::Relaxed) != OFF
    }

    /// Takes what fits into the batch and returns how many messages that is: single datagrams, or trains of them from a
    /// socket that coalesces; 0 if none waits. Call again until 0: pollers tell of new datagrams only.
    ///
    /// # Errors
    /// What the kernel says of the socket; nothing that a peer can cause.
    pub fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.make_room(self.is_coalescing);
        loop {
            match sys::receive(self.inner.as_fd(), &mut batch.buffer, batch.room, &mut batch.slots) {
                Ok(count) => {
                    batch.count = count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn segmentation_worked(&self) {
        if self.gso_active() {
            self.refusals.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn segmentation_refused(&self) {
        let refusals = self.refusals.load(Ordering::Relaxed).saturating_add(1);
        self.refusals.store(if refusals < REFUSALS_MAX { refusals } else { OFF }, Ordering::Relaxed);
    }
}

/// Asks for a kernel buffer beyond the machine's limit, and for what the limit allows if that needs a right we lack.
fn buffer(
    socket: &socket2::Socket,
    force: i32,
    bytes: usize,
    ask: fn(&socket2::Socket, usize) -> io::Result<()>,
) -> io::Result<()> {
    let forced = i32::try_from(bytes)
        .is_ok_and(|bytes| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, force, bytes).is_ok());
    if forced { Ok(()) } else { ask(socket, bytes) }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SendQueue;

    /// Sends a train of three to itself; returns how many of them arrived.
    fn train_to_itself(socket: &Socket) -> usize {
        let to = socket.local_addr();
        let mut queue = SendQueue::new();
        for _ in 0..3 {
            queue.push(to.ip(), to, 100, |room| room.len());
        }
        assert_eq!(queue.flush(socket).expect("flush").sent, 3);
        let mut batch = ReceiveBatch::new();
        socket.receive(&mut batch).expect("receive")
    }

    #[test]
    fn what_came_for_one_process_is_read_by_the_next() {
        let options = Options::default();
        let first = Socket::bind(([127, 0, 0, 1], 0).into(), &options).expect("bind");
        let handed_over = first.try_clone_udp().expect("clone");
        let to = first.local_addr();
        UdpSocket::bind("127.0.0.1:0").expect("bind").send_to(b"early", to).expect("sent");
        drop(first);
        let second = Socket::adopt(handed_over.into(), &options).expect("adopted");
        assert_eq!(second.local_addr(), to);
        let mut batch = ReceiveBatch::new();
        assert_eq!(second.receive(&mut batch).expect("receive"), 1);
        assert!(batch.iter_mut().all(|datagram| datagram.bytes == b"early" && datagram.local == to.ip()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        assert!(Socket::adopt(listener.into(), &options).is_err());
    }

    #[test]
    fn a_path_that_cannot_be_segmented_loses_nothing_and_only_a_row_of_refusals_ends_segmentation() {
        let socket = Socket::bind(([127, 0, 0, 1], 0).into(), &Options::default()).expect("bind");
        // The kernel refuses to cut datagrams that it may not checksum.
        let checksums =
            |are_on: i32| sys::set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, 1 - are_on);
        for _ in 0..REFUSALS_MAX - 1 {
            checksums(0).expect("option");
            assert_eq!(train_to_itself(&socket), 3);
        }
        assert!(socket.gso_active());
        checksums(1).expect("option");
        assert_eq!(train_to_itself(&socket), 3);
        checksums(0).expect("option");
        for refused in 1..=REFUSALS_MAX {
            assert!(socket.gso_active(), "after {refused} refusals");
            assert_eq!(train_to_itself(&socket), 3);
        }
        assert!(!socket.gso_active());
    }
}
