//! WHIP and WHEP as far as a load generator needs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use mio::Waker;
use tokio::sync::oneshot;

use super::Request;

#[derive(Clone)]
struct Media {
    requests: SyncSender<Request>,
    waker: Arc<Waker>,
}

impl Media {
    /// Asks the media thread; `None` if it has ended.
    async fn ask<T>(
        &self,
        request: Request,
        answer: oneshot::Receiver<anyhow::Result<T>>,
    ) -> Option<anyhow::Result<T>> {
        self.tell(request).await?;
        answer.await.ok()
    }

    async fn tell(&self, request: Request) -> Option<()> {
        let requests = self.requests.clone();
        tokio::task::spawn_blocking(move || requests.send(request)).await.ok()?.ok()?;
        self.waker.wake().ok()
    }
}

pub async fn serve(
    listen: SocketAddr,
    requests: SyncSender<Request>,
    waker: Arc<Waker>,
) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let router = Router::new()
        .route("/whip/{broadcast}", post(publish))
        .route("/whip/session/{session}", delete(|| async { StatusCode::OK }))
        .route("/whep/{broadcast}", post(watch))
        .route("/whep/session/{session}", delete(leave))
        .with_state(Media { requests, waker });
    crate::parts::ready()?;
    Ok(axum::serve(listener, router).await?)
}

async fn publish(State(media): State<Media>, offer: String) -> Response {
    let (answer, answered) = oneshot::channel();
    let answer = media.ask(Request::Publish { offer, answer }, answered).await;
    created(answer.map(|answer| answer.map(|sdp| ("/whip/session/1".to_owned(), sdp))))
}

async fn watch(State(media): State<Media>, offer: String) -> Response {
    let (answer, answered) = oneshot::channel();
    let answer = media.ask(Request::Watch { offer, answer }, answered).await;
    created(answer.map(|answer| answer.map(|(id, sdp)| (format!("/whep/session/{id}"), sdp))))
}

async fn leave(State(media): State<Media>, Path(viewer): Path<u64>) -> StatusCode {
    match media.tell(Request::Leave { viewer }).await {
        Some(()) => StatusCode::OK,
        None => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn created(answer: Option<anyhow::Result<(String, String)>>) -> Response {
    match answer {
        Some(Ok((location, sdp))) => {
            let headers = [(CONTENT_TYPE, "application/sdp".to_owned()), (LOCATION, location)];
            (StatusCode::CREATED, headers, sdp).into_response()
        }
        Some(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
