//! Whether packets take longer and longer: then a queue grows (draft-ietf-rmcat-gcc-02, sections 5.2 to 5.4, with the line
//! through recent delays by which implementations have replaced its filter).
//!
//! A frame leaves at once, so its later packets wait for its earlier ones, wherever the connection is slow. What tells of a
//! queue is the first packet of a frame: it waits for what was sent before. So the first packet stands for a group here, not
//! the last one.

/// What is sent within this time is one group.
const GROUP_MICROS: i64 = 5_000;
/// Groups that arrive at once, after a pause of some radio, are one; for so long at most.
const BURST_MICROS: i64 = 5_000;
const BURST_MICROS_MAX: i64 = 100_000;

/// A queue is as long as the packet found it that waited least over this time: a keyframe is no queue.
const STANDING_MICROS: i64 = 100_000;
/// After a pause of this length nothing is known of what was before.
const PAUSE_MILLIS: f64 = 1000.0;

/// The least time on the way is looked for over one to two times this, so that neither drift of clocks nor another way
/// is taken for a queue for long.
const LEAST_MICROS: i64 = 10_000_000;

/// Smoothing of delays, per group.
const SMOOTHING: f64 = 0.9;
/// What the weight of a delay loses with each later one: some ten of them make the line.
const FADING: f64 = 0.85;
/// A line has so many groups at least, and so many are enough to believe all of it.
const GROUPS_MIN: u8 = 20;
const GROUPS_MAX: u8 = 60;
/// Makes milliseconds of a slope, which the threshold is in.
const GAIN: f64 = 4.0;

/// The threshold adapts to how restless a connection is.
const THRESHOLD: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
const THRESHOLD_RISE: f64 = 0.0087;
const THRESHOLD_FALL: f64 = 0.039;
/// What is so far beyond it does not change it, nor does a pause beyond this.
const THRESHOLD_FAR: f64 = 15.0;
const THRESHOLD_MILLIS_MAX: f64 = 100.0;
/// A slope has to be above it for so long.
const OVER_MILLIS: f64 = 10.0;

/// How a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// No queue grows.
    Normal,
    /// One does.
    Over,
    /// One empties.
    Under,
}

/// A moment by both clocks, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Moment {
    sent: i64,
    arrived: i64,
}

/// Packets that were sent together, or arrived so.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: Moment,
    /// The packet that stands for it.
    stands: Moment,
}

/// See the module.
#[derive(Debug)]
pub struct Detector {
    group: Option<Group>,
    least: Option<Least>,
    standing: Option<Least>,
    queue: i64,
    waited: i64,
    /// When the group before arrived, and how long the very first was on its way.
    before: Option<(i64, i64)>,
    smoothed: f64,
    line: Line,
    groups: u8,
    slope: f64,
    threshold: f64,
    /// For how long, and for how many groups, the slope has been above it.
    above: Option<(f64, u32)>,
    usage: Usage,
}

impl Default for Detector {
    fn default() -> Self {
        Self {
            group: None,
            least: None,
            standing: None,
            queue: 0,
            waited: 0,
            before: None,
            smoothed: 0.0,
            line: Line::default(),
            groups: 0,
            slope: 0.0,
            threshold: THRESHOLD,
            above: None,
            usage: Usage::Normal,
        }
    }
}

impl Detector {
    /// How the connection is used.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// How long the newest whole group has waited.
    pub const fn waited_micros(&self) -> i64 {
        self.waited
    }

    /// How long the queue is that has stood for a moment, by what a packet was on its way of late at least.
    pub const fn queue_micros(&self) -> i64 {
        self.queue
    }

    /// A packet that was sent and arrived at these times, in microseconds of two clocks. True if it begins a group.
    pub fn arrived(&mut self, sent: i64, arrived: i64) -> bool {
        let packet = Moment { sent, arrived };
        let Some(group) = &mut self.group else {
            self.group = Some(Group { first: packet, stands: packet });
            return true;
        };
        // Of the same frame, or repaired late.
        if sent <= group.stands.sent {
            return false;
        }
        let (sent_after, arrived_after) = (sent - group.stands.sent, arrived - group.stands.arrived);
        if arrived_after < sent_after
            && arrived_after <= BURST_MICROS
            && arrived - group.first.arrived < BURST_MICROS_MAX
        {
            group.stands = packet;
            return false;
        }
        if sent - group.first.sent <= GROUP_MICROS {
            return false;
        }
        let whole = group.stands;
        *group = Group { first: packet, stands: packet };
        self.observe(whole);
        true
    }

    fn observe(&mut self, Moment { sent, arrived }: Moment) {
        let delay = arrived - sent;
        let least = self.least.get_or_insert(Least::new(arrived, delay)).note(arrived, delay, LEAST_MICROS);
        let standing =
            self.standing.get_or_insert(Least::new(arrived, delay)).note(arrived, delay, STANDING_MICROS);
        (self.queue, self.waited) = (standing - least, delay - least);
        let Some((before, first)) = self.before else {
            self.before = Some((arrived, delay));
            return;
        };
        self.before = Some((arrived.max(before), first));
        let elapsed = millis((arrived - before).max(0));
        if elapsed > PAUSE_MILLIS {
            (self.smoothed, self.line, self.groups, self.slope) = (0.0, Line::default(), 0, 0.0);
            (self.above, self.usage) = (None, Usage::Normal);
            self.before = Some((arrived, delay));
            return;
        }
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * millis(delay - first);
        self.line.add(elapsed, self.smoothed);
        self.groups = (self.groups + 1).min(GROUPS_MAX);
        let slope = if self.groups < GROUPS_MIN { 0.0 } else { self.line.slope() };
        let signal = slope * f64::from(self.groups) * GAIN;
        self.judge(slope, signal, elapsed);
        self.adapt(signal, elapsed);
    }

