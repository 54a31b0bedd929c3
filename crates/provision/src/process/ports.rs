//! Blocks of ports that nobody uses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// Ports of a block before those of shards.
const FIXED: u16 = 3;

/// The ports of one node: consecutive, beginning with `http`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// TCP, public.
    pub http: u16,
    /// TCP, operations.
    pub ops: u16,
    /// UDP, links.
    pub link: u16,
    /// UDP and TCP, media of the first shard.
    pub media: u16,
}

impl Ports {
    pub(super) const fn at(first: u16) -> Self {
        Self { http: first, ops: first + 1, link: first + 2, media: first + FIXED }
    }

    /// The first block from `first` on that neither these nodes nor others on this machine use.
    pub(super) fn free(first: u16, shards: u16, taken: impl Iterator<Item = Self>) -> Option<Self> {
        let size = FIXED + shards;
        let taken: Vec<u16> = taken.map(|ports| ports.http).collect();
        let blocks = (first..=u16::MAX - size).step_by(size.into());
        let overlaps = |block: u16| taken.iter().any(|other| other.abs_diff(block) < size);
        let mut free = blocks.filter(|block| !overlaps(*block) && (*block..block + size).all(is_free));
        free.next().map(Self::at)
    }
}

fn is_free(port: u16) -> bool {
    let is_free_on = |address: IpAddr| {
        // A machine without IPv6 has nobody there, either.
        let is_taken = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrInUse;
        let udp = UdpSocket::bind((address, port)).err().is_none_or(|error| !is_taken(error));
        udp && TcpListener::bind((address, port)).err().is_none_or(|error| !is_taken(error))
    };
    [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()].into_iter().all(is_free_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_neither_overlap_nor_hold_a_port_that_is_in_use() {
        let first = 21_000 + (std::process::id() % 500) as u16 * 20;
        let one = Ports::free(first, 2, std::iter::empty()).expect("free ports");
        let two = Ports::free(first, 2, [one].into_iter()).expect("free ports");
        assert!(two.http >= one.http + 5);
        let stranger = UdpSocket::bind((Ipv4Addr::LOCALHOST, one.link)).expect("it was free");
        let three = Ports::free(one.http, 2, std::iter::empty()).expect("free ports");
        assert_ne!(three, one);
        drop(stranger);
        assert_eq!(Ports::free(65_532, 2, std::iter::empty()), None);
    }
}
