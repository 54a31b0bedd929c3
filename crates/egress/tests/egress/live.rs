//! Those who are live: what they get, in which order, with which bytes.

use std::time::Duration;

use egress::{Config, DropReason, Event, Shard, ViewerId};
use media_core::rtcp;

use crate::harness::{
    AUDIO, AUDIO_PT, Network, Output, Scene, VIDEO, VIDEO_PT, broadcast_id, capture_start, check_video,
    remote, setup, ssrc,
};

#[test]
fn a_viewer_from_the_start_gets_every_packet_once_and_in_order() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(5));
    let player = scene.player(1);
    let (video, audio) = (player.stream(VIDEO), player.stream(AUDIO));
    assert_eq!(video.len(), 10 + 59 * 3 + 10 + 59 * 3 + 10 + 30 * 3);
    check_video(player);
    let sources: Vec<_> = video.iter().map(|packet| packet.source()).collect();
    assert!(sources.is_sorted_by(|a, b| a + 1 == *b), "not in order");
    assert!(audio.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
    assert!(audio.windows(2).all(|pair| pair[1].timestamp.wrapping_sub(pair[0].timestamp) == 960));
    assert_eq!(audio.len(), 251);
    assert!(video.iter().all(|packet| packet.payload_type == VIDEO_PT));
    assert!(audio.iter().all(|packet| packet.payload_type == AUDIO_PT));
    assert_eq!(video[0].capture_time, Some(capture_start().to_bits()));
    let stats = scene.shard.stats();
    assert_eq!((stats.video.packets, stats.audio.packets), (video.len() as u64, audio.len() as u64));
    assert_eq!(stats.replay.packets, 0);
}

#[test]
fn sequence_numbers_wrap_around_where_sixteen_bits_end() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.packets = (400, 400);
    scene.publisher.payload_bytes = 60;
    scene.join(1);
    scene.play(Duration::from_secs(8));
    let player = scene.player(1);
    let highest = player.stream(VIDEO).last().expect("packets").seq_no;
    assert!(highest.roc() >= 1, "{highest:?}");
    check_video(player);
}

#[test]
fn two_shards_with_one_record_send_the_same_bytes() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(3));
    let record = scene.shard.record(ViewerId::new(1)).expect("a record");

    let mut twin = Shard::new(Config::default());
    twin.broadcast_changed(scene.now, &scene.publisher.broadcast());
    twin.resume_viewer(scene.now, record).expect("resumed");
    let frame = scene.publisher.frame();
    let (mut first, mut second) = (Network::default(), Network::default());
    scene.shard.fan_out(scene.now, &frame, &mut first);
    twin.fan_out(scene.now, &frame, &mut second);
    let (first, second) = (first.take(), second.take());
    assert_eq!(first.len(), 3);
    assert_eq!(first, second);
}

#[test]
fn a_packet_repaired_late_takes_its_own_place() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let mut lost = scene.publisher.frame();
    let late = lost.remove(1);
    scene.fan_out(&lost);
    let next = scene.publisher.frame();
    scene.fan_out(&next);
    scene.fan_out(std::slice::from_ref(&late));
    scene.fan_out(&[late]);
    let player = scene.player(1);
    let mut video = player.stream(VIDEO);
    assert_eq!(video.last().expect("packets").source() + 4, next.last().expect("packets").seq_no.get());
    video.sort_by_key(|packet| packet.seq_no);
    assert!(video.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)));
    assert!(video.windows(2).all(|pair| pair[1].source() == pair[0].source() + 1));
    assert_eq!(scene.shard.stats().drops(DropReason::Duplicate), 1);
}

#[test]
fn packets_of_a_frame_have_one_size_on_the_wire() {
    let mut scene = Scene::new(Config::default());
    scene.publisher.payload_bytes = 1006;
    scene.join(1);
    scene.play(Duration::from_secs(1));
    let frame = scene.publisher.frame();
    let mut network = Network::default();
    scene.shard.fan_out(scene.now, &frame, &mut network);
    let lengths: Vec<_> = network.take().iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths[0], lengths[1], "payloads of 1006 and 999 bytes");
    assert!(lengths[2] < lengths[1], "the last one is not padded");
}

#[test]
fn a_stranger_stream_is_dropped_and_counted() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_millis(100));
    let before = scene.player(1).received.len();
    let mut packet = (*scene.publisher.sound(0)).clone();
    packet.ssrc = ssrc(99, 9);
    scene.fan_out(&[packet.into()]);
    assert_eq!(scene.player(1).received.len(), before);
    assert_eq!(scene.shard.stats().drops(DropReason::UnknownStream), 1);
}

#[test]
fn reports_come_every_second_and_tell_the_time_of_capture() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.play(Duration::from_secs(10));
    let player = scene.player(1);
    assert!((9..=10).contains(&player.reports.len()), "{}", player.reports.len());
    for (at, compound) in &player.reports {
        let mut kinds = 0;
        for packet in rtcp::parse(compound) {
            let rtcp::Packet::SenderReport(report) = packet.expect("RTCP") else { continue };
            kinds += 1;
            let info = report.info;
            let captured = info.ntp.saturating_since(capture_start());
            let played = *at - scene.start;
            let difference = captured.abs_diff(played);
            assert!(difference < Duration::from_millis(1), "{captured:?} {played:?}");
            // The report's pair and that of the stream's packets lie on one line.
            let (stream, clock_rate) =
                if info.ssrc == ssrc(1, AUDIO) { (AUDIO, 48e3) } else { (VIDEO, 90e3) };
            let packets = player.stream(stream);
            let first = packets.first().expect("packets");
            let media = f64::from(info.rtp_timestamp.wrapping_sub(first.timestamp)) / clock_rate;
            assert!((media - captured.as_secs_f64()).abs() < 0.002, "{media} {captured:?}");
        }
        assert_eq!(kinds, 2);
        assert!(rtcp::parse(compound).any(|packet| matches!(packet, Ok(rtcp::Packet::SourceDescription(_)))));
    }
}

