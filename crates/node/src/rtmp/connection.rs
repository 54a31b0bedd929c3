//! One connection: from its first byte until somebody ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use doctor::Code;
use ingest::{CloseReason, Output, PublisherId};
use model::{BroadcastId, JoinName, Right, TraceParent};
use rtmp::{Connection, Event, PublishRequest, Refusal};
use telemetry::JoinResult;
use telemetry::rtmp::{ConnectionBytes, PublisherCounters, RtmpEnd, Totals};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tracing::field::display;

use super::Ended;
use super::media::Media;
use super::refused;
use crate::clock::wallclock;
use crate::gate::Visitor;
use crate::http::App;
use crate::random;
use crate::sessions::WithoutUrl;
use crate::tree::{PublishEncoded, PublishError, TreeHandle};

/// Read at once.
const READ_BYTES: usize = 64 << 10;
/// A peer that does not take our answers for so long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// A connection without anything to wait for is looked at this often.
const IDLE: Duration = Duration::from_secs(30);

/// The publisher of a connection.
struct Publishing {
    id: PublisherId,
    broadcast: BroadcastId,
    media: Media,
    /// The tree has ended it.
    closed: oneshot::Receiver<()>,
    counters: PublisherCounters,
    /// Messages that the connection had skipped before.
    skipped_before: u64,
}

/// Why a publisher does not come in.
struct NotAdmitted {
    /// As the protocol tells it.
    refusal: Refusal,
    /// As the end of its connection is counted.
    how: RtmpEnd,
    /// As a publisher that came is counted.
    result: JoinResult,
    /// In words for the encoder's owner.
    words: String,
}

impl NotAdmitted {
    fn new(refusal: Refusal, words: impl Into<String>) -> Self {
        Self { refusal, how: RtmpEnd::NotTaken, result: JoinResult::Refused, words: words.into() }
    }

    fn busy() -> Self {
        Self::new(Refusal::Denied, "The server is busy. Try again soon.")
    }
}

/// Serves a connection until it ends; says how it did.
///
/// # Errors
/// If the encoder broke a rule, or the connection broke.
pub(super) async fn drive<S>(app: &Arc<App>, mut stream: S, peer: SocketAddr) -> anyhow::Result<Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Some((tree, _)) = app.ingest.clone() else {
        return Ok(Ended::new(RtmpEnd::NotTaken, "this node takes no publishers"));
    };
    let mut served = Served {
        app,
        tree,
        peer,
        connection: Connection::new(random::bytes()?, Instant::now()),
        publishing: None,
        bytes: app.metrics.rtmp().connection(),
        ended: None,
    };
    let ended = match served.serve(&mut stream).await {
        Ok(()) => served
            .ended
            .take()
            .unwrap_or_else(|| Ended::new(RtmpEnd::Closed, "the encoder has closed the connection")),
        Err(error) => {
            if let Some(code) = refused::of_connection(&error) {
                served.sent_away(code, &format!("{error:#}"));
            }
            Ended::by(&error)
        }
    };
    served.count();
    served.unpublish(ended.reason.clone()).await;
    // What was said last, for the encoder's log.
    let _ = served.write(&mut stream).await;
    let _ = tokio::time::timeout(WRITE_WITHIN, stream.shutdown()).await;
    Ok(ended)
}

