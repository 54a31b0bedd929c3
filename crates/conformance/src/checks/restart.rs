//! ICE restarts by PATCH (RFC 9725, section 4.3.3; draft-ietf-wish-whep, "ICE Restarts"), with connected peers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use client::IceDescription;
use tokio::net::UdpSocket;

use super::sessions::is_gone;
use super::{Trouble, Verdict, applies_if, ensure, life};
use crate::description::{attribute, attributes};
use crate::fragment;
use crate::http::Reply;
use crate::peer::{self, Peer, PeerOffer};
use crate::side::{PatchSupport, Session, Side, new_ice, trickled};
use crate::stun::{self, Manner};

/// How long something that must not happen is waited for.
const MOMENT: Duration = Duration::from_secs(2);
/// Who sends nothing for so long sends no checks.
const SILENCE: Duration = Duration::from_secs(1);
/// Addresses of a server that are tried.
const ADDRESSES_MAX: usize = 4;
/// How long a server may hold on to what a restart has ended: what RFC 8445, section 8.3, grants, and room.
const SILENT_WITHIN: Duration = Duration::from_secs(12);

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

/// A socket beside the peer's, whose address stands in one of its descriptions.
struct Beside {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Beside {
    async fn bind(ip: IpAddr) -> Result<Self, Trouble> {
        let lacking = |error: std::io::Error| Trouble::Skipped(format!("no second socket here: {error}"));
        let socket = UdpSocket::bind((ip, 0)).await.map_err(lacking)?;
        let address = socket.local_addr().map_err(lacking)?;
        Ok(Self { socket, address })
    }

    /// As the value of an `a=candidate` line.
    fn candidate(&self) -> String {
        format!("777 1 udp 2122194000 {} {} typ host", self.address.ip(), self.address.port())
    }

    /// Whether a check that it makes for the client `ufrag` is answered.
    async fn is_answered(&self, server: &IceDescription, ufrag: &str) -> bool {
        let reachable = |address: &SocketAddr| address.is_ipv4() == self.address.is_ipv4();
        for address in stun::addresses(&server.candidates).into_iter().filter(reachable).take(ADDRESSES_MAX) {
            if stun::is_answered(&self.socket, address, (server, ufrag), Manner::Whole).await {
                return true;
            }
        }
        false
    }

    async fn receives(&self, patience: Duration) -> bool {
        let mut buffer = [0; 2048];
        matches!(tokio::time::timeout(patience, self.socket.recv(&mut buffer)).await, Ok(Ok(_)))
    }

