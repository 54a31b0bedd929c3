//! A publisher: sound, and a picture of one or three layers, with a fixed, repeatable content.

use bytes::Bytes;
use link::wire::GroupKey;
use media_core::TreePacket;
use model::{
    Broadcast, BroadcastId, BroadcastState, Codec, Epoch, KeyGeneration, Layer, NtpTime, SeqNo, Ssrc, Track,
};

/// Packets of a keyframe.
pub const KEYFRAME_PACKETS: usize = 12;
/// Packets of any other frame.
pub const DELTA_PACKETS: usize = 4;

pub fn id(name: &str) -> BroadcastId {
    BroadcastId::new(name).expect("good id")
}

pub fn key(generation: u32) -> GroupKey {
    GroupKey {
        generation: KeyGeneration { counter: generation, random: 0x5eed_0000 + generation },
        key: [generation as u8; 16],
        salt: [generation as u8 ^ 0xff; 12],
    }
}

/// One publishing run.
#[derive(Debug, Clone)]
pub struct Source {
    pub broadcast: Broadcast,
    pub audio: Ssrc,
    pub video: Ssrc,
    /// Frames from one keyframe to the next.
    pub keyframe_interval: u64,
    pub frame: u64,
    pub next: [SeqNo; 2],
    /// Layers of the picture beside `video`, best first, and the next packet of each.
    pub worse: Vec<(Ssrc, SeqNo)>,
}

/// Packets of a keyframe, and of any other frame, of each layer but the best.
const WORSE_PACKETS: [(usize, usize); 2] = [(5, 2), (2, 1)];

impl Source {
    pub fn new(name: &str, epoch: u64) -> Self {
        let seed =
            name.bytes().fold(epoch as u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let (audio, video) = (Ssrc::new(seed.wrapping_mul(2)), Ssrc::new(seed.wrapping_mul(2) | 1));
        let track = |codec, ssrc| Track {
            codec,
            fmtp: "".into(),
            layers: vec![Layer { ssrc, rid: None }],
            was_heard: true,
        };
        let broadcast = Broadcast {
            id: id(name),
            state: BroadcastState::Live,
            epoch: Some(Epoch { counter: epoch, random: 7 }),
            tracks: vec![track(Codec::Opus, audio), track(Codec::H264, video)],
        };
        // The picture's numbers begin just below a roll-over.
        let next = [SeqNo::new(1000), SeqNo::new(65_500)];
        Self { broadcast, audio, video, keyframe_interval: 50, frame: 0, next, worse: Vec::new() }
    }

    /// With three layers.
    pub fn layered(name: &str, epoch: u64) -> Self {
        let mut source = Self::new(name, epoch);
        let ssrc = |place: u32| Ssrc::new(source.video.get() ^ place << 24);
        let worse = [(ssrc(1), SeqNo::new(70)), (ssrc(2), SeqNo::new(131_000))];
        let layers = worse.iter().map(|(ssrc, _)| Layer { ssrc: *ssrc, rid: None });
        source.broadcast.tracks[1].layers.extend(layers);
        source.worse = worse.to_vec();
        source
    }

    /// The layers of the picture, best first.
    pub fn layers(&self) -> Vec<Ssrc> {
        std::iter::once(self.video).chain(self.worse.iter().map(|(ssrc, _)| *ssrc)).collect()
    }

    /// One frame of 20 ms: a sound packet and the packets of a picture.
    pub fn frame(&mut self) -> Vec<TreePacket> {
        let is_keyframe = self.frame.is_multiple_of(self.keyframe_interval);
        let count = if is_keyframe { KEYFRAME_PACKETS } else { DELTA_PACKETS };
        let mut packets = vec![self.packet(self.next[0], self.audio, 120, true, false)];
        self.next[0] = self.next[0].plus(1);
        self.next[1] = self.picture(&mut packets, (self.video, self.next[1]), count, is_keyframe);
        for (place, (keyframe, delta)) in WORSE_PACKETS.into_iter().enumerate().take(self.worse.len()) {
            let count = if is_keyframe { keyframe } else { delta };
            self.worse[place].1 = self.picture(&mut packets, self.worse[place], count, is_keyframe);
        }
        self.frame += 1;
        packets
    }

    /// One frame of one layer; gives the number of the next packet.
    fn picture(
        &self,
        packets: &mut Vec<TreePacket>,
        (ssrc, first): (Ssrc, SeqNo),
        count: usize,
        is_keyframe: bool,
    ) -> SeqNo {
        packets.extend((0..count).map(|index| {
            let (is_first, is_last) = (index == 0, index + 1 == count);
            let length = if is_last { 700 } else { 1187 };
            self.packet(first.plus(index as u64), ssrc, length, is_last, is_keyframe && is_first)
        }));
        first.plus(count as u64)
    }

    fn packet(
        &self,
        seq_no: SeqNo,
        ssrc: Ssrc,
        length: usize,
        marker: bool,
        starts_keyframe: bool,
    ) -> TreePacket {
        let is_sound = ssrc == self.audio;
        let payload: Vec<u8> = (0..length).map(|index| (index as u64 + seq_no.get()) as u8).collect();
        TreePacket {
            ssrc,
            seq_no,
            timestamp: (self.frame * if is_sound { 960 } else { 1800 }) as u32,
            marker,
            starts_keyframe,
            capture_time: NtpTime::from_unix(std::time::Duration::from_millis(
                1_700_000_000_000 + self.frame * 20,
            )),
            audio_level: is_sound.then_some(0x8a),
            orientation: 0,
            svc: None,
            payload: Bytes::from(payload),
        }
    }
}
