//! A complete WebRTC stack (str0m) behind the same boundary as the shard, as its oracle: what a viewer receives of the
//! same tree packets must be the same.
//!
//! Both serve a peer that is a str0m of its own, with real ICE, DTLS and SRTP over a network in memory, under one
//! virtual clock.

mod both;
#[path = "../egress/publisher.rs"]
#[allow(dead_code, reason = "shared with the tests at the boundary, which use all of it")]
mod publisher;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use both::{
    Egress, Oracle, OurEgress, VIEWER, audio_mid, connect, describe, egress_address, give, out_ssrc, rtc,
    video_mid, viewer_address,
};
use egress::DropReason;
use ice_dtls::{Datagram, classify};
use media_core::TreePacket;
use model::{Broadcast, Codec};
use publisher::{AUDIO, Publisher, RTX, VIDEO, capture_start, ssrc};
use str0m::rtp::{ExtensionValues, RtpPacket};
use str0m::{Event, Input, Output, Rtc};

const STEP: Duration = Duration::from_millis(5);

/// A viewer at the other end of an egress, and the network between them.
struct Scene<E> {
    now: Instant,
    viewer: Rtc,
    egress: E,
    is_connected: bool,
    /// Which packets of picture the network loses, counted from the first one.
    lost: BTreeSet<u16>,
    first_video: Option<u16>,
    dropped: usize,
    received: Vec<RtpPacket>,
    reports: usize,
}

impl<E: Egress> Scene<E> {
    fn new(now: Instant, lost: BTreeSet<u16>) -> Self {
        let mut viewer = rtc(now, true);
        let mut egress = E::new(now, &describe(&mut viewer));
        let answer = egress.description();
        connect(&mut viewer, &answer, true);
        let mut api = viewer.direct_api();
        api.enable_twcc_feedback();
        api.expect_stream_rx(out_ssrc(AUDIO), None, audio_mid(), None).suppress_nack(true);
        api.expect_stream_rx(out_ssrc(VIDEO), Some(out_ssrc(RTX)), video_mid(), None);
        Self {
            now,
            viewer,
            egress,
            is_connected: false,
            lost,
            first_video: None,
            dropped: 0,
            received: Vec::new(),
            reports: 0,
        }
    }

    /// Whether the network loses this datagram; each packet at most once.
    fn loses(&mut self, datagram: &[u8]) -> bool {
        let is_video =
            classify(datagram) == Datagram::Rtp && datagram[8..12] == ssrc(VIEWER, VIDEO).get().to_be_bytes();
        let seq = u16::from_be_bytes([datagram[2], datagram[3]]);
        let is_lost = is_video && self.lost.remove(&seq.wrapping_sub(*self.first_video.get_or_insert(seq)));
        self.dropped += usize::from(is_lost);
        is_lost
    }

    fn drain_viewer(&mut self) {
        loop {
            match self.viewer.poll_output().expect("str0m goes on") {
                Output::Transmit(transmit) => self.egress.handle_datagram(self.now, &transmit.contents),
                Output::Event(Event::Connected) => self.is_connected = true,
                Output::Event(Event::RtpPacket(packet)) => {
                    self.reports += usize::from(packet.last_sender_info.is_some());
                    self.received.push(packet);
                }
                Output::Event(_) => {}
                Output::Timeout(_) => return,
            }
        }
    }

