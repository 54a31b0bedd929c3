//! Can a publisher's session outlive the process that took it? The publisher (str0m, untouched) goes on sending to the same
//! address while the server is killed and another one is made from a record only.

#![allow(clippy::unwrap_used, reason = "a test that meets what cannot be may panic")]

mod harness;

use std::time::Duration;

use harness::{Media, Offer, VP8_DELTA, VP8_KEYFRAME, World};
use ingest::CloseReason;
use str0m::RtcConfig;
use str0m::format::Codec as EngineCodec;
use str0m::media::Rid;

const FRAME: Duration = Duration::from_micros(33_333);

/// A publisher under way: VP8 (first packet of video `seq`) and Opus.
struct Show {
    world: World,
    seq: u64,
    frame: u64,
    rids: Vec<&'static str>,
}

impl Show {
    fn new(seq: u64) -> Self {
        Self::with_layers(seq, Vec::new(), |offer| offer)
    }

    fn with_layers(seq: u64, rids: Vec<&'static str>, rewrite: fn(String) -> String) -> Self {
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
        config.codec_config().enable_opus(true, false);
        config.codec_config().enable_vp8(true);
        let offer = Offer { config, rids: rids.clone(), rewrite, ..Offer::new() };
        Self { world: World::connected(offer), seq, frame: 0, rids }
    }

    /// Three packets of video for each layer and one of audio per frame.
    fn play(&mut self, frames: u64) {
        let world = &mut self.world;
        let (vp8, opus) = (world.payload_type(EngineCodec::Vp8), world.payload_type(EngineCodec::Opus));
        let (video, audio) = (world.video.unwrap(), world.audio.unwrap());
        let rids: Vec<Option<Rid>> = if self.rids.is_empty() {
            vec![None]
        } else {
            self.rids.iter().map(|rid| Some(Rid::from(*rid))).collect()
        };
        for _ in 0..frames {
            for part in 0..3 {
                let payload: &[u8] =
                    if part == 0 && self.frame.is_multiple_of(30) { &VP8_KEYFRAME } else { &VP8_DELTA };
                for rid in &rids {
                    world.publish(&Media {
                        mid: video,
                        rid: *rid,
                        payload_type: vp8,
                        seq: self.seq,
                        timestamp: (self.frame * 3000) as u32,
                        marker: part == 2,
                        payload,
                    });
                }
                self.seq += 1;
            }
            world.publish(&Media {
                mid: audio,
                rid: None,
                payload_type: opus,
                seq: 9000 + self.frame,
                timestamp: (self.frame * 1600) as u32,
                marker: false,
                payload: &[0xfc, 1, 2, 3],
            });
            self.frame += 1;
            world.run(FRAME);
        }
    }

    fn video(&self) -> Vec<u64> {
        self.world.seq_nos(self.world.tracks[0][1].layers[0].ssrc)
    }

    /// DTLS handshake records that the publisher has sent so far.
    fn handshakes(&self) -> usize {
        self.world.sent_by_client.iter().filter(|bytes| bytes[0] == 22).count()
    }
}

/// Distinct sequence numbers that are missing between the first and the last.
fn missing(mut seq_nos: Vec<u64>) -> u64 {
    seq_nos.sort_unstable();
    seq_nos.dedup();
    seq_nos.last().unwrap() - seq_nos[0] + 1 - seq_nos.len() as u64
}

#[test]
fn media_goes_on_in_the_same_session_with_the_same_identities() {
    let mut show = Show::new(4000);
    show.play(60);
    let record = show.world.kill();
    let handshakes = show.handshakes();
    let tracks = show.world.tracks.last().unwrap().clone();
    show.play(15); // half a second without a server
    let dead = show.world.packets.len();
    show.world.resume(&record);
    assert_eq!(show.world.connected, 2, "at once, without a packet from the publisher");
    assert_eq!(show.world.tracks.last(), Some(&tracks));
    show.play(60);
    show.world.run(Duration::from_secs(1));

    assert!(show.world.packets.len() > dead + 60 * 4 - 4, "{} of {dead}", show.world.packets.len());
    let video = show.video();
    assert_eq!(
        video.last().unwrap() - video[0],
        134 * 3 + 2,
        "the outage is a gap of its true size, or repaired"
    );
    assert_eq!(show.handshakes(), handshakes, "no new DTLS handshake");
    assert!(show.world.client.is_connected() && !show.world.client_closed);
    assert!(show.world.server.as_ref().unwrap().is_resumed());
}

