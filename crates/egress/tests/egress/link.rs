//! A viewer behind a link whose capacity changes: a queue with a rate and a delay, and a receiver that estimates as browsers
//! do (REMB falls to 85 % of what comes when the queue grows, and rises by 8 % a second up to half as much again), or tells when
//! each packet arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Config, Event, LayerSwitch, ViewerId};
use media_core::TreePacket;
use media_core::rtcp::{self, ReportBlock};
use model::{Bitrate, NtpTime, Ssrc};

use crate::harness::{
    AUDIO, Publisher, Received, Scene, VIDEO, check_video, remote, setup, ssrc, telling_arrivals, ticks,
    transport_feedback,
};

const VIEWER: ViewerId = ViewerId::new(1);
const DELAY: Duration = Duration::from_millis(20);
/// UDP and IP.
const OVERHEAD: usize = 28;
/// How often arrivals are told.
const ARRIVALS_INTERVAL: Duration = Duration::from_millis(100);

/// What a viewer says of its connection, beside reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    Nothing,
    Estimates,
    Arrivals,
}

/// One direction of a link.
pub struct Link {
    rate: Bitrate,
    queue_max: Duration,
    free_at: Instant,
    /// When each datagram arrives, and how long it stood in the queue.
    on_the_way: VecDeque<(Instant, Duration, Vec<u8>)>,
    pub dropped: u64,
}

impl Link {
    fn send(&mut self, now: Instant, bytes: Vec<u8>) {
        let waits = self.free_at.saturating_duration_since(now);
        if waits > self.queue_max {
            self.dropped += 1;
            return;
        }
        let bits = ((bytes.len() + OVERHEAD) * 8) as u64;
        self.free_at = self.free_at.max(now) + Duration::from_micros(bits * 1_000_000 / self.rate.as_bps());
        self.on_the_way.push_back((self.free_at + DELAY, waits, bytes));
    }
}

/// What a browser knows of its connection.
struct Receiver {
    /// Arrivals of the last second: when, how many bytes.
    came: VecDeque<(Instant, usize)>,
    estimate: Option<f64>,
    looked_at: Instant,
    holds_until: Instant,
    /// Shortest and latest time in the queue since it was looked at last.
    waited: Duration,
    waited_before: Duration,
    estimate_told: (Instant, f64),
    reported_at: Instant,
    picture: Counted,
    /// Of which browsers report each five seconds only.
    sound: Counted,
    sound_reported_at: Instant,
    /// Numbers and times of what has arrived and was not told of.
    arrived: Vec<(u16, u32)>,
    arrivals_told_at: Instant,
    arrivals_told: u8,
}

/// What a receiver counts of one stream.
struct Counted {
    ssrc: Ssrc,
    first: Option<u64>,
    got: u64,
    highest: u64,
    /// What was expected and got until the latest report.
    reported: (u64, u64),
    last_report: Option<(Instant, NtpTime)>,
}

impl Counted {
    const fn new(ssrc: Ssrc) -> Self {
        Self { ssrc, first: None, got: 0, highest: 0, reported: (0, 0), last_report: None }
    }

    fn count(&mut self, seq_no: u64) {
        self.first.get_or_insert(seq_no);
        self.got += 1;
        self.highest = self.highest.max(seq_no);
    }

    /// Nothing, if nothing came since the last time.
    fn block(&mut self, now: Instant) -> Option<ReportBlock> {
        let expected = self.highest - self.first? + 1;
        let (expected_before, got_before) = self.reported;
        if self.got == got_before {
            return None;
        }
        let (expected_now, got_now) = (expected - expected_before, self.got - got_before);
        self.reported = (expected, self.got);
        let lost = expected_now.saturating_sub(got_now);
        let (last_report, delay) = self
            .last_report
            .map_or((0, 0), |(at, ntp)| (ntp.middle(), ((now - at).as_micros() * 65_536 / 1_000_000) as u32));
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            lost: (expected - self.got.min(expected)) as i32,
            highest_seq: self.highest as u32,
            jitter: 0,
            last_report,
            delay,
        })
    }
}

impl Receiver {
    fn new(now: Instant) -> Self {
        Self {
            came: VecDeque::new(),
            estimate: None,
            looked_at: now,
            holds_until: now,
            waited: Duration::ZERO,
            waited_before: Duration::ZERO,
            estimate_told: (now, 0.0),
            reported_at: now,
            picture: Counted::new(ssrc(1, VIDEO)),
            sound: Counted::new(ssrc(1, AUDIO)),
            sound_reported_at: now,
            arrived: Vec::new(),
            arrivals_told_at: now,
            arrivals_told: 0,
        }
    }

