//! A publisher, a network that notes everything, and players that open what they get.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::{
    Config, Event, Extensions, Format, OutTrack, Path, RecordChange, SendBatch, Shard, ViewerId,
    ViewerRecord, ViewerSetup,
};
use media_core::TreePacket;
use media_core::rtcp;
use media_core::rtp::Packet;
use model::{Broadcast, BroadcastId, BroadcastState, Codec, Epoch, Layer, Mid, NtpTime, SeqNo, Ssrc, Track};
use srtp::{MasterKey, Profile, RtcpIndex, RtcpKey, RtpKey};

pub const VIDEO_PT: u8 = 96;
pub const RTX_PT: u8 = 97;
pub const AUDIO_PT: u8 = 111;

pub fn broadcast_id() -> BroadcastId {
    BroadcastId::new("demo").expect("an id")
}

/// SSRCs that a viewer gets.
pub fn ssrc(viewer: u64, stream: u32) -> Ssrc {
    Ssrc::new((viewer as u32) * 10 + stream)
}
pub const AUDIO: u32 = 1;
pub const VIDEO: u32 = 2;
pub const RTX: u32 = 3;

pub fn remote(viewer: u64) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, (viewer >> 8) as u8, viewer as u8)), 40_000)
}

/// Both directions of a viewer's keys: what it gets, what it sends.
pub fn keys(viewer: u64) -> (MasterKey, MasterKey) {
    let key = |side: u8| {
        let mut key = [side; 16];
        key[..8].copy_from_slice(&viewer.to_be_bytes());
        MasterKey::new(Profile::AeadAes128Gcm, &key, &[side; 12]).expect("a key")
    };
    (key(1), key(2))
}

pub fn setup(viewer: u64, now: Instant) -> ViewerSetup {
    let (send, receive) = keys(viewer);
    let extensions =
        Extensions { mid: Some(1), abs_capture_time: Some(2), audio_level: None, video_orientation: Some(4) };
    let format = |codec, payload_type, rtx_payload_type| Format {
        codec,
        fmtp: "".into(),
        payload_type,
        rtx_payload_type,
    };
    let mut random = [0; 32];
    for (index, byte) in random.iter_mut().enumerate() {
        *byte = (viewer as u8).wrapping_mul(31).wrapping_add((index as u8).wrapping_mul(17));
    }
    ViewerSetup {
        id: ViewerId::new(viewer),
        path: Path { local: IpAddr::V4(Ipv4Addr::LOCALHOST), remote: remote(viewer) },
        send,
        receive,
        audio: Some(OutTrack {
            mid: Mid::new("0").expect("a mid"),
            ssrc: ssrc(viewer, AUDIO),
            rtx_ssrc: None,
            formats: vec![format(Codec::Opus, AUDIO_PT, None)],
            extensions: Extensions { video_orientation: None, audio_level: Some(3), ..extensions },
            nack: false,
        }),
        video: Some(OutTrack {
            mid: Mid::new("1").expect("a mid"),
            ssrc: ssrc(viewer, VIDEO),
            rtx_ssrc: Some(ssrc(viewer, RTX)),
            formats: vec![
                format(Codec::H264, VIDEO_PT, Some(RTX_PT)),
                format(Codec::Vp8, VIDEO_PT + 4, Some(VIDEO_PT + 5)),
            ],
            extensions,
            nack: true,
        }),
        joined_at: now,
        random,
        cname: "media-tree".into(),
    }
}

/// One publishing run: makes frames with the identity that injection would give them.
pub struct Publisher {
    pub codec: Codec,
    pub epoch: u64,
    pub fps: u64,
    /// Frames from one keyframe to the next.
    pub gop: u64,
    /// Packets of a keyframe, and of another frame.
    pub packets: (u64, u64),
    pub payload_bytes: usize,
    /// Capture time of the first frame.
    pub started: NtpTime,
    frame: u64,
    next_seq_no: u64,
}

