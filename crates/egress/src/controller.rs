//! Which layer of a picture a viewer's connection carries.
//!
//! Pure policy: what the viewer says of its connection goes in (loss and round trip of its reports, its own estimate),
//! a layer comes out. Down is fast, up is slow. A receiver's estimate never grows much beyond what it receives (Chromium's
//! not beyond one and a half times), so it says little about a better layer: before that one is sent, as much as it would
//! take is sent in repeats, more and more of them. What does not fit makes a queue first, and ends the probe before the picture
//! itself suffers, if the viewer tells when packets arrive. A try that fails makes the next one wait longer.
//!
//! An estimate counts when it *falls*. One that is merely lower than what is sent is common: receivers raise theirs by a
//! few percent a second after a better layer has begun, and from almost nothing after a picture was held.
//!
//! Only the picture adapts: sound is never left out for it. A connection that carries no layer at all is [`Hold`]'s.
//!
//! [`Hold`]: crate::hold::Hold

use std::time::{Duration, Instant};

use model::Bitrate;

use crate::estimator::Queue;

mod layer_now;

pub use layer_now::{LayerNow, nearest};

/// Layers that a viewer may be given; those of a track beyond them are left alone. OBS sends 4 at most.
pub const LAYERS_MAX: usize = 8;

/// Loss is judged over at least so long and so many packets: reports may come in quick succession.
const LOSS_WINDOW: Duration = Duration::from_millis(500);
const LOSS_PACKETS_MIN: u32 = 20;
/// Loss beyond it is no radio's accident: the connection is full.
const LOSS_MAX_PERCENT: u32 = 10;
/// So many windows in a row decide.
const LOSS_WINDOWS: u8 = 2;
/// Loss that makes a fallen estimate believable.
const LOSS_SIGN_PERCENT: u32 = 2;
/// Loss that ends a probe.
const LOSS_PROBE_PERCENT: u32 = 5;

/// A fall of the estimate: what it varies by without one is less.
const FALL_PERCENT: u64 = 97;
/// A fallen estimate below this share of what is sent decides alone; between the two it needs another sign. Receivers see
/// overuse in a large keyframe, too, and then estimate 85 % of what came: where that is all that was sent, it is no shortage.
const SEVERE_PERCENT: u64 = 70;
const MILD_PERCENT: u64 = 86;
/// To this share of what arrives a receiver lowers its estimate.
const FALLEN_TO_PERCENT: u64 = 85;
/// An estimate is believed so long.
const ESTIMATE_AGE_MAX: Duration = Duration::from_secs(5);
/// A connection that was short is thought to carry little for so long.
const SHORT_AGE_MAX: Duration = Duration::from_secs(30);
/// What has to be free for a layer beside its own rate, in percent: sound, headers, frames of uneven size.
const DOWN_ROOM_PERCENT: u64 = 105;
const UP_ROOM_PERCENT: u64 = 120;
/// Round trips that grow by this, and to twice the least one, mean a queue; so does a queue of this length that arrivals show.
const ROUND_TRIP_GROWTH: Duration = Duration::from_millis(100);
/// A fall that nothing bears out yet is remembered for so long: reports come once a second.
const FALL_AGE_MAX: Duration = Duration::from_millis(1500);

/// After a switch, or a probe that failed, a queue takes so long to drain; what is reported of that time is of the past.
const QUIET: Duration = Duration::from_secs(2);
/// After a probe that ended as soon as a queue was seen only what is plain counts for so long.
const ECHO: Duration = Duration::from_millis(1500);
/// A better layer is tried so long after the last shortage, and after failures up to the last; up to the second after those
/// that have cost nothing.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
const PATIENCE_GENTLE_MAX: Duration = Duration::from_secs(10);
const PATIENCE_MAX: Duration = Duration::from_secs(20);
/// A shortage so soon after a switch up means that the try has failed.
const TRIAL: Duration = Duration::from_secs(10);