    /// The feedback that is due now, if it is.
    fn tell_arrivals(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.arrived.is_empty() || now - self.arrivals_told_at < ARRIVALS_INTERVAL {
            return None;
        }
        self.arrivals_told_at = now;
        self.arrivals_told = self.arrivals_told.wrapping_add(1);
        let arrived = std::mem::take(&mut self.arrived);
        Some(transport_feedback(ssrc(1, VIDEO), self.arrivals_told, &arrived))
    }

    fn look(&mut self, now: Instant, start: Instant) {
        while self.came.front().is_some_and(|(at, _)| now - *at > Duration::from_secs(1)) {
            self.came.pop_front();
        }
        let window = (now - start).as_secs_f64().clamp(0.1, 1.0);
        let incoming = self.came.iter().map(|(_, bytes)| *bytes as f64 * 8.0).sum::<f64>() / window;
        let elapsed = (now - self.looked_at).as_secs_f64();
        self.looked_at = now;
        let is_overused = self.waited > Duration::from_millis(30) && self.waited >= self.waited_before;
        self.waited_before = self.waited;
        let Some(estimate) = &mut self.estimate else {
            // Browsers take what came in the first five seconds.
            if now - start > Duration::from_secs(5) || is_overused {
                self.estimate = Some(if is_overused { 0.85 * incoming } else { incoming });
            }
            return;
        };
        if is_overused {
            *estimate = estimate.min(0.85 * incoming);
            self.holds_until = now + Duration::from_millis(500);
        } else if now > self.holds_until {
            let limit = 1.5 * incoming + 10_000.0;
            if *estimate < limit {
                *estimate = (*estimate * 1.08_f64.powf(elapsed)).min(limit);
            }
        }
    }

    /// The compound packet that is due now, if one is.
    fn speak(&mut self, now: Instant) -> Option<Vec<u8>> {
        let (told_at, told) = self.estimate_told;
        let since = now - told_at;
        let has_fallen = self.estimate.is_some_and(|estimate| estimate < told * 0.97);
        // Who gets no picture estimates nothing.
        let tells = self.estimate.filter(|_| {
            let is_due =
                since >= Duration::from_secs(1) || (has_fallen && since >= Duration::from_millis(200));
            is_due && !self.came.is_empty()
        });
        if tells.is_none() && now - self.reported_at < Duration::from_secs(1) {
            return None;
        }
        self.picture.first?;
        self.reported_at = now;
        let mut blocks: Vec<ReportBlock> = self.picture.block(now).into_iter().collect();
        if now - self.sound_reported_at >= Duration::from_secs(5) {
            self.sound_reported_at = now;
            blocks.extend(self.sound.block(now));
        }
        let mut compound = Vec::new();
        rtcp::write::receiver_report(&mut compound, Ssrc::new(1), &blocks);
        if let Some(estimate) = tells {
            self.estimate_told = (now, estimate);
            let estimate = Bitrate::bps(estimate as u64);
            rtcp::write::receiver_estimate(&mut compound, Ssrc::new(1), estimate, &[ssrc(1, VIDEO)]);
        }
        Some(compound)
    }
}

/// A layered scene with one viewer behind a link.
pub struct World {
    pub scene: Scene,
    pub link: Link,
    receiver: Receiver,
    /// RTCP on its way back.
    back: VecDeque<(Instant, Vec<u8>)>,
    /// When the viewer's layer changed, and to which.
    course: Vec<(Duration, u8)>,
    /// When the viewer began to get sound alone, or a picture again.
    sound_only: Vec<(Duration, bool)>,
    sounds: u64,
    sounds_lost: u64,
    says: Says,
    /// Whether a packet of each keyframe of the worst layer comes late, with what comes next, and the one that does now.
    pub has_repairs: bool,
    repaired: Option<Arc<TreePacket>>,
}

impl World {
    pub fn new(says: Says, kbps: u64, queue_max: Duration) -> Self {
        Self::with(Scene::layered(Config::default()), says, kbps, queue_max)
    }

