//! Films are published in virtual time: over WebRTC through a simulated network, or over RTMP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use doctor::{Code, Doctor, Finding};
use ingest::{Encoded, Identity, Payload};
use model::{Codec, Kind, MediaTime, NtpTime};
use str0m::RtcConfig;
use str0m::format::Codec as EngineCodec;
use str0m::rtp::ExtensionValues;

use crate::film::Film;
use crate::harness::{Bottleneck, Media, Offer, World};

/// How a film is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// No retransmission stream, requests for keyframes ignored.
    Obs,
    /// Retransmissions, keyframes when asked.
    Browser,
    /// Nothing is lost, nothing is asked.
    Rtmp,
}

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// Opus at 128 kbit/s.
    Music,
    /// Opus of digital silence.
    Silent,
    /// Packets that say how loud they are, and it is silence.
    Muted,
    /// A track that nothing comes of.
    Missing,
    /// No track.
    None,
    /// Packets that arrive so many milliseconds before the picture of the same moment.
    Early(u64),
}

/// What lies between the encoder and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// 20 ms to and fro.
    Good,
    /// So many packets of a hundred are lost, at random.
    Loses(u64),
    /// So many kbit/s and a queue of so many milliseconds.
    Thin(u64, u64),
    /// What is lost is never repaired: the publisher does not send again.
    LosesForGood(u64),
    /// Packets arrive together every so many milliseconds.
    Uneven(u64),
    /// UDP does not pass.
    Blocked,
    /// Only connectivity checks pass.
    ChecksOnly,
}

/// How the encoder's machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As it should.
    Live,
    /// Media takes so many percent of the time it should.
    Speed(u32),
    /// So many pictures of a hundred are skipped.
    Skips(u32),
    /// The picture stops after five seconds.
    PictureStops,
    /// Everything stops after five seconds.
    AllStops,
}

/// One act: what is published, and how.
pub struct Act<'a> {
    pub film: Option<&'a Film>,
    pub by: By,
    pub sound: Sound,
    pub way: Way,
    pub pace: Pace,
}

/// Opus at 128 kbit/s and at digital silence, 20 ms each.
const MUSIC: [u8; 320] = [0xfc; 320];
const SILENT: [u8; 3] = [0xf8, 0xff, 0xfe];
const SOUND: Duration = Duration::from_millis(20);
const STOPS_AFTER: Duration = Duration::from_secs(5);

/// One thing to send.
struct Cue {
    at: Duration,
    kind: Kind,
    /// Media time.
    time: Duration,
    payloads: Vec<(Bytes, bool)>,
}

