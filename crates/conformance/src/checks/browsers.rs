//! What browsers ask for before and beside everything else: CORS (WHATWG Fetch), `Accept-Post`, `Link`.

use reqwest::{Method, Url};

use super::{Trouble, Verdict, applies_if, ensure};
use crate::http::Reply;
use crate::link::Link;
use crate::side::{SDP, Side};

const ORIGIN: &str = "https://page.example";

/// A browser's question before it does anything; it carries no token.
pub(crate) async fn preflight(side: &Side, url: &Url, method: &str) -> Result<Reply, Trouble> {
    let request = side.http.request(Method::OPTIONS, url).header("origin", ORIGIN);
    let request = request.header("access-control-request-method", method);
    side.send(request.header("access-control-request-headers", "authorization,content-type,if-match")).await
}

/// Whether a list header names it; case does not matter.
fn names(reply: &Reply, header: &str, name: &str) -> bool {
    let lists = reply.headers_named(header);
    lists.iter().flat_map(|list| list.split(',')).any(|known| known.trim().eq_ignore_ascii_case(name))
}

fn is_origin_allowed(reply: &Reply) -> bool {
    matches!(reply.header("access-control-allow-origin"), "*" | ORIGIN)
}

/// Whether its answer lets a page go on with these methods.
pub(crate) fn check_preflight(reply: &Reply, what: &str, methods: &[&str]) -> Result<(), Trouble> {
    ensure!(reply.is_success(), "OPTIONS on {what} is answered {}", reply.said());
    ensure!(is_origin_allowed(reply), "OPTIONS on {what} allows no other origin");
    for method in methods {
        let list = "access-control-allow-methods";
        ensure!(
            names(reply, list, method) || names(reply, list, "*"),
            "OPTIONS on {what} does not allow {method}"
        );
    }
    // `*` does not cover Authorization.
    for name in ["Authorization", "Content-Type", "If-Match"] {
        let list = "access-control-allow-headers";
        let is_allowed = names(reply, list, name) || (name != "Authorization" && names(reply, list, "*"));
        ensure!(is_allowed, "OPTIONS on {what} does not allow the header {name}");
    }
    Ok(())
}

pub(crate) async fn pages_of_other_origins_may_come(side: &Side) -> Verdict {
    let request = side.request(Method::POST, &side.url).header("origin", ORIGIN);
    let created = side.send(request.header("content-type", SDP).body(side.offer())).await?;
    side.remember(&created);
    let created = if matches!(created.status, 307 | 308) { side.post(&side.offer()).await? } else { created };
    let session = side.session_of(created, side.offer())?;
    ensure!(is_origin_allowed(&session.reply), "the 201 does not let other origins read it");
    let mut exposed = vec!["Location"];
    exposed.extend(session.entity_tag().map(|_| "ETag"));
    exposed.extend((!session.links().is_empty()).then_some("Link"));
    for name in exposed {
        let list = "access-control-expose-headers";
        let is_seen = names(&session.reply, list, name) || names(&session.reply, list, "*");
        ensure!(is_seen, "the 201 has {name} and does not expose it");
    }
    // What a page may not read it cannot tell its user, and not wait for.
    let refused = side.request(Method::POST, &side.url).header("origin", ORIGIN);
    let refused = side.send(refused.header("content-type", SDP).body("rubbish")).await?;
    ensure!(is_origin_allowed(&refused), "the {} does not let other origins read it", refused.status);
    let looked = side.request(Method::GET, &session.url).header("origin", ORIGIN);
    let looked = side.send(looked).await?;
    ensure!(is_origin_allowed(&looked), "a session does not let other origins look at it");
    check_preflight(&preflight(side, &side.url, "POST").await?, "the endpoint", &["POST"])?;
    let on_session = preflight(side, &session.url, "PATCH").await?;
    check_preflight(&on_session, "a session", &["PATCH", "DELETE"])?;
    Ok("preflights are answered, the answers can be read".into())
}

