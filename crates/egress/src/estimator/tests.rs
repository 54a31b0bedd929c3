//! Behaviour of the module `estimator`.

use std::collections::VecDeque;

use super::*;

/// Of a packet.
const BYTES: u64 = 1000;
const FRAME_MICROS: u64 = 33_333;
const FEEDBACK_MICROS: u64 = 100_000;
const WAY_MICROS: u64 = 20_000;

/// A packet on its way, with its times in microseconds.
#[derive(Debug, Clone, Copy)]
struct OnTheWay {
    number: u64,
    sent: u64,
    arrives: u64,
}

/// A sender of 30 frames a second, a link with a queue, and a viewer that tells of arrivals ten times a second.
struct World {
    start: Instant,
    now: u64,
    frame_at: u64,
    feedback_at: u64,
    link_kbps: u64,
    queue_max: u64,
    free_at: u64,
    /// What is to be sent of the next frames, once and again.
    owed: [u64; 2],
    sent: Sent,
    next: u64,
    on_the_way: VecDeque<OnTheWay>,
    /// The viewer's clock at the beginning, in ticks, and how fast it is.
    clock: u32,
    ppm: i64,
    /// How much packets are put off, in turn.
    jitter: &'static [u64],
    /// Whether each feedback comes twice.
    is_repetitive: bool,
    estimator: Estimator,
    told: Vec<(u64, u64)>,
}

impl World {
    fn new(link_kbps: u64, queue_millis: u64) -> Self {
        Self {
            start: Instant::now(),
            now: 0,
            frame_at: 0,
            feedback_at: FEEDBACK_MICROS,
            link_kbps,
            queue_max: queue_millis * 1000,
            free_at: 0,
            owed: [0; 2],
            sent: Sent { once: u32::MAX - 100_000, again: u32::MAX - 100_000 },
            next: 65_500,
            on_the_way: VecDeque::new(),
            clock: 7,
            ppm: 0,
            jitter: &[0],
            is_repetitive: false,
            estimator: Estimator::default(),
            told: Vec::new(),
        }
    }

    fn seconds(&mut self, seconds: u64, kbps: u64) {
        self.seconds_with(seconds, kbps, 0);
    }

    /// Sends so much, and so much of it again.
    fn seconds_with(&mut self, seconds: u64, kbps: u64, again_kbps: u64) {
        self.millis_with(seconds * 1000, kbps, again_kbps);
    }

    fn millis_with(&mut self, millis: u64, kbps: u64, again_kbps: u64) {
        let end = self.now + millis * 1000;
        loop {
            let next = self.frame_at.min(self.feedback_at);
            if next >= end {
                break;
            }
            self.now = next;
            if next == self.frame_at {
                self.frame_at += FRAME_MICROS;
                for (is_again, kbps) in [(false, kbps), (true, again_kbps)] {
                    let owed = &mut self.owed[usize::from(is_again)];
                    *owed += kbps * FRAME_MICROS / 8000;
                    let packets = *owed / BYTES;
                    *owed %= BYTES;
                    (0..packets).for_each(|_| self.send(is_again));
                }
            } else {
                self.feedback_at += FEEDBACK_MICROS;
                self.tell();
            }
        }
        self.now = end;
    }

    fn send(&mut self, is_again: bool) {
        let count = if is_again { &mut self.sent.again } else { &mut self.sent.once };
        *count = count.wrapping_add(BYTES as u32);
        let number = self.next;
        self.next += u64::from(!is_again);
        if self.free_at.saturating_sub(self.now) > self.queue_max {
            return;
        }
        self.free_at = self.free_at.max(self.now) + BYTES * 8000 / self.link_kbps;
        let jitter = self.jitter[number as usize % self.jitter.len()];
        let arrives = self.free_at + WAY_MICROS + jitter;
        if !is_again {
            self.on_the_way.push_back(OnTheWay { number, sent: self.now, arrives });
        }
    }

