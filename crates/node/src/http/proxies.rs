//! Who asks, where a proxy asks for him (`X-Forwarded-For`), and under which name he knows this server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use config::Network;

use super::{Addresses, App, text};

const FORWARDED: &str = "forwarded";
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// Lets a request that came through a trusted proxy count as its client's, and tells of every proxy that there is one: whoever
/// lies about that gets addresses in another order.
pub(super) async fn see_through(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(ConnectInfo(addresses)) = request.extensions().get::<ConnectInfo<Addresses>>() {
        let headers = request.headers();
        let client = client(&app.trusted_proxies, addresses.peer.ip(), headers);
        // Of its port the proxy says nothing.
        let peer = client.map_or(addresses.peer, |client| SocketAddr::new(client, 0));
        let is_passed_on =
            [FORWARDED_FOR, FORWARDED_HOST, FORWARDED].iter().any(|name| headers.contains_key(*name));
        let addresses = Addresses { peer, is_passed_on, ..*addresses };
        request.extensions_mut().insert(ConnectInfo(addresses));
    }
    next.run(request).await
}

/// The client that the proxies name: the last address that is none of them, since what stands before it was written by
/// somebody who is not trusted. `None` if nobody trusted has spoken.
fn client(proxies: &[Network], peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if !is_proxy(peer) {
        return None;
    }
    let mut last = None;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        for text in value.to_str().ok()?.rsplit(',') {
            let address = address(text.trim())?;
            last = Some(address);
            if !is_proxy(address) {
                return last;
            }
        }
    }
    last
}

/// Some proxies add the port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = || text.trim_matches(['[', ']']).parse().ok();
    let address: IpAddr = bare().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(address.to_canonical())
}

/// Scheme and authority under which the client knows this server.
pub(super) fn origin(app: &App, request: &Request, addresses: Addresses) -> String {
    known_as(app.is_tls, request.uri(), request.headers(), addresses.local)
}

/// Some proxies ask in a name of their own and tell the client's beside it (Apache, Traefik). Nobody has to be trusted for that:
/// who lies gets wrong URLs of his own session.
fn known_as(is_tls: bool, uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> String {
    // Of several proxies the first was asked by the client.
    let told = |name| text(headers, HeaderName::from_static(name))?.split(',').next().map(str::trim);
    let scheme = if is_tls || told(FORWARDED_PROTO) == Some("https") { "https" } else { "http" };
    // HTTP/2 has it in the URI, HTTP/1.1 in a header.
    let dialled = uri.authority().map(Authority::as_str).or_else(|| text(headers, header::HOST));
    match [told(FORWARDED_HOST), dialled].into_iter().flatten().find(|host| is_authority(host)) {
        Some(host) => format!("{scheme}://{host}"),
        None => format!("{scheme}://{local}"),
    }
}

fn is_authority(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 255
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn named(peer: &str, lines: &[&'static str]) -> Option<String> {
        let proxies = ["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().expect("a network"));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(line));
        }
        client(&proxies, peer.parse().expect("an address"), &headers).map(|client| client.to_string())
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        let client = Some("198.51.100.1".to_owned());
        assert_eq!(named("127.0.0.1", &["198.51.100.1"]), client);
        assert_eq!(
            named("127.0.0.1", &["203.0.113.9, 198.51.100.1, 10.0.0.3"]),
            client,
            "the first is a lie"
        );
        assert_eq!(named("10.0.0.3", &["203.0.113.9", "198.51.100.1:4711"]), client);
        assert_eq!(named("10.0.0.3", &["::ffff:198.51.100.1"]), client);
        assert_eq!(named("::ffff:127.0.0.1", &["[2001:db8::1]"]), Some("2001:db8::1".into()));
        assert_eq!(
            named("127.0.0.1", &["10.0.0.7"]),
            Some("10.0.0.7".into()),
            "proxies alone: the first of them"
        );
    }

    #[test]
    fn who_is_not_trusted_names_nobody() {
        assert_eq!(named("198.51.100.1", &["203.0.113.9"]), None);
        assert_eq!(named("127.0.0.1", &[]), None);
        assert_eq!(
            named("127.0.0.1", &["203.0.113.9, unknown"]),
            None,
            "what is not understood is not passed over"
        );
    }

    #[test]
    fn urls_have_the_name_that_the_client_knows_behind_proxies_too() {
        let local = "10.0.0.7:8080".parse().expect("an address");
        let known = |is_tls, uri, lines: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, HeaderValue::from_static(value));
            }
            known_as(is_tls, &Uri::from_static(uri), &headers, local)
        };
        assert_eq!(known(false, "/whip/show", &[("host", "live.example:8443")]), "http://live.example:8443");
        assert_eq!(known(true, "https://live.example/whip/show", &[]), "https://live.example");
        assert_eq!(known(false, "/whip/show", &[]), "http://10.0.0.7:8080");
        assert_eq!(known(false, "/whip/show", &[("host", "a b")]), "http://10.0.0.7:8080");
        // As Apache asks, and as two proxies in a row do.
        let upstream = ("host", "127.0.0.1:8080");
        for (proto, name) in [("https", "live.example"), ("https, http", "live.example, inner:80")] {
            let told = [upstream, (FORWARDED_PROTO, proto), (FORWARDED_HOST, name)];
            assert_eq!(known(false, "/whip/show", &told), "https://live.example");
        }
        let told = [upstream, (FORWARDED_HOST, "live.example/\\")];
        assert_eq!(
            known(false, "/whip/show", &told),
            "http://127.0.0.1:8080",
            "what is no name is not repeated"
        );
    }
}
