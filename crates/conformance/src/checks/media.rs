//! What a connected peer shows: candidates, addresses, DTLS (RFC 8839; RFC 9725, section 4.3).

use std::time::Duration;

use super::{Verdict, ensure};
use crate::description::{attribute, attributes};
use crate::peer::Peer;
use crate::side::Side;
use crate::stun::{self, Manner};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

pub(crate) async fn the_answer_has_all_candidates(side: &Side) -> Verdict {
    let (_peer, session) = Peer::connect(side).await?;
    let count = attributes(session.answer(), "candidate").len();
    ensure!(count > 0, "the answer has no candidates");
    Ok(format!("{count} in the answer, and a peer that hears of no others connects"))
}

pub(crate) async fn a_lite_server_can_be_reached(side: &Side) -> Verdict {
    let (_peer, session) = Peer::connect(side).await?;
    if attribute(session.answer(), "ice-lite").is_some() {
        return Ok("ICE-lite, and its addresses are reached from here".into());
    }
    Ok("full ICE".into())
}

pub(crate) async fn the_server_says_goodbye(side: &Side) -> Verdict {
    let (peer, session) = Peer::connect(side).await?;
    let (server, own) = (session.server_ice()?, session.own_ice()?);
    let is_answering = stun::answering(&server, &own.ufrag, Manner::Whole).await.is_some();
    ensure!(is_answering, "ICE checks of the connected session are not answered");
    let reply = side.delete(&session.url).await?;
    ensure!(reply.is_success(), "DELETE is answered {}", reply.said());
    let ending = peer.ends_within(GOODBYE).await;
    ensure!(
        ending == Some(client::Ending::ServerClosed),
        "{GOODBYE:?} after DELETE the peer has not heard close_notify"
    );
    ensure!(
        stun::answering(&server, &own.ufrag, Manner::Whole).await.is_none(),
        "checks are still answered after the goodbye"
    );
    Ok("close_notify over DTLS, and no consent afterwards".into())
}