    fn with(mut scene: Scene, says: Says, kbps: u64, queue_max: Duration) -> Self {
        let now = scene.now;
        let viewer = setup(1, now);
        scene.join_as(if says == Says::Arrivals { telling_arrivals(viewer) } else { viewer });
        Self {
            link: Link {
                rate: Bitrate::kbps(kbps),
                queue_max,
                free_at: now,
                on_the_way: VecDeque::new(),
                dropped: 0,
            },
            receiver: Receiver::new(now),
            scene,
            back: VecDeque::new(),
            course: vec![(Duration::ZERO, 0)],
            sound_only: Vec::new(),
            sounds: 0,
            sounds_lost: 0,
            says,
            has_repairs: false,
            repaired: None,
        }
    }

    pub fn play(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.step();
        }
    }

    /// Ten milliseconds.
    pub fn step(&mut self) {
        let scene = &mut self.scene;
        let worst = scene.worse.last().map_or(ssrc(1, VIDEO), Publisher::video_ssrc);
        let end = scene.now + Duration::from_millis(10);
        loop {
            let frame_at = scene.published_at + scene.publisher.next_at();
            let sound_at = scene.published_at + Duration::from_millis(self.sounds * 20);
            let timer_at = scene.shard.poll_timeout().unwrap_or(end).max(scene.now);
            let next = frame_at.min(sound_at).min(timer_at);
            if next > end {
                break;
            }
            scene.now = scene.now.max(next);
            if timer_at <= scene.now {
                scene.shard.handle_timeout(scene.now, &mut scene.network);
            }
            let mut train = Vec::new();
            if frame_at <= scene.now {
                train.extend(scene.publisher.frame());
                scene.worse.iter_mut().for_each(|layer| train.extend(layer.frame()));
            }
            let keyframe = train.iter().position(|packet| packet.starts_keyframe && packet.ssrc == worst);
            let missing = keyframe.filter(|_| self.has_repairs).map(|first| train.remove(first + 3));
            train.extend(std::mem::replace(&mut self.repaired, missing));
            let has_sound = sound_at <= scene.now;
            if has_sound {
                train.push(scene.publisher.sound(self.sounds));
                self.sounds += 1;
            }
            if !train.is_empty() {
                scene.shard.fan_out(scene.now, &train, &mut scene.network);
            }
            for (to, bytes) in scene.network.take() {
                assert_eq!(to, remote(1));
                let (before, is_sound) = (self.link.dropped, bytes.len() < 150 && !rtcp::is_rtcp(&bytes));
                self.link.send(scene.now, bytes);
                self.sounds_lost += u64::from(is_sound && self.link.dropped > before);
            }
        }
        scene.now = end;
        self.arrive();
    }

    fn arrive(&mut self) {
        let (scene, receiver) = (&mut self.scene, &mut self.receiver);
        while self.link.on_the_way.front().is_some_and(|(at, ..)| *at <= scene.now) {
            let (at, waited, bytes) = self.link.on_the_way.pop_front().expect("one");
            receiver.waited = waited;
            let length = bytes.len();
            let player = scene.players.get_mut(&1).expect("joined");
            let (before, reports) = (player.received.len(), player.reports.len());
            player.receive(at, bytes);
            if player.reports.len() > reports {
                for packet in rtcp::parse(&player.reports[reports].1) {
                    let Ok(rtcp::Packet::SenderReport(report)) = packet else { continue };
                    for counted in [&mut receiver.picture, &mut receiver.sound] {
                        if report.info.ssrc == counted.ssrc {
                            counted.last_report = Some((at, report.info.ntp));
                        }
                    }
                }
            }
            let Some(packet) = player.received.get(before) else { continue };
            if packet.ssrc == ssrc(1, AUDIO) {
                receiver.sound.count(packet.seq_no.get());
                continue;
            }
            receiver.came.push_back((at, length));
            if packet.ssrc == ssrc(1, VIDEO) {
                receiver.picture.count(packet.seq_no.get());
                let number = packet.transport.map(|number| (number, ticks(at - scene.start)));
                receiver.arrived.extend(number);
            }
        }
        if self.link.on_the_way.is_empty() {
            receiver.waited = Duration::ZERO;
        }
        if scene.now - receiver.looked_at >= Duration::from_millis(100) && self.says == Says::Estimates {
            receiver.look(scene.now, scene.start);
        }
        let compounds = [receiver.speak(scene.now), receiver.tell_arrivals(scene.now)];
        for compound in compounds.into_iter().flatten() {
            let datagram = scene.players.get_mut(&1).expect("joined").seal(&compound);
            self.back.push_back((scene.now + DELAY, datagram));
        }
        while self.back.front().is_some_and(|(at, _)| *at <= scene.now) {
            let (_, mut datagram) = self.back.pop_front().expect("one");
            let taken = scene.shard.handle_rtcp(scene.now, VIEWER, &mut datagram, &mut scene.network);
            taken.expect("taken");
        }
        while let Some(event) = scene.shard.poll_event() {
            if let Event::SoundOnly { is_sound_only, .. } = event {
                self.sound_only.push((scene.now - scene.start, is_sound_only));
            }
        }
        let layer = scene.shard.layer(VIEWER).expect("a picture");
        if self.course.last().is_some_and(|(_, last)| *last != layer) {
            self.course.push((scene.now - scene.start, layer));
        }
    }

    fn set_rate(&mut self, kbps: u64) {
        self.link.rate = Bitrate::kbps(kbps);
    }

    /// How long after `since` the viewer came to `layer` for good.
    pub fn settled(&self, since: Duration, layer: u8) -> Duration {
        let (at, last) = *self.course.last().expect("a layer");
        assert_eq!(last, layer, "{:?}", self.course);
        at.saturating_sub(since)
    }

    /// By how many seconds what came in the last five is later, by its timestamps, than the earliest of all.
    pub fn lateness(&self) -> f64 {
        let video = self.scene.player(1).stream(VIDEO);
        let of = |packet: &&Received| {
            let media = f64::from(packet.timestamp.wrapping_sub(video[0].timestamp)) / 90e3;
            (packet.at - video[0].at).as_secs_f64() - media
        };
        let is_of_late = |packet: &&&Received| self.scene.now - packet.at < Duration::from_secs(5);
        let earliest = video.iter().map(of).fold(f64::MAX, f64::min);
        video.iter().filter(is_of_late).map(of).fold(f64::MIN, f64::max) - earliest
    }

    fn elapsed(&self) -> Duration {
        self.scene.now - self.scene.start
    }

    pub fn tell(&self, name: &str) {
        let stats = self.scene.shard.stats();
        println!(
            "{name}: {} packets dropped; course {:?}; sound only {:?}; {} of {} sounds lost; probes {} ({} failed, {} KB); switches {:?}; RTX {}",
            self.link.dropped,
            self.course,
            self.sound_only,
            self.sounds_lost,
            self.sounds,
            stats.probes,
            stats.probes_failed,
            stats.probe.bytes / 1000,
            LayerSwitch::ALL.map(|reason| stats.layer_switches(reason)),
            stats.rtx.packets,
        );
    }
}

