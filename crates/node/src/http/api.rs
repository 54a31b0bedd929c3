//! `/api/v1`: what pages and operators read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::HeaderMap;
use model::BroadcastId;
use serde::Serialize;

use super::{Addresses, App, operators};

/// One broadcast, as `/api/v1/broadcasts` lists it.
#[derive(Serialize)]
pub struct BroadcastView {
    id: String,
    /// `live` or `waiting`.
    state: &'static str,
    /// Viewers of it on this node.
    viewers: u64,
    /// Empty while no media of it comes to this node.
    tracks: Vec<TrackView>,
    /// Seconds since 1970 at which it came into this state, as far as this node knows.
    since: Option<u64>,
}

/// One track of a broadcast.
#[derive(Serialize)]
pub struct TrackView {
    kind: &'static str,
    codec: &'static str,
    layers: usize,
    /// Format parameters as in `a=fmtp`; what the media says of its profile stands in them, as far as it says it.
    format: String,
}

/// `GET /api/v1/broadcasts`.
pub async fn broadcasts(State(app): State<Arc<App>>) -> Json<Vec<BroadcastView>> {
    let view = |entry: crate::directory::Entry| BroadcastView {
        state: entry.state(),
        viewers: entry.viewers,
        since: entry.since.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs()),
        tracks: entry
            .broadcast
            .tracks
            .iter()
            .map(|track| TrackView {
                kind: track.kind().as_str(),
                codec: track.codec.encoding_name(),
                layers: track.layers.len(),
                format: track.fmtp.to_string(),
            })
            .collect(),
        id: entry.broadcast.id.to_string(),
    };
    let mut views: Vec<BroadcastView> = app.directory.list().into_iter().map(view).collect();
    views.extend(elsewhere(&app));
    views.sort_by(|left, right| left.id.cmp(&right.id));
    Json(views)
}

/// Broadcasts that the installation has and that this node has not heard of by its links.
fn elsewhere(app: &App) -> Vec<BroadcastView> {
    let Some(control) = &app.control else { return Vec::new() };
    let declared = control.front_door.declared().list().into_iter().map(|(id, _)| (id, "waiting"));
    let published = control.front_door.broadcasts().into_iter().map(|record| {
        let state = match record.state {
            registry::RecordedState::Live => "live",
            registry::RecordedState::Waiting => "waiting",
        };
        (record.broadcast, state)
    });
    let all: BTreeMap<BroadcastId, &'static str> = declared.chain(published).collect();
    let unheard = all.into_iter().filter(|(id, _)| app.directory.get(id).is_none());
    let view = |(id, state): (BroadcastId, _)| BroadcastView {
        id: id.to_string(),
        state,
        viewers: 0,
        tracks: Vec::new(),
        since: None,
    };
    unheard.map(view).collect()
}

/// How one session ended, as `/api/v1/endings` lists it.
#[derive(Serialize)]
pub struct EndingView {
    /// Seconds since 1970.
    at: u64,
    /// `publisher` or `viewer`.
    role: &'static str,
    broadcast: String,
    /// Why, in words.
    reason: String,
}

/// `GET /api/v1/endings`: the latest sessions that ended or never connected, and why.
pub async fn endings(State(app): State<Arc<App>>) -> Json<Vec<EndingView>> {
    let view = |ending: crate::sessions::Ending| EndingView {
        at: ending.at.duration_since(UNIX_EPOCH).map_or(0, |at| at.as_secs()),
        role: ending.role,
        broadcast: ending.broadcast.to_string(),
        reason: ending.reason,
    };
    Json(app.sessions.endings().into_iter().map(view).collect())
}

/// Ways to publish that this node has beside WHIP, as `/api/v1/publishing` tells them.
#[derive(Serialize)]
pub struct PublishingView {
    /// `null` where RTMP is not taken, or not from where the asker is.
    rtmp: Option<RtmpView>,
}

/// What comes before and after the host in the address of RTMP.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct RtmpView {
    /// `rtmp` or `rtmps`.
    scheme: &'static str,
    port: u16,
}

/// `GET /api/v1/publishing`: what the publish page shows to whoever sets an encoder up.
pub async fn publishing(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    headers: HeaderMap,
) -> Json<PublishingView> {
    let is_local = operators::is_local(addresses.peer.ip(), &headers);
    Json(PublishingView { rtmp: app.rtmp.and_then(|listen| rtmp(listen, app.is_tls, is_local)) })
}

/// RTMP for whoever sits at this machine, or does not.
fn rtmp(listen: SocketAddr, is_tls: bool, is_local: bool) -> Option<RtmpView> {
    let reaches = is_local || !listen.ip().to_canonical().is_loopback();
    // Plain RTMP is always taken from this machine, whose names the certificate may not have.
    let scheme = if is_tls && !is_local { "rtmps" } else { "rtmp" };
    reaches.then_some(RtmpView { scheme, port: listen.port() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rtmp_is_told_to_whom_it_reaches() {
        let (private, public) = (([127, 0, 0, 1], 1935).into(), ([0, 0, 0, 0], 1936).into());
        let plain = |port| Some(RtmpView { scheme: "rtmp", port });
        assert_eq!(rtmp(private, false, true), plain(1935));
        assert_eq!(rtmp(private, true, true), plain(1935));
        assert_eq!(rtmp(private, true, false), None);
        assert_eq!(rtmp(public, false, false), plain(1936));
        assert_eq!(rtmp(public, true, false), Some(RtmpView { scheme: "rtmps", port: 1936 }));
    }
}