impl Publisher {
    pub fn new(codec: Codec, epoch: u64, started: NtpTime) -> Self {
        Self {
            codec,
            epoch,
            fps: 30,
            gop: 60,
            packets: (10, 3),
            payload_bytes: 1000,
            started,
            frame: 0,
            next_seq_no: 65_000 + epoch * 7,
        }
    }

    pub fn video_ssrc(&self) -> Ssrc {
        Ssrc::new(0x1000 + self.epoch as u32)
    }

    pub fn audio_ssrc(&self) -> Ssrc {
        Ssrc::new(0x2000 + self.epoch as u32)
    }

    pub fn broadcast(&self) -> Broadcast {
        let layer = |ssrc| vec![Layer { ssrc, rid: None }];
        Broadcast {
            id: broadcast_id(),
            state: BroadcastState::Live,
            epoch: Some(Epoch { counter: self.epoch, random: 0 }),
            tracks: vec![
                Track { codec: Codec::Opus, fmtp: "".into(), layers: layer(self.audio_ssrc()) },
                Track { codec: self.codec, fmtp: "".into(), layers: layer(self.video_ssrc()) },
            ],
        }
    }

    /// When the next frame is captured, since the first one.
    pub fn next_at(&self) -> Duration {
        Duration::from_micros(self.frame * 1_000_000 / self.fps)
    }

    pub fn is_keyframe_next(&self) -> bool {
        self.frame.is_multiple_of(self.gop)
    }

    /// The packets of the next frame.
    pub fn frame(&mut self) -> Vec<Arc<TreePacket>> {
        let is_keyframe = self.is_keyframe_next();
        let count = if is_keyframe { self.packets.0 } else { self.packets.1 };
        let capture_time = self.started.plus(self.next_at());
        let timestamp = (self.frame * 90_000 / self.fps) as u32;
        self.frame += 1;
        (0..count)
            .map(|index| {
                let seq_no = SeqNo::new(self.next_seq_no);
                self.next_seq_no += 1;
                let mut payload = vec![self.frame as u8; self.payload_bytes - (index as usize * 7) % 40];
                payload[..8].copy_from_slice(&seq_no.get().to_be_bytes());
                Arc::new(TreePacket {
                    ssrc: self.video_ssrc(),
                    seq_no,
                    timestamp,
                    marker: index + 1 == count,
                    starts_keyframe: is_keyframe && index == 0,
                    capture_time,
                    audio_level: None,
                    orientation: 0,
                    payload: Bytes::from(payload),
                })
            })
            .collect()
    }

    /// A packet of sound: `index` counts 20 ms.
    pub fn sound(&self, index: u64) -> Arc<TreePacket> {
        Arc::new(TreePacket {
            ssrc: self.audio_ssrc(),
            seq_no: SeqNo::new(500 + index),
            timestamp: (index * 960) as u32,
            marker: false,
            starts_keyframe: false,
            capture_time: self.started.plus(Duration::from_millis(index * 20)),
            audio_level: Some(0x85),
            orientation: 0,
            payload: Bytes::from(vec![index as u8; 80]),
        })
    }
}

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
    pub payload: Vec<u8>,
    pub at: Instant,
}

impl Received {
    /// The tree's sequence number, which the publisher wrote into the payload.
    pub fn source(&self) -> u64 {
        u64::from_be_bytes(self.payload[..8].try_into().expect("8 bytes"))
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
    pub published_at: Instant,
    pub players: BTreeMap<u64, Player>,
    pub events: Vec<(Instant, Event)>,
    sounds: u64,
}

/// When the first publisher's first frame was captured.
pub fn capture_start() -> NtpTime {
    NtpTime::from_unix(Duration::from_secs(1_800_000_000))
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
            published_at: now,
            players: BTreeMap::new(),
            events: Vec::new(),
            sounds: 0,
        }
    }

    pub fn join(&mut self, viewer: u64) {
        self.shard.add_viewer(self.now, &broadcast_id(), setup(viewer, self.now)).expect("added");
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
        self.publisher = publisher;
        self.published_at = self.now;
        self.sounds = 0;
        self.shard.broadcast_changed(self.now, &self.publisher.broadcast());
        self.timeout();
    }

    fn deliver(&mut self) {
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