/// A probe that goes well so long, over a window of loss and over the round trip of something that was sent meanwhile, has shown
/// that there is room: in a long queue all news is old.
const PROBE_TIME: Duration = Duration::from_millis(1500);
/// One that could not send enough by then has shown nothing.
const PROBE_TIME_MAX: Duration = Duration::from_secs(10);
/// That time begins with its whole rate. It grows from nothing, in a second by as much as is sent anyway, or by a fourth of the
/// whole: what exceeds a connection by a lot fills its queue before anybody can tell.
const PROBE_SECONDS_MAX: u64 = 4;
/// A queue of this length ends it, and one that grows.
const PROBE_QUEUE_MAX: Duration = Duration::from_millis(50);
/// Together with what is sent anyway it takes so much of the rate of the layer that it is for.
const PROBE_PERCENT: u64 = 110;
/// Of what it should have sent, so much is enough: frames come unevenly.
const PROBE_SENT_PERCENT: u64 = 60;
/// Whoever says nothing for so long is not probed further.
const REPORT_AGE_MAX: Duration = Duration::from_millis(2500);

/// What a viewer reports of its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Share of packets lost since the report before, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost in all.
    pub lost: i32,
    /// Extended highest sequence number received.
    pub highest_seq: u32,
    /// Payload that it was sent so far, repeats among it, in bytes modulo 2^32.
    pub sent: u32,
    /// Round trip, if known, and when the report was sent that it was measured with.
    pub round_trip: Option<(Duration, Instant)>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The layer that the viewer should get.
    pub layer: u8,
    /// At which rate to repeat packets beside it, to see whether a better one would fit.
    pub probe: Option<Bitrate>,
    /// Whether the layer before is seen to fill a queue: what still came of it would be in the way of the next one.
    pub is_urgent: bool,
}

/// What became of probes, for counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probes {
    /// Begun.
    pub begun: u64,
    /// Ended because the connection did not carry them.
    pub failed: u64,
}

/// A probe on its way.
#[derive(Debug, Clone, Copy)]
struct Probe {
    layer: u8,
    since: Instant,
    rate: Bitrate,
    /// Since when it has its whole rate.
    whole_since: Option<Instant>,
    /// Windows of loss that have ended in it, and since then.
    windows: u8,
    whole_windows: u8,
    /// Bytes that should have been sent until then, and bytes that were.
    planned: (u64, Instant),
    sent: u64,
}

/// The policy for one viewer.
pub struct Controller {
    /// The layer that it gets, and the one that it should get.
    current: u8,
    wanted: u8,
    /// Nothing has ever been short: the best layer is right, without a probe.
    is_optimistic: bool,
    /// The newest estimate, when it came, when it fell last, and the same of a fall that has led to nothing yet.
    estimate: Option<(Bitrate, Instant)>,
    fallen_at: Option<Instant>,
    open_fall_at: Option<Instant>,
    heard_at: Option<Instant>,
    /// Where the window of loss began.
    window: Option<(Instant, Report)>,
    /// Of the last whole window.
    loss_percent: u32,
    /// Windows in a row with too much of it.
    lossy: u8,
    /// How much arrived in the last whole window, repeats among it.
    delivered: Option<Bitrate>,
    /// What the connection carries, if the latest decision found that, by more than an estimate, to be too little; and when.
    short: Option<Bitrate>,
    short_at: Option<Instant>,
    round_trip: Option<Duration>,
    round_trip_min: Option<Duration>,
    /// When the report was sent that the viewer answered last, and the first one in a row that met a queue.
    asked_at: Option<Instant>,
    queue_since: Option<Instant>,
    /// By when packets arrive, where the viewer tells that.
    queue: Queue,
    tells_arrivals: bool,
    quiet_until: Option<Instant>,
    echo_until: Option<Instant>,
    try_at: Option<Instant>,
    patience: Duration,
    trial_until: Option<Instant>,
    probe: Option<Probe>,
    probes: Probes,
}