pub(crate) async fn options_name_the_media_type(side: &Side) -> Verdict {
    let reply = side.send(side.http.request(Method::OPTIONS, &side.url)).await?;
    ensure!(reply.status == 200, "OPTIONS is answered {}", reply.said());
    ensure!(names(&reply, "accept-post", SDP), "OPTIONS has Accept-Post {:?}", reply.header("accept-post"));
    Ok("Accept-Post: application/sdp".into())
}

fn ice_servers(links: Vec<Link>) -> Vec<Link> {
    links.into_iter().filter(|link| link.relation() == "ice-server").collect()
}

pub(crate) async fn preflights_carry_no_ice_servers(side: &Side) -> Verdict {
    let session = side.session().await?;
    let given = ice_servers(session.links());
    applies_if!(!given.is_empty(), "the server gives no STUN or TURN servers");
    let reply = preflight(side, &side.url, "POST").await?;
    let links: Vec<Link> = reply.headers_named("link").into_iter().flat_map(Link::all_of).collect();
    let found = ice_servers(links).len();
    ensure!(found == 0, "a preflight is answered with {found} STUN or TURN servers");
    Ok(format!("{} come with the session, none with a preflight", given.len()))
}

pub(crate) async fn ice_servers_come_with_the_session(side: &Side) -> Verdict {
    let session = side.session().await?;
    let given = ice_servers(session.links());
    applies_if!(!given.is_empty(), "the server gives no STUN or TURN servers");
    // OBS and others read one server for each header, and parameters in quotes.
    for value in session.reply.headers_named("link") {
        let of_servers = ice_servers(Link::all_of(value)).len();
        ensure!(of_servers < 2, "one Link header tells of {of_servers} servers: {value:?}");
        for name in ["username=", "credential="] {
            let is_quoted = value.split_once(name).is_none_or(|(_, rest)| rest.starts_with('"'));
            ensure!(of_servers == 0 || is_quoted, "{name} is not followed by a text in quotes: {value:?}");
        }
    }
    for link in &given {
        let (scheme, _) = link.target.split_once(':').unwrap_or_default();
        ensure!(
            matches!(scheme, "stun" | "stuns" | "turn" | "turns"),
            "{} is no STUN or TURN server",
            link.target
        );
        if scheme.starts_with("turn") {
            let kind = link.parameter("credential-type").unwrap_or("password");
            ensure!(matches!(kind, "password" | "oauth"), "{} has credential-type {kind}", link.target);
            for name in ["username", "credential"] {
                let is_there = link.parameter(name).is_some_and(|value| !value.is_empty());
                ensure!(is_there, "{} comes without {name}", link.target);
            }
        }
    }
    Ok(format!("{} servers", given.len()))
}

pub(crate) async fn extensions_are_one_link_each(side: &Side) -> Verdict {
    let session = side.session().await?;
    let (mut extensions, prefix) = (Vec::new(), format!("urn:ietf:params:{}:ext", protocol_word(side)));
    for value in session.reply.headers_named("link") {
        let links = Link::all_of(value);
        ensure!(!links.is_empty(), "this is no link: {value:?}");
        let told: Vec<Link> =
            links.iter().filter(|link| link.relation().starts_with("urn:")).cloned().collect();
        ensure!(
            told.is_empty() || links.len() == 1,
            "one Link header tells of {} things: {value:?}",
            links.len()
        );
        extensions.extend(told);
    }
    applies_if!(!extensions.is_empty(), "the server offers no extensions");
    for link in &extensions {
        let relation = link.relation();
        ensure!(relation.starts_with(&prefix), "the relation {relation:?} does not begin with {prefix}");
        session.resolve(&link.target)?;
    }
    // Every check that connects a peer does it without them.
    let told: Vec<&str> = extensions.iter().map(Link::relation).collect();
    Ok(told.join(", "))
}

const fn protocol_word(side: &Side) -> &'static str {
    match side.protocol {
        crate::side::Protocol::Whip => "whip",
        crate::side::Protocol::Whep => "whep",
    }
}
