//! To which nodes of the tree a page may talk: the sources of its Content-Security-Policy (CSP 3, section 2.3.1).
//!
//! Few are listed one by one. Many would make a header that proxies refuse: then those whose names share a domain stand
//! there as one, with every port where theirs differ, and what is still too much as every server of its scheme.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use axum::http::Uri;

/// The most sources that a page lists: some kilobytes, which every proxy takes.
const SOURCES_MAX: usize = 100;

/// An origin as a node says it of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Origin {
    /// `None` if it is anything else: it stands in a header.
    fn parse(text: &str) -> Option<Self> {
        let is_safe = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',');
        let uri =
            text.parse::<Uri>().ok().filter(|uri| is_safe && uri.path() == "/" && uri.query().is_none())?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme))?.to_owned();
        let host = uri.host().filter(|host| !host.contains('*'))?.to_owned();
        Some(Self { scheme, host, port: uri.port_u16() })
    }

    /// Its domain as a pattern; the host itself where it has no name, or one right below the top.
    fn domain(&self) -> String {
        let is_address = self.host.starts_with('[') || self.host.parse::<Ipv4Addr>().is_ok();
        match self.host.split_once('.') {
            Some((_, domain)) if !is_address && domain.contains('.') => format!("*.{domain}"),
            Some(_) | None => self.host.clone(),
        }
    }
}

/// What a page may talk to, so that it reaches all of these.
pub fn sources(origins: &BTreeSet<String>) -> Vec<String> {
    let origins: BTreeSet<Origin> = origins.iter().filter_map(|origin| Origin::parse(origin)).collect();
    if origins.len() <= SOURCES_MAX {
        let each = |origin: &Origin| source(&origin.scheme, &origin.host, &BTreeSet::from([origin.port]));
        return origins.iter().map(each).collect();
    }
    let by_domain = by_domain(&origins);
    if by_domain.len() <= SOURCES_MAX {
        return by_domain;
    }
    let schemes: BTreeSet<&str> = origins.iter().map(|origin| &*origin.scheme).collect();
    schemes.into_iter().map(|scheme| format!("{scheme}:")).collect()
}

/// Those whose names share a domain, or that share a host, as one.
fn by_domain(origins: &BTreeSet<Origin>) -> Vec<String> {
    let mut groups: BTreeMap<(&str, String), Group<'_>> = BTreeMap::new();
    for origin in origins {
        let group = groups.entry((&origin.scheme, origin.domain())).or_default();
        group.hosts.insert(&origin.host);
        group.ports.insert(origin.port);
    }
    let one = |((scheme, domain), Group { hosts, ports }): ((&str, String), Group<'_>)| {
        let alone = hosts.first().filter(|_| hosts.len() == 1);
        source(scheme, alone.unwrap_or(&&*domain), &ports)
    };
    groups.into_iter().map(one).collect()
}

/// What one source stands for.
#[derive(Default)]
struct Group<'a> {
    hosts: BTreeSet<&'a str>,
    ports: BTreeSet<Option<u16>>,
}

fn source(scheme: &str, host: &str, ports: &BTreeSet<Option<u16>>) -> String {
    let port = match ports.first() {
        Some(None) if ports.len() == 1 => String::new(),
        Some(Some(port)) if ports.len() == 1 => format!(":{port}"),
        Some(_) | None => ":*".into(),
    };
    format!("{scheme}://{host}{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(origins: impl Iterator<Item = String>) -> Vec<String> {
        sources(&origins.collect())
    }

    fn hosts(count: usize, host: impl Fn(usize) -> String) -> impl Iterator<Item = String> {
        (0..count).map(host)
    }

    #[test]
    fn a_hundred_nodes_are_listed_one_by_one_and_nothing_else_gets_into_the_header() {
        let nodes = || hosts(99, |number| format!("https://n{number:02}.example.net:8443"));
        let evil = [
            "https://evil.net; script-src *",
            "https://evil.net/path",
            "ftp://evil.net",
            "https://*",
            "https:",
            "'unsafe-inline'",
            "https://evil.net,x",
        ];
        let listed = of(nodes().chain(evil.map(str::to_owned)).chain(["http://10.0.0.1".to_owned()]));
        assert_eq!(listed.len(), 100, "{listed:?}");
        assert_eq!((&*listed[0], &*listed[1]), ("http://10.0.0.1", "https://n00.example.net:8443"));
    }

    #[test]
    fn more_stand_there_by_their_domains_and_hosts() {
        let named = hosts(150, |number| format!("https://n{number}.media.example.net"));
        let ports = hosts(150, |number| format!("http://10.0.0.1:{}", 20_000 + number));
        let others = ["https://only.example.org:444", "https://example.com", "https://[2001:db8::1]:1"];
        let listed = of(named.chain(ports).chain(others.map(str::to_owned)));
        assert_eq!(
            listed,
            [
                "http://10.0.0.1:*",
                "https://only.example.org:444",
                "https://*.media.example.net",
                "https://[2001:db8::1]:1",
                "https://example.com",
            ]
        );
    }

    #[test]
    fn what_has_nothing_in_common_is_every_server_of_its_scheme() {
        let addresses = |scheme: &'static str| {
            hosts(101, move |number| format!("{scheme}://10.0.{}.{}", number / 50, number % 50))
        };
        assert_eq!(of(addresses("https")), ["https:"]);
        assert_eq!(of(addresses("https").chain(addresses("http"))), ["http:", "https:"]);
    }
}
