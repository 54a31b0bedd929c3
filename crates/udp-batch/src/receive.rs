//! Receiving many datagrams with one call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::address::RawAddress;
use crate::control::Control;
use crate::sys::BATCH;

/// The longest datagram that is received whole, in bytes; above any media packet on an Ethernet path.
pub const DATAGRAM_MAX: usize = 2048;

/// Where the kernel puts what it knows of one datagram.
#[derive(Debug, Clone)]
pub struct Slot {
    pub address: RawAddress,
    pub control: Control,
    pub length: usize,
    pub is_truncated: bool,
}

/// Room for [`BATCH`] datagrams, used again and again. Takes its memory (150 KB) at the first receive.
#[derive(Debug, Default)]
pub struct ReceiveBatch {
    pub(crate) buffer: Vec<u8>,
    pub(crate) slots: Vec<Slot>,
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
        Self { buffer: Vec::new(), slots: Vec::new(), count: 0 }
    }

    /// The datagrams of the last receive, in the order in which they came. One that was longer than [`DATAGRAM_MAX`]
    /// is left out.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Received<'_>> {
        self.slots.iter().zip(self.buffer.chunks_exact_mut(DATAGRAM_MAX)).take(self.count).filter_map(
            |(slot, room)| {
                if slot.is_truncated {
                    return None;
                }
                let local = slot.control.destination().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
                Some(Received { local, remote: slot.address.get()?, bytes: &mut room[..slot.length] })
            },
        )
    }

    pub(crate) fn make_room(&mut self) {
        self.count = 0;
        if self.slots.is_empty() {
            self.buffer.resize(BATCH * DATAGRAM_MAX, 0);
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
