//! PATCH on a session: trickled candidates and preconditions (RFC 9725, sections 4.3.1 and 4.3.2; RFC 8840).

use client::IceDescription;

use super::sessions::plain_fragment;
use super::{Trouble, Verdict, applies_if, ensure};
use crate::fragment;
use crate::peer::{Manner, PeerOffer};
use crate::side::{Session, Side, new_ice};

/// Skips what only a server can show that takes trickled candidates.
async fn trickles(side: &Side) -> Result<(), Trouble> {
    let support = side.support().await?;
    applies_if!(
        support.trickle.is_there,
        "the server does not take trickled candidates ({})",
        support.trickle.status
    );
    Ok(())
}

/// A session whose ICE session has a name, at a server that takes PATCH in some way.
async fn tagged(side: &Side) -> Result<(Session, String), Trouble> {
    let support = side.support().await?;
    let is_there = support.trickle.is_there || support.restart.is_there;
    applies_if!(is_there, "the server takes no PATCH ({})", support.trickle.status);
    let session = side.session().await?;
    let tag = session.entity_tag().map(str::to_owned);
    applies_if!(tag.is_some(), "the session has no ETag, so nothing can be matched");
    Ok((session, tag.unwrap_or_default()))
}

pub(crate) async fn trickling_and_restarts_are_supported(side: &Side) -> Verdict {
    let support = side.support().await?;
    for (name, support) in [("a trickled candidate", &support.trickle), ("an ICE restart", &support.restart)]
    {
        ensure!(support.is_there, "{name} is answered {}", support.status);
    }
    Ok("both".into())
}

pub(crate) async fn other_bodies_are_refused(side: &Side) -> Verdict {
    let (session, tag) = tagged(side).await?;
    let good = plain_fragment(&session)?;
    for content_type in ["application/sdp", "text/plain"] {
        let reply = side.patch(&session.url, Some(&tag), (content_type, good.clone())).await?;
        ensure!(reply.is_refusal(), "a PATCH of {content_type} is answered {}", reply.said());
    }
    for body in ["rubbish", "", "m=audio\r\n"] {
        let reply = side.patch_fragment(&session, Some(&tag), body.to_owned()).await?;
        ensure!(reply.is_refusal(), "the fragment {body:?} is answered {}", reply.said());
    }
    Ok("other types and malformed fragments are refused".into())
}

pub(crate) async fn what_is_not_supported_is_422(side: &Side) -> Verdict {
    let support = side.support().await?;
    let (there, lacking) = match (support.trickle.is_there, support.restart.is_there) {
        (true, false) => ("trickling", &support.restart),
        (false, true) => ("restarts", &support.trickle),
        (true, true) => return Ok("both work, so there is nothing to refuse".into()),
        (false, false) => return Err(Trouble::Skipped("the server supports neither".into())),
    };
    ensure!(lacking.status == 422, "only {there} work, and the other is answered {}", lacking.status);
    Ok(format!("only {there} work, the other is answered 422"))
}

pub(crate) async fn an_ice_session_has_a_strong_tag(side: &Side) -> Verdict {
    let support = side.support().await?;
    let (first, second) = (side.session().await?, side.session().await?);
    let Some(tag) = first.entity_tag() else {
        applies_if!(support.restart.is_there, "there is no ETag, which only restarts demand");
        return Err(Trouble::Failed("restarts work, and the 201 has no ETag".into()));
    };
    let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or_default();
    ensure!(!inner.is_empty() && !inner.contains('"'), "{tag} is no strong entity-tag in quotes");
    ensure!(second.entity_tag() != Some(tag), "two sessions have the same entity-tag {tag}");
    Ok(tag.to_owned())
}

pub(crate) async fn if_match_is_required(side: &Side) -> Verdict {
    let (session, _) = tagged(side).await?;
    let reply = side.patch_fragment(&session, None, plain_fragment(&session)?).await?;
    ensure!(reply.status == 428, "a PATCH without If-Match is answered {}", reply.said());
    if side.support().await?.restart.is_there {
        let restart = fragment::of(&session.offer, &new_ice());
        let reply = side.patch_fragment(&session, None, restart).await?;
        ensure!(reply.status == 428, "a restart without If-Match is answered {}", reply.said());
    }
    Ok("428".into())
}

pub(crate) async fn a_stale_tag_is_refused(side: &Side) -> Verdict {
    let (session, _) = tagged(side).await?;
    let reply = side.patch_fragment(&session, Some("\"of-another\""), plain_fragment(&session)?).await?;
    ensure!(reply.status == 412, "a PATCH with another entity-tag is answered {}", reply.said());
    if side.support().await?.restart.is_there {
        let restart = fragment::of(&session.offer, &new_ice());
        let reply = side.patch_fragment(&session, Some("\"of-another\""), restart).await?;
        ensure!(reply.status == 412, "a restart with another entity-tag is answered {}", reply.said());
    }
    Ok("412".into())
}

pub(crate) async fn trickled_candidates_are_taken(side: &Side) -> Verdict {
    trickles(side).await?;
    let session = side.session().await?;
    let fragment = plain_fragment(&session)?;
    let reply = side.patch_fragment(&session, session.entity_tag(), fragment).await?;
    ensure!(reply.status == 204, "a trickled candidate is answered {}", reply.said());
    ensure!(reply.body.is_empty(), "the 204 has a body");
    ensure!(reply.header("etag").is_empty(), "the 204 has an ETag");
    Ok("204, no body, no ETag".into())
}

pub(crate) async fn unusable_candidates_are_skipped(side: &Side) -> Verdict {
    trickles(side).await?;
    let mut offer = PeerOffer::new(side, &Manner { is_silent: true, ..Manner::default() }).await?;
    let session = side.session_with(offer.description()).await?;
    let IceDescription { ufrag, pwd, candidates } = offer.ice();
    let mut mixed = vec![
        "1 1 udp 2122194687 0b1ea1b5-41f1-4a0e-8f8a-7d2a6a5a3c11.local 61765 typ host".to_owned(),
        "2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active".to_owned(),
        "3 1 sctp 1 192.0.2.1 9 typ host".to_owned(),
        "a-foundation-of-more-than-32-characters 1 udp 1 192.0.2.1 9 typ host".to_owned(),
    ];
    mixed.extend(candidates);
    let fragment = fragment::of(&session.offer, &IceDescription { ufrag, pwd, candidates: mixed });
    let reply = side.patch_fragment(&session, session.entity_tag(), fragment).await?;
    ensure!(reply.status == 204, "candidates of which one can be used are answered {}", reply.said());
    offer.accept(session.answer()).await?;
    Ok("204, and the peer connects".into())
}

pub(crate) async fn new_credentials_are_a_restart(side: &Side) -> Verdict {
    let session = side.session().await?;
    let restart = fragment::of(&session.offer, &new_ice());
    let reply = side.patch_fragment(&session, session.entity_tag(), restart).await?;
    ensure!(reply.status != 204, "new credentials under the session's own ETag are taken for a candidate");
    let support = side.support().await?;
    applies_if!(support.restart.is_there, "the server does not restart ICE ({})", support.restart.status);
    ensure!(
        reply.status == 200,
        "new credentials under the session's own ETag are answered {}",
        reply.said()
    );
    ensure!(fragment::ice_of(&reply.body).is_some(), "the 200 brings no new credentials");
    Ok("200, as with If-Match: *".into())
}
