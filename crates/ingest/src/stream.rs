//! One RTP stream of a publisher, over WebRTC or plain: its place in the tree, its clock, what its media says.

use std::time::{Duration, Instant};

use bytes::Bytes;
use media_core::TreePacket;
use media_core::codec::{KeyframeDetector, Profile, h264};
use media_core::gap::{self, Arrival, GapTracker};
use media_core::rate::{Jitter, RateMeter};
use media_core::svc::{Stamper, Svc, dependency, vp9};
use media_core::time::{ClockOffset, SenderClock};
use model::{Bitrate, Codec, Kind, NtpTime, SeqNo, Ssrc};

use crate::facts::Observer;
use crate::publisher::LayerStats;

/// Window of the bitrate shown.
const RATE_WINDOW: Duration = Duration::from_secs(2);
/// How much of the difference a frame's delay leaves of the smoothed one, as with jitter (RFC 3550, section 6.4.1).
const DELAY_SMOOTHING: f64 = 16.0;
const NTP_UNITS_PER_SECOND: f64 = (1u64 << 32) as f64;

/// Where a publisher's sequence numbers lie in the tree's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The publisher's SSRC.
    pub(crate) remote: u32,
    /// Tree sequence number minus the publisher's extended one.
    pub(crate) base: i64,
    /// Lowest tree sequence number that this SSRC may fill; below it lies what the one before has used.
    pub(crate) floor: u64,
}

/// Last sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) sender: NtpTime,
    pub(crate) timestamp: u32,
}

/// What an H.264 stream says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) profile_level_id: [u8; 3],
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// One packet of media, in the clear, out of its retransmission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Media<'a> {
    /// The publisher's SSRC of media.
    pub(crate) ssrc: u32,
    pub(crate) extended: SeqNo,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) payload: &'a [u8],
    pub(crate) codec: Codec,
    pub(crate) told: Told,
    /// The dependency descriptor, if it has one.
    pub(crate) dependency: Option<&'a [u8]>,
}

/// What header extensions of a packet tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Told {
    /// By the publisher's clock (`abs-capture-time`).
    pub(crate) captured: Option<NtpTime>,
    /// RFC 6464.
    pub(crate) audio_level: Option<u8>,
    /// The byte of `urn:3gpp:video-orientation`.
    pub(crate) orientation: Option<u8>,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: Ssrc,
    /// Index of its section.
    pub(crate) section: usize,
    /// Index of its layer in the offer.
    pub(crate) layer: usize,
    /// Tree sequence number of a first packet whose own is zero.
    pub(crate) first_base: u64,
    pub(crate) mapping: Option<Mapping>,
    /// The publisher's SSRC of retransmissions.
    pub(crate) repair: Option<u32>,
    /// Newest tree sequence number.
    pub(crate) highest: Option<SeqNo>,
    /// Bit *n*: the packet *n* below the newest has come, from the present SSRC.
    pub(crate) received: u128,
    pub(crate) gaps: GapTracker,
    pub(crate) payload_type: Option<u8>,
    pub(crate) clock: SenderClock,
    pub(crate) report: Option<Report>,
    pub(crate) newest_timestamp: u32,
    pub(crate) picture: Option<Picture>,
    /// What a stream of another codec says about itself.
    pub(crate) profile: Option<Profile>,
    detector: Option<(Codec, KeyframeDetector)>,
    rate: RateMeter,
    jitter: Jitter,
    /// Numbers skipped and not filled since.
    missing: u64,
    packets: u64,
    bytes: u64,
    recovered: u64,
    keyframe_requests: u64,
    /// NACK messages sent.
    pub(crate) nacks: u64,
    last_keyframe: Option<NtpTime>,
    /// When that came, or the first packet.
    keyframe_at: Option<Instant>,
    keyframe_interval: Option<Duration>,
    observer: Observer,
    layers: vp9::Reader,
    dependencies: dependency::Reader,
    pub(crate) stamper: Stamper,
    /// From capture to arrival of the first packet of each frame, smoothed; seconds.
    delay: Option<f64>,
    has_news: bool,
}

