//! The event streams of one viewer's session, and the readers that wait at them.
//!
//! What a stream tells is [`signaling::whep::events`]'s; here is who holds it, who waits, and when it ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use model::Epoch;
use signaling::SessionId;
use signaling::whep::events::{Cue, Event, KEEP_ALIVE, Kinds, Picture, Reader, Stream};
use signaling::whep::layers::Layer;
use tokio::time::{Sleep, sleep};

/// Event streams of one session: the one that its player reads, and one more for a player that begins anew.
/// `limits.viewers_max` bounds the sessions, so both bound the streams of a node.
const STREAMS_MAX: usize = 2;
/// One that nobody has begun to read by then makes room for another: the answer that told of it was lost on its way.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// How long a stream is silent at most: well below what connections and proxies take for dead (60 s).
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Why there is no new stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The session is over.
    #[error("the session has ended")]
    Ended,
    /// It has as many as it may.
    #[error("a session has at most {STREAMS_MAX} event streams")]
    Full,
}

/// All of one session.
#[derive(Debug, Default)]
pub struct EventStreams {
    /// The m-line of the session's picture, if it has one.
    picture_line: Option<u8>,
    held: Mutex<Held>,
}

/// What is true now of what a session watches.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// The publishing run, while there is one.
    pub run: Option<Epoch>,
    /// How many watch.
    pub viewers: u64,
    /// The layers of the picture, best first; none while they are not known.
    pub layers: Option<Arc<[Layer]>>,
    /// The latest cues, oldest first.
    pub cues: Arc<[Cue]>,
}

/// What has become of the streams of a session since they were looked at before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Streams that were ended, because their readers are stuck.
    pub stuck: usize,
    /// Cues that readers have taken.
    pub cues_told: u64,
}

impl std::ops::Add for Looked {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { stuck: self.stuck + other.stuck, cues_told: self.cues_told + other.cues_told }
    }
}

#[derive(Debug, Default)]
struct Held {
    has_ended: bool,
    /// Since it was asked for.
    cues_told: u64,
    /// Whether the session's connection carries no picture for now.
    is_sound_only: bool,
    streams: Vec<Entry>,
    /// Where the player is to go; also for streams that are still to come.
    target: Option<String>,
}

#[derive(Debug)]
struct Entry {
    id: SessionId,
    stream: Stream,
    made_at: Instant,
    /// Readers so far: the latest one is the reader.
    readers: u64,
    /// Set while it waits.
    waker: Option<Waker>,
}

impl Entry {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl EventStreams {
    /// None yet, of a session whose picture is in this m-line.
    #[must_use]
    pub fn new(picture_line: Option<u8>) -> Self {
        Self { picture_line, held: Mutex::default() }
    }

    /// The m-line of the session's picture, if it has one.
    #[must_use]
    pub const fn picture_line(&self) -> Option<u8> {
        self.picture_line
    }

    /// Makes a stream of these events while this run is published.
    ///
    /// # Errors
    /// If the session has ended, or has enough of them.
    pub fn create(
        &self,
        now: Instant,
        id: SessionId,
        kinds: Kinds,
        run: Option<Epoch>,
    ) -> Result<(), CreateError> {
        let mut held = self.lock();
        if held.has_ended {
            return Err(CreateError::Ended);
        }
        if held.streams.len() >= STREAMS_MAX {
            let is_lost = |entry: &Entry| entry.readers == 0 && now >= entry.made_at + UNREAD_MAX;
            let lost = held.streams.iter().position(is_lost).ok_or(CreateError::Full)?;
            held.streams.swap_remove(lost);
        }
        let mut stream = Stream::new(kinds, run);
        if let Some(target) = &held.target {
            stream.set_target(target);
        }
        held.streams.push(Entry { id, stream, made_at: now, readers: 0, waker: None });
        Ok(())
    }