impl Act<'_> {
    /// What is told at the end of the act, and everything that was ever told.
    pub fn play(&self) -> (Vec<Finding>, Vec<Code>) {
        match self.by {
            By::Rtmp => self.play_rtmp(),
            By::Obs | By::Browser => self.play_webrtc(),
        }
    }

    fn cues(&self) -> Vec<Cue> {
        let mut cues: Vec<Cue> = Vec::new();
        let length =
            self.film.and_then(|film| film.pictures.last()).map_or(Duration::from_secs(20), |it| it.time);
        let pictures = self.film.map_or(&[][..], |film| &film.pictures);
        for (index, picture) in pictures.iter().enumerate() {
            let is_skipped =
                matches!(self.pace, Pace::Skips(share) if index as u32 * share % 100 < share && index > 0);
            if !is_skipped || picture.payloads[0].1 {
                let time = picture.time;
                let payloads = picture.payloads.clone();
                cues.push(Cue { at: time, kind: Kind::Video, time, payloads });
            }
        }
        let payload = match self.sound {
            Sound::Music | Sound::Muted | Sound::Early(_) => &MUSIC[..],
            Sound::Silent => &SILENT,
            Sound::Missing | Sound::None => &[],
        };
        for number in 0..(length.as_millis() / SOUND.as_millis()) as u32 {
            if !payload.is_empty() {
                let time = SOUND * number;
                let payloads = vec![(Bytes::from_static(payload), false)];
                cues.push(Cue { at: time, kind: Kind::Audio, time, payloads });
            }
        }
        if let Sound::Early(millis) = self.sound {
            let late = Duration::from_millis(millis);
            cues.iter_mut().filter(|cue| cue.kind == Kind::Video).for_each(|cue| cue.at += late);
        }
        if let Pace::Speed(percent) = self.pace {
            cues.iter_mut().for_each(|cue| cue.at = cue.at * 100 / percent);
        }
        match self.pace {
            Pace::PictureStops => cues.retain(|cue| cue.kind == Kind::Audio || cue.at < STOPS_AFTER),
            Pace::AllStops => cues.retain(|cue| cue.at < STOPS_AFTER),
            Pace::Live | Pace::Speed(_) | Pace::Skips(_) => {}
        }
        cues.sort_by_key(|cue| cue.at);
        cues
    }

    fn offer(&self) -> Offer {
        let mut config = RtcConfig::new().set_rtp_mode(true).clear_codecs();
        config.codec_config().enable_opus(true, false);
        let codecs = config.codec_config();
        match self.film.map(|film| film.codec) {
            None | Some(Codec::H264) => codecs.enable_h264(true),
            Some(Codec::H265) => codecs.enable_h265(true),
            Some(Codec::Vp8) => codecs.enable_vp8(true),
            Some(Codec::Vp9) => codecs.enable_vp9(true),
            Some(Codec::Av1) => codecs.enable_av1(true),
            Some(Codec::Opus) => panic!("no picture"),
        }
        let rewrite = match (self.by, self.way) {
            (_, Way::LosesForGood(_)) => without_repair,
            (By::Obs, _) => without_retransmissions,
            (By::Browser | By::Rtmp, _) => |offer| offer,
        };
        Offer {
            config,
            audio: self.sound != Sound::None,
            video: self.film.is_some(),
            rewrite,
            ..Offer::new()
        }
    }

    fn play_webrtc(&self) -> (Vec<Finding>, Vec<Code>) {
        let mut world = World::new(self.offer());
        let mut examination = Examination::new(world.now);
        match self.way {
            Way::Blocked => world.loses = |_| true,
            Way::ChecksOnly => world.loses = |datagram| datagram[0] > 3,
            Way::Good | Way::Loses(_) | Way::Thin(..) | Way::LosesForGood(_) | Way::Uneven(_) => {}
        }
        if matches!(self.way, Way::Blocked | Way::ChecksOnly) {
            for _ in 0..12 {
                world.run(Duration::from_secs(1));
                examination.look(world.now, || world.server.as_ref().expect("it waits").stats());
            }
            return examination.end();
        }
        world.run_until(|world| world.connected > 0 && world.client.is_connected());
        match self.way {
            Way::Loses(percent) | Way::LosesForGood(percent) => world.loss_percent = percent,
            Way::Thin(kbps, queue_millis) => {
                let queue_max = Duration::from_millis(queue_millis);
                world.bottleneck = Some(Bottleneck::new(world.now, kbps * 1000, queue_max));
            }
            Way::Uneven(millis) => world.bunches = Some(Duration::from_millis(millis)),
            Way::Good | Way::Blocked | Way::ChecksOnly => {}
        }
        let begins_at = world.now;
        let mut numbers = [0u64; 2];
        let cues = self.cues();
        let end = cues.last().map_or(Duration::ZERO, |cue| cue.at).max(Duration::from_secs(20));
        let mut cues = cues.into_iter().peekable();
        while world.now - begins_at < end {
            while let Some(cue) = cues.next_if(|cue| begins_at + cue.at <= world.now) {
                self.send(&mut world, &cue, &mut numbers);
            }
            world.run(Duration::from_millis(5));
            examination.look(world.now, || world.server.as_ref().expect("it lives").stats());
            world.sent_by_client.clear();
            world.sent_by_server.clear();
            world.packets.clear();
        }
        assert_eq!(world.closed, None);
        examination.end()
    }

    fn send(&self, world: &mut World, cue: &Cue, numbers: &mut [u64; 2]) {
        let (mid, codec, rate, number) = match (cue.kind, self.film) {
            (Kind::Video, Some(film)) => (world.video, engine_codec(film.codec), 90_000, &mut numbers[0]),
            (Kind::Video, None) | (Kind::Audio, _) => {
                (world.audio, EngineCodec::Opus, 48_000, &mut numbers[1])
            }
        };
        let (mid, payload_type) = (mid.expect("a section"), world.payload_type(codec));
        let last = cue.payloads.len() - 1;
        for (index, (payload, _)) in cue.payloads.iter().enumerate() {
            *number += 1;
            let media = Media {
                mid,
                rid: None,
                payload_type,
                seq: 1000 + *number,
                timestamp: (cue.time.as_micros() * rate / 1_000_000) as u32,
                marker: index == last,
                payload,
            };
            let is_muted = self.sound == Sound::Muted && cue.kind == Kind::Audio;
            let (audio_level, voice_activity) = (is_muted.then_some(-127), is_muted.then_some(false));
            let extensions = ExtensionValues { audio_level, voice_activity, ..ExtensionValues::default() };
            world.captured_ago = match self.sound {
                Sound::Early(_) => cue.at.saturating_sub(cue.time),
                _ => Duration::ZERO,
            };
            world.publish_with(&media, extensions);
        }
    }

    fn play_rtmp(&self) -> (Vec<Finding>, Vec<Code>) {
        let start = Instant::now();
        let mut publisher = Encoded::new(Identity(std::array::from_fn(|index| index as u8)));
        let mut examination = Examination::new(start);
        let film = self.film.map(|film| film.codec);
        let codecs: Vec<Codec> =
            (self.sound != Sound::None).then_some(Codec::Opus).into_iter().chain(film).collect();
        let keyframe = self.film.map(|film| film.pictures[0].payloads[0].0.clone());
        let _ = publisher.tracks(&codecs, keyframe.as_deref());
        // TCP delivers everything, each byte when the line has taken those before it.
        let mut free_at = start;
        for cue in self.cues() {
            let bytes: usize = cue.payloads.iter().map(|(payload, _)| payload.len()).sum();
            let sent_at = free_at.max(start + cue.at);
            free_at = match self.way {
                Way::Thin(kbps, _) => sent_at + Duration::from_micros(bytes as u64 * 8000 / kbps),
                _ => sent_at,
            };
            while examination.due_at() <= free_at {
                let at = examination.due_at();
                examination.look(at, || publisher.stats(at));
            }
            let rate = if cue.kind == Kind::Video { 90_000 } else { 48_000 };
            let time = MediaTime::from_micros(cue.time.as_micros() as i64);
            let wallclock = NtpTime::from_unix(Duration::from_secs(1_800_000_000) + (free_at - start));
            let last = cue.payloads.len() - 1;
            for (index, (payload, starts_keyframe)) in cue.payloads.iter().enumerate() {
                let payload = Payload {
                    kind: cue.kind,
                    timestamp: time.ticks(rate) as u32,
                    time,
                    marker: index == last,
                    starts_keyframe: *starts_keyframe,
                    bytes: payload.clone(),
                };
                publisher.packet(free_at, wallclock, payload);
            }
        }
        examination.end()
    }
}

