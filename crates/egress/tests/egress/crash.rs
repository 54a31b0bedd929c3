//! A process dies at any moment and another goes on from the records it left: no nonce ever serves two packets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Config, Selection, Shard, ViewerId, ViewerRecord};
use media_core::{TreePacket, rtcp};
use model::{Codec, SeqNo, Ssrc};
use proptest::prelude::*;

use crate::harness::{
    Network, Output, Player, Publisher, VIDEO, broadcast_id, capture_start, layers, receiver_report, setup,
    ssrc, stored, telling_arrivals, ticks, transport_feedback,
};

const VIEWERS: u64 = 3;
/// The one of them that tells when packets arrive.
const TELLING: u64 = 1;

/// What is done to the shard.
#[derive(Debug, Clone)]
enum Step {
    /// A frame, of which the packets in the mask are lost.
    Frame { lost: u8 },
    /// What was lost comes after all.
    Repair,
    /// A frame that has waited too long for the thread: it is kept, and not sent.
    Behind,
    /// Sound.
    Sound,
    /// Time passes.
    Wait { millis: u16 },
    /// A viewer asks for packets so far back.
    Nack { viewer: u64, back: u16 },
    /// A viewer's decoder is stuck.
    Pli { viewer: u64 },
    /// A viewer tells when packets arrived, each so much later than the one before.
    Arrivals { millis: u16 },
    /// A viewer reports loss.
    Report { viewer: u64, lost_percent: u8 },
    /// A viewer chooses a layer.
    Select { viewer: u64, layer: Option<u8> },
    /// Another publishing run.
    Epoch { is_vp8: bool },
    /// The publisher's session goes on in another process.
    CountAnew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u8..8).prop_map(|lost| Step::Frame { lost }),
        4 => Just(Step::Repair),
        1 => Just(Step::Behind),
        4 => Just(Step::Sound),
        8 => (0u16..700).prop_map(|millis| Step::Wait { millis }),
        4 => (0..VIEWERS, 0u16..300).prop_map(|(viewer, back)| Step::Nack { viewer, back }),
        2 => (0..VIEWERS).prop_map(|viewer| Step::Pli { viewer }),
        2 => (0u16..60).prop_map(|millis| Step::Arrivals { millis }),
        1 => any::<bool>().prop_map(|is_vp8| Step::Epoch { is_vp8 }),
    ]
}

/// With parts of a stream to choose from.
fn divided_step() -> impl Strategy<Value = Step> {
    prop_oneof![15 => layered_step(), 1 => Just(Step::CountAnew)]
}

/// What the next process has of the media of the one that died.
#[derive(Debug, Clone, Copy)]
enum Ring {
    Lost,
    /// A parent sends it.
    Refilled,
    /// It is kept as it was.
    Kept,
}

/// After how many outputs of a step the process dies, if it does.
fn crash(weight: f64) -> impl Strategy<Value = Option<(usize, Ring)>> {
    let ring = prop_oneof![Just(Ring::Lost), Just(Ring::Refilled), Just(Ring::Kept)];
    proptest::option::weighted(weight, (0usize..5000, ring))
}

/// With layers to choose from.
fn layered_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => step(),
        3 => (0..VIEWERS, 0u8..100)
            .prop_map(|(viewer, lost_percent)| Step::Report { viewer, lost_percent }),
        2 => (0..VIEWERS, proptest::option::of(0u8..4))
            .prop_map(|(viewer, layer)| Step::Select { viewer, layer }),
    ]
}

/// What stands under which nonce, over all processes.
#[derive(Default)]
struct Wire {
    rtp: BTreeMap<(u64, Ssrc, SeqNo), Vec<u8>>,
    rtcp: BTreeMap<(u64, u32), Vec<u8>>,
}

