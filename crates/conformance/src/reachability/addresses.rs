//! The addresses that a server offers for media, judged by those that it is asked at and from.

use std::net::{IpAddr, SocketAddr};

use super::finding::{Check, Finding};
use crate::stun;

/// Who reaches an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// This machine.
    Loopback,
    /// The network that it stands in, or a provider's inside.
    Private,
    /// Everybody.
    Public,
}

/// Who reaches it.
pub(super) fn scope(address: IpAddr) -> Scope {
    match address.to_canonical() {
        IpAddr::V4(address) if address.is_loopback() => Scope::Loopback,
        IpAddr::V6(address) if address.is_loopback() => Scope::Loopback,
        IpAddr::V4(address) => {
            // RFC 6598: between customers and providers; RFC 2544: laboratories.
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            let is_laboratory = first == 198 && second & 0xfe == 18;
            if address.is_private() || address.is_link_local() || is_shared || is_laboratory {
                Scope::Private
            } else {
                Scope::Public
            }
        }
        IpAddr::V6(address) if address.is_unique_local() || address.is_unicast_link_local() => Scope::Private,
        IpAddr::V6(_) => Scope::Public,
    }
}

/// Between whom an answer was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Between {
    /// The server, as HTTP reaches it.
    pub server: IpAddr,
    /// This machine, as it faces the server.
    pub from: IpAddr,
}

impl Between {
    /// Whether the server is this very machine.
    pub fn is_here(&self) -> bool {
        scope(self.server) == Scope::Loopback || self.server.to_canonical() == self.from.to_canonical()
    }

    /// Whether only those get an answer from the server who stand in its network.
    pub fn is_inside(&self) -> bool {
        scope(self.server) != Scope::Public
    }
}

/// `addresses`, as one text.
pub(super) fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Judges the candidates of an answer before anything is sent to them.
pub(super) fn judge(between: Between, candidates: &[String]) -> Vec<Finding> {
    let offered = stun::addresses(candidates);
    if offered.is_empty() {
        let said = "the answer names no address for media over UDP";
        return vec![Finding::bad(Check::Addresses, said).advise(
            "Start the node with --public-ip ADDRESS, the address that clients reach it at (media.public_ip).",
        )];
    }
    let mut findings = vec![judge_scopes(between, &offered)];
    let has_ipv6 = offered.iter().any(SocketAddr::is_ipv6);
    if !between.is_inside() && !has_ipv6 {
        findings.push(Finding::note(
            Check::Addresses,
            "no IPv6 address is offered: networks with IPv6 alone reach this server only where they translate",
        ));
    }
    if between.is_here() {
        findings.push(Finding::note(
            Check::Addresses,
            "this is the server's own machine: nothing here passes a firewall or router; try it from another network, too",
        ));
    }
    findings
}

fn judge_scopes(between: Between, offered: &[SocketAddr]) -> Finding {
    let has = |wanted: Scope| offered.iter().any(|address| scope(address.ip()) == wanted);
    let names = list(offered);
    let public_ip = |address: &str| {
        format!(
            "Start the node with --public-ip {address} (media.public_ip): it then offers that address first. The router \
             has to send the media ports on to the node."
        )
    };
    match scope(between.server) {
        Scope::Public if !has(Scope::Public) => Finding::bad(
            Check::Addresses,
            format!(
                "the server is asked at {}, and offers media at private addresses alone: {names}",
                between.server
            ),
        )
        .advise(public_ip(&between.server.to_string())),
        Scope::Private if !has(Scope::Public) && !has(Scope::Private) => Finding::bad(
            Check::Addresses,
            format!("the server is asked at {}, and offers media at {names}", between.server),
        )
        .advise(public_ip(&between.server.to_string())),
        Scope::Private if !has(Scope::Public) => Finding::note(
            Check::Addresses,
            format!("media is offered at {names}: only who stands in the same network reaches that"),
        )
        .advise(public_ip("ADDRESS")),
        Scope::Loopback | Scope::Private | Scope::Public => {
            Finding::good(Check::Addresses, format!("media is offered at {names}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reachability::State;

    fn found(server: &str, from: &str, candidates: &[&str]) -> Vec<Finding> {
        let ip = |text: &str| text.parse().expect("an address");
        let candidate = |address: &&str| format!("1 1 udp 1 {address} 50000 typ host");
        let candidates: Vec<String> = candidates.iter().map(candidate).collect();
        judge(Between { server: ip(server), from: ip(from) }, &candidates)
    }

    #[test]
    fn a_private_address_is_nothing_for_public_clients() {
        let findings = found("203.0.113.7", "198.51.100.3", &["10.0.0.5", "192.168.1.5"]);
        assert_eq!(findings[0].state, State::Bad);
        let advice = findings[0].advice.clone().unwrap_or_default();
        assert!(advice.contains("--public-ip 203.0.113.7"), "{advice}");
        let findings = found("203.0.113.7", "198.51.100.3", &["203.0.113.7", "10.0.0.5"]);
        assert_eq!(findings[0].state, State::Good);
        assert!(findings[1].said.contains("no IPv6"), "{findings:?}");
        let findings = found("203.0.113.7", "198.51.100.3", &["203.0.113.7", "2001:db8::5"]);
        assert_eq!(findings.len(), 1, "{findings:?}");
    }

    #[test]
    fn an_address_in_the_same_network_will_do_there() {
        let findings = found("192.168.1.5", "192.168.1.9", &["192.168.1.5"]);
        assert_eq!((findings[0].state, findings.len()), (State::Note, 1), "{findings:?}");
        let findings = found("192.168.1.5", "192.168.1.9", &["127.0.0.1"]);
        assert_eq!(findings[0].state, State::Bad);
        assert_eq!(found("192.168.1.5", "192.168.1.9", &[])[0].state, State::Bad);
    }

    #[test]
    fn what_the_servers_own_machine_sees_is_not_what_others_see() {
        for (server, from) in [("127.0.0.1", "127.0.0.1"), ("203.0.113.7", "203.0.113.7")] {
            let findings = found(server, from, &[server]);
            assert!(findings.iter().any(|finding| finding.said.contains("own machine")), "{findings:?}");
        }
    }

    #[test]
    fn addresses_that_not_everybody_reaches_are_known() {
        for private in ["10.1.2.3", "100.64.0.1", "169.254.1.1", "fd00::1", "fe80::1", "198.18.3.1"] {
            assert_eq!(scope(private.parse().expect("an address")), Scope::Private, "{private}");
        }
        for public in ["203.0.113.7", "100.128.0.1", "2001:db8::1"] {
            assert_eq!(scope(public.parse().expect("an address")), Scope::Public, "{public}");
        }
    }
}
