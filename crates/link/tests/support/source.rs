//! A publisher: one sound and one picture stream with a fixed, repeatable content.

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
}

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
        Self { broadcast, audio, video, keyframe_interval: 50, frame: 0, next }
    }

    /// One frame of 20 ms: a sound packet and the packets of a picture.
    pub fn frame(&mut self) -> Vec<TreePacket> {
        let is_keyframe = self.frame.is_multiple_of(self.keyframe_interval);
        let count = if is_keyframe { KEYFRAME_PACKETS } else { DELTA_PACKETS };
        let mut packets = vec![self.packet(0, self.audio, 120, true, false)];
        for index in 0..count {
            let length = if index + 1 == count { 700 } else { 1187 };
            packets.push(self.packet(1, self.video, length, index + 1 == count, is_keyframe && index == 0));
        }
        self.frame += 1;
        packets
    }

    fn packet(
        &mut self,
        stream: usize,
        ssrc: Ssrc,
        length: usize,
        marker: bool,
        starts_keyframe: bool,
    ) -> TreePacket {
        let seq_no = self.next[stream];
        self.next[stream] = seq_no.plus(1);
        let payload: Vec<u8> = (0..length).map(|index| (index as u64 + seq_no.get()) as u8).collect();
        TreePacket {
            ssrc,
            seq_no,
            timestamp: (self.frame * if stream == 0 { 960 } else { 1800 }) as u32,
            marker,
            starts_keyframe,
            capture_time: NtpTime::from_unix(std::time::Duration::from_millis(
                1_700_000_000_000 + self.frame * 20,
            )),
            audio_level: (stream == 0).then_some(0x8a),
            orientation: 0,
            payload: Bytes::from(payload),
        }
    }
}
