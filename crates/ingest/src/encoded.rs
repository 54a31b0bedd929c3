//! A publisher whose media does not come as RTP: its payloads become tree packets here.
//!
//! One RTP stream for each kind, in the order of their coming and without gaps, since whatever brings them loses nothing.
//! Both kinds share one clock, the publisher's, so they come out aligned with each other.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::TreePacket;
use media_core::codec::{Profile, h264};
use media_core::rate::RateMeter;
use media_core::time::ClockOffset;
use model::{Codec, Kind, Layer, MediaTime, NtpTime, SeqNo, Ssrc, Track};

use crate::facts::Observer;
use crate::publisher::{Identity, LayerStats, Stats};

/// Bitrate is measured over this time.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// Keyframes with such a silence between them say nothing of how far apart the encoder makes them.
const SILENCE: Duration = Duration::from_secs(3);
/// Where the publisher's clock stands in ours is learned; this is where it stands for itself. It only has to be far from
/// zero, which would say that there is no clock.
const CLOCK_ORIGIN: Duration = Duration::from_secs(1 << 30);

/// One RTP payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Sound or picture.
    pub kind: Kind,
    /// Its RTP timestamp, in ticks of the codec's clock.
    pub timestamp: u32,
    /// The moment that it is of, by the publisher's clock.
    pub time: MediaTime,
    /// RTP marker.
    pub marker: bool,
    /// It begins a picture that decodes without any other.
    pub starts_keyframe: bool,
    /// The payload itself.
    pub bytes: Bytes,
}

/// One publisher.
#[derive(Debug)]
pub struct Encoded {
    offset: ClockOffset,
    audio: Stream,
    video: Stream,
}

#[derive(Debug)]
struct Stream {
    kind: Kind,
    ssrc: Ssrc,
    next: SeqNo,
    first_timestamp: u32,
    codec: Option<Codec>,
    picture: Option<h264::SequenceParameters>,
    /// Of the codecs that `picture` is not about.
    profile: Option<Profile>,
    packets: u64,
    bytes: u64,
    rate: RateMeter,
    keyframe_at: Option<Instant>,
    came_at: Option<Instant>,
    /// Since the latest keyframe.
    was_silent: bool,
    last_keyframe: Option<MediaTime>,
    keyframe_interval: Option<Duration>,
    observer: Observer,
}

impl Stream {
    fn new(kind: Kind, identity: &Identity) -> Self {
        let Beginning { ssrc, seq_no, timestamp } = Beginning::of(kind, identity);
        Self {
            kind,
            ssrc,
            next: seq_no,
            first_timestamp: timestamp,
            codec: None,
            picture: None,
            profile: None,
            packets: 0,
            bytes: 0,
            rate: RateMeter::new(RATE_WINDOW),
            keyframe_at: None,
            came_at: None,
            was_silent: false,
            last_keyframe: None,
            keyframe_interval: None,
            observer: Observer::new(clock_rate(kind)),
        }
    }

    fn track(&self, codec: Codec) -> Track {
        let id = self.picture.as_ref().map(profile_level_id);
        let fmtp = format_parameters(codec, id, self.profile);
        Track {
            codec,
            fmtp: fmtp.into(),
            layers: vec![Layer { ssrc: self.ssrc, rid: None }],
            was_heard: true,
        }
    }

    fn count(&mut self, now: Instant, payload: &Payload) {
        self.packets += 1;
        self.bytes += payload.bytes.len() as u64;
        self.rate.add(now, payload.bytes.len());
        self.observer.newest(now, payload.timestamp);
        if let Some(codec) = self.codec {
            self.observer.payload(codec, &payload.bytes, payload.starts_keyframe);
            if codec == Codec::H264
                && let Some(sequence) = h264::sequence_parameters(&payload.bytes)
            {
                self.observer.sequence(&sequence);
            }
        }
        if payload.kind == Kind::Audio {
            return;
        }
        let before = self.came_at.replace(now);
        self.was_silent |= before.is_some_and(|before| now.saturating_duration_since(before) >= SILENCE);
        if payload.starts_keyframe {
            let last = self.last_keyframe.filter(|_| !std::mem::take(&mut self.was_silent));
            let between = last.map(|last| payload.time.as_micros() - last.as_micros());
            self.keyframe_interval =
                between.and_then(|micros| u64::try_from(micros).ok()).map(Duration::from_micros);
            self.last_keyframe = Some(payload.time);
            self.keyframe_at = Some(now);
        }
        self.keyframe_at.get_or_insert(now);
    }

