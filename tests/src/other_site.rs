//! A site of somebody else: pages with the player in them, and a WHEP endpoint that has layers to choose from.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::program::Program;

/// Puts every attribute of its URL on the player, after it has begun to note down what the player tells.
const SCRIPT: &str = r#"
const player = document.querySelector("media-tree-player");
window.told = [];
for (const type of ["state", "stats", "layers", "ended", "volumechange"]) {
  player.addEventListener(type, ({ detail }) => told.push({ type, detail }));
}
for (const [name, value] of new URLSearchParams(location.search)) player.setAttribute(name, value);
"#;

/// The site; ends with its value.
pub struct OtherSite {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    /// Where the player comes from.
    program: String,
    origin: String,
    layers: watch::Sender<Value>,
    /// How often viewers were sent away.
    moves: watch::Sender<u64>,
    asked: Mutex<Asked>,
    client: reqwest::Client,
}

/// What players have asked for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Types of events.
    pub events: Vec<Value>,
    /// Layers.
    pub layers: Vec<Value>,
}

impl OtherSite {
    /// Serves pages with the player of `program`, and `/layered/{broadcast}`, a WHEP endpoint of `program` but for the
    /// `layers` that it tells of. It refuses to choose one that is not sent.
    ///
    /// # Errors
    /// If there is no port for it.
    pub async fn start(program: &Program, layers: Value) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("a port")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            program: program.url(""),
            origin: format!("http://{address}"),
            layers: watch::channel(layers).0,
            moves: watch::channel(0).0,
            asked: Mutex::default(),
            client: reqwest::Client::new(),
        });
        let router = Router::new()
            .route("/page", get(page))
            .route("/page.js", get(([(header::CONTENT_TYPE, "text/javascript")], SCRIPT)))
            .route("/frame/{of}", get(frame))
            .route("/layered/{broadcast}", post(whep))
            .route("/events", post(make_events))
            .route("/events/one", get(events))
            .route("/layer", post(choose))
            .with_state(shared.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, server })
    }

    /// A URL of the site. `/page` has a player that gets its attributes from the query; `/frame/watch` and
    /// `/frame/embed` have the page of that name of the demo in a frame.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Tells of other layers from now on.
    pub fn say_layers(&self, layers: Value) {
        self.shared.layers.send_replace(layers);
    }

    /// Sends every viewer away, to where they are.
    pub fn move_viewers(&self) {
        self.shared.moves.send_modify(|moves| *moves += 1);
    }

    /// What players have asked for so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        self.shared.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for OtherSite {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Allows no more than docs/embedding.md says that the player needs.
fn policy(program: &str) -> String {
    format!(
        "default-src 'none'; img-src data:; script-src 'self' {program}; style-src {program}; \
         connect-src 'self' {program}; frame-src {program}"
    )
}

async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let program = &shared.program;
    let html = format!(
        "<!doctype html><html lang=fr><meta charset=utf-8><title>Somebody</title><link rel=icon href='data:,'>\
         <script type=module src='{program}/embed.js'></script><script type=module src='/page.js'></script>\
         <input id=field><media-tree-player></media-tree-player>"
    );
    ([(header::CONTENT_SECURITY_POLICY, policy(program))], Html(html)).into_response()
}

async fn frame(State(shared): State<Arc<Shared>>, Path(of): Path<String>) -> Response {
    let program = &shared.program;
    let html = format!(
        "<!doctype html><meta charset=utf-8><title>Somebody</title><link rel=icon href='data:,'>\
         <iframe src='{program}/{of}/demo' allow='autoplay; fullscreen; picture-in-picture' width=640 height=360>\
         </iframe>"
    );
    ([(header::CONTENT_SECURITY_POLICY, policy(program))], Html(html)).into_response()
}

async fn whep(
    State(shared): State<Arc<Shared>>,
    Path(broadcast): Path<String>,
    headers: HeaderMap,
    offer: String,
) -> Result<Response, Response> {
    let failed = |error: reqwest::Error| (StatusCode::BAD_GATEWAY, error.to_string()).into_response();
    let mut request = shared.client.post(format!("{}/whep/{broadcast}", shared.program)).body(offer);
    request = request.header("content-type", "application/sdp");
    if let Some(authorization) = headers.get(header::AUTHORIZATION) {
        request = request.header("authorization", authorization.as_bytes());
    }
    let answer = request.send().await.map_err(failed)?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = (status, Body::from(answer.bytes().await.map_err(failed)?)).into_response();
    let copied = [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::RETRY_AFTER];
    for name in copied {
        if let Some(value) = headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let extension = "urn:ietf:params:whep:ext:core";
    let origin = &shared.origin;
    let link = format!(
        "<{origin}/events>; rel=\"{extension}:server-sent-events\"; events=\"active,reconnect,layers\", \
         <{origin}/layer>; rel=\"{extension}:layer\""
    );
    let link = link.parse().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())?;
    response.headers_mut().insert(HeaderName::from_static("link"), link);
    Ok(response)
}

async fn make_events(State(shared): State<Arc<Shared>>, Json(types): Json<Value>) -> Response {
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).events.push(types);
    (StatusCode::CREATED, [(header::LOCATION, format!("{}/events/one", shared.origin))]).into_response()
}

async fn events(State(shared): State<Arc<Shared>>) -> Response {
    let (mut layers, moves) = (shared.layers.subscribe(), shared.moves.subscribe());
    layers.mark_changed();
    let stream = futures_util::stream::unfold((layers, moves), |(mut layers, mut moves)| async move {
        let event = tokio::select! {
            told = layers.changed() => {
                told.ok()?;
                Event::default().event("layers").data(layers.borrow_and_update().to_string())
            }
            told = moves.changed() => {
                told.ok()?;
                Event::default().event("reconnect").data("{}")
            }
        };
        Some((Ok::<_, Infallible>(event), (layers, moves)))
    });
    Sse::new(stream).into_response()
}

async fn choose(State(shared): State<Arc<Shared>>, Json(wanted): Json<Value>) -> StatusCode {
    shared.asked.lock().unwrap_or_else(PoisonError::into_inner).layers.push(wanted.clone());
    let Some(name) = wanted.get("rid") else { return StatusCode::OK };
    let told = shared.layers.borrow();
    let layers = told["0"].as_array().into_iter().flatten();
    let is_sent = layers.into_iter().any(|layer| layer["rid"] == *name && layer["bitrate"].is_u64());
    if is_sent { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }
}

/// Three layers, one of which is not sent.
#[must_use]
pub fn three_layers() -> Value {
    let high = json!({ "rid": "h", "bitrate": 2_500_000, "width": 1280, "height": 720 });
    json!({ "0": [high, { "rid": "m", "bitrate": 800_000 }, { "rid": "q" }] })
}

/// The only layer of a picture.
#[must_use]
pub fn one_layer() -> Value {
    json!({ "0": [{ "rid": "h", "bitrate": 500_000, "width": 640, "height": 360 }] })
}
