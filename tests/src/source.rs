//! A made-up encoder: H264 in everything but the picture, in any shape, deaf to keyframe requests.
//!
//! Each packet says which one it is and when it was captured. Publisher and viewers of a test live in one process and
//! share its monotonic clock, so a [`Stamp`] that arrives tells the true one-way delay.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use client::demo::Clip;
use client::{Outgoing, ReceivedPacket, Whip, WhipSession, whip};
use model::{Codec, Kind, Rid};
use tokio::task::JoinHandle;

/// NAL unit types (RFC 6184, section 5.2).
const NAL_SLICE: u8 = 1;
const NAL_IDR: u8 = 5;
const NAL_FU_A: u8 = 28;
/// `nal_ref_idc` 3.
const REFERENCE: u8 = 0x60;
/// Slice headers: the first macroblock of an I slice, of a P slice (ITU-T H.264, section 7.3.3).
const I_SLICE: u8 = 0x88;
const P_SLICE: u8 = 0x9a;

const MARK: [u8; 4] = *b"mark";
/// FU-A indicator and header, slice header, and the stamp.
const HEAD_BYTES: usize = 3 + MARK.len() + 4 + 2 + 2 + 8;
/// As much as encoders put into a packet.
const PAYLOAD_BYTES: usize = 1180;

/// What the encoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Pictures in a second.
    pub frame_rate: u32,
    /// Pictures from one keyframe to the next.
    pub frames_a_group: u32,
    /// Packets of a keyframe, parameter sets not counted; two at least.
    pub keyframe_packets: u16,
    /// Packets of every other picture; two at least.
    pub frame_packets: u16,
    /// Whether there is sound: 50 packets in a second.
    pub has_sound: bool,
}

impl Shape {
    /// OBS with its default settings, 720p: 2.5 Mbit/s, a keyframe every eight seconds.
    pub const OBS: Self =
        Self { frame_rate: 30, frames_a_group: 240, keyframe_packets: 40, frame_packets: 9, has_sound: true };
    /// As little as a picture can be, without sound: for many viewers on a small machine.
    pub const TINY: Self =
        Self { frame_rate: 4, frames_a_group: 8, keyframe_packets: 2, frame_packets: 2, has_sound: false };

    /// Time between two pictures.
    #[must_use]
    pub fn frame_interval(&self) -> Duration {
        Duration::from_secs(1) / self.frame_rate
    }

    /// Time between two keyframes.
    #[must_use]
    pub fn group(&self) -> Duration {
        self.frame_interval() * self.frames_a_group
    }
}

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of its picture, from 0.
    pub frame: u32,
    /// Number of the packet within the picture, from 0.
    pub index: u16,
    /// Packets of the picture.
    pub count: u16,
    /// When the picture was captured, from [`Source::began`].
    pub captured: Duration,
}

impl Stamp {
    /// Reads it; `None` for parameter sets and sound.
    #[must_use]
    pub fn of(packet: &ReceivedPacket) -> Option<Self> {
        let bytes = packet.payload.get(3..HEAD_BYTES)?.strip_prefix(&MARK)?;
        let (frame, bytes) = bytes.split_first_chunk()?;
        let (index, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        let nanoseconds = u64::from_be_bytes(*bytes.first_chunk()?);
        Some(Self {
            frame: u32::from_be_bytes(*frame),
            index: u16::from_be_bytes(*index),
            count: u16::from_be_bytes(*count),
            captured: Duration::from_nanos(nanoseconds),
        })
    }

    fn payload(self, is_keyframe: bool) -> Vec<u8> {
        let (nal, slice) = if is_keyframe { (NAL_IDR, I_SLICE) } else { (NAL_SLICE, P_SLICE) };
        let start = if self.index == 0 { 0x80 } else { 0 };
        let end = if self.index + 1 == self.count { 0x40 } else { 0 };
        let mut payload = vec![REFERENCE | NAL_FU_A, start | end | nal, slice];
        payload.extend_from_slice(&MARK);
        payload.extend_from_slice(&self.frame.to_be_bytes());
        payload.extend_from_slice(&self.index.to_be_bytes());
        payload.extend_from_slice(&self.count.to_be_bytes());
        payload.extend_from_slice(&(self.captured.as_nanos() as u64).to_be_bytes());
        payload.resize(PAYLOAD_BYTES, 0xa5);
        payload
    }
}

/// The encoder at work. Ends with its value, without a word to the server.
pub struct Source {
    /// What it makes.
    pub shape: Shape,
    /// When its first picture, a keyframe, was captured.
    pub began: Instant,
    url: String,
    publishing: JoinHandle<()>,
}

impl Source {
    /// Publishes to the WHIP endpoint `url`.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn publish(url: &str, shape: Shape) -> anyhow::Result<Self> {
        Self::publish_as(url, None, shape).await
    }

