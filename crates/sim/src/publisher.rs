//! A model publisher: what injection makes of an encoder's RTP streams.
//!
//! Picture in groups of pictures like H264 from an encoder, sound like Opus each 20 ms. Numbers and timestamps begin
//! just below their wrap-around. Every payload names its stream and number, so that whoever gets it can be asked what
//! it is.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::TreePacket;
use model::{Broadcast, BroadcastId, BroadcastState, Codec, Epoch, Layer, NtpTime, SeqNo, Ssrc, Track};

use crate::random::Random;

/// Time from one sound packet to the next, and its ticks.
const SOUND: (Duration, u32) = (Duration::from_millis(20), 960);
/// Frames of picture per second, and the ticks of one.
const FRAMES: (u64, u32) = (30, 3000);
/// Where the stream's name stands in a payload.
const NAME_AT: usize = 1;
/// Bytes of that name: SSRC and sequence number.
const NAME_BYTES: usize = 12;

/// How a publisher behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// What it codes pictures with.
    pub codec: Codec,
    /// Frames from one keyframe to the next.
    pub gop: u64,
    /// Packets of a keyframe.
    pub keyframe_packets: u64,
    /// Most packets of any other frame.
    pub delta_packets_max: u64,
    /// Whether it makes a keyframe when it is asked. OBS does not.
    pub answers_requests: bool,
    /// Share of packets that are lost before injection for good.
    pub loss: f64,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            codec: Codec::H264,
            gop: 45,
            keyframe_packets: 10,
            delta_packets_max: 4,
            answers_requests: false,
            loss: 0.0,
        }
    }
}

/// One RTP stream of it.
#[derive(Debug)]
struct Stream {
    ssrc: Ssrc,
    next: SeqNo,
    timestamp: u32,
    /// Units made so far: frames or sounds.
    made: u32,
}

impl Stream {
    fn new(random: &mut Random) -> Self {
        Self {
            ssrc: Ssrc::new(random.draw() as u32),
            next: SeqNo::new(random.within(65_450, 65_535)),
            timestamp: u32::MAX - random.below(200_000) as u32,
            made: 0,
        }
    }
}

/// One publishing run.
#[derive(Debug)]
pub struct Publisher {
    style: Style,
    broadcast: Broadcast,
    started: Instant,
    /// Capture time of what is made at `started`.
    wallclock: NtpTime,
    audio: Stream,
    video: Stream,
    frames_since_keyframe: u64,
    is_keyframe_asked: bool,
    random: Random,
}

impl Publisher {
    /// A run that starts now.
    #[must_use]
    pub fn new(
        now: Instant,
        wallclock: NtpTime,
        id: BroadcastId,
        epoch: Epoch,
        style: Style,
        mut random: Random,
    ) -> Self {
        let (audio, video) = (Stream::new(&mut random), Stream::new(&mut random));
        let layer = |ssrc| Layer { ssrc, rid: None };
        let fmtp =
            if style.codec == Codec::H264 { "profile-level-id=42e01f;packetization-mode=1" } else { "" };
        let tracks = vec![
            Track { codec: Codec::Opus, fmtp: "".into(), layers: vec![layer(audio.ssrc)], was_heard: true },
            Track { codec: style.codec, fmtp: fmtp.into(), layers: vec![layer(video.ssrc)], was_heard: true },
        ];
        let broadcast = Broadcast { id, state: BroadcastState::Live, epoch: Some(epoch), tracks };
        Self {
            style,
            broadcast,
            started: now,
            wallclock,
            audio,
            video,
            frames_since_keyframe: 0,
            is_keyframe_asked: false,
            random,
        }
    }

    /// What injection announces.
    #[must_use]
    pub const fn broadcast(&self) -> &Broadcast {
        &self.broadcast
    }

    /// How it behaves.
    #[must_use]
    pub const fn style(&self) -> &Style {
        &self.style
    }

    /// Somebody wants a keyframe.
    pub const fn request_keyframe(&mut self) {
        self.is_keyframe_asked = self.style.answers_requests;
    }

