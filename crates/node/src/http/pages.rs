//! The pages and their assets, embedded in the binary.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Everything under `web/`.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../web/"]
struct Web;

/// Nothing is loaded from elsewhere and nothing runs inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     media-src 'self' blob: mediastream:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What is live.
pub async fn index() -> Response {
    page("index.html")
}

/// The browser publisher of a broadcast.
pub async fn publish(Path(broadcast): Path<String>) -> Response {
    page_of_broadcast("publish.html", &broadcast)
}

/// The player of a broadcast.
pub async fn watch(Path(broadcast): Path<String>) -> Response {
    page_of_broadcast("watch.html", &broadcast)
}

/// Scripts and styles.
pub async fn asset(Path(file): Path<String>) -> Response {
    let is_page = file.ends_with(".html");
    match Web::get(&file) {
        Some(content) if !is_page => {
            let hash: String =
                content.metadata.sha256_hash()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let mut response = Response::new(Body::from(content.data));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&file)));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if let Ok(etag) = HeaderValue::from_str(&format!("\"{hash}\"")) {
                headers.insert(header::ETAG, etag);
            }
            response
        }
        Some(_) | None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn page_of_broadcast(file: &str, broadcast: &str) -> Response {
    if model::BroadcastId::new(broadcast).is_ok() {
        page(file)
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

fn page(file: &str) -> Response {
    let Some(content) = Web::get(file) else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = Response::new(Body::from(content.data));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn content_type(file: &str) -> &'static str {
    match file.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        _ => "application/octet-stream",
    }
}
