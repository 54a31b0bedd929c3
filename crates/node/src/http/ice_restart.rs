//! ICE restarts of sessions (RFC 9725, section 4.3.3): new credentials on both sides, the same keys and media.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use signaling::http::{self as rules, EntityTag, Problem};
use signaling::{SessionId, candidates, patch, sdp};

use super::{Addresses, App, host_addresses, random};
use crate::sessions::{IceRestart, Peer, Session};

/// Gives the session new credentials and says which.
pub(super) async fn restart(
    app: &App,
    addresses: Addresses,
    (id, session): (SessionId, &Session),
    remote: sdp::IceCredentials,
) -> Result<Response, Problem> {
    let local = ice_dtls::IceCredentials::from_random(&random::<32>()?);
    let entity_tag = EntityTag::from_random(random()?);
    let ours = sdp::IceCredentials { ufrag: local.ufrag().to_owned(), pwd: local.pwd().to_owned() };
    let restart = IceRestart { local, remote, entity_tag: entity_tag.clone() };
    let (is_done, port) = match (session.peer, &app.ingest) {
        (Peer::Publisher(publisher), Some((tree, port))) => {
            (tree.restart_ice(publisher, restart.clone()).await, *port)
        }
        (Peer::Publisher(_), None) => (false, 0),
        (Peer::Viewer(viewer, shard), _) => {
            let shard = &app.shards[shard];
            (shard.handle.restart_ice(viewer, restart.clone()).await?, shard.port)
        }
    };
    if !is_done {
        return Err(Problem::session_not_found());
    }
    app.sessions.restarted(id, restart);
    let host = host_addresses();
    let candidates = candidates::order(&candidates::Known {
        public_ips: &app.public_ips,
        request_local: addresses.local.ip(),
        request_peer: addresses.peer.ip(),
        is_passed_on: addresses.is_passed_on,
        host_addresses: &host,
        port,
        has_tcp: app.tcp_ports.contains(&port),
    });
    let body = patch::restart_answer(&ours, session.first_mid.as_ref(), &candidates);
    let headers = [
        (header::CONTENT_TYPE, rules::TRICKLE_ICE_SDPFRAG.to_owned()),
        (header::ETAG, entity_tag.to_string()),
    ];
    Ok((StatusCode::OK, headers, body).into_response())
}