    /// Publishes with a token.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn publish_as(url: &str, token: Option<&str>, shape: Shape) -> anyhow::Result<Self> {
        Self::publish_all(url, token, vec![(None, shape)]).await
    }

    /// Publishes one picture in several layers, best first, each by its name. They differ in their packets alone: the
    /// first one says how often pictures and keyframes come, and whether there is sound.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn publish_layers(
        url: &str,
        token: Option<&str>,
        layers: &[(&str, Shape)],
    ) -> anyhow::Result<Self> {
        let layers = layers.iter().map(|(rid, shape)| Ok((Some(Rid::new(rid)?), *shape)));
        Self::publish_all(url, token, layers.collect::<anyhow::Result<_>>()?).await
    }

    async fn publish_all(
        url: &str,
        token: Option<&str>,
        layers: Vec<(Option<Rid>, Shape)>,
    ) -> anyhow::Result<Self> {
        let (_, shape) = *layers.first().context("a layer")?;
        let tracks: &[Codec] = if shape.has_sound { &[Codec::Opus, Codec::H264] } else { &[Codec::H264] };
        let rids = layers.iter().filter_map(|(rid, _)| rid.clone()).collect();
        let session =
            Whip::connect(url, token, tracks, whip::Options { layers: rids, ..Default::default() }).await?;
        let url = session.url().to_owned();
        let clip = Clip::built_in();
        let began = Instant::now();
        let publishing = tokio::spawn(async move {
            let encoder = Encoder { shape, layers, began, clip };
            // Both end with the session and not before.
            let _ends = tokio::join!(encoder.send_pictures(&session), encoder.send_sounds(&session));
        });
        Ok(Self { shape, began, url, publishing })
    }

    /// The address that packets of its session go to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the server is lost.
    pub async fn lost(&mut self) {
        let _ = (&mut self.publishing).await;
    }

    /// How long a packet with this stamp had been on its way.
    #[must_use]
    pub fn age(&self, stamp: &Stamp, arrival: Instant) -> Duration {
        arrival.saturating_duration_since(self.began + stamp.captured)
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.publishing.abort();
    }
}

struct Encoder {
    shape: Shape,
    layers: Vec<(Option<Rid>, Shape)>,
    began: Instant,
    clip: Clip,
}

impl Encoder {
    async fn send_pictures(&self, session: &WhipSession) -> Result<(), client::Ending> {
        let ticks = 90_000 / self.shape.frame_rate;
        // The clip's parameter sets: real ones, because the server reads them.
        let sets = &self.clip.pictures[0].nal_units;
        for frame in 0u32.. {
            tokio::time::sleep_until((self.began + self.shape.frame_interval() * frame).into()).await;
            let timestamp = frame.wrapping_mul(ticks);
            let is_keyframe = frame % self.shape.frames_a_group == 0;
            let captured = self.began.elapsed();
            for (rid, shape) in &self.layers {
                let count = if is_keyframe { shape.keyframe_packets } else { shape.frame_packets };
                let packet = |marker, payload: Vec<u8>| {
                    let (kind, rid, captured) = (Kind::Video, rid.clone(), self.began + captured);
                    Outgoing { kind, rid, timestamp, marker, captured, payload: payload.into() }
                };
                if is_keyframe {
                    for set in sets.iter().filter(|nal| matches!(nal[0] & 0x1f, 7 | 8)) {
                        session.send(packet(false, set.to_vec())).await?;
                    }
                }
                for index in 0..count {
                    let payload = Stamp { frame, index, count, captured }.payload(is_keyframe);
                    session.send(packet(index + 1 == count, payload)).await?;
                }
            }
        }
        Ok(())
    }

    async fn send_sounds(&self, session: &WhipSession) -> Result<(), client::Ending> {
        let sounds = self.clip.sounds.iter().filter(|_| self.shape.has_sound).cycle();
        for (index, sound) in (0u32..).zip(sounds) {
            tokio::time::sleep_until((self.began + Duration::from_millis(20) * index).into()).await;
            session.write(Kind::Audio, index.wrapping_mul(960), true, sound.clone()).await?;
        }
        Ok(())
    }
}

/// One stamped packet as a viewer got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Extended sequence number.
    pub seq_no: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// When it was read from the socket.
    pub arrival: Instant,
    /// What it says of itself; `None` for parameter sets.
    pub stamp: Option<Stamp>,
}

/// The picture packets that one viewer got, by sequence number.
#[derive(Debug, Default)]
pub struct Seens(Vec<Seen>);

impl Seens {
    /// Adds a packet; sound is left out.
    pub fn add(&mut self, packet: &ReceivedPacket) {
        if packet.kind == Kind::Video {
            let ReceivedPacket { timestamp, arrival, .. } = *packet;
            let seen = Seen { seq_no: packet.seq_no.get(), timestamp, arrival, stamp: Stamp::of(packet) };
            let at = self.0.partition_point(|other| other.seq_no < seen.seq_no);
            self.0.insert(at, seen);
        }
    }

    /// Sequence numbers between the first and the last that never came.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.0.windows(2).map(|pair| pair[1].seq_no.saturating_sub(pair[0].seq_no + 1)).sum()
    }

    /// The packets.
    #[must_use]
    pub fn all(&self) -> &[Seen] {
        &self.0
    }

    /// The last packet of each picture that came whole, with the time when all of it was there.
    #[must_use]
    pub fn pictures(&self) -> Vec<Seen> {
        let stamp = |seen: &Seen| seen.stamp;
        let parts = self.0.chunk_by(|a, b| a.timestamp == b.timestamp);
        parts
            .filter_map(|packets| {
                let stamped: Vec<Stamp> = packets.iter().filter_map(stamp).collect();
                let last = packets.iter().rev().find(|seen| seen.stamp.is_some())?;
                let arrival = packets.iter().map(|seen| seen.arrival).max()?;
                (stamped.len() == usize::from(stamped[0].count)).then_some(Seen { arrival, ..*last })
            })
            .collect()
    }

    /// The longest time between two pictures.
    #[must_use]
    pub fn longest_pause(&self) -> Duration {
        let pictures = self.pictures();
        let pauses =
            pictures.windows(2).map(|pair| pair[1].arrival.saturating_duration_since(pair[0].arrival));
        pauses.max().unwrap_or_default()
    }
}

/// The `percent` percentile of `samples`, which get sorted; zero if there are none.
#[must_use]
pub fn percentile(samples: &mut [Duration], percent: usize) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get(last * percent / 100).copied().unwrap_or_default()
}
