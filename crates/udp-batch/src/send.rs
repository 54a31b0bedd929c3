//! Sending many datagrams with few calls and few messages.
//!
//! The queue is emptied completely by every flush: what the kernel has no room for is dropped and counted, never kept.
//! Late media is worthless, and a queue would only move the loss to those behind it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd as _;

use crate::address::{RawAddress, source_for};
use crate::control::Control;
use crate::socket::Socket;
use crate::sys::{self, BATCH, Message};

/// Datagrams in one segmented message at most; the kernel's `UDP_MAX_SEGMENTS` before 6.9.
pub const SEGMENTS_MAX: u16 = 64;
/// Bytes of one message at most: what an IPv4 datagram can carry.
const MESSAGE_BYTES_MAX: usize = 65_507;
/// What waits between two flushes at most, in bytes; more is dropped and counted.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;
/// [`SendQueue::flush_when_full`] flushes above this: it still fits the second-level cache beside its readers.
const FULL_BYTES: usize = 256 << 10;
/// So many messages in a row without room in the kernel, and the rest of the flush is dropped unasked.
const WOULD_BLOCK_MAX: u32 = 64;
/// Trains that wait between two flushes at most, 6 MB of them; more is dropped and counted. [`QUEUE_BYTES_MAX`] alone
/// bounds nothing where many paths share their bytes.
const TRAINS_MAX: usize = 64 << 10;

/// What became of the datagrams of a flush.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Their bytes, without headers of UDP and below.
    pub bytes: u64,
    /// Datagrams dropped because the kernel's or our own buffer was full, oldest first.
    pub dropped: u64,
    /// Datagrams that the kernel refused: no route, a source address that is no more ours, a firewall.
    pub refused: u64,
    /// The kernel's buffer was full at least once.
    pub would_block: bool,
}

/// Datagrams on their way to the kernel.
#[derive(Debug)]
pub struct SendQueue {
    /// Datagrams in one train at most.
    segments_max: u16,
    /// Grows to what one turn needs and stays; the first `used` bytes are queued.
    arena: Vec<u8>,
    used: usize,
    trains: Vec<Train>,
    /// The trains of [`Self::push_to_all`], before they have a destination.
    shared: Vec<Segments>,
    messages: Vec<Message>,
    /// What has happened since the last [`Self::flush`].
    flushed: Flushed,
}

/// Neighbouring datagrams in the arena, all of one length but the last.
#[derive(Debug, Clone, Copy)]
struct Segments {
    start: usize,
    bytes: usize,
    segment: u16,
    count: u16,
    /// The last datagram is shorter, so it must stay the last.
    is_closed: bool,
}

impl Segments {
    const fn one(start: usize, length: usize) -> Self {
        Self { start, bytes: length, segment: length as u16, count: 1, is_closed: false }
    }

    /// Takes the datagram at `start` too, if it follows and fits.
    fn take(&mut self, start: usize, length: usize, segments_max: u16) -> bool {
        let takes = !self.is_closed
            && start == self.start + self.bytes
            && length <= usize::from(self.segment)
            && self.count < segments_max
            && self.bytes + length <= MESSAGE_BYTES_MAX;
        if takes {
            self.bytes += length;
            self.count += 1;
            self.is_closed = length < usize::from(self.segment);
        }
        takes
    }
}

/// Datagrams of one path. Trains of several paths may share their bytes.
#[derive(Debug)]
struct Train {
    local: IpAddr,
    remote: SocketAddr,
    segments: Segments,
}

/// What the queue needs of a socket; tests play a kernel that refuses.
trait Kernel {
    fn send(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize>;
    fn is_ipv6(&self) -> bool;
    fn gso_active(&self) -> bool;
    fn segmentation_worked(&self);
    fn segmentation_refused(&self);
}

impl Kernel for Socket {
    fn send(&self, arena: &[u8], messages: &[Message]) -> io::Result<usize> {
        sys::send(self.as_fd(), arena, messages)
    }
    fn is_ipv6(&self) -> bool {
        self.local_addr().is_ipv6()
    }
    fn gso_active(&self) -> bool {
        Self::gso_active(self)
    }
    fn segmentation_worked(&self) {
        Self::segmentation_worked(self);
    }
    fn segmentation_refused(&self) {
        Self::segmentation_refused(self);
    }
}

/// The next datagram to hand over.
#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    train: usize,
    /// Datagrams of the train that are done.
    segment: u16,
    /// Trains before this one go one datagram at a time.
    single_before: usize,
}