struct Served<'a> {
    app: &'a Arc<App>,
    tree: TreeHandle,
    peer: SocketAddr,
    connection: Connection,
    publishing: Option<Publishing>,
    bytes: ConnectionBytes,
    /// Why this side ends it.
    ended: Option<Ended>,
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
            self.count();
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
                    let reason = "the server has ended the broadcast, or another encoder publishes it now";
                    self.close(RtmpEnd::EndedHere, reason);
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
            Event::Text { text, language } => {
                if let Some(publishing) = &mut self.publishing {
                    publishing.media.caption(wallclock(), &text, language.as_deref());
                }
            }
            Event::Unpublished => self.unpublish("the encoder has ended the broadcast".into()).await,
        }
        Ok(())
    }

    /// Ends the connection where its media cannot be taken; its encoder is told why.
    fn refuse_media(&mut self, taken: anyhow::Result<()>) {
        let Err(error) = taken else { return };
        // What came with it may build on what was not taken: that is no reason of its own.
        if self.ended.is_some() {
            return;
        }
        let (code, reason) = (refused::of_media(&error), format!("{error:#}"));
        self.sent_away(code, &reason);
        self.close(if code == Code::BFrames { RtmpEnd::BFrames } else { RtmpEnd::Media }, &reason);
    }

    /// The publisher has to go for what it sends; encoders do not show why, the advice does.
    fn sent_away(&self, code: Code, reason: &str) {
        let Some(publishing) = &self.publishing else { return };
        tracing::info!(broadcast = %publishing.broadcast, reason, "media over RTMP cannot be taken");
        self.app.advice.sent_away(&publishing.broadcast, code);
    }

    /// Ends the connection.
    fn close(&mut self, how: RtmpEnd, reason: &str) {
        self.connection.close(reason);
        self.ended.get_or_insert_with(|| Ended::new(how, reason));
    }

    /// Shows how much came, and what became of it.
    fn count(&mut self) {
        let stats = self.connection.stats();
        self.bytes.show(stats.received_bytes, self.connection.pending_bytes());
        let Some(publishing) = &mut self.publishing else { return };
        let sound = publishing.media.sound();
        publishing.counters.show(Totals {
            recoded_frames: sound.recoded_frames,
            passed_frames: sound.passed_frames,
            cut_frames: sound.cut_frames,
            damaged_frames: sound.damaged_frames,
            filled_gaps: sound.filled_gaps,
            left_gaps: sound.left_gaps,
            clock_jumps: stats.clock_jumps,
            late_messages: stats.late_messages,
            skipped_messages: stats.skipped_messages - publishing.skipped_before,
        });
    }

    async fn admit(&mut self, request: PublishRequest) -> anyhow::Result<()> {
        let now = Instant::now();
        let mut span = self.app.traces.answer("RTMP publish", None);
        let publishing = match self.publisher(&request, span.context()).await {
            Ok((publishing, join)) => {
                span.join(join);
                span.text("media_tree.broadcast", &request.broadcast);
                publishing
            }
            Err(NotAdmitted { refusal, how, result, words }) => {
                // Whoever fills in one field too few sends the key in place of the name.
                let known = BroadcastId::new(&request.broadcast).ok().filter(|id| self.app.knows(id));
                let broadcast = known.as_ref().map_or("unknown", BroadcastId::as_str);
                tracing::info!(broadcast, words, "publisher over RTMP refused");
                self.connection.refuse_publish(refusal, &words);
                span.failed(&words);
                self.app.metrics.publisher_refused(result);
                self.ended = Some(Ended::new(how, words));
                return Ok(());
            }
        };
        // First, so that it ends with the connection whatever its next bytes are.
        self.publishing = Some(publishing);
        Ok(self.connection.accept_publish(now)?)
    }

    async fn publisher(
        &self,
        request: &PublishRequest,
        span: Option<TraceParent>,
    ) -> Result<(Publishing, JoinName), NotAdmitted> {
        let broadcast = BroadcastId::new(&request.broadcast).map_err(|error| {
            NotAdmitted::new(Refusal::BadName, format!("This is not the name of a broadcast: {error}."))
        })?;
        if self.app.rate_limit.take(Instant::now(), self.peer.ip()).is_err() {
            return Err(NotAdmitted::new(Refusal::Denied, "Too many attempts. Try again in a moment."));
        }
        let visitor = Visitor {
            right: Right::Publish,
            broadcast: &broadcast,
            client: self.peer.ip(),
            token: request.key.as_ref().map(rtmp::StreamKey::expose),
            ticket: None,
        };
        let admitted = self.app.gate.admit(&visitor).await;
        admitted.map_err(|problem| NotAdmitted {
            how: RtmpEnd::AccessRefused,
            ..NotAdmitted::new(Refusal::Denied, problem.detail)
        })?;
        if self.app.is_draining.load(Ordering::Relaxed) {
            return Err(NotAdmitted::new(Refusal::Denied, "This server is about to stop."));
        }
        // Nothing may fail once the tree has taken it.
        let identity = random::bytes().map_err(|_| NotAdmitted::busy())?;
        let names = WithoutUrl::draw(span).map_err(|_| NotAdmitted::busy())?;
        let id = PublisherId(self.app.next_id.fetch_add(1, Ordering::Relaxed));
        let (close, closed) = oneshot::channel();
        let (reply, outcome) = oneshot::channel();
        let known_epoch = self.app.control.as_ref().and_then(|control| control.front_door.epoch(&broadcast));
        let publish =
            PublishEncoded { publisher: id, broadcast: broadcast.clone(), known_epoch, close, reply };
        self.tree.publish_encoded(publish).await;
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let is_full = matches!(error, PublishError::Full);
                return Err(NotAdmitted {
                    result: if is_full { JoinResult::Full } else { JoinResult::Refused },
                    ..NotAdmitted::new(Refusal::BadName, format!("Not taken: {error}."))
                });
            }
            Err(_gone) => return Err(NotAdmitted::new(Refusal::Denied, "The server stops.")),
        }
        let client = self.app.sessions.shown(self.peer.ip());
        let join = self.app.sessions.insert_without_url(id, &broadcast, names, client);
        let client_address = client.map(display);
        tracing::info!(%broadcast, publisher = id.0, %join, client_address, "publisher over RTMP accepted");
        let publishing = Publishing {
            id,
            media: Media::new(ingest::Identity(identity)),
            closed,
            counters: self.app.metrics.rtmp().publisher(&broadcast),
            skipped_before: self.connection.stats().skipped_messages,
            broadcast,
        };
        Ok((publishing, join))
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

    async fn unpublish(&mut self, reason: String) {
        self.count();
        self.send().await;
        let Some(mut publishing) = self.publishing.take() else { return };
        let stats = publishing.media.stats(Instant::now());
        let closed = Output::Closed(CloseReason::Connection { reason });
        self.tree.encoded(publishing.id, vec![closed], stats).await;
    }
}
