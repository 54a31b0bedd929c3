//! What viewers ask for, and what they get.

use std::time::{Duration, Instant};

use egress::{Config, DropReason, Event, RtcpError, ViewerId};
use media_core::rtcp::{self, ReportBlock};
use model::{Bitrate, Kind, NtpTime, Ssrc};

use crate::harness::{RTX, RTX_PT, Scene, VIDEO, check_video, setup, ssrc};

fn live_scene() -> Scene {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    scene
}

#[test]
fn a_nack_is_answered_in_the_rtx_stream_with_the_original_number() {
    let mut scene = live_scene();
    let asked: Vec<_> =
        scene.player(1).stream(VIDEO)[100..103].iter().map(|packet| (*packet).clone()).collect();
    let seqs: Vec<_> = asked.iter().map(|packet| packet.seq_no.seq()).collect();
    let nack = scene.player_mut(1).nack(&seqs);
    scene.rtcp(1, nack);
    let repeated = scene.player(1).stream(RTX);
    assert_eq!(repeated.len(), 3);
    for (repeated, original) in repeated.iter().zip(&asked) {
        assert_eq!(repeated.payload_type, RTX_PT);
        assert_eq!(repeated.payload[..2], original.seq_no.seq().to_be_bytes());
        assert_eq!(repeated.payload[2..], original.payload[..]);
        assert_eq!((repeated.timestamp, repeated.marker), (original.timestamp, original.marker));
    }
    assert_eq!(repeated[1].seq_no, repeated[0].seq_no.plus(1));
    let stats = scene.shard.stats();
    assert_eq!((stats.nacked, stats.rtx.packets), (3, 3));
}

#[test]
fn a_packet_of_a_replay_is_repeated_as_it_was_squeezed() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.play(Duration::from_secs(4));
    scene.join(1);
    scene.play(Duration::from_secs(3));
    check_video(scene.player(1));
    let original = scene.player(1).stream(VIDEO)[40].clone();
    let nack = scene.player_mut(1).nack(&[original.seq_no.seq()]);
    scene.rtcp(1, nack);
    let repeated = scene.player(1).stream(RTX)[0];
    assert_eq!(repeated.payload[2..], original.payload[..]);
    assert_eq!(repeated.timestamp, original.timestamp);
}

#[test]
fn without_rtx_the_very_same_datagram_is_sent_again() {
    let mut scene = Scene::new(Config::default());
    let mut viewer = setup(1, scene.now);
    if let Some(video) = &mut viewer.video {
        video.rtx_ssrc = None;
    }
    scene.shard.add_viewer(scene.now, &crate::harness::broadcast_id(), viewer).expect("added");
    scene.players.insert(1, crate::harness::Player::new(1));
    scene.play(Duration::from_secs(1));
    let frame = scene.publisher.frame();
    scene.shard.fan_out(scene.now, &frame, &mut scene.network);
    let sent = scene.network.take();
    let seq = u16::from_be_bytes([sent[1].1[2], sent[1].1[3]]);
    let mut nack = scene.player_mut(1).nack(&[seq]);
    scene.shard.handle_rtcp(scene.now, ViewerId::new(1), &mut nack, &mut scene.network).expect("taken");
    assert_eq!(scene.network.take(), sent[1..2]);
}

#[test]
fn a_storm_of_nacks_costs_no_more_than_the_budget() {
    let mut scene = live_scene();
    let seqs: Vec<_> =
        scene.player(1).stream(VIDEO)[..250].iter().map(|packet| packet.seq_no.seq()).collect();
    let started = scene.now;
    for _ in 0..100 {
        let nack = scene.player_mut(1).nack(&seqs);
        scene.rtcp(1, nack);
        scene.play(Duration::from_millis(10));
    }
    let stats = scene.shard.stats();
    // Half of about 0.75 Mbit/s for a second, and the burst.
    let allowed = Bitrate::kbps(400).bytes_in(scene.now - started) + (64 << 10) + 1200;
    assert!(stats.rtx.bytes <= allowed, "{} of {allowed}", stats.rtx.bytes);
    assert_eq!(stats.nacked, 25_000);
    assert_eq!(stats.drops(DropReason::NackBudget) + stats.rtx.packets, 25_000);
    check_video(scene.player(1));
}

