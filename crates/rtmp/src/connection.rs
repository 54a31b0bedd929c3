//! One connection: from the first byte of the handshake to the end of the broadcast.
//!
//! The shell hands in what the socket gave, takes events until there are none, and writes what [`Connection::output`]
//! has. A request to publish stops the reading until the shell has decided, so that nothing of the media is lost or
//! taken too early.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use model::{Codec, Kind, MediaTime};

use crate::amf0::{AmfError, Value};
use crate::backlog::{Backlog, Fate, What};
use crate::chunk::{ChunkError, Message, Reader, message_type};
use crate::flv::{self, AudioBody, AudioCodec, TagError, VideoBody};
use crate::handshake::{Handshake, HandshakeError};
use crate::publish::{AddressError, Application, PublishRequest};
use crate::timeline::Timeline;

mod command;
mod reply;

/// How long a connection may take until it wants to publish. Encoders need four round trips.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a publisher may send nothing at all.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// What may wait for the shell's decision, in bytes.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// What may wait to be written, in bytes: all our answers together have about 4 KiB.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Bytes after which we acknowledge, unless the peer wants it more often, and after which it should.
const WINDOW_BYTES: u32 = 2_500_000;
/// Longest text of a caption, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of our own chunks: all our messages but one fit.
const CHUNK_BYTES: usize = 4096;

/// Why a connection ends by our doing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Chunks cannot be read.
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    /// A command cannot be read.
    #[error("a command cannot be read: {0}")]
    Command(#[from] AmfError),
    /// Media cannot be taken.
    #[error(transparent)]
    Tag(#[from] TagError),
    /// The address names no broadcast.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A message of the protocol itself is too short, or a command lacks what it needs.
    #[error("a {what} is malformed")]
    Malformed {
        /// Which one.
        what: &'static str,
    },
    /// Something before or after its time.
    #[error("a {what} when there should be none")]
    Unexpected {
        /// What.
        what: &'static str,
    },
    /// Several messages in one, which no encoder sends.
    #[error("an aggregate message, which is not understood here")]
    Aggregate,
    /// The peer wants to watch.
    #[error("nothing can be watched over RTMP here, only published; watch in a browser, or over WHEP")]
    Play,
    /// More message streams than an encoder needs.
    #[error("more than {} message streams", command::STREAMS_MAX)]
    TooManyStreams,
    /// The peer goes on sending while it should wait.
    #[error("more than {UNREAD_BYTES_MAX} bytes before the answer to publish")]
    TooEager,
    /// The peer asks, but does not read the answers.
    #[error("more than {OUTPUT_BYTES_MAX} bytes of answers that are not read")]
    AnswersNotRead,
    /// It takes too long.
    #[error("no request to publish within 15 seconds")]
    NeverPublished,
    /// The publisher has fallen silent.
    #[error("nothing heard from the publisher for 30 seconds")]
    Silent,
}

/// Why the shell refuses a publisher, as the protocol tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has no right to (`NetStream.Publish.Denied`).
    Denied,
    /// The name is no broadcast's, or the broadcast has a publisher (`NetStream.Publish.BadName`).
    BadName,
}

/// What the encoder says about its media, unchecked: for people, not for decisions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// The program, in printable characters, at most 64.
    pub encoder: Option<String>,
    /// Width of the picture in pixels.
    pub width: Option<f64>,
    /// Height of the picture in pixels.
    pub height: Option<f64>,
    /// Pictures in a second.
    pub frame_rate: Option<f64>,
}

/// What the peer does.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It wants to publish: answer with [`Connection::accept_publish`] or [`Connection::refuse_publish`]. Until then
    /// nothing more is read.
    PublishRequested(PublishRequest),
    /// It describes its media, in other words than before.
    Metadata(Metadata),
    /// Something of the picture, in decoding order.
    Video {
        /// When it is decoded.
        time: MediaTime,
        /// How it is coded.
        codec: Codec,
        /// What it is.
        body: VideoBody,
    },
    /// Something of the sound.
    Audio {
        /// When its first sample is heard.
        time: MediaTime,
        /// How it is coded.
        codec: AudioCodec,
        /// What it is.
        body: AudioBody,
    },
    /// A caption (`onTextData`); an empty one ends the one before.
    Text {
        /// What it says, at most 4096 bytes.
        text: String,
        /// Its language, as the encoder calls it.
        language: Option<String>,
    },
    /// It has ended the broadcast. It may publish anew over the same connection.
    Unpublished,
}

