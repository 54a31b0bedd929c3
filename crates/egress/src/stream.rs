//! One RTP stream of a broadcast as the shard keeps it: its recent past and what is known about its pace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::rate::RateMeter;
use media_core::ring::{Inserted, Limits, Ring};
use media_core::svc::{self, Structure, Svc};
use media_core::{TreePacket, codec};
use model::{Bitrate, Codec, Kind, NtpTime, SeqNo, Ssrc};

use crate::part::Part;
use crate::replay;
use crate::stats::DropReason;

/// A layer of which nothing came for so long has dried up: its publisher has switched it off. Layers of five frames per second
/// have not.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// One that has been back for so long will stay, and its bitrate is known.
const STEADY: Duration = Duration::from_secs(2);
/// A keyframe of this age is as good as one that comes now.
const FRESH_MAX: Duration = Duration::from_millis(100);
/// What was told of a layer that does not come holds so long: it is told each second, and one that is asked for comes, if
/// at all, before that is over.
const TOLD_MAX: Duration = Duration::from_secs(3);
/// How often it is said that a stream is needed.
const NEED_INTERVAL: Duration = Duration::from_secs(1);
/// A stream that comes again begins with what the ring of a parent holds, which takes so long at most.
const CATCH_UP_MAX: Duration = Duration::from_secs(2);
/// Ticks of every picture's clock in a second (RFC 3551, section 5).
const VIDEO_CLOCK_RATE: u32 = 90_000;
/// Bitrate is measured over this time: many frames, and soon known.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// The newest packet of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Newest {
    /// Its place.
    pub seq_no: SeqNo,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// When it was captured.
    pub capture_time: NtpTime,
    /// When it came.
    pub at: Instant,
}

/// The layers of a stream that has several.
struct Layers {
    structure: Structure,
    /// Generation of the counts.
    generation: u8,
    /// Of the points but the best one.
    rates: [RateMeter; svc::COUNTS],
}

impl Layers {
    fn new(svc: &Svc) -> Self {
        let rates = std::array::from_fn(|_| RateMeter::new(RATE_WINDOW));
        Self { structure: svc.structure, generation: svc.generation, rates }
    }
}

/// One RTP stream.
pub struct Stream {
    pub ssrc: Ssrc,
    pub kind: Kind,
    /// Its place among the layers of its track, 0 being the best.
    pub layer: u8,
    /// Whether its track has no other: then viewers may get parts of it.
    pub is_alone: bool,
    pub ring: Ring<Arc<TreePacket>>,
    pub newest: Option<Newest>,
    /// Width and height of the picture in pixels, where its keyframes say so.
    pub size: Option<(u32, u32)>,
    codec: Codec,
    /// As its newest packet tells of them.
    layers: Option<Box<Layers>>,
    /// When it was announced: nothing can have come before.
    announced_at: Instant,
    /// When it began to come without a longer pause.
    active_since: Option<Instant>,
    keyframe_at: Option<Instant>,
    keyframe_interval: Option<Duration>,
    keyframe_asked_at: Option<Instant>,
    rate: RateMeter,
    /// How much there is of it elsewhere, and when that was told.
    told: Option<(Instant, Bitrate)>,
    /// It does not come, because nobody needs it.
    is_left_out: bool,
    /// It has come again, from the past on.
    catching_up_until: Option<Instant>,
    need_said_at: Option<Instant>,
}

impl Stream {
    pub fn new(now: Instant, ssrc: Ssrc, codec: Codec, limits: Limits) -> Self {
        Self {
            ssrc,
            kind: codec.kind(),
            layer: 0,
            is_alone: true,
            ring: Ring::new(limits),
            newest: None,
            size: None,
            codec,
            layers: None,
            announced_at: now,
            active_since: None,
            keyframe_at: None,
            keyframe_interval: None,
            keyframe_asked_at: None,
            rate: RateMeter::new(RATE_WINDOW),
            told: None,
            is_left_out: false,
            catching_up_until: None,
            need_said_at: None,
        }
    }

    /// The stream does not come because nobody needs it; so much there is of it. What is held of it is of the past.
    pub fn left_out(&mut self, now: Instant, rate: Bitrate) {
        self.ring.clear();
        if !self.is_active(now) || self.active_since.is_none() {
            self.active_since = Some(now);
        }
        self.told = Some((now, rate));
        self.is_left_out = true;
    }

    /// Puts a packet into the ring; returns whether it is the newest one.
    pub fn insert(&mut self, now: Instant, packet: &Arc<TreePacket>) -> Result<bool, DropReason> {
        match self.ring.insert(now, packet.seq_no, packet.payload.len(), packet.clone()) {
            Inserted::New => {}
            Inserted::Duplicate => return Err(DropReason::Duplicate),
            Inserted::TooOld => return Err(DropReason::TooLate),
        }
        self.rate.add(now, packet.payload.len());
        if std::mem::take(&mut self.is_left_out) {
            self.catching_up_until = Some(now + CATCH_UP_MAX);
        }
        if packet.starts_keyframe && self.kind == Kind::Video {
            self.ring.mark_keyframe(packet.seq_no);
        }
        let is_newest = self.newest.is_none_or(|newest| newest.seq_no < packet.seq_no);
        self.note_layers(now, packet, is_newest);
        if is_newest {
            if self.active_since.is_none() || !self.is_active(now) {
                self.active_since = Some(now);
            }
            let TreePacket { seq_no, timestamp, capture_time, .. } = **packet;
            self.newest = Some(Newest { seq_no, timestamp, capture_time, at: now });
            if packet.starts_keyframe {
                self.keyframe_interval = self.keyframe_at.map(|before| now.saturating_duration_since(before));
                self.keyframe_at = Some(now);
                self.size = codec::picture_size(self.codec, &packet.payload).or(self.size);
            }
        }
        Ok(is_newest)
    }