impl Default for SendQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl SendQueue {
    /// An empty queue. Takes its memory as it is used.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_trains_of(SEGMENTS_MAX)
    }

    /// An empty queue whose trains are of `segments_max` datagrams at most, for paths that a longer burst would hurt;
    /// [`SEGMENTS_MAX`] is the most there can be.
    #[must_use]
    pub const fn with_trains_of(segments_max: u16) -> Self {
        Self {
            segments_max: if segments_max < SEGMENTS_MAX { segments_max } else { SEGMENTS_MAX },
            arena: Vec::new(),
            used: 0,
            trains: Vec::new(),
            shared: Vec::new(),
            messages: Vec::new(),
            flushed: Flushed { sent: 0, bytes: 0, dropped: 0, refused: 0, would_block: false },
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.trains.is_empty()
    }

    /// Queues one datagram to `remote`, from `local` unless that is unspecified (then the kernel chooses).
    ///
    /// `fill` writes it into the buffer of `len_max` bytes that it is given, whose content is arbitrary, and returns
    /// its length; 0 queues nothing. Datagrams of one path leave in the order in which they were pushed. Without room
    /// ([`QUEUE_BYTES_MAX`]) `fill` is not called and the datagram counts as dropped.
    pub fn push(
        &mut self,
        local: IpAddr,
        remote: SocketAddr,
        len_max: usize,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) {
        let start = self.used;
        let Some(room) = self.room(len_max).filter(|_| self.trains.len() < TRAINS_MAX) else {
            self.flushed.dropped += 1;
            return;
        };
        let length = fill(&mut self.arena[room]).min(len_max);
        if length == 0 {
            return;
        }
        self.used += length;
        let last = self.trains.last_mut().filter(|last| last.remote == remote && last.local == local);
        let is_taken = last.is_some_and(|last| last.segments.take(start, length, self.segments_max));
        if !is_taken {
            self.trains.push(Train { local, remote, segments: Segments::one(start, length) });
        }
    }

    /// Queues the same datagrams, in their order, to each of `remotes`; the kernel chooses where from. Their bytes stand
    /// in the queue once, however many get them. What finds no room is dropped and counted as with [`Self::push`].
    pub fn push_to_all<B: AsRef<[u8]>>(&mut self, datagrams: &[B], remotes: &[SocketAddr]) {
        self.shared.clear();
        let (mut datagrams_kept, mut datagrams_lost) = (0, 0);
        for datagram in datagrams.iter().map(AsRef::as_ref).filter(|datagram| !datagram.is_empty()) {
            let (start, length) = (self.used, datagram.len());
            let Some(room) = self.room(length) else {
                datagrams_lost += 1;
                continue;
            };
            self.arena[room].copy_from_slice(datagram);
            self.used += length;
            datagrams_kept += 1;
            if !self.shared.last_mut().is_some_and(|last| last.take(start, length, self.segments_max)) {
                self.shared.push(Segments::one(start, length));
            }
        }
        for remote in remotes {
            self.flushed.dropped += datagrams_lost;
            if self.trains.len() + self.shared.len() > TRAINS_MAX {
                self.flushed.dropped += datagrams_kept;
                continue;
            }
            let local = unspecified(remote);
            let trains =
                self.shared.iter().map(|segments| Train { local, remote: *remote, segments: *segments });
            self.trains.extend(trains);
        }
    }

    /// The next `length` bytes of the arena, if there is room.
    fn room(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.used.saturating_add(length);
        if end > QUEUE_BYTES_MAX || length > MESSAGE_BYTES_MAX {
            return None;
        }
        if end > self.arena.len() {
            self.arena.resize(end.next_power_of_two(), 0);
        }
        Some(self.used..end)
    }

    /// Flushes if so much waits that it would fall out of the processor's cache; what happened is told by the next
    /// [`Self::flush`].
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn flush_when_full(&mut self, socket: &Socket) -> io::Result<()> {
        if self.used >= FULL_BYTES { self.run(socket) } else { Ok(()) }
    }

    /// Hands everything to the kernel and tells what became of all datagrams since the last call. The queue is empty
    /// afterwards, whatever the outcome.
    ///
    /// # Errors
    /// If the socket itself is broken. A datagram that cannot be sent is counted, not an error.
    pub fn flush(&mut self, socket: &Socket) -> io::Result<Flushed> {
        self.flush_to(socket)
    }

    fn flush_to(&mut self, kernel: &impl Kernel) -> io::Result<Flushed> {
        self.run(kernel)?;
        Ok(std::mem::take(&mut self.flushed))
    }

    fn run(&mut self, kernel: &impl Kernel) -> io::Result<()> {
        let mut cursor = Cursor::default();
        let mut blocked_in_a_row = 0;
        let mut result = Ok(());
        while cursor.train < self.trains.len() {
            self.build(cursor, kernel);
            match kernel.send(&self.arena, &self.messages) {
                Ok(count) => {
                    blocked_in_a_row = 0;
                    self.sent(&mut cursor, count, kernel);
                }
                Err(error) => match judge(&error, self.messages[0].segments) {
                    Verdict::Again => {}
                    Verdict::Unsegmented => {
                        cursor.single_before = cursor.train + 1;
                        kernel.segmentation_refused();
                    }
                    Verdict::NoRoom => {
                        self.flushed.would_block = true;
                        self.flushed.dropped += u64::from(self.messages[0].segments);
                        self.advance(&mut cursor, self.messages[0].segments);
                        blocked_in_a_row += 1;
                        if blocked_in_a_row == WOULD_BLOCK_MAX {
                            self.flushed.dropped += self.rest(cursor);
                            break;
                        }
                    }
                    Verdict::Refused => {
                        self.flushed.refused += u64::from(self.messages[0].segments);
                        self.advance(&mut cursor, self.messages[0].segments);
                    }
                    Verdict::Broken => {
                        self.flushed.refused += self.rest(cursor);
                        result = Err(error);
                        break;
                    }
                },
            }
        }
        self.trains.clear();
        self.used = 0;
        result
    }

    /// Builds up to [`BATCH`] messages from the cursor on.
    fn build(&mut self, cursor: Cursor, kernel: &impl Kernel) {
        let (is_ipv6, is_segmenting) = (kernel.is_ipv6(), kernel.gso_active());
        self.messages.clear();
        let mut skip = cursor.segment;
        for (index, train) in self.trains.iter().enumerate().skip(cursor.train) {
            let address = RawAddress::new(train.remote, is_ipv6);
            let mut control = Control::empty();
            if let Some(source) = source_for(train.local, train.remote) {
                let scope = match train.remote {
                    SocketAddr::V4(_) => 0,
                    SocketAddr::V6(v6) => v6.scope_id(),
                };
                control.source(source, scope, is_ipv6);
            }
            let Segments { start, bytes, count, .. } = train.segments;
            let (segment, end) = (usize::from(train.segments.segment), start + bytes);
            let is_whole = is_segmenting && index >= cursor.single_before && count - skip > 1;
            if is_whole {
                control.segment(train.segments.segment);
                let payload = start + usize::from(skip) * segment..end;
                self.messages.push(Message { payload, address, control, segments: count - skip });
            } else {
                for number in skip..count.min(skip + (BATCH - self.messages.len()) as u16) {
                    let from = start + usize::from(number) * segment;
                    let payload = from..(from + segment).min(end);
                    self.messages.push(Message { payload, address, control, segments: 1 });
                }
            }
            skip = 0;
            if self.messages.len() == BATCH {
                break;
            }
        }
    }

    fn sent(&mut self, cursor: &mut Cursor, count: usize, kernel: &impl Kernel) {
        let mut is_segmented = false;
        for index in 0..count {
            let (segments, bytes) = (self.messages[index].segments, self.messages[index].payload.len());
            self.flushed.sent += u64::from(segments);
            self.flushed.bytes += bytes as u64;
            is_segmented |= segments > 1;
            self.advance(cursor, segments);
        }
        if is_segmented {
            kernel.segmentation_worked();
        }
    }

    fn advance(&self, cursor: &mut Cursor, segments: u16) {
        cursor.segment += segments;
        if cursor.segment == self.trains[cursor.train].segments.count {
            cursor.train += 1;
            cursor.segment = 0;
        }
    }

    fn rest(&self, cursor: Cursor) -> u64 {
        let trains = self.trains[cursor.train..].iter();
        let rest: u64 = trains.map(|train| u64::from(train.segments.count)).sum();
        rest - u64::from(cursor.segment)
    }
}

/// Leaves the choice of the local address to the kernel.
const fn unspecified(remote: &SocketAddr) -> IpAddr {
    match remote {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// What an error of the first message of a batch means.
enum Verdict {
    Again,
    Unsegmented,
    NoRoom,
    Refused,
    Broken,
}

fn judge(error: &io::Error, segments: u16) -> Verdict {
    match error.raw_os_error() {
        Some(libc::EINTR) => Verdict::Again,
        Some(libc::EAGAIN | libc::ENOBUFS) => Verdict::NoRoom,
        // EIO: the device or IPsec cannot. EINVAL, EMSGSIZE: a segment above the path's MTU, or no such offload at all.
        Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE) if segments > 1 => Verdict::Unsegmented,
        Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::ENOSYS) => Verdict::Broken,
        Some(_) | None => Verdict::Refused,
    }
}

#[cfg(test)]
mod tests;