impl Stream {
    pub(crate) fn new(ssrc: Ssrc, section: usize, layer: usize, first_base: u64, clock_rate: u32) -> Self {
        Self {
            ssrc,
            section,
            layer,
            first_base,
            mapping: None,
            repair: None,
            highest: None,
            received: 0,
            gaps: GapTracker::new(gap::Config::default()),
            payload_type: None,
            clock: SenderClock::new(clock_rate),
            report: None,
            newest_timestamp: 0,
            picture: None,
            profile: None,
            detector: None,
            rate: RateMeter::new(RATE_WINDOW),
            jitter: Jitter::new(clock_rate),
            missing: 0,
            packets: 0,
            bytes: 0,
            recovered: 0,
            keyframe_requests: 0,
            nacks: 0,
            last_keyframe: None,
            keyframe_at: None,
            keyframe_interval: None,
            observer: Observer::new(clock_rate),
            layers: vp9::Reader::default(),
            dependencies: dependency::Reader::default(),
            stamper: Stamper::new(0),
            delay: None,
            has_news: false,
        }
    }

    /// Whether the description of the track may have changed since the last call.
    pub(crate) const fn take_news(&mut self) -> bool {
        std::mem::replace(&mut self.has_news, false)
    }

    /// Packets so far.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }

    /// The packet's place in the tree. `None` if it would overwrite what an earlier SSRC of the stream has used.
    ///
    /// One-to-one, gaps and all: padding without media keeps its place too, see [`Stream::receive`].
    fn place(&mut self, remote: u32, extended: u64) -> Option<SeqNo> {
        let mapping = match self.mapping {
            Some(mapping) if mapping.remote == remote => mapping,
            _ => {
                // A new SSRC of the same source (RFC 3550, section 8.2) goes on where the old one ended.
                let (start, floor) = match self.highest {
                    Some(highest) => (highest.get() + 1, highest.get() + 1),
                    None => (self.first_base + extended, 0),
                };
                let mapping = Mapping { remote, base: start as i64 - extended as i64, floor };
                self.received = 0;
                *self.mapping.insert(mapping)
            }
        };
        let place = u64::try_from(mapping.base + extended as i64).ok()?;
        (place >= mapping.floor && place <= SeqNo::MAX.get()).then(|| SeqNo::new(place))
    }

    /// Turns a packet of the publisher into one of the tree.
    ///
    /// Padding without media (a bandwidth probe where RTX was not agreed on) becomes a packet with an empty payload. It
    /// cannot be left out: its number would look lost to every child and viewer. Nor can the numbers be closed up: a
    /// lost packet may turn out to be padding after its successors have been given out, and two nodes must agree on
    /// every number. Receivers skip empty payloads, as keep-alives have them (RFC 6263, section 4.1).
    pub(crate) fn receive(
        &mut self,
        (now, wallclock): (Instant, NtpTime),
        media: &Media<'_>,
        offset: &ClockOffset,
    ) -> Option<TreePacket> {
        let Media { timestamp, payload, codec, told, .. } = *media;
        let seq_no = self.place(media.ssrc, media.extended.get())?;
        if !self.is_new(now, seq_no) {
            return None;
        }
        self.has_news |= self.payload_type.replace(media.payload_type) != Some(media.payload_type);
        if let Some(captured) = told.captured {
            // The same kind of statement as a report's: this clock showed that time at this timestamp.
            self.clock.sender_report(captured, timestamp);
        }
        let capture_time = self.clock.received(wallclock, timestamp, offset);
        let begins_frame = self.begins_frame(seq_no, timestamp);
        if begins_frame && self.clock.is_reported() {
            self.observe_delay(wallclock, capture_time);
        }
        let svc = self.svc(seq_no, media, begins_frame);
        self.count(now, seq_no, timestamp, payload.len());
        let starts_keyframe = self.inspect(seq_no, timestamp, codec, payload, capture_time);
        if starts_keyframe || self.keyframe_at.is_none() {
            self.keyframe_at = Some(now);
        }
        if let Some(level) = told.audio_level {
            self.observer.level(level);
        }
        Some(TreePacket {
            ssrc: self.ssrc,
            seq_no,
            timestamp,
            marker: media.marker,
            starts_keyframe,
            capture_time,
            audio_level: told.audio_level,
            orientation: told.orientation.unwrap_or(0),
            svc,
            payload: Bytes::copy_from_slice(payload),
        })
    }

