//! Receiving many datagrams with one call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::RawAddress;
use crate::control::Control;
use crate::sys::BATCH;

/// The longest datagram that is received whole, in bytes; above any media packet on an Ethernet path.
pub const DATAGRAM_MAX: usize = 2048;
/// The longest message of coalesced datagrams, in bytes: what an IP packet can carry.
const MESSAGE_MAX: usize = 64 << 10;
/// Messages of coalesced datagrams taken at once: so many that their bytes still fit the second-level cache when all of
/// them are full.
const COALESCED_MESSAGES: usize = 16;

/// Where the kernel puts what it knows of one message.
#[derive(Debug, Clone)]
pub struct Slot {
    pub address: RawAddress,
    pub control: Control,
    pub length: usize,
    pub is_truncated: bool,
}

/// Room for what one receive brings, used again and again: [`BATCH`] datagrams or, from a socket that coalesces, 16
/// trains. Takes its memory (150 KB, or 1 MB) at the first receive.
#[derive(Debug, Default)]
pub struct ReceiveBatch {
    pub(crate) buffer: Vec<u8>,
    pub(crate) slots: Vec<Slot>,
    /// Bytes of the buffer for each message.
    pub(crate) room: usize,
    /// Messages that came.
    pub(crate) count: usize,
}

/// One received datagram.
#[derive(Debug)]
pub struct Received<'a> {
    /// The local address that it was sent to.
    pub local: IpAddr,
    /// Who sent it.
    pub remote: SocketAddr,
    /// What it says; writable, so that it can be decrypted in place.
    pub bytes: &'a mut [u8],
}

impl ReceiveBatch {
    /// An empty batch.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new(), slots: Vec::new(), room: DATAGRAM_MAX, count: 0 }
    }

    /// The datagrams of the last receive, in the order in which they came. One that was longer than [`DATAGRAM_MAX`]
    /// is left out, and so is an empty one.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Received<'_>> {
        let messages = self.slots.iter().zip(self.buffer.chunks_exact_mut(self.room)).take(self.count);
        let taken = messages.filter_map(|(slot, room)| {
            if slot.is_truncated {
                return None;
            }
            let told = slot.control.read();
            let local = told.destination.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let segment = if told.segment == 0 { slot.length.max(1) } else { told.segment };
            Some((local, slot.address.get()?, room[..slot.length].chunks_mut(segment)))
        });
        taken.flat_map(|(local, remote, datagrams)| {
            datagrams.map(move |bytes| Received { local, remote, bytes })
        })
    }

    pub(crate) fn make_room(&mut self, is_coalescing: bool) {
        self.count = 0;
        let (room, messages) =
            if is_coalescing { (MESSAGE_MAX, COALESCED_MESSAGES) } else { (DATAGRAM_MAX, BATCH) };
        self.room = room;
        if self.buffer.len() < messages * room {
            self.buffer.resize(messages * room, 0);
        }
        if self.slots.is_empty() {
            let slot = Slot {
                address: RawAddress::room(),
                control: Control::room(),
                length: 0,
                is_truncated: false,
            };
            self.slots.resize(BATCH, slot);
        }
    }
}
