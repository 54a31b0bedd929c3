//! What comes from outside the shard: a publisher's packets, and viewers as their handshakes leave them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::{Extensions, Format, OutTrack, Path, ViewerId, ViewerSetup};
use media_core::svc::{self, Frame, Stamper, Structure};
use media_core::{Svc, TreePacket};
use model::{
    Broadcast, BroadcastId, BroadcastState, Codec, Epoch, Layer, Mid, NtpTime, Rid, SeqNo, Ssrc, Track,
};
use srtp::{MasterKey, Profile};

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
    let extensions = Extensions {
        mid: Some(1),
        abs_capture_time: Some(2),
        audio_level: None,
        video_orientation: Some(4),
        transport_sequence: None,
    };
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

/// Id of the transport-wide number, where it is negotiated.
pub const TRANSPORT_ID: u8 = 5;

/// The same viewer, if it tells when each packet of its picture arrives.
pub fn telling_arrivals(mut setup: ViewerSetup) -> ViewerSetup {
    if let Some(video) = &mut setup.video {
        video.extensions.transport_sequence = Some(TRANSPORT_ID);
    }
    setup
}

/// One publishing run: makes frames with the identity that injection would give them.
pub struct Publisher {
    pub codec: Codec,
    pub epoch: u64,
    /// Its place among the layers, 0 being the best.
    pub layer: u8,
    /// Its keyframes come so many frames early.
    pub phase: u64,
    pub fps: u64,
    /// Frames from one keyframe to the next.
    pub gop: u64,
    /// Packets of a keyframe, and of another frame.
    pub packets: (u64, u64),
    pub payload_bytes: usize,
    /// Capture time of the first frame.
    pub started: NtpTime,
    /// Layers within its stream, and who counts their packets.
    pub parts: Option<(Structure, Stamper)>,
    /// Whether viewers may go to a higher frame rate with any picture.
    pub switches: bool,
    frame: u64,
    next_seq_no: u64,
}

impl Publisher {
    pub fn new(codec: Codec, epoch: u64, started: NtpTime) -> Self {
        Self {
            codec,
            epoch,
            layer: 0,
            phase: 0,
            fps: 30,
            gop: 60,
            packets: (10, 3),
            payload_bytes: 1000,
            started,
            parts: None,
            switches: false,
            frame: 0,
            next_seq_no: 65_000 + epoch * 7,
        }
    }

    /// With layers within its stream: packets of a picture are shared out among the spatial ones.
    pub fn divided(self, spatial: u8, temporal: u8) -> Self {
        Self { parts: Some((Structure::new(spatial, temporal), Stamper::new(0))), ..self }
    }

    /// Goes on as one whose session went on in another process.
    pub fn count_anew(&mut self) {
        if let Some((_, stamper)) = &mut self.parts {
            *stamper = Stamper::new(Stamper::next_generation(stamper.generation()));
        }
    }

    /// The layer of one of `count` packets of the next picture: 0-2-1-2 in time, from small to large within it.
    fn inner_layer(&self, index: u64, count: u64) -> svc::Layer {
        let Some((structure, _)) = &self.parts else {
            return svc::Layer { spatial: self.layer, temporal: 0 };
        };
        let place = ((self.frame + self.phase) % self.gop) as usize;
        let temporal = match structure.temporal() {
            1 => 0,
            2 => [0, 1][place % 2],
            _ => [0, 2, 1, 2][place % 4],
        };
        let spatial = (index * u64::from(structure.spatial()) / count) as u8;
        svc::Layer { spatial, temporal }
    }

    /// What injection says of a packet of the next picture.
    fn stamp(&mut self, (index, count): (u64, u64), is_keyframe: bool) -> Option<Svc> {
        let layer = self.inner_layer(index, count);
        let begins = index == 0 || self.inner_layer(index - 1, count) != layer;
        let ends = index + 1 == count || self.inner_layer(index + 1, count) != layer;
        let (is_switch, seq_no) = (self.switches, SeqNo::new(self.next_seq_no));
        let (structure, stamper) = self.parts.as_mut()?;
        let structure = is_keyframe.then_some(*structure);
        let frame = Frame { layer, begins, ends, is_switch, is_entry: false, structure };
        stamper.stamp(seq_no, Some(&frame), index == 0)
    }

