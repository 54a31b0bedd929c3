//! At most one keyframe request upstream per interval and RTP stream, however many ask.
//!
//! A request that finds the interval still running waits for its end; a keyframe that starts meanwhile answers it. Who
//! may ask for which stream is checked by the caller, so that only known SSRCs get here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use model::Ssrc;

/// Shortest time between two requests for one stream: long enough for the keyframe of the first request to come before
/// the second one, short enough that a viewer who waits for it hardly notices.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Counts since the limiter began. `asked = forwarded + suppressed +` the streams whose request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Requests from downstream.
    pub asked: u64,
    /// Requests sent upstream.
    pub forwarded: u64,
    /// Requests that needed none of their own: merged into another one, or answered by a keyframe that came anyway.
    pub suppressed: u64,
}

#[derive(Debug, Default)]
struct Stream {
    forwarded_at: Option<Instant>,
    waits: bool,
}

/// Merges keyframe requests for any number of streams.
#[derive(Debug)]
pub struct KeyframeLimiter {
    interval: Duration,
    streams: BTreeMap<Ssrc, Stream>,
    stats: Stats,
}

impl Default for KeyframeLimiter {
    fn default() -> Self {
        Self::new(INTERVAL)
    }
}

impl KeyframeLimiter {
    /// A limiter with its own interval.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, streams: BTreeMap::new(), stats: Stats::default() }
    }

    /// Somebody downstream wants a keyframe of `ssrc`. Poll for what is to be forwarded.
    pub fn request(&mut self, ssrc: Ssrc) {
        let stream = self.streams.entry(ssrc).or_default();
        self.stats.asked += 1;
        if stream.waits {
            self.stats.suppressed += 1;
        }
        stream.waits = true;
    }

    /// A keyframe of `ssrc` has started: whoever asked before it has what it asked for.
    pub fn keyframe_started(&mut self, ssrc: Ssrc) {
        if let Some(stream) = self.streams.get_mut(&ssrc)
            && stream.waits
        {
            stream.waits = false;
            self.stats.suppressed += 1;
        }
    }

    /// The next stream to send a request upstream for; call until `None`.
    pub fn poll_forward(&mut self, now: Instant) -> Option<Ssrc> {
        let interval = self.interval;
        let (ssrc, stream) = self
            .streams
            .iter_mut()
            .find(|(_, stream)| stream.waits && stream.due_at(interval).is_none_or(|due_at| now >= due_at))?;
        stream.waits = false;
        stream.forwarded_at = Some(now);
        self.stats.forwarded += 1;
        Some(*ssrc)
    }

    /// When a waiting request may go; a request that may go at once is not in it, so poll after every
    /// [`request`](Self::request).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.streams.values().filter(|stream| stream.waits);
        waiting.filter_map(|stream| stream.due_at(self.interval)).min()
    }

    /// The stream ended. A request that waits is dropped with it.
    pub fn forget(&mut self, ssrc: Ssrc) {
        self.keyframe_started(ssrc);
        self.streams.remove(&ssrc);
    }

    /// Counts since the beginning.
    #[must_use]
    pub const fn stats(&self) -> Stats {
        self.stats
    }
}

impl Stream {
    fn due_at(&self, interval: Duration) -> Option<Instant> {
        Some(self.forwarded_at? + interval)
    }
}

#[cfg(test)]
mod tests;