/// What has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Bytes of the connection.
    pub received_bytes: u64,
    /// Jumps of the publisher's clock that were taken out.
    pub clock_jumps: u64,
    /// Media left out because the network had held it back, and pictures that build on it.
    pub late_messages: u64,
    /// Messages skipped: of kinds that are not used here, outside a broadcast, of further tracks, unreadable metadata.
    pub skipped_messages: u64,
}

/// How far a connection is. Streams are message streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Handshake, and the command `connect`.
    Opening,
    /// It may publish.
    Open,
    /// The shell decides.
    Deciding { stream: u32 },
    /// Media flows.
    Publishing { stream: u32 },
    /// Nothing more is read; what is in the output is the end.
    Closing,
}

/// One connection, as the server.
#[derive(Debug)]
pub struct Connection {
    handshake: Handshake,
    reader: Reader,
    unread: BytesMut,
    output: BytesMut,
    has_told_chunk_size: bool,
    events: VecDeque<Event>,
    phase: Phase,
    application: Application,
    /// Message streams made so far.
    streams: u32,
    timeline: Timeline,
    backlog: Backlog,
    /// As the encoder last gave it, some do so every few frames.
    metadata: Option<Metadata>,
    stats: Stats,
    /// As often the peer wants acknowledgements, in bytes.
    window_bytes: u32,
    /// Bytes at the latest one.
    acknowledged: u64,
    deadline: Option<(Instant, Error)>,
    now: Instant,
}

impl Connection {
    /// A connection that has just been accepted. `random` is for the handshake; nothing secret depends on it.
    #[must_use]
    pub fn new(random: [u8; 32], now: Instant) -> Self {
        Self {
            handshake: Handshake::Hello { random },
            reader: Reader::default(),
            unread: BytesMut::new(),
            output: BytesMut::new(),
            has_told_chunk_size: false,
            events: VecDeque::new(),
            phase: Phase::Opening,
            application: Application::default(),
            streams: 0,
            timeline: Timeline::default(),
            backlog: Backlog::default(),
            metadata: None,
            stats: Stats::default(),
            window_bytes: WINDOW_BYTES,
            acknowledged: 0,
            deadline: Some((now + PUBLISH_TIMEOUT, Error::NeverPublished)),
            now,
        }
    }

