//! WHEP in front of Janus, which makes the offer itself: POST answers 406 with Janus' offer, PATCH brings the viewer's
//! answer (draft-ietf-wish-whep, counter-offers), DELETE ends the viewer. Media never passes here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::routing::{patch, post};
use clap::Args;

use super::janus::Janus;

/// How long Janus may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the facade listens and what it stands before.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Address of HTTP.
    #[arg(long)]
    listen: SocketAddr,
    /// WebSocket of Janus.
    #[arg(long)]
    janus: String,
    /// Mountpoint of its streaming plugin.
    #[arg(long)]
    mountpoint: u64,
}

#[derive(Clone)]
struct Facade {
    janus: Arc<Janus>,
    mountpoint: u64,
}

/// Serves until killed.
///
/// # Errors
/// If Janus does not come up or the address is taken.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let janus = connect(&arguments.janus).await?;
    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    let router = Router::new()
        .route("/whep/{broadcast}", post(watch))
        .route("/whep/session/{handle}", patch(start).delete(leave))
        .with_state(Facade { janus, mountpoint: arguments.mountpoint });
    super::ready()?;
    Ok(axum::serve(listener, router).await?)
}

async fn connect(url: &str) -> anyhow::Result<Arc<Janus>> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match Janus::connect(url).await {
            Ok(janus) => return Ok(janus),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn watch(State(facade): State<Facade>) -> Response {
    match facade.janus.watch(facade.mountpoint).await {
        Ok((handle, offer)) => {
            let location = format!("/whep/session/{handle}");
            let headers = [(CONTENT_TYPE, "application/sdp".to_owned()), (LOCATION, location)];
            (StatusCode::NOT_ACCEPTABLE, headers, offer).into_response()
        }
        Err(error) => refusal(&error),
    }
}

async fn start(State(facade): State<Facade>, Path(handle): Path<u64>, answer: String) -> Response {
    match facade.janus.start(handle, &answer).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refusal(&error),
    }
}

async fn leave(State(facade): State<Facade>, Path(handle): Path<u64>) -> Response {
    match facade.janus.leave(handle).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &anyhow::Error) -> Response {
    eprintln!("{error:#}");
    (StatusCode::BAD_GATEWAY, format!("{error:#}\n")).into_response()
}