    fn judge(&mut self, slope: f64, signal: f64, elapsed: f64) {
        if signal > self.threshold {
            let above = self.above.map_or((elapsed / 2.0, 1), |(time, groups)| (time + elapsed, groups + 1));
            self.above = Some(above);
            let (time, groups) = above;
            if time > OVER_MILLIS && groups > 1 && slope >= self.slope {
                self.above = Some((0.0, 0));
                self.usage = Usage::Over;
            }
        } else {
            self.above = None;
            self.usage = if signal < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.slope = slope;
    }

    fn adapt(&mut self, signal: f64, elapsed: f64) {
        let beyond = signal.abs() - self.threshold;
        if beyond > THRESHOLD_FAR {
            return;
        }
        let pace = if beyond > 0.0 { THRESHOLD_RISE } else { THRESHOLD_FALL };
        let threshold = self.threshold + pace * beyond * elapsed.min(THRESHOLD_MILLIS_MAX);
        self.threshold = threshold.clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

/// The least time on the way over one to two times an interval.
#[derive(Debug, Clone, Copy)]
struct Least {
    since: i64,
    now: i64,
    before: i64,
}

impl Least {
    const fn new(since: i64, delay: i64) -> Self {
        Self { since, now: delay, before: delay }
    }

    /// Notes another time; gives the least one.
    fn note(&mut self, arrived: i64, delay: i64, interval: i64) -> i64 {
        if arrived - self.since >= interval {
            *self = Self { since: arrived, now: delay, before: self.now };
        }
        self.now = self.now.min(delay);
        self.now.min(self.before)
    }
}

/// A line through points of which older ones count less (least squares). Seen from the newest point, so that it can go on
/// for ever.
#[derive(Debug, Default)]
struct Line {
    weight: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    /// A point so far to the right of the one before.
    fn add(&mut self, step: f64, y: f64) {
        self.xx = FADING * (self.xx - 2.0 * step * self.x + step * step * self.weight);
        self.xy = FADING * (self.xy - step * self.y);
        self.x = FADING * (self.x - step * self.weight);
        self.y = FADING * self.y + y;
        self.weight = FADING * self.weight + 1.0;
    }

    fn slope(&self) -> f64 {
        let spread = self.weight * self.xx - self.x * self.x;
        if spread > 0.0 { (self.weight * self.xy - self.x * self.y) / spread } else { 0.0 }
    }
}

fn millis(micros: i64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_slope_of_its_points() {
        let mut line = Line::default();
        line.add(0.0, 7.0);
        assert_eq!(line.slope(), 0.0, "one point has none");
        let mut x = 0.0;
        for index in 0..100 {
            let step = f64::from(index % 7) + 1.0;
            x += step;
            line.add(step, 7.0 - 0.25 * x);
        }
        assert!((line.slope() + 0.25).abs() < 1e-9, "{}", line.slope());
        // What comes now counts more than what was.
        for _ in 0..20 {
            x += 4.0;
            line.add(4.0, x);
        }
        assert!(line.slope() > 0.5, "{}", line.slope());
    }

    #[test]
    fn frames_that_come_at_once_after_a_pause_are_one_group() {
        let mut detector = Detector::default();
        let mut now = 0;
        for frame in 0..300 {
            now = frame * 33_000;
            // Each second the radio is silent for 90 ms.
            let pause_end = now / 1_000_000 * 1_000_000 + 90_000;
            let arrived = now.max(pause_end) + 20_000;
            for packet in 0..5 {
                detector.arrived(now, arrived + packet * 100);
            }
            assert_ne!(detector.usage(), Usage::Over, "frame {frame}");
        }
        assert!(detector.queue_micros() < 1000 && now > 9_000_000, "{}", detector.queue_micros());
    }

    #[test]
    fn a_frame_that_takes_long_is_no_queue_that_stands() {
        let mut detector = Detector::default();
        let mut free_at = 0;
        for frame in 0..300 {
            let (now, packets) = (frame * 33_000, if frame == 200 { 90 } else { 10 });
            for _ in 0..packets {
                free_at = free_at.max(now) + 1000;
                detector.arrived(now, free_at);
            }
            assert!(detector.queue_micros() < 25_000, "frame {frame}: {}", detector.queue_micros());
        }
        // From now on a third more comes than there is room for.
        for frame in 300..330 {
            for _ in 0..44 {
                free_at = free_at.max(frame * 33_000) + 1000;
                detector.arrived(frame * 33_000, free_at);
            }
        }
        assert!(detector.queue_micros() > 100_000 && detector.usage() == Usage::Over);
    }

    #[test]
    fn a_queue_is_seen_soon_after_a_pause() {
        let mut detector = Detector::default();
        for frame in 0..300 {
            detector.arrived(frame * 33_000, frame * 33_000);
        }
        let begin = 40_000_000;
        let over = (0..100).find(|frame| {
            let now = begin + frame * 33_000;
            detector.arrived(now, now + frame * 8000);
            detector.usage() == Usage::Over
        });
        assert!(over.is_some_and(|frame| frame < 40), "after {over:?} frames");
    }

    #[test]
    fn large_frames_alone_are_no_queue() {
        let mut detector = Detector::default();
        for frame in 0..300 {
            let (now, packets) = (frame * 33_000, if frame % 30 == 0 { 30 } else { 3 });
            // A millisecond for each packet.
            for packet in 1..=packets {
                detector.arrived(now, now + packet * 1000);
            }
            assert_eq!(detector.usage(), Usage::Normal, "frame {frame}");
        }
        assert_eq!(detector.queue_micros(), 0);
    }
}