    /// Delivers everything that is under way.
    fn settle(&mut self) {
        self.drain_viewer();
        while let Some(datagram) = self.egress.poll_datagram() {
            if !self.loses(&datagram) {
                give(&mut self.viewer, self.now, (egress_address(), viewer_address()), &datagram);
                self.drain_viewer();
            }
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        self.viewer.handle_input(Input::Timeout(self.now)).expect("str0m goes on");
        self.settle();
        self.egress.handle_timeout(self.now);
        self.settle();
    }

    /// Connects, plays the script, and lets repairs end; gives what the viewer received.
    fn play(mut self, script: &[(Duration, Act)]) -> Self {
        let mut steps = 0;
        while !self.is_connected {
            self.step();
            steps += 1;
            assert!(steps < 2000, "the viewer does not connect");
        }
        let start = self.now;
        for (at, act) in script {
            while self.now < start + *at {
                self.step();
            }
            match act {
                Act::Change(broadcast) => self.egress.broadcast_changed(self.now, broadcast),
                Act::Train(train) => self.egress.fan_out(self.now, train),
            }
            self.settle();
        }
        (0..200).for_each(|_| self.step());
        self
    }

    /// What came of one track: in order of arrival, by distance from the track's first packet.
    fn track(&self, stream: u32) -> Vec<(u64, &RtpPacket)> {
        let of_stream = |packet: &&RtpPacket| packet.header.ssrc == out_ssrc(stream);
        let packets: Vec<_> = self.received.iter().filter(of_stream).collect();
        let first = packets.iter().map(|packet| *packet.seq_no).min().expect("packets came");
        packets.into_iter().map(|packet| (*packet.seq_no - first, packet)).collect()
    }
}

/// What happens in the tree.
enum Act {
    Change(Broadcast),
    Train(Vec<Arc<TreePacket>>),
}

/// Two publishing runs of three seconds, H264 and then VP8, with sound. Of the first one a packet is lost in the tree and
/// another comes 100 ms late. Gives the number of different packets too.
fn script() -> (Vec<(Duration, Act)>, usize) {
    let mut acts = Vec::new();
    let mut packets = 0;
    for (epoch, codec) in [(1, Codec::H264), (2, Codec::Vp8)] {
        let begin = Duration::from_secs(4) * (epoch as u32 - 1) + Duration::from_millis(500);
        let mut publisher = Publisher::new(codec, epoch, capture_start().plus(begin));
        acts.push((begin, Act::Change(publisher.broadcast())));
        for sound in 0..150 {
            acts.push((begin + Duration::from_millis(20 * sound), Act::Train(vec![publisher.sound(sound)])));
            packets += 1;
        }
        while publisher.next_at() < Duration::from_secs(3) {
            let at = begin + publisher.next_at();
            let mut frame = publisher.frame();
            let is_damaged = epoch == 1 && publisher.next_at().as_millis() / 10 == 110;
            packets += frame.len();
            if is_damaged {
                // The last but one is lost, the one before it late.
                frame.remove(1);
                packets -= 1;
                acts.push((at + Duration::from_millis(100), Act::Train(vec![frame.remove(0)])));
            }
            acts.push((at, Act::Train(frame)));
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    (acts, packets)
}

fn without(packets: &[(u64, &RtpPacket)], repaired: &BTreeSet<u16>) -> Vec<u64> {
    let seq_nos = packets.iter().map(|(seq_no, _)| *seq_no);
    seq_nos.filter(|seq_no| !repaired.contains(&(*seq_no as u16))).collect()
}

/// Compares one track; gives how many packets it has.
fn compare(stream: u32, lost: &BTreeSet<u16>, ours: &Scene<OurEgress>, oracle: &Scene<Oracle>) -> usize {
    let [mut ours, mut oracle] = [ours.track(stream), oracle.track(stream)];
    // When a repair comes depends on when the viewer asks; everything else comes in one order.
    assert_eq!(without(&ours, lost), without(&oracle, lost), "order of arrival, gaps");
    ours.sort_by_key(|(seq_no, _)| *seq_no);
    oracle.sort_by_key(|(seq_no, _)| *seq_no);
    let (ours_first, oracle_first) = (ours[0].1.header.timestamp, oracle[0].1.header.timestamp);
    let seq_nos =
        |packets: &[(u64, &RtpPacket)]| packets.iter().map(|(seq_no, _)| *seq_no).collect::<Vec<_>>();
    assert_eq!(seq_nos(&ours), seq_nos(&oracle), "repaired");
    for ((seq_no, ours), (_, oracle)) in ours.iter().zip(&oracle) {
        assert_eq!(ours.payload, oracle.payload, "{seq_no}");
        assert_eq!(ours.header.marker, oracle.header.marker, "{seq_no}");
        assert_eq!(ours.header.payload_type, oracle.header.payload_type, "{seq_no}");
        let [ours_time, oracle_time] = [
            ours.header.timestamp.wrapping_sub(ours_first),
            oracle.header.timestamp.wrapping_sub(oracle_first),
        ];
        // A new publishing run begins where capture times say: one tick for each rounding.
        assert!(ours_time.abs_diff(oracle_time) <= 2, "{seq_no}: timestamps {ours_time} and {oracle_time}");
        let [ours, oracle] = [&ours.header.ext_vals, &oracle.header.ext_vals];
        assert_eq!(ours.audio_level, oracle.audio_level, "{seq_no}");
        assert_eq!(ours.voice_activity, oracle.voice_activity, "{seq_no}");
        assert_eq!(ours.video_orientation, oracle.video_orientation, "{seq_no}");
        let captured = |values: &ExtensionValues| values.abs_capture_time.map(|time| time.capture_time);
        let [ours, oracle] = [captured(ours), captured(oracle)].map(|time| time.expect("a time of capture"));
        let apart = ours.duration_since(oracle).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_micros(1), "{seq_no}: captured {ours:?} and {oracle:?}");
    }
    ours.len()
}

#[test]
fn a_viewer_receives_what_a_complete_stack_would_send_it() {
    // Of a keyframe its start and a packet, then a burst, the last packet of a frame, and one of the second run.
    let lost = BTreeSet::from([3, 90, 91, 92, 93, 150, 201, 400]);
    let now = Instant::now();
    let (script, published) = script();
    let ours = Scene::<OurEgress>::new(now, lost.clone()).play(&script);
    let oracle = Scene::<Oracle>::new(now, lost.clone()).play(&script);
    for (dropped, left) in [(ours.dropped, &ours.lost), (oracle.dropped, &oracle.lost)] {
        assert_eq!((dropped, left.len()), (lost.len(), 0), "the network lost what it should");
    }
    let video = compare(VIDEO, &lost, &ours, &oracle);
    let audio = compare(AUDIO, &BTreeSet::new(), &ours, &oracle);
    assert_eq!(video + audio, published, "everything that was published came, lost packets again");
    let video_track = ours.track(VIDEO);
    assert!(!without(&video_track, &lost).is_sorted(), "what the tree repaired came late");
    let newest = video_track.iter().map(|(seq_no, _)| *seq_no).max().expect("packets came");
    assert_eq!(newest as usize + 1 - video, 1, "what the tree lost is a gap");
    assert!(ours.reports > 0 && oracle.reports > 0, "sender reports came");
    let stats = ours.egress.stats();
    assert!(stats.transport_feedback > 50, "{stats:?}");
    assert_eq!(stats.drops(DropReason::RtcpMalformed), 0, "what a complete stack writes is read");
    println!(
        "{video} packets of picture and {audio} of sound compared, {} of them repaired by NACK and RTX on both sides",
        lost.len()
    );
}