#[test]
fn reports_of_many_viewers_do_not_come_at_once() {
    let mut scene = Scene::new(Config::default());
    for viewer in 1..=200 {
        scene.join(viewer);
    }
    scene.play(Duration::from_secs(3));
    let mut per_slice = vec![0; 41];
    for player in scene.players.values() {
        for (at, _) in player.reports.iter().filter(|(at, _)| *at - scene.start >= Duration::from_secs(1)) {
            per_slice[(*at - scene.start - Duration::from_secs(1)).as_millis() as usize / 50] += 1;
        }
    }
    let most = per_slice.iter().max().expect("slices");
    assert!(*most <= 20, "200 viewers in 20 slices of a second: {per_slice:?}");
}

#[test]
fn consent_ends_after_thirty_silent_seconds_and_media_with_it() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    scene.join(2);
    scene.play(Duration::from_secs(20));
    scene.shard.heard(scene.now, ViewerId::new(2));
    scene.play(Duration::from_secs(20));
    let expired: Vec<_> =
        scene.events.iter().filter(|(_, event)| matches!(event, Event::ConsentExpired { .. })).collect();
    assert_eq!(expired.len(), 1);
    assert_eq!(expired[0].1, Event::ConsentExpired { viewer: ViewerId::new(1) });
    assert_eq!(expired[0].0 - scene.start, Duration::from_secs(30));
    let last = scene.player(1).received.last().expect("packets").at;
    assert!(last - scene.start <= Duration::from_secs(30));
    let still = scene.player(2).received.last().expect("packets").at;
    assert!(scene.now - still < Duration::from_millis(50));
}

#[test]
fn a_viewer_is_found_by_its_address_and_gets_media_where_it_moved() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    let (id, old, new) = (ViewerId::new(1), remote(1), remote(77));
    assert_eq!(scene.shard.viewer_by_remote(old), Some(id));
    scene.shard.move_viewer(scene.now, id, egress::Path { local: [127, 0, 0, 1].into(), remote: new });
    assert_eq!(scene.shard.viewer_by_remote(old), None);
    assert_eq!(scene.shard.viewer_by_remote(new), Some(id));
    let frame = scene.publisher.frame();
    scene.shard.fan_out(scene.now, &frame, &mut scene.network);
    let sent = scene.network.take();
    assert!(!sent.is_empty() && sent.iter().all(|(remote, _)| *remote == new));
    scene.shard.remove_viewer(scene.now, id);
    assert_eq!(scene.shard.viewer_by_remote(new), None);
    assert_eq!(scene.shard.stats().viewers, 0);
}

#[test]
fn an_id_is_taken_only_once() {
    let mut scene = Scene::new(Config::default());
    scene.join(1);
    let again = scene.shard.add_viewer(scene.now, &broadcast_id(), setup(1, scene.now));
    assert_eq!(again, Err(egress::AddError::Exists));
    let record = scene.shard.record(ViewerId::new(1)).expect("a record");
    assert_eq!(scene.shard.resume_viewer(scene.now, record), Err(egress::AddError::Exists));
}

#[test]
fn an_extension_id_that_cannot_be_written_is_refused() {
    let mut scene = Scene::new(Config::default());
    for id in [0, 15] {
        let mut viewer = setup(1, scene.now);
        if let Some(audio) = &mut viewer.audio {
            audio.extensions.mid = Some(id);
        }
        let added = scene.shard.add_viewer(scene.now, &broadcast_id(), viewer);
        assert_eq!(added, Err(egress::AddError::ExtensionId { id }));
    }
    assert_eq!(scene.shard.stats().viewers, 0);
}

#[test]
fn a_record_is_written_before_the_first_packet_and_then_rarely() {
    let mut scene = Scene::new(Config::default());
    scene.network.keeps_records = true;
    scene.shard.add_viewer(scene.now, &broadcast_id(), setup(1, scene.now)).expect("added");
    let mut records = 0;
    for _ in 0..600 {
        let frame = scene.publisher.frame();
        scene.now = scene.start + scene.publisher.next_at();
        scene.shard.handle_timeout(scene.now, &mut scene.network);
        scene.shard.fan_out(scene.now, &frame, &mut scene.network);
        for output in std::mem::take(&mut scene.network.output) {
            match output {
                Output::Record(..) => records += 1,
                Output::Datagram(..) => assert!(records > 0, "a datagram before any record"),
            }
        }
    }
    assert!(records <= 24, "{records} records for 2000 packets");
    scene.shard.remove_viewer(scene.now, ViewerId::new(1));
    scene.shard.handle_timeout(scene.now, &mut scene.network);
    assert!(matches!(scene.network.output[..], [Output::Record(_, egress::RecordChange::Removed)]));
}

#[test]
fn latency_is_measured_once_for_each_frame_and_live_viewer() {
    let mut scene = Scene::new(Config::default());
    scene.shard.set_wallclock(scene.now, capture_start().plus(Duration::from_millis(42)));
    scene.join(1);
    scene.join(2);
    scene.play(Duration::from_secs(1));
    let latency = scene.shard.stats().latency;
    let bucket = egress::LATENCY_BOUNDS_MS.iter().position(|bound| *bound == 50).expect("a bound");
    assert_eq!(latency.counts.iter().sum::<u64>(), 2 * 31);
    assert_eq!(latency.counts[bucket], 2 * 31);
}