impl Controller {
    /// For a viewer that gets this layer. Whoever resumes on another than the best one has its reasons.
    #[must_use]
    pub fn new(now: Instant, layer: u8) -> Self {
        Self {
            current: layer,
            wanted: layer,
            is_optimistic: layer == 0,
            estimate: None,
            fallen_at: None,
            open_fall_at: None,
            heard_at: None,
            window: None,
            loss_percent: 0,
            lossy: 0,
            delivered: None,
            short: None,
            short_at: None,
            round_trip: None,
            round_trip_min: None,
            asked_at: None,
            queue_since: None,
            queue: Queue::default(),
            tells_arrivals: false,
            // It begins with a burst, which says nothing.
            quiet_until: Some(now + QUIET),
            echo_until: None,
            try_at: None,
            patience: PATIENCE_MIN,
            trial_until: None,
            probe: None,
            probes: Probes { begun: 0, failed: 0 },
        }
    }

    /// The viewer says what it can take.
    pub fn estimated(&mut self, now: Instant, bitrate: Bitrate) {
        let before = self.estimate.replace((bitrate, now));
        if before.is_none_or(|(before, _)| is_below(bitrate, FALL_PERCENT, before)) {
            (self.open_fall_at, self.fallen_at) = (Some(now), Some(now));
        }
    }

    /// What is known of the queue of its connection, by when packets arrive.
    pub const fn queued(&mut self, queue: Queue) {
        (self.queue, self.tells_arrivals) = (queue, true);
    }

    /// How long packets stand in that queue, as far as is known.
    pub const fn queue(&self) -> Duration {
        self.queue.delay
    }

    /// The viewer says what it got.
    pub fn reported(&mut self, now: Instant, report: Report) {
        self.heard_at = Some(now);
        if let Some((round_trip, asked_at)) = report.round_trip {
            self.asked_at = Some(asked_at);
            // The least one is forgotten slowly: ways change.
            let least = self.round_trip_min.map_or(round_trip, |least| least + least / 64);
            self.round_trip_min = Some(least.min(round_trip));
            self.round_trip = Some(round_trip);
            let since = *self.queue_since.get_or_insert(asked_at);
            self.queue_since = self.is_round_trip_long().then_some(since);
        }
        let percent = match self.window {
            None => u32::from(report.fraction_lost) * 100 / 256,
            Some((since, before)) => {
                let expected = report.highest_seq.wrapping_sub(before.highest_seq);
                // A step back is one by another count: of a viewer that went elsewhere and came back.
                let is_step_back = expected > u32::MAX / 2;
                let passed = now.saturating_duration_since(since);
                if !is_step_back && (passed < LOSS_WINDOW || expected < LOSS_PACKETS_MIN) {
                    return;
                }
                let lost = u32::try_from(report.lost.saturating_sub(before.lost)).unwrap_or(0);
                let percent = if is_step_back { 0 } else { lost.min(expected) * 100 / expected.max(1) };
                let sent = Bitrate::of(u64::from(report.sent.wrapping_sub(before.sent)), passed);
                self.delivered = (!is_step_back).then(|| share(sent, 100 - u64::from(percent)));
                percent
            }
        };
        self.window = Some((now, report));
        self.loss_percent = percent;
        self.lossy = if percent > LOSS_MAX_PERCENT { self.lossy.saturating_add(1) } else { 0 };
        if let Some(probe) = &mut self.probe {
            probe.windows = probe.windows.saturating_add(1);
            probe.whole_windows = probe.whole_windows.saturating_add(u8::from(probe.whole_since.is_some()));
        }
    }

    /// So much was repeated.
    pub const fn probed(&mut self, bytes: usize) {
        if let Some(probe) = &mut self.probe {
            probe.sent += bytes as u64;
        }
    }

    /// What became of its probes since the last time.
    pub fn take_probes(&mut self) -> Probes {
        std::mem::take(&mut self.probes)
    }

    /// The layers are not those that they were; what was the current one is now in this place.
    pub fn renumbered(&mut self, layer: u8) {
        self.probe = None;
        self.current = layer;
        if !self.is_optimistic {
            self.wanted = layer;
        }
    }

