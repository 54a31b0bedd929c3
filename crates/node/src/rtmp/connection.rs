//! One connection: from its first byte until somebody ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingest::{CloseReason, Output, PublisherId};
use model::{BroadcastId, Right};
use rtmp::{Connection, Event, PublishRequest, Refusal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::media::Media;
use crate::clock::wallclock;
use crate::gate::Visitor;
use crate::http::App;
use crate::random;
use crate::tree::{PublishEncoded, TreeHandle};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// A peer that does not take our answers for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// Characters of a name that is perhaps none.
const NAME_LOGGED_MAX: usize = 64;
/// A connection without anything to wait for is looked at this often.
const IDLE: Duration = Duration::from_secs(30);

/// The publisher of a connection.
struct Publishing {
    id: PublisherId,
    media: Media,
    /// The tree has ended it.
    closed: oneshot::Receiver<()>,
}

/// Serves a connection until it ends; says why.
pub(super) async fn drive<S>(app: &Arc<App>, mut stream: S, peer: SocketAddr) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some((tree, _)) = app.ingest.clone() else { return Ok(()) };
    let mut served = Served {
        app,
        tree,
        peer,
        connection: Connection::new(random::bytes()?, Instant::now()),
        publishing: None,
    };
    let ended = served.serve(&mut stream).await;
    let reason = match &ended {
        Ok(()) => "the encoder has closed the connection".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    served.ended(reason).await;
    // What was said last, for the encoder's log.
    let _ = served.write(&mut stream).await;
    let _ = tokio::time::timeout(WRITE_WITHIN, stream.shutdown()).await;
    ended
}

struct Served<'a> {
    app: &'a Arc<App>,
    tree: TreeHandle,
    peer: SocketAddr,
    connection: Connection,
    publishing: Option<Publishing>,
}

