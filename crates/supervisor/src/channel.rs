//! Messages between the supervisor and its child: one datagram each, on a pair of sockets that keeps their bounds.
//!
//! A supervisor may be older than the child that it starts (that is what an upgrade is), so messages that are not known
//! are skipped.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

/// The kind of a message, its bytes, and a descriptor that came with it.
type Received = (u8, Zeroizing<Vec<u8>>, Option<OwnedFd>);

/// Longest message.
const MESSAGE_BYTES_MAX: usize = 256;
/// Bytes of the key of session records.
pub const KEY_BYTES: usize = 32;

/// What the supervisor tells its child.
pub enum ToChild {
    /// A socket, and what it is for.
    Socket(String, OwnedFd),
    /// The key that session records are sealed with.
    Key(Zeroizing<[u8; KEY_BYTES]>),
    /// So many children before it have died unasked.
    Deaths(u64),
    /// Nobody else uses sockets and records any more: go on with the sessions, or, where they seem to be what kills the
    /// process, without them.
    Go {
        /// Whether sessions are gone on with.
        resumes: bool,
    },
    /// Drain and exit; again: exit at once.
    Stop,
    /// Leave sockets and sessions to the next process, and exit without a word to anybody.
    HandOver,
}

/// What the child tells its supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToParent {
    /// It waits for [`ToChild::Go`].
    StandsBy,
    /// It serves.
    Ready,
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends.
    ///
    /// # Errors
    /// If the kernel has none to give.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// The end that this descriptor is.
    #[must_use]
    pub const fn new(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }

    /// The descriptor, for a process that is started with it.
    #[must_use]
    pub fn into_inner(self) -> OwnedFd {
        self.0
    }

    /// Another handle of the same end.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Tells the child something.
    ///
    /// # Errors
    /// If it is gone.
    pub fn tell(&self, message: &ToChild) -> io::Result<()> {
        match message {
            ToChild::Socket(name, socket) => self.send(b'S', name.as_bytes(), Some(socket)),
            ToChild::Key(key) => self.send(b'K', &key[..], None),
            ToChild::Deaths(count) => self.send(b'D', &count.to_be_bytes(), None),
            ToChild::Go { resumes } => self.send(b'G', &[u8::from(*resumes)], None),
            ToChild::Stop => self.send(b'T', &[], None),
            ToChild::HandOver => self.send(b'H', &[], None),
        }
    }

    /// Tells the supervisor something.
    ///
    /// # Errors
    /// If it is gone.
    pub fn report(&self, message: ToParent) -> io::Result<()> {
        let kind = match message {
            ToParent::StandsBy => b'B',
            ToParent::Ready => b'R',
        };
        self.send(kind, &[], None)
    }

    /// Waits for the supervisor's next message; `None` when it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listen(&self) -> io::Result<Option<ToChild>> {
        loop {
            let Some((kind, body, descriptor)) = self.receive()? else { return Ok(None) };
            let message = match (kind, descriptor) {
                (b'S', Some(socket)) => {
                    String::from_utf8(body.to_vec()).ok().map(|name| ToChild::Socket(name, socket))
                }
                (b'K', None) => {
                    <[u8; KEY_BYTES]>::try_from(&body[..]).ok().map(|key| ToChild::Key(Zeroizing::new(key)))
                }
                (b'D', None) => <[u8; 8]>::try_from(&body[..])
                    .ok()
                    .map(|count| ToChild::Deaths(u64::from_be_bytes(count))),
                (b'G', None) => Some(ToChild::Go { resumes: body.first() == Some(&1) }),
                (b'T', None) => Some(ToChild::Stop),
                (b'H', None) => Some(ToChild::HandOver),
                _ => None,
            };
            if message.is_some() {
                return Ok(message);
            }
        }
    }

    /// Waits for the child's next message; `None` when it is gone.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hear(&self) -> io::Result<Option<ToParent>> {
        loop {
            let Some((kind, ..)) = self.receive()? else { return Ok(None) };
            match kind {
                b'B' => return Ok(Some(ToParent::StandsBy)),
                b'R' => return Ok(Some(ToParent::Ready)),
                _ => {}
            }
        }
    }

    fn send(&self, kind: u8, body: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let parts = [IoSlice::new(std::slice::from_ref(&kind)), IoSlice::new(body)];
        let descriptors = descriptor.map(|descriptor| [descriptor.as_fd()]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if let Some(descriptors) = &descriptors {
            control.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Kind, body, and a descriptor that came along.
    fn receive(&self) -> io::Result<Option<Received>> {
        let mut bytes = Zeroizing::new([0; MESSAGE_BYTES_MAX]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut bytes[..])];
            rustix::net::recvmsg(&self.0, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let mut descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptor = descriptors.next().and_then(|mut descriptors| descriptors.next());
        let Some((kind, body)) = bytes[..received.bytes].split_first() else { return Ok(None) };
        Ok(Some((*kind, Zeroizing::new(body.to_vec()), descriptor)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn sockets_and_words_arrive_in_order() {
        let (parent, child) = Channel::pair().expect("a pair");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = socket.local_addr().expect("bound");
        parent.tell(&ToChild::Socket("shard-0".into(), socket.into())).expect("told");
        parent.tell(&ToChild::Key(Zeroizing::new([7; KEY_BYTES]))).expect("told");
        parent.tell(&ToChild::Deaths(300)).expect("told");
        parent.tell(&ToChild::Go { resumes: true }).expect("told");
        let Some(ToChild::Socket(name, socket)) = child.listen().expect("heard") else { panic!("no socket") };
        assert_eq!((name.as_str(), UdpSocket::from(socket).local_addr().ok()), ("shard-0", Some(address)));
        assert!(matches!(child.listen(), Ok(Some(ToChild::Key(key))) if *key == [7; KEY_BYTES]));
        assert!(matches!(child.listen(), Ok(Some(ToChild::Deaths(300)))));
        assert!(matches!(child.listen(), Ok(Some(ToChild::Go { resumes: true }))));
        child.report(ToParent::Ready).expect("told");
        assert_eq!(parent.hear().expect("heard"), Some(ToParent::Ready));
    }

    #[test]
    fn what_is_not_known_is_skipped_and_an_end_is_told() {
        let (parent, child) = Channel::pair().expect("a pair");
        parent.send(b'?', b"of a later version", None).expect("sent");
        parent.send(b'K', b"too short", None).expect("sent");
        parent.send(b'D', b"too long for a count", None).expect("sent");
        parent.tell(&ToChild::Stop).expect("told");
        assert!(matches!(child.listen(), Ok(Some(ToChild::Stop))));
        drop(parent);
        assert!(matches!(child.listen(), Ok(None)));
        assert!(child.report(ToParent::Ready).is_err());
    }
}