    /// Decides for a viewer that gets `current` of `layers`, of which there is one at least. After news of it, and now and then.
    pub fn decide(&mut self, now: Instant, layers: &[LayerNow], current: u8, can_probe: bool) -> Decision {
        if current != self.current {
            self.moved(now, current);
        }
        let worst = layers.len().saturating_sub(1) as u8;
        (self.current, self.wanted) = (self.current.min(worst), self.wanted.min(worst));
        if self.trial_until.is_some_and(|until| now >= until) {
            (self.trial_until, self.patience) = (None, PATIENCE_MIN);
        }
        if self.probe.is_some() && self.is_filling() {
            self.fail_probe(now);
        }
        let is_alone = self.probe.is_none();
        let shortage = self.shortage(now, layers);
        self.short = shortage
            .filter(|_| is_alone && self.has_witness())
            .map(|capacity| self.carried(now).unwrap_or(capacity));
        self.short_at = self.short.map(|_| now).or(self.short_at);
        match shortage {
            Some(capacity) => self.go_down(now, layers, capacity),
            None => self.go_up(now, layers, can_probe),
        }
        let layer = nearest(layers, self.wanted, self.current);
        let is_urgent = self.short.is_some() && self.is_filling();
        Decision { layer, probe: self.probe.map(|probe| probe.rate), is_urgent }
    }

    /// What the connection carries, if the latest decision found that to be less than what is sent, and loss or a queue says
    /// so, too.
    #[must_use]
    pub const fn short(&self) -> Option<Bitrate> {
        self.short
    }

    /// What the connection carries, if that is known to be little: it was short of late, or a better layer has no room.
    pub fn pace(&self, now: Instant, layers: &[LayerNow]) -> Option<Bitrate> {
        let is_within = |at: Instant, age_max| now.saturating_duration_since(at) <= age_max;
        let (estimate, _) = self.estimate.filter(|(_, at)| is_within(*at, ESTIMATE_AGE_MAX))?;
        let mut better = layers.iter().take(usize::from(self.current));
        let lacks_room = !self.is_optimistic && better.any(|layer| layer.is_active);
        (lacks_room || self.short_at.is_some_and(|at| is_within(at, SHORT_AGE_MAX))).then_some(estimate)
    }

    /// The picture begins anew: what is reported next is of the time before, and what is estimated, too.
    pub fn began_anew(&mut self, now: Instant) {
        (self.probe, self.short) = (None, None);
        (self.round_trip, self.queue_since) = (None, None);
        (self.estimate, self.fallen_at) = (self.estimate.map(|_| (Bitrate::default(), now)), None);
        self.try_at = Some(now + PATIENCE_MIN);
        self.rest(now);
    }

    /// The viewer gets another layer since a moment ago.
    fn moved(&mut self, now: Instant, current: u8) {
        if current < self.current && !self.is_optimistic {
            self.trial_until = Some(now + TRIAL);
            self.try_at = Some(now + PATIENCE_MIN);
        }
        self.current = current;
        if !self.is_optimistic {
            self.wanted = current;
        }
        self.probe = None;
        self.rest(now);
    }

    /// What comes in next is of the past.
    fn rest(&mut self, now: Instant) {
        self.quiet_until = Some(now + QUIET);
        (self.open_fall_at, self.lossy, self.loss_percent) = (None, 0, 0);
        (self.window, self.delivered) = (None, None);
        self.queue = Queue::default();
    }

    /// What the connection carries, if that is less than what is sent.
    fn shortage(&mut self, now: Instant, layers: &[LayerNow]) -> Option<Bitrate> {
        if self.quiet_until.is_some_and(|until| now < until) {
            self.lossy = 0;
            return None;
        }
        self.open_fall_at = self.open_fall_at.filter(|at| now.saturating_duration_since(*at) <= FALL_AGE_MAX);
        let has_fallen = self.open_fall_at.is_some();
        let probed = self.probe.map_or(0, |probe| probe.rate.as_bps());
        let sent = Bitrate::bps(self.rate(layers, self.current).as_bps() + probed);
        if self.lossy >= LOSS_WINDOWS {
            self.lossy = 0;
            return self.delivered.or_else(|| Some(share(sent, 100 - u64::from(self.loss_percent.min(100)))));
        }
        let (estimate, _) = self.estimate?;
        let is_likely = self.has_witness();
        let is_severe = is_below(estimate, SEVERE_PERCENT, sent);
        let is_echo = self.echo_until.is_some_and(|until| now < until);
        let is_short = if is_echo {
            is_severe && has_fallen && self.has_queue()
        } else if is_severe {
            has_fallen || self.has_standing_queue()
        } else {
            has_fallen && is_likely && is_below(estimate, MILD_PERCENT, sent)
        };
        is_short.then(|| {
            self.open_fall_at = None;
            estimate
        })
    }