    fn tell(&mut self) {
        let now = self.now;
        let arrived: Vec<OnTheWay> =
            self.on_the_way.iter().copied().filter(|packet| packet.arrives <= now).collect();
        self.on_the_way.retain(|packet| packet.arrives > now);
        for _ in 0..=usize::from(self.is_repetitive) {
            for OnTheWay { number, sent, arrives } in &arrived {
                let shown = *arrives as i64 + *arrives as i64 * self.ppm / 1_000_000;
                self.estimator.arrived(&Arrived {
                    seq_no: SeqNo::new(*number),
                    sent_at: self.start + Duration::from_micros(*sent),
                    at: self.clock.wrapping_add((shown / TICK_MICROS) as u32),
                    bytes: BYTES as usize,
                });
            }
        }
        let told = self.estimator.conclude(self.start + Duration::from_micros(now), self.sent);
        self.told.extend(told.map(|bitrate| (now, bitrate.as_bps() / 1000)));
    }

    /// What was told last, in kbit/s.
    fn last(&self) -> u64 {
        self.told.last().expect("an estimate").1
    }
}

#[test]
fn what_a_link_carries_is_found_within_a_fifth() {
    for capacity in [300, 600, 1000, 2000] {
        for queue_millis in [300, 1000] {
            let mut world = World::new(8000, queue_millis);
            world.seconds(4, 2500);
            assert!(world.told.is_empty(), "nothing is known to be short: {:?}", world.told);
            world.link_kbps = capacity;
            let since = world.now;
            world.seconds(2, 2500);
            let first = world.told[0].0 - since;
            assert!(first < 1_500_000, "{capacity} kbit/s: the first sign came after {first} µs");
            assert!(world.last() * 5 >= capacity * 4, "{capacity} kbit/s: {:?}", world.told);
            world.seconds(10, 2500);
            assert!(world.last() * 5 >= capacity * 4, "{capacity} kbit/s: {:?}", world.told);
            assert!(world.last() * 5 <= capacity * 6, "{capacity} kbit/s: {:?}", world.told);
        }
    }
}

#[test]
fn it_rises_slowly_and_not_far_above_what_arrives() {
    let mut world = World::new(8000, 300);
    world.seconds(4, 2500);
    world.link_kbps = 1000;
    world.seconds(5, 2500);
    // The queue empties.
    world.seconds(3, 600);
    let low = world.last();
    world.link_kbps = 8000;
    world.seconds(2, 800);
    assert!(world.last() > low && world.last() < low * 120 / 100, "{:?}", world.told);
    world.seconds(15, 800);
    assert!((1140..=1220).contains(&world.last()), "one and a half times 800 kbit/s: {:?}", world.told);
}

#[test]
fn what_arrives_without_a_queue_is_carried() {
    let mut world = World::new(8000, 300);
    world.seconds(4, 2500);
    world.link_kbps = 300;
    world.seconds(3, 2500);
    world.link_kbps = 8000;
    world.seconds(3, 200);
    assert!(world.last() < 400, "{:?}", world.told);
    world.seconds(2, 2000);
    assert!(world.last() >= 1800, "{:?}", world.told);
}

#[test]
fn a_large_frame_in_front_of_which_little_was_sent_is_no_shortage() {
    let mut world = World::new(1000, 200);
    world.seconds(3, 1300);
    world.seconds(10, 450);
    let told = world.told.len();
    for kbps in [1150, 1500, 4000] {
        world.millis_with(300, kbps, 0);
        world.seconds(4, 450);
    }
    let least = world.told[told..].iter().map(|(_, kbps)| *kbps).min().expect("it is told");
    assert!(least > 800, "{least} of 1000 kbit/s");
}

#[test]
fn a_clock_that_goes_wrong_by_100_ppm_is_no_queue() {
    for ppm in [100, -100] {
        let mut world = World::new(8000, 300);
        world.ppm = ppm;
        world.jitter = &[0, 3000, 1000, 500, 2500];
        world.seconds(120, 2500);
        assert!(world.told.is_empty(), "{ppm} ppm: {:?}", world.told);
        world.link_kbps = 1000;
        world.seconds(5, 2500);
        assert!((800..=1200).contains(&world.last()), "{ppm} ppm: {:?}", world.told);
    }
}

