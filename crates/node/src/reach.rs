//! What a node sees by itself of who will reach it, told to the person who starts it. What lies between it and its clients
//! only `media-tree check` finds out, from where they are.

use std::net::{IpAddr, SocketAddr};

/// Lines for the person who starts a node that listens to HTTP at `listen` and stands on a host with these addresses.
pub fn advice(listen: SocketAddr, public_ips: &[IpAddr], host: &[IpAddr]) -> Vec<String> {
    if listen.ip().to_canonical().is_loopback() {
        return vec![
            "only this machine reaches it; for others: --http 0.0.0.0:443 and a certificate".to_owned(),
        ];
    }
    if let Some(first) = public_ips.first() {
        return if public_ips.iter().any(|address| is_public(*address)) {
            Vec::new()
        } else {
            vec![format!("media is offered at {first} first (--public-ip), which is no public address")]
        };
    }
    let offered: Vec<IpAddr> =
        host.iter().map(IpAddr::to_canonical).filter(|address| !is_of_one_host(*address)).collect();
    if offered.iter().any(|address| is_public(*address)) {
        return Vec::new();
    }
    let names: Vec<String> = offered.iter().map(ToString::to_string).collect();
    let names = if names.is_empty() { "no address at all".to_owned() } else { names.join(", ") };
    vec![
        format!("media is offered at {names}: who stands in another network does not reach that"),
        "behind a router or in a cloud: --public-ip ADDRESS; then try it from outside: media-tree check URL"
            .into(),
    ]
}

fn is_of_one_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

fn is_public(address: IpAddr) -> bool {
    !is_of_one_host(address)
        && match address.to_canonical() {
            IpAddr::V4(address) => {
                // RFC 6598: between customers and providers.
                let [first, second, ..] = address.octets();
                let is_shared = first == 100 && second & 0xc0 == 64;
                !address.is_private() && !is_shared
            }
            IpAddr::V6(address) => !address.is_unique_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(listen: &str, public_ips: &[&str], host: &[&str]) -> String {
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
        advice(SocketAddr::new(ip(listen), 8080), &ips(public_ips), &ips(host)).join("\n")
    }

    #[test]
    fn who_will_not_be_reached_is_told_so() {
        let host = ["127.0.0.1", "192.168.1.5", "fe80::1", "fd00::5"];
        assert!(told("127.0.0.1", &[], &host).contains("only this machine"));
        let private = told("0.0.0.0", &[], &host);
        assert!(private.contains("192.168.1.5, fd00::5:") && private.contains("--public-ip"), "{private}");
        assert!(told("0.0.0.0", &[], &["127.0.0.1"]).contains("no address at all"));
        assert!(told("::", &["10.0.0.5"], &host).contains("no public address"));
    }

    #[test]
    fn nothing_is_said_where_nothing_is_wrong() {
        let host = ["127.0.0.1", "10.0.0.5"];
        assert_eq!(told("0.0.0.0", &["203.0.113.7"], &host), "");
        assert_eq!(told("0.0.0.0", &[], &["10.0.0.5", "203.0.113.7"]), "");
        assert_eq!(told("::", &[], &["10.0.0.5", "2001:db8::5"]), "");
    }
}