    /// Whether this packet has not been here before. Follows gaps.
    fn is_new(&mut self, now: Instant, seq_no: SeqNo) -> bool {
        match self.gaps.received(now, seq_no) {
            Arrival::New | Arrival::Recovered { .. } => true,
            Arrival::Duplicate => false,
            // Given up, or from before the first one.
            Arrival::TooOld => self.highest.is_some_and(|highest| {
                let below = highest.get().saturating_sub(seq_no.get());
                below < u64::from(u128::BITS) && self.received & (1 << below) == 0
            }),
        }
    }

    /// What there is to say of layers within the stream.
    fn svc(&mut self, seq_no: SeqNo, media: &Media<'_>, is_new_picture: bool) -> Option<Svc> {
        let frame = match media.codec {
            Codec::Vp9 => self.layers.read(media.payload),
            Codec::Av1 => media.dependency.and_then(|descriptor| self.dependencies.read(descriptor)),
            Codec::Opus | Codec::H264 | Codec::H265 | Codec::Vp8 => return None,
        };
        self.stamper.stamp(seq_no, frame.as_ref(), is_new_picture)
    }

    /// Whether this is the first packet of a frame that is newer than all before.
    fn begins_frame(&self, seq_no: SeqNo, timestamp: u32) -> bool {
        self.highest.is_none_or(|highest| seq_no > highest && timestamp != self.newest_timestamp)
    }

    /// One more frame has arrived; its capture may seem to lie in the future, where clocks are not known well.
    fn observe_delay(&mut self, arrived: NtpTime, captured: NtpTime) {
        let delay = arrived.to_bits().wrapping_sub(captured.to_bits()) as i64 as f64 / NTP_UNITS_PER_SECOND;
        self.delay = Some(self.delay.map_or(delay, |before| before + (delay - before) / DELAY_SMOOTHING));
    }

    /// From capture to arrival, in seconds; `None` as long as the sender's clock is not known.
    pub(crate) const fn delay(&self) -> Option<f64> {
        self.delay
    }

    /// A sender report of this stream's SSRC came.
    pub(crate) fn sender_report(&mut self, sender: NtpTime, timestamp: u32) {
        self.report = Some(Report { sender, timestamp });
        self.clock.sender_report(sender, timestamp);
    }

    /// What the offer says of its feedback.
    pub(crate) const fn negotiated(&mut self, takes_keyframe_requests: bool, has_retransmissions: bool) {
        self.observer.negotiated(takes_keyframe_requests, has_retransmissions);
    }

    pub(crate) const fn keyframe_requested(&mut self) {
        self.keyframe_requests += 1;
    }

    fn count(&mut self, now: Instant, seq_no: SeqNo, timestamp: u32, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.rate.add(now, bytes);
        let step = self.highest.map_or(0, |highest| seq_no.get() as i64 - highest.get() as i64);
        if step < 0 {
            self.recovered += 1;
            self.missing = self.missing.saturating_sub(1);
            self.received |= 1u128.checked_shl(step.unsigned_abs() as u32).unwrap_or(0);
        } else {
            self.missing += (step as u64).saturating_sub(1);
            self.received = self.received.checked_shl(step as u32).unwrap_or(0) | 1;
            self.highest = Some(seq_no);
            self.newest_timestamp = timestamp;
            self.jitter.received(now, timestamp);
            self.observer.newest(now, timestamp);
        }
    }