#[test]
fn what_no_ring_has_is_counted() {
    let mut scene = live_scene();
    let first = scene.player(1).stream(VIDEO)[0].seq_no.seq();
    let nack = scene.player_mut(1).nack(&[first.wrapping_sub(5), first.wrapping_add(5000)]);
    scene.rtcp(1, nack);
    assert_eq!(scene.shard.stats().drops(DropReason::NackUnknown), 2);
    assert!(scene.player(1).stream(RTX).is_empty());
}

#[test]
fn a_deaf_publisher_is_asked_and_the_viewer_restarts_from_the_cache() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    scene.play(Duration::from_secs(4));
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    assert_eq!(
        scene.count(|event| matches!(event, Event::KeyframeWanted { .. })),
        1 + 1,
        "at the start, and now"
    );
    let before = scene.player(1).stream(VIDEO).len();
    scene.play(Duration::from_secs(3));
    check_video(scene.player(1));
    assert_eq!(scene.shard.stats().restarts, 1);
    let video = scene.player(1).stream(VIDEO);
    let keyframe = video[0].source();
    assert!(video[before..].iter().any(|packet| packet.source() == keyframe), "the cached keyframe again");
    let newest = video[video.len() - 1];
    assert!(scene.now - newest.at < Duration::from_millis(40), "and live again");
}

#[test]
fn a_storm_of_keyframe_requests_costs_one_replay() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 400;
    scene.join(1);
    scene.play(Duration::from_secs(4));
    for _ in 0..400 {
        let pli = scene.player_mut(1).pli();
        scene.rtcp(1, pli);
        scene.play(Duration::from_millis(10));
    }
    let stats = scene.shard.stats();
    assert_eq!((stats.keyframe_requests_received, stats.restarts), (400, 1));
    assert!(scene.count(|event| matches!(event, Event::KeyframeWanted { .. })) <= 6, "one a second");
    check_video(scene.player(1));
}

#[test]
fn a_viewer_that_lost_the_start_of_its_replay_starts_again_at_once() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 250;
    scene.join(1);
    scene.play(Duration::from_secs(6));
    scene.join(2);
    let asked = scene.shard.stats().keyframe_requests;
    scene.play(Duration::from_millis(100));
    let pli = scene.player_mut(2).pli();
    scene.rtcp(2, pli);
    scene.play(Duration::from_millis(100));
    assert_eq!(scene.shard.stats().restarts, 0, "the keyframe may be on its way");
    // As Firefox does, every 200 ms until it has one.
    let pli = scene.player_mut(2).pli();
    scene.rtcp(2, pli);
    scene.play(Duration::from_millis(800));
    assert_eq!(scene.shard.stats().restarts, 1);
    assert_eq!(scene.shard.stats().keyframe_requests, asked, "the publisher has nothing to do with it");
    scene.play(Duration::from_secs(2));
    check_video(scene.player(2));
    let video = scene.player(2).stream(VIDEO);
    let keyframe = scene.player(1).stream(VIDEO)[0].source();
    let starts: Vec<_> = video.iter().filter(|packet| packet.source() == keyframe).collect();
    assert_eq!(starts.len(), 2);
    assert!(starts[1].at - starts[0].at < Duration::from_millis(250), "{:?}", starts[1].at - starts[0].at);
    let newest = video[video.len() - 1];
    assert!(scene.now - newest.at < Duration::from_millis(40), "and live");
}

#[test]
fn who_was_not_ready_for_the_second_keyframe_either_has_a_third_soon_and_then_seldom() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 2400;
    scene.join(1);
    scene.play(Duration::from_secs(6));
    scene.join(2);
    scene.play(Duration::from_millis(200));
    let mut restarts = Vec::new();
    for _ in 0..60 {
        let pli = scene.player_mut(2).pli();
        scene.rtcp(2, pli);
        scene.play(Duration::from_millis(200));
        restarts.push(scene.shard.stats().restarts);
    }
    assert_eq!((restarts[0], restarts[3]), (1, 1), "at once");
    assert_eq!(restarts[5], 2, "a second later");
    assert!((3..=5).contains(&restarts[59]), "{restarts:?}");
}

