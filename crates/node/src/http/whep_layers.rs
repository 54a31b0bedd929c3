//! A viewer chooses a layer of its picture (WHEP, "Video Layer Selection extension").

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use egress::Selection;
use model::{BroadcastId, Kind};
use signaling::http::{self as rules, Action, Link, Problem, Resource};
use signaling::whep::layers::{self, Choice, Layer};

use super::{
    Addresses, App, authorize, problem_response, read_body, reply_response, take_allowance, text,
    whep_events, with_cors,
};
use crate::sessions::Peer;

/// The `Link` of the extension, for the session at `location`.
pub(super) fn link(location: &str) -> Option<Link> {
    Link::whep_extension(&format!("{location}/layer"), layers::EXTENSION).ok()
}

/// `/whep/{broadcast}/{session}/layer`.
pub(super) async fn entry(
    State(app): State<Arc<App>>,
    ConnectInfo(addresses): ConnectInfo<Addresses>,
    Path((broadcast, session)): Path<(String, String)>,
    request: Request,
) -> Response {
    let result = async {
        if let Action::Reply(reply) = rules::action(Resource::LayerEntry, request.method().as_str())? {
            return Ok(reply_response(&reply));
        }
        take_allowance(&app, addresses)?;
        let (id, found) = whep_events::viewer(&app, &broadcast, &session)?;
        authorize(&app, addresses, (id, &found), request.headers()).await?;
        let Peer::Viewer(viewer, shard) = found.peer else { return Err(Problem::session_not_found()) };
        let Some(line) = found.events.picture_line() else {
            return Err(Problem::new(422, "media-unknown", "This session has no picture."));
        };
        let content_type = text(request.headers(), header::CONTENT_TYPE).map(str::to_owned);
        let body = read_body(request.into_body()).await?;
        let told = app.layers(shard, &found.broadcast).filter(|layers| !layers.is_empty());
        let known = told.unwrap_or_else(|| app.announced_layers(&found.broadcast));
        let selection = match Choice::parse(content_type.as_deref(), &body, &line.to_string(), &known)? {
            Choice::Auto => Selection::Auto,
            Choice::Layer(rid) => Selection::Rid(rid),
            Choice::UpTo(rid) => Selection::UpTo(rid),
        };
        if app.shards[shard].handle.select_layer(viewer, selection).await? {
            Ok(StatusCode::OK.into_response())
        } else {
            Err(Problem::session_not_found())
        }
    };
    with_cors(result.await.unwrap_or_else(|problem| problem_response(&problem)))
}

impl App {
    /// The layers of a broadcast's picture, best first, as a shard told last; `None` if nobody there watches it.
    pub(super) fn layers(&self, shard: usize, broadcast: &BroadcastId) -> Option<Arc<[Layer]>> {
        let layers = self.shards.get(shard)?.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.get(broadcast).cloned()
    }

    /// The same as it was announced, for the second until a shard tells more: bitrates and sizes are not known.
    fn announced_layers(&self, broadcast: &BroadcastId) -> Arc<[Layer]> {
        let entry = self.directory.get(broadcast);
        let track = entry.as_ref().and_then(|entry| entry.broadcast.track(Kind::Video));
        let layers = track.map_or(&[][..], |track| &track.layers);
        layers
            .iter()
            .map(|layer| Layer { rid: layer.rid.clone(), inner: None, bitrate: None, size: None })
            .collect()
    }

    /// A shard tells of its layers.
    pub fn layers_changed(&self, shard: usize, pictures: BTreeMap<BroadcastId, Arc<[Layer]>>) {
        let Some(shard) = self.shards.get(shard) else { return };
        *shard.layers.lock().unwrap_or_else(PoisonError::into_inner) = pictures;
    }
}
