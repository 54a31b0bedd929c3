//! Control messages (`cmsg(3)`): which local address a datagram came to or leaves from, and how long the segments of a
//! message are.
//!
//! Written and read as bytes. The layout is the kernel's: a header of length, level and type, then the payload, each
//! padded to the machine word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::array;

/// Room for one `IP_PKTINFO`, one `IPV6_PKTINFO` (a dual-stack socket gets both) and one `UDP_GRO`, or for one of them
/// and a `UDP_SEGMENT`.
const CAPACITY: usize = 128;
const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

/// What the control messages of a received message say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Told {
    /// The local address that it was sent to, a mapped one as plain IPv4.
    pub destination: Option<IpAddr>,
    /// The length of each of its datagrams but the last, which may be shorter; 0 if it is a single datagram.
    pub segment: usize,
}

/// A buffer of control messages.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct Control {
    pub(crate) bytes: [u8; CAPACITY],
    pub(crate) length: usize,
}

impl Control {
    /// No control message.
    pub const fn empty() -> Self {
        Self { bytes: [0; CAPACITY], length: 0 }
    }

    /// Room for the kernel to write into.
    pub const fn room() -> Self {
        Self { bytes: [0; CAPACITY], length: CAPACITY }
    }

    /// Adds the source address of a datagram. `scope` is the interface of a link-local one, else 0.
    pub fn source(&mut self, source: IpAddr, scope: u32, is_ipv6_socket: bool) {
        match source {
            IpAddr::V4(v4) if !is_ipv6_socket => {
                // struct in_pktinfo: interface index, address to send from, address in the header (ignored on send).
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&v4.octets());
                self.add(libc::SOL_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V4(v4) => self.source_v6(v4.to_ipv6_mapped(), 0),
            IpAddr::V6(v6) => self.source_v6(v6, scope),
        }
    }

    fn source_v6(&mut self, source: Ipv6Addr, scope: u32) {
        // struct in6_pktinfo: address, interface index.
        let mut info = [0; 20];
        info[..16].copy_from_slice(&source.octets());
        info[16..].copy_from_slice(&scope.to_ne_bytes());
        self.add(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
    }

    /// Asks the kernel to cut the message into datagrams of `bytes`.
    pub fn segment(&mut self, bytes: u16) {
        self.add(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes());
    }

    fn add(&mut self, level: i32, kind: i32, payload: &[u8]) {
        let length = HEADER + payload.len();
        let room = &mut self.bytes[self.length..];
        room[..WORD].copy_from_slice(&length.to_ne_bytes());
        room[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        room[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER..length].copy_from_slice(payload);
        self.length += length.next_multiple_of(WORD);
    }

    /// What the kernel says of a received message.
    pub fn read(&self) -> Told {
        let mut told = Told::default();
        let mut rest = self.bytes.get(..self.length).unwrap_or_default();
        while rest.len() >= HEADER {
            let length = usize::from_ne_bytes(array(rest));
            let Some(payload) = rest.get(HEADER..length) else { break };
            let level = i32::from_ne_bytes(array(&rest[WORD..]));
            let kind = i32::from_ne_bytes(array(&rest[WORD + 4..]));
            match (level, kind) {
                (libc::SOL_IP, libc::IP_PKTINFO) if payload.len() >= 12 => {
                    told.destination = Some(Ipv4Addr::from(array::<4>(&payload[8..])).into());
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) if payload.len() >= 16 => {
                    told.destination = Some(Ipv6Addr::from(array::<16>(payload)).to_canonical());
                }
                (libc::SOL_UDP, libc::UDP_GRO) if payload.len() >= 4 => {
                    told.segment = usize::try_from(i32::from_ne_bytes(array(payload))).unwrap_or(0);
                }
                _not_asked_for => {}
            }
            rest = rest.get(length.next_multiple_of(WORD)..).unwrap_or_default();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_source_written_for_ipv6_is_read_back_as_destination() {
        for (text, is_ipv6_socket) in [("2001:db8::1", true), ("198.18.0.7", true)] {
            let address: IpAddr = text.parse().expect("address");
            let mut control = Control::empty();
            control.source(address, 0, is_ipv6_socket);
            control.segment(1200);
            assert_eq!(control.read(), Told { destination: Some(address), segment: 0 });
            assert_eq!(control.length % WORD, 0);
        }
    }

    #[test]
    fn the_segment_length_is_read_before_and_after_the_destination() {
        for is_first in [true, false] {
            let mut control = Control::empty();
            if is_first {
                control.add(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
            }
            control.source(Ipv6Addr::LOCALHOST.into(), 0, true);
            if !is_first {
                control.add(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
            }
            let expected = Told { destination: Some(Ipv6Addr::LOCALHOST.into()), segment: 1200 };
            assert_eq!(control.read(), expected);
        }
    }

    #[test]
    fn both_messages_of_the_longest_kind_fit() {
        let mut control = Control::empty();
        control.source(Ipv6Addr::LOCALHOST.into(), 1, true);
        control.segment(u16::MAX);
        assert!(control.length <= CAPACITY, "{} bytes", control.length);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_hang(bytes in proptest::array::uniform32(any::<u8>()), length in 0usize..200) {
            let mut control = Control::room();
            control.bytes[..32].copy_from_slice(&bytes);
            control.length = length;
            let _ = control.read();
        }
    }
}