/// The doctor looks once a second.
struct Examination {
    doctor: Doctor,
    due_at: Instant,
    ever: Vec<Code>,
}

impl Examination {
    fn new(now: Instant) -> Self {
        Self { doctor: Doctor::default(), due_at: now, ever: Vec::new() }
    }

    const fn due_at(&self) -> Instant {
        self.due_at
    }

    fn look(&mut self, now: Instant, stats: impl FnOnce() -> ingest::Stats) {
        if now < self.due_at {
            return;
        }
        self.due_at += Duration::from_secs(1);
        self.doctor.observe(now, &stats());
        for finding in self.doctor.findings() {
            if !self.ever.contains(&finding.code) {
                self.ever.push(finding.code);
            }
        }
    }

    fn end(self) -> (Vec<Finding>, Vec<Code>) {
        (self.doctor.findings(), self.ever)
    }
}

const fn engine_codec(codec: Codec) -> EngineCodec {
    match codec {
        Codec::Opus => EngineCodec::Opus,
        Codec::H264 => EngineCodec::H264,
        Codec::H265 => EngineCodec::H265,
        Codec::Vp8 => EngineCodec::Vp8,
        Codec::Vp9 => EngineCodec::Vp9,
        Codec::Av1 => EngineCodec::Av1,
    }
}

/// As OBS offers: it sends again in the stream itself.
fn without_retransmissions(offer: String) -> String {
    let rtx: Vec<&str> = offer.lines().filter(|line| line.contains(" rtx/")).collect();
    let number = |line: &&'_ str| {
        line.strip_prefix("a=rtpmap:").and_then(|rest| rest.split(' ').next()).map(str::to_owned)
    };
    let numbers: Vec<String> = rtx.iter().filter_map(number).collect();
    let is_one = |word: &str| numbers.iter().any(|number| number == word);
    let is_rtx = |line: &str| {
        let attribute = line.split_once(':').map_or("", |(_, value)| value);
        let number = attribute.split(' ').next().unwrap_or_default();
        line.starts_with("a=rtpmap") && is_one(number)
            || line.starts_with("a=fmtp") && is_one(number)
            || line.starts_with("a=ssrc-group:FID")
    };
    let lines = offer.lines().filter(|line| !is_rtx(line)).map(|line| {
        if !line.starts_with("m=") {
            return line.to_owned();
        }
        line.split(' ').filter(|word| !is_one(word)).collect::<Vec<_>>().join(" ")
    });
    lines.map(|line| line + "\r\n").collect()
}

/// It does not even take requests to send again.
fn without_repair(offer: String) -> String {
    let offer = without_retransmissions(offer);
    let lines =
        offer.lines().filter(|line| !(line.starts_with("a=rtcp-fb") && line.trim_end().ends_with(" nack")));
    lines.map(|line| format!("{line}\r\n")).collect()
}