    /// Becomes the reader of a stream, in the place of whoever read it so far; `None` if there is no such stream.
    #[must_use]
    pub fn read(self: &Arc<Self>, id: SessionId) -> Option<EventBody> {
        let mut held = self.lock();
        let entry = held.streams.iter_mut().find(|entry| entry.id == id)?;
        entry.readers += 1;
        entry.stream.attach();
        entry.wake();
        let reader = entry.readers;
        // The first word leaves at once: a proxy passes the head of an answer on with the first byte of its body.
        let keep_alive = Box::pin(sleep(Duration::ZERO));
        Some(EventBody { streams: self.clone(), id, reader, keep_alive })
    }

    /// Ends a stream; whether there was one.
    #[must_use]
    pub fn delete(&self, id: SessionId) -> bool {
        let mut held = self.lock();
        let found = held.streams.iter().position(|entry| entry.id == id);
        let ended = found.map(|index| held.streams.swap_remove(index));
        ended.map(|mut entry| entry.wake()).is_some()
    }

    /// Ends all of them, and those to come: the session is over.
    pub fn end(&self) {
        let mut held = self.lock();
        held.has_ended = true;
        held.streams.drain(..).for_each(|mut entry| entry.wake());
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().streams.len()
    }

    /// Takes up what is true now, and ends the streams whose readers are stuck.
    #[must_use]
    pub fn update(&self, now: Instant, truth: &Truth) -> Looked {
        let mut held = self.lock();
        let before = held.streams.len();
        let is_held = held.is_sound_only;
        held.streams.retain_mut(|entry| {
            entry.stream.set_run(truth.run);
            entry.stream.set_viewers(truth.viewers);
            entry.stream.set_cues(&truth.cues);
            if let (Some(line), Some(layers)) = (self.picture_line, &truth.layers) {
                let (media_id, layers) = (line.to_string(), layers.clone());
                entry.stream.set_picture(Picture { media_id, layers, is_held });
            }
            if entry.readers == 0 {
                return true;
            }
            let reader = entry.stream.look(now);
            if reader != Reader::Rests {
                entry.wake();
            }
            reader != Reader::IsStuck
        });
        let stuck = before - held.streams.len();
        Looked { stuck, cues_told: std::mem::take(&mut held.cues_told) }
    }

    /// Takes up whether the connection carries sound alone; told with the next [`EventStreams::update`].
    pub fn set_sound_only(&self, is_sound_only: bool) {
        self.lock().is_sound_only = is_sound_only;
    }

