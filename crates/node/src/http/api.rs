//! `/api/v1`: what pages and operators read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::Json;
use axum::extract::State;
use model::BroadcastId;
use serde::Serialize;

use super::App;

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