    fn note_layers(&mut self, now: Instant, packet: &TreePacket, is_newest: bool) {
        match &packet.svc {
            Some(svc) if is_newest => {
                let layers = self.layers.get_or_insert_with(|| Box::new(Layers::new(svc)));
                (layers.structure, layers.generation) = (svc.structure, svc.generation);
            }
            None if is_newest => self.layers = None,
            Some(_) | None => {}
        }
        if let (Some(layers), Some(svc)) = (&mut self.layers, &packet.svc) {
            let needed = layers.rates.iter_mut().zip(1..).filter(|(_, point)| svc.needs(*point));
            needed.for_each(|(rate, _)| rate.add(now, packet.payload.len()));
        }
    }

    /// How many points there are of it: 1 if viewers get all of it.
    pub fn points(&self) -> u8 {
        let layers = self.layers.as_ref().filter(|_| self.is_alone);
        layers.map_or(1, |layers| layers.structure.points())
    }

    /// How viewers' parts of it are told: how many points there are, and which counts.
    pub fn division(&self) -> (u8, Option<u8>) {
        let layers = self.layers.as_ref().filter(|_| self.is_alone);
        (self.points(), layers.map(|layers| layers.generation))
    }

    /// The layer that a point of it ends with.
    pub fn point(&self, index: u8) -> svc::Layer {
        self.layers.as_ref().map_or(Structure::SINGLE, |layers| layers.structure).point(index)
    }

    /// The part of it that a viewer of this point gets from this packet on; all of it if there is none, or if what comes is not
    /// counted on from there.
    pub fn part(&self, point: u8, packet: &TreePacket) -> Option<Part> {
        let layers = self.layers.as_ref().filter(|_| self.is_alone)?;
        let svc = packet.svc.filter(|svc| svc.generation == layers.generation)?;
        Part::beginning(point.min(svc::COUNTS as u8), &svc)
    }

    /// As [`Stream::rate`], of one of its points.
    pub fn point_rate(&mut self, now: Instant, index: u8) -> Bitrate {
        let worse = usize::from(index).checked_sub(1);
        let rate = worse.and_then(|worse| self.layers.as_mut()?.rates.get_mut(worse));
        match rate {
            Some(rate) => rate.rate(now),
            None => self.rate(now),
        }
    }

    /// Payload bits per second of late; zero if nothing came. What was told counts for a while beyond its time: the past
    /// that a stream begins with comes much faster.
    pub fn rate(&mut self, now: Instant) -> Bitrate {
        self.told(now).unwrap_or_else(|| self.rate.rate(now))
    }

    fn told(&self, now: Instant) -> Option<Bitrate> {
        let (at, rate) = self.told?;
        (now.saturating_duration_since(at) < TOLD_MAX).then_some(rate)
    }

    /// Whether packets come.
    pub fn comes(&self, now: Instant) -> bool {
        self.newest.is_some_and(|newest| now.saturating_duration_since(newest.at) < SILENCE_MAX)
    }

    /// Whether anything came of late, or may yet begin to, or would come if it were asked for.
    pub fn is_active(&self, now: Instant) -> bool {
        let came_at = self.newest.map_or(self.announced_at, |newest| newest.at);
        now.saturating_duration_since(came_at) < SILENCE_MAX
            || self.told(now).is_some_and(|rate| rate > Bitrate::default())
    }

    /// Whether it has come again a moment ago, and what comes may be of the past.
    pub fn may_catch_up(&self, now: Instant) -> bool {
        self.is_left_out || self.catching_up_until.is_some_and(|until| now < until)
    }

    /// Whether to say now that the stream is needed.
    pub fn say_need(&mut self, now: Instant) -> bool {
        let is_due = self.need_said_at.is_none_or(|at| now.saturating_duration_since(at) >= NEED_INTERVAL);
        if is_due {
            self.need_said_at = Some(now);
        }
        is_due
    }

    /// Whether it has been active for a while.
    pub fn is_steady(&self, now: Instant) -> bool {
        let has_stayed = |since: Instant| now.saturating_duration_since(since) >= STEADY;
        self.is_active(now) && self.active_since.is_some_and(has_stayed)
    }

    /// The age of the newest keyframe, in media time, if whoever starts with it is live.
    pub fn fresh_keyframe(&self, now: Instant) -> Option<Duration> {
        let newest = self.newest?;
        let ticks = newest.timestamp.wrapping_sub(self.keyframe()?.timestamp);
        let age = replay::duration(ticks, VIDEO_CLOCK_RATE);
        let silence = now.saturating_duration_since(newest.at);
        (age <= FRESH_MAX && silence <= FRESH_MAX).then_some(age)
    }

    /// The packet that starts the newest keyframe of the ring.
    pub fn keyframe(&self) -> Option<&Arc<TreePacket>> {
        self.ring.get(self.ring.newest_keyframe()?)
    }

    /// When the next keyframe should come, if the publisher goes on as before.
    pub fn next_keyframe_at(&self) -> Option<Instant> {
        Some(self.keyframe_at? + self.keyframe_interval?)
    }

    /// Whether to ask for a keyframe now: not more often than `interval`.
    pub fn ask_keyframe(&mut self, now: Instant, interval: Duration) -> bool {
        let is_due = self.keyframe_asked_at.is_none_or(|at| now.saturating_duration_since(at) >= interval);
        if is_due {
            self.keyframe_asked_at = Some(now);
        }
        is_due
    }
}
