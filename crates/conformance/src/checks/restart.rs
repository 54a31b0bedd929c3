//! ICE restarts by PATCH (RFC 9725, section 4.3.3; draft-ietf-wish-whep, "ICE Restarts"), with connected peers.

use std::time::Duration;

use client::IceDescription;
use tokio::net::UdpSocket;

use super::sessions::{is_gone, plain_fragment};
use super::{Trouble, Verdict, applies_if, ensure};
use crate::description::{attribute, attributes};
use crate::fragment;
use crate::http::Reply;
use crate::peer::{Peer, PeerOffer};
use crate::side::{Session, Side, new_ice, trickled};
use crate::stun;

/// How long something that must not happen is waited for.
const MOMENT: Duration = Duration::from_secs(2);

async fn restarts(side: &Side) -> Result<(), Trouble> {
    let support = side.support().await?;
    applies_if!(support.restart.is_there, "the server does not restart ICE ({})", support.restart.status);
    Ok(())
}

/// A restart that worked: what the server says of its new ICE.
struct Restarted {
    server: IceDescription,
    entity_tag: String,
    reply: Reply,
}

async fn restart(
    side: &Side,
    session: &Session,
    if_match: &str,
    own: &IceDescription,
) -> Result<Restarted, Trouble> {
    let reply = side.patch_fragment(session, Some(if_match), fragment::of(&session.offer, own)).await?;
    ensure!(reply.status == 200, "a restart with If-Match: {if_match} is answered {}", reply.said());
    let kind = reply.media_type();
    ensure!(kind == fragment::MEDIA_TYPE, "the 200 of a restart has Content-Type {kind:?}");
    let before = session.server_ice()?;
    let server = fragment::ice_of(&reply.body);
    let server =
        server.ok_or_else(|| Trouble::Failed("the 200 of a restart has no ICE credentials".into()))?;
    let is_new = server.ufrag != before.ufrag && server.pwd != before.pwd;
    ensure!(is_new, "the server keeps its credentials over a restart");
    let entity_tag = reply.header("etag").to_owned();
    let is_strong = entity_tag.starts_with('"') && entity_tag.len() > 2;
    ensure!(is_strong, "the 200 of a restart has ETag {entity_tag:?}");
    ensure!(Some(entity_tag.as_str()) != session.entity_tag(), "the ETag stays the same over a restart");
    // Without a new set the old one stays.
    let candidates = if server.candidates.is_empty() { before.candidates } else { server.candidates };
    Ok(Restarted { server: IceDescription { candidates, ..server }, entity_tag, reply })
}

async fn begin(peer: &Peer) -> Result<IceDescription, Trouble> {
    peer.begin_restart().await.map_err(|error| Trouble::Failed(error.to_string()))
}

async fn finish(peer: &Peer, server: IceDescription) -> Result<(), Trouble> {
    let finished = peer.finish_restart(server).await;
    finished.map_err(|error| Trouble::Failed(format!("after a restart the peer is {error}")))
}

pub(crate) async fn a_restart_brings_new_credentials(side: &Side) -> Verdict {
    restarts(side).await?;
    for star in ["*", "\"*\""] {
        let (peer, session) = Peer::connect(side).await?;
        let own = begin(&peer).await?;
        let restarted = restart(side, &session, star, &own).await?;
        finish(&peer, restarted.server).await?;
        drop(peer);
        side.end_sessions().await;
    }
    Ok("200 with new credentials and ETag for * and \"*\", and the peer is connected again".into())
}

