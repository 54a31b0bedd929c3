//! The pages and their assets, embedded in the binary.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Everything under `web/`.
#[derive(rust_embed::RustEmbed)]
#[folder = "../../web/"]
struct Web;

use super::{App, page_origins};

/// Who may show a page in a frame of his own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Nobody: what is clicked on this page is meant for it.
    Nobody,
    /// Every page: it is made for that.
    Everybody,
}

/// Nothing is loaded from elsewhere and nothing runs inline; sessions may be elsewhere in the tree.
fn content_security_policy(origins: &[String], framing: Framing) -> String {
    let connect: String = origins.iter().map(|origin| format!(" {origin}")).collect();
    let ancestors = match framing {
        Framing::Nobody => "'none'",
        Framing::Everybody => "*",
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         media-src 'self' blob: mediastream:; connect-src 'self'{connect}; base-uri 'none'; form-action 'none'; \
         frame-ancestors {ancestors}"
    )
}

/// What is live.
pub async fn index(State(app): State<Arc<App>>) -> Response {
    page(&app.page_origins, "index.html", Framing::Nobody)
}

/// The tree at work, for operators. What it shows it asks of the operator API, which asks who wants to know.
pub async fn dashboard(State(app): State<Arc<App>>) -> Response {
    page(&app.page_origins, "dashboard.html", Framing::Nobody)
}

/// The browser publisher of a broadcast.
pub async fn publish(State(app): State<Arc<App>>, Path(broadcast): Path<String>) -> Response {
    page_of_broadcast(&app, "publish.html", &broadcast, Framing::Nobody).await
}

/// The player of a broadcast.
pub async fn watch(State(app): State<Arc<App>>, Path(broadcast): Path<String>) -> Response {
    page_of_broadcast(&app, "watch.html", &broadcast, Framing::Nobody).await
}

/// The player of a broadcast without anything around it, for frames on other pages.
pub async fn embed(State(app): State<Arc<App>>, Path(broadcast): Path<String>) -> Response {
    page_of_broadcast(&app, "embed.html", &broadcast, Framing::Everybody).await
}

/// The module that makes the player's element known to any page.
pub async fn embed_script() -> Response {
    script_or_style("embed.js")
}

/// Scripts and styles.
pub async fn asset(Path(file): Path<String>) -> Response {
    script_or_style(&file)
}

/// Any page may load them: there is nothing in them that is not public, and the player is made of them.
fn script_or_style(file: &str) -> Response {
    let is_page = file.ends_with(".html");
    match Web::get(file) {
        Some(content) if !is_page => {
            let hash: String =
                content.metadata.sha256_hash()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            let mut response = Response::new(Body::from(content.data));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(file)));
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
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

async fn page_of_broadcast(app: &App, file: &str, broadcast: &str, framing: Framing) -> Response {
    if model::BroadcastId::new(broadcast).is_ok() {
        page(&session_origins(app).await, file, framing)
    } else {
        StatusCode::NOT_FOUND.into_response()
    }
}

/// Where sessions may be: at the origins of the configuration, and at every node that publishers and viewers are sent to.
async fn session_origins(app: &App) -> Vec<String> {
    let mut origins = app.page_origins.clone();
    let Some(control) = &app.control else { return origins };
    control.front_door.refresh().await;
    origins.extend(page_origins::sources(&control.front_door.origins()));
    origins
}

fn page(origins: &[String], file: &str, framing: Framing) -> Response {
    let Some(content) = Web::get(file) else { return StatusCode::NOT_FOUND.into_response() };
    let mut response = Response::new(Body::from(content.data));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = HeaderValue::try_from(content_security_policy(origins, framing));
    let nothing = HeaderValue::from_static("default-src 'none'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.unwrap_or(nothing));
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