    fn stats(&mut self, now: Instant) -> LayerStats {
        LayerStats {
            ssrc: self.ssrc,
            kind: self.kind,
            layer: 0,
            packets: self.packets,
            bytes: self.bytes,
            lost: 0,
            given_up: 0,
            recovered: 0,
            nacks: 0,
            keyframe_requests: 0,
            jitter: Duration::ZERO,
            bitrate: self.rate.rate(now),
            keyframe_interval: self.keyframe_interval,
            keyframe_at: self.keyframe_at.filter(|_| self.kind == Kind::Video),
            codec: self.codec.filter(|_| self.packets > 0),
            profile_level_id: self.picture.as_ref().map(profile_level_id),
            profile: self.profile.filter(|profile| self.codec == Some(profile.codec())),
            size: self.picture.map(|picture| (picture.width, picture.height)),
            facts: self.observer.facts(),
        }
    }
}

/// What a track without an offer of WebRTC is described by.
pub(crate) fn format_parameters(
    codec: Codec,
    profile_level_id: Option<[u8; 3]>,
    profile: Option<Profile>,
) -> String {
    match (codec, profile_level_id) {
        (Codec::H264, Some([profile, constraints, level])) => {
            format!("packetization-mode=1;profile-level-id={profile:02x}{constraints:02x}{level:02x}")
        }
        (Codec::H264, None) => "packetization-mode=1".to_owned(),
        (Codec::Opus, _) => "stereo=1;sprop-stereo=1".to_owned(),
        (Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1, _) => {
            let profile = profile.filter(|profile| profile.codec() == codec);
            let pair = |(name, value)| format!("{name}={value}");
            let pairs = profile.map(Profile::parameters).into_iter().flatten().map(pair);
            pairs.collect::<Vec<_>>().join(";")
        }
    }
}

/// What the stream of one kind begins with.
pub(crate) struct Beginning {
    pub(crate) ssrc: Ssrc,
    pub(crate) seq_no: SeqNo,
    pub(crate) timestamp: u32,
}

impl Beginning {
    /// From a publisher's random bytes.
    pub(crate) fn of(kind: Kind, identity: &Identity) -> Self {
        let random = match kind {
            Kind::Audio => &identity.0[..32],
            Kind::Video => &identity.0[32..],
        };
        let number =
            |at: usize| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]);
        Self {
            ssrc: Ssrc::new(number(0).max(1)),
            // As RTP asks for: anywhere in the lower half of the space of 16 bits.
            seq_no: SeqNo::new(u64::from(number(4) & 0x7fff) + (1 << 16)),
            timestamp: number(8),
        }
    }
}

/// Of every codec of this kind.
const fn clock_rate(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => Codec::Opus.clock_rate(),
        Kind::Video => Codec::H264.clock_rate(),
    }
}

const fn profile_level_id(picture: &h264::SequenceParameters) -> [u8; 3] {
    [picture.profile_idc, picture.constraint_flags, picture.level_idc]
}

