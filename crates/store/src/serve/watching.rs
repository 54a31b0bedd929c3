//! One watch over HTTP: a body of lines without end.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::wire::{ALIVE_EVERY, Line};
use crate::{Record, Watch, WatchEvent};

pub const CONTENT_TYPE: &str = "application/x-ndjson";
/// Lines are sent in pieces of about this size.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the client; what comes after them waits, bounded, in the watch.
const PIECES_MAX: usize = 2;
/// A client that takes nothing for so long is given up, and its place with it.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// Answers with the events of `watch`, if there is a place left.
pub fn answer(watch: Watch, places: Arc<Semaphore>) -> Response {
    let Ok(place) = places.try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "as many watches as there may be are open\n")
            .into_response();
    };
    let (pieces, waiting) = mpsc::channel(PIECES_MAX);
    tokio::spawn(pump(watch, pieces, place));
    let body = stream::unfold(waiting, |mut waiting: mpsc::Receiver<Bytes>| async move {
        let piece = waiting.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), waiting))
    });
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], Body::from_stream(body))
        .into_response()
}

/// The client is gone, or takes nothing.
struct Lost;

async fn pump(mut watch: Watch, pieces: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
    loop {
        let sent = tokio::select! {
            event = timeout(ALIVE_EVERY, watch.next()) => match event {
                Ok(Some(event)) => send_event(&pieces, event).await,
                Ok(None) => return,
                Err(_) => send(&pieces, piece(&Line::Alive)).await,
            },
            () = pieces.closed() => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn send_event(pieces: &mpsc::Sender<Bytes>, event: WatchEvent) -> Result<(), Lost> {
    match event {
        WatchEvent::Snapshot(records) => send_snapshot(pieces, &records).await,
        WatchEvent::Put(record) => send(pieces, piece(&Line::Put((&record).into()))).await,
        WatchEvent::Gone(key) => send(pieces, piece(&Line::Gone(key.id.to_string()))).await,
    }
}

async fn send_snapshot(pieces: &mpsc::Sender<Bytes>, records: &[Record]) -> Result<(), Lost> {
    let mut text = piece(&Line::Snapshot(records.len()));
    for record in records {
        Line::Put(record.into()).write(&mut text);
        if text.len() >= PIECE_BYTES {
            send(pieces, std::mem::take(&mut text)).await?;
        }
    }
    if text.is_empty() { Ok(()) } else { send(pieces, text).await }
}

fn piece(line: &Line) -> Vec<u8> {
    let mut text = Vec::new();
    line.write(&mut text);
    text
}

async fn send(pieces: &mpsc::Sender<Bytes>, text: Vec<u8>) -> Result<(), Lost> {
    match timeout(STALLED_AFTER, pieces.send(text.into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Lost),
    }
}