#[test]
fn the_outage_is_repaired_by_nack_as_far_as_the_publisher_remembers() {
    let mut show = Show::new(4000);
    show.play(60);
    let record = show.world.kill();
    show.play(20); // 60 packets, fewer than the engine's window of 100
    show.world.resume(&record);
    show.play(30);
    show.world.run(Duration::from_secs(1));
    assert_eq!(missing(show.video()), 0);
}

#[test]
fn a_loss_after_resuming_is_repaired_though_rtx_was_already_in_use() {
    let mut show = Show::new(100);
    show.world.loss_percent = 5;
    show.play(100);
    // Killed with repairs outstanding.
    let record = show.world.kill();
    show.world.resume(&record);
    show.play(100);
    show.world.loss_percent = 0;
    show.play(10);
    show.world.run(Duration::from_millis(500));
    let stats = show.world.server.as_ref().unwrap().stats();
    assert!(stats.layers[1].recovered > 5, "{stats:?}");
    assert_eq!(missing(show.video()), 0);
}

#[test]
fn the_rollover_counter_survives_a_wrap_during_the_outage() {
    let mut show = Show::new(65_536 * 2 - 120); // also: not the first cycle
    // The publisher's first packets must be in the first cycle, as RFC 3711 has it.
    show.seq = 65_536 - 60;
    show.play(30);
    let record = show.world.kill();
    show.play(30);
    show.world.resume(&record);
    show.play(30);
    show.world.run(Duration::from_secs(1));
    let video = show.video();
    assert_eq!(video.last().unwrap() - video[0], 89 * 3 + 2);
    assert!(show.world.packets.len() > 30 * 4 * 2 - 4);
}

#[test]
fn a_second_resume_works_many_cycles_into_the_stream() {
    let mut show = Show::new(65_536 - 30);
    show.play(30);
    // Two more cycles, a packet of every 20 000 reaching the server.
    for _ in 0..7 {
        show.seq += 20_000;
        show.play(1);
    }
    let record = show.world.kill();
    show.play(5);
    show.world.resume(&record);
    show.play(5);
    let record = show.world.kill();
    show.play(5);
    show.world.resume(&record);
    let before = show.world.packets.len();
    show.play(30);
    assert!(show.world.packets.len() >= before + 30 * 4 - 4, "{} after {before}", show.world.packets.len());
}

#[test]
fn forged_packets_that_come_first_change_nothing() {
    let mut show = Show::new(4000);
    show.play(60);
    let genuine: Vec<Vec<u8>> =
        show.world.sent_by_client.iter().filter(|bytes| bytes[0] >= 128).cloned().collect();
    let record = show.world.kill();
    show.world.resume(&record);
    let client = harness::CLIENT.parse().unwrap();
    let before = show.world.packets.len();
    for bytes in genuine.iter().rev().take(40) {
        for (position, flip) in [(bytes.len() - 1, 1), (2, 0x80), (2, 0x40), (11, 1), (1, 0x80)] {
            let mut forged = bytes.clone();
            forged[position] ^= flip;
            show.world.give_to_server(client, &forged);
        }
    }
    // Replays of what the dead process has had.
    for bytes in &genuine {
        show.world.give_to_server(client, bytes);
    }
    assert_eq!(show.world.packets.len(), before, "nothing forged or replayed becomes media");
    show.play(30);
    assert!(show.world.packets.len() >= before + 30 * 4 - 4);
    assert_eq!(missing(show.video()), 0);
}

#[test]
fn a_record_that_is_some_seconds_old_is_good_enough() {
    let mut show = Show::new(4000);
    show.play(30);
    let old = show.world.server.as_ref().unwrap().record().unwrap();
    show.play(90);
    show.world.kill();
    show.world.resume(&old);
    let before = show.world.packets.len();
    show.play(30);
    assert!(show.world.packets.len() >= before + 30 * 4 - 4);
    assert_eq!(
        show.video().iter().max(),
        Some(&(show.video()[0] + 149 * 3 + 2)),
        "numbers agree across the lives"
    );
}