impl Encoded {
    /// A publisher whose streams get their names and the beginnings of their numbers from these random bytes.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self {
            offset: ClockOffset::default(),
            audio: Stream::new(Kind::Audio, &identity),
            video: Stream::new(Kind::Video, &identity),
        }
    }

    /// What is published in these codecs, with what `payload`, the first of a keyframe, says of the picture.
    #[must_use]
    pub fn tracks(&mut self, codecs: &[Codec], payload: Option<&[u8]>) -> Vec<Track> {
        let mut tracks = Vec::new();
        for codec in codecs {
            let stream = self.stream(codec.kind());
            stream.codec = Some(*codec);
            if *codec == Codec::H264
                && let Some(picture) = payload.and_then(h264::sequence_parameters)
            {
                stream.picture = Some(picture);
            }
            if let Some(profile) = payload.and_then(|payload| Profile::read(*codec, payload)) {
                stream.profile = Some(profile);
            }
            tracks.push(stream.track(*codec));
        }
        tracks
    }

    /// Makes a tree packet of a payload that came now, when our wallclock showed `wallclock`.
    pub fn packet(&mut self, now: Instant, wallclock: NtpTime, payload: Payload) -> TreePacket {
        let sender = NtpTime::from_unix(after_origin(payload.time));
        self.offset.observe(now, wallclock, sender);
        let capture_time = self.offset.to_wallclock(sender).unwrap_or(wallclock);
        let stream = self.stream(payload.kind);
        stream.count(now, &payload);
        let seq_no = stream.next;
        stream.next = seq_no.plus(1);
        TreePacket {
            ssrc: stream.ssrc,
            seq_no,
            timestamp: stream.first_timestamp.wrapping_add(payload.timestamp),
            marker: payload.marker,
            starts_keyframe: payload.starts_keyframe,
            capture_time,
            audio_level: None,
            orientation: 0,
            svc: None,
            payload: payload.bytes,
        }
    }

    /// What it has sent.
    #[must_use]
    pub fn stats(&mut self, now: Instant) -> Stats {
        let layers = [&mut self.audio, &mut self.video].into_iter().map(|stream| stream.stats(now)).collect();
        Stats { layers, ..Stats::default() }
    }

    fn stream(&mut self, kind: Kind) -> &mut Stream {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

/// Times before the beginning, which no encoder has for long, count as the beginning.
fn after_origin(time: MediaTime) -> Duration {
    CLOCK_ORIGIN + Duration::from_micros(u64::try_from(time.as_micros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(kind: Kind, millis: i64, starts_keyframe: bool) -> Payload {
        let time = MediaTime::from_millis(millis);
        let rate = if kind == Kind::Audio { 48_000 } else { 90_000 };
        Payload {
            kind,
            timestamp: time.ticks(rate) as u32,
            time,
            marker: true,
            starts_keyframe,
            bytes: Bytes::from_static(&[0; 100]),
        }
    }

    fn identity() -> Identity {
        let mut random = [0; 64];
        random.iter_mut().enumerate().for_each(|(index, byte)| *byte = index as u8);
        Identity(random)
    }

    #[test]
    fn packets_are_numbered_without_gaps_and_sound_and_picture_share_one_clock() {
        let (start, mut publisher) = (Instant::now(), Encoded::new(identity()));
        let wallclock = NtpTime::from_unix(Duration::from_secs(1_800_000_000));
        let mut take = |kind, media: i64, late: u64| {
            let arrival = Duration::from_millis(media as u64 + late);
            publisher.packet(start + arrival, wallclock.plus(arrival), payload(kind, media, false))
        };
        // Sound comes 40 ms late, picture at once: what was captured together says so.
        let (picture, sound) = (take(Kind::Video, 0, 0), take(Kind::Audio, 0, 40));
        assert_eq!(picture.capture_time, sound.capture_time);
        assert_ne!(picture.ssrc, sound.ssrc);
        let (next, later) = (take(Kind::Video, 33, 0), take(Kind::Audio, 33, 40));
        assert_eq!(next.seq_no, picture.seq_no.plus(1));
        assert_eq!(next.timestamp.wrapping_sub(picture.timestamp), 33 * 90);
        assert_eq!(next.capture_time, later.capture_time);
        let between = next.capture_time.saturating_since(picture.capture_time);
        assert!(between.abs_diff(Duration::from_millis(33)) < Duration::from_micros(2), "{between:?}");
    }

    #[test]
    fn what_was_sent_is_counted_and_keyframes_tell_their_interval() {
        let (now, mut publisher) = (Instant::now(), Encoded::new(identity()));
        let tracks = publisher.tracks(&[Codec::Opus, Codec::H264], None);
        assert_eq!(tracks.iter().map(|track| track.codec).collect::<Vec<_>>(), [Codec::Opus, Codec::H264]);
        let wallclock = NtpTime::from_unix(Duration::from_secs(1_800_000_000));
        for (millis, starts) in [(0, true), (1000, false), (2000, true)] {
            publisher.packet(now, wallclock, payload(Kind::Video, millis, starts));
        }
        let stats = publisher.stats(now);
        let [audio, video] = &stats.layers[..] else { panic!("two streams") };
        assert_eq!((audio.packets, audio.codec), (0, None));
        assert_eq!((video.packets, video.bytes, video.codec), (3, 300, Some(Codec::H264)));
        assert_eq!(video.keyframe_interval, Some(Duration::from_secs(2)));
        // After a cut of its network nothing is known, until there is another one.
        let mut interval = |seconds: u64| {
            let at = now + Duration::from_secs(seconds);
            publisher.packet(at, wallclock, payload(Kind::Video, seconds as i64 * 1000, true));
            publisher.stats(at).layers[1].keyframe_interval
        };
        assert_eq!(interval(22), None);
        assert_eq!(interval(24), Some(Duration::from_secs(2)));
    }
}