impl Wire {
    fn put(&mut self, player: &mut Player, now: Instant, bytes: Vec<u8>) {
        let before = player.received.len();
        player.receive(now, bytes.clone());
        if rtcp::is_rtcp(&bytes) {
            let index = u32::from_be_bytes(bytes[bytes.len() - 4..].try_into().expect("4 bytes"));
            assert_eq!(self.rtcp.insert((player.id, index), bytes), None, "an SRTCP index twice");
            return;
        }
        let received = &player.received[before];
        let nonce = (player.id, received.ssrc, received.seq_no);
        if let Some(same) = self.rtp.insert(nonce, bytes.clone()) {
            assert!(same == bytes, "two packets under {nonce:?}");
        }
    }
}

/// One stream of two sizes and three frame rates.
fn divided(epoch: u64, started: model::NtpTime) -> Publisher {
    let mut publisher = Publisher::new(Codec::H264, epoch, started).divided(2, 3);
    (publisher.gop, publisher.packets, publisher.switches) = (40, (6, 4), true);
    publisher
}

/// Three small layers whose keyframes come at different times.
fn publishers(epoch: u64, started: model::NtpTime) -> (Publisher, Vec<Publisher>) {
    let mut publishers = layers(epoch, started);
    for layer in &mut publishers {
        (layer.gop, layer.phase) = (40, u64::from(layer.layer) * 13);
        layer.packets = (6 - 2 * u64::from(layer.layer), 3 - u64::from(layer.layer));
    }
    let worse = publishers.split_off(1);
    (publishers.remove(0), worse)
}

struct World {
    now: Instant,
    shard: Shard,
    network: Network,
    publisher: Publisher,
    /// Worse layers beside it.
    worse: Vec<Publisher>,
    is_layered: bool,
    is_divided: bool,
    records: BTreeMap<ViewerId, ViewerRecord>,
    players: Vec<Player>,
    wire: Wire,
    lost: Vec<Arc<TreePacket>>,
    recent: VecDeque<Arc<TreePacket>>,
    sounds: u64,
    start: Instant,
    epochs: u64,
}

impl World {
    fn new() -> Self {
        let mut publisher = Publisher::new(Codec::H264, 1, capture_start());
        publisher.gop = 40;
        Self::with(publisher, Vec::new())
    }

    fn layered() -> Self {
        let (publisher, worse) = publishers(1, capture_start());
        Self { is_layered: true, ..Self::with(publisher, worse) }
    }

    fn divided() -> Self {
        Self { is_divided: true, ..Self::with(divided(1, capture_start()), Vec::new()) }
    }

    fn with(publisher: Publisher, worse: Vec<Publisher>) -> Self {
        let now = Instant::now();
        let mut shard = Shard::new(Config::default());
        shard.broadcast_changed(now, &publisher.broadcast_with(&worse));
        for viewer in 0..VIEWERS {
            let setup = setup(viewer, now);
            let setup = if viewer == TELLING { telling_arrivals(setup) } else { setup };
            shard.add_viewer(now, &broadcast_id(), setup).expect("added");
        }
        let network = Network { keeps_records: true, ..Network::default() };
        Self {
            now,
            shard,
            network,
            publisher,
            worse,
            is_layered: false,
            is_divided: false,
            records: BTreeMap::new(),
            players: (0..VIEWERS).map(Player::new).collect(),
            wire: Wire::default(),
            lost: Vec::new(),
            recent: VecDeque::new(),
            sounds: 0,
            start: now,
            epochs: 1,
        }
    }

    /// The next frame, of all layers.
    fn frame(&mut self) -> Vec<Arc<TreePacket>> {
        let mut frame = self.publisher.frame();
        self.worse.iter_mut().for_each(|layer| frame.extend(layer.frame()));
        self.recent.extend(frame.iter().cloned());
        frame
    }

    fn fall_behind(&mut self) {
        let came_at = self.now.checked_sub(Duration::from_secs(3)).expect("a past");
        for packet in self.frame() {
            self.shard.gather(self.now, came_at, packet);
        }
    }