#[test]
fn simulcast_layers_are_found_again() {
    let mut show = Show::with_layers(700, vec!["q", "h", "f"], |offer| offer);
    show.play(60);
    let record = show.world.kill();
    show.play(5);
    show.world.resume(&record);
    let before = show.world.packets.len();
    show.play(30);
    assert!(show.world.packets.len() >= before + 30 * 10 - 10);
    let tracks = show.world.tracks.last().unwrap().clone();
    for layer in &tracks[1].layers {
        assert_eq!(missing(show.world.seq_nos(layer.ssrc)), 0);
    }
}

#[test]
fn capture_times_go_on_without_a_step() {
    let mut show = Show::new(4000);
    show.play(300);
    let record = show.world.kill();
    show.play(10);
    show.world.resume(&record);
    show.play(90);
    let video = show.world.tracks[0][1].layers[0].ssrc;
    // First reports and the first round trip make the clock step in any life.
    let is_settled = |packet: &&media_core::TreePacket| packet.ssrc == video && packet.timestamp > 280 * 3000;
    let packets: Vec<_> = show.world.packets.iter().filter(is_settled).collect();
    for pair in packets.windows(2) {
        let media =
            Duration::from_micros(u64::from(pair[1].timestamp.saturating_sub(pair[0].timestamp)) * 100 / 9);
        let captured = pair[1].capture_time.saturating_since(pair[0].capture_time);
        let apart = captured.max(media) - captured.min(media);
        assert!(
            apart < Duration::from_millis(3),
            "{captured:?} for {media:?} of media at frame {}",
            pair[1].timestamp / 3000
        );
    }
}

#[test]
fn rtcp_is_never_sealed_twice_under_one_key_ssrc_and_index() {
    let mut show = Show::new(4000);
    for _ in 0..4 {
        show.play(40);
        let record = show.world.kill();
        show.play(5);
        show.world.resume(&record);
    }
    show.play(40);
    let nonces: Vec<(u32, u32)> = show
        .world
        .sent_by_server
        .iter()
        .filter(|bytes| bytes[0] >= 128)
        .map(|bytes| {
            let ssrc = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
            // AES-GCM: the index is the last word; AES-CM: ten bytes of tag follow it.
            (ssrc, u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().unwrap()))
        })
        .collect();
    let distinct: std::collections::BTreeSet<_> = nonces.iter().collect();
    let lives: std::collections::BTreeSet<_> = nonces.iter().map(|(ssrc, _)| ssrc).collect();
    assert!(nonces.len() > 10);
    assert_eq!(distinct.len(), nonces.len());
    assert_eq!(
        lives.len(),
        9,
        "each of five lives has its own for the engine, and four had to ask for packets"
    );
}

#[test]
fn a_resumed_publisher_still_takes_keyframe_requests() {
    let mut show = Show::new(4000);
    show.play(30);
    let record = show.world.kill();
    show.world.resume(&record);
    let ssrc = show.world.tracks[0][1].layers[0].ssrc;
    show.world.server.as_mut().unwrap().request_keyframe(ssrc);
    show.play(5);
    assert_eq!(show.world.keyframe_requests.len(), 1);
}

#[test]
fn a_resumed_session_whose_publisher_is_gone_ends_after_30_seconds() {
    let mut show = Show::new(4000);
    show.play(30);
    let record = show.world.kill();
    show.world.loses = |_| true;
    show.world.run(Duration::from_secs(2));
    show.world.resume(&record);
    show.world.run(Duration::from_secs(31));
    assert_eq!(show.world.closed, Some(CloseReason::ConsentExpired));
}

#[test]
fn a_publisher_that_offered_no_rtx_is_resumed_too() {
    let mut show = Show::with_layers(4000, Vec::new(), |text| {
        let kept = |line: &&str| {
            !line.contains("rtx/90000") && !line.contains("apt=") && !line.contains("ssrc-group:FID")
        };
        text.replace("SAVPF 96 97", "SAVPF 96")
            .lines()
            .filter(kept)
            .map(|line| format!("{line}\r\n"))
            .collect()
    });
    show.play(30);
    let record = show.world.kill();
    show.world.resume(&record);
    let before = show.world.packets.len();
    show.play(30);
    assert!(show.world.packets.len() >= before + 30 * 4 - 4);
}