    /// Tells the player to go to this WHEP endpoint; `None` if the session has ended, else whether any stream carries
    /// it.
    #[must_use]
    pub fn send_away(&self, url: &str) -> Option<bool> {
        let mut held = self.lock();
        if held.has_ended {
            return None;
        }
        held.target = Some(url.to_owned());
        let mut is_told = false;
        for entry in &mut held.streams {
            is_told |= entry.stream.set_target(url);
            entry.wake();
        }
        Some(is_told)
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a reader: events as they come, a comment now and then, until stream or session end or another reader
/// takes its place.
#[derive(Debug)]
pub struct EventBody {
    streams: Arc<EventStreams>,
    id: SessionId,
    reader: u64,
    keep_alive: Pin<Box<Sleep>>,
}

impl EventBody {
    fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<String>> {
        let mut guard = self.streams.lock();
        let held = &mut *guard;
        let found = held.streams.iter_mut().find(|entry| entry.id == self.id && entry.readers == self.reader);
        let Some(entry) = found else { return Poll::Ready(None) };
        if let Some(event) = entry.stream.take(Instant::now()) {
            held.cues_told += u64::from(matches!(event, Event::Cue(_)));
            return Poll::Ready(Some(event.text()));
        }
        entry.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = |text: String| Some(Ok(Frame::data(Bytes::from(text))));
        if let Poll::Ready(event) = self.poll_event(cx) {
            self.keep_alive.set(sleep(KEEP_ALIVE_INTERVAL));
            return Poll::Ready(event.and_then(frame));
        }
        std::task::ready!(self.keep_alive.as_mut().poll(cx));
        self.keep_alive.set(sleep(KEEP_ALIVE_INTERVAL));
        Poll::Ready(frame(KEEP_ALIVE.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signaling::whep::events::READER_PATIENCE;

    fn id(number: u8) -> SessionId {
        SessionId::from_random([number; 16])
    }

    #[tokio::test]
    async fn a_stream_whose_reader_takes_nothing_ends_and_an_unread_one_waits() {
        let (streams, now) = (Arc::new(EventStreams::default()), Instant::now());
        streams.create(now, id(1), Kinds::ALL, None).expect("room");
        streams.create(now, id(2), Kinds::ALL, None).expect("room");
        let _stuck = streams.read(id(1)).expect("a stream");
        let truth = Truth { viewers: 7, ..Truth::default() };
        assert_eq!(streams.update(now, &truth).stuck, 0);
        assert_eq!(streams.update(now + READER_PATIENCE, &truth).stuck, 1);
        assert!(streams.read(id(1)).is_none() && streams.read(id(2)).is_some());
    }

    #[tokio::test]
    async fn a_stream_that_nobody_ever_read_makes_room_and_one_that_is_read_does_not() {
        let (streams, now) = (Arc::new(EventStreams::default()), Instant::now());
        for number in [1, 2] {
            streams.create(now, id(number), Kinds::ALL, None).expect("room");
        }
        let _read = streams.read(id(1)).expect("a stream");
        assert_eq!(streams.create(now, id(3), Kinds::ALL, None), Err(CreateError::Full));
        assert_eq!(streams.create(now + UNREAD_MAX, id(3), Kinds::ALL, None), Ok(()));
        assert!(streams.read(id(2)).is_none(), "it was lost");
        let _read = streams.read(id(3)).expect("a stream");
        assert_eq!(streams.create(now + UNREAD_MAX * 3, id(4), Kinds::ALL, None), Err(CreateError::Full));
    }

    #[tokio::test]
    async fn a_cue_is_told_to_the_reader_and_counted_once() {
        let (streams, now) = (Arc::new(EventStreams::default()), Instant::now());
        streams.create(now, id(1), Kinds::ALL, None).expect("room");
        let body = streams.read(id(1)).expect("a stream");
        let cue = Cue { number: 1, data: r#"{"time":7}"#.into() };
        let truth = Truth { cues: [cue].into(), ..Truth::default() };
        assert_eq!(streams.update(now, &truth), Looked::default());
        let context = Context::from_waker(Waker::noop());
        let mut told = Vec::new();
        while let Poll::Ready(Some(text)) = body.poll_event(&context) {
            told.push(text);
        }
        assert_eq!(told[0], "event: cue\ndata: {\"time\":7}\n\n");
        assert_eq!(streams.update(now, &truth), Looked { stuck: 0, cues_told: 1 });
        assert_eq!(streams.update(now, &truth), Looked::default());
    }

    #[tokio::test]
    async fn a_player_hears_that_its_connection_carries_sound_alone_and_when_that_is_over() {
        let streams = EventStreams::new(Some(1));
        let now = Instant::now();
        streams.create(now, id(1), Kinds::ALL, None).expect("room");
        let layers: Arc<[Layer]> = [Layer { rid: None, inner: None, bitrate: Some(9), size: None }].into();
        let truth = Truth { layers: Some(layers), ..Truth::default() };
        let told = || {
            assert_eq!(streams.update(now, &truth), Looked::default());
            let mut held = streams.lock();
            std::iter::from_fn(|| held.streams[0].stream.take(now)).find_map(|event| match event {
                signaling::whep::events::Event::Layers(picture) => Some(picture.is_held),
                _ => None,
            })
        };
        assert_eq!(told(), Some(false));
        assert_eq!(told(), None);
        streams.set_sound_only(true);
        assert_eq!(told(), Some(true));
        streams.set_sound_only(false);
        assert_eq!(told(), Some(false));
    }

    #[tokio::test]
    async fn nothing_is_made_or_told_after_the_session() {
        let (streams, now) = (EventStreams::default(), Instant::now());
        streams.create(now, id(1), Kinds::ALL, None).expect("room");
        assert_eq!(streams.send_away("https://b.example/whep/show"), Some(true));
        streams.end();
        assert_eq!(streams.count(), 0);
        assert_eq!(streams.create(now, id(2), Kinds::ALL, None), Err(CreateError::Ended));
        assert_eq!(streams.send_away("https://b.example/whep/show"), None);
    }
}
