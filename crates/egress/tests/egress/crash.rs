//! A process dies at any moment and another goes on from the records it left: no nonce ever serves two packets.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Config, Shard, ViewerId, ViewerRecord};
use media_core::{TreePacket, rtcp};
use model::{Codec, SeqNo, Ssrc};
use proptest::prelude::*;

use crate::harness::{
    Network, Output, Player, Publisher, VIDEO, broadcast_id, capture_start, setup, ssrc, stored,
};

const VIEWERS: u64 = 3;

/// What is done to the shard.
#[derive(Debug, Clone)]
enum Step {
    /// A frame, of which the packets in the mask are lost.
    Frame { lost: u8 },
    /// What was lost comes after all.
    Repair,
    /// Sound.
    Sound,
    /// Time passes.
    Wait { millis: u16 },
    /// A viewer asks for packets so far back.
    Nack { viewer: u64, back: u16 },
    /// A viewer's decoder is stuck.
    Pli { viewer: u64 },
    /// Another publishing run.
    Epoch { is_vp8: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u8..8).prop_map(|lost| Step::Frame { lost }),
        4 => Just(Step::Repair),
        4 => Just(Step::Sound),
        8 => (0u16..700).prop_map(|millis| Step::Wait { millis }),
        4 => (0..VIEWERS, 0u16..300).prop_map(|(viewer, back)| Step::Nack { viewer, back }),
        2 => (0..VIEWERS).prop_map(|viewer| Step::Pli { viewer }),
        1 => any::<bool>().prop_map(|is_vp8| Step::Epoch { is_vp8 }),
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

struct World {
    now: Instant,
    shard: Shard,
    network: Network,
    publisher: Publisher,
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
        let now = Instant::now();
        let mut publisher = Publisher::new(Codec::H264, 1, capture_start());
        publisher.gop = 40;
        let mut shard = Shard::new(Config::default());
        shard.broadcast_changed(now, &publisher.broadcast());
        for viewer in 0..VIEWERS {
            shard.add_viewer(now, &broadcast_id(), setup(viewer, now)).expect("added");
        }
        let network = Network { keeps_records: true, ..Network::default() };
        Self {
            now,
            shard,
            network,
            publisher,
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

    fn run(&mut self, step: &Step) {
        match step {
            Step::Frame { lost } => {
                let frame = self.publisher.frame();
                self.recent.extend(frame.iter().cloned());
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
            Step::Epoch { is_vp8 } => {
                self.epochs += 1;
                let codec = if *is_vp8 { Codec::Vp8 } else { Codec::H264 };
                let captured = capture_start().plus(self.now - self.start);
                self.publisher = Publisher::new(codec, self.epochs, captured);
                self.publisher.gop = 40;
                (self.sounds, self.lost, self.recent) = (0, Vec::new(), VecDeque::new());
                self.shard.broadcast_changed(self.now, &self.publisher.broadcast());
            }
        }
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

    /// The process dies after `count` outputs of its last step; the next one has the records, and perhaps the parent's
    /// ring.
    fn crash(&mut self, count: usize, is_refilled: bool) {
        let count = count % (self.network.output.len() + 1);
        self.happen(count);
        self.shard = Shard::new(Config::default());
        self.now += Duration::from_millis(400);
        self.shard.broadcast_changed(self.now, &self.publisher.broadcast());
        for record in self.records.values() {
            self.shard.resume_viewer(self.now, record.clone()).expect("resumed");
        }
        if is_refilled {
            let train: Vec<_> = self.recent.iter().cloned().collect();
            self.shard.fan_out(self.now, &train, &mut self.network);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_nonce_serves_two_packets_over_all_crash_points(
        steps in proptest::collection::vec((step(), proptest::option::weighted(0.08, (0usize..5000, any::<bool>()))), 1..220),
    ) {
        let mut world = World::new();
        world.shard.handle_timeout(world.now, &mut world.network);
        world.happen(usize::MAX);
        for (step, crash) in &steps {
            world.run(step);
            if let Some((count, is_refilled)) = crash {
                world.crash(*count, *is_refilled);
            }
            world.happen(usize::MAX);
        }
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
}