#[test]
fn a_keyframe_that_comes_in_time_makes_a_restart_needless() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 30;
    scene.join(1);
    scene.play(Duration::from_millis(3700));
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    scene.play(Duration::from_secs(3));
    assert_eq!(scene.shard.stats().restarts, 0);
}

#[test]
fn a_request_that_crosses_a_keyframe_is_answered_by_it() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_millis(4100));
    let asked = scene.shard.stats().keyframe_requests;
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    scene.play(Duration::from_secs(1));
    let stats = scene.shard.stats();
    assert_eq!((stats.keyframe_requests, stats.restarts), (asked, 0));
}

/// When the newest report on the picture was sent, and what it says of that.
fn newest_report(scene: &Scene) -> (Instant, NtpTime) {
    let (at, compound) = scene.player(1).reports.last().expect("a report");
    let ntp = rtcp::parse(compound).find_map(|packet| match packet {
        Ok(rtcp::Packet::SenderReport(report)) if report.info.ssrc == ssrc(1, VIDEO) => Some(report.info.ntp),
        _ => None,
    });
    (*at, ntp.expect("of the picture"))
}

#[test]
fn a_packet_is_repeated_once_in_a_round_trip() {
    let mut scene = live_scene();
    let (at, ntp) = newest_report(&scene);
    let delay = ((scene.now - at).as_micros() * 65_536 / 1_000_000) as u32;
    scene.now += Duration::from_millis(240);
    let block = ReportBlock {
        ssrc: ssrc(1, VIDEO),
        fraction_lost: 0,
        lost: 0,
        highest_seq: 5,
        jitter: 0,
        last_report: ntp.middle(),
        delay,
    };
    let mut compound = Vec::new();
    rtcp::write::receiver_report(&mut compound, Ssrc::new(1), &[block]);
    let datagram = scene.player_mut(1).seal(&compound);
    scene.rtcp(1, datagram);
    let seq = scene.player(1).stream(VIDEO)[100].seq_no.seq();
    // As browsers do.
    for _ in 0..6 {
        let nack = scene.player_mut(1).nack(&[seq]);
        scene.rtcp(1, nack);
        scene.now += Duration::from_millis(100);
    }
    let stats = scene.shard.stats();
    assert_eq!((stats.rtx.packets, stats.drops(DropReason::NackEarly)), (2, 4), "0 ms and 300 ms");
    let other = scene.player_mut(1).nack(&[seq.wrapping_add(1)]);
    scene.rtcp(1, other);
    assert_eq!(scene.shard.stats().rtx.packets, 3, "another one");
}

#[test]
fn reports_tell_loss_jitter_and_round_trip() {
    let mut scene = live_scene();
    let (at, ntp) = newest_report(&scene);
    let arrived = at + Duration::from_millis(20);
    let answered = arrived + Duration::from_millis(100);
    scene.now = answered + Duration::from_millis(20);
    let block = ReportBlock {
        ssrc: ssrc(1, VIDEO),
        fraction_lost: 26,
        lost: 17,
        highest_seq: 5,
        jitter: 900,
        last_report: ntp.middle(),
        delay: 6554,
    };
    let mut compound = Vec::new();
    rtcp::write::receiver_report(&mut compound, Ssrc::new(1), &[block]);
    rtcp::write::receiver_estimate(&mut compound, Ssrc::new(1), Bitrate::kbps(1800), &[ssrc(1, VIDEO)]);
    let datagram = scene.player_mut(1).seal(&compound);
    scene.rtcp(1, datagram);
    let reception = scene.shard.reception(ViewerId::new(1), Kind::Video).expect("reported");
    assert_eq!((reception.fraction_lost, reception.lost, reception.jitter), (26, 17, 900));
    let round_trip = reception.round_trip.expect("an answer to a report");
    assert!(round_trip.abs_diff(Duration::from_millis(40)) < Duration::from_millis(1), "{round_trip:?}");
    assert_eq!(scene.shard.estimate(ViewerId::new(1)), Some(Bitrate::kbps(1800)));
    let reports = scene.shard.stats().video_reports;
    let only = |counts: &[u64], bucket: usize| {
        counts.iter().enumerate().all(|(index, count)| *count == u64::from(index == bucket))
    };
    // 26 of 256 lie between 16 and 32; 900 ticks are 10 ms; 40 ms lie between 20 and 50.
    assert!(
        only(&reports.loss, 6) && only(&reports.jitter, 3) && only(&reports.round_trip, 5),
        "{reports:?}"
    );
    assert_eq!((reports.loss_sum_256, reports.jitter_sum), (26, Duration::from_millis(10)));
    assert_eq!(reports.round_trip_sum, round_trip);
    assert_eq!(scene.shard.stats().audio_reports, egress::Reports::default());
}