/// Down, and up again; gives how long down took, too.
fn steps(says: Says, queue_max: Duration) -> (World, Duration) {
    let mut world = World::new(says, 8000, queue_max);
    world.play(20);
    assert_eq!(world.course.len(), 1, "{:?}", world.course);
    world.set_rate(300);
    let since = world.elapsed();
    world.play(60);
    world.tell("down");
    let down = world.settled(since, 2);
    assert!(down < Duration::from_secs(8), "{down:?}: {:?}", world.course);
    world.set_rate(8000);
    let since = world.elapsed();
    world.play(120);
    world.tell("up");
    let up = world.settled(since, 0);
    assert!(up < Duration::from_secs(75), "{up:?}: {:?}", world.course);
    assert!(world.course.len() <= 8, "{:?}", world.course);
    println!("{says:?}, queue {queue_max:?}: down after {down:?}, up after {up:?}");
    (world, down)
}

#[test]
fn capacity_that_falls_and_comes_back_is_followed() {
    for queue_max in [100, 300, 1000].map(Duration::from_millis) {
        steps(Says::Estimates, queue_max);
    }
}

#[test]
fn so_is_it_by_when_packets_arrive() {
    for queue_max in [100, 300, 1000].map(Duration::from_millis) {
        let (world, down) = steps(Says::Arrivals, queue_max);
        assert!(down < Duration::from_secs(3), "it is soon known how much is carried: {down:?}");
        assert!(world.scene.shard.stats().transport_feedback > 1000);
        assert!(world.lateness() < 0.05, "{} s late on a wide link", world.lateness());
    }
}

#[test]
fn loss_and_round_trips_are_enough_for_it() {
    for queue_max in [100, 300, 1000].map(Duration::from_millis) {
        steps(Says::Nothing, queue_max);
    }
}

#[test]
fn a_link_between_two_layers_is_not_tried_all_the_time() {
    for says in [Says::Estimates, Says::Arrivals, Says::Nothing] {
        let mut world = World::new(says, 1300, Duration::from_millis(200));
        world.play(300);
        world.tell("between");
        assert_eq!(world.course.last().map(|(_, layer)| *layer), Some(1));
        assert!(world.course.len() <= 5, "{:?}", world.course);
        let probes = world.scene.shard.stats().probes;
        // Those that end with the first queue cost nothing, and may come more often.
        let probes_max = if says == Says::Arrivals { 28 } else { 16 };
        assert!(probes <= probes_max, "{probes} in five minutes");
    }
}

