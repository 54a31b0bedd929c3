//! What no short film shows: statistics made up second by second.

#![allow(clippy::disallowed_methods, reason = "a test begins now")]

use std::time::{Duration, Instant};

use doctor::{Code, Doctor, Figure, Figures};
use ingest::{Connection, Facts, LayerStats, Stats};
use model::{Bitrate, Codec, Kind, ObsVersion, Ssrc};

/// A publisher like a browser, with a picture of 30 frames per second, 100 packets and 1 Mbit/s, and sound.
struct Patient {
    start: Instant,
    seconds: u64,
    stats: Stats,
    doctor: Doctor,
}

impl Patient {
    fn new() -> Self {
        let start = Instant::now();
        let layer = |kind, number, codec| LayerStats {
            ssrc: Ssrc::new(number),
            kind,
            layer: 0,
            packets: 0,
            bytes: 0,
            lost: 0,
            given_up: 0,
            recovered: 0,
            nacks: 0,
            keyframe_requests: 0,
            jitter: Duration::from_millis(3),
            bitrate: Bitrate::default(),
            keyframe_interval: None,
            keyframe_at: Some(start),
            codec: Some(codec),
            profile_level_id: None,
            profile: None,
            size: None,
            facts: Facts { takes_keyframe_requests: true, has_retransmissions: true, ..Facts::default() },
        };
        let layers = vec![layer(Kind::Audio, 1, Codec::Opus), layer(Kind::Video, 2, Codec::Vp8)];
        let stats = Stats { connection: Connection::Connected, layers, ..Stats::default() };
        Self { start, seconds: 0, stats, doctor: Doctor::default() }
    }

    /// So many seconds pass, each changed by `change`.
    fn pass(&mut self, seconds: u64, change: impl Fn(u64, Instant, &mut Stats)) -> Vec<Code> {
        for _ in 0..seconds {
            self.seconds += 1;
            let now = self.start + Duration::from_secs(self.seconds);
            for layer in &mut self.stats.layers {
                let (packets, bytes) = if layer.kind == Kind::Audio { (50, 16_000) } else { (100, 125_000) };
                layer.packets += packets;
                layer.bytes += bytes;
                layer.facts.frames += if layer.kind == Kind::Audio { 50 } else { 30 };
                layer.facts.media += Duration::from_secs(1);
            }
            change(self.seconds, now, &mut self.stats);
            self.doctor.observe(now, &self.stats);
        }
        self.doctor.findings().into_iter().map(|finding| finding.code).collect()
    }
}

const fn picture(stats: &mut Stats) -> &mut LayerStats {
    stats.layers.as_mut_slice().last_mut().expect("two layers")
}

#[test]
fn loss_that_comes_with_the_bitrate_is_a_line_too_thin_and_loss_that_does_not_is_the_air() {
    // Something on the way drops what is above its rate, without a queue.
    let polices = |second: u64, _: Instant, stats: &mut Stats| {
        if second.is_multiple_of(2) {
            picture(stats).packets += 100;
            picture(stats).bytes += 125_000;
            picture(stats).recovered += 30;
        }
    };
    assert_eq!(Patient::new().pass(20, polices), [Code::BitrateBeyondLink]);
    let air = |second: u64, _: Instant, stats: &mut Stats| {
        let more = if second.is_multiple_of(2) { 100 } else { 0 };
        picture(stats).packets += more;
        picture(stats).bytes += more * 1250;
        picture(stats).recovered += 8 + more / 12;
    };
    assert_eq!(Patient::new().pass(20, air), [Code::UplinkLoss]);
}

#[test]
fn a_long_way_is_told_and_forgotten() {
    let mut patient = Patient::new();
    let set = |millis| {
        move |_: u64, _: Instant, stats: &mut Stats| stats.round_trip = Some(Duration::from_millis(millis))
    };
    assert_eq!(patient.pass(30, set(40)), []);
    assert_eq!(patient.pass(12, set(400)), [Code::RoundTripLong]);
    assert_eq!(patient.pass(15, set(40)), [Code::RoundTripLong], "not forgotten at once");
    assert_eq!(patient.pass(10, set(40)), []);
}

#[test]
fn who_sends_keyframes_when_asked_need_not_send_them_otherwise() {
    // One request every ten seconds.
    let answers = |second: u64, now: Instant, stats: &mut Stats| {
        if second.is_multiple_of(10) {
            let picture = picture(stats);
            picture.keyframe_requests += 1;
            picture.facts.keyframes += 1;
            picture.keyframe_interval = Some(Duration::from_secs(10));
            picture.keyframe_at = Some(now);
        }
    };
    assert_eq!(Patient::new().pass(60, answers), []);
    // Nobody asks.
    assert_eq!(Patient::new().pass(60, |_, _, _| {}), []);
    let deaf = |second: u64, _: Instant, stats: &mut Stats| {
        picture(stats).keyframe_requests += u64::from(second.is_multiple_of(10));
    };
    assert_eq!(Patient::new().pass(60, deaf), [Code::NoKeyframe]);
}

#[test]
fn layers_of_a_simulcast_stop_without_a_word_and_the_whole_picture_does_not() {
    let mut patient = Patient::new();
    let mut second = patient.stats.layers[1].clone();
    (second.ssrc, second.layer) = (Ssrc::new(3), 1);
    patient.stats.layers.push(second.clone());
    let stops = |_: u64, _: Instant, stats: &mut Stats| *picture(stats) = second.clone();
    assert_eq!(patient.pass(20, stops), []);
}

#[test]
fn an_obs_that_does_not_repair_is_told_by_its_version_and_a_newer_one_is_not() {
    let version = |major, minor, patch| Some(ObsVersion { major, minor, patch });
    for (obs, is_told) in [
        (version(30, 0, 2), true),
        (version(30, 1, 9), true),
        (version(30, 2, 0), false),
        (version(32, 1, 0), false),
        (None, false),
    ] {
        let expected: &[Code] = if is_told { &[Code::EncoderOld] } else { &[] };
        let mut patient = Patient::new();
        patient.doctor.publishes_with(obs);
        assert_eq!(patient.pass(10, |_, _, _| {}), expected, "{obs:?}");
    }
    let mut patient = Patient::new();
    patient.doctor.publishes_with(version(30, 1, 2));
    patient.pass(10, |_, _, _| {});
    let finding = patient.doctor.findings().remove(0);
    assert_eq!(finding.what, "The publisher is OBS 30.1.2, which does not send all again that was lost.");
    assert_eq!(finding.figures, Figures::from([("version", Figure::Name("30.1.2".into()))]));
    patient.doctor.publishes_with(None);
    assert_eq!(patient.pass(3, |_, _, _| {}), [], "another one has taken its place");
}

#[test]
fn a_look_after_a_long_pause_sees_nothing_that_is_not_there() {
    let mut patient = Patient::new();
    assert_eq!(patient.pass(20, |_, _, _| {}), []);
    patient.seconds += 60;
    assert_eq!(patient.pass(20, |_, _, _| {}), []);
}