#[test]
fn an_estimate_slows_a_replay_down() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.gop = 400;
    scene.join(1);
    scene.play(Duration::from_secs(5));
    let mut compound = Vec::new();
    // The layer has about 0.75 Mbit/s.
    rtcp::write::receiver_estimate(&mut compound, Ssrc::new(1), Bitrate::kbps(1400), &[]);
    let datagram = scene.player_mut(1).seal(&compound);
    scene.rtcp(1, datagram);
    let pli = scene.player_mut(1).pli();
    scene.rtcp(1, pli);
    scene.play(Duration::from_secs(3));
    let record = scene.shard.record(ViewerId::new(1)).expect("a record");
    let segment = *record.video.expect("a picture").segments.last().expect("a segment");
    assert!(!segment.is_live(), "at 4 times it would have been live after 2.3 s");
    let percent = u32::from(segment.scale.denominator) * 100 / u32::from(segment.scale.numerator);
    assert!((170..=210).contains(&percent), "{percent}");
}

#[test]
fn what_is_not_authentic_or_old_is_counted_and_harms_nobody() {
    let mut scene = live_scene();
    let nack = scene.player_mut(1).nack(&[1]);
    let mut forged = nack.clone();
    forged[9] ^= 1;
    let id = ViewerId::new(1);
    let mut take =
        |bytes: &[u8]| scene.shard.handle_rtcp(scene.now, id, &mut bytes.to_vec(), &mut scene.network);
    assert_eq!(take(&forged), Err(RtcpError::NotAuthentic));
    assert_eq!(take(&[0x80, 201, 0, 0]), Err(RtcpError::NotAuthentic));
    assert_eq!(take(&nack), Ok(()));
    assert_eq!(take(&nack), Err(RtcpError::Replayed));
    let mut nobody = nack;
    let unknown = scene.shard.handle_rtcp(scene.now, ViewerId::new(9), &mut nobody, &mut scene.network);
    assert_eq!(unknown, Err(RtcpError::UnknownViewer));
    let stats = scene.shard.stats();
    assert_eq!(stats.drops(DropReason::RtcpAuthentication), 2);
    assert_eq!(stats.drops(DropReason::RtcpReplay), 1);
    let broken = scene.player_mut(1).seal(&[0x81, 201, 0, 1, 0, 0, 0, 1]);
    scene.rtcp(1, broken);
    assert_eq!(scene.shard.stats().drops(DropReason::RtcpMalformed), 1);
    scene.play(Duration::from_secs(1));
    check_video(scene.player(1));
}

#[test]
fn a_goodbye_is_told() {
    let mut scene = live_scene();
    let mut compound = Vec::new();
    rtcp::write::receiver_report(&mut compound, Ssrc::new(1), &[]);
    rtcp::write::goodbye(&mut compound, &[Ssrc::new(1)]);
    let datagram = scene.player_mut(1).seal(&compound);
    scene.rtcp(1, datagram);
    assert_eq!(scene.count(|event| *event == Event::Bye { viewer: ViewerId::new(1) }), 1);
}
