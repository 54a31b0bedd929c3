//! A network that notes everything, players that open what they get, and one clock for all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egress::{Config, Event, Path, RecordChange, SendBatch, Shard, ViewerId, ViewerRecord, ViewerSetup};
use media_core::TreePacket;
use media_core::rtcp::{self, ReportBlock};
use media_core::rtp::Packet;
use model::{Codec, SeqNo, Ssrc};
use srtp::{Profile, RtcpIndex, RtcpKey, RtpKey};

pub use crate::publisher::*;

/// What left a shard, in order.
pub enum Output {
    Datagram(Path, Vec<u8>),
    Record(ViewerId, RecordChange),
}

/// Takes everything down.
#[derive(Default)]
pub struct Network {
    pub keeps_records: bool,
    pub output: Vec<Output>,
}

impl SendBatch for Network {
    fn datagram(&mut self, path: &Path, len_max: usize, fill: impl FnOnce(&mut [u8]) -> usize) {
        let mut bytes = vec![0xee; len_max];
        let length = fill(&mut bytes);
        bytes.truncate(length);
        self.output.push(Output::Datagram(*path, bytes));
    }

    fn keeps_records(&self) -> bool {
        self.keeps_records
    }

    fn record(&mut self, viewer: ViewerId, change: RecordChange) {
        self.output.push(Output::Record(viewer, change));
    }
}

impl Network {
    /// All datagrams to a viewer since the last time, of everybody; records are forgotten.
    pub fn take(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let datagrams = std::mem::take(&mut self.output).into_iter().filter_map(|output| match output {
            Output::Datagram(path, bytes) => Some((path.remote, bytes)),
            Output::Record(..) => None,
        });
        datagrams.collect()
    }
}

/// A packet as a player got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub ssrc: Ssrc,
    pub seq_no: SeqNo,
    pub timestamp: u32,
    pub marker: bool,
    pub payload_type: u8,
    pub capture_time: Option<u64>,
    /// Its transport-wide number.
    pub transport: Option<u16>,
    pub payload: Vec<u8>,
    pub at: Instant,
}

impl Received {
    /// The tree's sequence number, which the publisher wrote into the payload.
    pub fn source(&self) -> u64 {
        u64::from_be_bytes(self.payload[..8].try_into().expect("8 bytes"))
    }

    /// The layer, which stands behind it.
    pub fn layer(&self) -> u8 {
        self.payload[8]
    }
}

/// The length of an RTP header, extension included; its payload may be sealed.
fn header_len(bytes: &[u8]) -> usize {
    match bytes[0] & 0x10 {
        0 => 12,
        _ => 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) * 4,
    }
}

/// One viewer's end.
pub struct Player {
    pub id: u64,
    rtp: RtpKey,
    rtcp: RtcpKey,
    rtcp_send: RtcpKey,
    next_index: RtcpIndex,
    highest: BTreeMap<Ssrc, SeqNo>,
    /// RTP in the order of arrival.
    pub received: Vec<Received>,
    /// Compound RTCP in the clear, in the order of arrival.
    pub reports: Vec<(Instant, Vec<u8>)>,
}