    fn inspect(
        &mut self,
        seq_no: SeqNo,
        timestamp: u32,
        codec: Codec,
        payload: &[u8],
        capture_time: NtpTime,
    ) -> bool {
        let detector = match &mut self.detector {
            Some((known, detector)) if *known == codec => detector,
            slot => &mut slot.insert((codec, KeyframeDetector::new(codec))).1,
        };
        let starts_keyframe = detector.inspect(seq_no, timestamp, payload);
        if codec == Codec::H264
            && let Some(sps) = h264::sequence_parameters(payload)
        {
            self.observer.sequence(&sps);
            let picture = Picture {
                profile_level_id: [sps.profile_idc, sps.constraint_flags, sps.level_idc],
                width: sps.width,
                height: sps.height,
            };
            self.has_news |= self.picture.replace(picture) != Some(picture);
        }
        if let Some(profile) = Profile::read(codec, payload) {
            self.has_news |= self.profile.replace(profile) != Some(profile);
        }
        self.observer.payload(codec, payload, starts_keyframe);
        if starts_keyframe {
            if let Some(last) = self.last_keyframe.filter(|last| *last < capture_time) {
                self.keyframe_interval = Some(capture_time.saturating_since(last));
            }
            self.last_keyframe = Some(capture_time);
        }
        starts_keyframe
    }

    /// Payload bitrate of the last two seconds.
    pub(crate) fn bitrate(&self, now: Instant) -> Bitrate {
        self.rate.clone().rate(now)
    }

    pub(crate) fn stats(&self, now: Instant, kind: Kind) -> LayerStats {
        let codec = self.detector.as_ref().map(|(codec, _)| *codec);
        LayerStats {
            ssrc: self.ssrc,
            kind,
            layer: self.layer as u8,
            packets: self.packets,
            bytes: self.bytes,
            lost: self.missing,
            given_up: self.gaps.stats().lost,
            recovered: self.recovered,
            nacks: self.nacks,
            keyframe_requests: self.keyframe_requests,
            jitter: self.jitter.duration(),
            bitrate: self.bitrate(now),
            keyframe_interval: self.keyframe_interval,
            keyframe_at: self.keyframe_at.filter(|_| kind == Kind::Video),
            codec,
            profile_level_id: self.picture.map(|picture| picture.profile_level_id),
            // A stream that has changed its codec may still be known by the one before.
            profile: self.profile.filter(|profile| codec == Some(profile.codec())),
            size: self.picture.map(|picture| (picture.width, picture.height)),
            facts: self.observer.facts(),
        }
    }
}

/// The engine gives NTP times as system times; ones before 1970 come as 1970 and are no wallclock at all.
pub(crate) fn ntp(time: std::time::SystemTime) -> NtpTime {
    match time.duration_since(std::time::UNIX_EPOCH) {
        Ok(since) if !since.is_zero() => NtpTime::from_unix(since),
        Ok(_) | Err(_) => NtpTime::from_bits(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream() -> Stream {
        Stream::new(Ssrc::new(9), 0, 0, 70_000, 90_000)
    }

    #[test]
    fn a_new_remote_ssrc_goes_on_where_the_old_one_ended() {
        let mut stream = stream();
        assert_eq!(stream.place(1, 65_534), Some(SeqNo::new(135_534)));
        stream.highest = stream.place(1, 65_536);
        assert_eq!(stream.place(2, 10), Some(SeqNo::new(135_537)));
        stream.highest = Some(SeqNo::new(135_537));
        assert_eq!(stream.place(2, 12), Some(SeqNo::new(135_539)));
        assert_eq!(stream.place(2, 9), None, "belongs to the first SSRC's numbers");
    }

    proptest! {
        #[test]
        fn gaps_are_kept(first in 0u64..1 << 40, step in 0u64..1 << 20) {
            let mut stream = stream();
            let start = stream.place(1, first).unwrap();
            prop_assert_eq!(stream.place(1, first + step).unwrap().get() - start.get(), step);
        }
    }
}