    /// Takes bytes of the peer. They may make as many events as there are bytes, so hand in what one read gave, then
    /// take all events.
    ///
    /// # Errors
    /// [`Error`] if the peer broke a rule: write what is in the output and close the socket.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Error> {
        if self.phase == Phase::Closing {
            return Ok(());
        }
        self.now = self.now.max(now);
        self.stats.received_bytes += bytes.len() as u64;
        self.unread.extend_from_slice(bytes);
        self.proceed()
    }

    /// Time has passed.
    ///
    /// # Errors
    /// [`Error`] if the peer took too long, as in [`Connection::handle_input`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.now = self.now.max(now);
        match self.deadline.take_if(|(at, _)| *at <= now) {
            Some((_, error)) => Err(self.fail(error)),
            None => Ok(()),
        }
    }

    /// When [`Connection::handle_timeout`] wants to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline.as_ref().map(|(at, _)| *at)
    }

    /// What the peer did; call until `None` after every change.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes that wait here: of messages that are not whole, of what comes while the shell decides, of answers to be
    /// written. Each of them is bounded.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.reader.unfinished_bytes() + self.unread.len() + self.output.len()
    }

    /// What is to be written to the socket.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// So many bytes of the output have been written.
    ///
    /// # Panics
    /// If the output has fewer.
    pub fn output_written(&mut self, count: usize) {
        self.output.advance(count);
    }

    /// Whether the connection wants bytes now. While the shell decides, reading may pause.
    #[must_use]
    pub const fn wants_input(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Open | Phase::Publishing { .. })
    }

    /// Whether the socket is to be closed once the output is written.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.phase == Phase::Closing
    }

    /// What has come so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats { clock_jumps: self.timeline.jumps(), late_messages: self.backlog.left_out(), ..self.stats }
    }

    /// The publisher may come in. Without effect if none has asked.
    ///
    /// # Errors
    /// [`Error`] if what it has sent since breaks a rule, as in [`Connection::handle_input`].
    pub fn accept_publish(&mut self, now: Instant) -> Result<(), Error> {
        let Phase::Deciding { stream } = self.phase else { return Ok(()) };
        self.now = self.now.max(now);
        self.phase = Phase::Publishing { stream };
        self.reader.expect_media();
        self.metadata = None;
        (self.timeline, self.backlog) = (Timeline::default(), Backlog::default());
        self.stream_begins(stream);
        self.status(stream, "status", "NetStream.Publish.Start", "the broadcast begins");
        self.proceed()
    }

    /// The publisher may not come in, for a reason in plain words that it may show to its user. Ends the connection.
    /// Without effect if none has asked.
    pub fn refuse_publish(&mut self, refusal: Refusal, reason: &str) {
        let Phase::Deciding { stream } = self.phase else { return };
        let code = match refusal {
            Refusal::Denied => "NetStream.Publish.Denied",
            Refusal::BadName => "NetStream.Publish.BadName",
        };
        self.status(stream, "error", code, reason);
        self.end();
    }

    /// Ends the connection, and the broadcast if there is one, for a reason in plain words.
    pub fn close(&mut self, reason: &str) {
        if let Phase::Deciding { stream } | Phase::Publishing { stream } = self.phase {
            self.status(stream, "error", "NetStream.Failed", reason);
        }
        self.end();
    }

    fn end(&mut self) {
        self.phase = Phase::Closing;
        self.deadline = None;
        self.unread.clear();
    }

    fn fail(&mut self, error: Error) -> Error {
        self.close(&error.to_string());
        error
    }

    fn proceed(&mut self) -> Result<(), Error> {
        self.read().map_err(|error| self.fail(error))
    }

    fn read(&mut self) -> Result<(), Error> {
        let mut answers = Vec::new();
        let is_through = self.handshake.advance(&mut self.unread, &mut answers)?;
        self.output.extend_from_slice(&answers);
        if !is_through {
            return Ok(());
        }
        while self.wants_input()
            && let Some(message) = self.reader.poll(&mut self.unread)?
        {
            self.handle_message(message)?;
            if self.output.len() > OUTPUT_BYTES_MAX {
                return Err(Error::AnswersNotRead);
            }
        }
        self.acknowledge();
        if self.unread.len() > UNREAD_BYTES_MAX {
            return Err(Error::TooEager);
        }
        let silence = (self.now + SILENCE_TIMEOUT, Error::Silent);
        match self.phase {
            Phase::Publishing { .. } => self.deadline = Some(silence),
            Phase::Deciding { .. } => self.deadline = None,
            Phase::Opening | Phase::Open | Phase::Closing => {}
        }
        Ok(())
    }

    fn handle_message(&mut self, message: Message) -> Result<(), Error> {
        let Message { message_type, stream_id, timestamp, payload } = message;
        match message_type {
            message_type::SET_CHUNK_SIZE => self.reader.set_chunk_bytes(number(&payload, "chunk size")?)?,
            message_type::ABORT => self.reader.abort(number(&payload, "request to abort")?),
            message_type::WINDOW_SIZE => self.window_bytes = number(&payload, "window size")?.max(1),
            // The peer's window for us: we send too little to fill any.
            message_type::ACKNOWLEDGEMENT | message_type::PEER_BANDWIDTH => {}
            message_type::USER_CONTROL => self.handle_user_control(&payload),
            message_type::AUDIO | message_type::VIDEO => {
                if self.phase != (Phase::Publishing { stream: stream_id }) {
                    self.stats.skipped_messages += 1;
                    return Ok(());
                }
                if message_type == message_type::AUDIO {
                    self.handle_audio(timestamp, payload)?;
                } else {
                    self.handle_video(timestamp, payload)?;
                }
            }
            message_type::DATA => self.handle_data(&payload),
            message_type::DATA_AMF3 => self.handle_data(payload.get(1..).unwrap_or_default()),
            message_type::COMMAND => self.handle_command(stream_id, &payload)?,
            // AMF0 behind a byte that says so.
            message_type::COMMAND_AMF3 => {
                self.handle_command(stream_id, payload.get(1..).unwrap_or_default())?
            }
            message_type::AGGREGATE => return Err(Error::Aggregate),
            _ => self.stats.skipped_messages += 1,
        }
        Ok(())
    }

    fn handle_audio(&mut self, timestamp: u32, payload: Bytes) -> Result<(), Error> {
        let Some(tag) = flv::audio(payload)? else {
            self.stats.skipped_messages += 1;
            return Ok(());
        };
        let time = self.place(Kind::Audio, timestamp, tag.offset_nanos);
        let what = match tag.body {
            AudioBody::Frame(_) => Some(What::Sound),
            AudioBody::Config(_) | AudioBody::End => None,
        };
        let Some(time) = self.live(time, what) else { return Ok(()) };
        self.events.push_back(Event::Audio { time, codec: tag.codec, body: tag.body });
        Ok(())
    }

    fn handle_video(&mut self, timestamp: u32, payload: Bytes) -> Result<(), Error> {
        let Some(tag) = flv::video(payload)? else {
            self.stats.skipped_messages += 1;
            return Ok(());
        };
        let time = self.place(Kind::Video, timestamp, tag.offset_nanos);
        let what = match tag.body {
            VideoBody::Frame { is_keyframe, .. } => Some(What::Picture { is_keyframe }),
            VideoBody::Config(_) | VideoBody::End => None,
        };
        let Some(time) = self.live(time, what) else { return Ok(()) };
        self.events.push_back(Event::Video { time, codec: tag.codec, body: tag.body });
        Ok(())
    }

    fn place(&mut self, kind: Kind, timestamp: u32, offset_nanos: u32) -> MediaTime {
        self.timeline.place(self.now, kind, timestamp).plus_micros(i64::from(offset_nanos / 1000))
    }

    /// When something is that was to be at `time`; `None` if it is left out. What is no media is never late.
    fn live(&mut self, time: MediaTime, what: Option<What>) -> Option<MediaTime> {
        let Some(what) = what else { return Some(time) };
        match self.backlog.judge(self.now, time, what) {
            Fate::Taken => Some(time),
            Fate::LeftOut => None,
            Fate::Stood(millis) => {
                self.timeline.advance(millis);
                let time = time.plus_micros(millis * 1000);
                (self.backlog.judge(self.now, time, what) == Fate::Taken).then_some(time)
            }
        }
    }

    fn handle_data(&mut self, payload: &[u8]) {
        let is_publishing = matches!(self.phase, Phase::Publishing { .. });
        let values = crate::amf0::read(payload).unwrap_or_default();
        let values = match values.first().and_then(Value::as_text) {
            Some("@setDataFrame") => &values[1..],
            _ => &values[..],
        };
        match values {
            [name, described, ..] if is_publishing && name.as_text() == Some("onMetaData") => {
                let number = |name| {
                    described.member(name).and_then(Value::as_number).filter(|number| number.is_finite())
                };
                let encoder = described.member("encoder").and_then(Value::as_text);
                let metadata = Metadata {
                    encoder: encoder.and_then(crate::publish::printable),
                    width: number("width"),
                    height: number("height"),
                    frame_rate: number("framerate"),
                };
                if self.metadata.as_ref() != Some(&metadata) {
                    self.metadata = Some(metadata.clone());
                    self.events.push_back(Event::Metadata(metadata));
                }
            }
            [name, said, ..] if is_publishing && name.as_text() == Some("onTextData") => {
                let member = |name| said.member(name).and_then(Value::as_text);
                match member("text").filter(|text| text.len() <= TEXT_BYTES_MAX) {
                    Some(text) => {
                        let language = member("language").map(str::to_owned);
                        self.events.push_back(Event::Text { text: text.to_owned(), language });
                    }
                    None => self.stats.skipped_messages += 1,
                }
            }
            _ => self.stats.skipped_messages += 1,
        }
    }
}

fn number(payload: &[u8], what: &'static str) -> Result<u32, Error> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Error::Malformed { what })
}

#[cfg(test)]
mod tests;
