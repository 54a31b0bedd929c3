//! Who may come (RFC 9725, section 4.7; RFC 6750), and how often (section 5).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};

use super::{Verdict, applies_if, ensure};
use crate::side::{SDP, Side};

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
    let reply = side.send(side.http.request(Method::DELETE, &session.url)).await?;
    ensure!(matches!(reply.status, 401 | 403), "DELETE without the token is answered {}", reply.said());
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

/// Requests after which a server without a limit is taken to have none.
const FLOOD_MAX: usize = 1500;
/// Of them, at once.
const FLOOD_AT_ONCE: usize = 20;
/// How long the flood may last.
const FLOOD_TIME: Duration = Duration::from_secs(15);

/// POSTs that make nothing, until one is refused for their number.
pub(crate) async fn a_flood_is_refused(side: &Side) -> Verdict {
    let begun = Instant::now();
    let mut sent = 0;
    while sent < FLOOD_MAX && begun.elapsed() < FLOOD_TIME {
        let posts = (0..FLOOD_AT_ONCE).map(|_| {
            let request = side.request(Method::POST, &side.url).header(CONTENT_TYPE, SDP).body("rubbish");
            side.http.send_once(request)
        });
        for reply in futures_util::future::join_all(posts).await {
            sent += 1;
            if let Ok(reply) = reply
                && matches!(reply.status, 429 | 503)
            {
                // The next check, and whoever else comes from here, is not to suffer.
                side.session().await?;
                return Ok(format!("{} after {sent} POSTs, and a polite client is served", reply.status));
            }
        }
    }
    ensure!(false, "{sent} POSTs in {:.1} s, and none was refused for it", begun.elapsed().as_secs_f64());
    Ok(String::new())
}
