//! What clients in the wild need beside the letter: habits of OBS, ffmpeg and GStreamer.

use client::IceDescription;

use super::{Trouble, Verdict, ensure};
use crate::description::{attribute, attributes};
use crate::fragment;
use crate::peer::{Manner, Peer, PeerOffer};
use crate::side::Side;
use crate::stun::{self, Manner as CheckManner};

pub(crate) async fn no_candidates_are_needed(side: &Side) -> Verdict {
    Peer::connect_in(side, &Manner { is_silent: true, ..Manner::default() }).await?;
    Ok("a peer that names no candidate connects".into())
}

pub(crate) async fn the_location_is_absolute(side: &Side) -> Verdict {
    let session = side.session().await?;
    let location = session.reply.header("location");
    let is_absolute = location.starts_with("http://") || location.starts_with("https://");
    ensure!(is_absolute, "the Location is {location:?}");
    ensure!(!location.contains('?'), "the Location has a query: {location:?}");
    for redirect in &session.reply.redirects {
        let is_absolute = redirect.starts_with("http://") || redirect.starts_with("https://");
        ensure!(is_absolute, "a redirect has the Location {redirect:?}");
    }
    // OBS follows no redirect of a DELETE: the Location is good as it stands.
    let deleted = side.delete(&session.url).await?;
    ensure!(deleted.is_success(), "DELETE on the Location as it stands is answered {}", deleted.said());
    let titled = side.follow(|url| side.titled_post(url)).await?;
    ensure!(
        titled.status == 201,
        "a POST whose headers are written as Content-Type and Authorization is answered {}",
        titled.said()
    );
    let how = match session.reply.redirects.len() {
        0 => String::new(),
        count => format!(" after {count} redirects"),
    };
    Ok(format!("absolute, without a query{how}, and good as it stands"))
}

/// The buffer into which ffmpeg reads an answer.
const ANSWER_BYTES_MAX: usize = 8192;

pub(crate) async fn the_answer_is_short_and_ipv4_comes_first(side: &Side) -> Verdict {
    let session = side.session().await?;
    let answer = session.answer();
    ensure!(answer.len() < ANSWER_BYTES_MAX, "the answer has {} bytes", answer.len());
    let first = attribute(answer, "candidate");
    let first = first.ok_or_else(|| Trouble::Failed("the answer has no candidates".into()))?;
    let fields: Vec<&str> = first.split(' ').collect();
    let is_host = fields.windows(2).any(|pair| pair == ["typ", "host"]);
    let address = stun::addresses(&[first.to_owned()]).first().copied();
    ensure!(is_host && address.is_some_and(|address| address.is_ipv4()), "the first candidate is {first:?}");
    let first_alone = IceDescription { candidates: vec![first.to_owned()], ..session.server_ice()? };
    let own = session.own_ice()?;
    let is_reached = stun::answering(&first_alone, &own.ufrag, CheckManner::Whole).await.is_some();
    ensure!(is_reached, "nobody answers at the first candidate, {first:?}");
    Ok(format!("{} bytes, {first:?}", answer.len()))
}

pub(crate) async fn a_passive_client_is_served(side: &Side) -> Verdict {
    let offer = PeerOffer::new(side, &Manner::default()).await?;
    let passive = offer.description().replace("a=setup:actpass", "a=setup:passive");
    let session = side.session_with(passive).await?;
    let roles = attributes(session.answer(), "setup");
    ensure!(roles.iter().all(|role| *role == "active"), "passive is answered with {roles:?}");
    offer.accept(session.answer()).await?;
    Ok("answered with active, and the server begins the handshake".into())
}

pub(crate) async fn bare_checks_are_answered(side: &Side) -> Verdict {
    let session = side.session().await?;
    let (server, own) = (session.server_ice()?, session.own_ice()?);
    let address = stun::answering(&server, &own.ufrag, CheckManner::Bare).await;
    let address = address.ok_or_else(|| {
        Trouble::Failed("a check without PRIORITY, ICE-CONTROLLING and FINGERPRINT is not answered".into())
    })?;
    Ok(format!("answered by {address}"))
}

pub(crate) async fn dispensable_lines_are_not_missed(side: &Side) -> Verdict {
    let dispensable = ["a=rtcp-mux-only", "a=msid", "a=extmap", "a=rtcp-rsize", "a=rtcp:", "a=ice-options"];
    let bare: String = side
        .offer()
        .split_inclusive("\r\n")
        .filter(|line| !dispensable.iter().any(|attribute| line.starts_with(attribute)))
        .collect();
    let reply = side.post(&bare).await?;
    ensure!(reply.status == 201, "an offer without them is answered {}", reply.said());
    ensure!(fragment::ice_of(&reply.body).is_some(), "the answer has no ICE credentials");
    Ok("taken without rtcp-mux-only, msid, extmap, rtcp-rsize".into())
}