    /// What has arrived of late, by what the viewer has just said of it, else by what was not lost.
    fn carried(&self, now: Instant) -> Option<Bitrate> {
        let is_fresh = self.fallen_at.is_some_and(|at| now.saturating_duration_since(at) <= ESTIMATE_AGE_MAX);
        let (estimate, _) = self.estimate.filter(|_| is_fresh).unzip();
        let arrived = estimate.map(|it| Bitrate::bps(it.as_bps().saturating_mul(100) / FALLEN_TO_PERCENT));
        arrived.or(self.delivered)
    }

    fn go_down(&mut self, now: Instant, layers: &[LayerNow], capacity: Bitrate) {
        self.is_optimistic = false;
        if self.probe.is_some() {
            self.fail_probe(now);
            // It was the probe that did not fit.
            if !is_below(capacity, 80, self.rate(layers, self.current)) {
                return;
            }
        }
        let is_new = self.wanted <= self.current;
        if is_new {
            let has_failed = self.trial_until.take().is_some();
            self.patience = if has_failed { (self.patience * 2).min(PATIENCE_MAX) } else { self.patience };
        }
        self.try_at = Some(now + self.patience);
        let mut worse =
            (usize::from(self.current) + 1..layers.len()).filter(|index| layers[*index].is_active);
        let fits = |index: &usize| !is_below(capacity, DOWN_ROOM_PERCENT, layers[*index].rate);
        let worst = worse.clone().next_back();
        let next = worse.find(fits).or(worst).map_or(self.current, |index| index as u8);
        self.wanted = if is_new { next } else { next.max(self.wanted) };
    }

    fn go_up(&mut self, now: Instant, layers: &[LayerNow], can_probe: bool) {
        if self.is_optimistic {
            self.wanted = 0;
            return;
        }
        // Not while a switch waits for its keyframe.
        let mut better =
            (0..self.current.min(self.wanted)).filter(|index| layers[usize::from(*index)].is_steady);
        if self.wanted != self.current || self.try_at.is_some_and(|at| now < at) {
            self.probe = None;
            return;
        }
        let Some(next) = better.clone().next_back() else {
            self.probe = None;
            return;
        };
        // When packets arrive tells of what is sent: more than that was seen at another time, and a probe shows it now.
        let sees_room = !(self.tells_arrivals && can_probe);
        let with_room = better.find(|index| sees_room && self.has_room(now, self.rate(layers, *index)));
        if let Some(layer) = with_room {
            self.climb(layer);
        } else if !can_probe {
            // There is no way to find out but to try.
            self.climb(next);
        } else if self.probe.is_some_and(|probe| probe.layer == next) {
            self.judge_probe(now, layers);
        } else if self.is_heard(now) && !self.has_queue() && !self.is_filling() {
            self.probes.begun += 1;
            self.probe = Some(Probe {
                layer: next,
                since: now,
                rate: Bitrate::default(),
                whole_since: None,
                windows: 0,
                whole_windows: 0,
                planned: (0, now),
                sent: 0,
            });
            self.window = None;
            self.judge_probe(now, layers);
        }
    }

    fn climb(&mut self, layer: u8) {
        self.wanted = layer;
        self.probe = None;
    }