#[test]
fn a_link_that_carries_the_best_layer_is_never_left() {
    for says in [Says::Estimates, Says::Arrivals] {
        let mut world = World::new(says, 4000, Duration::from_millis(200));
        world.play(120);
        world.tell("best");
        assert_eq!(world.course.len(), 1, "{says:?}: {:?}", world.course);
        assert_eq!(world.scene.shard.stats().probes, 0);
        check_video(world.scene.player(1));
    }
}

/// From 8 Mbit/s to less than any layer takes, and back.
fn down_to_sound(layers: &str, scene: Scene, says: Says, queue_max: Duration) {
    let mut world = World::with(scene, says, 8000, queue_max);
    world.play(20);
    assert!(world.sound_only.is_empty(), "{:?}", world.sound_only);
    world.set_rate(100);
    let since = world.elapsed();
    world.play(30);
    world.tell(layers);
    let (at, is_sound_only) = *world.sound_only.first().expect("held");
    let after = at - since;
    assert!(is_sound_only && after < Duration::from_secs(20), "after {after:?}");
    // It is tried again and again, and less and less often.
    let (sounds, lost) = (world.sounds, world.sounds_lost);
    world.play(180);
    world.tell(layers);
    let (sounds, lost) = (world.sounds - sounds, world.sounds_lost - lost);
    assert!(lost * 100 < sounds * 15, "{lost} of {sounds} sounds lost");
    let tries = world.sound_only.iter().filter(|(_, is_sound_only)| !is_sound_only).count();
    assert!((1..=8).contains(&tries), "{:?}", world.sound_only);
    world.set_rate(8000);
    world.play(90);
    world.tell(layers);
    let (_, is_sound_only) = *world.sound_only.last().expect("held");
    assert!(!is_sound_only, "{:?}", world.sound_only);
    let last = world.scene.player(1).stream(VIDEO).last().expect("a picture").at;
    assert!(world.scene.now - last < Duration::from_millis(200), "the picture is back");
    world.play(60);
    assert_eq!(world.scene.shard.layer(VIEWER), Some(0), "{:?}", world.course);
}

#[test]
fn a_connection_that_carries_no_layer_gets_its_sound_and_later_its_picture_again() {
    for (says, queue_max) in [(Says::Estimates, 300), (Says::Nothing, 100), (Says::Arrivals, 300)] {
        let scene = Scene::layered(Config::default());
        down_to_sound("three layers", scene, says, Duration::from_millis(queue_max));
    }
}

#[test]
fn so_does_one_for_which_a_broadcast_of_one_layer_is_too_much() {
    for (says, queue_max) in [(Says::Estimates, 100), (Says::Nothing, 300)] {
        let scene = Scene::new(Config::default());
        down_to_sound("one layer", scene, says, Duration::from_millis(queue_max));
    }
}

#[test]
fn steps_up_and_down_cost_little_of_the_picture_where_arrivals_are_told() {
    let mut world = World::new(Says::Arrivals, 8000, Duration::from_millis(200));
    world.play(20);
    let seen = [4000, 2000, 1000, 500, 300, 100, 300, 500, 1000, 2000, 4000, 8000].map(|kbps| {
        let before = world.link.dropped;
        world.set_rate(kbps);
        world.play(30);
        (kbps, world.scene.shard.layer(VIEWER).expect("a picture"), world.link.dropped - before)
    });
    world.tell("up and down");
    println!("{seen:?}");
    assert_eq!(seen.map(|(_, layer, _)| layer), [0, 1, 1, 2, 2, 2, 2, 2, 1, 1, 0, 0]);
    let carries_none = |(kbps, ..): &(u64, u8, u64)| *kbps == 100;
    let dropped: u64 = seen.iter().filter(|step| !carries_none(step)).map(|(.., dropped)| dropped).sum();
    assert!(dropped < 200, "{dropped} packets in eleven steps: {seen:?}");
    // Of the worst layer nothing is lost on a link that stays as it is.
    let steady = |(kbps, _, dropped): &&(u64, u8, u64)| *kbps == 300 && *dropped > 5;
    assert_eq!(seen.iter().filter(steady).count(), 0, "{seen:?}");
}
