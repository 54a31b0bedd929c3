//! Event streams of viewers, as far as the suite needs them: `layers` of whoever publishes.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::Method;
use axum::response::Response;
use serde_json::json;

use super::{Fault, Said, Shared};

/// A layer of which nothing came for so long has stopped.
const STOPPED_AFTER: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What tells of the entry of a session.
pub(super) fn link(session: &str) -> String {
    format!("<{session}/events>; rel=\"urn:ietf:params:whep:ext:core:server-sent-events\"; events=\"layers\"")
}

/// Makes a stream.
pub(super) async fn entry(
    State(shared): State<Arc<Shared>>,
    Path((protocol, id)): Path<(String, String)>,
    method: Method,
    body: String,
) -> Response {
    let names: Option<Vec<String>> = serde_json::from_str(&body).ok();
    let is_known = names.is_some_and(|names| names.iter().all(|name| name == "layers"));
    let said = if method != Method::POST || !shared.sessions().contains_key(&id) {
        shared.refuse(404, "There is no such session")
    } else if is_known || shared.is(Fault::UnknownEventsAreTaken) {
        let stream = format!("http://{}/{protocol}/show/{id}/events/{}", shared.address, shared.number());
        Said::new(201).with("location", stream)
    } else {
        shared.refuse(400, "There are no such events")
    };
    shared.finish(said, &method)
}

/// Tells of the layers each time that they have changed, as long as somebody listens.
pub(super) async fn stream(State(shared): State<Arc<Shared>>, method: Method) -> Response {
    if method != Method::GET {
        return shared.finish(Said::new(200), &method);
    }
    let told = futures_util::stream::unfold((shared, String::new()), |(shared, before)| async move {
        loop {
            let now = layers(&shared);
            if now != before {
                let text = format!("event: layers\ndata: {now}\n\n");
                return Some((Ok::<_, Infallible>(text), (shared, now)));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    });
    let response = Response::builder().header("content-type", "text/event-stream");
    response.body(Body::from_stream(told)).expect("a response")
}

fn layers(shared: &Shared) -> String {
    let now = Instant::now();
    let known = shared.layers.lock().unwrap_or_else(PoisonError::into_inner);
    let layer = |(rid, at): (&String, &Instant)| {
        let mut layer = json!({ "rid": rid });
        if shared.is(Fault::LayersWithoutNames) {
            layer = json!({});
        }
        let has_stopped = now.saturating_duration_since(*at) > STOPPED_AFTER;
        if !has_stopped || shared.is(Fault::StoppedLayersHaveBitrates) {
            layer["bitrate"] = 500_000.into();
        }
        layer
    };
    let layers: Vec<_> = known.iter().map(layer).collect();
    json!({ "1": layers }).to_string()
}