    /// Whether nothing comes any more for a moment, soon.
    async fn falls_silent(&self) -> bool {
        let silence = async { while self.receives(SILENCE).await {} };
        tokio::time::timeout(SILENT_WITHIN, silence).await.is_ok()
    }
}

/// A lite server makes no checks to candidates by itself; so each of the two sets is spoken for by a socket that only
/// this set names. The first set is to get nothing after the restart, neither an answer nor anything else; the second one
/// takes its place.
pub(crate) async fn old_candidates_are_dropped(side: &Side) -> Verdict {
    restarts(side).await?;
    let offer = PeerOffer::new(side, &peer::Manner::default()).await?;
    let own = fragment::ice_of(&offer.description());
    let first = own.and_then(|own| stun::addresses(&own.candidates).first().copied());
    let first = first.ok_or_else(|| Trouble::Skipped("this side has no UDP address".into()))?;
    let (old, new) = (Beside::bind(first.ip()).await?, Beside::bind(first.ip()).await?);
    let line = format!("a=candidate:{}\r\n", old.candidate());
    let description = offer.description().replacen("a=candidate:", &format!("{line}a=candidate:"), 1);
    let session = side.session_with(description).await?;
    let (server_before, own_before) = (session.server_ice()?, session.own_ice()?);
    let peer = offer.accept(session.answer()).await?;
    ensure!(
        old.is_answered(&server_before, &own_before.ufrag).await,
        "a check from a candidate of the offer is not answered"
    );
    let own = begin(&peer).await?;
    let candidates = [vec![new.candidate()], own.candidates.clone()].concat();
    let second_set = IceDescription { candidates, ..own.clone() };
    let restarted = restart(side, &session, "*", &second_set).await?;
    finish(&peer, restarted.server.clone()).await?;
    ensure!(
        old.falls_silent().await,
        "{SILENT_WITHIN:?} after a restart a candidate of the first set is still sent to"
    );
    ensure!(
        !old.is_answered(&server_before, &own_before.ufrag).await,
        "after a restart a check from a candidate of the first set is still answered"
    );
    ensure!(
        new.is_answered(&restarted.server, &own.ufrag).await,
        "after a restart a check from a candidate of the new set is not answered"
    );
    ensure!(peer.ends_within(Duration::ZERO).await.is_none(), "the session ends with the restart");
    Ok("nothing goes to the first set any more, and checks from the second are answered".into())
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

/// Restarts that cannot work, each with what is wrong about it: refused as such, or for what they lack.
fn impossible(session: &Session, is_supported: bool) -> Vec<(&'static str, String)> {
    let whole = fragment::of(&session.offer, &new_ice());
    if !is_supported {
        return vec![("which the server does not support", whole)];
    }
    let without = |name: &str| -> String {
        whole.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
    };
    let short = IceDescription { pwd: "short".into(), ..new_ice() };
    vec![
        ("with a password that is too short", fragment::of(&session.offer, &short)),
        ("without a password", without("a=ice-pwd:")),
        ("without a ufrag", without("a=ice-ufrag:")),
    ]
}

/// A connected peer whose every restart was refused, and whose session is as it was before.
async fn refused(side: &Side, support: &PatchSupport) -> Result<(Peer, Session, u16), Trouble> {
    let (peer, session) = Peer::connect(side).await?;
    let (server, own) = (session.server_ice()?, session.own_ice()?);
    let mut status = 0;
    for (what, body) in impossible(&session, support.restart.is_there) {
        let reply = side.patch_fragment(&session, Some("*"), body).await?;
        ensure!((400..600).contains(&reply.status), "a restart {what} is answered {}", reply.said());
        status = reply.status;
    }
    ensure!(peer.ends_within(MOMENT).await.is_none(), "the session ends with a failed restart");
    ensure!(!is_gone(side, &session).await?, "the session's URL is gone after a failed restart");
    ensure!(
        stun::answering(&server, &own.ufrag, Manner::Whole).await.is_some(),
        "after a failed restart checks with the credentials from before are not answered"
    );
    if support.trickle.is_there {
        let candidate = fragment::of(&session.offer, &trickled(own));
        let reply = side.patch_fragment(&session, session.entity_tag(), candidate).await?;
        ensure!(reply.is_success(), "after a failed restart a candidate is answered {}", reply.said());
    }
    Ok((peer, session, status))
}

/// What a refused restart leaves is a session like any other: another restart works, and a silent peer ends it once
/// consent has expired.
pub(crate) async fn a_failed_restart_leaves_the_session_alive(side: &Side) -> Verdict {
    let support = side.support().await?;
    let is_there = support.trickle.is_there || support.restart.is_there;
    applies_if!(is_there, "the server takes no PATCH ({})", support.restart.status);
    if support.restart.is_there {
        let (peer, session, _) = refused(side, support).await?;
        let own = begin(&peer).await?;
        let restarted = restart(side, &session, "*", &own).await?;
        finish(&peer, restarted.server).await?;
        drop(peer);
        side.end_sessions().await;
    }
    let (peer, session, status) = refused(side, support).await?;
    // Without a word: no DELETE, no close_notify.
    drop(peer);
    if !side.get(&session.url).await?.is_success() {
        return Ok(format!("refused with {status}, and the session goes on"));
    }
    let gone = life::gone_within(side, &session, life::DEAD_MAX).await?;
    side.silence_ended(&gone);
    Ok(format!("refused with {status}, the session goes on, and ends with consent: {gone}"))
}

/// Whether the ICE session that these credentials are of is there: its checks are answered.
async fn is_alive(server: &IceDescription, own: &IceDescription) -> bool {
    stun::answering(server, &own.ufrag, Manner::Whole).await.is_some()
}

pub(crate) async fn the_last_restart_wins(side: &Side) -> Verdict {
    restarts(side).await?;
    let (peer, session) = Peer::connect(side).await?;
    let own_first = new_ice();
    let first = restart(side, &session, "*", &own_first).await?;
    let own = begin(&peer).await?;
    let second = restart(side, &session, "*", &own).await?;
    ensure!(first.entity_tag != second.entity_tag, "two restarts have the same ETag");
    // What was sent before a restart and comes after it.
    let before = (session.entity_tag().map(str::to_owned), session.own_ice()?);
    for (tag, ice) in [(Some(first.entity_tag.clone()), own_first.clone()), before] {
        let Some(tag) = tag else { continue };
        let late = side.patch_fragment(&session, Some(&tag), fragment::of(&session.offer, &trickled(ice)));
        let late = late.await?;
        ensure!(late.status == 412, "a candidate of the ICE session before is answered {}", late.said());
    }
    finish(&peer, second.server.clone()).await?;
    ensure!(is_alive(&second.server, &own).await, "checks of the last restart are not answered");
    ensure!(!is_alive(&first.server, &own_first).await, "checks of the restart before are still answered");
    drop(peer);
    side.end_sessions().await;
    of_two_at_once(side).await?;
    Ok("the peer connects with the second, nothing of the first holds; of two at once one holds".into())
}

/// Two restarts that are under way at once: whichever comes last, the ETag and the credentials that hold are its.
async fn of_two_at_once(side: &Side) -> Result<(), Trouble> {
    let support = side.support().await?;
    let session = side.session().await?;
    let (one, other) = (new_ice(), new_ice());
    let send =
        |own: &IceDescription| side.patch_fragment(&session, Some("*"), fragment::of(&session.offer, own));
    let replies = tokio::join!(send(&one), send(&other));
    let before = session.server_ice()?;
    let looks = [(one, replies.0?), (other, replies.1?)].map(|(own, reply)| {
        let (session, candidates) = (&session, before.candidates.clone());
        async move {
            ensure!(
                reply.status == 200 || reply.is_refusal(),
                "one of two restarts at once is answered {}",
                reply.said()
            );
            let server = fragment::ice_of(&reply.body).filter(|_| reply.status == 200);
            let Some(server) = server else { return Ok(false) };
            let candidates = if server.candidates.is_empty() { candidates } else { server.candidates };
            let server = IceDescription { candidates, ..server };
            let is_there = is_alive(&server, &own).await;
            if support.trickle.is_there {
                let candidate = fragment::of(&session.offer, &trickled(own));
                let tag = reply.header("etag");
                let is_current = side.patch_fragment(session, Some(tag), candidate).await?.is_success();
                ensure!(
                    is_current == is_there,
                    "of two restarts at once the ETag of one holds and the credentials of the other"
                );
            }
            Ok::<bool, Trouble>(is_there)
        }
    });
    let alive = futures_util::future::try_join_all(looks).await?;
    let count = alive.into_iter().filter(|is_there| *is_there).count();
    ensure!(count == 1, "of two restarts at once {count} hold");
    Ok(())
}
