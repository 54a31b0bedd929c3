//! `POST /whip/{broadcast}`: a publisher's offer becomes a session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ingest::PublisherId;
use signaling::http::{EntityTag, Problem};
use signaling::{SessionId, candidates, sdp, whip};
use tokio::sync::oneshot;
use tracing::field::display;

use super::{App, Created, CreatedKind, Posted, host_addresses, random};
use crate::session_records::Resource;
use crate::sessions::{Came, Peer};
use crate::tree::{Publish, PublishError, TreeHandle};

/// Makes a publisher's session.
pub(super) async fn create(app: &Arc<App>, mut posted: Posted) -> Result<Created, Problem> {
    let Some((tree, port)) = &app.ingest else {
        return Err(Problem::new(404, "not-an-injection-node", "This node does not take publishers."));
    };
    let offer = sdp::Session::parse(&posted.body)
        .map_err(|error| Problem::from(signaling::OfferError::from(error)))?;
    let checked = whip::check(&offer, &whip::Policy::default())?;
    let host = host_addresses();
    let candidates = candidates::order(&candidates::Known {
        public_ips: &app.public_ips,
        request_local: posted.addresses.local.ip(),
        request_peer: posted.addresses.peer.ip(),
        is_passed_on: posted.addresses.is_passed_on,
        host_addresses: &host,
        port: *port,
        has_tcp: app.tcp_ports.contains(port),
    });
    let ice = ice_dtls::IceCredentials::from_random(&random::<32>()?);
    let publisher = PublisherId(app.next_id.fetch_add(1, Ordering::Relaxed));
    let resource = Resource {
        id: SessionId::from_random(random()?),
        broadcast: posted.broadcast.clone(),
        entity_tag: EntityTag::from_random(random()?),
        peer_ice: checked.peer.ice.clone(),
        picture_line: None,
    };
    let offer_of_engine = whip::prepare_offer(&offer, &checked);
    let publish = |reply| Publish {
        publisher,
        resource: resource.clone(),
        offer: offer_of_engine.clone(),
        ice: ice.clone(),
        known_epoch: app.control.as_ref().and_then(|control| control.front_door.epoch(&resource.broadcast)),
        local_addresses: host.iter().map(|address| (*address, *port).into()).collect(),
        reply,
    };
    let answer = answer(app, tree, publish, &mut posted).await?;
    posted.patience.served();
    let session_id = u64::from_be_bytes(random()?);
    let parameters = whip::AnswerParameters { candidates: &candidates, session_id };
    let answer = match whip::finish_answer(&checked, &answer, &parameters) {
        Ok(answer) => answer,
        Err(error) => {
            tree.unpublish(publisher).await;
            tracing::error!(%error, "the peer engine's answer cannot be used");
            return Err(Problem::new(
                422,
                "offer-unusable-media",
                format!("The offer cannot be taken: {error}."),
            ));
        }
    };
    let first_mid = checked.mids().first().map(|mid| (*mid).clone());
    let join = posted.join;
    let client = app.sessions.shown(posted.addresses.peer.ip());
    let came = Came { join: Some(join), client, obs: posted.obs };
    app.sessions.insert(&resource, Peer::Publisher(publisher), came, first_mid);
    let Resource { id, broadcast, entity_tag, .. } = resource;
    let (client_address, obs) = (client.map(display), came.obs.map(display));
    tracing::info!(%broadcast, publisher = publisher.0, %join, client_address, obs, "publisher accepted");
    let location = format!("{}/whip/{broadcast}/{id}", posted.origin);
    let (kind, extensions) = (CreatedKind::Answer, Vec::new());
    Ok(Created { kind, description: answer, location, entity_tag, session: id, extensions })
}

/// The engine's answer. While there is no place the publisher waits a moment for one.
async fn answer(
    app: &App,
    tree: &TreeHandle,
    publish: impl Fn(oneshot::Sender<Result<String, PublishError>>) -> Publish,
    posted: &mut Posted,
) -> Result<String, Problem> {
    loop {
        let (reply, outcome) = oneshot::channel();
        tree.publish(publish(reply)).await;
        let error = match outcome.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_gone) => return Err(Problem::overloaded(2)),
        };
        let is_full = matches!(error, PublishError::Full);
        // Places that become free because the node drains are none.
        if is_full && posted.patience.a_moment().await && !app.is_draining.load(Ordering::Relaxed) {
            continue;
        }
        if is_full {
            tracing::info!(broadcast = %posted.broadcast, %error, "publisher not taken");
        }
        return Err(refused(&error));
    }
}

fn refused(error: &PublishError) -> Problem {
    match error {
        PublishError::Occupied => Problem::new(409, "occupied", format!("Not taken: {error}.")),
        PublishError::Offer(_) => Problem::new(422, "offer-unusable-media", format!("Not taken: {error}.")),
        PublishError::Full => Problem::overloaded(5),
    }
}