    /// When it makes something next.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.started + self.frame_at().min(self.sound_at())
    }

    /// What it has made by now, as it goes into the tree, and what was lost before.
    pub fn make(&mut self, now: Instant) -> Vec<Made> {
        let mut made = Vec::new();
        while self.started + self.sound_at() <= now {
            self.sound(&mut made);
        }
        while self.started + self.frame_at() <= now {
            self.frame(&mut made);
        }
        made
    }

    fn frame_at(&self) -> Duration {
        Duration::from_nanos(u64::from(self.video.made) * 1_000_000_000 / FRAMES.0)
    }

    fn sound_at(&self) -> Duration {
        SOUND.0 * self.audio.made
    }

    fn sound(&mut self, out: &mut Vec<Made>) {
        let capture_time = self.wallclock.plus(self.sound_at());
        let length = self.random.within(40, 120) as usize;
        let level = self.random.below(256) as u8;
        let is_lost = self.random.happens(self.style.loss);
        let stream = &mut self.audio;
        let timestamp = stream.timestamp.wrapping_add(stream.made.wrapping_mul(SOUND.1));
        let packet = TreePacket {
            ssrc: stream.ssrc,
            seq_no: stream.next,
            timestamp,
            marker: stream.made == 0,
            starts_keyframe: false,
            capture_time,
            audio_level: Some(level),
            orientation: 0,
            svc: None,
            payload: payload(0xf8, stream.ssrc, stream.next, length),
        };
        stream.next = stream.next.plus(1);
        stream.made += 1;
        out.push(Made { packet, is_lost });
    }

    fn frame(&mut self, out: &mut Vec<Made>) {
        let is_keyframe = self.video.made == 0
            || self.frames_since_keyframe >= self.style.gop
            || std::mem::take(&mut self.is_keyframe_asked);
        let capture_time = self.wallclock.plus(self.frame_at());
        let count = match is_keyframe {
            true => self.style.keyframe_packets,
            false => self.random.within(1, self.style.delta_packets_max),
        };
        self.frames_since_keyframe = if is_keyframe { 1 } else { self.frames_since_keyframe + 1 };
        for index in 0..count {
            let is_last = index + 1 == count;
            let length = if is_last { self.random.within(20, 150) } else { 150 } as usize;
            let is_lost = self.random.happens(self.style.loss);
            let stream = &mut self.video;
            // NAL unit types of H264: IDR slice or other slice; nobody in the tree looks at it.
            let first = if is_keyframe { 0x65 } else { 0x41 };
            let packet = TreePacket {
                ssrc: stream.ssrc,
                seq_no: stream.next,
                timestamp: stream.timestamp.wrapping_add(stream.made.wrapping_mul(FRAMES.1)),
                marker: is_last,
                starts_keyframe: is_keyframe && index == 0,
                capture_time,
                audio_level: None,
                orientation: 0,
                svc: None,
                payload: payload(first, stream.ssrc, stream.next, length),
            };
            stream.next = stream.next.plus(1);
            out.push(Made { packet, is_lost });
        }
        self.video.made += 1;
    }
}

/// A packet that a publisher made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The packet.
    pub packet: TreePacket,
    /// It never reached injection; its number stays empty.
    pub is_lost: bool,
}

fn payload(first: u8, ssrc: Ssrc, seq_no: SeqNo, length: usize) -> Bytes {
    let mut bytes = vec![seq_no.get() as u8; length.max(NAME_AT + NAME_BYTES)];
    bytes[0] = first;
    bytes[NAME_AT..NAME_AT + 4].copy_from_slice(&ssrc.get().to_be_bytes());
    bytes[NAME_AT + 4..NAME_AT + NAME_BYTES].copy_from_slice(&seq_no.get().to_be_bytes());
    bytes.into()
}

/// The stream and number that a payload names.
#[must_use]
pub fn name(payload: &[u8]) -> Option<(Ssrc, SeqNo)> {
    let name: &[u8; NAME_BYTES] = payload.get(NAME_AT..)?.first_chunk()?;
    let [a, b, c, d, seq_no @ ..] = *name;
    Some((Ssrc::new(u32::from_be_bytes([a, b, c, d])), SeqNo::new(u64::from_be_bytes(seq_no))))
}