    fn tell_arrivals(&mut self, step: Duration) {
        let (player, begun) = (&mut self.players[TELLING as usize], ticks(self.now - self.start));
        let recent = player.received.iter().filter_map(|packet| packet.transport).rev().take(60);
        let mut recent: Vec<u16> = recent.collect();
        recent.reverse();
        let arrived: Vec<_> =
            recent.into_iter().zip(0u32..).map(|(seq, index)| (seq, begun + ticks(step) * index)).collect();
        if !arrived.is_empty() {
            let compound = transport_feedback(ssrc(TELLING, VIDEO), 0, &arrived);
            let mut datagram = player.seal(&compound);
            // Refused as a NACK may be.
            let viewer = ViewerId::new(TELLING);
            let _ = self.shard.handle_rtcp(self.now, viewer, &mut datagram, &mut self.network);
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Frame { lost } => {
                let frame = self.frame();
                let is_lost = |index: usize| index < 8 && lost >> index & 1 == 1;
                let (lost, train): (Vec<_>, Vec<_>) =
                    frame.into_iter().enumerate().partition(|(index, _)| is_lost(*index));
                self.lost.extend(lost.into_iter().map(|(_, packet)| packet));
                let train: Vec<_> = train.into_iter().map(|(_, packet)| packet).collect();
                self.now += Duration::from_millis(33);
                self.shard.fan_out(self.now, &train, &mut self.network);
            }
            Step::Repair => {
                let train = std::mem::take(&mut self.lost);
                self.shard.fan_out(self.now, &train, &mut self.network);
            }
            Step::Behind => self.fall_behind(),
            Step::Sound => {
                let packet = self.publisher.sound(self.sounds);
                self.sounds += 1;
                self.shard.fan_out(self.now, &[packet], &mut self.network);
            }
            Step::Wait { millis } => {
                let end = self.now + Duration::from_millis((*millis).into());
                while let Some(at) = self.shard.poll_timeout().filter(|at| *at <= end) {
                    self.now = self.now.max(at);
                    self.shard.handle_timeout(self.now, &mut self.network);
                }
                self.now = end;
            }
            Step::Nack { viewer, back } => {
                let player = &mut self.players[*viewer as usize];
                let Some(last) = player.stream(VIDEO).last().map(|packet| packet.seq_no.seq()) else {
                    return;
                };
                let seqs: Vec<_> = (0..4).map(|index| last.wrapping_sub(*back).wrapping_add(index)).collect();
                let mut nack = player.nack(&seqs);
                // Refused where the record is from before the player's last ones: the window begins anew.
                let _ =
                    self.shard.handle_rtcp(self.now, ViewerId::new(*viewer), &mut nack, &mut self.network);
            }
            Step::Pli { viewer } => {
                let mut pli = self.players[*viewer as usize].pli();
                let _ = self.shard.handle_rtcp(self.now, ViewerId::new(*viewer), &mut pli, &mut self.network);
            }
            Step::Arrivals { millis } => self.tell_arrivals(Duration::from_millis((*millis).into())),
            Step::Report { viewer, lost_percent } => {
                let player = &mut self.players[*viewer as usize];
                let Some(last) = player.stream(VIDEO).last().map(|packet| packet.seq_no.get()) else {
                    return;
                };
                let fraction_lost = (u32::from(*lost_percent) * 256 / 100) as u8;
                let lost = (last * u64::from(*lost_percent) / 100) as i32;
                let compound = receiver_report(ssrc(*viewer, VIDEO), (fraction_lost, lost), last as u32);
                let mut report = player.seal(&compound);
                let id = ViewerId::new(*viewer);
                let _ = self.shard.handle_rtcp(self.now, id, &mut report, &mut self.network);
            }
            Step::Select { viewer, layer } => {
                let selection = layer.map_or(Selection::Auto, Selection::Layer);
                self.shard.select_layer(self.now, ViewerId::new(*viewer), selection);
            }
            Step::Epoch { is_vp8 } => {
                self.epochs += 1;
                let codec = if *is_vp8 { Codec::Vp8 } else { Codec::H264 };
                let captured = capture_start().plus(self.now - self.start);
                self.publisher = Publisher::new(codec, self.epochs, captured);
                self.publisher.gop = 40;
                self.worse.clear();
                if self.is_layered && !is_vp8 {
                    (self.publisher, self.worse) = publishers(self.epochs, captured);
                }
                if self.is_divided && !is_vp8 {
                    self.publisher = divided(self.epochs, captured);
                }
                (self.sounds, self.lost, self.recent) = (0, Vec::new(), VecDeque::new());
                self.shard.broadcast_changed(self.now, &self.broadcast());
            }
            Step::CountAnew => self.publisher.count_anew(),
        }
    }

