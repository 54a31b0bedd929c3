//! The private operations listener: `/metrics`, `/healthz`, `/readyz`; `life` adds `/viewers/move`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use telemetry::Exposition;

/// What the listener shows.
pub struct Ops {
    /// Renders every metric.
    pub encode: Box<dyn Fn(Exposition) -> String + Send + Sync>,
    /// Set when all threads and listeners are up.
    pub is_ready: AtomicBool,
    /// Set when the node drains.
    pub is_draining: AtomicBool,
}

/// Its routes.
pub fn router(ops: Arc<Ops>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .with_state(ops)
}

async fn metrics(State(ops): State<Arc<Ops>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::accepted(accept);
    let headers = [(header::CONTENT_TYPE, exposition.content_type()), (header::VARY, "Accept")];
    (headers, (ops.encode)(exposition)).into_response()
}

async fn ready(State(ops): State<Arc<Ops>>) -> Response {
    if ops.is_draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !ops.is_ready.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response();
    }
    "ready\n".into_response()
}
