//! Who may come (RFC 9725, section 4.7; RFC 6750), and how often (section 5).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use reqwest::{Method, RequestBuilder};

use super::sessions::{NOBODY, plain_fragment};
use super::{Verdict, applies_if, ensure};
use crate::fragment;
use crate::peer::Peer;
use crate::side::{SDP, Side};
use crate::stun::{self, Manner};

pub(crate) async fn a_token_opens_what_is_closed(side: &Side) -> Verdict {
    applies_if!(side.token.is_some(), "no token was given");
    let session = side.session().await?;
    let open = side.http.request(Method::POST, &side.url).header(CONTENT_TYPE, SDP);
    for (name, request) in [
        ("no token", open.try_clone()),
        ("a wrong token", open.try_clone().map(|request| request.header(AUTHORIZATION, "Bearer of-nobody"))),
    ] {
        let Some(request) = request else { continue };
        let reply = side.send(request.body(side.offer())).await?;
        side.remember(&reply);
        ensure!(matches!(reply.status, 401 | 403), "a POST with {name} is answered {}", reply.said());
        if reply.status == 401 {
            let challenge = reply.header("www-authenticate");
            let is_bearer =
                challenge.split(' ').next().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"));
            ensure!(is_bearer, "the 401 challenges with {challenge:?}");
        }
    }
    for method in [Method::PATCH, Method::DELETE] {
        let request = side.http.request(method.clone(), &session.url);
        let request = request.header(CONTENT_TYPE, fragment::MEDIA_TYPE).header(IF_MATCH, "*");
        let reply = side.send(request.body(plain_fragment(&session)?)).await?;
        let is_refused = matches!(reply.status, 401 | 403) || method == Method::PATCH && reply.status == 405;
        ensure!(is_refused, "{method} without the token is answered {}", reply.said());
    }
    let reply = side.delete(&session.url).await?;
    ensure!(reply.is_success(), "DELETE with the token is answered {}", reply.said());
    Ok("endpoint and session want the token and name Bearer".into())
}

pub(crate) async fn preflights_need_no_token(side: &Side) -> Verdict {
    applies_if!(side.token.is_some(), "no token was given, so nothing is closed");
    let session = side.session().await?;
    for url in [&side.url, &session.url] {
        let request = side.http.request(Method::OPTIONS, url).header("origin", "https://page.example");
        let reply = side.send(request.header("access-control-request-method", "POST")).await?;
        ensure!(reply.is_success(), "a preflight without the token is answered {}", reply.said());
    }
    Ok("answered without a token".into())
}

pub(crate) async fn https_is_spoken(side: &Side) -> Verdict {
    if side.url.scheme() == "https" {
        return Ok("asked over HTTPS".into());
    }
    let host = side.url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(is_private);
    applies_if!(!is_local, "plain HTTP to an address that is not public says nothing of production");
    ensure!(false, "a public address is asked over plain HTTP, and answers");
    Ok(String::new())
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local(),
    }
}

/// Requests of one kind after which a server without a limit is taken to have none.
const FLOOD_MAX: usize = 1500;
/// Of them, at once.
const FLOOD_AT_ONCE: usize = 20;
/// How long the flood of one kind may last.
const FLOOD_TIME: Duration = Duration::from_secs(15);

/// Requests of each kind that change nothing, until one is refused for their number. A peer that is connected, and another
/// client where the server is on this machine, notice nothing of it.
pub(crate) async fn a_flood_is_refused(side: &Side) -> Verdict {
    let (peer, session) = Peer::connect(side).await?;
    let (server, own) = (session.server_ice()?, session.own_ice()?);
    let mut nobody = session.url.clone();
    if let Ok(mut segments) = nobody.path_segments_mut() {
        segments.pop().push(NOBODY);
    }
    let (mut told, mut has_neighbour) = (Vec::new(), false);
    for (method, url, content_type) in [
        (Method::POST, &side.url, SDP),
        (Method::PATCH, &session.url, fragment::MEDIA_TYPE),
        (Method::DELETE, &nobody, SDP),
    ] {
        let request = || {
            let request = side.request(method.clone(), url).header(CONTENT_TYPE, content_type);
            request.header(IF_MATCH, "\"of-nobody\"").body("rubbish")
        };
        told.push(flood(side, &method, request).await?);
        // Now, while this client is refused.
        let Some(neighbour) = side.http.neighbours_request(Method::POST, &side.url) else { continue };
        let reply = side.http.send_once(neighbour.header(CONTENT_TYPE, SDP).body("rubbish")).await?;
        ensure!(!is_for_number(reply.status), "a flood of {method} gets another client {}", reply.said());
        has_neighbour = true;
    }
    ensure!(peer.ends_within(Duration::ZERO).await.is_none(), "a flood ends the session of a connected peer");
    let is_answering = stun::answering(&server, &own.ufrag, Manner::Whole).await.is_some();
    ensure!(is_answering, "after a flood the checks of a connected peer are not answered");
    drop(peer);
    side.end_sessions().await;
    // The next check, and whoever else comes from here, is not to suffer.
    side.session().await?;
    let others = if has_neighbour { ", another client was not" } else { "" };
    Ok(format!("{}; a polite client is served{others}", told.join(", ")))
}

/// Whether this refuses a request for the number of those before it.
const fn is_for_number(status: u16) -> bool {
    matches!(status, 429 | 503)
}

async fn flood(side: &Side, method: &Method, request: impl Fn() -> RequestBuilder) -> Verdict {
    let begun = Instant::now();
    let mut sent = 0;
    while sent < FLOOD_MAX && begun.elapsed() < FLOOD_TIME {
        let requests = (0..FLOOD_AT_ONCE).map(|_| side.http.send_once(request()));
        for reply in futures_util::future::join_all(requests).await {
            sent += 1;
            if let Ok(reply) = reply
                && is_for_number(reply.status)
            {
                return Ok(format!("{} after {sent} of {method}", reply.status));
            }
        }
    }
    ensure!(
        false,
        "{sent} of {method} in {:.1} s, and none was refused for it",
        begun.elapsed().as_secs_f64()
    );
    Ok(String::new())
}