    fn broadcast(&self) -> model::Broadcast {
        self.publisher.broadcast_with(&self.worse)
    }

    /// Lets the first `count` of what the shard put out happen.
    fn happen(&mut self, count: usize) {
        let mut output = std::mem::take(&mut self.network.output);
        output.truncate(count);
        self.records.extend(stored(&output));
        for output in output {
            if let Output::Datagram(path, bytes) = output {
                let player =
                    self.players.iter_mut().find(|player| crate::harness::remote(player.id) == path.remote);
                self.wire.put(player.expect("a viewer"), self.now, bytes);
            }
        }
    }

    /// Begins, and goes through steps and the crashes after them.
    fn play(&mut self, steps: &[(Step, Option<(usize, Ring)>)]) {
        self.shard.handle_timeout(self.now, &mut self.network);
        self.happen(usize::MAX);
        for (step, crash) in steps {
            self.run(step);
            if let Some((count, ring)) = crash {
                self.crash(*count, *ring);
            }
            self.happen(usize::MAX);
        }
    }

    /// The process dies after `count` outputs of its last step; the next one has the records.
    fn crash(&mut self, count: usize, ring: Ring) {
        let count = count % (self.network.output.len() + 1);
        self.happen(count);
        self.shard = Shard::new(Config::default());
        self.now += Duration::from_millis(400);
        self.shard.broadcast_changed(self.now, &self.broadcast());
        for record in self.records.values() {
            self.shard.resume_viewer(self.now, record.clone()).expect("resumed");
        }
        match ring {
            Ring::Lost => {}
            Ring::Refilled => {
                self.shard.fan_out(self.now, self.recent.make_contiguous(), &mut self.network);
            }
            Ring::Kept => self.shard.restore(self.now, self.recent.make_contiguous()),
        }
    }

    /// The process leaves to the next one, with its ring.
    fn hand_over(&mut self) {
        self.shard.hand_over(self.now, &mut self.network);
        self.happen(usize::MAX);
        self.shard = Shard::new(Config::default());
        self.shard.broadcast_changed(self.now, &self.broadcast());
        for record in self.records.values() {
            self.shard.resume_viewer(self.now, record.clone()).expect("resumed");
        }
        self.shard.restore(self.now, self.recent.make_contiguous());
    }
}

#[test]
fn who_is_handed_over_misses_nothing_and_gets_nothing_twice() {
    let mut world = World::new();
    world.shard.handle_timeout(world.now, &mut world.network);
    for frame in 0..150 {
        world.run(&Step::Frame { lost: 0 });
        world.run(&Step::Sound);
        world.happen(usize::MAX);
        if frame % 37 == 36 {
            world.hand_over();
        }
    }
    for player in &world.players {
        let video = player.stream(VIDEO);
        assert!(
            video.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)),
            "no number is skipped"
        );
        assert!(video.windows(2).all(|pair| pair[1].source() == pair[0].source() + 1), "no packet is");
        assert_eq!(video.len(), world.recent.len());
    }
}

