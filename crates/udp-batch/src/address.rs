//! Socket addresses in the kernel's form (`sockaddr_in`, `sockaddr_in6`), written and read as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The size of `sockaddr_in6`, the longer of the two.
const LENGTH_MAX: usize = 28;
/// The size of `sockaddr_in`.
const LENGTH_V4: usize = 16;

/// A socket address as the kernel takes and gives it.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct RawAddress {
    pub(crate) bytes: [u8; LENGTH_MAX],
    pub(crate) length: u32,
}

impl RawAddress {
    /// Room for the kernel to write any address into.
    pub const fn room() -> Self {
        Self { bytes: [0; LENGTH_MAX], length: LENGTH_MAX as u32 }
    }

    /// `address` for a socket of the given family: an IPv6 socket reaches IPv4 through mapped addresses.
    pub fn new(address: SocketAddr, is_ipv6_socket: bool) -> Self {
        let mut raw = Self::room();
        match address {
            SocketAddr::V4(v4) if is_ipv6_socket => {
                raw.write_v6(&SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0));
            }
            SocketAddr::V4(v4) => {
                raw.bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                raw.bytes[2..4].copy_from_slice(&v4.port().to_be_bytes());
                raw.bytes[4..8].copy_from_slice(&v4.ip().octets());
                raw.length = LENGTH_V4 as u32;
            }
            SocketAddr::V6(v6) => raw.write_v6(&v6),
        }
        raw
    }

    fn write_v6(&mut self, v6: &SocketAddrV6) {
        self.bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        self.bytes[2..4].copy_from_slice(&v6.port().to_be_bytes());
        self.bytes[4..8].copy_from_slice(&v6.flowinfo().to_be_bytes());
        self.bytes[8..24].copy_from_slice(&v6.ip().octets());
        self.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
        self.length = LENGTH_MAX as u32;
    }

    /// The address, with a mapped IPv4 one as plain IPv4; `None` if it is of another family.
    pub fn get(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes;
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match i32::from(u16::from_ne_bytes([bytes[0], bytes[1]])) {
            libc::AF_INET => {
                let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
                Some(SocketAddrV4::new(ip, port).into())
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(array(&bytes[8..24]));
                if let Some(mapped) = ip.to_ipv4_mapped() {
                    return Some(SocketAddrV4::new(mapped, port).into());
                }
                let flowinfo = u32::from_be_bytes(array(&bytes[4..8]));
                let scope = u32::from_ne_bytes(array(&bytes[24..28]));
                Some(SocketAddrV6::new(ip, port, flowinfo, scope).into())
            }
            _other_family => None,
        }
    }
}

/// The local address a datagram is to leave from, if the caller chose one that fits the destination.
pub fn source_for(local: IpAddr, remote: SocketAddr) -> Option<IpAddr> {
    let (local, remote) = (local.to_canonical(), remote.ip().to_canonical());
    (!local.is_unspecified() && local.is_ipv4() == remote.is_ipv4()).then_some(local)
}

/// The first `N` bytes of a slice that has them.
pub(crate) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses() -> impl Strategy<Value = SocketAddr> {
        let v4 = (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let v6 = (any::<[u8; 16]>(), any::<u16>(), any::<u32>())
            .prop_map(|(ip, port, scope)| SocketAddrV6::new(ip.into(), port, 0, scope).into());
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn an_address_survives_the_kernels_form(address in addresses(), is_ipv6_socket: bool) {
            let canonical = RawAddress::new(address, is_ipv6_socket || address.is_ipv6()).get();
            prop_assert_eq!(canonical.map(|a| (a.ip(), a.port())), Some((address.ip().to_canonical(), address.port())));
        }

        #[test]
        fn bytes_of_any_family_are_read_without_panic(bytes: [u8; LENGTH_MAX]) {
            let _ = RawAddress { bytes, length: LENGTH_MAX as u32 }.get();
        }
    }

    #[test]
    fn a_source_of_the_other_family_or_none_is_left_to_the_kernel() {
        let remote: SocketAddr = "198.18.0.1:9".parse().expect("address");
        assert_eq!(source_for("0.0.0.0".parse().expect("ip"), remote), None);
        assert_eq!(source_for("::1".parse().expect("ip"), remote), None);
        assert_eq!(
            source_for("::ffff:198.18.0.2".parse().expect("ip"), remote),
            Some("198.18.0.2".parse().expect("ip"))
        );
    }
}
