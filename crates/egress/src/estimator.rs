//! What a viewer's connection carries, by when each packet of its picture was sent and when it arrived.
//!
//! Pure, in the manner of draft-ietf-rmcat-gcc-02: a [`Detector`] tells whether a queue grows. If so, the estimate falls to
//! 85 % of what arrived (section 5.5); else it rises by 8 % a second, to at most one and a half times that, as receivers' own
//! estimates do. Loss is left to reports.
//!
//! Two things are otherwise. Nothing is told before the first queue: until then nothing is known to be short. And what
//! arrives while no queue stands is carried, so the estimate is not below that.
//!
//! Rates are of payload, as those of layers are. Packets that were sent again are not told of, and share the connection:
//! what arrived of them is taken to be the same part as of the others.

use std::time::{Duration, Instant};

use model::{Bitrate, SeqNo};

mod detector;

use detector::{Detector, Usage};

/// Ticks of arrival times, in microseconds.
const TICK_MICROS: i64 = 250;
/// A packet whose time on the way differs by so much from that of the one before came by another clock.
const BREAK_MICROS: i64 = 10_000_000;

/// What arrived is measured over this time, which has to be covered by that much.
const WINDOW_MICROS: i64 = 750_000;
const WINDOW_MICROS_MIN: i64 = 300_000;
/// While packets wait in a queue, what arrives is what the connection carries now: then this is enough.
const WINDOW_MICROS_FULL: i64 = 200_000;
/// A packet that was on its way for longer than the quickest by this has waited.
const WAITED_MICROS: i64 = 10_000;
/// Places at which it was noted what had arrived, and how far they are apart at least.
const MARKS: usize = 8;
const MARK_MICROS: i64 = 100_000;

/// A queue that stands holds the estimate down, though it does not grow.
const QUEUE_MICROS_MAX: i64 = 50_000;
/// What the estimate falls to, of what arrived.
const FALL: f64 = 0.85;
/// A fall shows only after a round trip or so.
const FALL_INTERVAL: Duration = Duration::from_millis(200);
/// What it rises by in a second, and how far above what arrives.
const RISE: f64 = 1.08;
const ABOVE_MAX: f64 = 1.5;

/// An estimate is told so often; one that has fallen below this share of what was told, sooner.
const TELL_INTERVAL: Duration = Duration::from_secs(1);
const TELL_FALL_INTERVAL: Duration = Duration::from_millis(200);
const TELL_FALL: f64 = 0.97;

/// Packets sent again are weighed against the others over about this time: that from the first of them to their queue.
const AGAIN_SECONDS: f64 = 0.3;
/// No more of them are believed to arrive beside one that is told of.
const AGAIN_MAX: f64 = 8.0;

/// A packet that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    /// Its number.
    pub seq_no: SeqNo,
    /// When it was sent, by the local clock,
    pub sent_at: Instant,
    /// and when it arrived: ticks of 250 µs of the viewer's clock, modulo 2^32.
    pub at: u32,
    /// Of payload.
    pub bytes: usize,
}

/// Bytes sent to the viewer since it came, modulo 2^32.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// In packets that it tells the arrival of,
    pub once: u32,
    /// and in repeats of them.
    pub again: u32,
}

/// The queue of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queue {
    /// Whether it grows.
    pub is_growing: bool,
    /// How long packets stand in it.
    pub delay: Duration,
}

/// The estimate for one viewer.
#[derive(Debug, Default)]
pub struct Estimator {
    detector: Detector,
    delivered: Delivered,
    repeats: Repeats,
    /// The highest number that was told of.
    highest: Option<SeqNo>,
    /// Where both clocks are counted from: when the first packet was sent, and the newest arrival, in ticks and in
    /// microseconds.
    clocks: Option<(Instant, u32, i64)>,
    /// How long the newest packet was on its way, and some unknown time.
    delay: i64,
    /// Bits per second, since the first queue.
    estimate: Option<f64>,
    fell_at: Option<Instant>,
    concluded_at: Option<Instant>,
    told: Option<(Instant, f64)>,
}

impl Estimator {
    /// A packet arrived. Packets of one feedback come in the order of their numbers; what was told before is told in vain.
    pub fn arrived(&mut self, packet: &Arrived) {
        if self.highest.is_some_and(|highest| packet.seq_no <= highest) {
            return;
        }
        self.highest = Some(packet.seq_no);
        let (mut sent, mut arrived) = self.times(packet);
        if (arrived - sent).saturating_sub(self.delay).abs() > BREAK_MICROS {
            (self.clocks, self.detector, self.delivered) = Default::default();
            (sent, arrived) = self.times(packet);
        }
        self.delay = arrived - sent;
        if self.detector.arrived(sent, arrived) {
            self.delivered.mark(arrived, self.detector.waited_micros() >= WAITED_MICROS);
        }
        self.delivered.bytes += packet.bytes as u64;
    }

    /// When a packet was sent and when it arrived, in microseconds of two clocks.
    fn times(&mut self, packet: &Arrived) -> (i64, i64) {
        let (origin, ticks, micros) = *self.clocks.get_or_insert_with(|| {
            self.delay = 0;
            (packet.sent_at, packet.at, 0)
        });
        let arrived = micros + i64::from(packet.at.wrapping_sub(ticks) as i32) * TICK_MICROS;
        self.clocks = Some((origin, packet.at, arrived));
        (packet.sent_at.saturating_duration_since(origin).as_micros() as i64, arrived)
    }