impl Player {
    pub fn new(id: u64) -> Self {
        let (send, receive) = keys(id);
        Self {
            id,
            rtp: RtpKey::derive(&send).expect("a key"),
            rtcp: RtcpKey::derive(&send).expect("a key"),
            rtcp_send: RtcpKey::derive(&receive).expect("a key"),
            next_index: RtcpIndex::ZERO,
            highest: BTreeMap::new(),
            received: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// The extended sequence number that a header field means.
    fn seq_no(&mut self, ssrc: Ssrc, seq: u16) -> SeqNo {
        let highest = self.highest.entry(ssrc).or_insert(SeqNo::from_parts(0, seq));
        let seq_no = highest.nearest(seq);
        *highest = seq_no.max(*highest);
        seq_no
    }

    /// Opens a datagram, or panics: nothing that is not authentic may ever come.
    pub fn receive(&mut self, now: Instant, mut bytes: Vec<u8>) {
        if rtcp::is_rtcp(&bytes) {
            let (length, _) = self.rtcp.open_in_place(&mut bytes).expect("authentic SRTCP");
            bytes.truncate(length);
            self.reports.push((now, bytes));
            return;
        }
        let header_len = header_len(&bytes);
        let ssrc = Ssrc::new(u32::from_be_bytes(bytes[8..12].try_into().expect("4 bytes")));
        let seq_no = self.seq_no(ssrc, u16::from_be_bytes([bytes[2], bytes[3]]));
        let length = self.rtp.open_in_place(&mut bytes, header_len, seq_no).expect("authentic SRTP");
        let packet = Packet::parse(&bytes[..length]).expect("RTP");
        self.received.push(Received {
            ssrc,
            seq_no,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload_type: packet.payload_type,
            capture_time: packet
                .extension(2)
                .map(|bytes| u64::from_be_bytes(bytes.try_into().expect("8 bytes"))),
            transport: packet
                .extension(TRANSPORT_ID)
                .map(|bytes| u16::from_be_bytes(bytes.try_into().expect("2 bytes"))),
            payload: packet.payload.to_vec(),
            at: now,
        });
    }

    /// What came of one stream, in the order of arrival.
    pub fn stream(&self, stream: u32) -> Vec<&Received> {
        let ssrc = ssrc(self.id, stream);
        self.received.iter().filter(|received| received.ssrc == ssrc).collect()
    }

    /// Seals a compound packet to the shard.
    pub fn seal(&mut self, compound: &[u8]) -> Vec<u8> {
        let mut bytes = compound.to_vec();
        bytes.resize(compound.len() + Profile::AeadAes128Gcm.rtcp_overhead(), 0);
        self.rtcp_send.seal_in_place(&mut bytes, compound.len(), self.next_index).expect("sealed");
        self.next_index = self.next_index.next().expect("an index");
        bytes
    }

    pub fn nack(&mut self, seqs: &[u16]) -> Vec<u8> {
        let mut compound = Vec::new();
        let media = ssrc(self.id, VIDEO);
        rtcp::write::nack(&mut compound, Ssrc::new(1), media, seqs.iter().copied());
        self.seal(&compound)
    }

    pub fn pli(&mut self) -> Vec<u8> {
        let mut compound = Vec::new();
        rtcp::write::picture_loss_indication(&mut compound, Ssrc::new(1), ssrc(self.id, VIDEO));
        self.seal(&compound)
    }
}

/// A shard with one broadcast and its players, under one clock.
pub struct Scene {
    pub start: Instant,
    pub now: Instant,
    pub shard: Shard,
    pub network: Network,
    pub publisher: Publisher,
    /// Worse layers beside it.
    pub worse: Vec<Publisher>,
    pub published_at: Instant,
    pub players: BTreeMap<u64, Player>,
    pub events: Vec<(Instant, Event)>,
    sounds: u64,
}

impl Scene {
    pub fn new(config: Config) -> Self {
        Self::with(config, Publisher::new(Codec::H264, 1, capture_start()))
    }

    pub fn with(config: Config, publisher: Publisher) -> Self {
        let now = Instant::now();
        let mut shard = Shard::new(config);
        shard.broadcast_changed(now, &publisher.broadcast());
        Self {
            start: now,
            now,
            shard,
            network: Network::default(),
            publisher,
            worse: Vec::new(),
            published_at: now,
            players: BTreeMap::new(),
            events: Vec::new(),
            sounds: 0,
        }
    }

    /// With three layers.
    pub fn layered(config: Config) -> Self {
        let mut layers = layers(1, capture_start()).into_iter();
        let mut scene = Self::with(config, layers.next().expect("a layer"));
        scene.worse = layers.collect();
        scene.shard.broadcast_changed(scene.now, &scene.broadcast());
        scene
    }

    pub fn broadcast(&self) -> model::Broadcast {
        self.publisher.broadcast_with(&self.worse)
    }

    pub fn join(&mut self, viewer: u64) {
        self.join_as(setup(viewer, self.now));
    }

    pub fn join_as(&mut self, setup: ViewerSetup) {
        let viewer = setup.id.get();
        self.shard.add_viewer(self.now, &broadcast_id(), setup).expect("added");
        self.players.insert(viewer, Player::new(viewer));
        self.timeout();
    }

    pub fn player(&self, viewer: u64) -> &Player {
        &self.players[&viewer]
    }

    pub fn player_mut(&mut self, viewer: u64) -> &mut Player {
        self.players.get_mut(&viewer).expect("joined")
    }

    pub fn timeout(&mut self) {
        self.shard.handle_timeout(self.now, &mut self.network);
        self.deliver();
    }

    pub fn fan_out(&mut self, train: &[Arc<TreePacket>]) {
        self.shard.fan_out(self.now, train, &mut self.network);
        self.deliver();
    }

    pub fn rtcp(&mut self, viewer: u64, mut datagram: Vec<u8>) {
        let viewer = ViewerId::new(viewer);
        self.shard.handle_rtcp(self.now, viewer, &mut datagram, &mut self.network).expect("taken");
        self.deliver();
    }

    /// Publishes frames and sound for `length`, with every timer of the shard at its time.
    pub fn play(&mut self, length: Duration) {
        self.play_with(length, |_| true);
    }

    /// As [`Scene::play`], but only packets that `passes` reach the shard.
    pub fn play_with(&mut self, length: Duration, mut passes: impl FnMut(&TreePacket) -> bool) {
        let end = self.now + length;
        loop {
            let frame_at = self.published_at + self.publisher.next_at();
            let sound_at = self.published_at + Duration::from_millis(self.sounds * 20);
            let timer_at = self.shard.poll_timeout().unwrap_or(end).max(self.now);
            let next = frame_at.min(sound_at).min(timer_at);
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if timer_at <= self.now {
                self.timeout();
            }
            let mut train = Vec::new();
            if frame_at <= self.now {
                train.extend(self.publisher.frame());
                self.worse.iter_mut().for_each(|layer| train.extend(layer.frame()));
            }
            if sound_at <= self.now {
                train.push(self.publisher.sound(self.sounds));
                self.sounds += 1;
            }
            train.retain(|packet| passes(packet));
            if !train.is_empty() {
                self.fan_out(&train);
            }
        }
        self.now = end;
    }

    /// Lets time pass without media.
    pub fn pause(&mut self, length: Duration) {
        let end = self.now + length;
        while let Some(at) = self.shard.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.timeout();
        }
        self.now = end;
    }

    /// A new publishing run takes over.
    pub fn publish_anew(&mut self, publisher: Publisher) {
        self.publish_layers(publisher, Vec::new());
    }

    pub fn publish_layers(&mut self, publisher: Publisher, worse: Vec<Publisher>) {
        (self.publisher, self.worse) = (publisher, worse);
        self.published_at = self.now;
        self.sounds = 0;
        self.shard.broadcast_changed(self.now, &self.broadcast());
        self.timeout();
    }

    pub fn deliver(&mut self) {
        for (remote, bytes) in self.network.take() {
            let viewer = self.shard.viewer_by_remote(remote).map(ViewerId::get);
            if let Some(player) = viewer.and_then(|viewer| self.players.get_mut(&viewer)) {
                player.receive(self.now, bytes);
            }
        }
        while let Some(event) = self.shard.poll_event() {
            self.events.push((self.now, event));
        }
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| wanted(event)).count()
    }
}