impl Served<'_> {
    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> anyhow::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            while let Some(event) = self.connection.poll_event() {
                self.handle(event).await?;
            }
            self.send().await;
            self.write(stream).await?;
            if self.connection.is_closing() {
                return Ok(());
            }
            let wake = self.connection.poll_timeout().unwrap_or_else(|| Instant::now() + IDLE);
            let wake =
                self.publishing.as_ref().and_then(|it| it.media.due_at()).map_or(wake, |due| due.min(wake));
            let closed = async {
                match &mut self.publishing {
                    Some(publishing) => drop((&mut publishing.closed).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = stream.read(&mut buffer), if self.connection.wants_input() => match read? {
                    0 => return Ok(()),
                    length => self.connection.handle_input(Instant::now(), &buffer[..length])?,
                },
                () = tokio::time::sleep_until(wake.into()) => self.connection.handle_timeout(Instant::now())?,
                () = closed => {
                    self.publishing = None;
                    self.connection.close("the server has ended the broadcast, or another encoder publishes it now");
                }
            }
        }
    }

    async fn write<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> anyhow::Result<()> {
        let writing = async {
            while !self.connection.output().is_empty() {
                let written = stream.write(self.connection.output()).await?;
                anyhow::ensure!(written > 0, "the encoder takes nothing any more");
                self.connection.output_written(written);
            }
            // TLS may have kept it.
            Ok(stream.flush().await?)
        };
        let written = tokio::time::timeout(WRITE_WITHIN, writing).await;
        written.context("the encoder does not take what it is told")?
    }

    async fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::PublishRequested(request) => self.admit(request).await?,
            Event::Metadata(metadata) => {
                tracing::info!(
                    encoder = metadata.encoder,
                    width = metadata.width,
                    height = metadata.height,
                    frame_rate = metadata.frame_rate,
                    "an RTMP encoder describes its media"
                );
            }
            Event::Video { time, codec, body } => {
                if let Some(publishing) = &mut self.publishing {
                    let taken = publishing.media.video(Instant::now(), wallclock(), (time, codec), body);
                    self.refuse_media(taken);
                }
            }
            Event::Audio { time, codec, body } => {
                if let Some(publishing) = &mut self.publishing {
                    let taken = publishing.media.audio(Instant::now(), wallclock(), (time, codec), body);
                    self.refuse_media(taken);
                }
            }
            Event::Unpublished => self.ended("the encoder has ended the broadcast".into()).await,
        }
        Ok(())
    }

    /// Ends the connection where its media cannot be taken; its encoder is told why.
    fn refuse_media(&mut self, taken: anyhow::Result<()>) {
        if let Err(error) = taken {
            let reason = format!("{error:#}");
            tracing::info!(reason, "media over RTMP cannot be taken");
            self.connection.close(&reason);
        }
    }

    async fn admit(&mut self, request: PublishRequest) -> anyhow::Result<()> {
        let now = Instant::now();
        let publishing = match self.publisher(&request).await {
            Ok(publishing) => publishing,
            Err((refusal, words)) => {
                let broadcast: String = request.broadcast.chars().take(NAME_LOGGED_MAX).collect();
                tracing::info!(broadcast, words, "publisher over RTMP refused");
                self.connection.refuse_publish(refusal, &words);
                return Ok(());
            }
        };
        // First, so that it ends with the connection whatever its next bytes are.
        self.publishing = Some(publishing);
        Ok(self.connection.accept_publish(now)?)
    }

    async fn publisher(&self, request: &PublishRequest) -> Result<Publishing, (Refusal, String)> {
        let busy = |_| (Refusal::Denied, "The server is busy. Try again soon.".to_owned());
        let broadcast = BroadcastId::new(&request.broadcast)
            .map_err(|error| (Refusal::BadName, format!("This is not the name of a broadcast: {error}.")))?;
        if self.app.rate_limit.take(Instant::now(), self.peer.ip()).is_err() {
            return Err((Refusal::Denied, "Too many attempts. Try again in a moment.".into()));
        }
        let visitor = Visitor {
            right: Right::Publish,
            broadcast: &broadcast,
            client: self.peer.ip(),
            token: request.key.as_ref().map(rtmp::StreamKey::expose),
            ticket: None,
        };
        let admitted = self.app.gate.admit(&visitor).await;
        admitted.map_err(|problem| (Refusal::Denied, problem.detail.to_string()))?;
        if self.app.is_draining.load(Ordering::Relaxed) {
            return Err((Refusal::Denied, "This server is about to stop.".into()));
        }
        let id = PublisherId(self.app.next_id.fetch_add(1, Ordering::Relaxed));
        let (close, closed) = oneshot::channel();
        let (reply, outcome) = oneshot::channel();
        let known_epoch = self.app.control.as_ref().and_then(|control| control.front_door.epoch(&broadcast));
        let publish =
            PublishEncoded { publisher: id, broadcast: broadcast.clone(), known_epoch, close, reply };
        self.tree.publish_encoded(publish).await;
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err((Refusal::BadName, format!("Not taken: {error}."))),
            Err(_gone) => return Err((Refusal::Denied, "The server stops.".into())),
        }
        let identity = random::bytes().map_err(|_| busy(()))?;
        let join = self.app.sessions.insert_without_url(id, &broadcast).map_err(|_| busy(()))?;
        tracing::info!(%broadcast, publisher = id.0, %join, "publisher over RTMP accepted");
        Ok(Publishing { id, media: Media::new(ingest::Identity(identity)), closed })
    }

    /// Hands on what has become of the media.
    async fn send(&mut self) {
        let Some(publishing) = &mut self.publishing else { return };
        let now = Instant::now();
        let outputs = publishing.media.take(now);
        if !outputs.is_empty() {
            let stats = publishing.media.stats(now);
            self.tree.encoded(publishing.id, outputs, stats).await;
        }
    }

    async fn ended(&mut self, reason: String) {
        self.send().await;
        let Some(mut publishing) = self.publishing.take() else { return };
        let stats = publishing.media.stats(Instant::now());
        let closed = Output::Closed(CloseReason::Connection { reason });
        self.tree.encoded(publishing.id, vec![closed], stats).await;
    }
}