    /// One feedback has been told; so much has been sent. Gives the estimate, where it is time to tell it.
    pub fn conclude(&mut self, now: Instant, sent: Sent) -> Option<Bitrate> {
        let elapsed = self.concluded_at.replace(now).map(|at| now.saturating_duration_since(at));
        let seconds = elapsed.unwrap_or_default().as_secs_f64().min(1.0);
        self.repeats.note(sent, seconds);
        let delivered = self.delivered.rate()?;
        let carried = delivered * (1.0 + self.repeats.share());
        let is_over = self.detector.usage() == Usage::Over;
        let may_fall = self.fell_at.is_none_or(|at| now.saturating_duration_since(at) >= FALL_INTERVAL);
        // Before it is full for long enough, what arrives is what was sent, and tells nothing.
        if let Some(of_queue) = self.delivered.rate_of_queue().filter(|_| is_over && may_fall) {
            let fallen = FALL * of_queue * (1.0 + self.repeats.share());
            self.estimate = Some(self.estimate.map_or(fallen, |estimate| estimate.min(fallen)));
            self.fell_at = Some(now);
        }
        let is_free =
            self.detector.usage() == Usage::Normal && self.detector.queue_micros() < QUEUE_MICROS_MAX;
        if let Some(estimate) = self.estimate.as_mut().filter(|_| is_free) {
            let limit = ABOVE_MAX * carried;
            if *estimate < limit {
                *estimate = (*estimate * RISE.powf(seconds)).min(limit);
            }
            *estimate = estimate.max(delivered);
        }
        self.tell(now)
    }

    /// The queue, by what has arrived so far.
    pub fn queue(&self) -> Queue {
        Queue {
            is_growing: self.detector.usage() == Usage::Over,
            delay: Duration::from_micros(u64::try_from(self.detector.queue_micros()).unwrap_or(0)),
        }
    }

    fn tell(&mut self, now: Instant) -> Option<Bitrate> {
        let estimate = self.estimate?;
        let is_due = self.told.is_none_or(|(at, told)| {
            let since = now.saturating_duration_since(at);
            since >= TELL_INTERVAL || (estimate < TELL_FALL * told && since >= TELL_FALL_INTERVAL)
        });
        if !is_due {
            return None;
        }
        self.told = Some((now, estimate));
        Some(Bitrate::bps(estimate as u64))
    }
}

/// What arrived until some moment of the viewer's clock.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    micros: i64,
    bytes: u64,
}

impl Mark {
    /// Bits per second from another one on, which was before.
    fn rate_since(&self, before: &Self) -> f64 {
        (self.bytes - before.bytes) as f64 * 8e6 / (self.micros - before.micros) as f64
    }
}

/// How much arrives. Measured from one group of packets to another, so that it does not matter how seldom they come.
#[derive(Debug, Default)]
struct Delivered {
    bytes: u64,
    /// The newest is the last one.
    marks: [Mark; MARKS],
    filled: u8,
    /// A bit for each mark, that of the newest one is the lowest: whether the connection was never idle since the mark before.
    busy: u8,
    /// A group since the newest mark has not waited.
    has_idled: bool,
}

impl Delivered {
    /// A group begins to arrive; the one before it has waited, or not.
    fn mark(&mut self, micros: i64, has_waited: bool) {
        self.has_idled |= !has_waited;
        let [.., newest] = self.marks;
        if self.filled > 0 && micros - newest.micros < MARK_MICROS {
            return;
        }
        self.marks.rotate_left(1);
        let is_busy = !std::mem::take(&mut self.has_idled);
        self.busy = self.busy << 1 | u8::from(is_busy);
        self.marks[MARKS - 1] = Mark { micros, bytes: self.bytes };
        self.filled = (self.filled + 1).min(MARKS as u8);
    }

    /// Bits per second, if enough has arrived of late to say so.
    fn rate(&self) -> Option<f64> {
        let marks = &self.marks[MARKS - usize::from(self.filled)..];
        let newest = marks.last()?;
        let oldest = marks.iter().find(|mark| newest.micros - mark.micros <= WINDOW_MICROS)?;
        let micros = newest.micros - oldest.micros;
        (micros >= WINDOW_MICROS_MIN).then(|| newest.rate_since(oldest))
    }

    /// The same over [`WINDOW_MICROS_FULL`], or a little more, if all of it has waited: else a sender that pauses looks like a
    /// connection that carries little.
    fn rate_of_queue(&self) -> Option<f64> {
        let marks = &self.marks[MARKS - usize::from(self.filled)..];
        let newest = marks.last()?;
        let since = marks.iter().rposition(|mark| newest.micros - mark.micros >= WINDOW_MICROS_FULL)?;
        // As many as there are behind that one.
        let all = (1_u8 << (marks.len() - 1 - since)) - 1;
        (self.busy & all == all).then(|| newest.rate_since(&marks[since]))
    }
}

/// How much is sent again, beside what is sent once. Both rates fade.
#[derive(Debug, Default)]
struct Repeats {
    before: Option<Sent>,
    once: f64,
    again: f64,
}

impl Repeats {
    fn note(&mut self, sent: Sent, seconds: f64) {
        let Some(before) = self.before.replace(sent) else { return };
        let kept = (-seconds / AGAIN_SECONDS).exp();
        self.once = kept * self.once + f64::from(sent.once.wrapping_sub(before.once));
        self.again = kept * self.again + f64::from(sent.again.wrapping_sub(before.again));
    }

    /// So much of it comes to one byte that is sent once.
    fn share(&self) -> f64 {
        if self.once > 0.0 { (self.again / self.once).min(AGAIN_MAX) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
