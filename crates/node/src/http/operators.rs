//! Who may operate: holders of an operator token, or, where there is none, people at this very machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use signaling::http::{self as rules, Problem};

use super::{Addresses, App, problem_response, take_allowance, text};

/// The operators' routes of this process; empty where it has no controller.
pub(super) fn router(app: &Arc<App>) -> Router<Arc<App>> {
    let Some(control) = &app.control else { return Router::new() };
    let Some(controller) = control.controller.clone() else { return Router::new() };
    let operators =
        controller::api::router(controller).route_layer(from_fn_with_state(app.clone(), operators_only));
    // Nodes show the cluster's key, not an operator's. Without one they show what everybody knows, so that they have to
    // be on this machine.
    let mut store = control.store_routes();
    if !app.has_cluster_key && store.has_routes() {
        store = store.route_layer(from_fn(nodes_here_only));
    }
    operators.merge(store).with_state(())
}

async fn nodes_here_only(
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    request: Request,
    next: Next,
) -> Response {
    if is_local(addresses.peer.ip(), request.headers()) && !is_foreign_page(request.headers()) {
        return next.run(request).await;
    }
    let detail = "Without a cluster key (link.cluster_key) this store is for nodes on its own machine.";
    problem_response(&Problem::new(403, "no-cluster-key", detail))
}

async fn operators_only(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    request: Request,
    next: Next,
) -> Response {
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    let allowance = if is_change { take_allowance(&app, addresses) } else { Ok(()) };
    match allowance.and_then(|()| check(&app, addresses.peer.ip(), request.headers())) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem_response(&problem),
    }
}

fn check(app: &App, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(403, "not-an-operator", detail));
    if is_foreign_page(headers) {
        return forbidden("A page of another origin may not operate this installation.");
    }
    if app.operator_tokens.is_empty() {
        if is_local(peer, headers) {
            return Ok(());
        }
        return forbidden("Operating from another machine needs a token: set control.operator_tokens.");
    }
    let Some(token) = rules::bearer::token(text(headers, header::AUTHORIZATION))? else {
        return Err(rules::bearer::missing());
    };
    let is_known = app.operator_tokens.iter().any(|known| {
        aws_lc_rs::constant_time::verify_slices_are_equal(known.expose().as_bytes(), token.as_bytes()).is_ok()
    });
    if is_known { Ok(()) } else { Err(rules::bearer::rejected()) }
}

/// Whether a browser says that another site's page asks.
fn is_foreign_page(headers: &HeaderMap) -> bool {
    let Some(origin) = text(headers, header::ORIGIN) else { return false };
    let host = text(headers, header::HOST).unwrap_or_default();
    origin.split_once("://").is_none_or(|(_, authority)| authority != host)
}

/// Whether the asker sits at this machine: not behind a proxy on it, and not led here by a name that somebody else
/// points at it (DNS rebinding).
pub(super) fn is_local(peer: IpAddr, headers: &HeaderMap) -> bool {
    let is_forwarded = headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "via" | "x-real-ip")
    });
    let host = text(headers, header::HOST).unwrap_or("localhost");
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    let is_here = name == "localhost" || name.parse::<IpAddr>().is_ok();
    peer.to_canonical().is_loopback() && !is_forwarded && is_here
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.parse().expect("name"), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn only_who_sits_at_the_machine_needs_no_token() {
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([198, 51, 100, 1]));
        assert!(is_local(here, &headers(&[("host", "127.0.0.1:8080")])));
        assert!(is_local(here, &headers(&[("host", "[::1]:8080")])));
        assert!(is_local(here, &headers(&[("host", "localhost")])));
        assert!(!is_local(there, &headers(&[("host", "127.0.0.1:8080")])));
        assert!(!is_local(here, &headers(&[("host", "evil.example:8080")])), "a name led here");
        for by_proxy in ["x-forwarded-for", "x-forwarded-proto", "x-real-ip", "via", "forwarded"] {
            assert!(!is_local(here, &headers(&[("host", "localhost"), (by_proxy, "https")])), "{by_proxy}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_told_apart() {
        assert!(!is_foreign_page(&headers(&[("host", "127.0.0.1:8080")])));
        assert!(!is_foreign_page(&headers(&[("host", "a:1"), ("origin", "http://a:1")])));
        assert!(is_foreign_page(&headers(&[("host", "a:1"), ("origin", "http://b:1")])));
        assert!(is_foreign_page(&headers(&[("host", "a:1"), ("origin", "null")])));
    }
}
