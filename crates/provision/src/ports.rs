//! Blocks of ports, one for each node of a machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;

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
    pub(crate) const fn at(first: u16) -> Self {
        Self { http: first, ops: first + 1, link: first + 2, media: first + FIXED }
    }

    /// All of them, for a node of so many shards.
    pub(crate) const fn all(self, shards: u16) -> RangeInclusive<u16> {
        self.http..=self.http + (FIXED - 1) + shards
    }

    /// The blocks from `first` on, for nodes of so many shards.
    pub(crate) fn blocks(first: u16, shards: u16) -> impl Iterator<Item = Self> + Clone {
        let size = FIXED.saturating_add(shards);
        (first..=u16::MAX.saturating_sub(size)).step_by(size.into()).map(Self::at)
    }

    /// The first block from `first` on that neither these nodes nor others on this machine use.
    pub(crate) fn free(first: u16, shards: u16, taken: impl Iterator<Item = Self>) -> Option<Self> {
        let taken: Vec<_> = taken.map(|ports| ports.all(shards)).collect();
        let is_free = |ports: &Self| {
            let own = ports.all(shards);
            !taken.iter().any(|other| overlap(other, &own)) && own.into_iter().all(is_free_here)
        };
        Self::blocks(first, shards).find(is_free)
    }
}

/// They have a port in common.
pub(crate) const fn overlap(one: &RangeInclusive<u16>, other: &RangeInclusive<u16>) -> bool {
    *one.start() <= *other.end() && *other.start() <= *one.end()
}

fn is_free_here(port: u16) -> bool {
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

    #[test]
    fn a_block_is_what_a_node_of_its_shards_takes() {
        let blocks: Vec<_> = Ports::blocks(20_000, 2).take(2).collect();
        assert_eq!(blocks[0], Ports { http: 20_000, ops: 20_001, link: 20_002, media: 20_003 });
        assert_eq!(
            blocks.iter().map(|ports| ports.all(2)).collect::<Vec<_>>(),
            [20_000..=20_004, 20_005..=20_009]
        );
        assert!(!overlap(&blocks[0].all(2), &blocks[1].all(2)));
        assert!(
            overlap(&(20_004..=20_004), &blocks[0].all(2)) && overlap(&blocks[0].all(2), &(1..=u16::MAX))
        );
        assert_eq!(Ports::blocks(20_000, 1).last().map(|ports| *ports.all(1).end()), Some(65_531));
    }
}