#[test]
fn what_was_handed_over_repairs_and_starts_viewers() {
    let mut world = World::new();
    world.shard.handle_timeout(world.now, &mut world.network);
    (0..20).for_each(|_| world.run(&Step::Frame { lost: 0 }));
    world.shard.add_viewer(world.now, &broadcast_id(), setup(VIEWERS, world.now)).expect("added");
    world.players.push(Player::new(VIEWERS));
    world.hand_over();
    world.run(&Step::Wait { millis: 5 });
    world.happen(usize::MAX);
    let first = world.players[VIEWERS as usize].stream(VIDEO).first().map(|packet| packet.source());
    assert_eq!(
        first,
        world.recent.front().map(|packet| packet.seq_no.get()),
        "its keyframe was published before"
    );
    let before = world.players[0].received.len();
    world.run(&Step::Nack { viewer: 0, back: 10 });
    world.happen(usize::MAX);
    assert_eq!(world.players[0].received.len(), before + 4, "the process before had sent them");
}

#[test]
fn who_is_handed_over_in_the_middle_of_a_replay_misses_nothing() {
    let mut world = World::new();
    world.publisher.gop = 240;
    world.shard.handle_timeout(world.now, &mut world.network);
    (0..120).for_each(|_| world.run(&Step::Frame { lost: 0 }));
    let late = VIEWERS..VIEWERS + 3;
    for viewer in late.clone() {
        world.shard.add_viewer(world.now, &broadcast_id(), setup(viewer, world.now)).expect("added");
        world.players.push(Player::new(viewer));
        (0..3).for_each(|_| world.run(&Step::Frame { lost: 0 }));
        world.run(&Step::Wait { millis: 30 });
    }
    world.happen(usize::MAX);
    for _ in 0..2 {
        world.hand_over();
        for _ in 0..10 {
            world.run(&Step::Wait { millis: 0 });
            world.run(&Step::Frame { lost: 0 });
        }
        world.happen(usize::MAX);
    }
    for _ in 0..60 {
        world.run(&Step::Wait { millis: 0 });
        world.run(&Step::Frame { lost: 0 });
    }
    world.happen(usize::MAX);
    let published: Vec<u64> = world.recent.iter().map(|packet| packet.seq_no.get()).collect();
    for viewer in late {
        let video = world.players[viewer as usize].stream(VIDEO);
        assert!(
            video.windows(2).all(|pair| pair[1].seq_no == pair[0].seq_no.plus(1)),
            "viewer {viewer}: no number is skipped"
        );
        let received: Vec<u64> = video.iter().map(|packet| packet.source()).collect();
        assert_eq!(received, published, "viewer {viewer}: all packets, each once");
    }
}

/// Eight processes of the publisher within a few packets, and hardly a keyframe to begin again with.
#[test]
fn counts_of_many_processes_are_told_apart() {
    let mut world = World::divided();
    let none_lost = Step::Frame { lost: 0 };
    let before = [&none_lost, &none_lost, &Step::CountAnew, &Step::Select { viewer: 1, layer: Some(1) }];
    let until_its_part = [&none_lost, &Step::Wait { millis: 0 }, &Step::Frame { lost: 2 }, &none_lost];
    let processes = [&Step::CountAnew; 5].into_iter().chain([&none_lost, &Step::CountAnew].repeat(2));
    let last = [&none_lost, &none_lost, &Step::CountAnew, &none_lost, &none_lost];
    let steps = before.into_iter().chain(until_its_part).chain(processes).chain(last);
    let steps: Vec<_> = steps.map(|step| (step.clone(), None)).collect();
    world.play(&steps);
    world.crash(0, Ring::Kept);
    (0..130).for_each(|_| world.run(&none_lost));
    world.happen(usize::MAX);
}