pub(crate) async fn old_candidates_are_dropped(side: &Side) -> Verdict {
    restarts(side).await?;
    let offer = PeerOffer::new(side, &crate::peer::Manner::default()).await?;
    let own = fragment::ice_of(&offer.description());
    let own = own.ok_or_else(|| Trouble::Failed("the offer of the suite has no ICE".into()))?;
    let first = stun::addresses(&own.candidates).first().copied();
    let first = first.ok_or_else(|| Trouble::Skipped("this side has no UDP address".into()))?;
    // A second socket that only the first set of candidates names.
    let unreachable = |error: std::io::Error| Trouble::Skipped(format!("no second socket here: {error}"));
    let watched = UdpSocket::bind((first.ip(), 0)).await.map_err(unreachable)?;
    let port = watched.local_addr().map_err(unreachable)?.port();
    let line = format!("a=candidate:777 1 udp 2122194000 {} {port} typ host\r\n", first.ip());
    let description = offer.description().replacen("a=candidate:", &format!("{line}a=candidate:"), 1);
    let session = side.session_with(description).await?;
    let peer = offer.accept(session.answer()).await?;
    let is_asked = receives(&watched, MOMENT).await;
    applies_if!(is_asked, "the server sends no checks of its own, so what it remembers cannot be seen");
    let own = begin(&peer).await?;
    let restarted = restart(side, &session, "*", &own).await?;
    finish(&peer, restarted.server).await?;
    // What is on its way.
    while receives(&watched, Duration::from_millis(200)).await {}
    ensure!(
        !receives(&watched, MOMENT).await,
        "a candidate of the first set is still checked after the restart"
    );
    Ok("the first set is checked no more".into())
}

async fn receives(socket: &UdpSocket, patience: Duration) -> bool {
    let mut buffer = [0; 2048];
    matches!(tokio::time::timeout(patience, socket.recv(&mut buffer)).await, Ok(Ok(_)))
}

pub(crate) async fn the_fragment_repeats_the_answer(side: &Side) -> Verdict {
    restarts(side).await?;
    let session = side.session().await?;
    let restarted = restart(side, &session, "*", &new_ice()).await?;
    let options = |text: &str, name: &str| {
        let mut words: Vec<String> =
            attribute(text, name).unwrap_or_default().split(' ').map(str::to_owned).collect();
        words.sort();
        words
    };
    for name in ["ice-options", "ice-pacing"] {
        let (answer, fragment) = (options(session.answer(), name), options(&restarted.reply.body, name));
        ensure!(answer == fragment, "a={name} is {answer:?} in the answer and {fragment:?} after a restart");
    }
    let is_lite = |text: &str| !attributes(text, "ice-lite").is_empty();
    let (answer, fragment) = (is_lite(session.answer()), is_lite(&restarted.reply.body));
    ensure!(answer == fragment, "a=ice-lite: {answer} in the answer, {fragment} after a restart");
    Ok("ice-options, ice-pacing and ice-lite are the same".into())
}

/// A restart that cannot work: refused as such, or for what it lacks.
pub(crate) async fn a_failed_restart_leaves_the_session_alive(side: &Side) -> Verdict {
    let support = side.support().await?;
    let is_there = support.trickle.is_there || support.restart.is_there;
    applies_if!(is_there, "the server takes no PATCH ({})", support.restart.status);
    let (peer, session) = Peer::connect(side).await?;
    let body = if support.restart.is_there {
        "a=ice-ufrag:only\r\na=ice-pwd:short\r\n".to_owned()
    } else {
        fragment::of(&session.offer, &new_ice())
    };
    let reply = side.patch_fragment(&session, Some("*"), body).await?;
    ensure!(reply.status >= 400, "a restart that cannot work is answered {}", reply.said());
    ensure!(peer.ends_within(MOMENT).await.is_none(), "the session ends with a failed restart");
    ensure!(!is_gone(side, &session).await?, "the session's URL is gone after a failed restart");
    if support.trickle.is_there {
        let reply = side.patch_fragment(&session, session.entity_tag(), {
            let own = session.own_ice()?;
            fragment::of(&session.offer, &trickled(own))
        });
        let reply = reply.await?;
        ensure!(reply.status == 204, "after a failed restart a candidate is answered {}", reply.said());
    }
    Ok(format!("refused with {}, and the session goes on", reply.status))
}

pub(crate) async fn the_last_restart_wins(side: &Side) -> Verdict {
    restarts(side).await?;
    let (peer, session) = Peer::connect(side).await?;
    let first = restart(side, &session, "*", &new_ice()).await?;
    let own = begin(&peer).await?;
    let second = restart(side, &session, "*", &own).await?;
    ensure!(first.entity_tag != second.entity_tag, "two restarts have the same ETag");
    let stale = side.patch_fragment(&session, Some(&first.entity_tag), plain_fragment(&session)?).await?;
    ensure!(stale.status == 412, "the ETag of the restart before is answered {}", stale.said());
    finish(&peer, second.server).await?;
    Ok("the peer connects with the second, the ETag of the first is refused".into())
}