/// What must hold of every stream of picture: every number once and none left out, timestamps that never go back, frames
/// whole unless the next keyframe cut them short.
pub fn check_video(player: &Player) {
    let video = player.stream(VIDEO);
    for pair in video.windows(2) {
        assert_eq!(
            pair[1].seq_no,
            pair[0].seq_no.plus(1),
            "viewer {}: a gap that is not in the tree",
            player.id
        );
        let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp) as i32;
        assert!(step >= 0, "viewer {}: timestamps go back by {step}", player.id);
        let is_one_frame = pair[1].source() == pair[0].source() + 1 && !pair[0].marker;
        assert_eq!(
            step == 0,
            is_one_frame,
            "viewer {}: one frame, two timestamps, or two with one",
            player.id
        );
    }
}

/// The record of a viewer as the last write left it.
pub fn stored(output: &[Output]) -> BTreeMap<ViewerId, ViewerRecord> {
    let mut records = BTreeMap::new();
    for written in output {
        match written {
            Output::Record(viewer, RecordChange::Put(record)) => {
                records.insert(*viewer, (**record).clone());
            }
            Output::Record(viewer, RecordChange::Removed) => {
                records.remove(viewer);
            }
            Output::Datagram(..) => {}
        }
    }
    records
}

/// A receiver report on one stream, without round trip and jitter: the share lost, in 1/256, how many in all, and the
/// highest sequence number.
pub fn receiver_report(ssrc: Ssrc, (fraction_lost, lost): (u8, i32), highest_seq: u32) -> Vec<u8> {
    let block = ReportBlock { ssrc, fraction_lost, lost, highest_seq, jitter: 0, last_report: 0, delay: 0 };
    let mut compound = Vec::new();
    rtcp::write::receiver_report(&mut compound, Ssrc::new(1), &[block]);
    compound
}

/// Time of a receiver's clock, as feedback tells it.
pub fn ticks(time: Duration) -> u32 {
    (time.as_micros() / 250) as u32
}

/// Feedback on packets of a stream by their transport-wide numbers, with the times at which they arrived. Of those before the
/// first one, or far after it, nothing is told.
pub fn transport_feedback(media: Ssrc, count: u8, arrived: &[(u16, u32)]) -> Vec<u8> {
    let base = arrived[0].0;
    let mut told = Vec::new();
    for (seq, at) in arrived {
        let place = usize::from(seq.wrapping_sub(base));
        if place < 1000 {
            told.resize(told.len().max(place + 1), None);
            told[place] = Some(*at);
        }
    }
    let mut compound = Vec::new();
    rtcp::write::transport_feedback(&mut compound, (Ssrc::new(1), media), (base, count), &told);
    compound
}