    pub fn video_ssrc(&self) -> Ssrc {
        Ssrc::new(0x1000 + self.epoch as u32 + u32::from(self.layer) * 0x100)
    }

    /// The number of the next packet of picture.
    pub fn next_seq(&self) -> u64 {
        self.next_seq_no
    }

    pub fn audio_ssrc(&self) -> Ssrc {
        Ssrc::new(0x2000 + self.epoch as u32)
    }

    pub fn rid(&self) -> Rid {
        Rid::new(["full", "half", "quarter"][usize::from(self.layer)]).expect("a rid")
    }

    pub fn broadcast(&self) -> Broadcast {
        self.broadcast_with(&[])
    }

    /// With worse layers beside it.
    pub fn broadcast_with(&self, worse: &[Self]) -> Broadcast {
        let layer = |ssrc| vec![Layer { ssrc, rid: None }];
        let rid = |publisher: &Self| (!worse.is_empty()).then(|| publisher.rid());
        let layers = std::iter::once(self).chain(worse);
        let layers = layers.map(|layer| Layer { ssrc: layer.video_ssrc(), rid: rid(layer) }).collect();
        Broadcast {
            id: broadcast_id(),
            state: BroadcastState::Live,
            epoch: Some(Epoch { counter: self.epoch, random: 0 }),
            tracks: vec![
                Track {
                    codec: Codec::Opus,
                    fmtp: "".into(),
                    layers: layer(self.audio_ssrc()),
                    was_heard: true,
                },
                Track { codec: self.codec, fmtp: "".into(), layers, was_heard: true },
            ],
        }
    }

    /// When the next frame is captured, since the first one.
    pub fn next_at(&self) -> Duration {
        Duration::from_micros(self.frame * 1_000_000 / self.fps)
    }

    pub fn is_keyframe_next(&self) -> bool {
        self.frame == 0 || (self.frame + self.phase).is_multiple_of(self.gop)
    }

    /// The packets of the next frame.
    pub fn frame(&mut self) -> Vec<Arc<TreePacket>> {
        let is_keyframe = self.is_keyframe_next();
        let count = if is_keyframe { self.packets.0 } else { self.packets.1 };
        let capture_time = self.started.plus(self.next_at());
        let timestamp = (self.frame * 90_000 / self.fps) as u32;
        let packets = (0..count)
            .map(|index| {
                let svc = self.stamp((index, count), is_keyframe);
                let layer = self.inner_layer(index, count);
                let seq_no = SeqNo::new(self.next_seq_no);
                self.next_seq_no += 1;
                let mut payload =
                    vec![(self.frame + 1) as u8; self.payload_bytes - (index as usize * 7) % 40];
                payload[..8].copy_from_slice(&seq_no.get().to_be_bytes());
                payload[8] = layer.spatial + 4 * layer.temporal;
                Arc::new(TreePacket {
                    ssrc: self.video_ssrc(),
                    seq_no,
                    timestamp,
                    marker: index + 1 == count,
                    starts_keyframe: is_keyframe && index == 0,
                    capture_time,
                    audio_level: None,
                    orientation: 0,
                    svc,
                    payload: Bytes::from(payload),
                })
            })
            .collect();
        self.frame += 1;
        packets
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
            svc: None,
            payload: Bytes::from(vec![index as u8; 80]),
        })
    }
}

/// Three layers of about 2.5, 0.8 and 0.2 Mbit/s, whose keyframes come at different times.
pub fn layers(epoch: u64, started: NtpTime) -> Vec<Publisher> {
    let sizes = [((40, 10), 1000), ((16, 3), 1050), ((5, 1), 800)];
    let layer = |(layer, (packets, payload_bytes))| Publisher {
        layer,
        phase: u64::from(layer) * 21,
        packets,
        payload_bytes,
        ..Publisher::new(Codec::H264, epoch, started)
    };
    (0..).zip(sizes).map(layer).collect()
}

/// When the first publisher's first frame was captured.
pub fn capture_start() -> NtpTime {
    NtpTime::from_unix(Duration::from_secs(1_800_000_000))
}