#[test]
fn packets_that_overtake_each_other_are_no_queue() {
    let mut world = World::new(8000, 300);
    // Up to a frame late.
    world.jitter = &[0, 40_000, 5000, 0, 20_000, 0, 1000];
    world.seconds(60, 2500);
    assert!(world.told.is_empty(), "{:?}", world.told);
}

/// A link that gets narrow, with clocks and words as they are set.
fn narrowed(change: impl FnOnce(&mut World)) -> Vec<(u64, u64)> {
    let mut world = World::new(8000, 300);
    change(&mut world);
    world.seconds(4, 2500);
    world.link_kbps = 1000;
    world.seconds(6, 2500);
    world.told
}

#[test]
fn it_does_not_matter_what_the_viewers_clock_shows_and_when_it_begins_anew() {
    let plain = narrowed(|_| ());
    assert!(!plain.is_empty());
    for seconds in [1, 3, 5] {
        assert_eq!(
            narrowed(|world| world.clock = u32::MAX - seconds * 4000),
            plain,
            "wraps after {seconds} s"
        );
    }
}

#[test]
fn what_is_told_twice_counts_once() {
    assert_eq!(narrowed(|world| world.is_repetitive = true), narrowed(|_| ()));
}

#[test]
fn a_clock_that_jumps_is_no_queue() {
    for jump in [3_600 * 4000, 1 << 31, 0u32.wrapping_sub(60 * 4000)] {
        let mut world = World::new(8000, 300);
        world.seconds(4, 2500);
        world.clock = world.clock.wrapping_add(jump);
        world.seconds(4, 2500);
        assert!(world.told.is_empty(), "by {jump} ticks: {:?}", world.told);
        world.link_kbps = 1000;
        world.seconds(5, 2500);
        assert!((800..=1200).contains(&world.last()), "by {jump} ticks: {:?}", world.told);
    }
}

#[test]
fn what_is_sent_again_is_part_of_what_a_link_carries() {
    for queue_millis in [200, 500] {
        let mut world = World::new(1300, queue_millis);
        world.seconds(4, 800);
        assert!(world.told.is_empty(), "it fits: {:?}", world.told);
        world.seconds_with(1, 800, 950);
        world.seconds_with(2, 800, 1900);
        assert!(world.last() >= 900, "not a part of the 800 kbit/s alone: {:?}", world.told);
        assert!(world.last() <= 1400, "{:?}", world.told);
    }
}

#[test]
fn it_does_not_matter_how_few_packets_there_are() {
    let mut world = World::new(400, 1000);
    // Each fourth frame has a packet.
    world.seconds(60, 60);
    assert!(world.told.is_empty(), "{:?}", world.told);
    world.link_kbps = 40;
    world.seconds(15, 60);
    assert!((30..=48).contains(&world.last()), "{:?}", world.told);
}

#[test]
fn whatever_a_viewer_tells_nothing_breaks() {
    let (mut estimator, mut now) = (Estimator::default(), Instant::now());
    let mut random = 1u32;
    for number in 0..20_000u64 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        estimator.arrived(&Arrived {
            seq_no: SeqNo::new(number + u64::from(random % 3)),
            sent_at: now + Duration::from_micros(u64::from(random % 7)),
            at: if random % 64 < 2 { random } else { number as u32 * 120 + random % 200 },
            bytes: 1200,
        });
        if random.is_multiple_of(5) {
            now += Duration::from_millis(u64::from(random % 300));
            let sent = Sent { once: random, again: random.wrapping_mul(3) };
            if let Some(bitrate) = estimator.conclude(now, sent) {
                assert!(bitrate.as_bps() < 1 << 50, "{bitrate}");
            }
        }
    }
}

#[test]
fn it_takes_little_memory() {
    let bytes = size_of::<Estimator>();
    assert!(bytes <= 576, "{bytes} bytes");
}
