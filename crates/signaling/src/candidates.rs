//! Which addresses an answer lists, and in which order.
//!
//! The order matters: FFmpeg tries only the first candidate. So it is the address that the client most
//! probably reaches: the configured public one, else the one that its HTTP request arrived on.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::sdp::Candidate;

/// Most candidates of one answer over UDP: a host with many bridges must not blow it up.
const UDP_MAX: usize = 12;
/// Over TCP, for those who have no other way.
const TCP_MAX: usize = 4;
/// Most candidates of one answer.
pub const CANDIDATES_MAX: usize = UDP_MAX + TCP_MAX;

/// What is known when an offer arrives.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The configured addresses of a one-to-one NAT, best first.
    pub public_ips: &'a [IpAddr],
    /// The local address that the HTTP request arrived on.
    pub request_local: IpAddr,
    /// Where the HTTP request came from.
    pub request_peer: IpAddr,
    /// Whether a proxy has passed it on: then neither of the two says much of where the client is.
    pub is_passed_on: bool,
    /// The host's addresses that the media socket can be reached on, loopback included or not.
    pub host_addresses: &'a [IpAddr],
    /// UDP port of the media socket.
    pub port: u16,
    /// Whether TCP is listened to on the same port.
    pub has_tcp: bool,
}

/// The addresses of an answer, best first: the public ones; then IPv4 before IPv6, and in each family the
/// address of the request, the others as the host lists them, loopback. Of more than there is room for, the address of
/// the request, which reaches the client, is never left out. Loopback only if the HTTP peer is on
/// this host itself: to anyone else it would be their own. Link-local IPv6 addresses are left out, since
/// candidates have no zone. TCP comes after all of UDP.
#[must_use]
pub fn order(known: &Known<'_>) -> Vec<Candidate> {
    let addresses = addresses(known);
    let of_request = SocketAddr::new(known.request_local.to_canonical(), known.port);
    let best = |count| first(&addresses, of_request, count);
    let udp = (0..).zip(best(UDP_MAX)).map(|(index, address)| Candidate::host(index, address));
    let of_tcp = best(if known.has_tcp { TCP_MAX } else { 0 });
    let tcp = (UDP_MAX as u16..).zip(of_tcp).map(|(index, address)| Candidate::passive(index, address));
    udp.chain(tcp).collect()
}

/// The first so many, of which the last gives way to the one of the request if that comes after them.
fn first(addresses: &[SocketAddr], of_request: SocketAddr, count: usize) -> Vec<SocketAddr> {
    let (taken, left) = addresses.split_at(count.min(addresses.len()));
    let mut taken = taken.to_vec();
    if let Some(last) = taken.last_mut().filter(|_| left.contains(&of_request)) {
        *last = of_request;
    }
    taken
}

fn addresses(known: &Known<'_>) -> Vec<SocketAddr> {
    let request_peer = known.request_peer.to_canonical();
    let is_peer_local = request_peer.is_loopback()
        || request_peer == known.request_local.to_canonical()
        || known.host_addresses.iter().any(|address| address.to_canonical() == request_peer);

    let request_local = known.request_local.to_canonical();
    let mut of_host: Vec<IpAddr> = std::iter::once(request_local)
        .chain(known.host_addresses.iter().map(IpAddr::to_canonical))
        .filter(|address| is_usable(*address) && (is_peer_local || !address.is_loopback()))
        .collect();
    // The sort is stable: within a rank the order of the host stays.
    of_host.sort_by_key(|address| {
        let is_of_request = *address == request_local && !(known.is_passed_on && address.is_loopback());
        (address.is_ipv6(), !is_of_request, address.is_loopback() && !is_of_request)
    });

    let mut ordered: Vec<SocketAddr> = Vec::new();
    for address in known.public_ips.iter().map(IpAddr::to_canonical).chain(of_host) {
        let address = SocketAddr::new(address, known.port);
        if !ordered.contains(&address) {
            ordered.push(address);
        }
    }
    ordered
}

fn is_usable(address: IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => is_unicast_link_local(address),
    };
    !(address.is_unspecified() || address.is_multicast() || is_link_local)
}

const fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn ordered(public: &[&str], local: &str, peer: &str, host: &[&str]) -> Vec<String> {
        passed_on(false, public, local, peer, host)
    }

    fn passed_on(is_passed_on: bool, public: &[&str], local: &str, peer: &str, host: &[&str]) -> Vec<String> {
        let host_addresses: Vec<IpAddr> = host.iter().map(|text| ip(text)).collect();
        let public_ips: Vec<IpAddr> = public.iter().map(|text| ip(text)).collect();
        let known = Known {
            public_ips: &public_ips,
            request_local: ip(local),
            request_peer: ip(peer),
            is_passed_on,
            host_addresses: &host_addresses,
            port: 50_000,
            has_tcp: false,
        };
        order(&known).into_iter().map(|candidate| candidate.address).collect()
    }

    const HOST: [&str; 5] = ["127.0.0.1", "192.168.1.5", "10.0.0.7", "::1", "2001:db8::5"];

    #[test]
    fn t03_the_address_of_the_request_comes_first() {
        let addresses = ordered(&[], "10.0.0.7", "10.0.0.99", &HOST);
        assert_eq!(addresses, ["10.0.0.7", "192.168.1.5", "2001:db8::5"]);
    }

    #[test]
    fn t03_the_public_address_comes_before_all() {
        let addresses = ordered(&["203.0.113.9"], "10.0.0.7", "198.51.100.3", &HOST);
        assert_eq!(addresses, ["203.0.113.9", "10.0.0.7", "192.168.1.5", "2001:db8::5"]);
        let addresses = ordered(&["192.168.1.5"], "10.0.0.7", "198.51.100.3", &HOST);
        assert_eq!(addresses, ["192.168.1.5", "10.0.0.7", "2001:db8::5"], "and stands there once");
    }

    #[test]
    fn several_public_addresses_come_in_their_order_before_those_of_the_host() {
        let public = ["203.0.113.9", "2001:db8::9"];
        let addresses = ordered(&public, "10.0.0.7", "198.51.100.3", &HOST);
        assert_eq!(addresses, ["203.0.113.9", "2001:db8::9", "10.0.0.7", "192.168.1.5", "2001:db8::5"]);
    }

    #[test]
    fn a_request_over_loopback_gets_loopback_first_and_the_rest_for_firefox() {
        let addresses = ordered(&[], "127.0.0.1", "127.0.0.1", &HOST);
        assert_eq!(addresses, ["127.0.0.1", "192.168.1.5", "10.0.0.7", "2001:db8::5", "::1"]);
    }

    #[test]
    fn t03_behind_a_proxy_on_this_host_loopback_is_last() {
        let addresses = passed_on(true, &[], "127.0.0.1", "127.0.0.1", &HOST);
        assert_eq!(addresses, ["192.168.1.5", "10.0.0.7", "127.0.0.1", "2001:db8::5", "::1"]);
    }

    #[test]
    fn a_local_peer_on_another_address_gets_loopback_last() {
        let addresses = ordered(&[], "192.168.1.5", "192.168.1.5", &HOST);
        assert_eq!(addresses, ["192.168.1.5", "10.0.0.7", "127.0.0.1", "2001:db8::5", "::1"]);
    }

    #[test]
    fn a_remote_peer_never_gets_loopback() {
        for local in ["192.168.1.5", "10.0.0.7"] {
            let addresses = ordered(&[], local, "198.51.100.3", &HOST);
            assert!(!addresses.iter().any(|address| ip(address).is_loopback()), "{addresses:?}");
        }
    }

    #[test]
    fn t03_ipv4_comes_first_even_if_the_request_came_over_ipv6() {
        let addresses = ordered(&[], "2001:db8::5", "2001:db8::99", &HOST);
        assert_eq!(addresses, ["192.168.1.5", "10.0.0.7", "2001:db8::5"]);
    }

    #[test]
    fn a_dual_stack_listener_yields_plain_ipv4() {
        let addresses = ordered(&[], "::ffff:10.0.0.7", "::ffff:10.0.0.99", &["10.0.0.7", "fe80::1"]);
        assert_eq!(addresses, ["10.0.0.7"]);
    }

    #[test]
    fn a_host_with_many_bridges_does_not_blow_up_the_answer() {
        let bridges: Vec<String> = (0..60).map(|index| format!("172.17.{index}.1")).collect();
        let bridges: Vec<&str> = bridges.iter().map(String::as_str).collect();
        let addresses = ordered(&[], "10.0.0.7", "10.0.0.99", &bridges);
        assert_eq!((addresses.len(), addresses[0].as_str()), (UDP_MAX, "10.0.0.7"));
        let addresses = ordered(&[], "2001:db8::5", "2001:db8::99", &bridges);
        assert_eq!((addresses.len(), addresses[UDP_MAX - 1].as_str()), (UDP_MAX, "2001:db8::5"));
    }

    #[test]
    fn tcp_comes_last_and_waits_to_be_connected() {
        let host_addresses = [ip("10.0.0.7"), ip("2001:db8::5")];
        let (request_local, request_peer) = (ip("10.0.0.7"), ip("10.0.0.99"));
        let known = Known {
            public_ips: &[],
            request_local,
            request_peer,
            is_passed_on: false,
            host_addresses: &host_addresses,
            port: 50_000,
            has_tcp: true,
        };
        let lines: Vec<String> = order(&known).iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "1 1 udp 2130706431 10.0.0.7 50000 typ host",
                "2 1 udp 2130706175 2001:db8::5 50000 typ host",
                "13 1 tcp 1520432127 10.0.0.7 50000 typ host tcptype passive",
                "14 1 tcp 1520431871 2001:db8::5 50000 typ host tcptype passive",
            ]
        );
        for line in lines {
            assert_eq!(line.parse::<Candidate>().expect("a candidate").to_string(), line);
        }
    }
}