#[test]
fn two_crashes_in_a_row_hold_nothing_back() {
    let mut world = World::new();
    world.shard.handle_timeout(world.now, &mut world.network);
    (0..4).for_each(|_| world.run(&Step::Frame { lost: 0 }));
    for _ in 0..3 {
        world.crash(usize::MAX - 1, Ring::Lost);
        world.run(&Step::Wait { millis: 5 });
        world.happen(usize::MAX);
    }
    for _ in 0..4 {
        world.run(&Step::Frame { lost: 0 });
        world.happen(usize::MAX);
        let newest = world.recent.back().map(|packet| packet.seq_no.get());
        for player in &world.players {
            assert_eq!(player.stream(VIDEO).last().map(|packet| packet.source()), newest);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_nonce_serves_two_packets_over_all_crash_points(
        steps in proptest::collection::vec((step(), crash(0.08)), 1..220),
    ) {
        let mut world = World::new();
        world.play(&steps);
        // And everybody still watches, whatever happened.
        for _ in 0..90 {
            world.run(&Step::Frame { lost: 0 });
            world.run(&Step::Wait { millis: 0 });
            world.happen(usize::MAX);
        }
        for player in &world.players {
            let last = player.stream(VIDEO).last().map(|packet| (packet.at, packet.source()));
            let newest = world.recent.back().map(|packet| (world.now, packet.seq_no.get()));
            prop_assert_eq!(last, newest, "viewer {}", player.id);
            let known = [1, 2, 3].map(|stream| ssrc(player.id, stream));
            prop_assert!(player.received.iter().all(|packet| known.contains(&packet.ssrc)));
        }
    }

    #[test]
    fn no_nonce_serves_two_packets_whatever_parts_are_chosen(
        steps in proptest::collection::vec((divided_step(), crash(0.05)), 1..220),
    ) {
        let mut world = World::divided();
        world.play(&steps);
        // A process that was behind may leave layers out for minutes; the next one knows nothing of that.
        world.crash(0, Ring::Kept);
        for viewer in 0..VIEWERS {
            world.run(&Step::Select { viewer, layer: Some(viewer as u8) });
        }
        for _ in 0..130 {
            world.run(&Step::Frame { lost: 0 });
            world.run(&Step::Wait { millis: 0 });
            world.happen(usize::MAX);
        }
        // Everybody has the newest of what it chose, and nothing else.
        for player in &world.players {
            let point = if world.publisher.parts.is_some() { player.id as u8 } else { 0 };
            let is_wanted = |packet: &&Arc<TreePacket>| packet.svc.is_none_or(|svc| svc.needs(point));
            let wanted: Vec<u64> = world.recent.iter().filter(is_wanted).map(|packet| packet.seq_no.get()).collect();
            let got: Vec<u64> = player.stream(VIDEO).iter().map(|packet| packet.source()).collect();
            prop_assert!(
                got.ends_with(&wanted[wanted.len() - 20..]),
                "viewer {}: got {:?}, wanted {:?}",
                player.id,
                &got[got.len().saturating_sub(20)..],
                &wanted[wanted.len() - 20..]
            );
        }
    }

    #[test]
    fn no_nonce_serves_two_packets_whatever_layers_are_chosen(
        steps in proptest::collection::vec(
            (layered_step(), crash(0.05)), 1..220,
        ),
    ) {
        let mut world = World::layered();
        world.play(&steps);
        // A process that was behind may leave layers out for minutes; the next one knows nothing of that.
        world.hand_over();
        for viewer in 0..VIEWERS {
            world.run(&Step::Select { viewer, layer: Some(viewer as u8) });
        }
        for _ in 0..90 {
            world.run(&Step::Frame { lost: 0 });
            world.run(&Step::Wait { millis: 0 });
            world.happen(usize::MAX);
        }
        // Everybody has what it chose, and never two layers in one frame; who dies in the middle of a switch may begin it again
        // where it began.
        let has_crashed = steps.iter().any(|(_, crash)| crash.is_some());
        for player in &world.players {
            let video = player.stream(VIDEO);
            let chosen = (player.id as u8).min(world.worse.len() as u8);
            let last = video.last().map(|packet| (packet.at, packet.layer()));
            prop_assert_eq!(last, Some((world.now, chosen)), "viewer {}", player.id);
            let mut layers = BTreeMap::new();
            for packet in video {
                let layer = *layers.entry(packet.timestamp).or_insert(packet.layer());
                prop_assert!(has_crashed || layer == packet.layer(), "two layers with one timestamp");
            }
        }
    }
}