    /// Goes on with a probe, or ends it.
    fn judge_probe(&mut self, now: Instant, layers: &[LayerNow]) {
        let Some(mut probe) = self.probe else { return };
        let elapsed = now.saturating_duration_since(probe.since);
        let is_late = self.is_round_trip_long() && self.asked_at >= Some(probe.since);
        if self.is_probe_lossy() || is_late || !self.is_heard(now) {
            return self.fail_probe(now);
        }
        let (planned, at) = probe.planned;
        probe.planned = (planned + probe.rate.bytes_in(now.saturating_duration_since(at)), now);
        let has_sent = probe.sent * 100 >= probe.planned.0 * PROBE_SENT_PERCENT;
        // Whoever answers no reports at all is judged by loss alone.
        let is_carried = |since: Instant| {
            let is_answered = self.asked_at.is_none_or(|at| at >= since);
            now.saturating_duration_since(since) >= PROBE_TIME && is_answered && probe.whole_windows > 0
        };
        if has_sent && probe.whole_since.is_some_and(is_carried) {
            return self.climb(probe.layer);
        }
        if elapsed >= PROBE_TIME_MAX {
            self.try_at = Some(now + self.patience);
            self.probe = None;
            return;
        }
        let wanted = share(self.rate(layers, probe.layer), PROBE_PERCENT).as_bps();
        let current = self.rate(layers, self.current).as_bps();
        let extra = wanted.saturating_sub(current);
        let a_second = current.max(extra / PROBE_SECONDS_MAX);
        let grown = a_second.saturating_mul(elapsed.as_millis() as u64) / 1000;
        probe.rate = Bitrate::bps(extra.min(grown));
        if grown >= extra {
            probe.whole_since.get_or_insert(now);
        }
        self.probe = Some(probe);
    }

    fn is_probe_lossy(&self) -> bool {
        self.probe.is_some_and(|probe| probe.windows > 0) && self.loss_percent > LOSS_PROBE_PERCENT
    }

    fn fail_probe(&mut self, now: Instant) {
        // If its queue was seen in time, nothing is lost yet.
        let is_gentle = self.is_filling() && !self.is_probe_lossy();
        self.probe = None;
        self.probes.failed += 1;
        self.patience = (self.patience * 2).min(if is_gentle { PATIENCE_GENTLE_MAX } else { PATIENCE_MAX });
        self.try_at = Some(now + self.patience);
        (self.round_trip, self.queue_since) = (None, None);
        self.rest(now);
        if is_gentle {
            (self.quiet_until, self.echo_until) = (None, Some(now + ECHO));
        }
    }

    fn rate(&self, layers: &[LayerNow], layer: u8) -> Bitrate {
        layers.get(usize::from(layer)).map_or(Bitrate::default(), |layer| layer.rate)
    }

    /// Whether the viewer itself says that so much and some more would fit.
    fn has_room(&self, now: Instant, rate: Bitrate) -> bool {
        self.estimate.is_some_and(|(estimate, at)| {
            now.saturating_duration_since(at) <= ESTIMATE_AGE_MAX
                && !is_below(estimate, UP_ROOM_PERCENT, rate)
        })
    }

    fn has_queue(&self) -> bool {
        self.is_round_trip_long() || self.queue.delay >= ROUND_TRIP_GROWTH
    }

    /// Whether what is sent now begins to be too much.
    fn is_filling(&self) -> bool {
        self.queue.is_growing || self.queue.delay >= PROBE_QUEUE_MAX
    }

    fn is_round_trip_long(&self) -> bool {
        let growth = self.round_trip.zip(self.round_trip_min);
        growth.is_some_and(|(now, least)| now > least + least.max(ROUND_TRIP_GROWTH))
    }

    /// Whether it is no single report's.
    fn has_standing_queue(&self) -> bool {
        self.queue_since.zip(self.asked_at).is_some_and(|(since, latest)| latest > since)
    }

    /// Whether loss or a queue makes a fallen estimate believable.
    fn has_witness(&self) -> bool {
        self.loss_percent > LOSS_SIGN_PERCENT || self.has_queue()
    }

    fn is_heard(&self, now: Instant) -> bool {
        self.heard_at.is_some_and(|at| now.saturating_duration_since(at) <= REPORT_AGE_MAX)
    }
}

/// `percent` of a rate.
fn share(rate: Bitrate, percent: u64) -> Bitrate {
    Bitrate::bps(rate.as_bps().saturating_mul(percent) / 100)
}

/// Whether `rate` is below so many percent of another.
fn is_below(rate: Bitrate, percent: u64, other: Bitrate) -> bool {
    rate < share(other, percent)
}

#[cfg(test)]
mod tests;
